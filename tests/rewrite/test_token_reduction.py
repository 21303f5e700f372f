"""What pruning and merging share: graphs that other rewrites leave, that cannot be reduced, and INT8 on top."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from block_net import TOKENS, WIDTH, Net
from tiny_models import op_types, random_pixels, run_graph
from token_vits import SHAPE, exported, reduced_logits

from edgevit.device import QuantizationPreset
from edgevit.errors import InputError
from edgevit.policy import TokenMethod, TokenReduction
from edgevit.quantize.calibration import observe_activations, ranges_by
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.rewrite import apply_rewrites
from edgevit.rewrite.class_token import compute_last_block_for_class_token
from edgevit.rewrite.merge_tokens import merge_tokens
from edgevit.rewrite.prune_tokens import prune_tokens
from edgevit.verify import cosine

METHODS: tuple[TokenMethod, ...] = ("prune", "fuse", "merge")
PRESET = QuantizationPreset(
    precision="auto", activation="uint8", weight="int8", per_channel=True, reduce_range=True, symmetric=False,
    why="A test.",
)  # fmt: skip


def reduced(model: onnx.ModelProto, method: TokenMethod, *removed: int) -> onnx.ModelProto:
    reduction = TokenReduction(method=method, removed=removed)
    return merge_tokens(model, reduction) if method == "merge" else prune_tokens(model, reduction)


def optimized_types(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """What ONNX Runtime makes of the graph, by operator."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(op_types(onnx.load(folder / "optimized.onnx")))


@pytest.mark.parametrize("method", METHODS)
def test_every_shape_behind_the_reduction_is_known(method: TokenMethod) -> None:
    model = reduced(exported("vit"), method, 2, 3)
    known = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for name in node.output:
            assert all(dim.dim_value > 0 for dim in known[name].type.tensor_type.shape.dim), name


@pytest.mark.parametrize("method", METHODS)
def test_operators_that_onnx_does_not_know_keep_their_place(method: TokenMethod) -> None:
    model = reduced(Net().model(), method, 1)
    shapes = {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in model.graph.value_info}
    gelus = [shapes[node.output[0]] for node in model.graph.node if node.op_type == "QuickGelu"]
    assert gelus == [[1, TOKENS - 1, 2 * WIDTH]] * 2
    pixels = random_pixels((1, WIDTH, 2, 2))
    narrowed = compute_last_block_for_class_token(model)
    np.testing.assert_allclose(run_graph(narrowed, pixels), run_graph(model, pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_scores_with_a_bias_by_position_are_refused(method: TokenMethod) -> None:
    with pytest.raises(InputError) as caught:
        reduced(Net(bias_by_position=True).model(), method, 1)
    message = str(caught.value)
    assert message.startswith("This model cannot do with fewer tokens: an operator needs them all ((op_type:Add")
    assert "\n" not in message


@pytest.mark.parametrize("method", METHODS)
def test_tokens_that_are_laid_out_as_a_picture_again_are_refused(method: TokenMethod) -> None:
    net = Net()
    whole = next(name for node in reversed(net.nodes) if node.op_type == "Add" for name in node.output)
    net.last = net.op("Reshape", whole, net.ints(1, TOKENS * WIDTH))
    model = net.model()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = TOKENS * WIDTH
    with pytest.raises(InputError, match=r"^This model cannot do with fewer tokens: .* \(Reshape Reshape_\d+\)\.$"):
        reduced(model, method, 1)


@pytest.mark.parametrize("method", METHODS)
def test_dynamic_int8_keeps_its_biases_fused(method: TokenMethod, tmp_path: Path) -> None:
    model = exported("vit")
    small = reduced(model, method, 2, 3)
    nodes = quantizable_nodes(small).linear
    assert nodes == quantizable_nodes(model).linear
    quantized = quantize_dynamic(small, nodes, PRESET)
    whole = optimized_types(quantize_dynamic(model, nodes, PRESET), tmp_path)
    types = optimized_types(quantized, tmp_path)
    assert types["DynamicQuantizeMatMul"] == whole["DynamicQuantizeMatMul"] == len(nodes)
    by_size = 2 if method == "merge" else 0  # log(size) on the scores of the two blocks that follow
    assert types["Add"] == whole["Add"] + by_size
    pixels = random_pixels(SHAPE)
    assert cosine(run_graph(small, pixels), run_graph(quantized, pixels)) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_static_int8_runs_on_it(method: TokenMethod) -> None:
    small = reduced(exported("vit"), method, 2, 3)
    found = quantizable_nodes(small)
    nodes = (*found.linear, *found.conv)
    ranges = ranges_by("minmax", observe_activations(small, [random_pixels(SHAPE, seed) for seed in range(8)], nodes))
    quantized = quantize_static(small, nodes, ranges, PRESET)
    pixels = random_pixels(SHAPE)
    assert cosine(run_graph(small, pixels), run_graph(quantized, pixels)) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_what_other_rewrites_leave_is_reduced_alike(method: TokenMethod) -> None:
    model, changed = apply_rewrites(exported("vit"), ("gelu", "attention-split", "attention-scale", "norm-affine"))
    assert "attention-split" in changed
    pixels = random_pixels(SHAPE)
    expected = reduced_logits("vit", method, (3, 4), pixels)
    np.testing.assert_allclose(run_graph(reduced(model, method, 3, 4), pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_opset_whose_reductions_have_axes_as_attributes_is_reduced_alike(method: TokenMethod) -> None:
    small = reduced(onnx.version_converter.convert_version(exported("vit"), 17), method, 3, 4)
    onnx.checker.check_model(small, full_check=True)
    pixels = random_pixels(SHAPE)
    expected = reduced_logits("vit", method, (3, 4), pixels)
    np.testing.assert_allclose(run_graph(small, pixels), expected, rtol=1e-4, atol=1e-5)
