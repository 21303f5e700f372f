from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgevit.board.facts import collect_facts
from edgevit.device import Device
from edgevit.errors import DeviceError
from edgevit.machine.facts import Facts, parse_facts
from edgevit.machine.newdevice import profile_from, profile_yaml, suggest_name
from edgevit.yamlfile import read_yaml

CAPTURES = Path(__file__).parent / "captures"


def facts(capture: str = "raspberry-pi-5", **changes: Any) -> Facts:
    document = {
        "schema_version": 1, "kind": "facts", "uname": "aarch64", "cores": 4, "max_mhz": [2400] * 4,
        "machine": {
            "cpu": "Cortex-A76", "arch": "aarch64", "cores": 4, "os": "Debian GNU/Linux 12 (bookworm)",
            "python": "3.11.2",
        },
        "board": "Raspberry Pi 5 Model B Rev 1.0", "kernel": "6.6.31",
        "cpuinfo": (CAPTURES / f"{capture}.txt").read_text(encoding="utf-8"),
        "caches": {"l1d_kib": 64, "l2_kib": 512, "l3_kib": 2048}, "glibc": "2.36", "pythons": ["3.6", "3.11"],
        "memory": {"total": 8063}, "sensor_kind": "raspberry-pi", "sensors": {"at": "before"},
        "bench": {"gemm_gflops": 30.0, "copy_gb_s": 9.66},
    }  # fmt: skip
    return Facts.model_validate({**document, **changes})


def written(device: Device, tmp_path: Path) -> Device:
    path = tmp_path / "board.yaml"
    path.write_text(profile_yaml(device, str(path)), encoding="utf-8")
    return read_yaml(path, Device)


def test_a_board_becomes_a_profile_that_reads_back_as_it_was_written(tmp_path: Path) -> None:
    device = profile_from(facts(), "my-pi")
    assert written(device, tmp_path) == device
    assert (device.name, device.title, device.arch) == ("my-pi", "Raspberry Pi 5 Model B Rev 1.0", "aarch64")
    assert (device.cpu.clusters[0].model, device.cpu.clusters[0].clock_mhz) == ("Cortex-A76", 2400)
    assert (device.threads, device.sensors) == (4, "raspberry-pi")
    assert device.memory.bandwidth_gb_s == 9.7
    assert device.os.python == ("3.11",)
    assert device.runtimes == ("onnxruntime", "openvino", "litert", "executorch", "torchscript")
    assert device.emulator is not None
    assert device.emulator.cpu == "cortex-a76"
    assert device.quantization.precision == "auto"
    assert "asimddp" in device.cpu.isa


def test_the_file_says_what_it_is_and_what_is_left_to_do() -> None:
    text = profile_yaml(profile_from(facts(), "my-pi"), "boards/my-pi.yaml")
    lines = text.splitlines()
    assert lines[0].startswith("# Raspberry Pi 5 Model B Rev 1.0: written by 'edgevit devices add'")
    assert lines[1] == "# Use:      edgevit export MODEL --device boards/my-pi.yaml -o BUNDLE"
    assert lines[2] == "# Measured: one core's memory copy; the rest was read or derived"
    assert lines[3].startswith("# To do:    read it through")
    unmeasured = profile_yaml(profile_from(facts(bench=None), "my-pi"), "x.yaml")
    assert "# Measured: nothing yet" in unmeasured


def test_every_figure_has_a_source() -> None:
    device = profile_from(facts(), "my-pi")
    covered = {cover.split(".")[0] for source in device.sources for cover in source.covers}
    assert {"cpu", "caches", "memory", "os", "threads", "quantization"} <= covered
    notes = " ".join(source.note for source in device.sources)
    assert "One core measured 30.0 fp32 GFLOPS" in notes
    assert "one core copies 9.7 GB/s" in notes


def test_a_core_that_is_faster_than_its_derived_peak_raises_it() -> None:
    # 60 GFLOPS at 2.4 GHz are 25 a cycle, and the A76's derived peak is 16
    fast = profile_from(facts(bench={"gemm_gflops": 60.0}), "x").cpu.clusters[0]
    assert (fast.fp32_flops_per_cycle, fast.fp16_flops_per_cycle, fast.int8_ops_per_cycle) == (32, 64, 128)
    usual = profile_from(facts(), "x").cpu.clusters[0]
    assert (usual.fp32_flops_per_cycle, usual.int8_ops_per_cycle) == (16, 64)
    # without a known clock nothing follows from a measurement
    unknown = profile_from(facts(bench={"gemm_gflops": 60.0}, max_mhz=[]), "x")
    assert unknown.cpu.clusters[0].fp32_flops_per_cycle == 16
    assert "The clock could not be read and is assumed." in unknown.sources[0].note


def test_a_board_whose_python_has_few_wheels_lists_what_it_can_run() -> None:
    jetson = {"l4t": "35.4.1", "tensorrt": "8.5.2"}
    old = facts("jetson-xavier-nx", glibc="2.31", pythons=["3.8"], jetson=jetson, sensor_kind="jetson", cores=6)
    device = profile_from(old, "nx")
    assert (device.runtimes, device.sensors) == (("tensorrt", "onnxruntime", "openvino"), "jetson")
    assert (device.emulator or device).model_dump()["cpu"] == "cortex-a72"
    none = facts(pythons=["3.6"], machine={**facts().machine.model_dump(), "python": "3.6.9"})
    assert (profile_from(none, "x").runtimes, profile_from(none, "x").os.python) == (("onnxruntime",), ("3.6",))


def test_a_core_that_no_emulator_has_is_left_without_one() -> None:
    cpuinfo = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x61\nCPU part\t: 0x022\n"
    assert profile_from(facts(cpuinfo=cpuinfo), "x").emulator is None


def test_a_system_that_is_no_target_is_refused() -> None:
    with pytest.raises(DeviceError, match="has no glibc, which every runtime needs"):
        profile_from(facts(glibc=""), "x")
    with pytest.raises(DeviceError, match="riscv64"):
        profile_from(facts(uname="riscv64"), "x")


def test_a_name_is_made_of_the_boards_own() -> None:
    assert suggest_name(facts()) == "raspberry-pi-5-model-b-rev-1-0"
    assert suggest_name(facts(board="", machine={**facts().machine.model_dump(), "cpu": "™"})) == "board"


def test_this_machine_becomes_a_profile(tmp_path: Path) -> None:
    here = parse_facts(json.dumps(collect_facts(command=lambda words: "")), "here")
    device = profile_from(here, "here")
    assert written(device, tmp_path) == device
