"""Runs a bundle on an emulated board: does it load, does it say the same, and of which instructions is it made."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgevit
from edgevit.accuracy import top1
from edgevit.board.contents import read_golden
from edgevit.board.inference import agreement, run_in_batches
from edgevit.bundle import GOLDEN, Bundle
from edgevit.data.batches import predict_all, prepared
from edgevit.data.pictures import PictureSet
from edgevit.device import Device
from edgevit.emulation.board import EmulatedBoard, Ended, crash_words, emulated_board, emulated_cpu, run_on_board
from edgevit.emulation.counter import build_counter, read_counts
from edgevit.emulation.guest import THREADS
from edgevit.emulation.packages import ARCH, make_packages
from edgevit.emulation.report import Agreement, EmulationReport, InstructionCounts, OnPictures
from edgevit.emulation.sysroot import Sysroot, make_sysroot
from edgevit.emulation.tools import Tools, find_tools
from edgevit.errors import DeviceError, EdgevitError, InputError
from edgevit.latency.predict import prediction_or_reason
from edgevit.progress import Progress
from edgevit.remote.environment import WheelSource
from edgevit.runtimes import BUILT_ON_BOARD, EVERY_CORE, EXACT_INTEGER_SUMS, YIELD_WHEN_IDLE, open_session

GUEST = "edgevit.emulation.guest"
UNCOUNTED = "Instructions were not counted: "
# Address arithmetic multiplies vectors now and then; kernels do it all the time.
LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of the bundle's classes; `data` is what they are called."""

    data: str
    pictures: PictureSet


@dataclass(frozen=True)
class EmulationOptions:
    wheels: WheelSource = field(default_factory=WheelSource)
    pictures: Pictures | None = None


@dataclass(frozen=True)
class _Guest:
    """How the guest is started. environment: whose PYTHONPATH has edgevit and the packages."""

    board: EmulatedBoard
    bundle: Bundle
    environment: Mapping[str, str]


def bench_emulated(bundle: Bundle, device: Device, options: EmulationOptions, progress: Progress) -> EmulationReport:
    """What emulation finds out; look at its `passed`. Nothing is timed.

    Raises InputError when tools are missing, or the bundle is for another architecture; DeviceError when the bundle
    does not load or run there, with the illegal instruction or the crash named.
    """
    if bundle.manifest.runtime.name in BUILT_ON_BOARD:
        runtime = bundle.manifest.runtime.name
        raise InputError(f"{bundle.path}: is for {runtime} on a GPU, which is not emulated. Use --host with a board.")
    tools = find_tools()
    emulated_cpu(device, tools.emulator)
    if bundle.manifest.device.arch != ARCH:
        what = f"is for {bundle.manifest.device.arch}, and {device.name} is {device.arch}"
        raise InputError(f"{bundle.path}: {what}. Export it again with: --device {device.name}")
    progress.stage("Preparing the emulated system")
    sysroot = make_sysroot(offline=options.wheels.offline, note=progress.note)
    with emulated_board(device, tools.emulator, sysroot) as board:
        packages = make_packages(bundle, sysroot, options.wheels, progress.note)
        guest = _Guest(board, bundle, _environment(board, packages))
        progress.stage(f"Running on an emulated {board.cpu}")
        found, logits = _run_pictures(guest, options.pictures, progress)
        progress.stage("Counting instructions")
        counts, uncounted = _count(guest, tools)
    prediction, unpredicted = prediction_or_reason(bundle, device)
    progress.stage("Comparing with this machine")
    golden = _agreement(read_golden(str(bundle.path / GOLDEN))["logits"], logits["golden"])
    manifest = bundle.manifest
    limits = manifest.golden
    is_near = golden.cosine >= limits.cosine and golden.top1_agreement >= limits.top1_agreement
    return EmulationReport(
        edgevit=edgevit.__version__,
        model=manifest.model.name,
        device=device.name,
        cpu=board.cpu,
        emulator=f"qemu {tools.emulator.version}",
        system=f"{sysroot.title}, glibc {sysroot.glibc}",
        python=found["python"],
        runtime=manifest.runtime.name,
        runtime_version=found["runtime_version"],
        precision=manifest.precision,
        threads=THREADS,
        batch=manifest.model.input_shape[0],
        artifact_sha256=manifest.files[manifest.runtime.entry].sha256,
        golden=golden,
        thresholds=limits,
        passed=golden.nonfinite == 0 and is_near,
        pictures=_on_pictures(bundle, options.pictures, logits.get("pictures"), progress),
        peak_rss_mib=found["peak_rss_mib"],
        million_instructions=counts.total / 1e6 if counts else None,
        instructions=counts,
        kernels=describe_kernels(counts),
        prediction=prediction,
        notes=(
            *_notes(bundle, device, board, sysroot, found),
            *([UNCOUNTED + uncounted] if uncounted else []),
            *([unpredicted] if unpredicted else []),
        ),
    )


def describe_kernels(counts: InstructionCounts | None) -> str:
    """On which kernels an inference ran, by its instructions."""
    if counts is None:
        return "not known: nothing was counted"
    if counts.matrix_products:
        return f"integer matrix products: {100 * counts.share('matrix_products'):.1f} % of the instructions are SMMLA"
    if counts.dot_products:
        return f"integer dot products: {100 * counts.share('dot_products'):.1f} % of the instructions are SDOT or UDOT"
    if counts.share("integer_products") >= LEAST_SHARE:
        share = 100 * counts.share("integer_products")
        return (
            f"integer products without SDOT and UDOT: {share:.1f} % of the instructions are SMULL, SMLAL or their like"
        )
    return "floating point: no integer products"


def require_success(ended: Ended, bundle: Bundle, cpu: str) -> None:
    """Raises DeviceError naming the crash, or the kind of error that the guest ended with."""
    crash = crash_words(ended.code, cpu)
    if crash:
        raise DeviceError(f"{bundle.path}: does not run on an emulated {cpu}. It was ended by {crash}.")
    if ended.code:
        lines = [line for line in ended.said.splitlines() if line.strip()]
        said = lines[-1].removeprefix("Error: ") if lines else "no word"
        raise DeviceError(f"{bundle.path}: does not run on an emulated {cpu} ({said.rstrip('.')}).")


def _run_pictures(
    guest: _Guest, more: Pictures | None, progress: Progress
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """What the guest says of itself, and its logits of golden and, where there are more, of pictures."""
    said: list[dict[str, Any]] = [{}]

    def listen(line: str) -> None:
        document = json.loads(line) if line.startswith("{") else said[0]  # other lines are a library's own words
        if "done" in document:
            progress.update(document["done"], document["total"])
        said[0] = document

    with tempfile.TemporaryDirectory(prefix="edgevit-logits-") as folder:
        logits = Path(folder, "logits.npz")
        words = ["--logits", str(logits)]
        if more is not None:
            pixels = Path(folder, "pictures.npy")
            np.save(pixels, prepared(more.pictures, guest.bundle.preprocess))
            words += ["--pictures", str(pixels)]
        _run_guest(guest, words, on_line=listen)
        with np.load(logits, allow_pickle=False) as archive:
            return said[0], {name: archive[name] for name in archive.files}


def _count(guest: _Guest, tools: Tools) -> tuple[InstructionCounts | None, str]:
    """Instructions of the second inference, or why they could not be counted."""
    if tools.uncounted or tools.compiler is None:
        return None, tools.uncounted
    with tempfile.TemporaryDirectory(prefix="edgevit-counts-") as folder:
        counts = Path(folder, "counts.json")
        try:
            plugin = build_counter(tools.compiler)
            _run_guest(guest, ["--count"], flags=["-plugin", f"{plugin},out={counts}"])
            return read_counts(counts), ""
        except DeviceError as error:  # it ran before: what fails now is the plugin
            return None, f"with its plugin qemu {tools.emulator.version} fails ({error})"
        except EdgevitError as error:
            return None, str(error)


def _run_guest(guest: _Guest, words: Sequence[str], **how: Any) -> None:
    command = [guest.board.python, "-s", "-m", GUEST, str(guest.bundle.path.resolve()), *words]
    require_success(run_on_board(guest.board, command, guest.environment, **how), guest.bundle, guest.board.cpu)


def _environment(board: EmulatedBoard, packages: Path) -> dict[str, str]:
    """edgevit stands in a folder of its own: beside it this machine's packages may lie, which are not the board's."""
    rooms = board.prefix / "python"
    rooms.mkdir()
    (rooms / "edgevit").symlink_to(Path(edgevit.__file__).resolve().parent)
    return {
        "PYTHONPATH": f"{rooms}:{packages}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(THREADS),
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _on_pictures(
    bundle: Bundle, more: Pictures | None, emulated: NDArray[np.float32] | None, progress: Progress
) -> OnPictures | None:
    if more is None or emulated is None:
        return None
    runtime = bundle.manifest.runtime
    config = dict(runtime.session)
    if runtime.name == "onnxruntime":
        config |= {**YIELD_WHEN_IDLE, **EXACT_INTEGER_SUMS}
    session = open_session(bundle.entry, runtime.name, EVERY_CORE, config)
    try:
        host = predict_all(
            lambda pixels: run_in_batches(session, pixels), more.pictures, bundle.preprocess,
            progress=progress.update, input_type=session.input_type,
        )  # fmt: skip
    finally:
        session.close()
    return OnPictures(
        data=more.data,
        agreement=_agreement(host, emulated),
        host=top1(host, more.pictures.labels),
        emulated=top1(emulated, more.pictures.labels),
    )


def _agreement(expected: NDArray[np.float32], emulated: NDArray[np.float32]) -> Agreement:
    return Agreement(n=len(expected), **agreement(expected, emulated))


def _notes(
    bundle: Bundle, device: Device, board: EmulatedBoard, sysroot: Sysroot, found: Mapping[str, Any]
) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    notes = []
    if bundle.manifest.device.name != device.name:
        notes.append(f"The bundle was made for {bundle.manifest.device.name}, and {device.name} was emulated.")
    if found["runtime_version"] != bundle.manifest.runtime.version:
        wanted = f"{bundle.manifest.runtime.name} {bundle.manifest.runtime.version}"
        notes.append(f"The bundle was checked with {wanted}; here {found['runtime_version']} ran.")
    if sysroot.python not in device.os.python or sysroot.glibc != device.os.glibc:
        own = f"Python {' or '.join(device.os.python)}, glibc {device.os.glibc}"
        notes.append(f"{device.name} has {own}; here Python {sysroot.python}, glibc {sysroot.glibc}.")
    if board.lacking:
        notes.append(f"qemu's {board.cpu} lacks what {device.name} has: {', '.join(board.lacking)}.")
    if found["peak_rss_mib"] > device.memory.ram_mib:
        notes.append(f"{device.name} has {device.memory.ram_mib} MiB of memory, less than was needed here.")
    return tuple(notes)
