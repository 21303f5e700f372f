from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import is_sorted, mobilevit_graph, op_types, random_pixels, run_graph
from token_vits import BLOCKS, CLASSIFIES_BY_TOKEN, PATCHES, PREFIX, SHAPE, exported, reduced_logits

from edgevit.errors import InputError
from edgevit.policy import TokenMethod, TokenReduction
from edgevit.rewrite.class_token import compute_last_block_for_class_token
from edgevit.rewrite.prune_tokens import prune_tokens


def assert_says_the_same(kind: str, method: TokenMethod, removed: tuple[int, ...], seed: int = 0) -> onnx.ModelProto:
    """The pruned graph, found valid and found to say what torch says."""
    pruned = prune_tokens(exported(kind), TokenReduction(method=method, removed=removed))
    onnx.checker.check_model(pruned, full_check=True)
    assert is_sorted(pruned)
    pixels = random_pixels(SHAPE, seed)
    expected = reduced_logits(kind, method, removed, pixels)
    np.testing.assert_allclose(run_graph(pruned, pixels), expected, rtol=1e-4, atol=1e-5)
    return pruned


def tokens_of(model: onnx.ModelProto) -> list[int]:
    """Of each block's attention, in keys."""
    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in model.graph.value_info}
    return [shapes[node.output[0]][-1] for node in model.graph.node if node.op_type == "Softmax"]


@pytest.mark.parametrize("kind", PREFIX)
def test_every_kind_of_vit_says_what_torch_says_of_the_patches_left(kind: str) -> None:
    pruned = assert_says_the_same(kind, "prune", (3, 5))
    tokens = PATCHES + PREFIX[kind]
    assert tokens_of(pruned)[:BLOCKS] == [tokens, tokens - 3, tokens - 8]


@pytest.mark.parametrize("kind", CLASSIFIES_BY_TOKEN)
def test_dropped_patches_go_on_as_their_weighted_mean(kind: str) -> None:
    fused = assert_says_the_same(kind, "fuse", (3, 5))
    tokens = PATCHES + PREFIX[kind]
    assert tokens_of(fused) == [tokens, tokens - 3, tokens - 8]


@settings(max_examples=15, deadline=None)
@given(
    method=st.sampled_from(["prune", "fuse"]),
    removed=st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 99),
)
def test_any_schedule_is_either_done_or_refused(method: TokenMethod, removed: tuple[int, ...], seed: int) -> None:
    left, is_possible = PATCHES, len(removed) <= BLOCKS
    for count in removed:
        is_possible = is_possible and (count == 0 or count <= left - (2 if method == "fuse" else 1))
        left -= count
    if is_possible or not any(removed):
        assert_says_the_same("vit", method, removed, seed)
    else:
        with pytest.raises(InputError):
            prune_tokens(exported("vit"), TokenReduction(method=method, removed=removed))


@pytest.mark.parametrize("removed", [(), (0,), (0, 0, 0, 0)])
def test_nothing_to_remove_returns_the_same_object(removed: tuple[int, ...]) -> None:
    model = exported("vit")
    assert prune_tokens(model, TokenReduction(method="prune", removed=removed)) is model


def test_the_input_stays_as_it_was() -> None:
    model = exported("vit")
    prune_tokens(model, TokenReduction(method="fuse", removed=(4,)))
    assert model.SerializeToString(deterministic=True) == exported("vit").SerializeToString(deterministic=True)


def test_five_operators_a_block_and_no_other_change() -> None:
    model = exported("vit")
    pruned = prune_tokens(model, TokenReduction(method="prune", removed=(2, 2)))
    added = sorted(op_types(pruned))
    for kind in op_types(model):
        added.remove(kind)
    assert added == sorted(["Slice", "ReduceSum", "Max", "TopK", "Gather"] * 2)
    names = [node.name for node in pruned.graph.node]
    assert "" not in names
    assert len(set(names)) == len(names)


def test_equal_scores_keep_the_prefix_in_its_place() -> None:
    pixels = np.zeros(SHAPE, np.float32)
    model = exported("registers")
    for tensor in model.graph.initializer:  # keys and queries of nothing but bias: every token attends evenly
        if tuple(tensor.dims) == (64, 192):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((64, 192), np.float32), tensor.name))
    pruned = prune_tokens(model, TokenReduction(method="prune", removed=(15,)))
    # values of nothing but bias too: attention says the same to the class token whichever patches are there
    np.testing.assert_allclose(run_graph(pruned, pixels), run_graph(model, pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CLASSIFIES_BY_TOKEN)
@pytest.mark.parametrize("method", ["prune", "fuse"])
def test_the_last_block_can_still_be_computed_for_the_class_token_only(kind: str, method: TokenMethod) -> None:
    reduced = prune_tokens(exported(kind), TokenReduction(method=method, removed=(3, 5)))
    narrowed = compute_last_block_for_class_token(reduced)
    pixels = random_pixels(SHAPE)
    np.testing.assert_allclose(run_graph(narrowed, pixels), run_graph(reduced, pixels), rtol=1e-4, atol=1e-5)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in narrowed.graph.value_info}
    last = [node for node in narrowed.graph.node if node.op_type == "Softmax"][-1]
    assert shapes[last.output[0]][-2] == (2 if kind == "distilled" else 1)


def refusal(model: onnx.ModelProto, method: TokenMethod, *removed: int) -> str:
    with pytest.raises(InputError) as caught:
        prune_tokens(model, TokenReduction(method=method, removed=removed))
    return str(caught.value)


def test_a_block_keeps_one_patch_at_least() -> None:
    assert refusal(exported("distilled"), "prune", 0, 16) == (
        "Token reduction cannot remove 16 of 18 tokens after block 1's attention: at most 15 can go there."
    )
    assert refusal(exported("vit"), "prune", 10, 6).endswith("at most 5 can go there.")
    assert refusal(exported("vit"), "fuse", 15).endswith("at most 14 can go there.")


def test_more_blocks_than_there_are_are_refused() -> None:
    assert refusal(exported("vit"), "prune", 1, 1, 1, 1) == ("Token reduction names 4 blocks, this model has only 3.")


def test_a_model_without_blocks_of_tokens_is_refused() -> None:
    assert refusal(mobilevit_graph(), "prune", 1) == (
        "Token reduction needs a plain ViT, and this model has no blocks of one. Set tokens to null."
    )


def test_a_free_batch_is_refused() -> None:
    assert refusal(exported("vit", dynamic_batch=True), "prune", 1) == (
        "Token reduction works on one picture at a time. Export the model with a fixed batch of 1."
    )


def test_a_second_reduction_is_refused() -> None:
    once = prune_tokens(exported("vit"), TokenReduction(method="prune", removed=(1,)))
    assert refusal(once, "prune", 1) == (
        "Token reduction was done to this model before. Give the model that it was done to."
    )


def test_fusing_without_class_token_is_refused() -> None:
    assert refusal(exported("pooled"), "fuse", 1) == (
        "Fusing tokens needs a model that classifies by a class token. Choose 'prune' or 'merge'."
    )
