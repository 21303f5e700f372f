"""Form: the fp32 graph as a policy wants it, before quantization."""

from __future__ import annotations

import onnx

from edgevit.policy import Policy
from edgevit.rewrite import apply_rewrites
from edgevit.rewrite.merge_tokens import merge_tokens
from edgevit.rewrite.prune_tokens import prune_tokens

# They look at the last block's tokens and at the layout, so they come after tokens are dropped.
AFTER_TOKENS = frozenset({
    "attention", "class-token", "pooling", "heads", "layout", "channels-last", "pixel-attention", "instance-norm",
    "linear-conv", "wide-conv", "norm-parts",
})  # fmt: skip


def reformed(graph: onnx.ModelProto, policy: Policy) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """(the graph, names of the rewrites that changed it): rewrites and token reduction in their order.

    Raises InputError for a token reduction that the model cannot take, or an unknown rewrite.
    """
    names = frozenset(policy.rewrites)
    graph, before = apply_rewrites(graph, names - AFTER_TOKENS)
    if policy.tokens is not None:
        reduce = merge_tokens if policy.tokens.method == "merge" else prune_tokens
        graph = reduce(graph, policy.tokens)
    graph, after = apply_rewrites(graph, names & AFTER_TOKENS)
    return graph, (*before, *after)
