"""Every command that README.md shows is run here, in the order shown, as a newcomer would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from example_bench import example_bench
from host_board import running_board
from PIL import Image
from sklearn.datasets import load_digits

from edgevit.bundle import load_bundle
from edgevit.errors import MeasurementError
from edgevit.results import Machine, RunMetrics
from edgevit.runs import read_metrics
from edgevit.store import write_json

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SMALL = ("--weights", "random", "--image-size", "64", "--epochs", "1", "--batch-size", "8")
FEW_TRIALS = ("--trials", "2", "--search-pictures", "64")
ONE_RUNTIME = ("--runtime", "torchscript", "--eval-limit", "64", "--threads", "1")
OVER_SSH = ("--ssh-config", "ssh_config", "--min-seconds", "0")
# The command as README shows it, and what is added so that it needs no network and few minutes.
SHOWN: dict[str, tuple[str, ...]] = {
    "edgevit export deit_tiny_patch16_224 --device rpi5 -o deit-rpi5": ("--weights", "random", "--offline"),
    "edgevit bench runs/digits-vit-tiny/bundle": (),
    "edgevit bench runs/digits-vit-tiny/bundle --threads 1,2,4": ("--min-seconds", "0"),
    "edgevit bench runs/digits-vit-tiny/bundle --streams 4 --percentiles 95,99.9": ("--min-seconds", "0"),
    "edgevit bench runs/digits-vit-tiny/bundle --cold-start": (),
    "edgevit compare runs/digits-vit-tiny/bundle other-bundle": (),
    "edgevit doctor --device rpi5": (),
    "edgevit tune runs/digits-vit-tiny/checkpoint --data digits -o tuned": FEW_TRIALS,
    "edgevit tune runs/digits-vit-tiny/checkpoint --data digits -o tuned --pick 1": FEW_TRIALS,
    "edgevit profile runs/digits-vit-tiny/bundle": (),
    "edgevit profile other-bundle --against runs/digits-vit-tiny/bundle": (),
    "edgevit matrix runs/digits-vit-tiny/checkpoint --data digits -o matrix": ONE_RUNTIME,
    "edgevit sign other-bundle --key release-key": (),
    "edgevit verify other-bundle --allowed-signers allowed_signers": (),
    "edgevit finetune mobilevit_xxs --data pictures -o checkpoint": SMALL,
    "edgevit export checkpoint --data pictures --device rpi5 --max-drop 1.0 -o bundle": ("--max-drop", "100"),
    "edgevit export checkpoint --data pictures --device jetson-orin-nano --runtime tensorrt --max-drop 1.0 "
    "-o jetson-bundle": ("--max-drop", "100"),
    "edgevit recipes folder-template": (),
    "edgevit bench bundle --emulate": (),
    "edgevit bench bundle --emulate --device rpi4 --data pictures": ("--limit", "8"),
    "edgevit doctor --host pi-1": OVER_SSH[:2],
    "edgevit bench runs/digits-vit-tiny/bundle --host raspberrypi.local": OVER_SSH,
    "edgevit bench runs/digits-vit-tiny/bundle --host pi-1 --host pi-2": OVER_SSH,
    "edgevit bench runs/digits-vit-tiny/bundle --inventory hosts.yaml -o fleet.json": OVER_SSH,
    "edgevit bench runs/digits-vit-tiny/bundle --host pi-1 --wheels wheels": OVER_SSH,
    "edgevit devices add --from-host pi-1 --name my-pi": OVER_SSH[:2],
    "edgevit devices calibrate report.json --bundle bundle": (),
}
RUN = "edgevit run digits-vit-tiny"
ON_BOARD = ("python3 agent.py selfcheck", "bench", "predict picture.jpg")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo was run, and the things lie that README's commands name."""
    folder = tmp_path_factory.mktemp("newcomer")
    ended = _run(folder, RUN.split())
    assert ended.returncode == 0, ended.stderr
    shutil.copytree(folder / "runs/digits-vit-tiny/bundle", folder / "other-bundle")
    digits = load_digits()
    for digit in (0, 1):
        (folder / "pictures" / str(digit)).mkdir(parents=True)
        for index, pixels in enumerate(digits.images[digits.target == digit][:40]):
            picture = Image.fromarray((pixels * 15).astype(np.uint8)).convert("RGB").resize((32, 32))
            picture.save(folder / "pictures" / str(digit) / f"{index}.png")
    shutil.copy(folder / "pictures/1/0.png", folder / "picture.jpg")
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "release-key"]
    subprocess.run(words, check=True)
    public = (folder / "release-key.pub").read_text()
    (folder / "allowed_signers").write_text(f'ci@example.org namespaces="edgevit" {public}')
    return folder


@pytest.fixture(scope="module")
def demo(home: Path) -> RunMetrics:
    return read_metrics(home / "runs/digits-vit-tiny")


def test_every_command_shown_is_one_that_is_run_here() -> None:
    shown = re.findall(r"(?:^|`)(edgevit (?!--)[^`#>\n]+?)\s*(?:$|[`#>])", README, re.MULTILINE)
    assert set(shown) == {RUN, *SHOWN}
    assert all(words in README for words in ON_BOARD)


@pytest.fixture(scope="module")
def boards(home: Path) -> Iterator[None]:
    """This machine as all the boards that README names, in what the home has as ssh's config."""
    (home / "hosts.yaml").write_text("hosts: [pi-1, pi-2]\n")
    (home / "wheels").mkdir()
    with running_board(home / "board") as board:
        board.config_with(home / "ssh_config", alias="raspberrypi.local pi-1 pi-2")
        yield


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_shown_does_what_it_says(home: Path, command: str, request: pytest.FixtureRequest) -> None:
    if "calibrate" in command:
        _write_report(home)
    if OVER_SSH[0] in SHOWN[command]:
        request.getfixturevalue("boards")
    if "--emulate" in command and shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing: apt-get install qemu-user")
    ended = _run(home, [*command.split(), *SHOWN[command]])
    if command.startswith("edgevit bench") and ended.returncode == MeasurementError.exit_code:
        assert "This measurement may not be used" in ended.stderr  # other tests run beside it, which it notices
    else:
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


def test_the_demo_reaches_97_percent_and_ships_within_a_point_of_it(demo: RunMetrics) -> None:
    assert demo.fp32_test is not None
    assert demo.shipped_test is not None
    assert demo.fp32_test.top1 >= 97.0
    assert demo.shipped_test.accuracy.top1 >= demo.fp32_test.top1 - 1.0
    low, high = demo.shipped_test.accuracy.ci95
    assert low < demo.shipped_test.accuracy.top1 < high


def test_the_demo_leaves_a_page_and_a_checked_bundle(home: Path) -> None:
    run = home / "runs/digits-vit-tiny"
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-I", run / "bundle/agent.py", "selfcheck", "--json"],
        cwd=home, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout)["passed"] is True


def test_the_bundle_predicts_on_the_board_as_shown(home: Path) -> None:
    agent = home / "runs/digits-vit-tiny/bundle/agent.py"
    ended = subprocess.run(
        [sys.executable, "-I", agent, "predict", home / "picture.jpg"], capture_output=True, text=True, check=True
    )
    assert "picture.jpg: 1 " in ended.stdout


def test_make_knows_the_two_commands_of_a_newcomer() -> None:
    for target, wanted in (("demo", RUN), ("test", "pytest")):
        ended = subprocess.run(
            ["make", "--dry-run", "--directory", CHECKOUT, target], capture_output=True, text=True, check=True
        )
        assert wanted in ended.stdout


def _write_report(home: Path) -> None:
    """What a Raspberry Pi 5 might have measured of the bundle that was exported for it."""
    manifest = load_bundle(home / "bundle").manifest
    entry = manifest.files[manifest.runtime.entry]
    machine = Machine(cpu="Cortex-A76", arch="aarch64", cores=4, os="Debian 12", python="3.11.2")
    report = example_bench(
        device="rpi5",
        host="pi-1",
        machine=machine,
        artifact_sha256=entry.sha256,
        precision=manifest.precision,
        runtime=manifest.runtime.name,
    )
    write_json(home / "report.json", report)


def _run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    assert command[0] == "edgevit"
    words = [sys.executable, "-m", *command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
