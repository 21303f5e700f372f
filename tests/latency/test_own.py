"""The user's own rows: kept whole, without doubles, and refused in a line when they are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import MACHINE

from edgevit.errors import BadFileError
from edgevit.latency.own import OwnRow, own_path, read_own, with_rows, write_own

ROW = OwnRow(
    model="deit@224", precision="int8-dynamic", device="rpi5", host="pi-1", runtime="onnxruntime",
    runtime_version="1.31.1", threads=4, artifact_sha256="ab" * 32, p50_ms=31.5, machine=MACHINE,
    operators=(("linear", "int8", 1000, 100, 50, 2), ("nonlinear", "fp32", 0, 0, 50, 1)),
)  # fmt: skip


def test_nothing_is_known_before_the_first_report() -> None:
    assert read_own() == ()


def test_rows_are_read_as_they_were_written(settings_folder: Path) -> None:
    assert write_own((ROW,)) == settings_folder / "edgevit" / "latencies.json"
    assert read_own() == (ROW,)
    assert [path.name for path in own_path().parent.iterdir()] == ["latencies.json"]


def test_a_relative_settings_folder_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    assert own_path() == Path.home() / ".config" / "edgevit" / "latencies.json"


def test_a_later_measurement_of_the_same_replaces_the_earlier() -> None:
    again = ROW.model_copy(update={"p50_ms": 29.0})
    elsewhere = ROW.model_copy(update={"host": "pi-2"})
    assert with_rows((ROW, elsewhere), (again,)) == (again, elsewhere)


def test_a_row_is_a_situation_of_its_own() -> None:
    situation = ROW.situation
    assert (situation.board, situation.runtime, situation.threads) == ("rpi5", "onnxruntime", 4)
    assert situation.operators[0].macs == 1000
    assert situation.operators[0].count == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON."),
        ("[" * 100_000, "latencies.json"),
        ("[]", "latencies.json"),
        ('{"rows": [{}]}', "rows.0.model"),
        ('{"schema_version": 99, "rows": []}', "99 is newer than 1"),
        ('{"rows": [], "extra": 1}', "extra"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_to_do(text: str, said: str) -> None:
    write_own(())
    own_path().write_text(text)
    with pytest.raises(BadFileError) as error:
        read_own()
    assert said in str(error.value)
    assert str(error.value).endswith("Mend it, or remove it and calibrate again.")
    assert "\n" not in str(error.value)


def test_a_folder_in_its_place_is_one_line() -> None:
    own_path().mkdir(parents=True)
    with pytest.raises(BadFileError, match="cannot be read"):
        read_own()
    with pytest.raises(BadFileError, match="cannot be written"):
        write_own((ROW,))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_bytes_that_change_are_refused_or_read(data: st.DataObject) -> None:
    write_own((ROW,))
    raw = bytearray(own_path().read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    own_path().write_bytes(bytes(raw))
    try:
        rows = read_own()
    except BadFileError:
        return
    json.dumps([row.model_dump(mode="json") for row in rows], allow_nan=False)
