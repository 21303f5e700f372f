"""The published rows: where they come from, which may calibrate, and that those that test teach nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import total_macs

from edgevit.errors import BadFileError
from edgevit.latency import published
from edgevit.latency.predict import load_predictor, predictor_of, published_rows
from edgevit.latency.published import PublishedRow, PublishedTable, counted_models, load_published, situation_of

CALIBRATING = {
    "resnet18", "mobilenetv1_100", "mobilenet_v2", "efficientnet_b0", "squeezenet1_1", "vit_base_patch32_384",
    "swin_tiny_patch4_window7_224", "deit_small_patch16_224", "mobilevit_xs", "fastvit_t8", "convnext_atto",
}  # fmt: skip
TESTING_BOARDS = {"rpi3b-plus", "jetson-orin-nano", "rk3588"}
TEXT = """\
tables:
- board: My board
  device: rpi5
  runtime: ncnn
  version: '1'
  date: '2026-01-01'
  statistic: mean
  url: https://example.org/table
  note: none
  rows:
  - {model: resnet18@224, precision: fp32, threads: 4, ms: 20, use: tests}
"""


def all_rows() -> list[tuple[PublishedTable, PublishedRow]]:
    return [(table, row) for table in load_published() for row in table.rows]


def test_the_split_is_by_model_and_by_board_as_the_file_says() -> None:
    for table, row in all_rows():
        may_calibrate = row.model.split("@")[0] in CALIBRATING and table.device not in TESTING_BOARDS
        assert row.use == ("calibrates" if may_calibrate else "tests"), (table.board, row)


def test_the_file_names_what_calibrates() -> None:
    text = (published.latencies_folder() / published.PUBLISHED).read_text(encoding="utf-8")
    assert all(name in text.split("tables:")[0] for name in (*CALIBRATING, *TESTING_BOARDS))


def test_every_row_has_a_source() -> None:
    assert all(table.url is not None or table.note.startswith("Measured by edgevit") for table in load_published())


def test_no_row_is_there_twice() -> None:
    keys = [(t.board, t.runtime, row.model, row.precision, row.threads) for t, row in all_rows()]
    assert len(keys) == len(set(keys))


def test_every_row_can_be_timed() -> None:
    for table, row in all_rows():
        situation = situation_of(table, row)
        assert row.threads <= situation.machine.cores
        assert total_macs(situation.operators) > 0


def test_no_machine_computed_above_its_peak() -> None:
    """A figure of clock, threads or unit that is wrong shows here. Winograd's algorithm saves multiplications."""
    for table, row in all_rows():
        situation = situation_of(table, row)
        cluster = situation.machine.clusters[0]
        per_cycle = cluster.int8_ops_per_cycle if "int8" in row.precision else (
            cluster.fp16_flops_per_cycle or cluster.fp32_flops_per_cycle
        )  # fmt: skip
        peak = per_cycle * cluster.clock_mhz * 1e3 * row.threads
        saved = 4 if table.runtime == "ncnn" else 1
        assert 2 * total_macs(situation.operators) / row.ms <= saved * peak, (table.board, row)


@pytest.mark.parametrize(
    ("model", "gmacs"),
    [("resnet18@224", 1.814), ("mobilenet_v2@224", 0.301), ("deit_tiny_patch16_224@224", 1.26), ("vgg16@224", 15.47)],
)
def test_models_have_the_multiply_accumulates_that_are_published_of_them(model: str, gmacs: float) -> None:
    """Source: torchvision's and timm's tables."""
    assert total_macs(counted_models()[model]) / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_rows_that_test_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_predictor(()).fit
    changed = tuple(
        table.model_copy(
            update={"rows": tuple(r.model_copy(update={"ms": 7 * r.ms}) if r.use == "tests" else r for r in table.rows)}
        )
        for table in load_published()
    )
    monkeypatch.setattr("edgevit.latency.predict.load_published", lambda: changed)
    after = predictor_of(published_rows("calibrates"), ()).fit
    assert after.keys == before.keys
    assert np.array_equal(after.mean, before.mean)
    assert after.noise == before.noise


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("ms: 20", "ms: 0", "ms"),
        ("ms: 20", "ms: .nan", "ms"),
        ("threads: 4", "threads: 0", "threads"),
        ("use: tests", "use: trains", "use"),
        ("device: rpi5", "", "needs either a device or a machine"),
        ("url: https", "url: ftp:", "url"),
        ("precision: fp32", "precision: fp64", "precision"),
        ("note: none", "nota: none", "nota"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(TEXT.replace(wrong, right), encoding="utf-8")
    with pytest.raises(BadFileError, match=said) as error:
        load_published(path)
    assert "\n" not in str(error.value)


def test_a_model_that_nobody_counted_is_named(tmp_path: Path) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(TEXT.replace("resnet18@224", "unheard_of@224"), encoding="utf-8")
    (table,) = load_published(path)
    with pytest.raises(BadFileError, match="the model 'unheard_of@224' is not in"):
        situation_of(table, table.rows[0])


@given(st.integers(0, len(TEXT) - 1), st.text(max_size=4))
@settings(max_examples=80, deadline=None)
def test_a_damaged_file_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, place: int, junk: str) -> None:
    path = tmp_path_factory.mktemp("damaged") / "published.yaml"
    path.write_bytes((TEXT[:place] + junk + TEXT[place + 1 :]).encode("utf-8", "surrogatepass"))
    try:
        load_published(path)
    except BadFileError:
        return
