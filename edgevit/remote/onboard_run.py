"""How a board runs an agent: in an environment of unpacked wheels, watched, and ended when the host is gone.

Python 3.8 and standard library only: this file is a part of the program that is sent to boards.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from typing import Any

from edgevit.remote.onboard_store import PIECE_BYTES, RefusedError, plain

PREFIX = "@edgevit "
DOCUMENT_MAX_BYTES = 48 * 1024 * 1024
SAID_MAX_BYTES = 4096
SILENCE_SECONDS = 30.0
PROGRESS = b"progress: "


def answer(document: dict[str, Any]) -> None:
    sys.stdout.write(PREFIX + json.dumps(document) + "\n")
    sys.stdout.flush()


def watch(words: list[str], environment: dict[str, str], folder: str) -> dict[str, Any]:
    """Runs a program until it ends; kills it when the host is gone. Wakes up only when there is something to do."""
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    document, said, heard = bytearray(), bytearray(), time.monotonic()
    outputs = {process.stdout.fileno(): document, process.stderr.fileno(): said}
    try:
        while outputs:
            wait = max(0.0, heard + SILENCE_SECONDS - time.monotonic())
            ready, _, _ = select.select([0, *outputs], [], [], wait)
            if 0 in ready:
                if not os.read(0, 4096):
                    raise RefusedError("cut", "the host is gone")
                heard = time.monotonic()
            elif not ready:
                raise RefusedError("cut", "nothing was heard from the host")
            for number in outputs.keys() & set(ready):
                piece = os.read(number, 65536)
                if not piece:
                    del outputs[number]
                    continue
                outputs[number].extend(piece)
                if len(document) > DOCUMENT_MAX_BYTES:
                    raise RefusedError("flood", "the agent writes more than a report")
                said = _pass_on(said, outputs, process.stderr.fileno())
        code = process.wait(timeout=10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
    return {"code": code, "document": document.decode("utf-8", "replace"), "said": said.decode("utf-8", "replace")}


def _pass_on(said: bytearray, outputs: dict[int, bytearray], number: int) -> bytearray:
    """Tells the host the agent's whole lines of progress, and keeps the end of the rest."""
    *lines, rest = bytes(said).split(b"\n")
    kept = []
    for line in lines:
        if line.startswith(PROGRESS):
            answer({"progress": line[len(PROGRESS) :].decode("utf-8", "replace")[:200].split(" ", 2)})
        else:
            kept.append(line)
    left = bytearray(b"\n".join([*kept, rest])[-SAID_MAX_BYTES:])
    if number in outputs:
        outputs[number] = left
    return left


def unpack_wheel(path: str, site: str) -> None:
    """A wheel's modules and metadata. Its scripts and headers are of no use here.

    Source: Python Packaging User Guide, "Binary distribution format", 'The .data directory'.
    """
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            parts = item.filename.rstrip("/").split("/")
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            target = os.path.join(site, *map(plain, parts))
            if item.is_dir():
                os.makedirs(target, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(item) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, PIECE_BYTES)


def python_words(site: str) -> list[str]:
    """With an environment of its own, Python sees that and its standard library, and nothing else of the board."""
    return [sys.executable, "-s", "-S"] if site else [sys.executable]


def environment_variables(site: str) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if not (site and name.startswith("PYTHON"))}
    variables.update(EDGEVIT_PROGRESS="1", ORT_DISABLE_TELEMETRY="1")
    if site:
        variables["PYTHONPATH"] = site
    return variables
