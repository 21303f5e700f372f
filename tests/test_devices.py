"""Every profile in devices/: valid, sourced, and refused with the key when a figure is spoiled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from edgevit.catalog import list_devices, load_device
from edgevit.device import Device
from edgevit.errors import BadFileError, DeviceError
from edgevit.machine.cpuinfo import parse_clusters
from edgevit.machine.localdevice import choose_preset
from edgevit.machine.wheels import RUNTIME_PACKAGES, runtime_wheel

DEVICES = Path(__file__).parents[1] / "devices"
NAMES = [name for name in list_devices() if name != "local"]
ISSUE = {
    "rpi-zero-2w", "rpi3b-plus", "rpi4", "rpi5", "jetson-nano", "jetson-xavier-nx", "jetson-orin-nano",
    "jetson-orin-nx", "jetson-agx-orin", "rk3588", "x86-avx2", "x86-avx512-vnni", "x86-n100",
}  # fmt: skip
EMULATED = {"cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "max"}

# /proc/cpuinfo of the very boards; sources beside tests/machine/captures' names in tests/machine/test_cpuinfo.py and:
# https://github.com/hrw/arm-socs-table/issues/29 (Pi 3B+), whose cores the Zero 2 W has too.
CAPTURES = {
    "rpi-zero-2w": "raspberry-pi-3b-plus", "rpi3b-plus": "raspberry-pi-3b-plus", "rpi4": "raspberry-pi-4",
    "rpi5": "raspberry-pi-5", "jetson-nano": "jetson-nano", "jetson-xavier-nx": "jetson-xavier-nx",
}  # fmt: skip
# A system's C library, and the Pythons of its own packages that a bundle runs on. Sources stand in the profiles.
SYSTEMS = {
    "Ubuntu 18.04": ("2.27", {"3.8"}),  # its own is 3.6; python3.8 is a package of its 'universe'
    "Ubuntu 20.04": ("2.31", {"3.8"}),
    "Ubuntu 22.04": ("2.35", {"3.10"}),
    "Debian 12": ("2.36", {"3.11"}),
    "bookworm or trixie": ("2.36", {"3.11", "3.13"}),
    "Any Linux": ("2.28", {"3.11", "3.12", "3.13"}),
}


@pytest.fixture(params=NAMES)
def device(request) -> Device:
    return load_device(request.param)


def raw(name: str) -> dict:
    return yaml.safe_load((DEVICES / f"{name}.yaml").read_text(encoding="utf-8"))


def has_number(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(has_number(inner) for inner in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_all_boards_of_the_first_release_are_there():
    assert set(NAMES) == ISSUE


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_named_as_its_file(name):
    assert load_device(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_group_with_a_figure_has_a_source(name):
    profile = raw(name)
    covered = {cover.split(".")[0] for source in profile["sources"] for cover in source["covers"]}

    with_figures = {key for key, value in profile.items() if key != "sources" and has_number(value)}
    assert {"cpu", "caches", "memory", "threads"} <= with_figures
    assert with_figures | {"os", "quantization"} <= covered


@pytest.mark.parametrize("name", NAMES)
def test_a_source_covers_only_keys_that_exist(name):
    profile = raw(name)
    for source in profile["sources"]:
        for cover in source["covers"]:
            value = profile
            for part in cover.split("."):
                value = value[part]


def test_a_source_is_a_secure_address_or_a_note(device):
    for source in device.sources:
        assert source.note or source.url
        assert source.url is None or source.url.scheme == "https"


@pytest.mark.parametrize("name", NAMES)
def test_peaks_are_said_to_be_derived_measured_or_unconfirmed(name):
    notes = " ".join(
        source.get("note", "") for source in raw(name)["sources"] if "cpu.clusters" in source["covers"]
    )  # fmt: skip

    assert re.search("derived|not confirmed", notes)


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_purpose_use_and_what_was_measured(name):
    header = [line for line in (DEVICES / f"{name}.yaml").read_text(encoding="utf-8").splitlines() if line[:1] == "#"]

    assert len(header) >= 3
    assert header[1] == f"# Use:      edgevit export MODEL --device {name} -o BUNDLE"
    assert header[2].startswith("# Measured: ")


def test_threads_are_the_fast_cores(device):
    assert device.threads == device.cpu.clusters[0].cores
    peaks = [cluster.clock_mhz * cluster.fp32_flops_per_cycle for cluster in device.cpu.clusters]
    assert peaks == sorted(peaks, reverse=True)


def test_number_formats_follow_the_instruction_set(device):
    derived = choose_preset(device.arch, device.cpu.isa)
    preset = device.quantization

    assert (preset.activation, preset.weight, preset.reduce_range) == (
        derived.activation,
        derived.weight,
        derived.reduce_range,
    )
    # The Zero 2 W is the one exception: its 512 MB want small weights.
    assert preset.precision == ("int8-dynamic" if device.name == "rpi-zero-2w" else derived.precision)


def test_int8_peak_follows_the_instruction_set(device):
    widths = {"asimddp": 4, "avx512_vnni": 4, "avx_vnni": 4}
    ratio = max((widths[flag] for flag in device.cpu.isa if flag in widths), default=2)

    for cluster in device.cpu.clusters:
        assert cluster.int8_ops_per_cycle == ratio * cluster.fp32_flops_per_cycle or device.name == "jetson-xavier-nx"


@pytest.mark.parametrize(("name", "capture"), CAPTURES.items())
def test_instructions_cores_and_their_number_are_those_of_the_very_board(name, capture):
    cpuinfo = (Path(__file__).parent / "machine/captures" / f"{capture}.txt").read_text(encoding="utf-8")
    device = load_device(name)
    said = re.findall(r"^Features\s*: (.+)$", cpuinfo, re.MULTILINE)

    assert len(said) == device.cpu.cores
    assert {tuple(line.split()) for line in said} == {device.cpu.isa}
    (cluster,) = parse_clusters(cpuinfo, device.arch, device.cpu.cores)
    assert cluster.model == device.cpu.clusters[0].model
    peaks = ("fp32_flops_per_cycle", "fp16_flops_per_cycle", "int8_ops_per_cycle")
    assert [getattr(cluster, peak) for peak in peaks] == [getattr(device.cpu.clusters[0], peak) for peak in peaks]


def test_c_library_and_pythons_are_those_of_the_system(device):
    (system,) = (name for name in SYSTEMS if name in device.os.name)
    assert (device.os.glibc, set(device.os.python)) == SYSTEMS[system]


def test_every_runtime_with_wheels_says_whether_the_board_can_install_it(device):
    """A runtime that none of the board's Pythons has a wheel for is known before anything is copied."""
    able = {
        runtime
        for runtime in device.runtimes
        for python in device.os.python
        if runtime in RUNTIME_PACKAGES and has_wheel(runtime, python, device)
    }
    unable = {runtime for runtime in device.runtimes if runtime in RUNTIME_PACKAGES} - able
    assert "onnxruntime" in able
    assert unable == WITHOUT_WHEEL.get(device.name, set())


# JetPack's own builds of torch serve these two; of LiteRT, tflite-runtime 2.13 is the last with a wheel for Python 3.8.
WITHOUT_WHEEL = {"jetson-nano": {"litert"}, "jetson-xavier-nx": {"litert", "torchscript"}}


def has_wheel(runtime, python, device):
    try:
        return runtime_wheel(runtime, python, device.os.glibc, device.arch) is not None
    except DeviceError:
        return False


def test_an_arm_board_has_an_emulator_and_a_toolchain(device):
    triple = {"aarch64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}[device.arch]

    assert device.toolchain is not None
    assert device.toolchain.triple == triple
    assert (device.emulator is not None) == (device.arch == "aarch64")
    assert device.emulator is None or device.emulator.cpu in EMULATED


def test_the_boards_python_can_run_a_bundle(device):
    assert all(tuple(map(int, version.split("."))) >= (3, 8) for version in device.os.python)


def test_onnxruntime_is_among_the_runtimes(device):
    assert "onnxruntime" in device.runtimes


@pytest.mark.parametrize(
    ("find", "put", "words"),
    [
        ("clock_mhz: 2400", "clock_mhz: fast", "key 'cpu.clusters.0.clock_mhz': must be a whole number, not 'fast'"),
        ("cores: 4", "cores: 0", "key 'cpu.clusters.0.cores': must be greater than 0, not 0"),
        ("arch: aarch64", "arch: arm64", "key 'arch': must be 'aarch64', 'armv7' or 'x86_64', not 'arm64'"),
        ("threads: 4", "thread: 4", "key 'thread': unknown key 'thread'. Did you mean 'threads'?"),
        ('glibc: "2.36"', "glibc: 2.36", "key 'os.glibc': must be text, not 2.36. Put it in quotes."),
        ("sensors: raspberry-pi", "sensors: rpi", "key 'sensors': must be 'raspberry-pi', 'jetson', 'rapl' or 'none'"),
        ("ram_mib: 8192", "ram_gib: 8", "key 'memory.ram_gib': unknown key 'ram_gib'. Did you mean 'ram_mib'?"),
        ("precision: auto", "precision: int4", "key 'quantization.precision': must be"),
        ("https://github.com/hrw", "github.com/hrw", "key 'sources.1.url': must be a web address, not 'github.com/hrw"),
        ("runtimes: [", "runtimes: [onnx, ", "key 'runtimes.0': must be"),
    ],
)
def test_a_spoiled_figure_is_refused_with_its_key(tmp_path, find, put, words):
    text = (DEVICES / "rpi5.yaml").read_text(encoding="utf-8")
    assert find in text
    path = tmp_path / "rpi5.yaml"
    path.write_text(text.replace(find, put, 1), encoding="utf-8")
    line = text[: text.index(find)].count("\n") + 1

    with pytest.raises(BadFileError) as caught:
        load_device(str(path))

    assert str(caught.value).startswith(f"{path}: line {line}, {words}")


@pytest.mark.parametrize("key", ["name", "title", "arch", "cpu", "memory", "os", "quantization", "sources"])
def test_a_profile_without_a_needed_key_is_refused(tmp_path, key):
    profile = raw("rpi5")
    del profile[key]
    path = tmp_path / "rpi5.yaml"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")

    with pytest.raises(BadFileError, match=rf"line 1, key '{key}': this key is missing\."):
        load_device(str(path))
