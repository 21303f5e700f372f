"""edgevit export: a verified bundle of a model, for a device."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.cli.verdict import print_test, print_verdict, require_budget_met

if TYPE_CHECKING:
    from edgevit.device import Device
    from edgevit.results import LatencyPrediction


@click.command("export")
@click.argument("target")
@options.device
@click.option("-o", "--output", "bundle", required=True, type=options.OUTPUT_PATH, help="Bundle directory.")
@options.data
@click.option("--calibration-data", type=options.OUTPUT_PATH, help="A folder of pictures; labels are not needed.")
@click.option("--eval-limit", type=click.IntRange(1), help="Accuracy on a stratified subset of that many pictures.")
@options.budget
@options.export
@options.threads
@options.model
@click.option("--classes", type=click.IntRange(1), help="Of a model that is named.  [default: its weights']")
@options.seed
@options.offline
@speaking
def export_command(output: Output, target: str, device: str, bundle: Path, **chosen: Any) -> None:
    """Export TARGET (a model, a checkpoint or an .onnx) for a device: quantized where it pays, verified, bundled.

    A name means the model's pretrained weights. Without --data no accuracy is claimed: parity with fp32 stands in.
    What loses more than --max-drop on the test pictures is bundled all the same, and ends with exit code 3.
    """
    from edgevit.catalog import load_device
    from edgevit.cli.progress import TerminalProgress
    from edgevit.extras import require_extras
    from edgevit.recipe import Budget, ExportSpec, ParityThresholds
    from edgevit.store import require_creatable

    profile = load_device(device)
    require_creatable(bundle)
    require_extras("train", "export")
    from edgevit.assemble import assemble_bundle
    from edgevit.cli.targets import opened_target
    from edgevit.latency.predict import prediction_or_reason

    budget = Budget(**{key: chosen[key] for key in ("max_drop", "max_latency_ms", "max_size_mib")})
    keys = ("precision", "runtime", "opset", "dynamic_batch", "calibrator", "calibration_images")
    spec = ExportSpec(**{key: chosen[key] for key in keys})
    with TerminalProgress() as progress:
        subject, evidence = opened_target(target, spec, chosen, progress)
        threads = chosen["threads"] or profile.threads
        result = assemble_bundle(
            subject, profile, evidence, spec, budget, ParityThresholds(), bundle, threads, progress
        )
    prediction, said = None, ""
    if not result.bundle.manifest.device.measured_on:
        prediction, said = prediction_or_reason(result.bundle, profile)
    if output.is_json:
        candidates = [candidate.model_dump(mode="json") for candidate in result.candidates]
        manifest = result.bundle.manifest.model_dump(mode="json")
        document = {"kind": "export", "bundle": str(bundle), "manifest": manifest, "candidates": candidates}
        if prediction is not None:
            document["prediction"] = prediction.model_dump(mode="json")
        output.document(document)
    else:
        print_verdict(output, result.verdict, result.candidates)
        print_test(output, result.bundle.manifest.accuracy.artifact, result.drop)
        said = _sentence(prediction) if prediction else said
        if said:
            output.text(f"• {said}")
        output.text(f"\nBundle: {bundle}")
    require_budget_met(result.verdict, result.drop, bundle, "--max-drop")
    if result.bundle.manifest.device.measured_on:
        output.next("edgevit", "bench", bundle)
    else:
        output.text(f"\nNext: {_on_the_board(bundle, profile)}")


def _sentence(prediction: LatencyPrediction) -> str:
    from edgevit.wording import predicted

    words = predicted(prediction)
    return f"{words[0].upper()}{words[1:]}."


def _on_the_board(bundle: Path, device: Device) -> str:
    host = "pi@raspberrypi.local" if device.sensors == "raspberry-pi" else f"user@{device.name}"
    copy = shlex.join(["scp", "-r", str(bundle), f"{host}:"])
    return f"{copy} && ssh {host} python3 {shlex.quote(bundle.name)}/agent.py bench"
