"""Whether a bundle is whole: nothing changed, nothing missing, nothing added, nothing that leaves its directory.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

from edgevit.errors import BadFileError

MANIFEST = "manifest.json"
SIGNATURE = MANIFEST + ".sig"
MANIFEST_SCHEMA_VERSION = 1
MANIFEST_MAX_BYTES = 4 * 1024 * 1024
REMAKE = "Make the bundle again with 'edgevit export', or copy it again."
# what the board reads; the host checks the whole manifest with artifact.Manifest
MANIFEST_KEYS = {
    "edgevit": str,
    "precision": str,
    "model.name": str,
    "model.input_shape": list,
    "model.classes": int,
    "device.name": str,
    "device.arch": str,
    "device.threads": int,
    "runtime.name": str,
    "runtime.entry": str,
    "runtime.session": dict,
    "golden.cosine": (int, float),
    "golden.top1_agreement": (int, float),
    "files": dict,
}


def check_bundle(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a bundle in which every file is the one that the manifest names.

    Refused by name, with BadFileError: no manifest, one that is no JSON, too large, of a newer schema or without a
    key; a path that is absolute or leaves the directory; a symbolic link; a missing, extra or changed file.
    `directory` itself may be a link: that is how a board points at its current release.
    """
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        problem = "is not a directory." if os.path.exists(root) else "there is no such directory."
        raise BadFileError(directory, problem, fix="Name a bundle's directory.")
    manifest = read_manifest(root)
    files = manifest["files"]
    found = _files_in(root)
    for name in sorted(files):
        _check_entry(os.path.join(root, MANIFEST), name, files[name])
    for name in sorted(set(files) - found):
        raise BadFileError(os.path.join(root, name), "is missing from the bundle.", fix=REMAKE)
    extra = sorted(found - set(files) - {MANIFEST, SIGNATURE})
    if extra:
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise BadFileError(os.path.join(root, extra[0]), f"is not in the manifest{more}.", fix="Move it elsewhere.")
    if manifest["runtime"]["entry"] not in files:
        problem = f"names '{manifest['runtime']['entry']}', which is not in 'files'."
        raise BadFileError(os.path.join(root, MANIFEST), problem, where="runtime.entry", fix=REMAKE)
    for name in sorted(files):
        _check_content(os.path.join(root, name), files[name])
    return manifest


def read_manifest(root: str) -> dict[str, Any]:
    """manifest.json of a bundle's directory, with the keys that the board reads. Raises BadFileError."""
    path = os.path.join(root, MANIFEST)
    if os.path.islink(path):
        raise BadFileError(path, "is a symbolic link, which a bundle may not contain.", fix=REMAKE)
    if not os.path.isfile(path):
        raise BadFileError(path, "there is no such file: this is not a bundle.", fix="Name a bundle's directory.")
    try:
        with open(path, "rb") as file:
            content = file.read(MANIFEST_MAX_BYTES + 1)
        if len(content) > MANIFEST_MAX_BYTES:
            raise BadFileError(path, f"is larger than {MANIFEST_MAX_BYTES} bytes: no edgevit wrote it.", fix=REMAKE)
        manifest = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise BadFileError(path, f"cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise BadFileError(path, "is not JSON.", fix=REMAKE) from None
    if not isinstance(manifest, dict):
        raise BadFileError(path, "is not a JSON object.", fix=REMAKE)
    version = manifest.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BadFileError(path, f"is {version!r}, not a whole number from 1.", where="schema_version", fix=REMAKE)
    if version > MANIFEST_SCHEMA_VERSION:
        problem = f"is {version}, and this edgevit reads up to {MANIFEST_SCHEMA_VERSION}."
        raise BadFileError(path, problem, where="schema_version", fix="Use a newer edgevit.")
    if manifest.get("kind") != "bundle":
        raise BadFileError(path, f"is {manifest.get('kind')!r}, not 'bundle'.", where="kind", fix=REMAKE)
    for key, kind in MANIFEST_KEYS.items():
        _check_key(path, manifest, key, kind)
    if not all(isinstance(value, str) for value in manifest["runtime"]["session"].values()):
        raise BadFileError(path, "has a value that is no text.", where="runtime.session", fix=REMAKE)
    return manifest


def _check_key(path: str, manifest: dict[str, Any], key: str, kind: Any) -> None:
    value: Any = manifest
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise BadFileError(path, "is missing.", where=key, fix=REMAKE)
        value = value[part]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadFileError(path, f"is {type(value).__name__}, which it may not be.", where=key, fix=REMAKE)


def _check_entry(manifest: str, name: str, entry: Any) -> None:
    """Refuses an entry of `files` whose path is not plainly inside the bundle, or that has no size and sha256."""
    parts = name.split("/")
    if (
        re.search(r"[\\:\x00-\x1f]", name)
        or any(part in ("", ".", "..") for part in parts)
        or name in (MANIFEST, SIGNATURE)
    ):
        raise BadFileError(manifest, f"{name[:100]!r} is not a path inside the bundle.", where="files", fix=REMAKE)
    size = entry.get("size") if isinstance(entry, dict) else None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(size, int) or not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise BadFileError(manifest, "needs a size and a sha256.", where=f"files.{name}", fix=REMAKE)


def _files_in(root: str) -> set[str]:
    """Every file below `root` by its path with slashes. Links and everything that is no plain file are refused."""
    found = set()
    for folder, folders, names in os.walk(root, onerror=_cannot_list):
        for name in folders + names:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                raise BadFileError(path, "is a symbolic link, which a bundle may not contain.", fix=REMAKE)
            if name in names:
                if not os.path.isfile(path):
                    raise BadFileError(path, "is not a plain file.", fix=REMAKE)
                found.add(os.path.relpath(path, root).replace(os.sep, "/"))
    return found


def _cannot_list(error: OSError) -> None:
    raise BadFileError(error.filename, f"cannot be read ({error.strerror}).")


def _check_content(path: str, entry: dict[str, Any]) -> None:
    try:
        size = os.path.getsize(path)
        if size != entry["size"]:
            problem = f"has {size} bytes, and the manifest says {entry['size']}: it was changed or cut off."
            raise BadFileError(path, problem, fix=REMAKE)
        if sha256_of(path) != entry["sha256"]:
            problem = "has another sha256 than the manifest says: its content was changed."
            raise BadFileError(path, problem, fix=REMAKE)
    except OSError as error:
        raise BadFileError(path, f"cannot be read ({error.strerror}).") from None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's content, 64 hexadecimal digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1024 * 1024), b""):
            digest.update(piece)
    return digest.hexdigest()
