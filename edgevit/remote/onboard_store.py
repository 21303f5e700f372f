"""What edgevit keeps on a board: contents by their sha256, and a folder of each errand's own while it runs.

Python 3.8 and standard library only: this file is a part of the program that is sent to boards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 1024 * 1024
CACHE_MAX_BYTES = 2 * 1024 * 1024 * 1024
ENVIRONMENTS_KEPT = 4


class RefusedError(Exception):
    """What the host is told: `kind` is one that errands.py knows, `text` names the place."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def cache() -> str:
    """edgevit's folder on the board: in XDG_CACHE_HOME, which must be absolute to count, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "edgevit", "board")


@contextlib.contextmanager
def work_folder() -> Iterator[str]:
    """A folder for this errand, removed at its end. What earlier ones left when they were killed is removed first."""
    parent = os.path.join(cache(), "work")
    os.makedirs(parent, mode=0o700, exist_ok=True)
    with open(os.path.join(parent, ".lock"), "wb") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for name in os.listdir(parent):
            if name != ".lock" and not _is_held(os.path.join(parent, name)):
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        folder = tempfile.mkdtemp(dir=parent)
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _is_held(folder: str) -> bool:
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False


def object_path(digest: str) -> str:
    if not re.match(r"[0-9a-f]{64}\Z", digest):
        raise RefusedError("request", "a sha256 has 64 digits")
    return os.path.join(cache(), "objects", digest[:2], digest)


def plain(name: str) -> str:
    """A name that stays in its folder."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode("utf-8", "replace")) > 255:
        raise RefusedError("request", f"{name[:80]!r} is no plain name")
    return name


def sha256_or_none(path: str) -> str:
    """Of a file's content; '' when there is no such file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(PIECE_BYTES), b""):
                digest.update(piece)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def link(source: str, target: str) -> None:
    """The content under another name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise RefusedError("cut", "the cache was cleared meanwhile") from None
        shutil.copyfile(source, target)


def free_bytes() -> int:
    path = cache()
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def prune_objects(wanted: set[str]) -> None:
    """Removes the content that was used longest ago while there is more than 2 GiB of it; all of it for a full disk."""
    found = []
    for folder, _, names in os.walk(os.path.join(cache(), "objects")):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            found.append((status.st_mtime, status.st_size, os.path.join(folder, name), name))
    total = sum(size for _, size, _, _ in found)
    for _, size, path, name in sorted(found):
        if total <= (CACHE_MAX_BYTES if wanted else 0):
            break
        if name not in wanted:
            os.unlink(path)
            total -= size


def prune_environments() -> None:
    parent = os.path.join(cache(), "environments")
    newest = sorted(os.listdir(parent), key=lambda name: os.stat(os.path.join(parent, name)).st_mtime, reverse=True)
    for name in newest[ENVIRONMENTS_KEPT:]:
        shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
