"""`make bench`: bundles beside what one would deploy otherwise, and the bench beside a bare loop; interleaved.

    python tests/benchmarks/against_plain_recipes.py [MODEL…] [--threads 1] [-o benchmarks.json]

Weights are random: latency only. Rivals are made with ONNX Runtime's own tools, with the settings of their tutorials.
Each row is a process of its own; all take turns. The file keeps machine, versions and raw samples.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgevit.assemble import assemble_bundle, gather_evidence
from edgevit.bench.interleave import ArtifactRun, Interleaved, measure_interleaved
from edgevit.bench.local import bench_bundle
from edgevit.bench.ratios import ratio
from edgevit.board.sensors import describe_machine
from edgevit.bundle import Bundle
from edgevit.catalog import load_device
from edgevit.cli.progress import TerminalProgress
from edgevit.data.batches import input_batches
from edgevit.data.samples import sample_pictures
from edgevit.export.onnx import INPUT, OUTPUT
from edgevit.models.create import create_model
from edgevit.recipe import RANDOM, Budget, ExportSpec, ModelSpec, ParityThresholds
from edgevit.store import write_json
from edgevit.subject import Subject, open_subject

MODELS = ("deit_tiny_patch16_224", "mobilevit_s")
CALIBRATION_PICTURES = 8
EDGEVIT = "edgevit"


class Pictures(CalibrationDataReader):
    def __init__(self, batches: list[np.ndarray]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/benchmarks.json"))
    arguments = parser.parse_args()
    results = {}
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = bench_model(name, arguments.threads, Path(folder))
    machine = {**describe_machine(), "onnxruntime": onnxruntime.__version__, "threads": arguments.threads}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output, {"schema_version": 1, "kind": "benchmarks", "machine": machine, "models": results})
    print(f"\nWritten: {arguments.output}")


def bench_model(name: str, threads: int, folder: Path) -> dict[str, object]:
    spec = ModelSpec(name=name, weights=RANDOM)
    subject = open_subject(name, spec)
    with TerminalProgress() as progress:
        export = ExportSpec()
        evidence = gather_evidence(subject, None, export)
        bundle = assemble_bundle(
            subject, load_device("local"), evidence, export, Budget(), ParityThresholds(), folder / "bundle",
            threads, progress,
        ).bundle  # fmt: skip
    runtime = bundle.manifest.runtime
    shape = subject.input_shape
    runs = {file.stem: ArtifactRun(file, "onnxruntime", threads, shape) for file in rivals(spec, subject, folder)}
    runs[EDGEVIT] = ArtifactRun(bundle.entry, runtime.name, threads, shape, runtime.session)
    timings = measure_interleaved(runs, min_seconds=6.0)
    rows = describe(timings)
    best = min((row for row in rows if row != EDGEVIT), key=lambda row: float(rows[row]["p50_ms"]))
    print(f"\n{name}, {threads} thread(s), shipped: {bundle.manifest.precision}")
    for row, figures in sorted(rows.items(), key=lambda item: float(item[1]["p50_ms"])):
        print(f"  {row:24s} p50 {figures['p50_ms']:7.2f} ms")
    found = ratio(timings[best].blocks, timings[EDGEVIT].blocks)
    print(f"  best rival ({best}) over edgevit: {found.ratio:.3f} [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]")
    bare = against_bare_loop(bundle, threads)
    print(f"  edgevit bench over a bare session.run loop: {bare['ratio']:.4f}")
    return {"rows": rows, "best_rival": best, "ratio": found.model_dump(), "bare_loop": bare}


def describe(timings: dict[str, Interleaved]) -> dict[str, dict[str, object]]:
    return {
        name: {"p50_ms": float(np.median(timing.samples_ms)), "samples_ms": list(timing.samples_ms)}
        for name, timing in timings.items()
        if not timing.failed
    }


def rivals(spec: ModelSpec, subject: Subject, folder: Path) -> list[Path]:
    """The exporter's graph as it comes (no fusion of training branches), and the usual quantizations of it."""
    import torch

    plain, prepared = folder / "fp32 as exported.onnx", folder / "prepared.onnx"
    torch.onnx.export(
        create_model(spec, None), (torch.zeros(subject.input_shape),), str(plain), dynamo=True, opset_version=18,
        input_names=[INPUT], output_names=[OUTPUT], external_data=False, verbose=False,
    )  # fmt: skip
    quant_pre_process(str(plain), str(prepared))
    matmul, static = folder / "dynamic, MatMul only.onnx", folder / "static U8S8, all.onnx"
    quantize_dynamic(
        prepared, matmul, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )
    pictures = sample_pictures(CALIBRATION_PICTURES, subject.preprocess.channels)
    batches = list(input_batches(pictures, subject.preprocess, 1))
    quantize_static(
        prepared, static, Pictures(batches), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, per_channel=True,
    )  # fmt: skip
    return [plain, matmul, static]


def against_bare_loop(bundle: Bundle, threads: int, turns: int = 4) -> dict[str, object]:
    """p50 of `edgevit bench` over that of a bare loop on the same file, in turns; the median of the turns' ratios."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in bundle.manifest.runtime.session.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(bundle.entry), options, providers=["CPUExecutionProvider"])
    pixels = np.zeros(bundle.manifest.model.input_shape, np.float32)
    ratios, bare_ms, bench_ms = [], [], []
    for _ in range(turns):
        bench_ms.append(bench_bundle(bundle.path, threads).latency_ms.p50)
        samples = []
        for _ in range(200):
            start = time.perf_counter()
            session.run(None, {INPUT: pixels})
            samples.append((time.perf_counter() - start) * 1e3)
        bare_ms.append(float(np.median(samples[20:])))
        ratios.append(bench_ms[-1] / bare_ms[-1])
    return {"ratio": float(np.median(ratios)), "bench_p50_ms": bench_ms, "bare_p50_ms": bare_ms}


if __name__ == "__main__":
    main()
