from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgevit.benchreport import BenchReport
from edgevit.board import measurement
from edgevit.board.coldstart import PHASES
from edgevit.board.describe import describe_bench
from edgevit.board.measurement import Setup, bench_report, parse_peak_kib, peak_rss_mib

NEW_FIELDS = (
    "mode", "streams", "cores", "percentiles", "early_stopping_p90_ms", "pictures_per_s", "cold_start", "cool_down",
)  # fmt: skip
MANIFEST = {
    "edgevit": "0.1.0",
    "model": {"name": "tiny"},
    "device": {"name": "rpi5", "arch": "aarch64", "threads": 4},
    "precision": "fp32",
    "runtime": {"name": "onnxruntime", "entry": "model.onnx"},
    "files": {"model.onnx": {"sha256": "ab" * 32, "size": 1}},
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The machine that the report describes: change it in place."""
    found = {"cpu": "Cortex-A76", "arch": "aarch64", "cores": 4, "os": "x", "python": "3.11.2", "is_emulated": False}
    monkeypatch.setattr(measurement, "describe_machine", lambda: found)
    return found


def report(
    *,
    samples_ms: tuple[float, ...] = (50.0,) * 64,
    is_steady: bool = True,
    throttled: bool | None = False,
    counted: tuple[int | None, int | None] = (None, None),
    load: float = 0.1,
    device: str | None = None,
    threads: int = 4,
    governor: str | None = None,
    foreign: float | None = None,
    energy: dict[str, Any] | None = None,
    wall_s: float | None = None,
    batch: int = 1,
    **setup: Any,
) -> BenchReport:
    reading = {
        "governor": governor, "clock_mhz": None, "clock_range_mhz": [600.0, 2400.0], "temperature_c": None,
        "throttled": throttled, "throttle_flags": [],
        "load_1min": load, "power_w": None,
    }  # fmt: skip
    document = bench_report(
        MANIFEST,
        {
            "samples_ms": list(samples_ms),
            "warmup_runs": 16,
            "is_steady": is_steady,
            "wall_s": sum(samples_ms) / 1000 if wall_s is None else wall_s,
        },
        [{"at": "before", **reading}, {"at": "after", **reading}],
        counted,
        setup=Setup(threads=threads, **setup),
        runtime_version="1.31.1",
        batch=batch,
        device=device,
        load_ms=100.0,
        first_inference_ms=60.0,
        others_share=foreign,
        energy=energy,
    )
    if setup.get("mode") == "cold-start":
        document["cold_start"] = {"starts": len(samples_ms), "first_start_ms": samples_ms[0], "spread_ms": 0.0}
        document["cold_start"].update(dict.fromkeys(PHASES, 1.0))
    return BenchReport.model_validate_json(json.dumps({"schema_version": 1, **document}))


@pytest.mark.usefixtures("machine")
def test_a_calm_measurement_on_the_target_is_valid_and_has_nothing_to_note() -> None:
    found = report()
    assert (found.is_valid, found.invalid_reasons, found.notes) == (True, (), ())
    assert (found.device, found.latency_ms.p50, found.artifact_sha256) == ("rpi5", 50.0, "ab" * 32)


@pytest.mark.usefixtures("machine")
def test_fewer_than_64_runs_are_invalid() -> None:
    found = report(samples_ms=(1000.0,) * 63)
    assert (found.is_valid, found.invalid_reasons) == (False, ("Too few samples: 63 runs, and 64 are the least.",))


@pytest.mark.usefixtures("machine")
def test_a_run_that_throttled_is_invalid() -> None:
    assert report(throttled=True).invalid_reasons == (
        "The CPU was throttled before the run (no reason given): let it cool down, add a heat sink or a fan, and "
        "measure again.",
        "The CPU was throttled after the run (no reason given): let it cool down, add a heat sink or a fan, and "
        "measure again.",
    )
    found = report(counted=(1, 2))
    assert not found.is_valid


@pytest.mark.usefixtures("machine")
def test_a_governor_that_scales_others_load_and_drift_are_invalid() -> None:
    drifting = (50.0,) * 30 + (60.0,) * 34
    found = report(samples_ms=drifting, governor="ondemand", foreign=0.2)
    assert not found.is_valid
    assert [reason.split(" ")[:3] for reason in found.invalid_reasons] == [
        ["The", "governor", "ondemand"], ["Other", "programs", "had"], ["The", "last", "third"],
    ]  # fmt: skip
    assert (found.foreign_share, found.drift) == (0.2, pytest.approx(0.2))


@pytest.mark.usefixtures("machine")
def test_a_run_of_less_than_a_second_is_not_judged_by_load_or_drift() -> None:
    found = report(samples_ms=(5.0,) * 30 + (9.0,) * 34, foreign=0.9)
    assert (found.is_valid, found.foreign_share, found.drift) == (True, None, None)


@pytest.mark.usefixtures("machine")
def test_energy_is_told_with_its_sensor_or_why_it_is_not_available() -> None:
    energy = {"mj_per_picture": 91.25, "power_w": 3.4, "sensor": "VDD_IN", "readings": 9, "missing": ""}
    found = report(energy=energy)
    assert "energy 91.2 mJ per picture at 3.40 W (VDD_IN)" in describe_bench(found.model_dump()).splitlines()
    none = {"mj_per_picture": None, "power_w": None, "sensor": "", "readings": 0, "missing": "no sensor"}
    assert "energy not available: no sensor" in describe_bench(report(energy=none).model_dump()).splitlines()


def test_a_machine_of_another_architecture_is_never_shown_as_the_board(machine: dict[str, Any]) -> None:
    machine.update(cpu="AMD EPYC", arch="x86_64")
    found = report()
    assert (found.device, found.notes) == ("local", ("Measured on AMD EPYC (x86_64), not on rpi5.",))


def test_an_emulated_figure_is_never_shown_as_the_boards(machine: dict[str, Any]) -> None:
    machine.update(is_emulated=True)
    found = report()
    assert (found.device, found.notes) == ("local", ("Measured under emulation: no figure of rpi5's speed.",))


@pytest.mark.usefixtures("machine")
def test_a_device_that_is_named_is_the_reports_device() -> None:
    assert report(device="local").device == "local"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"is_steady": False}, "The latency had not come to rest after 16 warm-up runs."),
        ({"samples_ms": (10.0,) * 64}, "Measured for 0.6 s; 3 s are the rule."),
        ({"throttled": None}, "This machine has no sensor for throttling."),
        ({"load": 2.5}, "The load was 2.5 on 4 cores before the run: other work may have slowed it."),
        ({"threads": 8}, "8 threads share 4 cores."),
    ],
)
@pytest.mark.usefixtures("machine")
def test_what_a_reader_must_know_is_noted_and_does_not_invalidate(changes: dict[str, Any], note: str) -> None:
    found = report(**changes)
    assert (found.is_valid, found.notes) == (True, (note,))


@pytest.mark.usefixtures("machine")
def test_a_counter_of_throttling_is_a_sensor_for_it() -> None:
    assert report(throttled=None, counted=(3, 3)).notes == ()


@pytest.mark.usefixtures("machine")
def test_people_read_the_figures_with_what_they_belong_to() -> None:
    text = describe_bench({**report(throttled=None).model_dump(), "peak_rss_mib": 123.4})
    assert text == (
        "tiny, fp32, onnxruntime 1.31.1, 4 threads, batch 1\n"
        "on rpi5: Cortex-A76, aarch64\n"
        "p50 50.00 ms, p90 50.00 ms, p99 needs 662 runs, mean 50.00 ms, MAD 0.00 ms, 64 runs\n"
        "load 100 ms, first inference 60.0 ms, peak memory 123 MiB\n"
        "energy not available\n"
        "Note: This machine has no sensor for throttling."
    )
    assert "p99 50.00 ms" in describe_bench(report(samples_ms=(50.0,) * 662, threads=1).model_dump())
    assert "1 thread," in describe_bench(report(threads=1).model_dump())


def test_peak_memory_is_vmhwm_in_mib_and_ru_maxrss_stands_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert parse_peak_kib("VmPeak:\t  9000 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 100 kB\n") == 2048
    assert parse_peak_kib("") is None
    own = peak_rss_mib()
    assert own > 10  # this process has numpy and pytest in it

    def missing(*_: object, **__: object) -> object:
        raise FileNotFoundError

    monkeypatch.setattr(measurement, "open", missing, raising=False)
    assert peak_rss_mib() >= 10


@pytest.mark.usefixtures("machine")
def test_pictures_per_second_are_those_of_all_streams_and_batches() -> None:
    found = report(samples_ms=(50.0,) * 80, wall_s=1.0, batch=4, mode="streams", streams=4)
    assert (found.pictures_per_s, found.mode, found.streams) == (80 * 4 / 1.0, "streams", 4)
    lines = describe_bench(found.model_dump()).splitlines()
    assert "4 streams at a time" in lines
    assert "320.0 pictures per second (a latency is that of 4 pictures)" in lines


@pytest.mark.usefixtures("machine")
def test_a_plain_report_has_the_old_lines_only() -> None:
    found = report()
    assert (found.mode, found.streams, found.cores, found.percentiles) == ("latency", 1, None, ())
    assert len(describe_bench(found.model_dump()).splitlines()) == 5


@pytest.mark.usefixtures("machine")
def test_percentiles_are_stated_or_what_they_need_is() -> None:
    found = report(percents=(90.0, 99.9))
    assert [(each.percent, each.ms, each.needed) for each in found.percentiles] == [(90, 50.0, 64), (99.9, None, 6636)]
    assert "p90 50.00 ms, p99.9 needs 6,636 runs (64 here)" in describe_bench(found.model_dump()).splitlines()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"threads": 4, "cores": [0, 2]}, "4 threads share 2 cores that the process was held to."),
        ({"threads": 2, "cores": [3]}, "2 threads share 1 core that the process was held to."),
        ({"threads": 2, "streams": 3, "mode": "streams"}, "6 threads (3 streams with 2 each) share 4 cores."),
    ],
)
def test_threads_that_share_cores_are_noted(changes: dict[str, Any], note: str) -> None:
    assert note in report(**changes).notes


@pytest.mark.usefixtures("machine")
def test_cores_that_are_enough_are_no_note_and_are_in_the_report() -> None:
    found = report(threads=4, cores=[0, 1, 2, 3])
    assert (found.notes, found.cores) == ((), (0, 1, 2, 3))
    assert "held to cores 0-3" in describe_bench(found.model_dump()).splitlines()


@pytest.mark.usefixtures("machine")
def test_a_single_stream_states_its_estimate_and_that_it_is_no_mlperf_result() -> None:
    found = report(samples_ms=(60.0,) * 1024, mode="single-stream", seconds=60.0)
    assert (found.is_valid, found.early_stopping_p90_ms) == (True, 60.0)
    headline = describe_bench(found.model_dump()).splitlines()[2]
    assert headline == ("p90 60.00 ms, early-stopping estimate 60.00 ms: like MLPerf SingleStream, no MLPerf result")
    assert "Measured for 61 s, as MLPerf v0.5 did; since v1.0 it asks for 600 s: --duration 600." in found.notes
    assert report(samples_ms=(600.0,) * 1024, mode="single-stream").notes == (
        "Like MLPerf SingleStream, and no MLPerf result: one picture, already prepared, again and again.",
    )


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("samples", [(60.0,) * 1023, (50.0,) * 1024])
def test_a_single_stream_of_too_few_queries_or_seconds_is_invalid(samples: tuple[float, ...]) -> None:
    found = report(samples_ms=samples, mode="single-stream")
    assert found.invalid_reasons[0].startswith("Too few queries: 1,02")
    assert "1,024 and 60 s are the least" in found.invalid_reasons[0]


@pytest.mark.usefixtures("machine")
def test_cold_starts_are_not_judged_by_their_number_or_their_drift() -> None:
    found = report(samples_ms=(900.0,) * 3 + (300.0,) * 6, mode="cold-start")
    assert (found.is_valid, found.drift, found.notes) == (True, None, ())


@pytest.mark.usefixtures("machine")
def test_a_report_of_an_edgevit_before_these_options_is_read() -> None:
    old = report().model_dump(mode="json")
    for name in NEW_FIELDS:
        del old[name]
    found = BenchReport.model_validate(old)
    assert (found.mode, found.streams, found.cores, found.pictures_per_s) == ("latency", 1, None, None)
