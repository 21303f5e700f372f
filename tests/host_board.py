"""A board that is this machine: a real sshd on 127.0.0.1 with keys, known_hosts and a HOME of its own, for tests."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
TOOLS = ("ssh", "ssh-keygen")


@dataclass(frozen=True)
class HostBoard:
    """home: what the board has as ~. port: of its sshd. config: for ssh -F, with the alias 'board'."""

    folder: Path
    home: Path
    port: int
    config: Path
    pid: int

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "edgevit" / "board"

    def config_with(self, target: Path, *lines: str, alias: str = "board", port: int | None = None) -> Path:
        """Another ssh config at `target`: `lines` go before the usual ones, and so win."""
        write_config(target, alias, port or self.port, self.folder / "user_key", self.folder / "known_hosts", lines)
        return target


def require_sshd() -> str:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if SSHD is None or missing:
        pytest.skip(f"{' and '.join(missing or ['sshd'])} missing: apt-get install openssh-client openssh-server")
    return SSHD


@contextlib.contextmanager
def running_board(
    folder: Path, python: Sequence[str] = (sys.executable,), home: Path | None = None
) -> Iterator[HostBoard]:
    """A board whose python3 is the words `python` and whose HOME is `home`; it ends with the block."""
    sshd = require_sshd()
    folder.mkdir(parents=True, exist_ok=True)
    home = home or folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    own = folder / "bin" / "python3"
    own.write_text(f'#!/bin/sh\nexec {shlex.join(python)} "$@"\n')
    own.chmod(0o755)
    for name in ("user_key", "host_key"):
        if not (folder / name).exists():
            make_key(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    if os.getuid() == 0:  # where Debian's sshd, started by root, keeps its unprivileged half
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for _ in range(5):  # another program may take the port first
        port = free_port()
        write_known_hosts(folder / "known_hosts", port, folder / "host_key.pub")
        write_config(folder / "ssh_config", "board", port, folder / "user_key", folder / "known_hosts", ())
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder / 'host_key'}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPrintMotd no\nUseDNS no\nMaxStartups 50\n"
            f'SetEnv HOME="{home}" PATH="{folder / "bin"}:/usr/bin:/bin" XDG_CACHE_HOME="" ORT_DISABLE_TELEMETRY=1\n'
        )
        with (folder / "sshd.log").open("wb") as log:
            process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if wait_for_port(process, port):
            break
    else:
        pytest.skip(f"sshd does not start: {(folder / 'sshd.log').read_text()}")
    try:
        yield HostBoard(folder, home, port, folder / "ssh_config", process.pid)
    finally:
        process.terminate()
        process.wait(timeout=10)


def make_key(path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def write_known_hosts(path: Path, port: int, public_key: Path) -> None:
    kind, key = public_key.read_text().split()[:2]
    path.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")


def write_config(path: Path, alias: str, port: int, key: Path, known_hosts: Path, lines: tuple[str, ...]) -> None:
    usual = (
        f"HostName 127.0.0.1\nPort {port}\nIdentityFile {key}\nIdentitiesOnly yes\nUserKnownHostsFile {known_hosts}\n"
        "GlobalKnownHostsFile none\nStrictHostKeyChecking yes\nHostKeyAlgorithms ssh-ed25519\n"
    )
    path.write_text(f"Host {alias}\n" + "".join(f"{line}\n" for line in lines) + usual)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int, limit_s: float = 20.0) -> bool:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < limit_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
        time.sleep(0.02)
    return False
