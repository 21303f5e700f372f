from __future__ import annotations

import math

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same
from tiny_models import mobilevit_graph, vit_graph

from edgevit.rewrite.channels_last import TO_FIRST, TO_LAST, move_channels_as_vectors
from edgevit.rewrite.layout import remove_dead_layout

C, H, W, PATCH = 6, 4, 8, 2
PIXELS, PATCHES = PATCH * PATCH, (H // PATCH) * (W // PATCH)


def unfolded(sketch: Sketch, x: str, shape: tuple[int, int, int] = (C, H, W), patch: int = PATCH) -> str:
    """(1, C, H, W) -> (patch pixels, patches, C), as timm's MobileViT writes it."""
    c, h, w = shape
    rows, columns = h // patch, w // patch
    x = sketch.op("Reshape", x, sketch.numbers(c * rows, patch, columns, patch))
    x = sketch.op("Transpose", x, perm=[0, 2, 1, 3])
    x = sketch.op("Reshape", x, sketch.numbers(1, c, rows * columns, patch * patch))
    x = sketch.op("Transpose", x, perm=[0, 3, 2, 1])
    return sketch.op("Reshape", x, sketch.numbers(patch * patch, rows * columns, c))


def folded(sketch: Sketch, x: str, shape: tuple[int, int, int] = (C, H, W), patch: int = PATCH) -> str:
    """The way back."""
    c, h, w = shape
    rows, columns = h // patch, w // patch
    x = sketch.op("Reshape", x, sketch.numbers(1, patch * patch, rows * columns, c))
    x = sketch.op("Transpose", x, perm=[0, 3, 2, 1])
    x = sketch.op("Reshape", x, sketch.numbers(c * rows, columns, patch, patch))
    x = sketch.op("Transpose", x, perm=[0, 2, 1, 3])
    return sketch.op("Reshape", x, sketch.numbers(1, c, h, w))


def orders(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    return [tuple(node.attribute[0].ints) for node in model.graph.node if node.op_type == "Transpose"]


def between_activations(sketch: Sketch, x: str) -> onnx.ModelProto:
    return sketch.model(sketch.op("Relu", x))


def test_an_unfold_becomes_channels_last_and_a_permutation_of_vectors() -> None:
    sketch = Sketch((1, C, H, W))
    result = rewritten_same(move_channels_as_vectors, between_activations(sketch, unfolded(sketch, "input")), 0.0)
    first, second = orders(result)
    assert first == TO_LAST
    assert second[-1] == len(second) - 1  # channels stay where they are
    assert kinds(result) == {"Transpose": 2, "Reshape": 2, "Relu": 1}


def test_a_fold_is_a_permutation_of_vectors_and_then_channels_first() -> None:
    sketch = Sketch((PIXELS, PATCHES, C))
    result = rewritten_same(move_channels_as_vectors, between_activations(sketch, folded(sketch, "input")), 0.0)
    first, second = orders(result)
    assert first[-1] == len(first) - 1
    assert second == TO_FIRST
    assert kinds(result) == {"Transpose": 2, "Reshape": 2, "Relu": 1}


def test_a_round_trip_moves_every_value_back() -> None:
    sketch = Sketch((1, C, H, W))
    rows = sketch.op("Relu", unfolded(sketch, sketch.op("Tanh", "input")))
    model = between_activations(sketch, folded(sketch, rows))
    assert kinds(rewritten_same(move_channels_as_vectors, model, 0.0))["Transpose"] == 4


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 5),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    patch=st.integers(1, 3),
    start=st.sampled_from(["unfold", "fold", "both"]),
    is_short=st.booleans(),
)
def test_any_unfold_and_fold_keeps_its_bits(
    channels: int, rows: int, columns: int, patch: int, start: str, is_short: bool
) -> None:
    """is_short: after the rewrite that makes one Transpose of each chain, as in an export."""
    shape = (channels, rows * patch, columns * patch)
    if start == "fold":
        sketch = Sketch((patch * patch, rows * columns, channels))
        x = folded(sketch, "input", shape, patch)
    else:
        sketch = Sketch((1, *shape))
        x = unfolded(sketch, "input", shape, patch)
        x = folded(sketch, sketch.op("Relu", x), shape, patch) if start == "both" else x
    model = between_activations(sketch, x)
    rewritten_same(move_channels_as_vectors, remove_dead_layout(model) if is_short else model, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.just(1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    steps=st.lists(st.tuples(st.booleans(), st.permutations([0, 1, 2, 3])), min_size=1, max_size=4),
)
def test_any_chain_of_layout_keeps_its_bits(shape: tuple[int, ...], steps: list[tuple[bool, list[int]]]) -> None:
    """A step: a permutation of the axes, or a Reshape to the original sizes in that order."""
    sketch, x, now = Sketch(shape), "input", shape
    for is_reshape, order in steps:
        if is_reshape:
            now = tuple(shape[axis] for axis in order)
            x = sketch.op("Reshape", x, sketch.numbers(*now))
        else:
            now = tuple(now[axis] for axis in order)
            x = sketch.op("Transpose", x, perm=order)
    assert math.prod(now) == math.prod(shape)
    rewritten_same(move_channels_as_vectors, between_activations(sketch, x), 0.0)


def test_a_mobilevits_block_is_entered_and_left_by_vectors() -> None:
    model = remove_dead_layout(mobilevit_graph())
    result = rewritten_same(move_channels_as_vectors, model, 0.0)
    found = orders(result)
    assert found.count(TO_LAST) == orders(model).count(TO_LAST) + 1
    assert found.count(TO_FIRST) == orders(model).count(TO_FIRST) + 1
    assert len(found) == len(orders(model)) + 2


def unfold_for_the_output(sketch: Sketch) -> onnx.ModelProto:
    return sketch.model(unfolded(sketch, "input"))


def already_channels_last(sketch: Sketch) -> onnx.ModelProto:
    return between_activations(sketch, sketch.op("Transpose", "input", perm=list(TO_LAST)))


def channels_in_two_parts(sketch: Sketch) -> onnx.ModelProto:
    """A channel shuffle: what moves are pixels' maps, not vectors of channels."""
    x = sketch.op("Reshape", "input", sketch.numbers(1, 2, C // 2, H, W))
    x = sketch.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    return between_activations(sketch, sketch.op("Reshape", x, sketch.numbers(1, C, H, W)))


def no_layout(sketch: Sketch) -> onnx.ModelProto:
    return between_activations(sketch, "input")


@pytest.mark.parametrize("make", [unfold_for_the_output, already_channels_last, channels_in_two_parts, no_layout])
def test_what_is_no_unfold_between_operators_is_left_alone(make) -> None:  # type: ignore[no-untyped-def]
    model = make(Sketch((1, C, H, W)))
    assert move_channels_as_vectors(model) is model


def test_more_than_one_picture_and_a_vit_are_left_alone() -> None:
    sketch = Sketch((2, C, H, W))
    x = sketch.op("Reshape", "input", sketch.numbers(2 * C, H // 2, 2, W))
    model = between_activations(sketch, sketch.op("Transpose", x, perm=[2, 3, 1, 0]))
    assert move_channels_as_vectors(model) is model
    vit = vit_graph()
    assert move_channels_as_vectors(vit) is vit


def windows(sketch: Sketch, x: str, channels: int, rows: int, columns: int, side: int, is_cut: bool) -> str:
    """(1, C, rows · side, columns · side) -> (rows · columns, C, side, side), or the way back."""
    if is_cut:
        x = sketch.op("Reshape", x, sketch.numbers(channels, rows, side, columns, side))
        x = sketch.op("Transpose", x, perm=[1, 3, 0, 2, 4])
        return sketch.op("Reshape", x, sketch.numbers(rows * columns, channels, side, side))
    x = sketch.op("Reshape", x, sketch.numbers(rows, columns, channels, side, side))
    x = sketch.op("Transpose", x, perm=[2, 0, 3, 1, 4])
    return sketch.op("Reshape", x, sketch.numbers(1, channels, rows * side, columns * side))


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(2, 5), rows=st.integers(1, 3), columns=st.integers(1, 3), side=st.integers(1, 4),
    is_cut=st.booleans(),
)  # fmt: skip
def test_windows_of_any_size_keep_their_values(channels: int, rows: int, columns: int, side: int, is_cut: bool) -> None:
    shape = (1, channels, rows * side, columns * side) if is_cut else (rows * columns, channels, side, side)
    sketch = Sketch(shape)
    y = windows(sketch, sketch.op("Tanh", "input"), channels, rows, columns, side, is_cut)
    rewritten_same(move_channels_as_vectors, between_activations(sketch, y), 0.0)


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_picture_is_cut_into_windows_by_whole_vectors_of_channels(is_cut: bool) -> None:
    sketch = Sketch((1, 6, 4, 6) if is_cut else (6, 6, 2, 2))
    y = windows(sketch, sketch.op("Tanh", "input"), 6, 2, 3, 2, is_cut)
    first, second, third = orders(rewritten_same(move_channels_as_vectors, between_activations(sketch, y), 0.0))
    assert (first, third) == (TO_LAST, TO_FIRST)
    assert second[-1] == len(second) - 1
