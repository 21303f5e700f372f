"""doctor(facts, profile): each finding by what it says and by the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgevit.catalog import load_device
from edgevit.doctor import Finding, doctor
from edgevit.machine.facts import Facts

CAPTURES = Path(__file__).parents[1] / "machine/captures"
CALM = {"at": "before", "governor": "performance", "temperature_c": 45.0, "load_1min": 0.1, "throttled": False}


def facts(capture: str = "raspberry-pi-5", **changes: Any) -> Facts:
    """A Raspberry Pi 5 in order, by its own /proc/cpuinfo; `changes` replace keys, those with __ inside a record."""
    document: dict[str, Any] = {
        "schema_version": 1, "kind": "facts", "uname": "aarch64", "cores": 4, "max_mhz": [2400] * 4,
        "machine": {"cpu": "Cortex-A76", "arch": "aarch64", "cores": 4, "os": "Debian 12", "python": "3.11.2"},
        "cpuinfo": (CAPTURES / f"{capture}.txt").read_text(encoding="utf-8"),
        "os_id": "debian", "glibc": "2.36", "pythons": ["3.11"], "memory": {"total": 8063, "available": 7000},
        "disk_free_mib": 20_000, "sensor_kind": "raspberry-pi", "sensors": dict(CALM), "supply_v": 5.07,
        "power_sensor": "rails",
    }  # fmt: skip
    for key, value in changes.items():
        record, _, inner = key.partition("__")
        if inner:
            document[record] = {**document.get(record, {}), inner: value}
        else:
            document[key] = value
    return Facts.model_validate(document)


def findings(
    *severities: str, device: str | None = "rpi5", runtime: str | None = None, **changes: Any
) -> list[Finding]:
    found = doctor(facts(**changes), load_device(device) if device else None, runtime)
    return [finding for finding in found if finding.severity in (severities or ("warning", "problem"))]


def only(*severities: str, **changes: Any) -> Finding:
    (finding,) = findings(*severities, **changes)
    return finding


def test_a_board_in_order_has_nothing_to_mend() -> None:
    assert findings() == []
    assert [finding.what for finding in findings("note")] == []
    assert findings(device=None) == []


def test_another_architecture_is_another_board() -> None:
    finding = only("problem", machine__arch="x86_64", device="rpi5", cpuinfo="")
    assert finding.what == "rpi5 is aarch64 and this board is x86_64: it is another board."


def test_a_core_without_the_profiles_dot_products_is_a_problem() -> None:
    finding = only("problem", capture="raspberry-pi-4", max_mhz=[2400] * 4)
    assert finding.what.startswith(
        "This processor lacks asimdhp (fp16 arithmetic), asimddp (dot products (SDOT)) of rpi5: a bundle for "
        "rpi5 may end with 'Illegal instruction'"
    )
    assert finding.fix.startswith("edgevit devices add --from-host")


def test_a_core_with_more_than_the_profile_flatters_it() -> None:
    found = findings("warning", device="rpi4", max_mhz=[1800] * 4)
    assert [finding.what for finding in found] == [
        "This processor has asimdhp (fp16 arithmetic), asimddp (dot products (SDOT)), which rpi4 lacks: INT8 looks "
        "better here than there."
    ]


def test_a_missing_flag_that_no_kernel_needs_is_a_note() -> None:
    cpuinfo = facts().cpuinfo.replace(" asimdrdm", "")
    assert only("note", cpuinfo=cpuinfo).what == "This processor lacks asimdrdm of rpi5, which no kernel here needs."


def test_without_cpuinfo_nothing_is_compared() -> None:
    assert "names no instructions" in findings("note", cpuinfo="")[1].what


def test_cores_that_are_off_and_clocks_that_are_low_are_told() -> None:
    finding = only("warning", cores=2)
    assert (finding.what, finding.fix) == (
        "2 of rpi5's 4 cores can be used.",
        "cat /sys/devices/system/cpu/online",
    )
    assert only("note", cores=8).what == "8 cores, and rpi5 has 4: it is a larger one."
    assert only("warning", max_mhz=[1500] * 4).what == "The highest clock is 1500 MHz, and rpi5 has 2400 MHz."
    assert only("note", max_mhz=[]).what == "The highest clock cannot be seen, so it is not compared."


def test_a_limit_below_the_processors_clock_is_told_with_the_command() -> None:
    finding = only(sensors__clock_range_mhz=(1500.0, 1500.0))
    assert finding.what == "The clock is limited to 1500 of 2400 MHz."
    assert finding.fix == "echo 2400000 | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"


def test_a_governor_that_scales_is_told_with_the_command() -> None:
    finding = only(sensors__governor="ondemand", sensors__clock_range_mhz=(1500.0, 2400.0))
    assert finding.what.startswith("The CPU's governor is ondemand: its clock moves")
    assert finding.fix == "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"


@pytest.mark.parametrize(
    ("flags", "fix"),
    [
        (["throttled"], "Let it cool down, add a heat sink"),
        (["under-voltage", "throttled"], "Use the board's own power supply and a short cable (Pi 5: 27 W"),
    ],
)
def test_throttling_now_is_a_problem_and_its_fix_the_causes(flags: list[str], fix: str) -> None:
    finding = only("problem", sensors__throttled=True, sensors__throttle_flags=flags)
    assert finding.what == f"The CPU is throttled now ({', '.join(flags)})."
    assert finding.fix.startswith(fix)


def test_throttling_since_boot_is_a_warning() -> None:
    finding = only(sensors__throttle_flags=["under-voltage-occurred", "throttled-occurred"])
    assert finding.what.startswith("Since it booted, the board has had: under-voltage, throttled.")
    assert finding.fix.endswith("; then reboot, which clears it.")
    assert only(throttle_count=3).what == "The processor has throttled 3 times since it booted."


def test_heat_load_and_pressure_are_told() -> None:
    found = findings(sensors__temperature_c=78.0, sensors__load_1min=3.5, sensors__pressure_percent=40.0)
    assert [finding.what[:20] for finding in found] == [
        "The CPU is at 78 °C,", "The load is 3.5 on 4", "Programs waited for ",
    ]  # fmt: skip


@pytest.mark.parametrize(("volts", "severity"), [(5.07, None), (4.9, None), (4.7, "warning"), (4.5, "problem")])
def test_the_power_supply_is_judged_by_its_voltage(volts: float, severity: str | None) -> None:
    found = findings(supply_v=volts)
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    assert all(finding.fix.startswith("Use the board's own power supply") for finding in found)


def test_energy_that_cannot_be_measured_is_a_note_with_the_reason() -> None:
    finding = only("note", power_sensor="", power_missing="this machine has no power sensor")
    assert finding.what == "Energy per inference is not available: this machine has no power sensor."


def test_memory_swap_and_disk_are_judged_at_their_limits() -> None:
    assert only("problem", memory__available=119).what.startswith("119 MiB of memory are free: a bundle")
    assert only("warning", memory__available=255).what.startswith("255 MiB of memory are free: a larger")
    assert only("note", memory__total=4000).what == "The board has 3.9 GiB of memory, rpi5 8.0 GiB."
    swapping = {"total": 8063, "available": 300, "swap_total": 1024, "swap_free": 500}
    assert only("warning", memory=swapping).what == "524 MiB are swapped out: a latency may hold the disk's."
    assert only("problem", disk_free_mib=399).fix.startswith("sudo apt-get clean")
    assert only("warning", disk_free_mib=1023).what == "1.0 GiB are free on the disk of '.'."
    assert findings(disk_free_mib=None, memory={}) == []


def test_an_older_c_library_than_the_profiles_is_a_warning_and_none_a_problem() -> None:
    assert only("warning", glibc="2.31").what.startswith("Debian 12 has glibc 2.31, older than 2.36 of rpi5")
    found = findings("problem", glibc="")
    assert found[0].what == "Debian 12 has no glibc (it may have musl): no runtime has a wheel for it."
    assert found[1].what.startswith("onnxruntime has no wheel")


def test_python_must_be_3_8_and_able_to_make_environments() -> None:
    old = findings("problem", machine__python="3.6.9", pythons=["3.6"])
    assert old[0].what == "Python 3.6.9 is older than 3.8, the oldest that a bundle runs on."
    assert "python3 -m uv python install 3.11" in old[0].fix
    finding = only("problem", has_venv=False)
    assert (finding.what, finding.fix) == (
        "Python 3.11.2 cannot make a virtual environment (ensurepip is missing).",
        "sudo apt-get install python3.11-venv",
    )


JETPACK_5 = {
    "capture": "jetson-xavier-nx", "device": "jetson-xavier-nx", "machine__python": "3.8.10", "glibc": "2.31",
    "machine__os": "Ubuntu 20.04.6 LTS", "pythons": ["3.8"], "cores": 6, "max_mhz": [1900] * 6, "supply_v": None,
    "sensor_kind": "jetson",
}  # fmt: skip
XAVIER = {
    "l4t": "35.4.1", "power_mode": "MAXN", "power_mode_id": 0, "is_clock_locked": True, "tensorrt": "8.5.2",
    "cuda": "11.4",
}  # fmt: skip


def test_a_wheel_that_does_not_exist_for_jetpack_5s_python_is_told_before_anything_is_copied() -> None:
    board = {**JETPACK_5, "jetson": XAVIER}
    assert findings(**board) == []  # ONNX Runtime 1.19.2 still has one
    assert "Python 3.8 installs onnxruntime==1.19.2 numpy==1.24.4 pillow==10.4.0." in [
        finding.what for finding in findings("ok", **board)
    ]
    litert, torch = (finding for finding in findings("note", **board) if "no wheel" in finding.what)
    assert litert.what.startswith("ai-edge-litert has no wheel for Python 3.8 with glibc 2.31 on aarch64.")
    assert torch.what.startswith("torch has no wheel for Python 3.8")
    needed = only("problem", runtime="torchscript", **board)
    assert needed.what == torch.what
    assert needed.fix == "python3 -m pip install --user uv && python3 -m uv python install 3.11"


def test_another_python_of_the_board_that_has_the_wheel_is_named() -> None:
    finding = only("problem", pythons=["3.8", "3.12", "3.11"], machine__python="3.15.0")
    assert finding.what.startswith("onnxruntime has no wheel for Python 3.15")
    assert finding.fix == "python3.11 -m venv edgevit-venv  # this Python has one"


@pytest.mark.parametrize(
    ("jetson", "severity", "what"),
    [
        ({**XAVIER, "tensorrt": "10.3.0.30"}, "problem", "TensorRT 8.5 belongs to JetPack 5.1.2, not 10.3.0.30"),
        ({**XAVIER, "cuda": "12.6"}, "problem", "CUDA 11.4 belongs to JetPack 5.1.2, not 12.6"),
        ({**XAVIER, "tensorrt": None}, "warning", "TensorRT is not installed."),
        ({**XAVIER, "is_clock_locked": False}, "warning", "The clocks are not locked"),
    ],
)
def test_jetpack_cuda_and_tensorrt_must_belong_together(jetson: dict[str, Any], severity: str, what: str) -> None:
    finding = only("warning", "problem", **JETPACK_5, jetson=jetson)
    assert finding.severity == severity
    assert what in finding.what
    assert finding.fix.startswith("sudo ")


@pytest.mark.parametrize(
    ("jetson", "what"),
    [
        ({}, "The release of Jetson Linux cannot be seen"),
        ({**XAVIER, "l4t": "99.1"}, "Jetson Linux 99.1, CUDA 11.4, TensorRT 8.5.2: this release is in no table here"),
        ({**XAVIER, "power_mode": "MODE_15W_6CORE"}, "The power mode is MODE_15W_6CORE: it caps clocks"),
        ({**XAVIER, "power_mode": None}, "The power mode cannot be seen."),
        ({**XAVIER, "is_clock_locked": None}, "Whether the clocks are locked can be seen with sudo only."),
    ],
)
def test_what_of_a_jetson_cannot_be_judged_is_a_note(jetson: dict[str, Any], what: str) -> None:
    assert any(finding.what.startswith(what) for finding in findings("note", **JETPACK_5, jetson=jetson))


def test_a_jetsons_missing_cores_and_clocks_are_its_power_modes() -> None:
    found = findings("warning", **{**JETPACK_5, "cores": 4, "max_mhz": [1400] * 4}, jetson=XAVIER)
    assert [finding.fix for finding in found] == [
        "sudo nvpmodel -m 0  # the mode with all cores",
        "sudo nvpmodel -m 0  # the mode with the highest clocks",
    ]


def test_every_finding_worse_than_a_note_has_a_fix_and_ends_as_a_sentence() -> None:
    worst = facts(
        "raspberry-pi-4", cores=2, max_mhz=[600], glibc="2.27", machine__python="3.6.9", pythons=["3.6"],
        has_venv=False, memory={"total": 100, "available": 50, "swap_total": 900, "swap_free": 1}, disk_free_mib=1,
        supply_v=4.2, throttle_count=9, power_sensor="",
        jetson={"l4t": "35.4.1", "cuda": "1.0", "is_clock_locked": False},
        sensors={
            **CALM, "governor": "powersave", "throttled": True, "temperature_c": 90.0, "load_1min": 9.0,
            "throttle_flags": ["under-voltage", "under-voltage-occurred"], "pressure_percent": 90.0,
        },
    )  # fmt: skip
    for device in (None, "rpi5", "jetson-orin-nano"):
        for finding in doctor(worst, load_device(device) if device else None):
            assert finding.what.endswith("."), finding
            assert finding.fix or finding.severity in ("ok", "note"), finding
