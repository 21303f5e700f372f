"""Tiny vision transformers by timm, exported once a session, for tests of what is done to graphs and artifacts."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from edgevit.export.onnx import export_onnx
from edgevit.models.create import create_model
from edgevit.models.fusion import fuse_for_inference
from edgevit.models.torchvision_ops import import_timm
from edgevit.recipe import ModelSpec

CLASSES = 10
VIT_SHAPE = (1, 1, 32, 32)
DEIT_SHAPE = (1, 3, 32, 32)
MOBILEVIT_SHAPE = (1, 3, 64, 64)
VIT_ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
VIT_TOKENS = 1 + (32 // 8) ** 2  # class token and patches

# No dropout anywhere, gray, 32 x 32: as the demo's model, but smaller.
VIT = ModelSpec(name="vit_tiny_patch16_224", args=VIT_ARGS, image_size=32, channels=1, weights="random")
MEAN_POOL_VIT = VIT.model_copy(update={"args": {**VIT_ARGS, "global_pool": "avg"}})
DISTILLED_DEIT = ModelSpec(
    name="timm:deit_tiny_distilled_patch16_224", args=VIT_ARGS, image_size=32, channels=3, weights="random"
)


@functools.cache
def vit_model() -> torch.nn.Module:
    return _built(VIT)


@functools.cache
def mobilevit_model() -> torch.nn.Module:
    """MobileViT's parts, one of each: stem, inverted residual, block with one transformer layer; BatchNorms in use."""
    timm: Any = import_timm()
    from timm.models.mobilevit import _inverted_residual_block, _mobilevit_block

    blocks = (
        _inverted_residual_block(d=1, c=16, s=2),
        _mobilevit_block(d=1, c=16, s=2, transformer_dim=32, transformer_depth=1, patch_size=2),
    )
    config = timm.models.byobnet.ByoModelCfg(
        blocks=blocks, stem_chs=8, stem_type="3x3", stem_pool="", downsample="", act_layer="silu", num_features=32
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: torch.nn.Module = timm.models.byobnet.ByobNet(config, num_classes=CLASSES, in_chans=3, img_size=64)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval().requires_grad_(False)


@functools.cache
def _vit_bytes(dynamic_batch: bool) -> bytes:
    return _exported(vit_model(), VIT_SHAPE, dynamic_batch)


def vit_graph(dynamic_batch: bool = False) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(_vit_bytes(dynamic_batch))


@functools.cache
def _mean_pool_vit_bytes() -> bytes:
    return _exported(_built(MEAN_POOL_VIT), VIT_SHAPE)


def mean_pool_vit_graph() -> onnx.ModelProto:
    return onnx.ModelProto.FromString(_mean_pool_vit_bytes())


@functools.cache
def _deit_bytes() -> bytes:
    return _exported(_built(DISTILLED_DEIT), DEIT_SHAPE)


def deit_graph() -> onnx.ModelProto:
    """Two tokens are classified: the class token and the distillation token."""
    return onnx.ModelProto.FromString(_deit_bytes())


@functools.cache
def _mobilevit_bytes() -> bytes:
    return _exported(mobilevit_model(), MOBILEVIT_SHAPE)


def mobilevit_graph() -> onnx.ModelProto:
    return onnx.ModelProto.FromString(_mobilevit_bytes())


def run_graph(model: onnx.ModelProto, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first output of the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    return result


def random_pixels(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def op_types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def is_sorted(model: onnx.ModelProto) -> bool:
    """Whether each node's inputs are made before it."""
    made = {value.name for value in (*model.graph.input, *model.graph.initializer)} | {""}
    for node in model.graph.node:
        if not made.issuperset(node.input):
            return False
        made.update(node.output)
    return True


def _built(spec: ModelSpec) -> torch.nn.Module:
    return fuse_for_inference(create_model(spec, CLASSES)).requires_grad_(False)


def _exported(model: torch.nn.Module, shape: tuple[int, int, int, int], dynamic_batch: bool = False) -> bytes:
    data: bytes = export_onnx(model, shape, dynamic_batch=dynamic_batch).SerializeToString()
    return data
