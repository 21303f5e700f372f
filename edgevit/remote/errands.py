"""Errands: what edgevit has a board do, and what it believes of the answers. A board may be broken or hostile."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from edgevit.artifact import BundleFile, Sha256
from edgevit.errors import DeviceError, EdgevitError, MeasurementError
from edgevit.remote.channel import Channel
from edgevit.remote.complaints import dropped_error, printable, quoted
from edgevit.remote.connection import Connection
from edgevit.remote.host import Host
from edgevit.remote.onboard_run import PREFIX
from edgevit.remote.program import NO_PYTHON, OLD_PYTHON, program_command, program_text
from edgevit.schema import Record

# JetPack 4 and Ubuntu 18.04 have Python 3.6 as python3, and 3.8 among their packages.
NEWER_PYTHON = (
    "3.8 is the oldest that edgevit runs on. Install one beside it, which is then found by itself: "
    "sudo apt-get install python3.8"
)
PIECE_BYTES = 1024 * 1024
LOOK_LIMIT_S = 120.0
COPY_SILENCE_S = 300.0  # a slow card writes out, or checks, one large file in it
UNPACK_LIMIT_S = 900.0

Believed = TypeVar("Believed")
OnProgress = Callable[[int, int, str], None]
Text = Annotated[str, Field(max_length=4096)]


class BoardFacts(Record):
    """What a board says of itself. `machine`: as uname -m spells it, of Python's own word size."""

    python: Annotated[str, Field(pattern=r"^\d{1,2}\.\d{1,3}\.\d{1,3}[A-Za-z0-9+.]{0,20}$")]
    implementation: Annotated[str, Field(max_length=40)]
    machine: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,32}$")]
    system: Annotated[str, Field(max_length=40)]
    glibc: Annotated[str, Field(pattern=r"^\d{1,2}\.\d{1,3}$")] | None
    cpuinfo: Annotated[str, Field(max_length=256 * 1024)]
    packages: dict[str, Annotated[str, Field(max_length=80)]]
    free_bytes: NonNegativeInt
    cache: Text


class AgentEnd(Record):
    """How the agent on a board ended. code: negative for a signal."""

    code: int
    document: str
    said: str


@dataclass(frozen=True)
class Content:
    """A file of this machine, by what is in it."""

    path: Path
    file: BundleFile


def look(connection: Connection, packages: Sequence[str]) -> BoardFacts:
    """What the board is, and which of `packages` its Python has."""
    found = ask(connection, "look", {"packages": list(packages)}, doing="looking at the board", limit_s=LOOK_LIMIT_S)
    return _believed(connection.host, TypeAdapter(BoardFacts), found)


def upload(connection: Connection, contents: Sequence[Content], on_progress: OnProgress) -> int:
    """Copies what the board does not have yet, by sha256; the number of bytes that went over."""
    wanted = {content.file.sha256: content for content in contents}
    doing = "comparing files"
    found = ask(connection, "missing", {"digests": list(wanted)}, doing=doing, silence_s=COPY_SILENCE_S)
    absent = _believed(connection.host, TypeAdapter(list[Sha256]), found)
    sent = [wanted[digest] for digest in absent if digest in wanted]
    total = sum(content.file.size for content in sent)
    if not sent:
        return 0

    def send(channel: Channel) -> bool:
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            on_progress(done >> 10, total >> 10, "KiB")

        for content in sent:
            with content.path.open("rb") as file:
                left = content.file.size
                while left and (piece := file.read(min(PIECE_BYTES, left))):
                    if not channel.send(piece, count):
                        return False
                    left -= len(piece)
            if left:
                raise EdgevitError(f"{content.path}: became shorter while it was copied. Give the command again.")
        return True

    request = {"files": [content.file.model_dump() for content in sent]}
    ask(connection, "receive", request, doing="copying files", silence_s=COPY_SILENCE_S, send=send)
    return total


def unpack(
    connection: Connection, key: str, wheels: Sequence[Content], imports: Sequence[str], on_progress: OnProgress
) -> str:
    """The path of the board's folder of those wheels; made when it is not there."""
    named = [{"sha256": wheel.file.sha256, "name": wheel.path.name} for wheel in wheels]
    request = {"key": key, "wheels": named, "imports": list(imports)}
    doing = "preparing Python"
    found = ask(connection, "unpack", request, doing=doing, limit_s=UNPACK_LIMIT_S, on_progress=on_progress)
    return _believed(connection.host, TypeAdapter(Text), found)


def run_agent(
    connection: Connection,
    files: Mapping[str, BundleFile],
    environment: str,
    arguments: Sequence[str],
    limit_s: float,
    on_progress: OnProgress,
) -> AgentEnd:
    """How `agent.py bench` of a bundle ended whose files are all on the board. environment: of unpack, or ''."""
    listed = [{"path": path, "sha256": file.sha256} for path, file in files.items()]
    request = {"files": listed, "environment": environment, "arguments": list(arguments)}
    found = ask(connection, "bench", request, doing="measuring", limit_s=limit_s, on_progress=on_progress)
    return _believed(connection.host, TypeAdapter(AgentEnd), found)


def run_program(
    connection: Connection, source: str, arguments: Sequence[str], *, doing: str, limit_s: float
) -> AgentEnd:
    """How a Python 3.8 program of the standard library ended on the board, and what it printed. Nothing of it stays."""
    request = {"source": source, "arguments": list(arguments)}
    found = ask(connection, "run", request, doing=doing, limit_s=limit_s)
    return _believed(connection.host, TypeAdapter(AgentEnd), found)


def ask(
    connection: Connection,
    errand: str,
    request: Mapping[str, Any],
    *,
    doing: str,
    limit_s: float = math.inf,
    silence_s: float = math.inf,
    on_progress: OnProgress | None = None,
    send: Callable[[Channel], bool] | None = None,
) -> Any:
    """What the board's 'done' holds, not yet believed. send: sends what the request announces.

    Raises DeviceError when the connection is lost, the board has no Python, its disk is full, or it answers nonsense;
    MeasurementError after limit_s, or when it says nothing for silence_s.
    """
    text = program_text()
    head = text + json.dumps({"errand": errand, **request}).encode() + b"\n"
    with connection.start(program_command(len(text))) as channel:
        if channel.send(head) and send:
            send(channel)
        for line in channel.lines(limit_s, silence_s):
            if not line.startswith(PREFIX.encode()):
                continue  # what the login shell prints by itself
            answer = _parsed(connection.host, line[len(PREFIX) :])
            if "done" in answer:
                return answer["done"]
            if "failed" in answer:
                _raise_failed(connection, answer["failed"], doing)
            if on_progress and "progress" in answer:
                _pass_on(answer["progress"], on_progress)
        code, said = channel.ended()
    raise _silent_end(connection, code, said, doing)


def _parsed(host: Host, line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise DeviceError(
            f"{host}: answers what edgevit cannot read. Is its Python in order? Try: ssh {host} python3 -V"
        )
    return answer


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _believed(host: Host, kind: TypeAdapter[Believed], found: Any) -> Believed:
    try:
        return kind.validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(printable(str(part))[:40] for part in first["loc"])
        place = f" ({where}: {quoted(first['msg'])})" if where else f" ({quoted(first['msg'])})"
        raise DeviceError(f"{host}: answers what no board of edgevit's would{place}.") from None


def _pass_on(progress: Any, on_progress: OnProgress) -> None:
    try:
        done, total, text = progress
        on_progress(int(done), int(total), printable(str(text))[:60])
    except (TypeError, ValueError, OverflowError):
        return  # nobody is harmed by a step that is not shown


def _raise_failed(connection: Connection, failed: Any, doing: str) -> NoReturn:
    host = connection.host
    kind, text = (failed.get("kind"), quoted(str(failed.get("text")))) if isinstance(failed, dict) else (None, "")
    if kind == "full":
        raise DeviceError(f"{host}: its disk is full while {doing} ({text}). Free some space there.")
    if kind == "files":
        raise DeviceError(f"{host}: cannot keep files while {doing} ({text}). Make that folder writable.")
    if kind == "damaged":
        raise DeviceError(f"{host}: a file arrived damaged. Give the command again; if it stays so, check the SD card.")
    if kind == "import":
        raise DeviceError(f"{host}: the wheels are there but cannot be imported ({text}).")
    if kind == "flood":
        raise DeviceError(f"{host}: {text}, which is refused.")
    if kind == "silence":
        fix = "Check its network, then give the same command again."
        raise DeviceError(f"{host}: {text} while {doing}: the connection is there, but stands still. {fix}")
    if kind == "cut":
        raise dropped_error(host, doing)
    raise DeviceError(f"{host}: failed while {doing} ({text or 'no reason given'}).")


def _silent_end(connection: Connection, code: int, said: str, doing: str) -> EdgevitError:
    host = connection.host
    if code == NO_PYTHON:
        return DeviceError(f"{host}: has no python3. On the board: sudo apt install python3-minimal")
    if code == OLD_PYTHON:
        return DeviceError(f"{host}: its python3 is {_old_version(said)}. {NEWER_PYTHON}")
    if code == 255 or code < 0:
        if "Session open refused" in said:
            return DeviceError(f"{host}: allows no more sessions at a time. Raise MaxSessions in its sshd_config.")
        return dropped_error(host, doing)
    if "No space left" in said:
        return DeviceError(f"{host}: its disk is full while {doing} ({quoted(said)}). Free some space there.")
    if code in (132, 137, 139):
        return MeasurementError(f"{host}: Python was killed there while {doing}. Is there enough memory?")
    return DeviceError(f"{host}: failed while {doing} ({quoted(said) or f'exit code {code}'}).")


def _old_version(said: str) -> str:
    found = re.search(r"^Python ([0-9]{1,2}\.[0-9]{1,3}\.[0-9]{1,3})$", said, re.MULTILINE)
    return found.group(1) if found else "too old"
