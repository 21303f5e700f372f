from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.positions import fold_class_token

PATCHES, WIDTH = 4, 3


@settings(max_examples=15, deadline=None)
@given(before=st.integers(0, 2), after=st.integers(0, 1), axis=st.sampled_from([1, -2]), is_left=st.booleans())
def test_constant_tokens_get_their_positions_beforehand(before: int, after: int, axis: int, is_left: bool) -> None:
    sketch = Sketch((1, PATCHES, WIDTH))
    parts = [*(sketch.noise(1, 1, WIDTH) for _ in range(before)), "input"]
    parts += [sketch.noise(1, 1, WIDTH) for _ in range(after)]
    tokens, positions = sketch.op("Concat", *parts, axis=axis), sketch.noise(1, PATCHES + before + after, WIDTH)
    total = sketch.op("Add", *((positions, tokens) if is_left else (tokens, positions)))
    folded = rewritten_same(fold_class_token, model := sketch.model(sketch.op("Relu", total)), 0.0)
    assert (folded is model) == (before + after == 0)
    assert [node.op_type for node in folded.graph.node][-2 if before + after else -3] == "Concat"


def test_the_class_token_s_constant_is_its_sum_with_the_first_position() -> None:
    sketch = Sketch((1, 1, 2))
    tokens = sketch.op("Concat", sketch.constant([[[1.0, 2.0]]]), "input", axis=1)
    folded = fold_class_token(sketch.model(sketch.op("Add", tokens, sketch.constant([[[10.0, 20.0], [30.0, 40.0]]]))))
    arrays = [onnx.numpy_helper.to_array(tensor).tolist() for tensor in folded.graph.initializer]
    assert sorted(arrays) == [[[[11.0, 22.0]]], [[[30.0, 40.0]]]]


def test_a_bias_of_all_tokens_and_a_sum_read_elsewhere_stay() -> None:
    sketch = Sketch((1, PATCHES, WIDTH))
    tokens = sketch.op("Concat", sketch.noise(1, 1, WIDTH), "input", axis=1)
    model = sketch.model(sketch.op("Add", tokens, sketch.noise(WIDTH)))
    assert fold_class_token(model) is model
    twice = Sketch((1, PATCHES, WIDTH))
    tokens = twice.op("Concat", twice.noise(1, 1, WIDTH), "input", axis=1)
    model = twice.model(twice.op("Add", tokens, twice.noise(1, PATCHES + 1, WIDTH)), twice.op("Relu", tokens))
    assert fold_class_token(model) is model


def test_a_batch_of_pictures_shares_its_class_token_only_by_name() -> None:
    """A class token per picture is no single constant row: its positions are broadcast, and the sum is still exact."""
    sketch = Sketch((2, PATCHES, WIDTH))
    tokens = sketch.op("Concat", sketch.constant(np.ones((2, 1, WIDTH))), "input", axis=1)
    rewritten_same(fold_class_token, sketch.model(sketch.op("Add", tokens, sketch.noise(1, PATCHES + 1, WIDTH))), 0.0)


def test_real_graphs_keep_their_bits(family: str, family_graph: onnx.ModelProto) -> None:
    folded = rewritten_same(fold_class_token, family_graph, 0.0)
    assert (folded is not family_graph) == (family in ("vit", "deit distilled"))
    assert kinds(folded) == kinds(family_graph)
