from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import is_sorted, random_pixels, run_graph
from token_vits import BLOCKS, CLASSIFIES_BY_TOKEN, PATCHES, PREFIX, SHAPE, exported, reduced_logits

from edgevit.errors import InputError
from edgevit.policy import TokenReduction
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.rewrite.class_token import compute_last_block_for_class_token
from edgevit.rewrite.merge_tokens import merge_tokens


def merging(*removed: int) -> TokenReduction:
    return TokenReduction(method="merge", removed=removed)


def assert_says_the_same(kind: str, removed: tuple[int, ...], seed: int = 0) -> onnx.ModelProto:
    """The merged graph, found valid and found to say what torch says."""
    merged = merge_tokens(exported(kind), merging(*removed))
    onnx.checker.check_model(merged, full_check=True)
    assert is_sorted(merged)
    pixels = random_pixels(SHAPE, seed)
    expected = reduced_logits(kind, "merge", removed, pixels)
    np.testing.assert_allclose(run_graph(merged, pixels), expected, rtol=1e-4, atol=1e-5)
    return merged


@pytest.mark.parametrize("kind", PREFIX)
@pytest.mark.parametrize("removed", [(3, 4), (0, 8), (5, 0, 2)])
def test_every_kind_of_vit_says_what_torch_says_of_the_tokens_merged(kind: str, removed: tuple[int, ...]) -> None:
    assert_says_the_same(kind, removed)


@settings(max_examples=15, deadline=None)
@given(removed=st.lists(st.integers(0, 8), min_size=1, max_size=4).map(tuple), seed=st.integers(0, 99))
def test_any_schedule_is_either_done_or_refused(removed: tuple[int, ...], seed: int) -> None:
    left, is_possible = PATCHES, len(removed) <= BLOCKS
    for count in removed:
        is_possible = is_possible and count <= left // 2  # the class token is at position 0: odd positions come first
        left -= count
    if is_possible or not any(removed):
        assert_says_the_same("vit", removed, seed)
    else:
        with pytest.raises(InputError):
            merge_tokens(exported("vit"), merging(*removed))


def test_all_tokens_alike_merge_without_harm() -> None:
    model = exported("pooled")
    for tensor in model.graph.initializer:
        if tensor.name in ("pos_embed", "patch_embed.proj.weight"):
            zeros = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    pixels = random_pixels(SHAPE)
    merged = merge_tokens(model, merging(8, 4, 2))
    np.testing.assert_allclose(run_graph(merged, pixels), run_graph(model, pixels), rtol=1e-4, atol=1e-5)


def test_keys_of_zero_are_merged_without_nan() -> None:
    model = exported("vit")
    for tensor in model.graph.initializer:
        if tuple(tensor.dims) in ((64, 192), (192,)):
            zeros = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    assert np.isfinite(run_graph(merge_tokens(model, merging(4, 4)), random_pixels(SHAPE))).all()


@pytest.mark.parametrize("kind", CLASSIFIES_BY_TOKEN)
def test_the_last_block_can_still_be_computed_for_the_class_token_only(kind: str) -> None:
    merged = merge_tokens(exported(kind), merging(3, 4))
    narrowed = compute_last_block_for_class_token(merged)
    pixels = random_pixels(SHAPE)
    np.testing.assert_allclose(run_graph(narrowed, pixels), run_graph(merged, pixels), rtol=1e-4, atol=1e-5)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in narrowed.graph.value_info}
    last = [node for node in narrowed.graph.node if node.op_type == "Softmax"][-1]
    assert shapes[last.output[0]][-2:] == [2 if kind == "distilled" else 1, PATCHES + PREFIX[kind] - 7]


@pytest.mark.parametrize("kind", CLASSIFIES_BY_TOKEN)
def test_merging_behind_a_last_block_that_is_narrow_already_weighs_its_attention_too(kind: str) -> None:
    narrow = compute_last_block_for_class_token(exported(kind))
    pixels = random_pixels(SHAPE)
    expected = reduced_logits(kind, "merge", (3, 4), pixels)
    np.testing.assert_allclose(run_graph(merge_tokens(narrow, merging(3, 4)), pixels), expected, rtol=1e-4, atol=1e-5)


def test_what_matches_tokens_is_not_offered_to_int8() -> None:
    model = exported("vit")
    before, after = quantizable_nodes(model), quantizable_nodes(merge_tokens(model, merging(3, 3)))
    assert (after.linear, after.conv, after.attention) == (before.linear, before.conv, before.attention)


@pytest.mark.parametrize("removed", [(), (0, 0, 0, 0)])
def test_nothing_to_merge_returns_the_same_object(removed: tuple[int, ...]) -> None:
    model = exported("vit")
    assert merge_tokens(model, merging(*removed)) is model


@pytest.mark.parametrize(
    ("kind", "removed", "problem"),
    [
        ("vit", (9,), "cannot remove 9 of 17 tokens after block 0's attention: at most 8 can go there."),
        ("distilled", (1, 9), "cannot remove 9 of 17 tokens after block 1's attention: at most 8 can go there."),
        ("pooled", (8, 4, 3), "cannot remove 3 of 4 tokens after block 2's attention: at most 2 can go there."),
        ("vit", (1, 1, 1, 1), "names 4 blocks, this model has only 3."),
    ],
)
def test_what_cannot_be_merged_is_refused(kind: str, removed: tuple[int, ...], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        merge_tokens(exported(kind), merging(*removed))
    assert str(caught.value) == f"Token reduction {problem}"


def test_an_average_pool_whose_tokens_are_read_elsewhere_too_is_refused() -> None:
    model = exported("pooled patches")
    pool = next(node for node in model.graph.node if node.op_type == "ReduceMean")
    total = onnx.helper.make_node("ReduceMax", [pool.input[0]], ["largest"], name="largest_value", keepdims=0)
    model.graph.node.append(total)
    model.graph.output.append(onnx.helper.make_tensor_value_info("largest", onnx.TensorProto.FLOAT, []))
    with pytest.raises(InputError, match="Merged tokens cannot be weighed in the average pool"):
        merge_tokens(model, merging(2))
