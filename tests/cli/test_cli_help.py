"""What a new user meets first: help, version, completion, and how little of it needs a heavy library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit import __version__
from edgevit.cli import COMMANDS

# in the order in which they are listed
NAMES = [
    *(
        "models",
        "devices",
        "recipes",
        "run",
        "finetune",
        "distill",
        "evaluate",
        "export",
        "tune",
        "matrix",
        "bench",
        "profile",
        "compare",
    ),
    *("predict", "sign", "verify", "doctor", "report"),
]
HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "matplotlib", "sklearn", "scipy")
# runs `edgevit WORDS` for each line of stdin and says which heavy modules are loaded afterwards
PROBE = f"""
import contextlib, io, sys
from edgevit.cli import main
for line in sys.stdin.read().splitlines():
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main(line.split())
        except SystemExit as stop:
            code = stop.code
    print(code, *(name for name in {HEAVY!r} if name in sys.modules))
"""


def probe(lines: list[str], folder: Path) -> list[str]:
    """The exit code and the heavy modules after each command, all in one fresh process."""
    ended = subprocess.run(
        [sys.executable, "-c", PROBE], input="\n".join(lines), capture_output=True, text=True, cwd=folder, check=True
    )
    return ended.stdout.splitlines()


def test_help_lists_exactly_the_commands_that_work(command):
    ended = command("--help")
    assert ended.code == 0
    assert ended.err == ""
    assert re.findall(r"^  ([a-z]+)  ", ended.out.partition("Commands:")[2], re.MULTILINE) == NAMES
    assert list(COMMANDS) == NAMES


def test_help_imports_nothing_heavy(tmp_path):
    helps = ["--help", "--version", *(f"{name} --help" for name in NAMES)]
    assert probe(helps, tmp_path) == ["0"] * len(helps)


def test_what_also_runs_without_the_extras_never_imports_torch(workplace):
    commands = [
        *("models", "devices", "recipes", "recipes digits-vit-tiny", "doctor", "doctor --device rpi5"),
        "bench bundle --min-seconds 0",  # in a process of its own
        "compare bundle broken/bundle-extra",
        "predict pictures/cats/0.png --bundle bundle",
    ]
    answers = [line.split() for line in probe(commands, workplace)]
    codes = [code for code, *_ in answers]
    assert codes[:4] + codes[6:] == [*("0", "0", "0", "0"), *("0", "2", "0")]  # what doctor ends with is its own
    assert [heavy for _, *heavy in answers] == [[]] * 8 + [["onnxruntime"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(command, name):
    ended = command(name, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: edgevit {name} ")
    assert "--json" in ended.out
    assert command(name, "-h") == ended


def test_no_arguments_show_the_help_and_are_a_usage_error(command):
    ended = command()
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.strip() == command("--help").out.strip()


def test_the_version_is_the_packages(command):
    assert command("--version").out == f"edgevit, version {__version__}\n"


def test_the_module_runs_as_the_command_does():
    ended = subprocess.run([sys.executable, "-m", "edgevit", "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"edgevit, version {__version__}\n"


def completion(**variables: str) -> str:
    environment = {**os.environ, **variables}
    words = [sys.executable, "-m", "edgevit"]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout


def test_the_shell_gets_a_script_that_completes():
    assert "complete -o nosort -F _edgevit_completion edgevit" in completion(_EDGEVIT_COMPLETE="bash_source")


@pytest.mark.parametrize(
    ("words", "answer"),
    [("edgevit ex", ["plain,export"]), ("edgevit export --prec", ["plain,--precision"])],
)
def test_a_command_and_an_option_are_completed(words, answer):
    count = str(len(words.split()) - 1)
    found = completion(_EDGEVIT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count)
    assert found.split() == answer
