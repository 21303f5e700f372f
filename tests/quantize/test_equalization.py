from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import constants_of, model_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from tiny_models import op_types, run_graph, vit_graph

from edgevit.quantize.equalization import equalize, has_pairs


def convolutions(
    between: tuple[str, ...] = ("Relu", "Relu"), groups: int = 4, seed: int = 0, bias: bool = True
) -> onnx.ModelProto:
    """(1, 3, 6, 6): 'one' 1x1 to 4 channels, 'two' 3x3 in groups, 'three' 1x1 to 2; channels of uneven ranges."""
    rng = np.random.default_rng(seed)
    shapes = {"one": (4, 3, 1, 1), "two": (4, 4 // groups, 3, 3), "three": (2, 4, 1, 1)}
    constants: dict[str, NDArray[np.generic]] = {}
    nodes, value = [], "input"
    for index, (name, shape) in enumerate(shapes.items()):
        uneven = 10.0 ** rng.uniform(-1.5, 1.5, (shape[0], 1, 1, 1))
        constants[f"w_{name}"] = (rng.normal(size=shape) * uneven).astype(np.float32)
        inputs = [value, f"w_{name}"]
        if bias:
            constants[f"b_{name}"] = rng.normal(size=shape[0]).astype(np.float32)
            inputs.append(f"b_{name}")
        group = groups if name == "two" else 1
        value = f"{name}_out" if index < 2 else "logits"
        nodes.append(helper.make_node("Conv", inputs, [value], name=name, group=group))
        if index < 2 and between[index]:
            nodes.append(helper.make_node(between[index], [value], [f"{name}_act"], name=f"{name}_act"))
            value = f"{name}_act"
    return model_of(nodes, constants, (1, 3, 6, 6))


def ranges_between(model: onnx.ModelProto, first: str, second: str, groups: int) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    """Largest weight of each channel in between, as it is made and as it is read; one group of the reader at a time."""
    constants = constants_of(model)
    made = np.abs(constants[f"w_{first}"]).max(axis=(1, 2, 3))
    parts = np.split(np.abs(constants[f"w_{second}"]), groups)
    return made, np.concatenate([part.max(axis=(0, 2, 3)) for part in parts])


def test_convolutions_that_follow_each_other_are_pairs() -> None:
    assert has_pairs(convolutions())


def test_two_channels_by_hand() -> None:
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["middle"], name="one"),
        helper.make_node("Conv", ["middle", "w2"], ["logits"], name="two"),
    ]
    constants = {
        "w1": np.array([8.0, 1.0], np.float32).reshape(2, 1, 1, 1), "b1": np.array([4.0, 4.0], np.float32),
        "w2": np.array([[2.0, 9.0]], np.float32).reshape(1, 2, 1, 1),
    }  # fmt: skip
    found = constants_of(equalize(model_of(nodes, dict(constants), (1, 1, 2, 2))))
    # s = sqrt(8/2) = 2 and sqrt(1/9) = 1/3: both channels get sqrt(8·2) = 4 and sqrt(1·9) = 3 on either side
    assert found["w1"].ravel() == pytest.approx([4.0, 3.0])
    assert found["w2"].ravel() == pytest.approx([4.0, 3.0])
    assert found["b1"] == pytest.approx([2.0, 12.0])


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.sampled_from(["", "Relu", "LeakyRelu", "Identity"])] * 2),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 1000),
    st.booleans(),
)
def test_the_function_stays_the_same_and_ranges_meet(
    between: tuple[str, str], groups: int, seed: int, bias: bool
) -> None:
    model = convolutions(between, groups, seed, bias)
    before = model.SerializeToString()
    found = equalize(model)
    assert model.SerializeToString() == before
    assert op_types(found) == op_types(model)
    pixels = np.random.default_rng(seed).normal(size=(1, 3, 6, 6)).astype(np.float32)
    expected = run_graph(model, pixels)
    np.testing.assert_allclose(run_graph(found, pixels), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    for first, second, count in (("one", "two", groups), ("two", "three", 1)):
        made, read = ranges_between(found, first, second, count)
        np.testing.assert_allclose(made, read, rtol=0.02)


@pytest.mark.parametrize("between", [("Sigmoid", "Sigmoid"), ("Tanh", "Softplus")])
def test_functions_that_do_not_scale_are_not_crossed(between: tuple[str, str]) -> None:
    model = convolutions(between)
    assert equalize(model) is model
    assert not has_pairs(model)


def test_relu6_is_not_crossed() -> None:
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], name="one"),
        helper.make_node("Clip", ["a", "zero", "six"], ["b"], name="relu6"),
        helper.make_node("Conv", ["b", "w2"], ["logits"], name="two"),
    ]
    kernel = np.ones((1, 1, 1, 1), np.float32)
    constants = {"w1": kernel, "w2": kernel * 5, "zero": np.float32(0), "six": np.float32(6)}
    model = model_of(nodes, {name: np.asarray(array) for name, array in constants.items()})
    assert equalize(model) is model
    assert not has_pairs(model)


def test_a_value_that_others_read_is_not_scaled() -> None:
    kernel = np.full((1, 1, 1, 1), 3.0, np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], name="one"),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="two"),
        helper.make_node("Add", ["a", "b"], ["logits"], name="residual"),
    ]
    model = model_of(nodes, {"w1": kernel, "w2": kernel / 9})
    assert equalize(model) is model
    assert not has_pairs(model)


def test_two_convolutions_that_share_a_kernel_keep_the_function() -> None:
    kernel = np.array([[3.0, 0.1], [0.2, 40.0]], np.float32).reshape(2, 2, 1, 1)
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], name="one"),
        helper.make_node("Conv", ["a", "w"], ["logits"], name="two"),
    ]
    model = model_of(nodes, {"w": kernel}, (1, 2, 3, 3))
    pixels = np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(run_graph(equalize(model), pixels), run_graph(model, pixels), rtol=1e-4)


def test_dead_channels_are_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], name="one"),
        helper.make_node("Conv", ["a", "w2"], ["logits"], name="two"),
    ]
    first = np.array([0.0, 2.0], np.float32).reshape(2, 1, 1, 1)
    second = np.array([[5.0, 0.0]], np.float32).reshape(1, 2, 1, 1)
    found = constants_of(equalize(model_of(nodes, {"w1": first, "w2": second})))
    assert found["w1"].ravel().tolist() == [0.0, 2.0]
    assert found["w2"].ravel().tolist() == [5.0, 0.0]


def test_a_model_without_such_pairs_is_itself() -> None:
    model = vit_graph()
    assert equalize(model) is model
    assert not has_pairs(model)
