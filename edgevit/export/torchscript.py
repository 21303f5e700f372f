"""TorchScript: a torch model traced and frozen, for programs that run libtorch."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import EdgevitError
from edgevit.runtimes.torchscript import INPUT_SHAPE_FILE

if TYPE_CHECKING:
    import torch

ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")  # the fastest first


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
        except Exception as error:  # a model's own code may raise anything while it is traced
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EdgevitError(f"This model cannot be exported to TorchScript: {reason}") from error
    return path


def with_dynamic_linear(model: torch.nn.Module) -> torch.nn.Module:
    """A copy whose Linear modules multiply in INT8: weights are stored so, activations are quantized as they come.

    Raises EdgevitError where this build of torch has no engine for it.
    """
    import torch

    engines = [name for name in ENGINES if name in torch.backends.quantized.supported_engines]
    if not engines:
        raise EdgevitError("This build of torch multiplies nothing in INT8: it has no quantized engine.")
    with warnings.catch_warnings():
        # torch calls it deprecated, and its successor's modules cannot be scripted:
        # https://github.com/pytorch/pytorch/pull/153892
        warnings.simplefilter("ignore")  # so it does, and its own parts complain of each other
        torch.backends.quantized.engine = engines[0]
        quantized: torch.nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            copy.deepcopy(model).eval(), {torch.nn.Linear}, dtype=torch.qint8
        )
    return quantized
