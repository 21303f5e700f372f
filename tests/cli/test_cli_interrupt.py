"""Ctrl-C and kill -9 in every stage: exit code 130, one line, nothing half written, and training goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgevit.cli.progress import TerminalProgress

# a new line, because a terminal has written ^C on this one
NOTHING_LEFT = "\nError: Interrupted. Nothing half written is left behind.\n"
GOES_ON = "\nError: Interrupted. Give the same command again to go on.\n"
EXPORT = (
    *("export", "checkpoint", "--precision", "int8-static", "--data", "digits", "--eval-limit", "20"),
    *("--calibration-images", "8", "--max-drop", "100", "--runtime", "onnxruntime"),
)
Interrupt = Callable[[str, int], None]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """interrupt(stage, step) sends SIGINT when the stage has come to that step; 0 is its beginning."""

    def arm(title: str, step: int) -> None:
        current = [""]
        begin, go_on = TerminalProgress.stage, TerminalProgress.update

        def stage(self: TerminalProgress, text: str) -> None:
            current[0] = text
            begin(self, text)
            if step == 0 and text.startswith(title):
                signal.raise_signal(signal.SIGINT)

        def update(self: TerminalProgress, done: int, total: int, detail: str = "") -> None:
            go_on(self, done, total, detail)
            if step == done and current[0].startswith(title):
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(TerminalProgress, "stage", stage)
        monkeypatch.setattr(TerminalProgress, "update", update)

    return arm


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that temporary files go to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def own_children() -> set[psutil.Process]:
    """All processes that this one has started; a server that other tests share may be among them."""
    return set(psutil.Process().children(recursive=True))


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        ("Loading the model", 0), ("Opening the data", 0), ("Exporting to ONNX", 0), ("Exporting to ONNX", 5),
        ("Rewriting", 5), ("Quantizing: int8-static", 0), ("Calibrating", 4), ("Accuracy of fp32", 10),
        ("Measuring latency, taking turns", 2),
    ],
)  # fmt: skip
def test_ctrl_c_in_an_export_leaves_nothing(command, in_workplace, interrupt, temporary, stage, step):
    before = own_children()
    interrupt(stage, step)
    assert command(*EXPORT, "-o", "out") == (130, "", NOTHING_LEFT)
    assert list(temporary.iterdir()) == []
    assert own_children() <= before


def test_ctrl_c_half_way_through_the_bundle_leaves_nothing(command, in_workplace, temporary, monkeypatch):
    def agent_source(runtime: str) -> str:
        (half,) = in_workplace.glob(".out.partial-*")
        assert (half / "model.onnx").exists()
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr("edgevit.bundle.agent_source", agent_source)
    ended = command("export", "onnx/model.onnx", "--device", "rpi5", "--precision", "fp32", "-o", "out")
    assert ended == (130, "", NOTHING_LEFT)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("stage", "step"), [("Opening the data", 0), ("Loading the model", 0), ("Training", 2)])
def test_ctrl_c_before_the_first_epoch_ends_leaves_nothing(command, in_workplace, interrupt, stage, step):
    interrupt(stage, step)
    assert command("run", "tiny.yaml", "-o", "out") == (130, "", GOES_ON)


@pytest.mark.parametrize(("stage", "step"), [("Exporting to ONNX", 0), ("Writing the report", 0)])
def test_ctrl_c_after_training_keeps_the_training_only(command, workplace, interrupt, tmp_path, stage, step):
    interrupt(stage, step)
    ended = command("run", workplace / "tiny.yaml", "-o", tmp_path / "out")
    assert ended.code == 130
    assert ended.err.endswith(GOES_ON)
    assert not (tmp_path / "out").exists()
    (work,) = tmp_path.iterdir()
    assert (work / "checkpoint" / "model.safetensors").exists()


def test_ctrl_c_while_measuring_ends_the_measuring_process(command, in_workplace):
    before = own_children()

    def interrupt_while_the_child_runs() -> None:
        while not any(child.cpu_times().user > 0.1 for child in own_children() - before):
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_while_the_child_runs)
    watcher.start()
    ended = command("bench", "bundle")  # takes three seconds at least
    watcher.join()
    assert ended == (130, "", NOTHING_LEFT)
    assert own_children() <= before


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """`edgevit WORDS` in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgevit", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], beginning: str) -> list[str]:
    """What the process said on stderr up to a line that begins so."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"ended before '{beginning}': {''.join(lines)}")


@pytest.fixture
def endless(workplace: Path, tmp_path: Path) -> Path:
    """A folder with a recipe of more epochs than anybody waits for."""
    (tmp_path / "tiny.yaml").write_text((workplace / "tiny.yaml").read_text().replace("epochs: 1", "epochs: 100000"))
    return tmp_path


def test_ctrl_c_on_a_terminal_is_one_line(endless):
    with start(endless, "run", "tiny.yaml", "-o", "out") as process:
        read_until(process, "epoch 1:")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("epoch ")] == GOES_ON.splitlines()
    assert not (endless / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_ends_edgevit_ends_its_children_and_leaves_nothing(workplace, tmp_path, number, code):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "edgevit", "bench", "bundle", "--duration", "600"]
    with subprocess.Popen(words, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) as process:
        seen = psutil.Process(process.pid)
        while not (children := seen.children(recursive=True)) or children[0].cpu_times().user < 0.1:
            assert process.poll() is None
            threading.Event().wait(0.01)
        process.send_signal(number)
        process.send_signal(number)  # as timeout does, which signals its child and then its group
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, NOTHING_LEFT)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored(workplace):
    words = ["nohup", sys.executable, "-m", "edgevit", "bench", "bundle", "--min-seconds", "1"]
    with subprocess.Popen(words, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        seen = psutil.Process(process.pid)
        while not seen.children(recursive=True):
            assert process.poll() is None
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode in (0, 6)


def test_handlers_are_as_they_were_after_a_command(command):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert command("models").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_a_killed_training_goes_on_where_it_was(command, workplace, tmp_path, monkeypatch):
    recipe = (workplace / "tiny.yaml").read_text().replace("epochs: 1", "epochs: 12")
    (tmp_path / "tiny.yaml").write_text(recipe)
    with start(tmp_path, "run", "tiny.yaml", "-o", "out") as process:
        read_until(process, "epoch 2:")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    monkeypatch.chdir(tmp_path)
    ended = command("run", "tiny.yaml", "-o", "out", "--json")
    assert ended.code == 0, ended.err
    epochs = [int(number) for number in re.findall(r"^epoch (\d+):", ended.err, re.MULTILINE)]
    assert epochs == list(range(epochs[0], 13))
    assert epochs[0] >= 3
    assert [epoch["epoch"] for epoch in ended.document["curves"]] == list(range(1, 13))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tiny.yaml"]
