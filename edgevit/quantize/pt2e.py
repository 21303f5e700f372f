"""INT8 of a torch graph for ExecuTorch: torchao's pt2e with the quantizer that XNNPACK's delegate takes the marks of.

Weights are symmetric with a scale for each output channel, activations asymmetric int8 with one. LayerNorm, Softmax,
GELU and attention's products stay in float: XNNPACK has no INT8 kernels for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from numpy.typing import NDArray
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import ComposableQuantizer

from edgevit.errors import EdgevitError
from edgevit.quantize.calibration import representable
from edgevit.quantize.calibrators import RANGES, Distribution
from edgevit.recipe import Calibrator


class DistributionObserver(MinMaxObserver):  # type: ignore[misc]
    """Sees a tensor as all of edgevit's calibrators do."""

    def __init__(self, *, calibrator: Calibrator, **options: Any) -> None:
        super().__init__(**options)
        self._calibrator = calibrator
        self._distribution = Distribution()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(values).all():
            raise EdgevitError("A tensor holds NaN or infinity on a calibration picture.")
        self._distribution.observe(values.detach().numpy())
        return values

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = representable(RANGES[self._calibrator](self._distribution))
        found: tuple[torch.Tensor, torch.Tensor] = self._calculate_qparams(torch.tensor(low), torch.tensor(high))
        return found


def quantize_pt2e(
    module: torch.fx.GraphModule,
    example: tuple[torch.Tensor],
    names: Mapping[str, str],
    static: Sequence[str],
    dynamic: Sequence[str],
    calibrator: Calibrator,
    pictures: Iterable[NDArray[Any]],
) -> torch.fx.GraphModule:
    """The exported module with its nodes' precisions as pairs of quantize and dequantize.

    names: by a submodule's name, the node's in the ONNX graph; static, dynamic: such nodes. example: any picture, by
    which weights are seen where nothing is static. pictures: to calibrate on, (1, …) each; read where something is.
    Raises EdgevitError for NaN.
    """
    quantizers = [
        XNNPACKQuantizer().set_global(config).set_filter_function(_is_of(chosen, names))
        for chosen, config in ((static, _static(calibrator)), (dynamic, _dynamic()))
        if chosen
    ]
    prepared = prepare_pt2e(module, ComposableQuantizer(quantizers))
    with torch.inference_mode():
        if not static:
            prepared(*example)
        for pixels in pictures if static else ():
            prepared(torch.from_numpy(pixels))
    quantized: torch.fx.GraphModule = convert_pt2e(prepared)
    _drop_unused(quantized)
    return quantized


def _drop_unused(module: torch.fx.GraphModule) -> None:
    """Takes away the float weights that INT8 ones stand in for: an exported program keeps whatever its module has."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in used]:
        owner, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(owner), leaf)


def _is_of(chosen: Iterable[str], names: Mapping[str, str]) -> Callable[[torch.fx.Node], bool]:
    """Whether a call was made for one of the ONNX nodes; a layer's weights, which are no calls, go with it."""
    modules = {module for module, name in names.items() if name in set(chosen)}

    def is_chosen(node: torch.fx.Node) -> bool:
        if node.op != "call_function":
            return True
        stack = node.meta.get("nn_module_stack") or {}
        return any(str(path).rpartition(".")[2] in modules for path, _ in stack.values())

    return is_chosen


def _static(calibrator: Calibrator) -> Any:
    usual = get_symmetric_quantization_config(is_per_channel=True)
    observer = DistributionObserver.with_args(calibrator=calibrator)
    activation = replace(usual.input_activation, observer_or_fake_quant_ctr=observer)
    return replace(usual, input_activation=activation, output_activation=activation, weight=_weight(usual.weight))


def _dynamic() -> Any:
    usual = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    return replace(usual, weight=_weight(usual.weight))


def _weight(usual: Any) -> Any:
    """Without upstream's least scale of 2**-12, which takes bits from channels of weights below 0.03."""
    return replace(usual, observer_or_fake_quant_ctr=PerChannelMinMaxObserver)
