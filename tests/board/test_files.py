from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.board.files import first_line, read_number, read_text, run_command


def test_a_file_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert (read_text(tmp_path), read_text(tmp_path / "none"), read_number(tmp_path / "none")) == ("", "", None)


def test_a_file_without_end_is_read_to_its_limit() -> None:
    assert read_text(Path("/dev/zero"), limit=8) == "\0" * 8


@pytest.mark.parametrize(
    ("text", "number"),
    [("42000\n", 42000.0), ("-1.5", -1.5), ("nan", None), ("inf", None), ("1e999", None), ("", None), ("9" * 99, None)],
)
def test_a_number_is_a_plain_finite_one(tmp_path: Path, text: str, number: float | None) -> None:
    (tmp_path / "f").write_text(text)
    assert read_number(tmp_path / "f") == number


def test_a_device_trees_zero_at_the_end_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("Raspberry Pi 5\0\nmore")
    assert first_line(tmp_path / "model") == "Raspberry Pi 5"


def test_a_program_that_is_missing_or_fails_says_nothing() -> None:
    assert run_command(["edgevit-no-such-program"]) == ""
    assert run_command(["false"]) == ""
    assert run_command(["echo", "temp=1'C"]) == "temp=1'C\n"
