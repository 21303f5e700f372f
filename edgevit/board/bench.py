"""The command `bench` of an agent: one configuration, a sweep over threads, or cold starts.

Python 3.8 and numpy only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.child import PROGRESS_PREFIX, run_agent_again
from edgevit.board.coldstart import CACHED, measure_starts, start_document, summarize_starts
from edgevit.board.cooldown import COOL_DOWN_MAX_SECONDS, cool_down, cool_down_note
from edgevit.board.cores import choose_cores, core_strengths, pin_to_cores
from edgevit.board.governor import held_governor
from edgevit.board.measurement import Setup, bench_report, peak_rss_mib
from edgevit.board.options import BenchOptions
from edgevit.board.power import PowerMeter, find_power_source
from edgevit.board.preprocess import to_input
from edgevit.board.sensors import (
    detect_sensors,
    measure_foreign_share,
    read_sensors,
    read_throttle_count,
    read_usage,
    usable_processors,
)
from edgevit.board.session import batch_size, open_artifact, prepare_artifact, runtime_functions, thread_count
from edgevit.board.streams import measure_streams
from edgevit.board.sweep import sweep_document, thread_words
from edgevit.board.timer import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.board.contents import Bundle


def bench_bundle_here(bundle: Bundle, options: BenchOptions, device: str | None) -> dict[str, Any]:
    """A report, or a sweep's document. device: what this machine is called in it.

    options: checked. Raises InputError for those that this bundle or this machine cannot meet, DeviceError where the
    governor may not be set.
    """
    with contextlib.ExitStack() as stack:
        notes = [stack.enter_context(held_governor())] if options.set_governor else []
        options = replace(options, set_governor=False)
        if len(options.threads) > 1:
            reports = _measure_each(bundle, options, device)
        else:
            reports = [_measure_one(bundle, options, device)]
        for report in reports:
            report["notes"] += notes
    return reports[0] if len(options.threads) < 2 else sweep_document(reports)


def time_one_start(bundle: Bundle, threads: int | None, batch: int | None, began: float) -> dict[str, Any]:
    """What `agent.py start` writes: where the time went from the process's start to the first logits.

    began: time.monotonic when main began, before the bundle was opened.
    """
    clock = time.monotonic
    checked = clock()
    runtime_functions(bundle.manifest["runtime"]["name"])["import_runtime"]()
    imported = clock()
    session = open_artifact(bundle, threads)
    loaded = clock()
    size = batch_size(session.input_shape, batch)
    session.run(bench_pixels(bundle, session, size))
    moments = (began, checked, imported, loaded, clock())
    return start_document(moments, size, session.version, thread_count(bundle, threads), peak_rss_mib())


def progress_teller(options: BenchOptions) -> Callable[[int, float], object] | None:
    """Writes 'progress: DONE TOTAL what' to stderr, where the environment asks for it: over ssh the host does."""
    if os.environ.get("EDGEVIT_PROGRESS") != "1":
        return None

    def tell(runs: int, measured_s: float) -> None:
        if options.cold_start is not None:
            share = runs / options.cold_start
        else:
            share = min(runs / options.runs, measured_s / options.seconds if options.seconds else 1.0)
        word = "starts" if options.cold_start is not None else "runs"
        _tell_progress(f"{min(100, int(100 * share))} 100 % ({runs} {word})")

    return tell


def _measure_each(bundle: Bundle, options: BenchOptions, device: str | None) -> list[dict[str, Any]]:
    """A report of each thread count, each in a fresh process."""
    reports = []
    for threads in options.threads:
        words = ["--bundle", bundle.path, "--json", "bench", *replace(options, threads=(threads,)).words()]
        words += [] if device is None else ["--device", device]

        def pass_on(text: str, words: str = thread_words(threads)) -> None:
            _tell_progress(f"{text}, {words}")

        report = run_agent_again(words, on_progress=pass_on)
        report.pop("schema_version", None)
        reports.append(report)
    return reports


def _measure_one(bundle: Bundle, options: BenchOptions, device: str | None) -> dict[str, Any]:
    prepare_artifact(bundle)  # before cores are chosen and power is read: it is no part of what is measured
    cores = None
    if options.cores:
        cores = choose_cores(options.cores, usable_processors(), core_strengths())
        pin_to_cores(cores)
    kind = detect_sensors()
    cooled = _cool_down(kind) if options.cool_down else None
    setup = Setup(
        mode=options.mode,
        threads=thread_count(bundle, options.threads[0] if options.threads else None),
        streams=options.streams or 1,
        cores=cores,
        percents=options.percentiles,
        seconds=options.seconds,
        cool_down=cooled,
    )
    take = _measure_starts if options.cold_start is not None else _measure_runs
    report = take(bundle, options, setup, kind, device)
    report["notes"] += [] if cooled is None else [cool_down_note(cooled)]
    return report


def _measure_runs(bundle: Bundle, options: BenchOptions, setup: Setup, kind: str, device: str | None) -> dict[str, Any]:
    clock = time.perf_counter
    runtime_functions(bundle.manifest["runtime"]["name"])["import_runtime"]()  # is no part of the load time
    meter = PowerMeter(find_power_source(kind))
    readings = [read_sensors("before", kind)]
    usage: list[dict[str, Any]] = []
    counted = read_throttle_count()
    began = clock()
    session = open_artifact(bundle, setup.threads)
    loaded = clock()
    batch = batch_size(session.input_shape, options.batch)
    pixels = bench_pixels(bundle, session, batch)
    ready = clock()
    session.run(pixels)
    first = clock()
    sessions = [session, *(open_artifact(bundle, setup.threads) for _ in range(setup.streams - 1))]

    def begin() -> None:
        usage.append(read_usage())
        meter.resume()

    def look() -> None:
        meter.pause()
        readings.append(read_sensors("during", kind))
        meter.resume()

    how: dict[str, Any] = {
        "min_seconds": options.seconds,
        "min_runs": options.runs,
        "max_seconds": options.max_seconds,
        "at_start": begin,
        "at_half_time": look,
        "on_progress": progress_teller(options),
    }
    runs = [partial(each.run, pixels) for each in sessions]
    measured = measure(runs[0], clock, **how) if len(runs) == 1 else measure_streams(runs, clock, **how)
    meter.pause()
    rss_mib = peak_rss_mib()
    others_share = measure_foreign_share(usage[0], read_usage())
    readings.append(read_sensors("after", kind))
    report = bench_report(
        bundle.manifest,
        measured,
        readings,
        (counted, read_throttle_count()),
        setup=setup,
        runtime_version=session.version,
        batch=batch,
        device=device,
        load_ms=(loaded - began) * 1000,
        first_inference_ms=(first - ready) * 1000,
        rss_mib=rss_mib,
        others_share=others_share,
        energy=meter.result(measured["wall_s"], len(measured["samples_ms"]) * batch),
    )
    # where a runtime has several ways to run it, those that were used
    report["runtime"] = session.runtime
    report["notes"] += getattr(session, "notes", ())
    return report


def _measure_starts(
    bundle: Bundle, options: BenchOptions, setup: Setup, kind: str, device: str | None
) -> dict[str, Any]:
    """A report whose samples are whole starts."""
    assert options.cold_start is not None
    words = ["--bundle", bundle.path, "--json", "start", "--threads", str(setup.threads)]
    words += [] if options.batch is None else ["--batch", str(options.batch)]
    readings, usage, counted = [read_sensors("before", kind)], read_usage(), read_throttle_count()
    starts = measure_starts(options.cold_start, words, time.monotonic, progress_teller(options))
    others_share = measure_foreign_share(usage, read_usage())
    readings.append(read_sensors("after", kind))
    samples_ms = [start["total_ms"] for start in starts]
    summary = summarize_starts(starts)
    report = bench_report(
        bundle.manifest,
        {"samples_ms": samples_ms, "warmup_runs": 0, "is_steady": True, "wall_s": sum(samples_ms) / 1000.0},
        readings,
        (counted, read_throttle_count()),
        setup=setup,
        runtime_version=starts[0]["runtime_version"],
        batch=starts[0]["batch"],
        device=device,
        load_ms=summary["load_ms"],
        first_inference_ms=summary["first_inference_ms"],
        rss_mib=max(start["peak_rss_mib"] for start in starts),
        others_share=others_share,
        energy=None,
    )
    report["cold_start"] = summary
    report["notes"].append(CACHED)
    return report


def bench_pixels(bundle: Bundle, session: Any, batch: int) -> Any:
    """The first golden picture `batch` times, as the session takes it."""
    return to_input(np.repeat(bundle.golden["images"][:1], batch, axis=0), bundle.preprocess, session.input_type)


def _cool_down(kind: str) -> dict[str, Any]:
    def tell(seconds: float, now_c: float) -> None:
        _tell_progress(f"{int(seconds)} {COOL_DOWN_MAX_SECONDS:.0f} s of cooling down ({now_c:.0f} C)")

    return cool_down(lambda: read_sensors("before", kind)["temperature_c"], time.monotonic, time.sleep, tell)


def _tell_progress(text: str) -> None:
    if os.environ.get("EDGEVIT_PROGRESS") == "1":
        print(PROGRESS_PREFIX + text, file=sys.stderr, flush=True)
