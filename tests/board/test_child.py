"""Processes that stand in for the agent started anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgevit.board import child
from edgevit.board.child import agent_words, run_agent_again
from edgevit.errors import DeviceError, EdgevitError, InputError, MeasurementError


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The agent is `python -c ARGUMENTS`."""
    monkeypatch.setattr(child, "agent_words", lambda: [sys.executable, "-c"])
    return monkeypatch


def test_the_package_starts_its_module_and_a_single_file_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agent_words()[-2:] == ["-m", "edgevit.board.agent"]
    monkeypatch.setattr(child, "__name__", "__main__")
    monkeypatch.setattr(child, "__file__", "/bundle/agent.py")
    assert agent_words() == [sys.executable, "/bundle/agent.py"]


@pytest.mark.usefixtures("agent")
def test_its_document_is_read_and_its_progress_passed_on() -> None:
    script = (
        "import os, sys\n"
        "print('progress: 50 100 % (8 runs)', file=sys.stderr)\n"
        "print('a warning', file=sys.stderr)\n"
        "print('{\"kind\": \"' + os.environ['KIND'] + '\"}')\n"
    )
    told: list[str] = []
    assert run_agent_again([script], {"KIND": "bench"}, told.append) == {"kind": "bench"}
    assert told == ["50 100 % (8 runs)"]


@pytest.mark.usefixtures("agent")
def test_an_invalid_measurement_is_a_document() -> None:
    assert run_agent_again(["print('{}'); raise SystemExit(6)"]) == {}


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("import sys; print('Error: no such core.', file=sys.stderr); sys.exit(2)", InputError, r"^no such core\.$"),
        ("import sys; print('Error: no sudo.', file=sys.stderr); sys.exit(5)", DeviceError, r"^no sudo\.$"),
        ("import sys; print('Error: nothing.', file=sys.stderr); sys.exit(6)", MeasurementError, r"^nothing\.$"),
        ("import sys; sys.exit(3)", EdgevitError, r"ended with code 3 \(no word\)"),
        ("import os; os.kill(os.getpid(), 9)", EdgevitError, r"was killed by signal 9 \(no word\)"),
        ("pass", EdgevitError, r"ended with code 0 \(no word\)"),
    ],
)
def test_what_it_ends_with_is_the_error_here(script: str, kind: type[EdgevitError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        run_agent_again([script])
    assert type(caught.value) is kind


@pytest.mark.usefixtures("agent")
def test_it_ends_with_an_interruption_here(tmp_path: Path) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    script = "import sys, time; print('progress: 1 2 x', file=sys.stderr, flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run_agent_again([script], on_progress=interrupt)
