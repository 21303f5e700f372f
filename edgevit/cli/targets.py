"""A TARGET of the command line, and the pictures that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.assemble import Evidence
    from edgevit.cli.progress import TerminalProgress
    from edgevit.recipe import ExportSpec
    from edgevit.subject import Subject


def opened_target(
    target: str, spec: ExportSpec, chosen: dict[str, Any], progress: TerminalProgress
) -> tuple[Subject, Evidence]:
    """TARGET, and the pictures to calibrate, judge and test with."""
    from edgevit.assemble import gather_evidence
    from edgevit.data.datasets import open_dataset, open_unlabelled
    from edgevit.recipe import ModelSpec, split_as_trained
    from edgevit.subject import open_subject

    progress.stage("Loading the model")
    shape = {key: chosen[key] for key in ("image_size", "channels", "weights")}
    model = ModelSpec(name=target, **shape)
    subject = open_subject(target, model, chosen["classes"], chosen["offline"], chosen["seed"])
    dataset, calibration = None, None
    if chosen["data"]:
        progress.stage("Opening the data")
        data = split_as_trained(chosen["data"], subject.trained_on)
        data = data.model_copy(update={"eval_limit": chosen["eval_limit"]})
        dataset = open_dataset(data, offline=chosen["offline"], notify=progress.note, progress=progress.update)
    if chosen["calibration_data"]:
        progress.stage("Opening the calibration pictures")
        calibration, skipped = open_unlabelled(chosen["calibration_data"], progress.update)
        for name, reason in skipped.items():
            progress.note(f"skipped {name}: {reason}")
    return subject, gather_evidence(subject, dataset, spec, calibration)
