"""Channel: one command that runs on the board; its input, its lines, and its end."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from edgevit.errors import DeviceError, MeasurementError
from edgevit.remote.host import Host

MAX_BYTES = 64 * 1024 * 1024
MAX_LINES = 100_000
MAX_COMPLAINT_BYTES = 16 * 1024
PIECE_BYTES = 64 * 1024
STALL_SECONDS = 60.0
HEARTBEAT_S = 5.0
BEAT = b"\n"


class Channel:
    """What the command prints is read by threads, so that neither side waits for the other. Closing it ends it."""

    def __init__(self, host: Host, words: list[str]) -> None:
        self._host = host
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._said = b""
        self._is_flooded = False
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_lines, self._read_said)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes | memoryview, on_sent: Callable[[int], None] | None = None) -> bool:
        """Whether the command took all of it; False when it ended before. on_sent: is told the bytes of each piece.

        Raises DeviceError when the board takes nothing for 60 s.
        """
        assert self._process.stdin is not None
        rest = memoryview(data)
        number = self._process.stdin.fileno()
        while rest:
            if not select.select([], [number], [], STALL_SECONDS)[1]:
                raise DeviceError(f"{self._host}: has taken no data for {STALL_SECONDS:.0f} s. Is its disk in order?")
            try:
                count = os.write(number, rest[:PIECE_BYTES])
            except BrokenPipeError:
                return False
            except BlockingIOError:
                continue
            rest = rest[count:]
            if on_sent:
                on_sent(count)
        return True

    def lines(
        self, limit_s: float, silence_s: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[bytes]:
        """The lines that the command prints, until it ends. Meanwhile it is told every 5 s that we are still here.

        Raises MeasurementError after limit_s, and when no line came for silence_s; DeviceError when it prints more
        than any report has.
        """
        began = clock()
        deadline, overdue, next_beat = began + limit_s, began + silence_s, began + HEARTBEAT_S
        while True:
            now = clock()
            if now >= deadline:
                raise MeasurementError(f"{self._host}: did not finish within {limit_s:.0f} s. Is the board overloaded?")
            if now >= overdue:
                raise MeasurementError(f"{self._host}: says nothing for {silence_s:.0f} s. Is the board overloaded?")
            if now >= next_beat:
                self.send(BEAT)
                next_beat = now + HEARTBEAT_S
            try:
                line = self._lines.get(timeout=max(0.0, min(deadline, overdue, next_beat) - now))
            except queue.Empty:
                continue
            if line is None:
                break
            yield line
            overdue = clock() + silence_s
        if self._is_flooded:
            raise DeviceError(
                f"{self._host}: answers with more than {MAX_BYTES >> 20} MiB or {MAX_LINES:,} lines: refused."
            )

    def ended(self) -> tuple[int, str]:
        """The exit code and what was written to stderr, after the last line. 255 is ssh's own: no connection."""
        code = self._process.wait()
        self._readers[1].join(timeout=5.0)
        return code, self._said.decode("utf-8", "replace")

    def close(self) -> None:
        """Ends the command: it sees the end of its input, and the board's sshd the end of the channel."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(timeout=5.0)
        for output in (self._process.stdout, self._process.stderr):
            if output:
                output.close()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        taken = 0
        for number, line in enumerate(_lines_of(self._process.stdout)):
            taken += len(line)
            if taken > MAX_BYTES or number > MAX_LINES:
                self._is_flooded = True
                self._process.kill()
                break
            self._lines.put(line)
        self._lines.put(None)

    def _read_said(self) -> None:
        assert self._process.stderr is not None
        while piece := os.read(self._process.stderr.fileno(), PIECE_BYTES):
            self._said = (self._said + piece)[-MAX_COMPLAINT_BYTES:]


def _lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Whole lines without their ends. What is cut off at the end is no line; one of MAX_BYTES is, without its end."""
    pending: list[bytes] = []
    size = 0
    while piece := os.read(stream.fileno(), PIECE_BYTES):
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield b"".join([*pending, line])
            pending, size = [], 0
        pending.append(rest)
        size += len(rest)
        if size > MAX_BYTES:
            yield b"".join(pending)
            return
