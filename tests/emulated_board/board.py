"""Starts and ends an emulated board, with strict host keys made for the session."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host_board import free_port, make_key, write_config, write_known_hosts

from edgevit.catalog import load_device
from edgevit.emulation.identity import write_identity
from edgevit.emulation.sysroot import make_sysroot
from edgevit.errors import InputError

INSIDE = Path(__file__).with_name("inside.py")
# Debian's wrapper takes argv[0] from the kernel (flag P); elsewhere the emulator itself must do.
QEMUS = ("/usr/libexec/qemu-binfmt/aarch64-binfmt-P", "qemu-aarch64-static")
PACKAGES = ("base-passwd", "coreutils", "dash", "openssh-server")
START_LIMIT_S = 60.0
SSHD_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey /etc/ssh/board_key
AuthorizedKeysFile /etc/ssh/board_users
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
UseDNS no
MaxStartups 50
SetEnv QEMU_CPU={cpu} LANG=C.UTF-8
"""


class UnavailableError(Exception):
    """Why there can be no emulated board here, in words for a skipped test."""


@dataclass(frozen=True)
class EmulatedBoard:
    """An arm64 board whose ssh alias is `name`. config: for ssh -F. process: outermost of it."""

    name: str
    config: Path
    port: int
    folder: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def emulated_board(folder: Path, device_name: str = "rpi5", disk_mib: int = 600) -> Iterator[EmulatedBoard]:
    """A board of that profile, on a disk of its own in memory. Raises UnavailableError where it cannot be."""
    qemu = _require_tools()
    device = load_device(device_name)
    assert device.emulator is not None
    try:
        sysroot = make_sysroot(PACKAGES)
    except InputError as error:
        raise UnavailableError(str(error)) from None
    for name in ("root", "disk"):
        (folder / name).mkdir(parents=True)
    for name in ("user_key", "host_key"):
        make_key(folder / name)
    write_identity(folder, device)
    port = free_port()
    write_known_hosts(folder / "known_hosts", port, folder / "host_key.pub")
    name = f"emulated-{device_name}"
    write_config(folder / "ssh_config", name, port, folder / "user_key", folder / "known_hosts", ("User root",))
    settings = {
        "sysroot": str(sysroot.path), "root": str(folder / "root"), "disk": str(folder / "disk"), "folder": str(folder),
        "disk_mib": str(disk_mib), "qemu": qemu, "cpu": device.emulator.cpu,
        "sshd_config": SSHD_CONFIG.format(port=port, cpu=device.emulator.cpu),
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", str(INSIDE), json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log,
        )  # fmt: skip
    try:
        _map_users(process, folder)
        board = EmulatedBoard(name, folder / "ssh_config", port, folder, process)
        _wait_until_up(board)
        yield board
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def _require_tools() -> str:
    if os.getuid() != 0:
        raise UnavailableError("an emulated board needs root, for its namespaces")
    for tool in ("ssh", "ssh-keygen"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is missing: apt-get install openssh-client")
    found = [path for path in map(shutil.which, QEMUS) if path]
    if not found or shutil.which("qemu-aarch64-static") is None:
        raise UnavailableError("qemu-aarch64-static is missing: apt-get install qemu-user-static")
    return found[0]


def _map_users(process: subprocess.Popen[bytes], folder: Path) -> None:
    """All users of this machine are there in the board's namespace, so that sshd can have its own."""
    assert process.stdin is not None
    assert process.stdout is not None
    if not process.stdout.readline():
        raise UnavailableError(f"no namespaces here: {_log(folder)}")
    for kind in ("uid_map", "gid_map"):
        try:
            Path(f"/proc/{process.pid}/{kind}").write_text("0 0 4294967295\n")
        except OSError as error:
            raise UnavailableError(f"no users can be mapped into a namespace here: {error.strerror}") from None
    process.stdin.write(b"\n")
    process.stdin.flush()


def _wait_until_up(board: EmulatedBoard) -> None:
    began = time.monotonic()
    words = ["ssh", "-F", str(board.config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", board.name, "true"]
    while subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        if board.process.poll() is not None:
            raise UnavailableError(f"the emulated board ended while it started: {_log(board.folder)}")
        if time.monotonic() - began > START_LIMIT_S:
            raise UnavailableError(f"the emulated board did not start in {START_LIMIT_S:.0f} s: {_log(board.folder)}")
        time.sleep(0.1)


def _log(folder: Path) -> str:
    return " ".join((folder / "log").read_text(errors="replace").split())[-300:]
