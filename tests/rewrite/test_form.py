from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from sketch import kinds, normal, outputs_of
from tiny_models import VIT_SHAPE, VIT_TOKENS, mobilevit_graph, vit_graph

from edgevit.errors import InputError
from edgevit.policy import Policy, TokenMethod, TokenReduction
from edgevit.rewrite import EXACT, REWRITES, apply_rewrites
from edgevit.rewrite.form import AFTER_TOKENS, reformed
from edgevit.rewrite.merge_tokens import merge_tokens
from edgevit.rewrite.prune_tokens import prune_tokens

FEWER: dict[str, Any] = {"prune": prune_tokens, "merge": merge_tokens}
KEPT = 9


def reduction(method: TokenMethod) -> TokenReduction:
    return TokenReduction(method=method, removed=(VIT_TOKENS - KEPT, 0))


def test_a_plain_policy_gives_back_the_graph_itself() -> None:
    graph = vit_graph()
    assert reformed(graph, Policy()) == (graph, ())
    assert reformed(graph, Policy())[0] is graph


def test_without_token_reduction_the_rewrites_are_those_of_the_table() -> None:
    graph = mobilevit_graph()
    found, names = reformed(graph, Policy(rewrites=EXACT))
    expected, changed = apply_rewrites(graph, EXACT)
    assert names == changed
    assert kinds(found) == kinds(expected)


def test_the_order_in_which_a_policy_names_rewrites_does_not_count() -> None:
    graph = vit_graph()
    one, other = (reformed(graph, Policy(rewrites=names)) for names in (EXACT, EXACT[::-1]))
    assert one[1] == other[1]
    assert one[0].SerializeToString(deterministic=True) == other[0].SerializeToString(deterministic=True)


@pytest.mark.parametrize("method", ["prune", "merge"])
def test_tokens_go_before_what_looks_at_the_last_blocks_tokens(method: TokenMethod) -> None:
    """By hand: the rewrites of each side of the reduction, and the reduction between them."""
    graph = vit_graph()
    policy = Policy(rewrites=("layer-norm", "gelu", "attention-split", "class-token", "layout"))
    found, names = reformed(graph, policy.model_copy(update={"tokens": reduction(method)}))
    early, before = apply_rewrites(graph, ("layer-norm", "gelu", "attention-split"))
    expected, after = apply_rewrites(FEWER[method](early, reduction(method)), ("class-token", "layout"))
    assert names == (*before, *after)
    x = normal(VIT_SHAPE)
    assert (outputs_of(found, x)[0] == outputs_of(expected, x)[0]).all()
    assert "class-token" in names


@pytest.mark.parametrize("method", ["prune", "merge"])
def test_fewer_tokens_change_the_logits_and_exact_rewrites_after_them_do_not(method: TokenMethod) -> None:
    graph, x = vit_graph(), normal(VIT_SHAPE)
    bare, _ = reformed(graph, Policy(tokens=reduction(method)))
    whole, _ = reformed(graph, Policy(tokens=reduction(method), rewrites=EXACT))
    onnx.checker.check_model(whole, full_check=True)
    (before,), (fewer,), (rewritten,) = (outputs_of(model, x) for model in (graph, bare, whole))
    largest = float(np.abs(fewer).max())
    assert np.abs(fewer - before).max() > 1e-3 * largest
    np.testing.assert_allclose(rewritten, fewer, rtol=0, atol=2e-5 * largest)


def test_a_model_whose_tokens_cannot_go_and_an_unknown_rewrite_are_refused() -> None:
    with pytest.raises(InputError):
        reformed(mobilevit_graph(), Policy(tokens=reduction("prune")))
    with pytest.raises(InputError, match=r"^Unknown rewrite 'gelo'\. Did you mean 'gelu'\?"):
        reformed(vit_graph(), Policy(rewrites=("gelo",)))


def test_what_comes_after_tokens_are_rewrites_of_the_table() -> None:
    assert {rewrite.name for rewrite in REWRITES} >= AFTER_TOKENS
