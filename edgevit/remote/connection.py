"""Connection: one ssh connection to a board that all commands share, made with the user's own ssh, keys and config.

A master process holds the connection, with its socket in a private folder. It ends when this process does, however
that comes: its standard input is a pipe from here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgevit.errors import DeviceError, InputError
from edgevit.remote.channel import Channel
from edgevit.remote.complaints import connection_error, quoted
from edgevit.remote.host import Host

CONNECT_TIMEOUT_S = 15
# logging in takes longer than connecting: a Zero 2 W needs seconds for its keys and its shell
LOGIN_TIMEOUT_S = 60.0
ALIVE_INTERVAL_S = 10
READY = b"edgevit-connected"
MAX_GREETING_BYTES = 64 * 1024
# A socket's path has at most 107 bytes, and ssh adds 17 while it makes it. Source: unix(7), OpenSSH's mux.c.
MAX_SOCKET_FOLDER = 80


@dataclass(frozen=True)
class SshOptions:
    """config: a file that stands in for ~/.ssh/config. program: the ssh to use."""

    config: Path | None = None
    program: str = "ssh"


class Cancellation:
    """Ends connections from another thread: what waits for them sees them as lost."""

    def __init__(self) -> None:
        self._kills: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self.is_cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self.is_cancelled = True
            for kill in self._kills:
                kill()

    @contextlib.contextmanager
    def watching(self, kill: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._kills.add(kill)
            if self.is_cancelled:
                kill()
        try:
            yield
        finally:
            with self._lock:
                self._kills.discard(kill)


class Connection:
    """An open connection. Commands on it start within milliseconds, and closing it ends them."""

    def __init__(self, host: Host, words: list[str], master: subprocess.Popen[bytes], notes: tuple[str, ...]) -> None:
        self.host = host
        self.notes = notes
        self._words = words
        self._master = master

    def start(self, command: str) -> Channel:
        """Starts a shell command on the board; its arguments are quoted by the caller.

        Should the master be gone, ssh would connect anew by itself: ProxyCommand=false makes that fail at once.
        """
        words = [*self._words, "-o", "ControlMaster=no", "-o", "ProxyCommand=false", "--", str(self.host), command]
        return Channel(self.host, words)

    @property
    def is_alive(self) -> bool:
        return self._master.poll() is None


@contextlib.contextmanager
def connect(
    host: Host, options: SshOptions | None = None, cancellation: Cancellation | None = None
) -> Iterator[Connection]:
    """An open connection to `host`, closed at the end of the block together with everything that runs on it.

    The user's ssh config, keys, agent and known_hosts count, and nothing is asked (BatchMode). Raises DeviceError with
    the cause when there is no connection, InputError without ssh or for a broken config.
    """
    options = options or SshOptions()
    if shutil.which(options.program) is None:
        raise InputError(f"'{options.program}' is not installed here. Install it with: sudo apt install openssh-client")
    words, notes = _base_words(host, options)
    with _socket_folder() as folder, tempfile.TemporaryFile() as complaints:
        socket = os.path.join(folder, "s")
        words += ["-S", socket.replace("%", "%%")]
        keep = ["-M", "-o", "ControlPersist=no", "--", str(host), f"exec sh -c 'echo {READY.decode()}; exec cat'"]
        with (
            subprocess.Popen(
                [*words, *keep],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,  # Ctrl-C reaches this process only, which then closes the connection
            ) as master,
            (cancellation or Cancellation()).watching(master.kill),
        ):
            try:
                if not _wait_until_ready(master):
                    raise _why_not(host, master, complaints)
                yield Connection(host, words, master, notes)
            finally:
                _end(master)


def _base_words(host: Host, options: SshOptions) -> tuple[list[str], tuple[str, ...]]:
    """ssh and its options, such that no option of the user's is overruled but those that need a person.

    ssh -G tells what the config says, without connecting.
    """
    words = [options.program, *(["-F", str(options.config)] if options.config else [])]
    words += ["-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "RemoteCommand=none", "-o", "PermitLocalCommand=no"]
    words += ["-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"]
    asked = subprocess.run(
        [*words, "-G", "--", str(host)], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    if asked.returncode != 0:
        raise connection_error(host, asked.stderr)
    config = dict(line.lower().split(" ", 1) for line in asked.stdout.splitlines() if " " in line)
    notes: tuple[str, ...] = ()
    if config.get("connecttimeout") in (None, "none", "0"):
        words += ["-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
    if config.get("serveraliveinterval") in (None, "0"):
        words += ["-o", f"ServerAliveInterval={ALIVE_INTERVAL_S}"]
    if config.get("stricthostkeychecking") in ("no", "off", "false"):
        words += ["-o", "StrictHostKeyChecking=accept-new"]
        notes = ("Your ssh config ignores host keys; edgevit accepts a new one, but not one that has changed.",)
    return words, notes


def _wait_until_ready(master: subprocess.Popen[bytes]) -> bool:
    """Whether the board's shell answered. What it prints by itself when somebody logs in is passed over."""
    timer = threading.Timer(LOGIN_TIMEOUT_S, master.kill)
    timer.start()
    try:
        assert master.stdout is not None
        received = b""
        while len(received) < MAX_GREETING_BYTES:
            line = master.stdout.readline(MAX_GREETING_BYTES)
            if not line:
                return False
            if line.strip().endswith(READY):
                return True
            received += line
        return False
    finally:
        timer.cancel()


def _why_not(host: Host, master: subprocess.Popen[bytes], complaints: IO[bytes]) -> Exception:
    was_running = master.poll() is None
    with contextlib.suppress(subprocess.TimeoutExpired):
        master.wait(timeout=2.0)
    said = _text_of(complaints)
    if master.returncode == 255 or (said and not was_running):
        return connection_error(host, said)
    if master.returncode is not None and master.returncode < 0:
        return DeviceError(f"{host}: did not let edgevit in within {LOGIN_TIMEOUT_S:.0f} s. Try: ssh {host} true")
    ended = f"({quoted(said)})" if said else "and says nothing that a shell would say"
    return DeviceError(f"{host}: its login shell runs no commands {ended}. Try: ssh {host} echo hello")


def _text_of(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    return complaints.read(MAX_GREETING_BYTES).decode("utf-8", "replace")


def _end(master: subprocess.Popen[bytes]) -> None:
    """Closes the master's input, on which its remote command and then itself end; after 2 s it is killed."""
    assert master.stdin is not None
    with contextlib.suppress(OSError):
        master.stdin.close()
    deadline = time.monotonic() + 2.0
    while master.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            master.wait(timeout=0.2)
    if master.poll() is None:
        master.kill()
        master.wait()


@contextlib.contextmanager
def _socket_folder() -> Iterator[str]:
    """A folder of mode 0700 with a path short enough for a socket."""
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) < MAX_SOCKET_FOLDER - 20 else "/tmp"
    with tempfile.TemporaryDirectory(prefix="edgevit-ssh-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield folder
