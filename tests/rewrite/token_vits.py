"""Small ViTs by timm with uneven attention, and what they say with fewer tokens, computed block by block in torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgevit.export.onnx import export_onnx
from edgevit.models.create import create_model
from edgevit.models.fusion import fuse_for_inference
from edgevit.recipe import ModelSpec

SHAPE = (1, 3, 32, 32)
ARGS = {"patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 2}
BLOCKS, PATCHES = 3, 16
VITS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {}),
    "distilled": ("timm:deit_tiny_distilled_patch16_224", {}),
    "registers": ("timm:vit_small_patch14_reg4_dinov2", {}),  # layer scale too
    "pooled": ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}),
    "pooled patches": ("vit_tiny_patch16_224", {"global_pool": "avg"}),  # the class token is not in the mean
    "attention pool": ("timm:vit_base_patch16_siglip_224", {}),
}
PREFIX = {"vit": 1, "distilled": 2, "registers": 5, "pooled": 0, "pooled patches": 1, "attention pool": 0}
CLASSIFIES_BY_TOKEN = ("vit", "distilled", "registers")


@functools.cache
def vit(kind: str) -> Any:
    """Queries and keys ten times as large as drawn, so that attention and similarity tell tokens apart."""
    name, args = VITS[kind]
    spec = ModelSpec(name=name, args={**ARGS, **args}, image_size=32, channels=3, weights="random")
    model: Any = fuse_for_inference(create_model(spec, 10)).requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv.weight[: 2 * 64] *= 10
        for scale in (block.ls1, block.ls2):
            if hasattr(scale, "gamma"):
                scale.gamma.fill_(0.5)
    return model


@functools.cache
def _exported(kind: str, dynamic_batch: bool) -> bytes:
    data: bytes = export_onnx(vit(kind), SHAPE, dynamic_batch=dynamic_batch).SerializeToString()
    return data


def exported(kind: str, dynamic_batch: bool = False) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(_exported(kind, dynamic_batch))


def reduced_logits(kind: str, method: str, removed: Sequence[int], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, 10): what the model says when `removed[i]` tokens go after block i's attention."""
    model = vit(kind)
    prefix = PREFIX[kind]
    with torch.no_grad():
        x = model.norm_pre(model._pos_embed(model.patch_embed(torch.from_numpy(pixels))))
        size = torch.ones(x.shape[1])
        for block, count in zip(model.blocks, [*removed, *[0] * BLOCKS], strict=False):
            said, attention, keys = _attention(block.attn, block.norm1(x), size)
            x = x + block.ls1(said)
            if count and method == "merge":
                x, size = _merged(x, size, keys.mean(0), count, prefix)
            elif count:
                weights = attention[:, 0] if kind in CLASSIFIES_BY_TOKEN else attention.mean(1)
                x = _pruned(x, weights.mean(0), count, prefix, fuses=method == "fuse")
                size = torch.ones(x.shape[1])
            x = x + block.ls2(block.mlp(block.norm2(x)))
        return np.asarray(_classified(kind, model, model.norm(x), size))


def _attention(layer: Any, x: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What it says (1, N, C), its weights (H, N, N) and its keys (H, N, d)."""
    q, k, v = layer.qkv(x)[0].unflatten(-1, (3, layer.num_heads, -1)).permute(1, 2, 0, 3)
    weights = (q @ k.mT / k.shape[-1] ** 0.5).exp() * size  # counted as often as it stands for patches
    weights = weights / weights.sum(-1, keepdim=True)
    return layer.proj((weights @ v).transpose(0, 1).flatten(1))[None], weights, k


def _pruned(x: torch.Tensor, scores: torch.Tensor, count: int, prefix: int, fuses: bool) -> torch.Tensor:
    order = prefix + scores[prefix:].argsort(descending=True)
    kept = len(order) - count - int(fuses)
    parts = [x[:, :prefix], x[:, order[:kept]]]
    if fuses:
        weights = scores[order[kept:]]
        parts.append((x[0, order[kept:]] * weights[:, None]).sum(0)[None, None] / weights.sum())
    return torch.cat(parts, 1)


def _merged(
    x: torch.Tensor, size: torch.Tensor, keys: torch.Tensor, count: int, prefix: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token by token, in lists. keys: (N, d)."""
    unit = keys / keys.norm(dim=-1, keepdim=True)
    evens = [i for i in range(prefix, len(keys)) if i % 2 == 0]
    odds = [i for i in range(prefix, len(keys)) if i % 2 == 1]
    partner = {i: max(odds, key=lambda j: float(unit[i] @ unit[j])) for i in evens}
    leaving = sorted(evens, key=lambda i: float(unit[i] @ unit[partner[i]]), reverse=True)[:count]
    tokens, weights = [], []
    for i in [*range(prefix), *(i for i in evens if i not in leaving), *odds]:
        group = [i, *(j for j in leaving if partner[j] == i)]
        weights.append(sum(size[j] for j in group))
        tokens.append(sum(size[j] * x[0, j] for j in group) / weights[-1])
    return torch.stack(tokens)[None], torch.stack(weights)


def _classified(kind: str, model: Any, x: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """The heads that count a merged token as one are given it as often as it stands for patches."""
    if kind.startswith("pooled"):
        each = x[0, PREFIX[kind] :].repeat_interleave(size[PREFIX[kind] :].long(), dim=0)
        return model.head(model.fc_norm(each.mean(0)[None]))
    if kind == "attention pool":
        return model.head(model.attn_pool(x.repeat_interleave(size.long(), dim=1)))
    return model.forward_head(x)
