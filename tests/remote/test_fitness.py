from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.artifact import TargetInfo
from edgevit.catalog import load_device
from edgevit.emulation.identity import write_identity
from edgevit.errors import DeviceError
from edgevit.remote.errands import BoardFacts
from edgevit.remote.fitness import judge_fitness
from edgevit.remote.host import parse_host

HOST = parse_host("pi@board")


def facts(folder: Path, device: str, **changes: object) -> BoardFacts:
    """What a board of that profile would say."""
    write_identity(folder / device, load_device(device))
    values = {
        "python": "3.11.2", "implementation": "CPython", "machine": "aarch64", "system": "Linux", "glibc": "2.36",
        "cpuinfo": (folder / device / "proc/cpuinfo").read_text(), "packages": {}, "free_bytes": 1, "cache": "/x",
        **changes,
    }  # fmt: skip
    return BoardFacts.model_validate(values)


def target(device: str) -> TargetInfo:
    return TargetInfo(name=device, arch="aarch64", threads=4, measured_on=None)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name in ("rpi4", "rpi5", "rpi3b-plus"):
        (tmp_path / name).mkdir()


def test_the_board_that_the_bundle_was_made_for_is_recognized(tmp_path: Path) -> None:
    for name in ("rpi4", "rpi5"):
        found = judge_fitness(HOST, target(name), load_device(name), facts(tmp_path, name))
        assert (found.is_target, found.notes) == (True, ())


def test_instructions_that_the_board_lacks_are_named(tmp_path: Path) -> None:
    found = judge_fitness(HOST, target("rpi5"), load_device("rpi5"), facts(tmp_path, "rpi4"))
    assert not found.is_target
    (note,) = found.notes
    assert note.startswith("This board lacks asimddp, asimdhp, which rpi5 has")


def test_other_cores_are_named(tmp_path: Path) -> None:
    found = judge_fitness(HOST, target("rpi4"), load_device("rpi4"), facts(tmp_path, "rpi3b-plus"))
    assert not found.is_target
    assert found.notes == ("This board's cores are Cortex-A53; those of rpi4 are Cortex-A72.",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "x86_64"}, r"^pi@board: is x86_64, and this bundle is for aarch64 \(rpi5\)\. Export it again"),
        ({"machine": "armv7l"}, "is armv7, and this bundle is for aarch64"),
        ({"system": "Darwin"}, "runs Darwin, and boards run Linux"),
    ],
)
def test_a_machine_that_cannot_run_the_bundle_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(DeviceError, match=words):
        judge_fitness(HOST, target("rpi5"), load_device("rpi5"), facts(tmp_path, "rpi5", **changes))


def test_a_board_that_says_nothing_of_its_cpu_is_not_taken_for_the_target(tmp_path: Path) -> None:
    silent = facts(tmp_path, "rpi5", cpuinfo="")
    assert not judge_fitness(HOST, target("rpi5"), load_device("rpi5"), silent).is_target
    assert not judge_fitness(HOST, target("mine"), None, silent).is_target
