"""Writes files and directories so that a reader sees a whole one or none.

Everything is written to a temporary sibling `.NAME.partial-…`, flushed to the disk, and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgevit.errors import BadFileError, InputError
from edgevit.schema import Record
from edgevit.units import MIB

LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, replacing a file of that name at once. Raises BadFileError."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Record | dict[str, Any] | list[Any]) -> None:
    """Writes readable JSON with a final newline. NaN and infinity, which JSON lacks, are a ValueError."""
    plain = value.model_dump(mode="json") if isinstance(value, Record) else value
    write_text(path, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the file, replacing one of that name at once. Raises BadFileError; then the old file is as it was."""
    partial = _partial(path)
    try:
        # Not tempfile: its files are readable for their owner only, and these are to be handed on.
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        # After a successful rename there is nothing left to remove.
        _unlink(partial)


@contextmanager
def locked(folder: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """One process at a time in this block; the others wait, and are told so. The lock ends with its process."""
    with (folder / LOCK).open("a") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(gate, fcntl.LOCK_EX)
        yield


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yields a temporary sibling to fill; it becomes `target` when the block succeeds and vanishes when it does not.

    Parents are made. Raises InputError when `target` exists, BadFileError when the disk is full or read-only.
    """
    _refuse_existing(target)
    partial = _partial(target)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise _cannot_write(target, error) from None
    try:
        yield partial
        publish(partial, target)
    except OSError as error:
        if error.errno in _FULL:
            raise _cannot_write(target, error) from None
        raise
    finally:
        # Also on Ctrl-C. After a successful rename there is nothing left to remove.
        shutil.rmtree(partial, ignore_errors=True)


def require_creatable(target: Path) -> None:
    """Raises before the work what new_directory would raise after it: `target` exists, or cannot be made there."""
    _refuse_existing(target)
    parent = target.parent
    try:
        while not parent.exists():
            parent = parent.parent
        probe = _partial(parent / target.name)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise _cannot_write(target, error) from None


def require_writable(target: Path) -> None:
    """Raises before the work what write_text would raise after it: BadFileError where no such file can be written."""
    if target.exists() and not target.is_file():
        what = "Is a directory" if target.is_dir() else "Not a regular file"
        raise BadFileError(target, f"cannot be written: {what}.", fix="Choose another name with -o.")
    probe = _partial(target)
    try:
        probe.open("xb").close()
    except OSError as error:
        raise _cannot_write(target, error) from None
    finally:
        _unlink(probe)


def publish(complete: Path, target: Path) -> None:
    """Renames a complete directory to `target`. Raises InputError when that exists: it is never overwritten."""
    _refuse_existing(target)
    for path in (*complete.rglob("*"), complete):
        _sync(path)
    try:
        complete.rename(target)
    except OSError as error:
        if error.errno in _OCCUPIED:
            raise _exists(target) from None
        raise _cannot_write(target, error) from None
    _sync(target.parent)


def free_name(parent: Path, name: str) -> str:
    """`name`, or the first of name-2, name-3, … that nothing in `parent` has yet."""
    candidate, number = name, 1
    while os.path.lexists(parent / candidate):
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def cache_folder(*names: str) -> Path:
    """Where edgevit keeps what it can make again: ~/.cache/edgevit/NAMES, or in an absolute XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    parent = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return parent.joinpath("edgevit", *names)


def config_folder() -> Path:
    """Where edgevit keeps what a user taught it: ~/.config/edgevit, or in an absolute XDG_CONFIG_HOME."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    parent = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return parent / "edgevit"


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's content, 64 hexadecimal digits; the file is streamed."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    """Flushes a file or a directory to the disk. Some file systems cannot do it for directories: no harm is done."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _FULL:
            raise
    finally:
        os.close(descriptor)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # The folder is read-only or gone: the file could not be made there either.
        return


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise _exists(target)


def _exists(target: Path) -> InputError:
    return InputError(f"{target}: exists already and is not overwritten. Choose another name with -o, or remove it.")


def _cannot_write(path: Path, error: OSError) -> BadFileError:
    if error.errno in _FULL:
        return BadFileError(path, "cannot be written: the disk is full.", fix="Free some space or choose another disk.")
    fix = "Choose a folder that you may write to." if error.errno in _READ_ONLY else "Choose another folder with -o."
    return BadFileError(path, f"cannot be written: {error.strerror}.", fix=fix)
