"""Graphs whose tensors have fewer rows than the reference's, as after the rewrite for the class token alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.export.diverge import first_diverging_layer

TOKENS, WIDTH = 5, 8
PIXELS = np.random.default_rng(7).normal(size=(3, 1, TOKENS, WIDTH)).astype(np.float32)


def graph(path: Path, rows: Sequence[int], factor: float = 2.0, later: float = 3.0) -> Path:
    """Tokens (1, 1, 5, 8); of those in `rows`, 'doubled' by `factor`, then 'tripled', of which the first is classified.

    All tokens, or, where fewer are asked for, a Gather of them first.
    """
    nodes = [helper.make_node("Relu", ["input"], ["relu"], name="relu")]
    source = "relu"
    if len(rows) != TOKENS or list(rows) != list(range(TOKENS)):
        nodes.append(helper.make_node("Gather", ["relu", "rows"], ["some"], name="gather", axis=2))
        source = "some"
    nodes += [
        helper.make_node("Mul", [source, "factor"], ["doubled"], name="double"),
        helper.make_node("Mul", ["doubled", "later"], ["tripled"], name="triple"),
        helper.make_node("Gather", ["tripled", "first"], ["logits"], name="pick", axis=2),
    ]
    constants = {
        "rows": np.array(rows), "factor": np.array(factor, np.float32), "later": np.array(later, np.float32),
        "first": np.array([0]),
    }  # fmt: skip
    made = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, TOKENS, WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, 1, WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return graph(tmp_path / "reference.onnx", range(TOKENS))


@pytest.mark.parametrize("rows", [[0], [0, 1, 2]])
def test_the_first_rows_are_compared_with_the_first_rows(tmp_path: Path, reference: Path, rows: list[int]) -> None:
    narrowed = graph(tmp_path / "narrowed.onnx", rows)
    assert first_diverging_layer(reference, narrowed, PIXELS) == "output"


def test_a_narrowed_layer_that_is_damaged_is_named(tmp_path: Path, reference: Path) -> None:
    assert first_diverging_layer(reference, graph(tmp_path / "a.onnx", [0], factor=-2.0), PIXELS) == "Mul 'doubled'"
    assert first_diverging_layer(reference, graph(tmp_path / "b.onnx", [0], later=-3.0), PIXELS) == "Mul 'tripled'"


def test_other_rows_are_not_the_same(tmp_path: Path, reference: Path) -> None:
    assert first_diverging_layer(reference, graph(tmp_path / "others.onnx", [3, 4]), PIXELS) == "Mul 'doubled'"


def test_a_tensor_that_grew_is_another_one(tmp_path: Path) -> None:
    """Only fewer rows are expected of a rewrite: more of them mean another graph."""
    narrow, whole = graph(tmp_path / "narrow.onnx", [0]), graph(tmp_path / "whole.onnx", range(TOKENS))
    assert first_diverging_layer(narrow, whole, PIXELS) == "Mul 'doubled'"
