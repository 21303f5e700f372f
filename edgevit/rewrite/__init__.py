"""Rewrites: the same function by fewer or cheaper operators. Each is pure; this table says which there are."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.errors import InputError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Rewrite:
    """`function`: module and function in this folder, imported when it is applied, because a board has no onnx.

    is_exact: the rewritten graph computes the same numbers, but for rounding.
    """

    name: str
    function: str
    is_exact: bool
    summary: str

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The rewritten model; `model` itself when nothing in it matches."""
        module, name = self.function.split(".")
        function: Callable[[onnx.ModelProto], onnx.ModelProto] = getattr(
            importlib.import_module(f"edgevit.rewrite.{module}"), name
        )
        return function(model)


# In the order of application: what a later one looks for, an earlier one may write.
REWRITES = (
    Rewrite("layer-norm", "layer_norm.fuse_layer_norm", True, "layer norms written out as one LayerNormalization"),
    Rewrite("batch-norm", "conv_batchnorm.fold_batchnorm", True, "batch norms folded into their neighbours' weights"),
    Rewrite("identity-conv", "identity_conv.fold_identity", True, "x + depthwise(x) as one convolution"),
    Rewrite("gelu", "gelu.fuse_gelu", True, "GELU's erf chain as one operator"),
    Rewrite("silu", "silu.fuse_silu", True, "x·sigmoid(x) as one operator"),
    Rewrite("gelu-tanh", "gelu.approximate_gelu_by_tanh", False, "GELU by tanh, off by 0.0005 at most"),
    Rewrite("gelu-sigmoid", "gelu.approximate_gelu_by_sigmoid", False, "GELU by a sigmoid, off by 0.021 at most"),
    Rewrite("gelu-piecewise", "gelu.approximate_gelu_piecewise", False, "GELU by a clipped line, off by 0.065 at most"),
    Rewrite(
        "attention-split", "attention_layout.split_attention_inputs", True, "queries, keys and values by three products"
    ),
    Rewrite(
        "attention-scale",
        "attention_layout.fold_attention_scale",
        True,
        "attention's scale in the queries' weights",
    ),
    Rewrite("attention", "attention_fusion.fuse_attention", True, "attention as one operator of ONNX Runtime"),
    Rewrite("norm-affine", "layer_norm.fold_layer_norm_affine", True, "layer norms' gain and bias in the next weights"),
    Rewrite("positions", "positions.fold_class_token", True, "the class token's position added beforehand"),
    Rewrite(
        "class-token", "class_token.compute_last_block_for_class_token", True, "the last block for the class token only"
    ),
    Rewrite("pooling", "heads.pool_before_linear", True, "the mean over tokens before the last linear layer"),
    Rewrite("heads", "heads.merge_heads", True, "two linear heads as one"),
    Rewrite("layout", "layout.remove_dead_layout", True, "chains of Reshapes and Transposes as short as they can be"),
    Rewrite(
        "channels-last",
        "channels_last.move_channels_as_vectors",
        True,
        "pixels moved to patches as vectors of channels",
    ),
    Rewrite(
        "pixel-attention",
        "pixel_attention.attend_with_channels_last",
        True,
        "attention among pixels with channels last",
    ),
    Rewrite("instance-norm", "instance_norm.normalize_rows_as_instances", True, "layer norms as instance norms"),
    Rewrite("linear-conv", "linear_conv.convolve_rows", True, "linear layers as 1x1 convolutions of their rows"),
    Rewrite("wide-conv", "wide_conv.widen_convolutions", True, "neighbouring outputs of strided convolutions at once"),
    Rewrite("norm-parts", "norm_parts.write_out_layer_norm", True, "layer norms written out, for TensorRT 8.5"),
)
EXACT = tuple(rewrite.name for rewrite in REWRITES if rewrite.is_exact)


def apply_rewrites(model: onnx.ModelProto, names: Iterable[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """(rewritten model, names of the rewrites that changed it); applied in the table's order, each once.

    The model itself comes back when nothing matches. Raises InputError for a name that is not in REWRITES.
    """
    wanted = frozenset(names)
    _check_names(wanted)
    changed: list[str] = []
    for rewrite in REWRITES:
        if rewrite.name not in wanted:
            continue
        earlier, model = model, rewrite.apply(model)
        if model is not earlier:
            changed.append(rewrite.name)
    return model, tuple(changed)


def _check_names(names: Iterable[str]) -> None:
    known = [rewrite.name for rewrite in REWRITES]
    for name in sorted(names):
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            suggestion = f" Did you mean '{nearest[0]}'?" if nearest else ""
            raise InputError(f"Unknown rewrite '{name}'.{suggestion} There are: {', '.join(known)}.")
