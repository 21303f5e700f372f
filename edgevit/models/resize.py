"""Resize: the same weights for pictures of another size."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from edgevit.errors import InputError
from edgevit.models.create import require_whole_patches
from edgevit.models.fusion import input_shape


def resize_model(model: nn.Module, side: int) -> nn.Module:
    """A copy of `model` in eval mode for pictures of side x side pixels; position embeddings are interpolated by timm.

    model.pretrained_cfg["input_size"] follows. Raises InputError for a size that it does not take.
    """
    resized: Any = copy.deepcopy(model).eval()
    config = resized.pretrained_cfg
    name = config.get("architecture", type(model).__name__)
    require_whole_patches(model, name, side)
    shape = (input_shape(model)[0], side, side)
    try:
        if hasattr(resized, "set_input_size"):
            resized.set_input_size(img_size=side)
        elif config.get("fixed_input_size") and shape != input_shape(model):
            raise ValueError("its attention is made for one size")
        parameter = next(resized.parameters())
        with torch.no_grad():
            copy.deepcopy(resized)(torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype))
    except Exception as error:  # each architecture has its own ways to refuse a size
        reason = " ".join(str(error).split())[:160].rstrip(". ")
        advice = "Use its native size or a multiple of 32."
        raise InputError(f"Model '{name}' does not take image size {side}: {reason}. {advice}") from error
    resized.pretrained_cfg = {**config, "input_size": shape}
    resized.default_cfg = resized.pretrained_cfg
    result: nn.Module = resized
    return result
