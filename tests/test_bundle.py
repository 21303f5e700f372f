from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_figures import tiny_logits

from edgevit import bundle as bundles
from edgevit.artifact import Manifest
from edgevit.board.preprocess import Preprocess
from edgevit.bundle import Bundle, Golden, is_bundle, load_bundle, read_labels, read_preprocess, write_bundle
from edgevit.errors import BadFileError, InputError
from edgevit.store import sha256_file

LABELS = ("red", "green", "blue", "gray, or none – of these")
REQUIREMENTS = ("onnxruntime==1.31.1", "numpy==2.4.6")


@pytest.fixture
def write(make_bundle: Callable[..., Path], tmp_path: Path) -> Callable[..., Bundle]:
    """write(target) writes the hand-made bundle's parts anew."""
    source = make_bundle("source")
    manifest = Manifest.model_validate_json((source / "manifest.json").read_text()).model_copy(update={"files": {}})
    images = np.random.default_rng(3).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)

    def call(target: Path = tmp_path / "new", artifact: Path = source / "model.onnx") -> Bundle:
        preprocess = read_preprocess(source / "preprocess.json")
        golden = Golden(images, tiny_logits(images))
        return write_bundle(target, artifact, manifest, preprocess, LABELS, golden, REQUIREMENTS)

    return call


def edit_manifest(root: Path, **keys: object) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps({**manifest, **keys}))


def test_what_was_written_is_loaded(write: Callable[..., Bundle], tmp_path: Path) -> None:
    written = write()
    loaded = load_bundle(tmp_path / "new")
    assert loaded == written
    assert (loaded.labels, loaded.manifest.model.name) == (LABELS, "tiny")
    assert loaded.preprocess == Preprocess(8, 8, 3, 8, "center", "bilinear", (0.5,) * 3, (0.5,) * 3, "RGB")
    assert loaded.entry == tmp_path / "new" / "model.onnx"
    assert is_bundle(loaded.path)


def test_the_manifest_lists_every_other_file_with_size_and_hash(write: Callable[..., Bundle], tmp_path: Path) -> None:
    write()
    files = load_bundle(tmp_path / "new").manifest.files
    on_disk = {path.name: path for path in (tmp_path / "new").iterdir() if path.name != "manifest.json"}
    assert set(files) == set(on_disk) == {
        "model.onnx", "preprocess.json", "labels.txt", "golden.npz", "agent.py", "requirements.txt", "sbom.cdx.json",
    }  # fmt: skip
    for name, path in on_disk.items():
        assert (files[name].size, files[name].sha256) == (path.stat().st_size, sha256_file(path))


def test_golden_classes_are_those_of_the_highest_logits(write: Callable[..., Bundle], tmp_path: Path) -> None:
    write()
    with np.load(tmp_path / "new" / "golden.npz") as golden:
        assert (golden["images"].dtype, golden["logits"].dtype, golden["classes"].dtype) == (
            np.uint8,
            np.float32,
            np.int64,
        )
        assert golden["classes"].tolist() == golden["logits"].argmax(axis=1).tolist()
        np.testing.assert_array_equal(golden["logits"], tiny_logits(golden["images"]))


def test_requirements_are_one_a_line(write: Callable[..., Bundle], tmp_path: Path) -> None:
    write()
    assert (tmp_path / "new" / "requirements.txt").read_text() == "onnxruntime==1.31.1\nnumpy==2.4.6\n"


def test_the_bundle_checks_itself_with_its_own_agent(write: Callable[..., Bundle], tmp_path: Path) -> None:
    write()
    ended = subprocess.run(
        [sys.executable, "-I", "agent.py", "selfcheck"],
        cwd=tmp_path / "new", capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_a_bundle_that_exists_is_not_overwritten(write: Callable[..., Bundle], tmp_path: Path) -> None:
    write()
    before = sha256_file(tmp_path / "new" / "manifest.json")
    with pytest.raises(InputError, match=r"new: exists already and is not overwritten"):
        write()
    assert sha256_file(tmp_path / "new" / "manifest.json") == before


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (OSError(errno.ENOSPC, "No space left"), BadFileError, r"new: cannot be written: the disk is full\."),
    ],
)
def test_nothing_is_left_after_a_failure(
    write: Callable[..., Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    kind: type[BaseException],
    words: str,
) -> None:
    before = set(tmp_path.iterdir())

    def fail(runtime: str) -> str:
        raise failure

    monkeypatch.setattr(bundles, "agent_source", fail)
    with pytest.raises(kind, match=words):
        write()
    assert set(tmp_path.iterdir()) == before


def test_a_manifest_with_an_unknown_key_is_refused_by_its_name(write: Callable[..., Bundle], tmp_path: Path) -> None:
    write()
    edit_manifest(tmp_path / "new", surprise=1)
    with pytest.raises(BadFileError, match=r"manifest\.json: surprise: .*Export the bundle again\."):
        load_bundle(tmp_path / "new")


def test_labels_that_are_not_the_models_are_refused(
    make_bundle: Callable[..., Path], sign_bundle: Callable[[Path], None]
) -> None:
    root = make_bundle()
    (root / "labels.txt").write_text("red\ngreen\n")
    sign_bundle(root)
    with pytest.raises(BadFileError, match=r"labels\.txt: has 2 labels, and the model has 4 classes\."):
        load_bundle(root)


def test_a_changed_byte_is_refused_by_the_files_name(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle()
    data = bytearray((root / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (root / "model.onnx").write_bytes(data)
    with pytest.raises(InputError, match=r"model\.onnx"):
        load_bundle(root)


def test_parts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text("{broken")
    with pytest.raises(BadFileError, match=r"preprocess\.json: cannot be read as JSON \("):
        read_preprocess(tmp_path / "preprocess.json")
    with pytest.raises(BadFileError, match=r"absent\.json: cannot be read as JSON \("):
        read_preprocess(tmp_path / "absent.json")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFileError, match=r"labels\.txt: cannot be read \("):
        read_labels(tmp_path / "labels.txt")


def test_a_folder_without_manifest_and_a_missing_one_are_no_bundles(tmp_path: Path) -> None:
    assert not is_bundle(tmp_path)
    assert not is_bundle(tmp_path / "missing")


def test_a_label_may_hold_what_looks_like_a_lines_end(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("a\x85b\nc\u2028d\n\n".encode())
    assert read_labels(tmp_path / "labels.txt") == ("a\x85b", "c\u2028d", "")
