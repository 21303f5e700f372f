"""Fusion: parallel training branches and BatchNorms folded into single layers, and the proof that logits agree."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from edgevit.errors import ParityError
from edgevit.models.torchvision_ops import import_timm
from edgevit.models.weights import random_pictures

# Float32 rounding moves the registry's models by 3e-5 of the largest logit at most; a wrong fold is far above.
FUSION_TOLERANCE = 1e-3


def fuse_for_inference(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode with every module folded that offers it; the copy of a plain model is unchanged.

    Agreement is checked on two smooth random pictures: a logit's largest difference, relative to the largest logit.
    Raises ParityError with the figures above FUSION_TOLERANCE.
    """
    timm: Any = import_timm()
    reference = copy.deepcopy(model).eval()
    fused: nn.Module = timm.utils.reparameterize_model(reference).eval()
    generator = torch.Generator().manual_seed(0)
    parameter = next(model.parameters())
    pictures = random_pictures(2, input_shape(model), generator).to(parameter.device, parameter.dtype)
    with torch.no_grad():  # not inference_mode: LeViT and its kin keep tensors of this run, and get exported with them
        before, after = reference(pictures), fused(pictures)
    difference = relative_difference(before, after)
    if not difference <= FUSION_TOLERANCE:  # also when it is NaN
        config: Any = model.pretrained_cfg
        name = config.get("architecture", type(model).__name__)
        raise ParityError(
            f"Fusing {name} changed its logits by {difference:.1e} of the largest one; at most {FUSION_TOLERANCE:.0e} "
            "is rounding. Export it unfused, or report this architecture."
        )
    return fused


def input_shape(model: nn.Module) -> tuple[int, int, int]:
    """(channels, height, width) that a model of create_model takes."""
    config: Any = model.pretrained_cfg
    channels, height, width = config["input_size"]
    return channels, height, width


def relative_difference(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """The largest absolute difference over the largest absolute value of `reference`; NaN when either holds a NaN."""
    difference = float((reference - candidate).abs().max())
    largest = float(reference.abs().max())
    return difference / largest if largest else difference
