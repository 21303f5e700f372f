from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from edgevit.bench import local
from edgevit.bench.local import bench_bundle
from edgevit.bench.process import last_line
from edgevit.errors import EdgevitError, InputError, MeasurementError, ParityError
from edgevit.interpreter import child_environment, module_command

MakeBundle = Callable[..., Path]


def ending(
    code: int, out: str = "", err: str = ""
) -> Callable[[Sequence[str], float], subprocess.CompletedProcess[str]]:
    return lambda words, limit_s: subprocess.CompletedProcess(words, code, out, err)


def test_a_bundle_is_measured_in_a_process_of_its_own(make_bundle: MakeBundle) -> None:
    found = bench_bundle(make_bundle(), min_seconds=0.0, min_runs=64)
    assert (found.model, found.device, found.threads) == ("tiny", "local", 1)
    assert found.is_valid
    assert found.latency_ms.runs >= 64


def test_a_report_that_is_invalid_is_still_a_report(make_bundle: MakeBundle) -> None:
    found = bench_bundle(make_bundle(), threads=2, min_seconds=0.0, min_runs=5, device="here")
    assert (found.is_valid, found.threads, found.device) == (False, 2, "here")


def test_a_bad_bundle_is_refused_in_the_agents_words(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "extra").write_text("x")
    with pytest.raises(InputError, match=r"extra: is not in the manifest. Move it elsewhere."):
        bench_bundle(root)


def test_the_process_is_given_the_configuration() -> None:
    seen: list[str] = []

    def remember(words: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        seen.extend(words)
        return subprocess.CompletedProcess(words, 2, "", "Error: no\n")

    with pytest.raises(InputError, match=r"^no$"):
        bench_bundle(Path("B"), 3, min_seconds=1.5, min_runs=99, device="d", run=remember)
    assert seen[:3] == [sys.executable, "-m", "edgevit.board.agent"]
    expected = ["--bundle", "B", "--json", "bench", "--device", "d", "--min-seconds", "1.5", "--min-runs", "99"]
    assert seen[3:] == [*expected, "--threads", "3"]


@pytest.mark.parametrize(
    ("code", "err", "kind", "words"),
    [
        (4, "Error: parity.\n", ParityError, "^parity.$"),
        (6, "Error: There is no latency sample.\n", MeasurementError, "^There is no latency sample.$"),
        (
            1,
            "Traceback\nValueError: x\n",
            EdgevitError,
            r"^B: the measuring process ended with code 1 \(ValueError: x\)",
        ),
        (2, "", EdgevitError, r"ended with code 2 \(no word\)"),
        (-9, "", EdgevitError, r"^B: the measuring process was killed by signal 9 \(9: probably out of memory"),
    ],
)
def test_a_process_that_fails_is_the_error_that_it_ended_with(
    code: int, err: str, kind: type[EdgevitError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        bench_bundle(Path("B"), run=ending(code, err=err))
    assert type(caught.value) is kind


def test_an_answer_that_is_no_report_is_an_error() -> None:
    with pytest.raises(EdgevitError, match=r"B: the measuring process wrote no report \(\d+ faults\)"):
        bench_bundle(Path("B"), run=ending(0, out='{"kind": "bench"}'))


def test_a_process_that_does_not_end_is_given_up() -> None:
    def late(words: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(list(words), limit_s)

    with pytest.raises(MeasurementError, match="B: was not measured within 310 s"):
        bench_bundle(Path("B"), run=late)


def test_what_a_process_that_is_given_up_had_started_ends_with_it(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    script = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(started)!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        local._run([sys.executable, "-c", script], 5.0)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(started.read_text())).wait(timeout=20)


def test_a_child_imports_this_edgevit_whatever_lies_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "edgevit").mkdir()
    (tmp_path / "edgevit/__init__.py").write_text("raise SystemExit('the wrong edgevit')")
    ended = subprocess.run(
        [*module_command("edgevit.board.agent", ["--help"])],
        env=child_environment(), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_measuring_never_imports_torch() -> None:
    script = (
        "import sys, edgevit.board.agent, edgevit.bench.worker, edgevit.bench.local, edgevit.bench.compare, "
        "edgevit.bench.interleave, edgevit.runtimes.onnxruntime\n"
        "print(sorted({'torch', 'timm', 'onnx', 'matplotlib'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_the_last_line_is_what_is_told() -> None:
    assert last_line("a\nError: b\n\n") == "b"
    assert last_line("") == ""
