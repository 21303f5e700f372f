from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, constants_of, linear_model, model_of, preset
from numpy.typing import NDArray
from onnx import helper
from tiny_models import VIT_SHAPE, is_sorted, mobilevit_graph, op_types, random_pixels, run_graph, vit_graph

from edgevit.errors import EdgevitError
from edgevit.quantize import dynamic
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.quantize.weight_only import store_weights_as_int8

WEIGHT = np.array([[2.0, 8.0, 0.5], [-1.0, 1.0, -0.25]], np.float32)
BIAS = np.array([0.5, -1.0, 0.0], np.float32)


def int8_product(pixels: NDArray[np.float32], largest: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """pixels (1, n) times WEIGHT, both in 8 bits. Source: ONNX, DynamicQuantizeLinear (halves go to the even code)."""
    low, high = min(0.0, pixels.min()), max(0.0, pixels.max())
    scale = (high - low) / 255
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes = np.clip(np.rint(pixels / scale) + zero, 0, 255)
    weight_scale = largest / steps
    weights = np.rint(WEIGHT / weight_scale)
    return (codes - zero) @ weights * scale * weight_scale


@pytest.mark.parametrize(
    ("per_channel", "reduce_range", "largest", "steps"),
    [
        (True, False, np.array([2.0, 8.0, 0.5]), 127),
        (False, False, np.array([8.0]), 127),
        (True, True, np.array([2.0, 8.0, 0.5]), 64),
    ],
)
@pytest.mark.parametrize("bias", [None, BIAS])
def test_the_result_is_that_of_8_bit_pictures_and_weights(
    per_channel: bool, reduce_range: bool, largest: NDArray[np.float64], steps: int, bias: NDArray[np.float32] | None
) -> None:
    model = linear_model(WEIGHT, bias)
    found = quantize_dynamic(model, ["linear"], preset(per_channel=per_channel, reduce_range=reduce_range))
    onnx.checker.check_model(found, full_check=True)
    pixels = np.array([[-0.7, 1.9]], np.float32)
    expected = int8_product(pixels, largest, steps) + (0.0 if bias is None else bias)
    np.testing.assert_allclose(run_graph(found, pixels.reshape(1, 1, 1, 2)), expected, rtol=1e-5, atol=1e-6)


def test_only_linear_layers_of_a_vit_multiply_in_int8() -> None:
    model = vit_graph()
    found = quantize_dynamic(model, quantizable_nodes(model).linear, preset())
    onnx.checker.check_model(found)
    assert is_sorted(found)
    types = op_types(found)
    assert types.count("MatMulInteger") == len(quantizable_nodes(model).linear) == 9
    assert types.count("MatMul") == 4  # attention's products
    assert (types.count("Conv"), types.count("ConvInteger"), types.count("Gemm")) == (1, 0, 0)
    for kind in ("LayerNormalization", "Softmax", "Erf"):
        assert types.count(kind) == op_types(model).count(kind)


def test_weights_are_signed_and_the_input_unsigned_whatever_the_preset_says_of_them() -> None:
    found = quantize_dynamic(linear_model(WEIGHT), ["linear"], preset("int8", "uint8"))
    assert constants_of(found)["weight_quantized"].dtype == np.int8
    assert op_types(found).count("DynamicQuantizeLinear") == 1


def test_reduce_range_keeps_weights_within_seven_bits() -> None:
    model = vit_graph()
    found = quantize_dynamic(model, quantizable_nodes(model).linear, preset(reduce_range=True))
    codes = [array.astype(int) for array in constants_of(found).values() if array.dtype == np.int8 and array.ndim == 2]
    assert len(codes) == 9
    assert {np.abs(array).max() for array in codes} == {64}


def test_layers_that_were_not_named_stay_float() -> None:
    model = vit_graph()
    chosen = quantizable_nodes(model).linear[:2]
    assert op_types(quantize_dynamic(model, chosen, preset())).count("MatMulInteger") == 2


def test_a_quantized_vit_says_nearly_the_same_and_the_given_model_is_as_it_was() -> None:
    model = vit_graph()
    before = model.SerializeToString()
    found = quantize_dynamic(model, quantizable_nodes(model).linear, preset())
    pixels = random_pixels(VIT_SHAPE)
    expected, logits = run_graph(model, pixels)[0], run_graph(found, pixels)[0]
    assert np.dot(expected, logits) / np.linalg.norm(expected) / np.linalg.norm(logits) > 0.999
    assert model.SerializeToString() == before


def test_a_dynamic_batch_stays_dynamic() -> None:
    model = vit_graph(dynamic_batch=True)
    found = quantize_dynamic(model, quantizable_nodes(model).linear, preset())
    assert run_graph(found, random_pixels((3, *VIT_SHAPE[1:]))).shape == (3, 10)


def test_after_static_int8_convolutions_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    model = mobilevit_graph()
    nodes = quantizable_nodes(model)
    seen = [random_pixels((1, 3, 64, 64))]
    mixed = quantize_static(model, nodes.conv, activation_ranges(model, seen, nodes.conv), preset())
    level = logging.getLogger().level
    found = quantize_dynamic(mixed, nodes.linear, preset())
    assert [record for record in caplog.records if record.name == "root"] == []
    assert logging.getLogger().level == level
    onnx.checker.check_model(found)
    assert is_sorted(found)
    types = op_types(found)
    assert types.count("MatMulInteger") == len(nodes.linear)
    assert types.count("Conv") == len(nodes.conv)
    assert np.isfinite(run_graph(found, seen[0])).all()


def test_what_the_quantizer_cannot_do_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise KeyError("weight")

    monkeypatch.setattr(dynamic.ONNXQuantizer, "quantize_model", fail)
    level = logging.getLogger().level
    with pytest.raises(EdgevitError, match=r"^ONNX Runtime cannot quantize this model: KeyError 'weight'$"):
        quantize_dynamic(linear_model(WEIGHT), ["linear"], preset())
    assert logging.getLogger().level == level


def deit_tiny_sized() -> onnx.ModelProto:
    """The parameters of DeiT-Ti/16 at 224 px (5.7 M) where it has them; what needs none is left out."""
    rng = np.random.default_rng(0)
    constants: dict[str, NDArray[np.generic]] = {}

    def constant(name: str, *shape: int) -> str:
        constants[name] = rng.normal(size=shape).astype(np.float32)
        return name

    nodes = [
        helper.make_node("Conv", ["input", constant("patches", 192, 3, 16, 16)], ["maps"], "embed", strides=[16, 16]),
        helper.make_node("Reshape", ["maps", "shape"], ["flat"], "flat"),
        helper.make_node("Transpose", ["flat"], ["tokens"], "tokens", perm=[0, 2, 1]),
        helper.make_node("Add", ["tokens", constant("position", 1, 196, 192)], ["x"], "position"),
    ]
    constants["shape"] = np.array([1, 192, 196])
    last = "x"
    for block in range(12):
        for layer, (inputs, outputs) in enumerate([(192, 576), (192, 192), (192, 768), (768, 192)]):
            name = f"{block}.{layer}"
            if layer == 1:  # attention reads 576 channels and gives 192
                nodes.append(
                    helper.make_node(
                        "Split", [last], [f"{name}.q", f"{name}.k", f"{name}.v"], f"{name}.split", axis=2, num_outputs=3
                    )
                )
                last = f"{name}.q"
            weight, bias = constant(f"{name}.weight", inputs, outputs), constant(f"{name}.bias", outputs)
            nodes.append(helper.make_node("MatMul", [last, weight], [f"{name}.product"], f"{name}.linear"))
            nodes.append(helper.make_node("Add", [f"{name}.product", bias], [f"{name}.out"], f"{name}.add"))
            last = f"{name}.out"
    nodes += [
        helper.make_node("ReduceMean", [last, "axes"], ["pooled"], "pool", keepdims=0),
        helper.make_node(
            "Gemm", ["pooled", constant("head", 192, 1000), constant("head_bias", 1000)], ["logits"], "head"
        ),
    ]
    constants["axes"] = np.array([1])
    return model_of(nodes, constants, (1, 3, 224, 224))


def test_an_int8_deit_tiny_takes_at_most_28_percent_of_its_float_bytes() -> None:
    model = deit_tiny_sized()
    assert 5.5e6 < sum(array.size for array in constants_of(model).values()) < 5.8e6
    nodes = quantizable_nodes(model)
    assert (len(nodes.linear), len(nodes.conv)) == (49, 1)
    found = store_weights_as_int8(quantize_dynamic(model, nodes.linear, preset()), nodes.conv)
    assert found.ByteSize() / model.ByteSize() <= 0.28
