"""A run beside a load that the test itself starts, on the processor that the run is kept to, is called invalid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgevit.benchreport import BenchReport
from edgevit.interpreter import child_environment

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to keep to one processor")
LOAD = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint('at work', flush=True)\nwhile True: pass"
AGENT = (
    "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\n"
    "from edgevit.board.agent import main\nsys.exit(main(sys.argv[2:]))"
)


@pytest.fixture
def processor() -> int:
    return max(os.sched_getaffinity(0))


@pytest.fixture
def load(processor: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", LOAD, str(processor)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    yield
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("load")
def test_a_run_on_a_busy_machine_is_invalid_with_the_reason_and_the_fix(
    make_bundle: Callable[..., Path], processor: int
) -> None:
    words = ["--bundle", str(make_bundle()), "--json", "bench", "--min-seconds", "1.5"]
    ended = subprocess.run(
        [sys.executable, "-c", AGENT, str(processor), *words],
        env=child_environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 6, ended.stderr
    report = BenchReport.model_validate(json.loads(ended.stdout))
    assert not report.is_valid
    assert report.foreign_share is not None
    assert report.foreign_share > 0.2  # two of the same priority share it by halves
    (reason,) = [reason for reason in report.invalid_reasons if reason.startswith("Other programs had ")]
    assert "stop them (ps aux --sort=-pcpu | head)" in reason
    assert reason in ended.stderr
