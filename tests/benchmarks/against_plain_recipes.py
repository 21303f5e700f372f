"""`make bench`: bundles beside what one would deploy otherwise, and the bench beside a bare loop; interleaved.

    python tests/benchmarks/against_plain_recipes.py [MODEL…] [--checkpoints DIR] [--trials 60] [--threads 1] [-o FILE]

Without --checkpoints the weights are random: latency only. With them (DIR/MODEL, by train_checkpoints.py) each model
is exported exactly and tuned on Fashion-MNIST, and both bundles stand beside the rivals with their accuracy.
Rivals are made with the runtimes' own tools, by their tutorials. Each row is a process of its own; all take turns. The
file keeps machine, versions and raw samples.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgevit.assemble import assemble_bundle, gather_evidence
from edgevit.bench.interleave import ArtifactRun, Interleaved, measure_interleaved
from edgevit.bench.local import bench_bundle
from edgevit.bench.ratios import ratio
from edgevit.board.sensors import describe_machine
from edgevit.bundle import Bundle, load_bundle
from edgevit.catalog import load_device
from edgevit.cli.progress import TerminalProgress
from edgevit.data.batches import input_batches
from edgevit.data.datasets import Dataset, open_dataset
from edgevit.data.samples import sample_pictures
from edgevit.export.onnx import INPUT, OUTPUT
from edgevit.extras import installed_versions
from edgevit.models.checkpoint import load_checkpoint
from edgevit.models.create import create_model
from edgevit.recipe import RANDOM, Budget, ExportSpec, ModelSpec, ParityThresholds, split_as_trained
from edgevit.store import write_json
from edgevit.subject import Subject, from_checkpoint, open_subject

MODELS = ("deit_tiny_patch16_224", "mobilevit_s", "fastvit_t8", "efficientvit_m0")
# Sides that the search may choose besides the model's own.
SMALLER = {
    "mobilevit_s": ("224", "192"), "fastvit_t8": ("224", "192"), "efficientvit_m0": ("208", "192"),
}  # fmt: skip
DATA = "fashion-mnist"
TEST_PICTURES = 2500
CALIBRATION_PICTURES = 8
EXACT, TUNED = "edgevit, exact", "edgevit, tuned"
VERSIONED = ("numpy", "onnx", "onnxruntime", "openvino", "optuna", "timm", "torch")


@dataclass(frozen=True)
class Contest:
    """What is measured for one model. `model`: the torch module as it comes, with the branches of its training."""

    name: str
    subject: Subject
    model: Any
    dataset: Dataset | None
    checkpoint: Path | None
    threads: int
    folder: Path


class Pictures(CalibrationDataReader):
    def __init__(self, batches: list[np.ndarray]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/benchmarks.json"))
    arguments = parser.parse_args()
    results = {}
    for name in arguments.models:
        checkpoint = arguments.checkpoints / name if arguments.checkpoints else None
        with tempfile.TemporaryDirectory() as folder:
            contest = open_contest(name, checkpoint, arguments.threads, Path(folder))
            results[name] = bench_model(contest, arguments.trials)
    versions = installed_versions(VERSIONED)
    machine = {**describe_machine(), "versions": versions, "threads": arguments.threads}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output, {"schema_version": 2, "kind": "benchmarks", "machine": machine, "models": results})
    print(f"\nWritten: {arguments.output}")


def open_contest(name: str, checkpoint: Path | None, threads: int, folder: Path) -> Contest:
    if checkpoint is None:
        spec = ModelSpec(name=name, weights=RANDOM)
        return Contest(name, open_subject(name, spec), create_model(spec, None), None, None, threads, folder)
    subject = from_checkpoint(checkpoint)
    split = split_as_trained(DATA, subject.trained_on).model_copy(update={"eval_limit": TEST_PICTURES})
    return Contest(name, subject, load_checkpoint(checkpoint)[0], open_dataset(split), checkpoint, threads, folder)


def bench_model(contest: Contest, trials: int) -> dict[str, object]:
    bundles = {EXACT: exact_bundle(contest)}
    if contest.checkpoint is not None:
        bundles[TUNED] = tuned_bundle(contest, trials)
    runs = {
        file.stem: ArtifactRun(file, "onnxruntime", contest.threads, contest.subject.input_shape)
        for file in rivals(contest)
    }
    for row, bundle in bundles.items():
        manifest = bundle.manifest
        runs[row] = ArtifactRun(
            bundle.entry, manifest.runtime.name, contest.threads, manifest.model.input_shape, manifest.runtime.session
        )
    timings = measure_interleaved(runs, min_seconds=6.0)
    rows = describe(timings)
    best = min((row for row in rows if row not in bundles), key=lambda row: float(rows[row]["p50_ms"]))
    print(f"\n{contest.name}, {contest.threads} thread(s)")
    for row, figures in sorted(rows.items(), key=lambda item: float(item[1]["p50_ms"])):
        print(f"  {row:24s} p50 {figures['p50_ms']:7.2f} ms")
    ratios = {}
    for row, bundle in bundles.items():
        found = ratio(timings[best].blocks, timings[row].blocks)
        ratios[row] = found.model_dump()
        print(f"  {best} over {row}: {found.ratio:.3f} [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]")
        print(f"    {bundle.manifest.verdict.sentences[0]}")
        rows[row] |= {"manifest": bundle.manifest.model_dump(mode="json")}
    bare = against_bare_loop(bundles[EXACT], contest.threads)
    print(f"  edgevit bench over a bare session.run loop: {bare['ratio']:.4f}")
    return {"rows": rows, "best_rival": best, "ratios": ratios, "bare_loop": bare}


def exact_bundle(contest: Contest) -> Bundle:
    """Quantized where it pays, exact rewrites only: what `edgevit export` makes."""
    with TerminalProgress() as progress:
        export = ExportSpec(runtime="onnxruntime")
        evidence = gather_evidence(contest.subject, contest.dataset, export)
        return assemble_bundle(
            contest.subject, load_device("local"), evidence, export, Budget(), ParityThresholds(),
            contest.folder / "exact", contest.threads, progress,
        ).bundle  # fmt: skip


def tuned_bundle(contest: Contest, trials: int) -> Bundle:
    """The point that `edgevit tune` chooses within its default budget of one point."""
    out = contest.folder / "tune"
    sizes = [word for side in SMALLER.get(contest.name, ()) for word in ("--image-size", side)]
    subprocess.run(
        [
            sys.executable, "-m", "edgevit", "tune", str(contest.checkpoint), "--data", DATA, "--trials", str(trials),
            "--threads", str(contest.threads), "--eval-limit", str(TEST_PICTURES), *sizes, "-o", str(out),
        ],
        check=True,
    )  # fmt: skip
    return load_bundle(next(out.glob("bundle-*")))


def describe(timings: dict[str, Interleaved]) -> dict[str, dict[str, object]]:
    return {
        name: {"p50_ms": float(np.median(timing.samples_ms)), "samples_ms": list(timing.samples_ms)}
        for name, timing in timings.items()
        if not timing.failed
    }


def rivals(contest: Contest) -> list[Path]:
    """The exporter's graph as it comes (no fusion of training branches), and the usual quantizations of it."""
    import torch

    subject = contest.subject
    plain, prepared = contest.folder / "fp32 as exported.onnx", contest.folder / "prepared.onnx"
    torch.onnx.export(
        contest.model.eval(), (torch.zeros(subject.input_shape),), str(plain), dynamo=True, opset_version=18,
        input_names=[INPUT], output_names=[OUTPUT], external_data=False, verbose=False,
    )  # fmt: skip
    prepare(plain, prepared)
    pictures = sample_pictures(CALIBRATION_PICTURES, subject.preprocess.channels)
    batches = list(input_batches(pictures, subject.preprocess, 1))
    only = {"per_channel": True, "op_types_to_quantize": ["MatMul", "Gemm"]}
    recipes: dict[str, Callable[[Path], None]] = {
        "dynamic, MatMul only": lambda path: quantize_dynamic(prepared, path, weight_type=QuantType.QInt8, **only),
        "dynamic, by default": lambda path: quantize_dynamic(prepared, path, weight_type=QuantType.QInt8),
        "static U8S8, all": lambda path: quantize_static(
            prepared, path, Pictures(batches), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True,
        ),
    }  # fmt: skip
    return [plain, *(path for name, recipe in recipes.items() if made(path := contest.folder / f"{name}.onnx", recipe))]


def made(path: Path, recipe: Callable[[Path], None]) -> bool:
    """Whether the recipe takes this graph at all; what it does not take is no rival."""
    try:
        recipe(path)
    except Exception as error:  # of ONNX Runtime and of ONNX, no common class
        print(f"  {path.stem}: {type(error).__name__}: {str(error).splitlines()[0]}")
        return False
    return True


def prepare(plain: Path, prepared: Path) -> None:
    """As ONNX Runtime's tutorial does; it knows not every exported graph, and then less of it, or none."""
    for skipped in ({}, {"skip_symbolic_shape": True}, {"skip_symbolic_shape": True, "skip_onnx_shape": True}):
        try:
            quant_pre_process(str(plain), str(prepared), **skipped)
        except Exception as error:  # of ONNX Runtime and of ONNX, no common class
            print(f"  quant_pre_process: {type(error).__name__}: {str(error).splitlines()[0]}")
        else:
            return
    raise SystemExit(f"{plain}: cannot be prepared for quantization.")


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
