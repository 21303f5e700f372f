from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.artifact import Manifest
from edgevit.board import integrity
from edgevit.board.integrity import check_bundle, sha256_of
from edgevit.errors import BadFileError

MakeBundle = Callable[..., Path]


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    change(manifest)
    (root / "manifest.json").write_text(json.dumps(manifest))


def refused(root: Path, *words: str) -> None:
    with pytest.raises(BadFileError) as caught:
        check_bundle(root)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_whole_bundle_gives_its_manifest(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    manifest = check_bundle(root)
    assert manifest["model"]["name"] == "tiny"
    Manifest.model_validate(manifest)


def test_a_file_in_a_folder_of_the_bundle_counts_like_any_other(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]
) -> None:
    root = make_bundle()
    (root / "bin").mkdir()
    (root / "bin/runner").write_bytes(b"\x7fELF")
    refused(root, "bin/runner: is not in the manifest")
    sign_bundle(root)
    assert "bin/runner" in check_bundle(root)["files"]


def test_a_link_to_the_bundle_itself_is_followed(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(make_bundle())
    assert check_bundle(tmp_path / "current")["precision"] == "fp32"


def test_a_changed_byte_is_refused_by_name(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    content = bytearray((root / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (root / "model.onnx").write_bytes(content)
    refused(root, "model.onnx: has another sha256 than the manifest says")


def test_a_cut_file_is_refused_with_both_sizes(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    size = (root / "model.onnx").stat().st_size
    (root / "model.onnx").write_bytes((root / "model.onnx").read_bytes()[:-1])
    refused(root, f"model.onnx: has {size - 1} bytes, and the manifest says {size}")


def test_a_missing_file_is_refused_by_name(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "labels.txt").unlink()
    refused(root, "labels.txt: is missing from the bundle", "Make the bundle again with 'edgevit export'")


def test_extra_files_are_refused_by_the_first_name_and_the_number(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "a.txt").write_text("x")
    refused(root, "a.txt: is not in the manifest.", "Move it elsewhere")
    (root / "b.txt").write_text("x")
    refused(root, "a.txt: is not in the manifest (and 1 more)")


def test_a_symbolic_link_is_refused_also_one_to_a_directory(make_bundle: MakeBundle, tmp_path: Path) -> None:
    root = make_bundle()
    (root / "labels.txt").rename(tmp_path / "labels.txt")
    (root / "labels.txt").symlink_to(tmp_path / "labels.txt")
    refused(root, "labels.txt: is a symbolic link")
    other = make_bundle("other")
    (other / "bin").symlink_to(tmp_path)
    refused(other, "bin: is a symbolic link")


def test_a_manifest_that_is_a_link_is_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    root = make_bundle()
    (root / "manifest.json").rename(tmp_path / "elsewhere.json")
    (root / "manifest.json").symlink_to(tmp_path / "elsewhere.json")
    refused(root, "manifest.json: is a symbolic link")


def test_a_pipe_is_no_plain_file(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    os.mkfifo(root / "pipe")
    refused(root, "pipe: is not a plain file")


@pytest.mark.parametrize(
    "name", ["../evil", "bin/../../evil", "/etc/passwd", "a//b", "./a", "C:\\evil", "a\\b", "", "a\nb", "manifest.json"]
)
def test_a_path_that_is_not_plainly_inside_is_refused_by_name(make_bundle: MakeBundle, name: str) -> None:
    root = make_bundle()
    edit(root, lambda manifest: manifest["files"].update({name: {"size": 0, "sha256": "0" * 64}}))
    refused(root, "manifest.json: files:", repr(name), "is not a path inside the bundle")


@pytest.mark.parametrize("entry", [None, {}, {"size": "1", "sha256": "0" * 64}, {"size": 1, "sha256": "short"}])
def test_an_entry_without_size_or_hash_is_refused(make_bundle: MakeBundle, entry: object) -> None:
    root = make_bundle()
    edit(root, lambda manifest: manifest["files"].update({"labels.txt": entry}))
    refused(root, "files.labels.txt: needs a size and a sha256")


def test_a_newer_schema_is_refused_with_what_to_do(make_bundle: MakeBundle) -> None:
    refused(
        make_bundle(schema_version=2), "schema_version: is 2, and this edgevit reads up to 1", "Use a newer edgevit"
    )


@pytest.mark.parametrize("version", [None, "1", 0, True, 1.5])
def test_a_schema_version_that_is_none_is_refused(make_bundle: MakeBundle, version: object) -> None:
    refused(make_bundle(schema_version=version), f"schema_version: is {version!r}, not a whole number from 1")


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe", b"[" * 200_000])
def test_a_manifest_that_is_no_json_is_refused(make_bundle: MakeBundle, content: bytes) -> None:
    root = make_bundle()
    (root / "manifest.json").write_bytes(content)
    refused(root, "manifest.json: is not JSON")


def test_a_manifest_that_is_a_list_is_refused(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "manifest.json").write_text("[]")
    refused(root, "manifest.json: is not a JSON object")


def test_an_absurdly_large_manifest_is_refused(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "MANIFEST_MAX_BYTES", 100)
    refused(make_bundle(), "manifest.json: is larger than 100 bytes")


def test_another_document_is_no_bundle(make_bundle: MakeBundle) -> None:
    refused(make_bundle(kind="bench"), "kind: is 'bench', not 'bundle'")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("runtime", {"name": "onnxruntime", "session": {}}, "runtime.entry: is missing"),
        ("device", "rpi5", "device.name: is missing"),
        ("precision", 8, "precision: is int"),
        ("golden", {"cosine": "high", "top1_agreement": 1}, "golden.cosine: is str"),
        (
            "runtime",
            {"name": "x", "entry": "model.onnx", "session": {"a": 1}},
            "runtime.session: has a value that is no",
        ),
        (
            "runtime",
            {"name": "x", "entry": "../x.onnx", "session": {}},
            "runtime.entry: names '../x.onnx', which is not",
        ),
    ],
)
def test_a_key_that_is_missing_or_of_another_kind_is_refused(
    make_bundle: MakeBundle, key: str, value: object, words: str
) -> None:
    refused(make_bundle(**{key: value}), "manifest.json", words)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere: there is no such directory")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "file: is not a directory")
    refused(tmp_path, "manifest.json: there is no such file: this is not a bundle")


@pytest.mark.parametrize("name", ["labels.txt", "manifest.json"])
def test_a_file_that_cannot_be_read_is_refused(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = make_bundle()

    def failing(path: object, *rest: object, **options: object) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(integrity, "open", failing, raising=False)
    refused(root, f"{name}: cannot be read (Permission denied)")


def test_a_folder_that_cannot_be_listed_is_refused(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_bundle()
    walk = os.walk

    def failing(top: str, onerror: Callable[[OSError], None]) -> object:
        onerror(PermissionError(13, "Permission denied", str(root / "bin")))
        return walk(top)

    monkeypatch.setattr(integrity.os, "walk", failing)
    refused(root, "bin: cannot be read (Permission denied)")


def test_sha256_is_that_of_the_whole_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8193  # more than one piece of 1 MiB, and not a whole number of them
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", sha256_of(tmp_path / "x"))
