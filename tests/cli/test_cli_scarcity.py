"""A machine that lacks something: a package, room on the disk, a file system that may be written."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# runs `edgevit WORDS` for each line of stdin as if no extra were installed
WITHOUT_EXTRAS = """
import contextlib, io, sys
for name in ("torch", "torchvision", "timm", "accelerate", "safetensors", "sklearn", "scipy", "matplotlib", "jinja2",
             "onnx", "onnxsim", "onnxscript"):
    sys.modules[name] = None
from edgevit.cli import main
for line in sys.stdin.read().splitlines():
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            main(line.split())
        except SystemExit as stop:
            code = stop.code
    print(code, said.getvalue().strip())
"""
NEEDS = "Error: This needs the package '{}'. Install it with: pip install 'edgevit[{}]'"
FULL = "cannot be written: the disk is full."


def test_the_light_install_says_which_extra_a_command_needs(workplace):
    commands = {
        "evaluate bundle --data digits": ("scikit-learn", "train"),
        "evaluate checkpoint --data pictures": ("torch", "train"),
        "run tiny.yaml -o out": ("torch", "train"),
        "finetune mobilevit_xxs --data pictures -o out": ("torch", "train"),
        "distill mobilevit_xxs --teacher resnet50 --data pictures -o out": ("torch", "train"),
        "export checkpoint -o out": ("torch", "train"),
        "report run": ("torch", "train"),
    }
    light = [
        *("models", "devices", "recipes", "predict pictures/cats/0.png --bundle bundle", "compare bundle run/bundle"),
        "bench bundle --min-seconds 0",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS], input="\n".join([*commands, *light]), capture_output=True, text=True,
        check=True, cwd=workplace,
    )  # fmt: skip
    expected = [f"2 {NEEDS.format(package, extra)}" for package, extra in commands.values()]
    assert [line.strip() for line in ended.stdout.splitlines()] == [*expected, *["0"] * len(light)]


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("timm", "train", "run tiny.yaml -o out"),
        ("accelerate", "train", "finetune mobilevit_xxs --data pictures -o out"),
        ("matplotlib", "train", "report run"),
        ("onnxsim", "export", "export checkpoint -o out"),
        ("onnxscript", "export", "run tiny.yaml -o out"),
    ],
)
def test_one_missing_package_is_noticed_before_the_work(refused, monkeypatch, package, extra, words):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    assert f"Error: {refused(2, words)}" == NEEDS.format(package, extra)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    yield from _mounted(tmp_path / "disk", "size=64k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that nobody may write to, root included."""
    yield from _mounted(tmp_path / "disk", "ro,size=64k")


def _mounted(disk: Path, options: str) -> Iterator[Path]:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"no small disk can be mounted here: {ended.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


WRITING = [
    ("export", "checkpoint", "--device", "rpi5", "--precision", "fp32"),
    ("run", "tiny.yaml"),
    ("finetune", "vit_tiny_patch16_224", "--weights", "random", "--image-size", "32", "--data", "pictures",
     "--epochs", "1"),
]  # fmt: skip


@pytest.mark.parametrize("words", WRITING, ids=lambda words: words[0])
def test_a_full_disk_is_one_line_and_is_left_empty(command, in_workplace, small_disk, words):
    ended = command(*words, "-o", small_disk / "out")
    assert ended.code == 2
    assert ended.out == ""
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"Error: {small_disk}")
    assert FULL in last
    assert last.count("Error: ") == ended.err.count("Error: ") == 1
    assert list(small_disk.iterdir()) == []


def test_a_report_that_does_not_fit_keeps_the_old_one(command, in_workplace, small_disk):
    (small_disk / "page.html").write_text("old")
    (small_disk / "filler").write_bytes(bytes(40 * 1024))
    ended = command("report", "run", "-o", small_disk / "page.html")
    assert ended.code == 2
    assert FULL in ended.err
    assert (small_disk / "page.html").read_text() == "old"
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "page.html"]


@pytest.mark.parametrize("words", WRITING, ids=lambda words: words[0])
def test_a_read_only_disk_is_noticed_before_the_work(refused, read_only_disk, words):
    line = refused(2, " ".join([*words, "-o", str(read_only_disk / "out")]))
    assert line.startswith(f"{read_only_disk / 'out'}: cannot be written: Read-only file system. Choose ")
