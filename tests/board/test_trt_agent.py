"""The agent of a TensorRT bundle as a board runs it: one file, without edgevit; fakes for what a Jetson has."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_gpu
import fake_trtexec
import pytest

from edgevit.benchreport import BenchReport
from edgevit.board.amalgamate import agent_source

# a board: no edgevit, no torch; the driver's library and the package are the fakes
JETSON = (
    "import ctypes, runpy, sys\n"
    "for name in ('edgevit', 'torch', 'onnx', 'pydantic', 'rich', 'click'): sys.modules[name] = None\n"
    f"sys.path.append({str(Path(fake_gpu.__file__).parent)!r})\n"
    "import fake_gpu\n"
    "real = ctypes.CDLL\n"
    "ctypes.CDLL = lambda name, *a, **k: fake_gpu.FakeCuda() if name == 'libcuda.so.1' else real(name, *a, **k)\n"
    "package = sys.argv[1]; path = sys.argv[2]; del sys.argv[:2]\n"
    "sys.modules['tensorrt'] = fake_gpu.fake_tensorrt(package) if package != 'none' else None\n"
    "runpy.run_path(path, run_name='__main__')\n"
)
SPEC = {"name": "tensorrt", "version": "8.6, 10.3", "entry": "model.onnx", "session": {"tensorrt.precision": "fp16"}}
Run = Callable[..., subprocess.CompletedProcess[str]]


class Jetson:
    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, bundle
        self.environment = {"FAKE_TRTEXEC": "10.3", "FAKE_TRTEXEC_LOG": str(folder / "calls")}
        (folder / "bin").mkdir()
        path = folder / "bin" / "trtexec"
        path.write_text(f"#!{sys.executable}\n{Path(fake_trtexec.__file__).read_text(encoding='utf-8')}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def command(self, *words: str, package: str = "10.3") -> list[str]:
        return [sys.executable, "-I", "-c", JETSON, package, str(self.bundle / "agent.py"), *words]

    def env(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(self.folder / "cache"), **self.environment}

    def run(self, *words: str, package: str = "10.3") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words, package=package), capture_output=True, text=True, check=False, env=self.env(),
            timeout=240,
        )  # fmt: skip

    def builds(self) -> int:
        calls = self.folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return sum("--saveEngine=" in line for line in lines)

    def cached(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "cache/edgevit/engines").glob("*"))


@pytest.fixture
def jetson(tmp_path: Path, make_bundle: Callable[..., Path]) -> Jetson:
    (tmp_path / "jetson").mkdir()
    bundle = make_bundle("a-bundle", agent=agent_source("tensorrt"), runtime=SPEC, precision="fp16")
    return Jetson(tmp_path / "jetson", bundle)


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_build_builds_once_and_says_where_and_for_what(version: str, jetson: Jetson) -> None:
    jetson.environment["FAKE_TRTEXEC"] = version
    first = jetson.run("build", package=version)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("Built in ")
    assert f"For {fake_gpu.GPU_KEY}, TensorRT {version}" in first.stdout
    second = jetson.run("build", "--json", package=version)
    document = json.loads(second.stdout)
    assert (document["kind"], document["was_built"]) == ("build", False)
    assert document["built_by"].startswith(f"trtexec {version}")
    assert os.path.isfile(document["engine"])
    assert jetson.builds() == 1
    assert jetson.run("build", "--force", package=version).returncode == 0
    assert jetson.builds() == 2


def test_bench_builds_the_engine_first_and_reports_what_ran(jetson: Jetson) -> None:
    timed = jetson.run("bench", "--json", "--min-seconds", "0")
    assert timed.returncode in (0, 6), timed.stderr
    report = BenchReport.model_validate_json(timed.stdout)
    assert (report.runtime, report.runtime_version, report.precision) == ("tensorrt", "10.3.0", "fp16")
    assert any(note.startswith("Engine in fp16 for Orin") for note in report.notes)
    assert jetson.builds() == 1
    checked = jetson.run("selfcheck")
    assert checked.stdout.startswith("Self-check passed")
    assert jetson.builds() == 1


def test_a_build_over_ssh_tells_its_progress(jetson: Jetson) -> None:
    jetson.environment.update(EDGEVIT_PROGRESS="1", FAKE_TRTEXEC_DOES="hang")
    process = subprocess.Popen(jetson.command("build"), stderr=subprocess.PIPE, env=jetson.env(), text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 130
    assert line.startswith("progress: ")
    assert line.endswith(" 3600 s of building the engine\n")
    assert rest.endswith("Interrupted.\n")


def test_an_interrupt_leaves_no_process_and_no_half_engine(jetson: Jetson) -> None:
    jetson.environment["FAKE_TRTEXEC_DOES"] = "hang"
    process = subprocess.Popen(jetson.command("build"), stderr=subprocess.PIPE, env=jetson.env(), text=True)
    for _ in range(600):
        if any(name.startswith(".building-") for name in jetson.cached()):
            break
        time.sleep(0.05)
    assert any(name.startswith(".building-") for name in jetson.cached())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "Interrupted.\n")
    assert jetson.cached() == []
    assert not still_running(str(jetson.bundle))


def still_running(words: str) -> bool:
    """Whether a living process has these words on its command line; the dead may wait for init."""
    for _ in range(100):
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                continue
            found += [line] if words in line and "trtexec" in line and state != "Z" else []
        if not found:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("does", "code", "words"),
    [
        ("refuse-model", 1, "Error: trtexec ended with code 1: Parsing model failed | "),
        ("full-disk", 1, "Error: trtexec ended with code 1: Saving engine to file failed."),
        ("killed", 1, "Error: trtexec was killed by signal 9 (9: probably out of memory"),
        ("crash", 1, "Error: trtexec was killed by signal 11."),
        ("empty", 5, "Error: trtexec 10.3.0 said that it was done, and wrote no engine. Is the disk full?"),
    ],
)
def test_a_build_that_fails_is_one_line_and_leaves_nothing(does: str, code: int, words: str, jetson: Jetson) -> None:
    jetson.environment["FAKE_TRTEXEC_DOES"] = does
    ended = jetson.run("build")
    assert ended.returncode == code
    assert ended.stderr.startswith(words)
    assert ended.stderr.count("\n") == 1
    assert [name for name in jetson.cached() if not name.endswith(".cache")] == []


def test_trtexec_times_the_engine_into_the_same_report(jetson: Jetson) -> None:
    ended = jetson.run("trtexec", "--json", "--seconds", "3")
    assert ended.returncode in (0, 6), ended.stderr
    report = BenchReport.model_validate_json(ended.stdout)
    # 1200 queries, one every 2.5 ms; those of the first 500 ms are the warm-up, the first of all took 40 ms
    assert (report.latency_ms.runs, report.warmup_runs) == (1000, 200)
    assert (report.latency_ms.p50, report.latency_ms.minimum, report.latency_ms.maximum) == (2.5, 2.5, 2.5)
    assert (report.first_inference_ms, report.load_ms) == (40.0, 12.3)
    assert report.runtime_version == "10.3.0"
    assert any(note.startswith("Timed by trtexec on random input") for note in report.notes)
    assert "trtexec: GPU compute time is unstable, with coefficient of variance = 1.72%." in report.notes
    slowest = next(note for note in report.notes if note.startswith("Slowest of 3 layers"))
    assert slowest.startswith('Slowest of 3 layers: Conv_0 + Relu_1 1.500 ms (67 %); Reformat "x" \\ y 0.500 ms (22 %)')


def test_an_engine_that_trtexec_refuses_is_told(jetson: Jetson) -> None:
    assert jetson.run("build").returncode == 0
    jetson.environment["FAKE_TRTEXEC_DOES"] = "refuse-engine"
    ended = jetson.run("trtexec")
    assert ended.returncode == 1
    assert "Engine deserialization failed" in ended.stderr


@pytest.mark.parametrize("command", ["build", "trtexec"])
def test_a_bundle_for_another_runtime_has_nothing_to_build(command: str, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle("other", agent=agent_source("onnxruntime"))
    ended = subprocess.run(
        [sys.executable, str(root / "agent.py"), command], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "agent.py bench" in ended.stderr


def test_a_machine_without_a_gpu_is_told_so(jetson: Jetson) -> None:
    plain: list[Any] = [sys.executable, str(jetson.bundle / "agent.py"), "bench"]
    ended = subprocess.run(plain, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 5
    assert ended.stderr.startswith("Error: TensorRT's Python package is not on this machine")


def test_streams_share_the_engine_that_was_built_before_them(jetson: Jetson) -> None:
    timed = jetson.run("bench", "--json", "--min-seconds", "0", "--streams", "2")
    assert timed.returncode in (0, 6), timed.stderr
    assert BenchReport.model_validate_json(timed.stdout).streams == 2
    assert jetson.builds() == 1
