"""Sysroot: Debian's arm64 packages, fetched by apt with a configuration of its own and unpacked into a folder.

Nothing of the host's apt or dpkg is changed, and no script of a package runs. Made once, kept in ~/.cache/edgevit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.emulation.tools import require_tools
from edgevit.errors import EdgevitError, InputError
from edgevit.store import cache_folder

PACKAGES = ("base-files", "libc-bin", "libgomp1", "libstdc++6", "python3")
EDITION = "2"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
OS_RELEASE = Path("/etc/os-release")
TARGET_FORMAT = "$(ORIGIN)\t$(CODENAME)\t$(RELEASE)\t$(COMPONENT)\t$(REPO_URI)"
LEFT_OUT = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*")
LIBC = "usr/lib/aarch64-linux-gnu/libc.so.6"


@dataclass(frozen=True)
class Sysroot:
    """An unpacked arm64 Debian. python: '3.11'; glibc: '2.36'; title: 'Debian GNU/Linux 12 (bookworm)'."""

    path: Path
    title: str
    python: str
    glibc: str


def make_sysroot(
    extra: Sequence[str] = (), *, offline: bool = False, note: Callable[[str], None] = lambda text: None
) -> Sysroot:
    """An arm64 Debian of this machine's release, with PACKAGES and `extra`. Made once, then no network is needed.

    Raises InputError when a tool or a Debian mirror is missing, or for a download that is needed offline.
    """
    codename = _codename()
    packages = (*PACKAGES, *extra)
    cache = cache_folder("emulation")
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\n".join([EDITION, codename, *packages]).encode()).hexdigest()[:16]
    made = cache / f"arm64-{codename}-{key}"
    with (cache / "lock").open("wb") as gate:  # processes that start together make it once
        fcntl.flock(gate, fcntl.LOCK_EX)
        if not made.exists():
            if offline:
                raise InputError("The arm64 system to emulate is not here yet, and --offline forbids to download it.")
            require_tools(("apt-get", "dpkg-deb", "tar"), "Making an arm64 system")
            note(f"Downloading Debian's arm64 packages: {', '.join(packages)}")
            _make(packages, codename, made, cache)
    return _described(made)


def _make(packages: Sequence[str], codename: str, made: Path, cache: Path) -> None:
    partial, apt = cache / ".partial", cache / "apt"
    for folder in (partial, apt):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        _unpack(_download(packages, _sources(codename), apt), partial)
        partial.rename(made)
    finally:
        for folder in (partial, apt):
            shutil.rmtree(folder, ignore_errors=True)


def _codename() -> str:
    release = OS_RELEASE.read_text(encoding="utf-8") if OS_RELEASE.exists() else ""
    found = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    if "ID=debian" not in release.splitlines() or not found:
        raise InputError("--emulate makes its arm64 system as this machine's own, and this machine is no Debian.")
    return found[1]


def _described(root: Path) -> Sysroot:
    title = re.search(r'^PRETTY_NAME="(.+)"', (root / "etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    glibc = re.search(rb"stable release version (\d+\.\d+)", (root / LIBC).read_bytes())
    python = re.fullmatch(r"python(\d+\.\d+)", os.readlink(root / "usr/bin/python3"))
    if not (title and glibc and python):
        raise EdgevitError(f"{root}: is not what was unpacked there. Remove that folder and give the command again.")
    return Sysroot(root, title[1], python[1], glibc[1].decode())


def _sources(codename: str) -> str:
    """apt's lines for this machine's own Debian release and mirror."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = set()
    for line in told.stdout.splitlines():
        origin, found, release, component, address = line.split("\t")
        if origin == "Debian" and component == "main" and found.startswith(codename):
            signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
            lines.add(f"deb {signed}{address} {release} main")
    if not lines:
        raise InputError("apt knows no Debian mirror to take arm64 packages from. Run first: apt-get update")
    return "\n".join(sorted(lines)) + "\n"


def _download(packages: Sequence[str], sources: str, folder: Path) -> list[Path]:
    """The .deb files of packages and of all that they need."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(sources)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(
        'APT::Architecture "arm64";\nAPT::Architectures { "arm64"; };\nAPT::Install-Recommends "false";\n'
        f'APT::Sandbox::User "";\nAcquire::Languages "none";\nAcquire::Retries "3";\nDir::State "{folder}";\n'
        f'Dir::State::Lists "{folder}/lists";\nDir::State::status "{folder}/status";\nDir::Cache "{folder}/cache";\n'
        f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
        f'Dir::Etc::Preferences "/dev/null";\nDir::Etc::PreferencesParts "/dev/null";\nDir::Log "{folder}";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["--yes", "--download-only", "install", *packages]):
        ended = subprocess.run(
            ["apt-get", "-qq", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if ended.returncode:
            said = " ".join(ended.stderr.split())[-300:]
            raise InputError(f"apt-get {words[0]} fails for arm64 ({said}). Is this machine online?")
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    for name in ("bin", "sbin", "lib"):  # Debian's merged /usr
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    skipped = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as content:
            words = ["tar", "-C", str(root), "-x", "--keep-directory-symlink", "--no-same-owner", *skipped]
            ended = subprocess.run(words, stdin=content.stdout, capture_output=True, check=False)
        if ended.returncode or content.returncode:
            raise EdgevitError(f"{package.name}: cannot be unpacked ({ended.stderr.decode(errors='replace').strip()}).")
