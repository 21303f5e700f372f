from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from example_bench import example_bench

from edgevit.artifact import Manifest
from edgevit.bench import sides
from edgevit.bench.compare import Comparison, Difference
from edgevit.bench.interleave import ArtifactRun, Interleaved
from edgevit.bench.local import bench_bundle
from edgevit.bench.sides import compare_sides, read_reports, read_sides
from edgevit.benchreport import BenchReport
from edgevit.board.sensors import describe_machine
from edgevit.board.sweep import sweep_document
from edgevit.errors import BadFileError, InputError
from edgevit.store import write_json

MakeBundle = Callable[..., Path]
Timings = dict[str, tuple[tuple[float, ...], ...] | str]

HERE = describe_machine()["arch"]
ELSEWHERE = "aarch64" if HERE == "x86_64" else "x86_64"
STEADY = ((4.0, 4.0), (4.0, 4.0), (4.0, 4.0))
TWICE_AS_FAST = ((2.0, 2.0), (2.0, 2.0), (2.0, 2.0))
NOISY = ((3.0, 3.0), (5.0, 5.0), (4.0, 4.0))


def device(arch: str = HERE, threads: int = 3) -> dict[str, Any]:
    return {"name": "local", "arch": arch, "threads": threads, "measured_on": None}


def latencies(comparison: Comparison) -> list[Difference]:
    return [each for each in comparison.differences if each.what == "latency"]


@pytest.fixture
def make_timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Timings], list[Mapping[str, ArtifactRun]]]:
    """make_timed({'a': blocks or why it failed}): what measuring gives, by the last part of the path."""

    def make(timings: Timings) -> list[Mapping[str, ArtifactRun]]:
        asked: list[Mapping[str, ArtifactRun]] = []

        def measure(runs: Mapping[str, ArtifactRun]) -> dict[str, Interleaved]:
            asked.append(runs)
            found = {name: timings[Path(name).name] for name in runs}
            return {n: Interleaved(failed=t) if isinstance(t, str) else Interleaved(blocks=t) for n, t in found.items()}

        monkeypatch.setattr(sides, "measure_interleaved", measure)
        return asked

    return make


def test_bundles_and_reports_are_read_in_the_order_given(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle("a")
    report = bench_bundle(bundle, min_seconds=0.0, min_runs=8)
    write_json(tmp_path / "report.json", report)
    found = read_sides((tmp_path / "report.json", bundle))
    assert list(found.documents) == [str(tmp_path / "report.json"), str(bundle)]
    assert [type(document) for document in found.documents.values()] == [BenchReport, Manifest]
    assert list(found.bundles) == [str(bundle)]
    assert found.documents[str(tmp_path / "report.json")] == report


def test_one_side_twice_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    with pytest.raises(InputError, match=rf"^{bundle}: is named twice\.$"):
        read_sides((bundle, bundle))


def test_a_sweep_is_no_side(tmp_path: Path) -> None:
    reports = [example_bench(threads=threads).model_dump(mode="json") for threads in (1, 2)]
    path = tmp_path / "sweep.json"
    write_json(path, sweep_document(reports))
    with pytest.raises(BadFileError, match=r"sweep\.json: is a sweep of 2 reports, and one is compared\. Measure with"):
        read_sides((path,))
    assert [each.threads for each in read_reports(path)] == [1, 2]
    write_json(path, {**sweep_document(reports), "reports": []})
    with pytest.raises(BadFileError, match=r"sweep\.json: .*at least 1 item"):
        read_reports(path)


def test_a_file_larger_than_any_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(BadFileError, match=r"large\.json: has more than 64 MiB, which no report has\.$"):
        read_reports(path)


@pytest.mark.parametrize("content", [b"", b"not json", b'{"kind": "run"}', b"[]", b"\xff\xfe\x00"])
def test_another_file_is_neither_bundle_nor_report(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"other\.json: is neither a bundle nor a report of 'edgevit bench'\. Write"):
        read_sides((path,))


def test_a_report_of_another_edgevit_is_refused_by_its_key(tmp_path: Path) -> None:
    path = tmp_path / "newer.json"
    path.write_text('{"kind": "bench"}')
    with pytest.raises(BadFileError, match=r"newer\.json: edgevit: Field required\. It was written by another edgevit"):
        read_sides((path,))


def test_what_is_not_there_or_is_another_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"none: is neither a bundle nor a report \(No such file or directory\)"):
        read_sides((tmp_path / "none",))
    with pytest.raises(BadFileError, match=r"is neither a bundle nor a report \(Is a directory\)"):
        read_sides((tmp_path,))


def test_a_changed_bundle_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle / "labels.txt").write_text("other\n")
    with pytest.raises(InputError, match=r"labels\.txt"):
        read_sides((bundle,))


def test_bundles_for_this_architecture_take_turns_with_the_first_ones_threads(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]]
) -> None:
    asked = make_timed({"a": STEADY, "b": TWICE_AS_FAST})
    session = {"session.intra_op.allow_spinning": "0"}
    runtime = {"name": "onnxruntime", "version": "1", "entry": "model.onnx", "session": session}
    a, b = make_bundle("a", device=device(threads=3)), make_bundle("b", device=device(threads=2), runtime=runtime)
    (found,) = latencies(compare_sides(read_sides((a, b)), None))
    assert (found.what, found.first, found.other) == ("latency", str(a), str(b))
    assert (found.ratio, found.ci95, found.is_real) == (2.0, (2.0, 2.0), True)
    assert found.sentence == (f"{b} is 2.00× as fast as {a} (95 % interval 2.00–2.00, taking turns here, 3 threads).")
    run = asked[0][str(b)]
    assert (run.path, run.runtime, run.threads, run.input_shape) == (b / "model.onnx", "onnxruntime", 3, (1, 3, 8, 8))
    assert run.config == session


def test_threads_that_are_given_hold_for_all(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]]
) -> None:
    asked = make_timed({"a": STEADY, "b": STEADY})
    compare_sides(read_sides((make_bundle("a", device=device()), make_bundle("b", device=device()))), 1)
    assert {run.threads for run in asked[0].values()} == {1}


def test_a_difference_within_the_noise_is_not_real(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]]
) -> None:
    make_timed({"a": STEADY, "b": NOISY, "c": TWICE_AS_FAST})
    bundles = [make_bundle(name, device=device()) for name in "abc"]
    noisy, fast = latencies(compare_sides(read_sides(tuple(bundles)), None))
    assert (noisy.is_real, fast.is_real) == (False, True)
    assert noisy.sentence.startswith(
        f"{bundles[0]} and {bundles[1]} do not differ in latency beyond chance ("
        f"{bundles[1]} is 1.000× as fast, 95 % interval 0.800–1.333, taking turns here, 3 threads)."
    )


def test_a_bundle_that_cannot_be_measured_is_told(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]]
) -> None:
    make_timed({"a": STEADY, "b": "It crashed.", "c": TWICE_AS_FAST})
    bundles = [make_bundle(name, device=device()) for name in "abc"]
    comparison = compare_sides(read_sides(tuple(bundles)), None)
    broken, sound = latencies(comparison)
    assert broken.is_real is None
    assert broken.sentence == f"{bundles[0]} and {bundles[1]} could not be measured: It crashed."
    assert sound.is_real
    assert [row.p50_ms for row in comparison.rows] == [4.0, None, 2.0]


def test_a_slower_bundle_is_told_from_the_faster_ones_side(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]]
) -> None:
    make_timed({"a": TWICE_AS_FAST, "b": STEADY})
    a, b = (make_bundle(name, device=device(threads=1)) for name in "ab")
    (found,) = latencies(compare_sides(read_sides((a, b)), None))
    assert (found.ratio, found.is_real) == (0.5, True)
    assert found.sentence == (f"{a} is 2.00× as fast as {b} (95 % interval 2.00–2.00, taking turns here, 1 thread).")


def test_bundles_that_took_turns_stand_in_the_table_with_their_latencies(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]]
) -> None:
    make_timed({"a": STEADY, "b": ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))})
    a, b = (make_bundle(name, device=device(threads=3)) for name in "ab")
    first, second = compare_sides(read_sides((a, b)), 2).rows
    assert (first.p50_ms, first.runs, first.threads) == (4.0, 6, 2)
    assert (second.p50_ms, second.p90_ms, second.p99_ms) == (3.5, 5.5, None)
    assert second.machine is not None
    assert second.machine.startswith(describe_machine()["cpu"])


def test_without_two_bundles_for_here_nothing_is_measured(
    make_bundle: MakeBundle, make_timed: Callable[[Timings], list[Mapping[str, ArtifactRun]]], tmp_path: Path
) -> None:
    asked = make_timed({})
    a, foreign = make_bundle("a", device=device()), make_bundle("b", device=device(ELSEWHERE))
    write_json(tmp_path / "report.json", bench_bundle(a, min_seconds=0.0, min_runs=8))
    for items in ((a, foreign), (a, tmp_path / "report.json")):
        comparison = compare_sides(read_sides(items), None)
        assert [each.is_real for each in comparison.differences] == [None]
        assert comparison.rows[0].p50_ms is None
    with pytest.raises(InputError, match=r"^There is nothing to compare\."):
        compare_sides(read_sides((a,)), None)
    assert asked == []
