"""Diverge: the first layer in which two ONNX graphs of one model say different things."""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgevit.errors import EdgevitError, InputError
from edgevit.export.onnx import MODULES_KEY, read_onnx
from edgevit.verify import power_ratio_db

# A cosine of 0.95 leaves an error 9.7 dB below the signal, one of 0.9999 an error 37 dB below: 10*log10(1/(1/cos^2-1)).
INT8_THRESHOLD_DB = 10.0
EXACT_THRESHOLD_DB = 37.0
# What onnxruntime.quantization calls a float tensor after its trip through 8 bits; '' is the tensor itself.
QUANTIZED_SUFFIXES = ("_DequantizeLinear_Output", "_DequantizeLinear_Output_1", "")
# An error 80 dB below a layer's inputs is the rounding of float32 sums, whatever it is beside the layer's own output.
ROUNDING_POWER = 1e-8
PICTURES = 4
OUTPUT = "output"


@dataclass
class Powers:
    """Sums over pictures of one tensor's squared values and squared errors, and how many values there were."""

    signal: float = 0.0
    error: float = 0.0
    count: int = 0

    @property
    def mean_signal(self) -> float:
        return self.signal / max(1, self.count)


def first_diverging_layer(
    reference: Path, candidate: Path, pixels: NDArray[np.float32], threshold_db: float = INT8_THRESHOLD_DB
) -> str:
    """Name of the first layer, in the reference's order, whose activation departs by an SQNR under threshold_db.

    Two graphs are compared by the tensors whose names they share, a quantized one by what comes back from its 8 bits.
    A tensor that is nearly zero beside its layer's inputs (the mean of centered values) holds rounding errors alone and
    is passed over.
    The name is the torch module's where the graph still tells it, by its metadata or its parameters' names; otherwise
    the operator and tensor, and the layer that it follows. 'output' when no shared tensor departs, or when the two
    graphs share no other name.

    pixels: (N, C, H, W) float32; the first 4 pictures are run, one at a time.
    Raises BadFileError for a broken model, InputError without pictures or when a model refuses them.
    """
    if len(pixels) == 0:
        raise InputError("There is no picture to compare two models on. Give at least one.")
    left, right = read_onnx(reference), read_onnx(candidate)
    counterparts = _counterparts(left, right)
    if len(counterparts) == 1:
        return OUTPUT
    powers = {name: Powers() for name in counterparts}
    mine = _exposed(left, list(counterparts), reference)
    theirs = _exposed(right, list(counterparts.values()), candidate)
    for picture in pixels[:PICTURES]:
        ours, others = _activations(mine, picture[np.newaxis]), _activations(theirs, picture[np.newaxis])
        for name, counterpart in counterparts.items():
            _add_powers(powers[name], ours[name], others[counterpart])
    for index, node in enumerate(left.graph.node):
        if any(_departs(powers[name], node, powers, threshold_db) for name in node.output if name in powers):
            return _layer_name(left, index)
    return OUTPUT


def _departs(power: Powers, node: onnx.NodeProto, powers: dict[str, Powers], threshold_db: float) -> bool:
    if power_ratio_db(power.signal, power.error) >= threshold_db:
        return False
    loudest = max((powers[name].mean_signal for name in node.input if name in powers), default=0.0)
    return power.error / max(1, power.count) > loudest * ROUNDING_POWER


def _counterparts(left: onnx.ModelProto, right: onnx.ModelProto) -> dict[str, str]:
    """Tensor of `left`, in its order, to the tensor of `right` that stands for it."""
    present = {name for node in right.graph.node for name in node.output}
    outputs = {value.name for value in right.graph.output}
    found = {}
    for node in left.graph.node:
        for name in filter(None, node.output):
            # The quantizer keeps a graph output's name for the value after 8 bits.
            suffixes: Sequence[str] = ("",) if name in outputs else QUANTIZED_SUFFIXES
            match = next((name + suffix for suffix in suffixes if name + suffix in present), None)
            if match:
                found[name] = match
    final, other = left.graph.output[0].name, right.graph.output[0].name
    found.setdefault(final, other)
    return found


def _exposed(model: onnx.ModelProto, names: Sequence[str], path: Path) -> onnxruntime.InferenceSession:
    """A session of `model` that returns all these tensors as well."""
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    known = {value.name for value in widened.graph.output}
    widened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(widened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, which have no common parent
        raise EdgevitError(f"{path}: ONNX Runtime cannot load it with its layers exposed: {error}") from error


def _activations(session: onnxruntime.InferenceSession, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    names = [value.name for value in session.get_outputs()]
    try:
        values = session.run(names, {session.get_inputs()[0].name: pixels})
    except Exception as error:
        raise InputError(f"The model does not take pictures of shape {pixels.shape}: {error}") from error
    return dict(zip(names, values, strict=True))


def _add_powers(powers: Powers, ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> None:
    """Equal values add nothing to the error, equal infinities and NaNs included (an attention mask has them).

    Where `theirs` has fewer rows (a rewrite computes the first tokens only), they are compared with our first ones.
    """
    if ours.dtype.kind != "f":
        return
    if ours.ndim == theirs.ndim:
        ours = ours[tuple(slice(size) for size in theirs.shape)]
    if ours.shape != theirs.shape:
        powers.error = math.inf
        return
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.isfinite(b[~same]).all() or not np.isfinite(a[~same]).all():
        powers.error = math.inf
        return
    powers.count += a.size
    powers.signal += float(np.square(a[np.isfinite(a)]).sum())
    powers.error += float(np.square(a[~same] - b[~same]).sum())


def _layer_name(model: onnx.ModelProto, index: int) -> str:
    node = model.graph.node[index]
    if module := _module_of(model, index):
        return module
    place = f"{node.op_type} '{node.output[0]}'"
    before = next((name for i in range(index - 1, -1, -1) if (name := _module_of(model, i))), "")
    return f"{place} after {before}" if before else place


def _module_of(model: onnx.ModelProto, index: int) -> str:
    """'blocks.3.attn.qkv': from the exporter's metadata, else from a parameter of the node or of the Add behind it."""
    node = model.graph.node[index]
    scopes = next((entry.value for entry in node.metadata_props if entry.key == MODULES_KEY), "")
    modules = [scope for scope in _listed(scopes)[:-1] if scope]  # the last one is the operation's own name
    if modules:
        return modules[-1]
    following = model.graph.node[index + 1 : index + 2] if node.op_type == "MatMul" else []
    biases = [after for after in following if after.op_type == "Add" and node.output[0] in after.input]
    return next(_module_names((node, *biases), _own_parameters(model)), "")


def _own_parameters(model: onnx.ModelProto) -> set[str]:
    """Parameters that one node alone reads: the simplifier merges equal ones (fresh biases), and they name no layer."""
    uses = Counter(name for node in model.graph.node for name in node.input)
    return {tensor.name for tensor in model.graph.initializer if uses[tensor.name] == 1}


def _module_names(nodes: Sequence[onnx.NodeProto], parameters: set[str]) -> Iterator[str]:
    for node in nodes:
        for name in node.input:
            module, _, kind = name.rpartition(".")
            if module and kind in ("weight", "bias", "gamma") and name in parameters:
                yield module


def _listed(text: str) -> list[str]:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return []
    return [str(item) for item in value] if isinstance(value, list) else []
