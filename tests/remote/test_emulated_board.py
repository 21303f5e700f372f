"""A board of another architecture, end to end: arm64 sshd and Python under qemu, numpy and ONNX Runtime from wheels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from digits_shop import Told
from emulated_board.board import EmulatedBoard, UnavailableError, emulated_board
from host_board import free_port

from edgevit.board.amalgamate import agent_source
from edgevit.board.options import BenchOptions
from edgevit.bundle import Bundle, load_bundle
from edgevit.device import Device
from edgevit.errors import DeviceError
from edgevit.machine.wheels import board_requirements
from edgevit.remote.bench import RemoteOptions, bench_on_board
from edgevit.remote.connection import SshOptions
from edgevit.remote.environment import WheelSource
from edgevit.remote.gather import gather_board_facts
from edgevit.remote.host import parse_host
from edgevit.yamlfile import read_yaml

pytestmark = [pytest.mark.arm, pytest.mark.slow]
MakeBundle = Callable[..., Path]
RPI5 = parse_host("emulated-rpi5")


@pytest.fixture(scope="module")
def arm_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBoard]:
    try:
        with emulated_board(tmp_path_factory.mktemp("arm") / "rpi5") as running:
            yield running
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def options(arm_board: EmulatedBoard) -> RemoteOptions:
    return RemoteOptions(ssh=SshOptions(arm_board.config), bench=BenchOptions(min_seconds=0))


@pytest.fixture
def bundle(make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]) -> Bundle:
    return arm_bundle(make_bundle, sign_bundle)


def arm_bundle(make_bundle: MakeBundle, sign_bundle: Callable[[Path], None], device: str = "rpi5") -> Bundle:
    target = {"name": device, "arch": "aarch64", "threads": 1, "measured_on": None}
    root = make_bundle(agent=agent_source("onnxruntime"), device=target)
    pins = board_requirements("onnxruntime", ["3.11"], "2.36", "aarch64")
    (root / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins))
    sign_bundle(root)
    return load_bundle(root)


def test_a_bare_board_gets_its_packages_and_measures(bundle: Bundle, options: RemoteOptions) -> None:
    told = Told()
    report = bench_on_board(RPI5, bundle, options, told)
    assert (report.machine.arch, report.machine.python) == ("aarch64", "3.11.2")
    assert report.machine.cpu.startswith("Cortex-A76")
    assert report.machine.is_emulated
    assert (report.host, report.device) == ("emulated-rpi5", "emulated-rpi5")
    assert "The board is emulated: this is no board's latency." in report.notes


def test_the_board_describes_itself(arm_board: EmulatedBoard) -> None:
    facts = gather_board_facts(RPI5, SshOptions(arm_board.config))
    assert (facts.machine.arch, facts.glibc) == ("aarch64", "2.36")
    assert facts.machine.cpu.startswith("Cortex-A76")
    assert "asimddp" in facts.isa


def test_doctor_and_a_profile_of_the_board_from_the_command_line(arm_board: EmulatedBoard, tmp_path: Path) -> None:
    ssh = ("--ssh-config", str(arm_board.config))
    doctor = edgevit("doctor", "--host", arm_board.name, "--device", "rpi5", *ssh, "--json")
    assert doctor.returncode in (0, 5), doctor.stderr
    assert json.loads(doctor.stdout)["findings"]
    target = tmp_path / "mine.yaml"
    added = edgevit("devices", "add", "--from-host", arm_board.name, *ssh, "--name", "mine", "-o", str(target))
    assert added.returncode == 0, added.stderr
    profile = read_yaml(target, Device)
    assert (profile.arch, [cluster.model for cluster in profile.cpu.clusters]) == ("aarch64", ["Cortex-A76"])


def edgevit(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgevit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_a_bundle_for_this_machine_is_refused_there(make_bundle: MakeBundle, options: RemoteOptions) -> None:
    bundle = load_bundle(make_bundle(agent=agent_source("onnxruntime")))
    told = Told()
    with pytest.raises(DeviceError, match="is aarch64, and this bundle is for x86_64"):
        bench_on_board(RPI5, bundle, options, told)
    assert told.stages[-1] == "Looking at emulated-rpi5"


def test_a_runtime_without_wheels_for_the_board_is_refused_before_a_copy(
    bundle: Bundle, sign_bundle: Callable[[Path], None], options: RemoteOptions, tmp_path: Path
) -> None:
    (bundle.path / "requirements.txt").write_text("onnxruntime==1.31.1\nnumpy==2.4.6\n")
    sign_bundle(bundle.path)
    (tmp_path / "wheels").mkdir()
    wrong = "onnxruntime-1.31.1-cp38-cp38-manylinux_2_28_aarch64.whl"  # another Python's
    (tmp_path / "wheels" / wrong).write_bytes(b"wheel")
    told = Told()
    with pytest.raises(
        DeviceError, match=r"has no wheel of onnxruntime==1\.31\.1 for Python 3\.11 .*Nothing was copied"
    ):
        bench_on_board(RPI5, load_bundle(bundle.path), replace(options, wheels=WheelSource(tmp_path / "wheels")), told)
    assert told.stages[-1] == "Looking at emulated-rpi5"


def test_three_boards_of_which_one_is_broken_from_the_command_line(
    arm_board: EmulatedBoard, bundle: Bundle, tmp_path: Path
) -> None:
    usual = arm_board.config.read_text()
    names = {"pi-1": arm_board.port, "pi-2": arm_board.port, "pi-3": free_port()}
    texts = [
        usual.replace(f"Host {arm_board.name}", f"Host {name}").replace(f"Port {arm_board.port}", f"Port {port}")
        for name, port in names.items()
    ]
    (tmp_path / "config").write_text("\n".join(texts))
    words = ("bench", str(bundle.path), "--ssh-config", str(tmp_path / "config"), "--min-seconds", "0", "--json")
    ended = edgevit(*words, "--host", "pi-1", "--host", "pi-2", "--host", "pi-3")
    assert ended.returncode == 5, ended.stderr
    document = json.loads(ended.stdout)
    assert [board["exit_code"] for board in document["boards"]] == [0, 0, 5]
    assert [board["host"] for board in document["boards"]] == list(names)
    assert document["spreads"][0]["machine"].startswith("Cortex-A76")


def test_a_board_that_loses_its_power_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]
) -> None:
    """Last, and with a board of its own: nothing of that is left."""
    bundle = arm_bundle(make_bundle, sign_bundle)
    with emulated_board(tmp_path_factory.mktemp("arm") / "short-lived") as board:

        class Unplugging(Told):
            def stage(self, title: str) -> None:
                super().stage(title)
                if title.startswith("Copying"):
                    board.process.terminate()

        with pytest.raises(DeviceError, match=r"^emulated-rpi5: the connection was lost while "):
            bench_on_board(RPI5, bundle, RemoteOptions(ssh=SshOptions(board.config)), Unplugging())
        with pytest.raises(DeviceError, match="no ssh server listens there"):
            bench_on_board(RPI5, bundle, RemoteOptions(ssh=SshOptions(board.config)), Told())
    assert not board.process.stdout or board.process.stdout.closed
