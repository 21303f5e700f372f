"""A tiny ViT on emulated boards: an arm64 Debian, ONNX Runtime's own aarch64 wheel, qemu's CPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from digits_shop import Told, assemble_as_if

from edgevit.bundle import Bundle, load_bundle
from edgevit.catalog import load_device
from edgevit.emulation.bench import EmulationOptions, bench_emulated, require_success
from edgevit.emulation.board import EmulatedBoard, crash_words, emulated_board, run_on_board
from edgevit.emulation.report import EmulationReport
from edgevit.emulation.sysroot import make_sysroot
from edgevit.emulation.tools import Tools, find_tools
from edgevit.errors import DeviceError, InputError
from edgevit.recipe import ExportSpec
from edgevit.remote.environment import WheelSource

pytestmark = [pytest.mark.arm, pytest.mark.slow]

# Writes one instruction and a return into memory, and calls them.
RUN_A_WORD = """
import ctypes, mmap, struct, sys
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(struct.pack("<II", int(sys.argv[1], 16), 0xD65F03C0))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print("ran", flush=True)
"""
SDOT = "0x4E829420"  # sdot v0.4s, v1.16b, v2.16b


@pytest.fixture(scope="module")
def tools() -> Tools:
    try:
        found = find_tools()
        make_sysroot()
    except InputError as error:
        pytest.skip(str(error))
    if found.uncounted:
        pytest.skip(found.uncounted)
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = tmp_path_factory.mktemp("emulated") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        spec = ExportSpec(runtime="onnxruntime", precision="int8-dynamic")
        assemble_as_if(target, patch, {}, device=load_device("rpi5"), spec=spec)
    return load_bundle(target)


@pytest.fixture(scope="module")
def on_rpi5(tools: Tools, bundle: Bundle) -> EmulationReport:
    """From the command line, with validation pictures."""
    words = ("bench", str(bundle.path), "--emulate", "--data", "digits", "--limit", "30", "--json")
    ended = edgevit(*words)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert not [name for name in names_in(document) if name.endswith("_ms")]
    return EmulationReport.model_validate(document)


def edgevit(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgevit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def names_in(document: object) -> Iterator[str]:
    """Every key in a JSON document."""
    if isinstance(document, dict):
        for name, inner in document.items():
            yield name
            yield from names_in(inner)


def test_a_pi_5_computes_int8_by_dot_products(on_rpi5: EmulationReport, bundle: Bundle) -> None:
    assert (on_rpi5.kind, on_rpi5.what) == ("emulation", "emulated, not a latency")
    assert (on_rpi5.device, on_rpi5.cpu, on_rpi5.threads) == ("rpi5", "cortex-a76", 1)
    assert on_rpi5.runtime_version == bundle.manifest.runtime.version
    counts = on_rpi5.instructions
    assert counts is not None
    assert counts.dot_products > 0
    assert on_rpi5.kernels.startswith("integer dot products: ")
    assert on_rpi5.million_instructions == counts.total / 1e6


def test_what_the_board_would_take_stands_beside_it_as_a_prediction(on_rpi5: EmulationReport) -> None:
    found = on_rpi5.prediction
    assert found is not None
    assert (found.what, found.device, found.threads) == ("predicted, not measured", "rpi5", 4)
    low, high = found.interval90_milliseconds
    assert 0 < low < found.median_milliseconds < high


def test_it_says_the_same_as_this_machine(on_rpi5: EmulationReport) -> None:
    assert on_rpi5.passed
    assert on_rpi5.golden.top1_agreement == 1.0
    assert on_rpi5.golden.cosine > 0.9999
    seen = on_rpi5.pictures
    assert seen is not None
    assert (seen.data, seen.agreement.n) == ("digits", 30)
    assert seen.agreement.top1_agreement == 1.0
    assert seen.host == seen.emulated


def test_its_memory_is_that_of_a_python_with_the_runtime(on_rpi5: EmulationReport) -> None:
    assert 30 < on_rpi5.peak_rss_mib < 1000


def test_a_pi_4_has_no_dot_products_and_a_second_use_needs_no_network(
    on_rpi5: EmulationReport, tools: Tools, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """apt-get and pip cannot be started."""
    assert tools.compiler is not None
    for program in (tools.emulator.path, tools.compiler):
        (tmp_path / Path(program).name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("edgevit.remote.wheelhouse.sys.executable", "/nowhere/python")
    told = Told()
    options = EmulationOptions(WheelSource(offline=True))
    report = bench_emulated(bundle, load_device("rpi4"), options, told)
    counts = report.instructions
    assert counts is not None
    assert counts.dot_products == 0
    assert counts.integer_products > 0
    assert report.kernels.startswith("integer products without SDOT and UDOT: ")
    assert (report.cpu, report.passed, report.pictures) == ("cortex-a72", True, None)
    assert report.notes == ("The bundle was made for rpi5, and rpi4 was emulated.",)
    assert told.notes == []
    assert on_rpi5.instructions is not None
    assert counts.float_products == pytest.approx(on_rpi5.instructions.float_products, rel=0.02)


@pytest.fixture(scope="module")
def board(request: pytest.FixtureRequest, tools: Tools) -> Iterator[EmulatedBoard]:
    """A profile that promises a Pi 5's instructions, and a CPU that has them or not."""
    emulator = load_device("rpi5").emulator
    assert emulator is not None
    changed = load_device("rpi5").model_copy(update={"emulator": emulator.model_copy(update={"cpu": request.param})})
    with emulated_board(changed, tools.emulator, make_sysroot(offline=True)) as running:
        yield running


@pytest.mark.parametrize("board", ["cortex-a72"], indirect=True)
def test_an_illegal_instruction_is_named(board: EmulatedBoard, bundle: Bundle) -> None:
    assert "asimddp" in board.lacking
    assert "asimddp" not in (board.prefix / "proc/cpuinfo").read_text()
    lines: list[str] = []
    ended = run_on_board(board, [board.python, "-c", RUN_A_WORD, SDOT], {}, on_line=lines.append)
    assert lines == []
    assert crash_words(ended.code, board.cpu) is not None
    with pytest.raises(DeviceError, match="was ended by an illegal instruction: its CPU, cortex-a72, lacks") as error:
        require_success(ended, bundle, board.cpu)
    assert error.value.exit_code == 5


@pytest.mark.parametrize("board", ["cortex-a76"], indirect=True)
def test_the_same_instruction_runs_on_a_cpu_that_has_it(board: EmulatedBoard) -> None:
    lines: list[str] = []
    assert board.lacking == ()
    assert run_on_board(board, [board.python, "-c", RUN_A_WORD, SDOT], {}, on_line=lines.append).code == 0
    assert lines == ["ran"]


@pytest.mark.parametrize("board", ["cortex-a76"], indirect=True)
def test_what_hangs_is_ended(board: EmulatedBoard) -> None:
    with pytest.raises(DeviceError, match="did not finish within 0 s"):
        run_on_board(board, [board.python, "-c", "import time; time.sleep(3600)"], {}, limit_s=0.2)


def test_a_cpu_that_qemu_does_not_know_is_named_with_its_key(tools: Tools, bundle: Bundle, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    values = load_device("rpi5").model_dump(mode="json", exclude_none=True) | {"emulator": {"cpu": "cortex-z9"}}
    profile.write_text(yaml.safe_dump(values | {"name": "mine"}))
    ended = edgevit("bench", str(bundle.path), "--emulate", "--device", str(profile))
    assert ended.returncode == 2
    assert "mine: emulator.cpu: 'cortex-z9' is no CPU of qemu" in ended.stderr
    assert "cortex-a72, cortex-a76" in ended.stderr


def test_a_bundle_for_another_architecture_is_refused(tools: Tools, bundle: Bundle) -> None:
    target = bundle.manifest.device.model_copy(update={"arch": "x86_64"})
    foreign = replace(bundle, manifest=bundle.manifest.model_copy(update={"device": target}))
    with pytest.raises(InputError, match=r"is for x86_64, and rpi5 is aarch64\. Export it again with: --device rpi5"):
        bench_emulated(foreign, load_device("rpi5"), EmulationOptions(), Told())
