"""Static and dynamic INT8 of a .tflite file, by the same policies as ONNX; ai-edge-quantizer writes it.

LayerNorm, Softmax and GELU stay in float, as in every other runtime.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import EdgevitError, InputError, MissingExtraError
from edgevit.policy import Policy
from edgevit.quantize.apply import OF_THE_GRAPH, Assignment, assign, count_int8
from edgevit.quantize.calibration import ranges_of
from edgevit.quantize.calibrators import Distribution
from edgevit.quantize.tflite import QuantizableOperators, read_operators, tensor_ranks, tensor_scales
from edgevit.quantize.tflite_remarks import remarks_on
from edgevit.store import write_bytes

Batches = Iterable[NDArray[Any]]


@dataclass(frozen=True)
class QuantizedFile:
    """int8: by kind of operator, (in INT8, of all). left_in_float: ONNX nodes that the policy wanted in INT8.

    `remarks`: on what stays in float between INT8 operators, and on Softmax (see tflite_remarks).
    """

    int8: dict[str, tuple[int, int]]
    left_in_float: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def quantize_litert(
    source: Path,
    target: Path,
    offered: QuantizableOperators,
    policy: Policy,
    distributions: Callable[[], Mapping[str, Distribution]],
) -> QuantizedFile:
    """Writes the fp32 file `source` with the policy's precisions.

    offered: its operators. distributions: by name, the values of its tensors on calibration pictures; asked for only
    where something is static. Raises MissingExtraError, and EdgevitError when it cannot be quantized so.
    """
    refused = [field for field in OF_THE_GRAPH if getattr(policy, field)]
    if refused:
        raise EdgevitError(f"LiteRT's INT8 has no {refused[0]}: it is made from a file, not from the ONNX graph.")
    assignment = _by_scope(offered, policy)
    engine = _quantizer(source)
    observed = distributions() if assignment.static or assignment.attention else {}
    try:
        with _quiet():
            engine.load_quantization_recipe(_recipe(offered.kinds, assignment, policy))
            ranges = {"calibration_result": _statistics(policy, observed, tensor_ranks(source))} if observed else {}
            content = engine.quantize(**ranges, enable_progress_bar=False, enable_progress_report=False)
    except EdgevitError:
        raise
    except Exception as error:  # ai-edge-quantizer raises about any type
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise EdgevitError(f"LiteRT cannot quantize this model: {type(error).__name__} {reason}".rstrip()) from error
    write_bytes(target, bytes(content.quantized_model))
    return _checked(target, offered, assignment, observed)


def observe_tensors(
    path: Path,
    offered: QuantizableOperators,
    batches: Batches,
    on_picture: Callable[[int], None] = lambda done: None,
) -> dict[str, Distribution]:
    """By name, the values of every tensor that the offered operators of an fp32 file read or make.

    batches: pictures as the file takes them, (1, H, W, C) each, read one at a time.

    Memory does not grow with their number. Raises InputError when there is no picture, EdgevitError for NaN.
    """
    interpreter = _interpreter(path)
    source = interpreter.get_input_details()[0]["index"]
    wanted = {index for indices in offered.tensors.values() for index in indices}
    tensors = [tensor for tensor in interpreter.get_tensor_details() if tensor["index"] in wanted]
    found: dict[str, Distribution] = {}
    done = 0
    for done, pixels in enumerate(batches, start=1):
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        for tensor in tensors:
            values = interpreter.get_tensor(tensor["index"])
            if not np.isfinite(values).all():
                raise EdgevitError(f"Tensor '{tensor['name']}' holds NaN or infinity on calibration picture {done}.")
            found.setdefault(tensor["name"], Distribution()).observe(values)
        on_picture(done)
    if done == 0:
        raise InputError("Static INT8 needs pictures to calibrate on, and there is none.")
    return found


def _by_scope(offered: QuantizableOperators, policy: Policy) -> Assignment:
    """`float_nodes` are ONNX nodes; what they became stays in float."""
    kept = set(policy.float_nodes)
    scopes = tuple(scope for scope, name in offered.names.items() if name in kept)
    return assign(offered.nodes, policy.model_copy(update={"float_nodes": scopes}))


def _recipe(kinds: Mapping[str, str], assignment: Assignment, policy: Policy) -> list[dict[str, Any]]:
    """ai-edge-quantizer's own form: for each kind of operator and precision, the scopes that it holds for."""
    from ai_edge_quantizer.recipe_manager import RecipeManager

    manager = RecipeManager()
    for scopes, add in (
        ((*assignment.static, *assignment.attention), _add_static(manager, policy)),
        (assignment.dynamic, lambda regex, kind: manager.add_dynamic_config(regex, kind, 8)),
        (assignment.stored, lambda regex, kind: manager.add_weight_only_config(regex, kind, 8)),
    ):
        for kind in sorted({kinds[scope] for scope in scopes}):
            chosen = [re.escape(scope) for scope in scopes if kinds[scope] == kind]
            add(f"^(?:{'|'.join(chosen)})$", kind)
    recipe: list[dict[str, Any]] = manager.get_quantization_recipe()
    return recipe


def _add_static(manager: Any, policy: Policy) -> Callable[[str, str], None]:
    bits = 16 if policy.activations == "int16" else 8
    return lambda regex, kind: manager.add_static_config(regex, kind, bits, 8)


def _statistics(
    policy: Policy, distributions: Mapping[str, Distribution], ranks: Mapping[str, int]
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """What the quantizer calls a calibration result: the range of each tensor, in as many dimensions as it has."""
    return {
        name: {"min": np.full([1] * ranks[name], low, np.float32), "max": np.full([1] * ranks[name], high, np.float32)}
        for name, (low, high) in ranges_of(policy.calibrator, distributions).items()
    }


def _checked(
    target: Path, offered: QuantizableOperators, assignment: Assignment, observed: Mapping[str, Distribution]
) -> QuantizedFile:
    """What is in INT8 in the file that was written; the quantizer says nothing of what it leaves out."""
    operators = read_operators(target)
    done = {operator.scope.removesuffix(";") for operator in operators if operator.is_int8}
    wanted = (*assignment.static, *assignment.attention, *assignment.dynamic)
    missing = {scope for scope in wanted if not _is_among(scope, done)}
    left = Assignment(*(tuple(scope for scope in part if scope not in missing) for part in _parts(assignment)))
    return QuantizedFile(
        count_int8(offered.nodes, left),
        tuple(sorted({offered.names[scope] for scope in missing})),
        remarks_on(operators, tensor_scales(target), observed, offered.origins),
    )


def _parts(assignment: Assignment) -> Sequence[tuple[str, ...]]:
    return assignment.static, assignment.attention, assignment.dynamic, assignment.stored


def _is_among(scope: str, done: set[str]) -> bool:
    """A quantized output may have a new name that begins with the old one."""
    name = scope.removesuffix(";")
    return name in done or any(other.startswith(f"{name}_") for other in done)


def _quantizer(source: Path) -> Any:
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise MissingExtraError("ai_edge_quantizer", "litert") from error
    return quantizer.Quantizer(str(source))


def _interpreter(path: Path) -> Any:
    """One that keeps every tensor."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with _quiet():
        interpreter = Interpreter(
            str(path),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer's prints, warnings and logs go nowhere: what matters of them is in its exception."""
    earlier = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(earlier)
