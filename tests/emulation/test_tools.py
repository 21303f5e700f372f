from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.catalog import load_device
from edgevit.emulation.board import crash_words
from edgevit.emulation.identity import write_identity
from edgevit.emulation.sysroot import make_sysroot
from edgevit.emulation.tools import find_tools, known_cpus
from edgevit.errors import InputError

STATIC = """#!/bin/sh
case $1 in
--version) echo "qemu-aarch64 version 7.2.22 (Debian 1:7.2)" ;;
--help) echo "usage: qemu-aarch64 [options] program" ;;
-cpu) printf 'Available CPUs:\\n  cortex-a72\\n  max\\n' ;;
esac
"""


@pytest.fixture
def bin_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which is only what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_all_that_is_missing_is_named_with_the_line_that_installs_it(bin_only: Path) -> None:
    with pytest.raises(InputError) as error:
        find_tools()
    assert str(error.value) == (
        "--emulate needs qemu-aarch64 (the emulator) and gcc (for its instruction counter). "
        "Install what is missing with: apt-get install qemu-user gcc libc6-dev"
    )


def test_an_emulator_without_plugins_runs_and_says_why_nothing_is_counted(bin_only: Path) -> None:
    put(bin_only, "qemu-aarch64-static", STATIC)
    tools = find_tools()
    assert (tools.emulator.version, tools.emulator.takes_plugins) == ("7.2.22", False)
    assert tools.uncounted == (
        f"{bin_only}/qemu-aarch64-static takes no plugins and gcc is missing (apt-get install qemu-user gcc libc6-dev)"
    )
    assert known_cpus(tools.emulator) == ("cortex-a72", "max")


def test_of_two_emulators_the_one_with_plugins_is_taken(bin_only: Path) -> None:
    put(bin_only, "qemu-aarch64-static", STATIC)
    put(bin_only, "qemu-aarch64", STATIC.replace("[options]", "-plugin [file=]<file>"))
    put(bin_only, "gcc", "#!/bin/sh\n")
    tools = find_tools()
    assert (Path(tools.emulator.path).name, tools.uncounted) == ("qemu-aarch64", "")


def test_offline_a_system_that_is_not_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("edgevit.emulation.sysroot.OS_RELEASE", tmp_path / "os-release")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    with pytest.raises(InputError, match="is not here yet, and --offline forbids to download it"):
        make_sysroot(offline=True)


def test_a_machine_that_is_no_debian_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.emulation.sysroot.OS_RELEASE", tmp_path / "none")
    with pytest.raises(InputError, match="this machine is no Debian"):
        make_sysroot()


def test_a_crash_is_named() -> None:
    assert crash_words(0, "cortex-a72") is None
    assert crash_words(5, "cortex-a72") is None
    assert str(crash_words(-4, "cortex-a72")).startswith("an illegal instruction: its CPU, cortex-a72, lacks")
    assert crash_words(-11, "max") == "a segmentation fault"
    assert crash_words(-64, "max") == "signal 64"


def test_a_profile_with_an_unknown_core_is_refused_by_its_key(tmp_path: Path) -> None:
    rpi5 = load_device("rpi5")
    clusters = (rpi5.cpu.clusters[0].model_copy(update={"model": "Cortex-Z9"}),)
    unknown = rpi5.model_copy(update={"cpu": rpi5.cpu.model_copy(update={"clusters": clusters})})
    with pytest.raises(InputError, match=r"rpi5: cpu\.clusters: 'Cortex-Z9' is none of Cortex-A53, "):
        write_identity(tmp_path, unknown)
