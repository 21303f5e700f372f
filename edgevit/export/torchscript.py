"""TorchScript: a torch model traced and frozen, for programs that run libtorch."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import EdgevitError
from edgevit.runtimes.torchscript import INPUT_SHAPE_FILE

if TYPE_CHECKING:
    import torch


def export_torchscript(model: torch.nn.Module, input_shape: tuple[int, int, int, int], path: Path) -> Path:
    """Writes the traced, frozen model. Its input is (B, C, H, W) float32, its output (B, classes).

    torch.jit.optimize_for_inference is left out: what it writes cannot be loaded again (torch 2.13).
    Raises EdgevitError when the model cannot be traced.
    """
    import torch

    example = torch.zeros(input_shape)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every Python branch; parity is what decides
        try:
            traced = torch.jit.trace(model.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
            frozen = torch.jit.freeze(traced.eval())
            extra = {INPUT_SHAPE_FILE: json.dumps(list(input_shape))}
            torch.jit.save(frozen, str(path), _extra_files=extra)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or ["RuntimeError"])[0]
            raise EdgevitError(f"This model cannot be exported to TorchScript: {reason}") from error
    return path
