from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from digits_shop import DYNAMIC_WINS, FP32_WINS, STATIC_WINS, Told, assemble_as_if, digits, vit_subject
from onnx import numpy_helper

from edgevit import __version__, assemble, build
from edgevit.assemble import Assembled, gather_evidence
from edgevit.board.preprocess import to_input
from edgevit.board.sensors import describe_machine
from edgevit.bundle import load_bundle
from edgevit.data.batches import prepared
from edgevit.data.pictures import PictureSet
from edgevit.errors import BudgetError, ParityError
from edgevit.policy import Policy
from edgevit.quantize.apply import FOLD_WEIGHTS
from edgevit.recipe import Budget, ExportSpec
from edgevit.results import AccuracyDrop
from edgevit.runtimes import open_session
from edgevit.subject import Subject


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    """An int8-dynamic bundle, chosen among all precisions."""
    with pytest.MonkeyPatch.context() as patch:
        return assemble_as_if(
            tmp_path_factory.mktemp("found") / "bundle", patch, DYNAMIC_WINS, spec=ExportSpec(runtime="onnxruntime")
        )


def top1(logits: np.ndarray, pictures: PictureSet) -> float:
    return 100 * float((logits.argmax(axis=1) == pictures.labels).mean())


def torch_logits(subject: Subject, pictures: PictureSet) -> np.ndarray:
    assert subject.model is not None
    pixels = to_input(prepared(pictures, subject.preprocess), subject.preprocess)
    with torch.no_grad():
        return subject.model(torch.from_numpy(pixels)).numpy()


def bundle_logits(found: Assembled, pictures: PictureSet) -> np.ndarray:
    session = open_session(found.bundle.entry, "onnxruntime", 1, found.bundle.manifest.runtime.session)
    pixels = to_input(prepared(pictures, found.bundle.preprocess), found.bundle.preprocess)
    return np.concatenate([session.run(picture[None]) for picture in pixels])


def test_the_fastest_is_shipped_in_a_bundle_that_loads(found: Assembled) -> None:
    assert (found.verdict.shipped, found.verdict.within_budget) == ("int8-dynamic", True)
    assert [c.precision for c in found.candidates if c.shipped] == ["int8-dynamic"]
    assert all(c.why for c in found.candidates)
    assert load_bundle(found.bundle.path) == found.bundle


def test_the_manifest_says_what_was_made_for_what(found: Assembled) -> None:
    manifest = found.bundle.manifest
    assert manifest.edgevit == __version__
    assert manifest.model.model_dump() == {
        "name": "tiny-vit", "weights": "checkpoint", "input_shape": (1, 1, 32, 32), "classes": 10,
        "trained_on": None,
        "parameters": 2 * 12 * 32**2 + vit_parameters_besides_the_matrices(),
    }  # fmt: skip
    here = describe_machine()
    assert manifest.device.model_dump() == {
        "name": "local", "arch": here["arch"], "threads": 3, "measured_on": here["cpu"],
    }  # fmt: skip
    assert (manifest.precision, manifest.calibration) == ("int8-dynamic", None)
    assert (manifest.runtime.name, manifest.runtime.version) == ("onnxruntime", onnxruntime.__version__)
    assert (manifest.runtime.entry, manifest.runtime.session) == ("model.onnx", FOLD_WEIGHTS)
    assert [hop.hop for hop in manifest.parity] == ["torch -> onnx", "onnx -> rewritten", "fp32 -> int8-dynamic"]
    assert (manifest.golden.cosine, manifest.golden.top1_agreement) == (0.98, 7 / 8)


def vit_parameters_besides_the_matrices() -> int:
    """All but the 12·C² of each block's four weight matrices. Source: the ViT's definition, C = 32 channels."""
    channels, tokens, classes, patch = 32, 17, 10, 8 * 8
    in_blocks = 2 * ((3 + 1 + 4 + 1) * channels + 4 * channels)  # biases of four layers; scale and shift of two norms
    embedding = patch * channels + channels + channels + tokens * channels  # patches, bias, class token, position
    return in_blocks + embedding + 2 * channels + channels * classes + classes  # last norm, head


def test_accuracy_in_the_manifest_is_counted_on_the_test_split(found: Assembled) -> None:
    accuracy = found.bundle.manifest.accuracy
    test = digits().test
    fp32, int8 = torch_logits(vit_subject(), test), bundle_logits(found, test)
    assert accuracy.fp32 == found.fp32_test
    assert accuracy.fp32 is not None
    assert accuracy.artifact is not None
    assert accuracy.drop is not None
    assert (accuracy.fp32.n, accuracy.fp32.top1) == (40, top1(fp32, test))
    assert (accuracy.artifact.n, accuracy.artifact.top1) == (40, top1(int8, test))
    assert accuracy.drop.points == pytest.approx(top1(fp32, test) - top1(int8, test))
    assert accuracy.note == "Measured on the test split."
    assert found.shipped_test is not None
    expected = np.zeros((10, 10), int)
    for label, guess in zip(test.labels, int8.argmax(axis=1), strict=True):
        expected[label, guess] += 1
    assert found.shipped_test.confusion == tuple(map(tuple, expected.tolist()))


def test_golden_pictures_are_those_that_the_artifact_is_surest_of(found: Assembled) -> None:
    logits = bundle_logits(found, digits().test)
    margins = {}
    for index, row in enumerate(logits):
        best, second = sorted(row.tolist(), reverse=True)[:2]
        margins[index] = best - second
    surest = sorted(margins, key=lambda index: -margins[index])[:8]
    with np.load(found.bundle.path / "golden.npz") as golden:
        np.testing.assert_allclose(golden["logits"], logits[surest], rtol=0, atol=1e-5)
        expected = prepared(digits().test.subset(surest), vit_subject().preprocess)
        np.testing.assert_array_equal(golden["images"], expected)


def test_the_bundle_passes_its_own_check(found: Assembled) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "agent.py", "selfcheck"],
        cwd=found.bundle.path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_fp32_is_shipped_where_int8_does_not_pay(assembled: Callable[..., Assembled]) -> None:
    found = assembled(FP32_WINS, precision="auto")
    manifest = found.bundle.manifest
    assert (manifest.precision, manifest.runtime.session) == ("fp32", {})
    assert (manifest.golden.cosine, manifest.golden.top1_agreement) == (0.9999, 1.0)
    assert found.drop is None
    assert found.verdict.sentences[0].startswith("fp32 was shipped because int8-dynamic is 0.50× as fast here")


def test_static_int8_says_what_it_was_calibrated_on(assembled: Callable[..., Assembled]) -> None:
    manifest = assembled(STATIC_WINS, precision="int8-static").bundle.manifest
    assert manifest.precision == "int8-static"
    assert manifest.calibration == "8 pictures: the training split of digits"


def test_random_weights_have_no_accuracy_and_the_bundle_says_why(assembled: Callable[..., Assembled]) -> None:
    subject = vit_subject("random")
    found = assembled(subject=subject, evidence=gather_evidence(subject, digits(), ExportSpec(runtime="onnxruntime")))
    accuracy = found.bundle.manifest.accuracy
    assert (accuracy.fp32, accuracy.artifact, accuracy.drop) == (None, None, None)
    assert accuracy.note == "The weights are random: accuracy means nothing."
    assert (found.fp32_test, found.shipped_test, found.drop) == (None, None, None)
    assert {c.accuracy for c in found.candidates} == {None}
    assert any(
        sentence.startswith("The weights are random: accuracy means nothing") for sentence in found.verdict.sentences
    )


def test_without_labelled_pictures_parity_stands_in(assembled: Callable[..., Assembled]) -> None:
    subject = vit_subject()
    budget = Budget(max_drop=1.0)
    found = assembled(evidence=gather_evidence(subject, None, ExportSpec(runtime="onnxruntime")), budget=budget)
    accuracy = found.bundle.manifest.accuracy
    assert (accuracy.fp32, accuracy.artifact) == (None, None)
    assert accuracy.note == "No labelled pictures were given: parity with fp32 stands in for accuracy."
    assert found.verdict.within_budget is None
    assert any("parity with fp32 stands in" in sentence for sentence in found.verdict.sentences)


def test_a_budget_that_nothing_meets_ends_without_a_bundle(assembled: Callable[..., Assembled], tmp_path: Path) -> None:
    with pytest.raises(
        BudgetError, match=r"No artifact is within the budget\. The nearest is int8-dynamic: it takes 2\.00 ms"
    ):
        assembled(budget=Budget(max_drop=None, max_latency_ms=1.0))
    with pytest.raises(BudgetError, match=r"--max-size-mib"):
        assembled(precision="fp32", budget=Budget(max_drop=None, max_size_mib=0.001))
    assert list(tmp_path.iterdir()) == []


def test_an_fp32_that_says_something_else_ends_without_a_bundle(
    assembled: Callable[..., Assembled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reform = build.reformed

    def ruined(graph: onnx.ModelProto, policy: Policy) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        model, names = reform(graph, policy)
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
        return model, names

    monkeypatch.setattr(build, "reformed", ruined)
    words = r"^The exported fp32 model does not say what its source says: .*onnx -> rewritten.*head"
    with pytest.raises(ParityError, match=words):
        assembled()
    assert list(tmp_path.iterdir()) == []


def test_stages_are_told_in_their_order(assembled: Callable[..., Assembled]) -> None:
    told = Told()
    assembled(progress=told)
    assert told.stages == [
        "Exporting to ONNX", "Rewriting", "Quantizing: int8-dynamic", "Accuracy of fp32", "Accuracy of int8-dynamic",
        "Measuring latency, taking turns", "Accuracy of fp32", "Accuracy of int8-dynamic", "Writing the bundle",
    ]  # fmt: skip


def test_a_drop_on_the_test_pictures_beyond_the_budget_is_said_plainly(
    assembled: Callable[..., Assembled], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = assemble.score

    def unlucky(artifacts: Any, shop: Any, pictures: PictureSet) -> Any:
        scores = measured(artifacts, shop, pictures)
        drop = AccuracyDrop(n=40, points=2.5, ci95=(0.5, 4.5), p_value=0.1)
        return {name: replace(score, drop=drop if score.drop else None) for name, score in scores.items()}

    monkeypatch.setattr(assemble, "score", unlucky)
    verdict = assembled(budget=Budget(max_drop=1.0)).verdict
    assert verdict.within_budget is False
    assert verdict.sentences[-1] == (
        "On the 40 test pictures, unseen until now, int8-dynamic loses 2.50 points: more than the budget of 1.00."
    )
