"""timm, imported so that it also works where torchvision's compiled operators cannot be loaded.

timm imports torchvision. Torchvision registers fake kernels for its operators at import, which fails where its
compiled library does not match torch (a CPU-only torch, NVIDIA's torch on a Jetson). timm uses none of these
operators: their bare schemas are enough.
Source: https://github.com/pytorch/vision/issues/8696.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from edgevit.errors import MissingExtraError

_MISSING_OPERATOR = "torchvision::nms does not exist"
_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_SCHEMAS = (
    f"nms{_NMS}",
    f"qnms{_NMS}",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)
# A torch.library.Library takes its operators back when it is collected.
_declared: list[Any] = []


def import_timm() -> ModuleType:
    """The timm module. Raises MissingExtraError without torch, torchvision or timm."""
    try:
        _import_torchvision()
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "timm").split(".")[0], "train") from error


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error) or _declared:
            raise
        _declare_operators()
        _forget_torchvision()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    import torch

    new_library: Any = torch.library.Library  # torch leaves it untyped
    library = new_library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
