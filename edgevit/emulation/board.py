"""Board: a folder in which the programs of an arm64 system find what they would find on a device's board.

qemu looks for a file there first (-L) and then on this machine: /usr is the sysroot's, /proc/cpuinfo and /sys are the
board's. ONNX Runtime picks its kernels by them, and qemu's CPU must have what they promise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.device import Device
from edgevit.emulation.features import parse_features, shared_isa
from edgevit.emulation.identity import write_identity
from edgevit.emulation.sysroot import Sysroot
from edgevit.emulation.tools import Emulator, known_cpus
from edgevit.errors import DeviceError, InputError

LIMIT_S = 3600.0
LOADER = "lib/ld-linux-aarch64.so.1"
OF_SYSROOT = ("bin", "etc", "lib", "sbin", "usr")
CRASHES = {
    signal.SIGILL: "an illegal instruction: its CPU, {cpu}, lacks what the program or one of its wheels was built for",
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGBUS: "a bus error",
    signal.SIGABRT: "its own abort()",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGKILL: "a kill: probably out of memory",
}


@dataclass(frozen=True)
class EmulatedBoard:
    """cpu: qemu's name of it. lacking: what the profile's CPU has and qemu's has not."""

    emulator: Emulator
    cpu: str
    sysroot: Sysroot
    prefix: Path
    lacking: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        return str(self.sysroot.path / "usr" / "bin" / f"python{self.sysroot.python}")


@dataclass(frozen=True)
class Ended:
    """How a program on the board ended. code: negative for a signal."""

    code: int
    said: str


@contextlib.contextmanager
def emulated_board(device: Device, emulator: Emulator, sysroot: Sysroot) -> Iterator[EmulatedBoard]:
    """A board of that profile; its folder goes away with it. Raises InputError as emulated_cpu does."""
    cpu = emulated_cpu(device, emulator)
    with tempfile.TemporaryDirectory(prefix="edgevit-board-", ignore_cleanup_errors=True) as folder:
        prefix = Path(folder)
        for name in OF_SYSROOT:
            (prefix / name).symlink_to(sysroot.path / name)
        bare = EmulatedBoard(emulator, cpu, sysroot, prefix)
        isa, lacking = shared_isa(device, parse_features(_auxiliary(bare)))
        write_identity(prefix, device, isa)
        yield EmulatedBoard(emulator, cpu, sysroot, prefix, lacking)


def emulated_cpu(device: Device, emulator: Emulator) -> str:
    """qemu's name of the device's CPU. Raises InputError when the profile has none, or one that qemu does not know."""
    if device.emulator is None or device.arch != "aarch64":
        what = "is missing" if device.emulator is None else f"is of a profile for {device.arch}"
        raise InputError(f"{device.name}: emulator.cpu: {what}, and only aarch64 is emulated. Export for a board.")
    known = known_cpus(emulator)
    if device.emulator.cpu not in known:
        what = f"'{device.emulator.cpu}' is no CPU of qemu {emulator.version}"
        raise InputError(f"{device.name}: emulator.cpu: {what}. It has: {', '.join(known)}.")
    return device.emulator.cpu


def run_on_board(
    board: EmulatedBoard,
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    flags: Sequence[str] = (),
    on_line: Callable[[str], None] = lambda line: None,
    limit_s: float = LIMIT_S,
) -> Ended:
    """How `words` ended there, the first of which is the path of an arm64 program. flags: more of qemu's.

    Nothing of this machine's environment is passed on. on_line: takes each line of its output. What it said is the end
    of its stderr. Raises DeviceError when it did not end in time.
    """
    command = [board.emulator.path, "-L", str(board.prefix), "-cpu", board.cpu, *flags, *words]
    is_late = threading.Event()
    with tempfile.TemporaryFile() as errors:
        # A session of its own: Ctrl-C reaches this process only, which then ends the child.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace",
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environment}, start_new_session=True,
        )  # fmt: skip

        def give_up() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(limit_s, give_up)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                on_line(line.rstrip("\n"))
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
        if is_late.is_set():
            raise DeviceError(f"The emulated {board.cpu} did not finish within {limit_s:.0f} s. Use a smaller model.")
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4000))
        return Ended(code, errors.read().decode(errors="replace"))


def crash_words(code: int, cpu: str) -> str | None:
    """What signal ended a program, in words; None for a program that ended by itself."""
    if code >= 0:
        return None
    known = {int(number): text for number, text in CRASHES.items()}
    return known.get(-code, f"signal {-code}").format(cpu=cpu)


def _auxiliary(board: EmulatedBoard) -> str:
    lines: list[str] = []
    loader = str(board.sysroot.path / LOADER)
    run_on_board(board, [loader, "--help"], {}, flags=["-E", "LD_SHOW_AUXV=1"], on_line=lines.append, limit_s=60)
    return "\n".join(lines)
