"""Bundle: the directory that a bare board runs and checks by itself. Written whole or not at all, checked on load."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edgevit.artifact import BundleFile, Manifest
from edgevit.board.amalgamate import agent_source
from edgevit.board.integrity import check_bundle
from edgevit.board.preprocess import Preprocess
from edgevit.errors import BadFileError
from edgevit.store import new_directory, sha256_file, write_json, write_text

MANIFEST = "manifest.json"
PREPROCESS = "preprocess.json"
LABELS = "labels.txt"
GOLDEN = "golden.npz"
AGENT = "agent.py"
REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Golden:
    """Pictures as the model gets them, and what the shipped artifact said of them on the host.

    images: uint8 (N, H, W, C), resized and cropped; logits: float32 (N, classes).
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    path: Path
    manifest: Manifest
    preprocess: Preprocess
    labels: tuple[str, ...]

    @property
    def entry(self) -> Path:
        return self.path / self.manifest.runtime.entry


def write_bundle(
    target: Path,
    artifact: Path,
    manifest: Manifest,
    preprocess: Preprocess,
    labels: tuple[str, ...],
    golden: Golden,
    requirements: tuple[str, ...],
) -> Bundle:
    """The bundle, complete, at `target`. `manifest` comes without its files' hashes: they are taken here.

    Raises InputError when `target` exists, BadFileError when it cannot be written; then nothing is left behind.
    """
    from edgevit.sbom import SBOM, sbom_of  # a package of the extra 'export', and bundles are read without it

    with new_directory(target) as folder:
        shutil.copyfile(artifact, folder / manifest.runtime.entry)
        write_json(folder / PREPROCESS, preprocess.to_json())
        write_text(folder / LABELS, "".join(f"{label}\n" for label in labels))
        classes = golden.logits.argmax(axis=1).astype(np.int64)
        np.savez(folder / GOLDEN, images=golden.images, logits=golden.logits, classes=classes)
        write_text(folder / AGENT, agent_source(manifest.runtime.name))
        write_text(folder / REQUIREMENTS, "".join(f"{line}\n" for line in requirements))
        files = {path.name: _described(path) for path in sorted(folder.iterdir())}
        write_text(folder / SBOM, sbom_of(manifest.model_copy(update={"files": files}), requirements))
        complete = manifest.model_copy(update={"files": {**files, SBOM: _described(folder / SBOM)}})
        write_json(folder / MANIFEST, complete)
    return Bundle(target, complete, preprocess, labels)


def _described(path: Path) -> BundleFile:
    return BundleFile(sha256=sha256_file(path), size=path.stat().st_size)


def load_bundle(path: Path) -> Bundle:
    """The bundle at `path`. Raises BadFileError naming the file that was changed, is missing, or is not listed."""
    document = check_bundle(path)
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadFileError(path / MANIFEST, f"{first['msg']}.", where=where, fix="Export the bundle again.") from None
    preprocess = read_preprocess(path / PREPROCESS)
    labels = read_labels(path / LABELS)
    if len(labels) != manifest.model.classes:
        problem = f"has {len(labels)} labels, and the model has {manifest.model.classes} classes."
        raise BadFileError(path / LABELS, problem)
    return Bundle(path, manifest, preprocess, labels)


def read_preprocess(path: Path) -> Preprocess:
    try:
        return Preprocess.from_json(json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, ValueError) as error:
        raise BadFileError(path, f"cannot be read as JSON ({error}).") from None


def read_labels(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_bytes().decode()  # a label may hold what str.splitlines() takes for a line's end
        return tuple(text.removesuffix("\n").split("\n"))
    except (OSError, ValueError) as error:
        raise BadFileError(path, f"cannot be read ({error}).") from None


def is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()
