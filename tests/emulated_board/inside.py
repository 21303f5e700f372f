"""Inside: becomes the emulated board. Run by board.py as a process of its own; standard library only.

It enters new namespaces (user, mount, pid, uts, ipc), so that nothing is mounted or registered outside of them, and
ends as the arm64 sshd. Everything in there ends with it, and it ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000  # ns, uts, ipc, user, pid: sched.h
MS_BIND, MS_NOSUID, MS_REC, MS_PRIVATE = 4096, 2, 16384, 1 << 18
PR_SET_PDEATHSIG = 1
# An arm64 ELF program, little-endian. P keeps argv[0], F opens qemu now, so that the board's root needs no copy.
# Source: Linux, Documentation/admin-guide/binfmt-misc.rst; magic and mask as in QEMU's qemu-binfmt-conf.sh.
MAGIC = rb"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def main() -> None:
    settings = json.loads(sys.argv[1])
    _end_with_parent()
    _check(LIBC.unshare(NEW_NAMESPACES), "unshare")
    print("unshared", flush=True)
    sys.stdin.readline()  # the user map has been written
    child = os.fork()
    if child == 0:
        _end_with_parent()
        _become_board(settings)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGKILL))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def _become_board(settings: dict[str, str]) -> None:
    root, folder = Path(settings["root"]), Path(settings["folder"])
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("edgevit-board", settings["disk"], "tmpfs", 0, f"size={settings['disk_mib']}m,mode=755")
    for name in ("upper", "work"):
        Path(settings["disk"], name).mkdir()
    layers = f"lowerdir={settings['sysroot']},upperdir={settings['disk']}/upper,workdir={settings['disk']}/work"
    _mount("overlay", str(root), "overlay", 0, f"{layers},userxattr")
    os.chmod(root, 0o755)
    _add_users(root)
    _mount("proc", str(root / "proc"), "proc")
    _mount(str(folder / "proc/cpuinfo"), str(root / "proc/cpuinfo"), "", MS_BIND)
    _mount(str(folder / "sys"), str(root / "sys"), "", MS_BIND)
    _register_qemu(settings["qemu"])
    _mount("dev", str(root / "dev"), "tmpfs", 0, "mode=755,size=16m")
    for name in ("null", "zero", "full", "random", "urandom"):
        (root / "dev" / name).touch()
        _mount(f"/dev/{name}", str(root / "dev" / name), "", MS_BIND)
    (root / "dev/shm").mkdir()
    (root / "dev/fd").symlink_to("/proc/self/fd")
    (root / "etc/ssh/board_key").write_bytes((folder / "host_key").read_bytes())
    (root / "etc/ssh/board_key").chmod(0o600)
    (root / "etc/ssh/board_users").write_bytes((folder / "user_key.pub").read_bytes())
    (root / "etc/ssh/board_config").write_text(settings["sshd_config"])
    (root / "run/sshd").mkdir(parents=True, exist_ok=True)
    for path in (root, root / "run", root / "run/sshd", root / "root"):
        os.chown(path, 0, 0)
    (root / "run/sshd").chmod(0o755)
    os.chroot(root)
    os.chdir("/")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "QEMU_CPU": settings["cpu"]}
    os.execve("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/board_config"], environment)


def _add_users(root: Path) -> None:
    """What the packages' own scripts would have done, as far as sshd needs it."""
    for name in ("proc", "sys", "dev", "tmp", "root", "run/sshd", "etc/ssh"):
        (root / name).mkdir(parents=True, exist_ok=True)
    users = (root / "usr/share/base-passwd/passwd.master").read_text().splitlines()
    kept = [line for line in users if not line.startswith("root:")]
    own = ["root:x:0:0:root:/root:/bin/sh", "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin"]
    (root / "etc/passwd").write_text("\n".join([*own, *kept, ""]))
    (root / "etc/group").write_text((root / "usr/share/base-passwd/group.master").read_text())
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")


def _register_qemu(qemu: str) -> None:
    """In a binfmt_misc of this user namespace's own, which Linux has since 6.7."""
    _mount("binfmt_misc", "/proc/sys/fs/binfmt_misc", "binfmt_misc")
    rule = b":edgevit-board:M::" + MAGIC + b":" + MASK + b":" + qemu.encode() + b":PF"
    Path("/proc/sys/fs/binfmt_misc/register").write_bytes(rule)


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    words = [word.encode() if word else None for word in (source, target, kind)]
    _check(LIBC.mount(*words, flags, options.encode() or None), f"mount {kind or source} at {target}")


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _check(result: int, what: str) -> None:
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
