"""Holding the CPU's governor at 'performance' while something is measured, and putting it back whatever happens.

The one thing of edgevit's that uses sudo, and only when it is asked to.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.board.files import first_line
from edgevit.board.validity import SET_GOVERNOR
from edgevit.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HELD_GOVERNOR = "performance"
GUARD_SECONDS = 10.0
BY_HAND = f"Set it yourself before measuring: {SET_GOVERNOR}"
# Arguments: a file, its governor of before, and so on. It puts back what was there when its input ends, which it does
# when the process that measures ends, be it killed. Ctrl-C is not meant for it.
GUARD = """
trap '' INT TERM HUP PIPE
put_back() { while [ $# -gt 1 ]; do echo "$2" > "$1"; shift 2; done; }
for word in "$@"; do
  case "$word" in
    /*) echo performance > "$word" || { put_back "$@"; exit 1; } ;;
  esac
done
echo held
cat > /dev/null
put_back "$@"
"""


@contextlib.contextmanager
def held_governor(root: Path = Path("/"), sudo: Sequence[str] | None = None) -> Iterator[str]:
    """A sentence on what was done so far; in the block every core's governor is 'performance'.

    sudo: the words before the command; () where the files may be written as it is, else `sudo -n`, which never asks.
    Raises DeviceError where there is no governor, no 'performance', or sudo is not allowed.
    """
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"))
    files = {policy / "scaling_governor": first_line(policy / "scaling_governor") for policy in policies}
    if not files or not all(files.values()):
        raise DeviceError("--set-governor: this machine shows no governor (a virtual machine or a container).")
    if not all(_has_performance(policy) for policy in policies):
        raise DeviceError(f"--set-governor: the governor '{HELD_GOVERNOR}' is not among those of this machine.")
    before = ", ".join(sorted(set(files.values())))
    if before == HELD_GOVERNOR:
        yield f"The governor was {HELD_GOVERNOR} already."
        return
    if sudo is None:
        sudo = () if all(os.access(str(path), os.W_OK) for path in files) else ("sudo", "-n")
    words = [word for path, governor in files.items() for word in (str(path), governor)]
    guard = _start_guard([*sudo, "sh", "-c", GUARD, "sh", *words])
    try:
        yield f"The governor was set to {HELD_GOVERNOR} for this run; it was {before} before."
    finally:
        _end_guard(guard)


def _has_performance(policy: Path) -> bool:
    """True where the kernel does not list them, too: then the attempt shows it."""
    listed = first_line(policy / "scaling_available_governors").split()
    return not listed or HELD_GOVERNOR in listed


def _start_guard(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """The guard, once it holds the governor. In a session of its own, so that what ends us does not end it."""
    try:
        guard = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise DeviceError(f"--set-governor: {words[0]} cannot be started ({error.strerror}). {BY_HAND}") from None
    assert guard.stdout is not None
    assert guard.stderr is not None
    timer = threading.Timer(GUARD_SECONDS, guard.kill)
    timer.start()
    try:
        if guard.stdout.readline().strip() == b"held":
            return guard
    finally:
        timer.cancel()
    said = guard.stderr.read().decode("utf-8", "replace").strip().split("\n")[-1].rstrip(".")
    _end_guard(guard)
    raise DeviceError(f"--set-governor: is not allowed ({said or 'sudo gives no reason'}). {BY_HAND}")


def _end_guard(guard: subprocess.Popen[bytes]) -> None:
    """Ends its input, upon which it puts the governor back and ends."""
    assert guard.stdin is not None
    guard.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        guard.wait(timeout=GUARD_SECONDS)
    for output in (guard.stdout, guard.stderr):
        if output is not None:
            output.close()
