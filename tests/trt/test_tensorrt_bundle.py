from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from digits_shop import OPEN, Told, digits_evidence, vit_subject

from edgevit.assemble import GOLDEN_THRESHOLDS, Assembled, assemble_bundle
from edgevit.bundle import load_bundle
from edgevit.catalog import load_device
from edgevit.errors import EdgevitError
from edgevit.recipe import ExportSpec, ParityThresholds


def assembled(target: Path, **spec: Any) -> Assembled:
    """The tiny ViT's bundle for a Jetson Orin Nano."""
    return assemble_bundle(
        vit_subject(), load_device("jetson-orin-nano"), digits_evidence(), ExportSpec(runtime="tensorrt", **spec), OPEN,
        ParityThresholds(), target, 3, Told(),
    )  # fmt: skip


def test_fp16_is_shipped_where_nothing_could_be_measured_and_int8_stands_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    made = assembled(target)
    assert [candidate.name for candidate in made.candidates] == ["fp32", "fp16", "int8-static"]
    assert [candidate.name for candidate in made.candidates if candidate.shipped] == ["fp16"]
    assert all(candidate.accuracy is not None for candidate in made.candidates)
    assert all(candidate.latency_ms is None for candidate in made.candidates)
    words = " ".join(made.verdict.sentences)
    assert "Its engine is built on the board, by 'agent.py build' or the first bench: nothing of it ran here." in words
    assert "export both, --precision fp16 and int8-static" in words
    manifest = load_bundle(target).manifest
    assert (manifest.precision, manifest.runtime.name, manifest.runtime.version) == ("fp16", "tensorrt", "8.6, 10.3")
    assert manifest.runtime.session == {"tensorrt.precision": "fp16"}
    assert manifest.golden == GOLDEN_THRESHOLDS["fp16"]
    assert manifest.device.measured_on is None
    assert (target / "requirements.txt").read_text().startswith("# TensorRT comes with JetPack")
    assert "def prepare(" in (target / "agent.py").read_text()


def test_int8_is_shipped_where_it_was_asked_for_with_fp16_beside_it(tmp_path: Path) -> None:
    made = assembled(tmp_path / "bundle", precision="int8-static")
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.precision == "int8-static"
    assert manifest.runtime.session == {"tensorrt.precision": "int8"}
    assert manifest.calibration is not None
    assert [candidate.name for candidate in made.candidates] == ["fp32", "fp16", "int8-static"]


def test_a_graph_that_breaks_a_rule_is_no_bundle_and_the_rule_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.tensorrt.check.FLOAT16_MAX", 0.0)
    with pytest.raises(EdgevitError, match=r"No artifact can be shipped: fp16: TensorRT rule 'half-range'"):
        assembled(tmp_path / "bundle", precision="fp16")
    assert not (tmp_path / "bundle").exists()
