"""Build: every artifact that is worth trying, each with the parity of every hop that led to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.choose import Kind
from edgevit.data.batches import input_batches, predict_all
from edgevit.data.pictures import PictureSet
from edgevit.device import Device
from edgevit.errors import EdgevitError, InputError
from edgevit.export.diverge import EXACT_THRESHOLD_DB, INT8_THRESHOLD_DB, first_diverging_layer
from edgevit.export.onnx import checked, export_onnx, write_onnx
from edgevit.progress import Progress
from edgevit.quantize.calibration import activation_ranges
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import QuantizableNodes, model_kind, quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.quantize.weight_only import store_weights_as_int8
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.results import Parity
from edgevit.rewrite.class_token import compute_last_block_for_class_token
from edgevit.runtimes import open_session
from edgevit.subject import Subject
from edgevit.verify import measure_parity

FP32, DYNAMIC, STATIC, MIXED = "fp32", "int8-dynamic", "int8-static", "mixed"
# Folds the weights' DequantizeLinear into float weights when the session is made, not at every inference
# (MobileViT-S: 50.4 ms without, 38.7 ms with it). Nothing else in a dynamic graph is a Q/DQ pair.
FOLD_WEIGHTS = {"session.disable_quant_qdq": "1"}
# An x86 without VNNI saturates U8S8 sums, an ARM does not: what is meant for ARM is judged by U8U8 here.
EXACT_INTEGER_SUMS = {"session.x64quantprecision": "1"}
# Nothing is timed in this process: on a busy machine threads that spin while they wait take many times as long.
YIELD_WHEN_IDLE = {"session.intra_op.allow_spinning": "0"}
EVERY_CORE = 0
RANDOM_COSINE = 0.8

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Artifact:
    """`session`: what the runtime is configured with on the device. `failed`: why there is no file to ship."""

    precision: str
    runtime: str
    path: Path
    session: dict[str, str] = field(default_factory=dict)
    parity: tuple[Parity, ...] = ()
    failed: str | None = None


@dataclass(frozen=True)
class Workshop:
    """What artifacts are made and judged with.

    probes: real pictures on which neighbouring hops are compared.
    is_foreign: the device has another architecture than this machine.
    """

    subject: Subject
    device: Device
    spec: ExportSpec
    thresholds: ParityThresholds
    calibration: PictureSet
    probes: PictureSet
    folder: Path
    is_foreign: bool
    progress: Progress

    def logits(self, artifact: Artifact, pictures: PictureSet) -> Logits:
        """(N, classes) as the artifact gives them here, as nearly as this machine can to how the device will."""
        config = dict(artifact.session)
        if artifact.runtime == "onnxruntime":
            config |= {**YIELD_WHEN_IDLE, **(EXACT_INTEGER_SUMS if self.is_foreign else {})}
        session = open_session(artifact.path, artifact.runtime, EVERY_CORE, config)
        try:
            return predict_all(session.run, pictures, self.subject.preprocess, progress=self.progress.update)
        finally:
            session.close()


def build_artifacts(shop: Workshop) -> tuple[tuple[Artifact, ...], Kind]:
    """fp32 first, then what `spec.precision` asks for, and the kind of model that it is.

    An INT8 artifact that cannot be built is there with its reason; when fp32 fails its parity, it is alone.
    Raises InputError for a precision that the runtime or the model does not have, EdgevitError when nothing is built.
    """
    if shop.spec.runtime == "torchscript":
        return (_torchscript(shop),), "transformer"
    fp32, graph = _fp32(shop)
    kind = model_kind(graph)
    if not all(parity.passed for parity in fp32.parity):
        return (fp32,), kind
    nodes = quantizable_nodes(graph)
    wanted = _precisions(shop, nodes)
    reference = shop.logits(fp32, shop.probes)
    quantized = _quantizer(graph, nodes, shop)
    return (fp32, *(_int8(precision, quantized, fp32, reference, nodes, shop) for precision in wanted)), kind


def _fp32(shop: Workshop) -> tuple[Artifact, onnx.ModelProto]:
    """The rewritten fp32 graph, as an artifact and as a graph."""
    subject = shop.subject
    shop.progress.stage("Exporting to ONNX")
    hops: list[Parity] = []
    if subject.graph is not None:
        graph = subject.graph
    else:
        from edgevit.train.evaluate import torch_run

        assert subject.model is not None
        torch_logits = predict_all(torch_run(subject.model), shop.probes, subject.preprocess)
        graph = export_onnx(subject.model, subject.input_shape, shop.spec.opset, shop.spec.dynamic_batch)
    exported = Artifact(FP32, "onnxruntime", write_onnx(graph, shop.folder / "exported.onnx"))
    logits = shop.logits(exported, shop.probes)
    if subject.graph is None:
        hops.append(_exact_parity("torch -> onnx", torch_logits, logits, shop))

    shop.progress.stage("Rewriting")
    rewritten = checked(compute_last_block_for_class_token(graph))
    fp32 = Artifact(FP32, "onnxruntime", write_onnx(rewritten, shop.folder / "fp32.onnx"))
    hop = _exact_parity("onnx -> rewritten", logits, shop.logits(fp32, shop.probes), shop)
    hops.append(_located(hop, exported, fp32, EXACT_THRESHOLD_DB, shop))
    return replace(fp32, parity=tuple(hops)), rewritten


def _precisions(shop: Workshop, nodes: QuantizableNodes) -> tuple[str, ...]:
    possible = {
        DYNAMIC: bool(nodes.linear),
        STATIC: bool(nodes.linear or nodes.conv),
        MIXED: bool(nodes.linear and nodes.conv),
    }
    if shop.spec.precision == "auto":
        return tuple(precision for precision, is_possible in possible.items() if is_possible)
    if shop.spec.precision == FP32:
        return ()
    if not possible[shop.spec.precision]:
        kinds = {DYNAMIC: "linear layers", STATIC: "linear layers or convolutions"}.get(
            shop.spec.precision, "pair of linear layers and convolutions"
        )
        raise InputError(f"'{shop.subject.name}' has no {kinds} for --precision {shop.spec.precision}. Take another.")
    return (shop.spec.precision,)


def _quantizer(graph: onnx.ModelProto, nodes: QuantizableNodes, shop: Workshop) -> Callable[[str], onnx.ModelProto]:
    """precision -> the quantized graph. Calibration runs once, when a precision first needs it."""
    preset = shop.device.quantization
    static_nodes = (*nodes.linear, *nodes.conv, *nodes.silu)
    known: list[object] = []

    def ranges() -> object:
        if not known:
            shop.progress.stage("Calibrating")
            total = len(shop.calibration)
            batches = input_batches(shop.calibration, shop.subject.preprocess, 1)
            known.append(
                activation_ranges(
                    graph, batches, static_nodes, shop.spec.calibrator, lambda done: shop.progress.update(done, total)
                )
            )
        return known[0]

    def quantized(precision: str) -> onnx.ModelProto:
        if precision == STATIC:
            return quantize_static(graph, static_nodes, ranges(), preset)
        if precision == MIXED:
            convolutional = quantize_static(graph, (*nodes.conv, *nodes.silu), ranges(), preset)
            return quantize_dynamic(convolutional, nodes.linear, preset)
        return store_weights_as_int8(quantize_dynamic(graph, nodes.linear, preset), nodes.conv)

    return quantized


def _int8(
    precision: str,
    quantized: Callable[[str], onnx.ModelProto],
    fp32: Artifact,
    reference: Logits,
    nodes: QuantizableNodes,
    shop: Workshop,
) -> Artifact:
    shop.progress.stage(f"Quantizing: {precision}")
    session = FOLD_WEIGHTS if precision == DYNAMIC and nodes.conv else {}
    artifact = Artifact(precision, "onnxruntime", shop.folder / f"{precision}.onnx", session)
    try:
        write_onnx(quantized(precision), artifact.path)
    except InputError:  # no picture to calibrate on, or no place to write to: it is not this artifact's fault
        raise
    except EdgevitError as error:
        return replace(artifact, failed=str(error))
    try:
        logits = shop.logits(artifact, shop.probes)
    except EdgevitError as error:  # a file that the runtime does not take is an InputError elsewhere
        return replace(artifact, failed=str(error))
    hop = measure_parity(f"fp32 -> {precision}", reference, logits, *_int8_thresholds(shop))
    return replace(artifact, parity=(*fp32.parity, _located(hop, fp32, artifact, INT8_THRESHOLD_DB, shop)))


def _int8_thresholds(shop: Workshop) -> tuple[float, float]:
    """Cosine and top-1 agreement. Random weights have no classes to agree on, and pass rounding on from layer to layer
    that trained ones would not: only a broken artifact falls below RANDOM_COSINE.
    """
    if shop.subject.weights == "random":
        return RANDOM_COSINE, 0.0
    return shop.thresholds.int8_cosine, shop.thresholds.int8_top1_agreement


def _torchscript(shop: Workshop) -> Artifact:
    from edgevit.export.torchscript import export_torchscript
    from edgevit.train.evaluate import torch_run

    subject, path = shop.subject, shop.folder / "fp32.ts"
    if shop.spec.precision not in ("auto", FP32):
        raise InputError(f"--runtime torchscript runs fp32 only, not {shop.spec.precision}. Leave --precision out.")
    if subject.model is None:
        raise InputError(f"'{subject.name}' is an ONNX file, and --runtime torchscript needs a checkpoint or a model.")
    shop.progress.stage("Exporting to TorchScript")
    artifact = Artifact(FP32, "torchscript", export_torchscript(subject.model, subject.input_shape, path))
    reference = predict_all(torch_run(subject.model), shop.probes, subject.preprocess)
    hop = _exact_parity("torch -> torchscript", reference, shop.logits(artifact, shop.probes), shop)
    return replace(artifact, parity=(hop,))


def _exact_parity(hop: str, reference: Logits, candidate: Logits, shop: Workshop) -> Parity:
    least = shop.thresholds
    return measure_parity(hop, reference, candidate, least.exact_cosine, least.exact_top1_agreement)


def _located(hop: Parity, reference: Artifact, candidate: Artifact, threshold_db: float, shop: Workshop) -> Parity:
    """The same parity, with the first diverging layer when it failed."""
    if hop.passed:
        return hop
    pixels = next(input_batches(shop.probes, shop.subject.preprocess, 4))
    layer = first_diverging_layer(reference.path, candidate.path, pixels, threshold_db)
    return hop.model_copy(update={"first_diverging_layer": layer})
