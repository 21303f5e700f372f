"""Summary: the profile of one bundle, and what differs between two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from edgevit import __version__
from edgevit.benchreport import Machine
from edgevit.board.sensors import describe_machine
from edgevit.board.validity import load_notes, throttle_reasons, warmup_notes
from edgevit.bundle import Bundle
from edgevit.profiling.document import Change, NodeTime, OperatorRow, Profile, ProfileComparison
from edgevit.profiling.gemm import peak_of
from edgevit.profiling.layers import kind_of, module_rows, modules_of_nodes
from edgevit.profiling.operators import (
    QUANTIZES_ITSELF,
    arithmetic_of,
    count_macs,
    float_weights,
    operator_rows,
    part_of,
    percent_of,
    total,
)  # fmt: skip
from edgevit.profiling.trace import NodeTiming, Trace, read_trace
from edgevit.profiling.weights import Weights, weights_of_nodes
from edgevit.units import format_ms

DISTURBED = 0.1  # what an undisturbed machine's medians differ by, and its threads wait for a core, at the most


@dataclass(frozen=True)
class MachineState:
    """readings: of sensors.read_sensors, before and after. counted: throttle counts before and after."""

    readings: Sequence[dict[str, Any]]
    counted: tuple[int | None, int | None]


@dataclass(frozen=True)
class Measured:
    """What was measured of one bundle. plain_ms, profiled_ms: medians without and with the profiler.

    is_steady: whether the warm-up came to rest. events: the profiler's JSON; is_counted: which of its runs count.
    gemm_ms: the fastest run of each matrix product of gemm.write_gemms. executed: the graph after the runtime's
    fusions. waited_share: of the time of measuring, while other work had this process's core.
    """

    threads: int
    version: str
    warmup_runs: int
    is_steady: bool
    plain_ms: float
    profiled_ms: float
    events: Sequence[Mapping[str, Any]]
    is_counted: Sequence[bool]
    gemm_ms: Mapping[str, float]
    executed: onnx.ModelProto
    waited_share: float
    machine: MachineState


def profile_of(bundle: Bundle, measured: Measured) -> Profile:
    """Raises MeasurementError when the profiler's file does not fit the runs that were made."""
    trace = read_trace(measured.events, measured.is_counted)
    nodes = _nodes(trace.nodes, onnx.load(str(bundle.entry)), measured.executed)
    peak = peak_of(measured.gemm_ms)
    operators = operator_rows(nodes, peak)
    manifest, machine = bundle.manifest, Machine.model_validate(describe_machine())
    return Profile(
        edgevit=__version__,
        bundle=str(bundle.path),
        model=manifest.model.name,
        device=manifest.device.name,
        precision=manifest.precision,
        machine=machine,
        runtime=manifest.runtime.name,
        runtime_version=measured.version,
        threads=measured.threads,
        batch=manifest.model.input_shape[0],
        artifact_sha256=manifest.files[manifest.runtime.entry].sha256,
        runs=sum(measured.is_counted),
        warmup_runs=measured.warmup_runs,
        wall_ms=measured.plain_ms,
        profiled_ms=measured.profiled_ms,
        kernels_ms=total(nodes),
        outside_ms=trace.outside_ms,
        peak=peak,
        operators=operators,
        kinds=module_rows(nodes, kind_of),
        modules=module_rows(nodes),
        float_weights=tuple(node.name for node in float_weights(nodes)),
        notes=(
            *_notes_on_time(measured, trace),
            *_notes_on_disturbance(measured, trace, operators),
            *_notes_on_calm(measured, machine.cores),
            *_notes_on_machine(bundle, machine, measured.threads),
        ),
        nodes=nodes,
    )


def compare_profiles(before: Profile, after: Profile) -> ProfileComparison:
    """Parts and modules by how much they changed, most first."""
    return ProfileComparison(
        before=before,
        after=after,
        parts=_changes(((row.part, row.ms) for row in profile.operators) for profile in (before, after)),
        kinds=_changes(((row.module, row.ms) for row in profile.kinds) for profile in (before, after)),
        modules=_changes(((row.module, row.ms) for row in profile.modules) for profile in (before, after)),
    )


def _nodes(timings: Sequence[NodeTiming], bundled: onnx.ModelProto, executed: onnx.ModelProto) -> tuple[NodeTime, ...]:
    modules, weights = modules_of_nodes(bundled, executed), weights_of_nodes(executed)
    return tuple(_node(timing, modules.get(timing.name), weights.get(timing.name, Weights())) for timing in timings)


def _node(timing: NodeTiming, module: str | None, weights: Weights) -> NodeTime:
    has_weights = weights.shape is not None
    macs = count_macs(
        timing.op_type,
        timing.inputs,
        timing.outputs,
        weight_shape=weights.shape,
        is_first_transposed=weights.is_first_transposed,
    )
    return NodeTime(
        name=timing.name,
        op_type=timing.op_type,
        provider=timing.provider,
        module=module,
        part=part_of(timing.op_type, has_weights),
        arithmetic=arithmetic_of(timing.op_type, timing.inputs),
        has_weights=has_weights,
        median_ms=timing.median_ms,
        macs=macs,
        inputs=timing.inputs,
        outputs=timing.outputs,
    )


def _changes(profiles: Iterable[Iterable[tuple[str, float]]]) -> tuple[Change, ...]:
    before, after = (_summed(pairs) for pairs in profiles)
    changes = (
        Change(
            name=name,
            before_ms=before.get(name, 0.0),
            after_ms=after.get(name, 0.0),
            difference_ms=after.get(name, 0.0) - before.get(name, 0.0),
        )
        for name in dict.fromkeys((*before, *after))
    )
    return tuple(sorted(changes, key=lambda change: -abs(change.difference_ms)))


def _summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for name, ms in pairs:
        sums[name] += ms
    return dict(sums)


def _notes_on_time(measured: Measured, trace: Trace) -> list[str]:
    added = percent_of(measured.profiled_ms - measured.plain_ms, measured.plain_ms)
    notes = [
        f"Profiling itself adds {added:.1f} % to a run ({format_ms(measured.profiled_ms)} with it, in turns)."
        if added > 0
        else "Profiling itself adds nothing that is measurable.",
        f"A profiled run spends {format_ms(trace.outside_ms)} outside of operators.",
    ]
    if any(node.op_type in QUANTIZES_ITSELF for node in trace.nodes):
        notes.append("DynamicQuantizeMatMul quantizes its input itself: that is in its time, not in the conversions.")
    return notes


def _notes_on_disturbance(measured: Measured, trace: Trace, operators: Sequence[OperatorRow]) -> list[str]:
    """Short kernels slip through between other processes' turns on the CPU; whole runs and long products do not."""
    notes = []
    explained_ms = total(trace.nodes) + trace.outside_ms
    if measured.plain_ms > explained_ms * (1 + DISTURBED):
        notes.append(
            f"A run takes {format_ms(measured.plain_ms)}, and its parts' medians add up to {format_ms(explained_ms)}: "
            "other work disturbed this measurement."
        )
    if any(row.share_of_peak is not None and row.share_of_peak > 100 * (1 + DISTURBED) for row in operators):
        notes.append("An operator is faster than the peak: other work disturbed the matrix product that the peak is.")
    return notes


def _notes_on_calm(measured: Measured, cores: int) -> list[str]:
    """What 'edgevit bench' says of a machine that is not at rest, and what the scheduler says of this process."""
    readings = measured.machine.readings
    notes = throttle_reasons(readings, measured.machine.counted)
    notes += warmup_notes(measured.is_steady, measured.warmup_runs)
    notes += load_notes(readings, cores)
    if measured.waited_share > DISTURBED:
        notes.append(
            f"For {100 * measured.waited_share:.0f} % of the time other work had the core that the model was to run "
            "on: these times are too long. Measure again on a machine at rest."
        )
    return notes


def _notes_on_machine(bundle: Bundle, machine: Machine, threads: int) -> list[str]:
    device, notes = bundle.manifest.device, []
    if machine.is_emulated:
        notes.append(f"Measured under emulation: no figure of {device.name}'s speed.")
    elif device.arch != machine.arch:
        notes.append(f"Measured on {machine.cpu} ({machine.arch}), not on {device.name} ({device.arch}).")
    if threads > machine.cores:
        notes.append(f"{threads} threads share {machine.cores} cores.")
    return notes
