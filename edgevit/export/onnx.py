"""ONNX: a torch model as a checked, simplified fp32 graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgevit.errors import BadFileError, EdgevitError, MissingExtraError
from edgevit.store import write_bytes

if TYPE_CHECKING:
    import torch

INPUT = "input"
OUTPUT = "logits"
MODULES_KEY = "pkg.torch.onnx.name_scopes"
REDUCE_AXES_INPUT_OPSET = 18  # from here on the axes are an input, and noop_with_empty_axes is an attribute
PROTOBUF_LIMIT_BYTES = 2**31 - 1
# They turn every (B, T, C) MatMul+Add into Reshape+Gemm+Reshape: no runtime gains, and rewrites lose the tokens.
SKIPPED_OPTIMIZERS = ["fuse_matmul_add_bias_into_gemm", "fuse_matmul_add_bias_into_gemm_batched"]


def export_onnx(
    model: torch.nn.Module, input_shape: tuple[int, int, int, int], opset: int = 18, dynamic_batch: bool = False
) -> onnx.ModelProto:
    """The model's inference graph: 'input' (B, C, H, W) float32 to 'logits' (B, classes) float32.

    B is fixed to input_shape[0] unless dynamic_batch.
    Raises EdgevitError when the exporter cannot express the model, with the first line of what stopped it.
    """
    import torch

    try:
        import onnxscript  # noqa: F401  # the dynamo exporter needs it
    except ImportError as error:
        raise MissingExtraError("onnxscript", "export") from error

    batch = max(2, input_shape[0]) if dynamic_batch else input_shape[0]
    example = torch.zeros(batch, *input_shape[1:])
    dynamic_shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    with _quiet():
        try:
            program = torch.onnx.export(
                model.eval(), (example,), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=dynamic_shapes, external_data=False, verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            reason = _first_line(_innermost(error))
            raise EdgevitError(f"This model cannot be exported to ONNX opset {opset}: {reason}") from error
    assert program is not None
    proto = program.model_proto
    _set_opset(proto, opset)
    return checked(simplified(proto))


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants folded, BatchNormalization merged into Conv and dead nodes gone."""
    try:
        import onnxsim
    except ImportError as error:
        raise MissingExtraError("onnxsim", "export") from error
    simpler, is_same = onnxsim.simplify(model, check_n=0, skipped_optimizers=SKIPPED_OPTIMIZERS)
    assert is_same
    _keep_modules(model, simpler)
    return simpler


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, its shapes inferred and its graph found valid. Raises EdgevitError when it is not."""
    inferred = onnx.shape_inference.infer_shapes(model)
    try:
        onnx.checker.check_model(inferred)
    except onnx.checker.ValidationError as error:
        raise EdgevitError(f"The ONNX graph is not valid: {_first_line(error)}") from error
    return inferred


def write_onnx(model: onnx.ModelProto, path: Path) -> Path:
    """One file, no external data. Raises EdgevitError above 2 GB, protobuf's limit."""
    if model.ByteSize() > PROTOBUF_LIMIT_BYTES:
        raise EdgevitError(f"{path.name}: larger than 2 GB, which one ONNX file cannot hold. Take a smaller model.")
    write_bytes(path, model.SerializeToString())
    return path


def read_onnx(path: Path) -> onnx.ModelProto:
    """Raises BadFileError when the file is truncated, is no ONNX, or has not one image input and one output."""
    if not path.is_file():
        raise BadFileError(path, "is not a file.", fix="Give the path of an .onnx file.")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, onnx and the file system each have their own
        raise BadFileError(path, f"is no ONNX model or a broken one: {_first_line(error)}") from error
    inputs, outputs = model.graph.input, model.graph.output
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise BadFileError(path, "must have one input (B, C, H, W) and one output (B, classes).")
    _name_nodes(model)
    return onnx.shape_inference.infer_shapes(model)


def input_shape(model: onnx.ModelProto) -> tuple[int, int, int, int]:
    """(B, C, H, W) of the only input; a free batch size counts as 1."""
    batch, channels, height, width = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    return max(1, batch), channels, height, width


def class_count(model: onnx.ModelProto) -> int:
    dimensions = model.graph.output[0].type.tensor_type.shape.dim
    return int(dimensions[-1].dim_value) if dimensions else 0


def _set_opset(model: onnx.ModelProto, opset: int) -> None:
    """The exporter rounds up to the opset that it writes natively (18); one below is reached by onnx's converter."""
    current = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if current == opset:
        return
    try:
        converted = onnx.version_converter.convert_version(model, opset)
    except Exception as error:
        raise EdgevitError(
            f"This model needs ONNX opset {current}, and {opset} was asked for: {_first_line(error)}"
        ) from error
    model.CopyFrom(converted)
    if opset < REDUCE_AXES_INPUT_OPSET:
        _drop_newer_attribute(model)


def _drop_newer_attribute(model: onnx.ModelProto) -> None:
    """onnx's converter turns the axes of ReduceMean into an attribute and forgets what else came with the input."""
    for node in model.graph.node:
        kept = [entry for entry in node.attribute if entry.name != "noop_with_empty_axes"]
        if node.op_type.startswith("Reduce") and len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Names are optional in ONNX, and what is quantized is chosen by name."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def _keep_modules(model: onnx.ModelProto, simpler: onnx.ModelProto) -> None:
    """The simplifier drops which torch module a node came from; a parity failure names it, so it is put back."""
    modules = {
        node.name: entry for node in model.graph.node for entry in node.metadata_props if entry.key == MODULES_KEY
    }
    for node in simpler.graph.node:
        if node.name in modules and not node.metadata_props:
            node.metadata_props.append(modules[node.name])


def _first_line(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__


def _innermost(error: BaseException) -> BaseException:
    """The exporter wraps what stopped it, at times twice, in advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's prints, warnings and logs go nowhere: what matters of them is in its exception."""
    earlier = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(earlier)
