"""tegrastats by programs that behave as it does, and as it should not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgevit.board.power import TEGRASTATS_NAME, PowerMeter, find_power_source
from edgevit.board.tegrastats import tegrastats_watts

# JetPack 6, Orin Nano, shortened. Source: https://github.com/henrygd/beszel, agent/gpu_test.go
LINE = (
    "11-15-2024 08:38:09 RAM 6185/7620MB CPU [15%@729,11%@729] tj@53.968C VDD_IN 12479mW/12479mW VDD_SOC 2817mW/2817mW"
)
NO_RAILS = "RAM 1689/3825MB (lfb 338x4MB) CPU [3%@345,off,off,0%@345] PLL@50.5C"


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """program(text): the words of a shell program, which writes its process id to tmp_path/pid."""

    def write(text: str) -> tuple[str, ...]:
        path = tmp_path / "tegrastats"
        path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{text}\n")
        path.chmod(0o755)
        return (str(path), "--interval", "100")

    return write


def test_the_modules_power_is_read_from_one_line_and_the_program_ended(
    program: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    assert tegrastats_watts(program(f"while :; do echo '{LINE}'; sleep 0.05; done")) == 12.479
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_program_that_says_nothing_is_ended_in_time(
    program: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    assert tegrastats_watts(program("exec sleep 60"), limit_s=0.2) is None
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("text", [f"echo '{NO_RAILS}'", "exit 1", "echo", "echo usage", f"printf '%s' '{LINE[:30]}'"])
def test_what_does_not_state_the_modules_power_is_none(program: Callable[[str], tuple[str, ...]], text: str) -> None:
    assert tegrastats_watts(program(text)) is None


def test_a_line_without_an_end_is_read_no_further_than_needed(program: Callable[[str], tuple[str, ...]]) -> None:
    assert tegrastats_watts(program("while :; do printf 'xxxxxxxxxxxxxxxx'; done")) is None


def test_a_board_without_the_program_has_none(tmp_path: Path) -> None:
    assert tegrastats_watts((str(tmp_path / "tegrastats"),)) is None


def test_it_stands_in_where_the_power_monitors_files_cannot_be_read(tmp_path: Path) -> None:
    source = find_power_source("jetson", tmp_path, ask_tegrastats=lambda: 5.0)
    assert (source.name, source.missing) == (TEGRASTATS_NAME, "")
    assert source.read_watts is not None
    assert source.read_watts() == 5.0
    assert PowerMeter(source).source is source


def test_it_is_not_asked_where_the_files_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon1"
    folder.mkdir(parents=True)
    for name, text in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "1000")):
        (folder / name).write_text(f"{text}\n")

    def ask() -> float:
        raise subprocess.SubprocessError

    assert find_power_source("jetson", tmp_path, ask_tegrastats=ask).name.startswith("the module's INA3221")


def test_a_jetson_that_says_nothing_of_its_power_says_why(tmp_path: Path) -> None:
    source = find_power_source("jetson", tmp_path, ask_tegrastats=lambda: None)
    assert "no power monitor" in source.missing
