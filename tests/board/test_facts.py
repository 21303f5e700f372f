from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgevit.board import facts
from edgevit.board.amalgamate import facts_source
from edgevit.board.facts import collect_facts, facts_main
from edgevit.machine.facts import parse_facts

CPU = "sys/devices/system/cpu"
VERSIONS = {"nvidia-jetpack": "6.2+b77", "libnvinfer10": "10.3.0.30-1+cuda12.5"}


def no_program(words: Sequence[str]) -> str:
    return ""


def orin_program(words: Sequence[str]) -> str:
    if words[0] == "dpkg-query":
        return VERSIONS.get(words[-1], "")
    return {"nvpmodel": "NV Power Mode: MAXN_SUPER\n2\n"}.get(words[0], "")


def test_this_machine_says_what_the_host_can_read() -> None:
    found = parse_facts(json.dumps(collect_facts(folder=".")), "here")
    assert found.machine.python == ".".join(map(str, sys.version_info[:3]))
    assert found.python in found.pythons
    assert found.memory.total > found.memory.available > 0
    assert (found.disk_free_mib or 0) > 0
    assert found.packages["numpy"]
    assert found.bench is None


def test_a_machine_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    found = parse_facts(json.dumps(collect_facts(tmp_path, no_program, folder="/nowhere/at/all")), "there")
    assert (found.board, found.cpuinfo, found.max_mhz, found.disk_free_mib) == ("", "", (), None)
    assert (found.sensor_kind, found.jetson, found.supply_v) == ("none", None, None)


def test_cores_clocks_and_caches_are_read_from_sys(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "usable_processors", lambda: [0, 1, 2])
    root = machine(
        {
            f"{CPU}/cpu0/topology/thread_siblings_list": "0-1", f"{CPU}/cpu1/topology/thread_siblings_list": "0-1",
            f"{CPU}/cpu2/topology/thread_siblings_list": "2",
            f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "2400000", f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "2400000",
            f"{CPU}/cpu10/cpufreq/cpuinfo_max_freq": "1800000", f"{CPU}/cpu2/cpufreq/cpuinfo_max_freq": "1800000",
            f"{CPU}/cpu0/cache/index0/level": "1", f"{CPU}/cpu0/cache/index0/type": "Data",
            f"{CPU}/cpu0/cache/index0/size": "64K",
            f"{CPU}/cpu0/cache/index1/level": "1", f"{CPU}/cpu0/cache/index1/type": "Instruction",
            f"{CPU}/cpu0/cache/index1/size": "128K",
            f"{CPU}/cpu0/cache/index2/level": "2", f"{CPU}/cpu0/cache/index2/type": "Unified",
            f"{CPU}/cpu0/cache/index2/size": "512K",
        }
    )  # fmt: skip
    found = collect_facts(root, no_program)
    assert (found["cores"], found["max_mhz"]) == (2, [2400, 2400, 1800, 1800])
    assert found["caches"] == {"l1d_kib": 64, "l2_kib": 512}


def test_a_pi_says_the_voltage_of_its_supply(machine: Callable[..., Path]) -> None:
    root = machine({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    found = collect_facts(root, lambda words: "EXT5V_V volt(24)=4.96738000V\n")
    assert (found["board"], found["sensor_kind"], found["supply_v"]) == (
        "Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi", 4.96738,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "cuda"),
    [
        # Source: CUDA's own version.json and, up to CUDA 10, version.txt
        ("version.json", '{\n   "cuda" : {\n      "name" : "CUDA SDK",\n      "version" : "12.6.68"\n   }\n}', "12.6"),
        ("version.txt", "CUDA Version 10.2.300\n", "10.2"),
    ],
)
def test_a_jetson_says_its_releases_and_its_mode(machine: Callable[..., Path], name: str, text: str, cuda: str) -> None:
    root = machine(
        {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081", f"usr/local/cuda/{name}": text}
    )
    assert collect_facts(root, orin_program)["jetson"] == {
        "l4t": "36.4.3", "power_mode": "MAXN_SUPER", "power_mode_id": 2, "is_clock_locked": None,
        "jetpack": "6.2", "tensorrt": "10.3.0.30", "cuda": cuda,
    }  # fmt: skip


def test_a_jetson_in_a_container_says_what_it_can(machine: Callable[..., Path]) -> None:
    root = machine({"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"})
    assert set(collect_facts(root, no_program)["jetson"].values()) == {None}


@pytest.mark.parametrize("answer", [None, "musl 1.2", "glibc"])
def test_another_c_library_has_no_version(answer: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts.os, "confstr", lambda name: answer)
    assert collect_facts(command=no_program)["glibc"] == ""


def test_a_system_without_confstr_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(facts.os, "confstr")
    assert collect_facts(command=no_program)["glibc"] == ""


def test_the_program_prints_one_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "gemm_gflops", lambda: 10.5)
    monkeypatch.setattr(facts, "copy_gb_s", lambda: 4.0)
    assert facts_main(["--bench", "--folder", "/"]) == 0
    found = parse_facts(capsys.readouterr().out, "here")
    assert found.bench is not None
    assert (found.folder, found.bench.gemm_gflops, found.bench.copy_gb_s) == ("/", 10.5, 4.0)


def test_the_single_file_is_python_3_8_of_the_standard_library_only() -> None:
    source = facts_source()
    tree = ast.parse(source, feature_version=(3, 8))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"numpy"}  # inside the micro-benchmark, where the board has it
    assert "import numpy" not in {ast.unparse(node) for node in tree.body}
    assert "of this bundle" not in (ast.get_docstring(tree) or "")


def test_the_single_file_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "facts.py").write_text(facts_source())
    without = (
        "import runpy, sys\n"
        "for name in ('edgevit', 'numpy', 'pydantic'): sys.modules[name] = None\n"
        "sys.argv = ['facts.py']\nrunpy.run_path(sys.stdin.read(), run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-c", without], input=str(tmp_path / "facts.py"), capture_output=True, text=True,
        check=False, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert parse_facts(ended.stdout, "there").cores >= 1
