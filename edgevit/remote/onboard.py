"""Onboard: the program that edgevit sends to a board and that the board's own python3 runs; nothing is installed.

It reads one request, a line of JSON, and what that request announces; it answers with lines of '@edgevit ' and JSON,
the last of which says 'done' or 'failed'. Everything it keeps is in one folder of the user's cache:

    objects/ab/abcd…    content by its sha256, complete or not there
    environments/KEY/   unpacked wheels, complete or not there
    work/ID/            of one errand while it runs, held by a lock; what nobody holds is removed by the next one

When its input ends, or nothing was heard from the host for 30 s, it ends what it began and clears up.
Python 3.8 and standard library only; of Debian's python3-minimal too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

from edgevit.remote.onboard_run import (
    SILENCE_SECONDS,
    answer,
    environment_variables,
    python_words,
    unpack_wheel,
    watch,
)
from edgevit.remote.onboard_store import (
    PIECE_BYTES,
    RefusedError,
    cache,
    free_bytes,
    link,
    object_path,
    plain,
    prune_environments,
    prune_objects,
    sha256_or_none,
    work_folder,
)

REQUEST_MAX_BYTES = 8 * 1024 * 1024
CPUINFO_MAX_BYTES = 256 * 1024
SPARE_BYTES = 16 * 1024 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)
PROGRESS_SECONDS = 5.0
OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY)


def main() -> int:
    """The exit code: 0 done, 1 failed and said why."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    signal.signal(signal.SIGALRM, _refuse_silence)
    errands = {"look": look, "missing": missing, "receive": receive, "unpack": unpack, "bench": bench, "run": run}
    try:
        request = json.loads(sys.stdin.buffer.readline(REQUEST_MAX_BYTES).decode("utf-8"))
        answer({"done": errands[request["errand"]](request)})
    except RefusedError as error:
        return _fail(error.kind, str(error))
    except OSError as error:
        return _fail("full" if error.errno in FULL else "files", f"{error.filename or cache()}: {error.strerror}")
    return 0


# errands


def look(request: dict[str, Any]) -> dict[str, Any]:
    """What the host must know before it sends anything. packages: those whose versions are asked for."""
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine() if sys.maxsize > 2**32 else _narrow(platform.machine()),
        "system": platform.system(),
        "glibc": libc.split()[-1] if libc and libc.startswith("glibc") else None,
        "cpuinfo": _cpuinfo(),
        "packages": _installed(request["packages"]),
        "free_bytes": free_bytes(),
        "cache": cache(),
    }


def missing(request: dict[str, Any]) -> list[str]:
    """Those of the sha256 sums asked for whose content is not here. Content that has changed is removed."""
    absent = []
    for done, digest in enumerate(request["digests"], start=1):
        path = object_path(digest)
        if sha256_or_none(path) == digest:
            os.utime(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            absent.append(digest)
        answer({"progress": [done, len(request["digests"]), "files"]})
    return absent


def receive(request: dict[str, Any]) -> int:
    """The number of files that came in, each checked before it gets its name. files: [{sha256, size}]."""
    needed = sum(entry["size"] for entry in request["files"])
    if needed + SPARE_BYTES > free_bytes():
        prune_objects(set())
    if needed + SPARE_BYTES > free_bytes():
        text = f"{cache()}: {free_bytes() >> 20} MiB are free, and {(needed + SPARE_BYTES) >> 20} MiB are needed"
        raise RefusedError("full", text)
    told = time.monotonic()
    with work_folder() as folder:
        for entry in request["files"]:
            partial = os.path.join(folder, "partial")
            digest = hashlib.sha256()
            with open(partial, "wb") as file:
                left = entry["size"]
                while left:
                    signal.alarm(int(SILENCE_SECONDS))  # for a link that went silent without an end
                    # what is there, be it a byte: a slow link is not silent
                    piece = sys.stdin.buffer.read1(min(left, PIECE_BYTES))  # type: ignore[union-attr]
                    if not piece:
                        raise RefusedError("cut", "the copy ended early")
                    file.write(piece)
                    digest.update(piece)
                    left -= len(piece)
                    if time.monotonic() >= told + PROGRESS_SECONDS:  # the host waits as long as there is some
                        told = time.monotonic()
                        answer({"progress": [(entry["size"] - left) >> 10, entry["size"] >> 10, "KiB"]})
                signal.alarm(0)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != entry["sha256"]:
                raise RefusedError("damaged", "what came is not what was sent")
            os.chmod(partial, 0o444)
            target = object_path(entry["sha256"])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(partial, target)
    prune_objects({entry["sha256"] for entry in request["files"]})
    return len(request["files"])


def unpack(request: dict[str, Any]) -> str:
    """The path of an environment: wheels unpacked into a folder of their own, in which `imports` can be imported."""
    target = os.path.join(cache(), "environments", plain(request["key"]))
    if os.path.isdir(target):
        os.utime(target)
        return target
    with work_folder() as folder:
        site = os.path.join(folder, "site")
        os.mkdir(site)
        for done, wheel in enumerate(request["wheels"], start=1):
            unpack_wheel(object_path(wheel["sha256"]), site)
            answer({"progress": [done, len(request["wheels"]), wheel["name"]]})
        words = [*python_words(site), "-c", "import " + ", ".join(map(plain, request["imports"]))]
        nowhere, variables = subprocess.DEVNULL, environment_variables(site)
        tried = subprocess.run(words, env=variables, stdin=nowhere, stdout=nowhere, stderr=subprocess.PIPE, check=False)
        if tried.returncode:
            said = tried.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise RefusedError("import", said or f"it ended with code {tried.returncode}")
        os.sync()  # a board whose power is cut must not find a complete name with empty files
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            os.rename(site, target)
        except OSError as error:
            if error.errno not in OCCUPIED:  # another errand was faster
                raise
    prune_environments()
    return target


def bench(request: dict[str, Any]) -> dict[str, Any]:
    """How the agent of a bundle ended and what it wrote. files: [{path, sha256}]; environment: a path, or ''."""
    with work_folder() as folder:
        root = os.path.join(folder, "bundle")
        for entry in request["files"]:
            path = os.path.join(root, *map(plain, entry["path"].split("/")))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            link(object_path(entry["sha256"]), path)
        site = request["environment"]
        words = [*python_words(site), os.path.join(root, "agent.py"), "--json", "bench", *request["arguments"]]
        return watch(words, environment_variables(site), root)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """How a Python program of the standard library ended and what it printed. source: its text."""
    with work_folder() as folder:
        path = os.path.join(folder, "program.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(request["source"])
        return watch([sys.executable, path, *request["arguments"]], environment_variables(""), os.path.expanduser("~"))


# what errands are made of


def _installed(packages: list[str]) -> dict[str, str]:
    """Versions of those packages that this Python finds by itself."""
    from importlib import metadata

    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _narrow(machine: str) -> str:
    """What a 32-bit Python on a 64-bit kernel is: Raspberry Pi OS (32-bit) says aarch64 of its kernel."""
    return {"aarch64": "armv7l", "x86_64": "i686"}.get(machine, machine)


def _cpuinfo() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return file.read(CPUINFO_MAX_BYTES)
    return ""


def _fail(kind: str, text: str) -> int:
    with contextlib.suppress(OSError):  # nobody may be listening any more
        answer({"failed": {"kind": kind, "text": text}})
    return 1


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(1)


def _refuse_silence(number: int, frame: object) -> NoReturn:
    raise RefusedError("silence", f"nothing arrived there for {SILENCE_SECONDS:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
