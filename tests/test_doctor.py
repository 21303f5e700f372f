from dataclasses import replace

import pytest

from edgevit.benchreport import Machine, SensorReading
from edgevit.catalog import load_device
from edgevit.doctor import diagnose, examine
from edgevit.doctor.calm import check_calm
from edgevit.doctor.host import (
    check_cpu,
    check_offline,
    check_packages,
    check_python,
    check_room,
    check_torchvision,
)
from edgevit.machine.hostfacts import Facts, Requirement

MACHINE = Machine(cpu="Test CPU", arch="aarch64", cores=4, os="Linux", python="3.11.7")
CALM = SensorReading(at="before", governor="performance", temperature_c=45.2, load_1min=0.1)
REQUIREMENTS = (
    Requirement("numpy", "1.26", ""),
    Requirement("torch", "2.9", "train"),
    Requirement("onnx", "1.18", "export"),
    Requirement("ruff", "0.8", "dev"),
)
INSTALLED = {"numpy": "2.4.6", "torch": "2.13.0", "onnx": "1.23.2", "torchvision": "0.28.0"}
FACTS = Facts(
    machine=MACHINE,
    sensors=CALM,
    isa=("asimd", "asimddp"),
    requirements=REQUIREMENTS,
    installed=INSTALLED,
    ram_free_mib=8000.0,
    disk_free_mib=90_000.0,
    torchvision_needs="2.13.0",
)


def severities(findings):
    return [finding.severity for finding in findings]


def test_a_machine_in_order_has_nothing_to_mend():
    findings = diagnose(FACTS)
    assert set(severities(findings)) == {"ok"}
    assert not any(finding.fix for finding in findings)


def test_every_finding_that_is_worse_than_a_note_comes_with_its_fix():
    worst = replace(
        FACTS,
        machine=MACHINE.model_copy(update={"python": "3.9.1"}),
        sensors=SensorReading(
            at="before", governor="powersave", temperature_c=81.0, load_1min=3.0, throttled=True,
            throttle_flags=("under-voltage",),
        ),
        installed={},
        ram_free_mib=100.0,
        disk_free_mib=100.0,
        isa=("asimd",),
    )  # fmt: skip
    serious = [f for f in diagnose(worst, load_device("rpi5")) if f.severity in ("warning", "problem")]
    assert len(serious) == 9
    assert all(finding.fix for finding in serious)


def test_an_old_python_is_a_problem():
    finding = check_python("3.9.18")
    assert finding.severity == "problem"
    assert finding.what == "Python 3.9.18 is older than 3.10, the oldest that edgevit runs on."
    assert "python3.10 -m venv" in finding.fix
    assert check_python("3.10.0").severity == "ok"


def test_packages_are_told_by_extra_and_the_checkers_left_out():
    findings = check_packages(REQUIREMENTS, INSTALLED)
    assert [finding.what for finding in findings] == [
        "The light install is complete: numpy 2.4.6.",
        "The extra [train] is complete: torch 2.13.0.",
        "The extra [export] is complete: onnx 1.23.2.",
    ]


def test_a_missing_extra_is_a_note_with_its_install_command():
    finding = check_packages(REQUIREMENTS, {"numpy": "2.4.6", "onnx": "1.23.2"})[1]
    assert (finding.severity, finding.what) == ("note", "The extra [train] lacks torch.")
    assert finding.fix == "pip install --upgrade 'edgevit[train]'"


def test_a_missing_package_of_the_light_install_is_a_problem():
    finding = check_packages(REQUIREMENTS, {})[0]
    assert (finding.severity, finding.what) == ("problem", "The light install lacks numpy.")
    assert finding.fix == "pip install --upgrade edgevit"


def test_a_package_that_is_too_old_is_named_with_what_is_needed():
    finding = check_packages(REQUIREMENTS, {**INSTALLED, "torch": "2.8.1+cpu"})[1]
    assert finding.severity == "problem"
    assert finding.what == "The extra [train] has too old a torch 2.8.1+cpu (needs 2.9)."


@pytest.mark.parametrize("version", ["2.9", "2.9.0", "2.10.0", "2.9.0+cpu"])
def test_a_version_is_compared_by_numbers_not_by_letters(version):
    assert check_packages((Requirement("torch", "2.9.0", "train"),), {"torch": version})[0].severity == "ok"


def test_a_checkout_that_is_not_installed_is_told_so():
    (finding,) = check_packages((), {})
    assert (finding.severity, finding.fix) == ("problem", "pip install -e '.[train,export]'")
    assert "runs from a folder and is not installed" in finding.what


def test_a_torchvision_built_for_another_torch_is_a_problem():
    (finding,) = check_torchvision({"torch": "2.12.1", "torchvision": "0.28.0"}, "2.13.0")
    assert finding.severity == "problem"
    assert finding.what == "torchvision 0.28.0 is built for torch 2.13.0, and torch 2.12.1 is installed."


def test_a_cpu_torch_beside_another_torchvision_is_cured_by_edgevit():
    (finding,) = check_torchvision({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}, "2.13.0")
    assert (finding.severity, finding.fix) == ("note", "")
    assert "come from different builds" in finding.what
    assert "nothing to do" in finding.what


def test_without_torch_nothing_is_said_of_torchvision():
    assert check_torchvision({"torchvision": "0.28.0"}, "2.13.0") == ()


@pytest.mark.parametrize(
    ("ram", "disk", "expected"),
    [
        (3072, 4096, ["ok", "ok"]),
        (3071, 4095, ["warning", "warning"]),
        (1023, 511, ["problem", "problem"]),
    ],
)
def test_room_is_judged_at_its_limits(ram, disk, expected):
    findings = check_room(ram, disk, "runs")
    assert severities(findings) == expected
    assert "the disk of 'runs'" in findings[1].what
    assert [bool(finding.fix) for finding in findings] == [severity != "ok" for severity in expected]


@pytest.mark.parametrize(
    ("governor", "expected"),
    [
        ("performance", "ok"),
        ("ondemand", "warning"),
        ("powersave", "warning"),
        ("performance,powersave", "warning"),
        (None, "note"),
    ],
)
def test_a_governor_that_moves_the_clock_is_told(governor, expected):
    (finding,) = check_calm(SensorReading(at="before", governor=governor), MACHINE)
    assert finding.severity == expected
    assert ("scaling_governor" in finding.fix) == (governor not in ("performance", None))


def test_heat_load_and_throttling_are_told_with_their_figures():
    sensors = SensorReading(
        at="before", governor="performance", temperature_c=70.0, load_1min=1.1, throttled=True,
        throttle_flags=("under-voltage", "throttled"),
    )  # fmt: skip
    _, throttled, hot, busy = check_calm(sensors, MACHINE)
    assert (throttled.severity, throttled.what) == ("problem", "The CPU is throttled now (under-voltage, throttled).")
    assert (hot.severity, hot.what) == ("warning", "The CPU is at 70 °C, close to throttling.")
    assert busy.severity == "warning"
    assert busy.what.startswith("The load is 1.1 on 4 cores: other programs")


def test_a_cpu_without_int8_products_is_told():
    (finding,) = check_cpu(replace(FACTS, isa=("asimd",)), None)
    assert finding.severity == "note"
    assert "Test CPU has no INT8 dot product (asimddp)" in finding.what


def test_a_board_of_another_architecture_is_never_measured_here():
    facts = replace(FACTS, machine=MACHINE.model_copy(update={"arch": "x86_64"}), isa=("avx2", "avx_vnni"))
    native, board = check_cpu(facts, load_device("rpi5"))
    assert native.what == "Test CPU multiplies INT8 natively (avx_vnni)."
    assert board.severity == "note"
    assert board.what.startswith("rpi5 is aarch64 and this machine is x86_64")
    assert board.fix == "On rpi5, in the bundle's folder: python3 agent.py bench"


def test_an_emulated_board_is_never_measured_here_either():
    facts = replace(FACTS, machine=MACHINE.model_copy(update={"is_emulated": True}))
    assert "this machine is an emulated aarch64" in check_cpu(facts, load_device("rpi5"))[1].what


def test_a_cpu_that_lacks_what_the_board_has_is_a_warning():
    finding = check_cpu(replace(FACTS, isa=("asimd",)), load_device("rpi5"))[1]
    assert finding.severity == "warning"
    assert "asimddp" in finding.what
    assert finding.what.endswith("of rpi5: a latency from here says little about it.")


def test_a_cpu_with_int8_products_flatters_a_board_without_them():
    finding = check_cpu(FACTS, load_device("rpi4"))[1]
    assert finding.severity == "warning"
    assert finding.what == "This CPU has asimddp, which rpi4 lacks: INT8 looks better here than there."


def test_a_hub_that_is_switched_off_is_a_note():
    (finding,) = check_offline(("HF_HUB_OFFLINE",))
    assert (finding.severity, finding.fix) == ("note", "unset HF_HUB_OFFLINE")
    assert "pretrained weights come from the cache only" in finding.what


def test_what_the_board_installs_is_told_for_each_of_its_pythons():
    board = diagnose(FACTS, load_device("jetson-nano"))[-1]
    assert board.what == "jetson-nano with Python 3.8 installs onnxruntime==1.19.2 numpy==1.24.4 pillow==10.4.0."


def test_a_board_whose_only_python_has_no_wheel_is_a_problem():
    device = load_device("jetson-nano")
    old = device.model_copy(update={"os": device.os.model_copy(update={"python": ("3.6",)})})
    board = diagnose(FACTS, old)[-1]
    assert board.severity == "problem"
    assert board.what.startswith("jetson-nano: onnxruntime has no wheel for Python 3.6 with glibc 2.27 on aarch64.")


def test_this_machine_can_be_examined():
    findings = examine(load_device("local"))
    assert findings[0].what.startswith("Python 3.")
    assert all(finding.what.endswith(".") for finding in findings)
