from __future__ import annotations

import pytest
from profiles import kernel, model_run

from edgevit.errors import MeasurementError
from edgevit.profiling.document import TensorType
from edgevit.profiling.trace import read_trace

# A warm-up, then three runs; each run is an 'a' and a 'b'.
RUNS = [model_run(100, 90), model_run(200, 40), model_run(300, 44), model_run(400, 60)]
KERNELS = [
    kernel("a", "MatMul", 101, 60, 0), kernel("b", "Add", 170, 9, 1),
    kernel("a", "MatMul", 201, 20, 0), kernel("b", "Add", 230, 5, 1),
    kernel("a", "MatMul", 301, 30, 0), kernel("b", "Add", 335, 4, 1),
    kernel("a", "MatMul", 401, 22, 0), kernel("b", "Add", 430, 6, 1),
]  # fmt: skip
LOADING = {"cat": "Session", "ts": 6, "dur": 79, "name": "model_loading_uri", "args": {}}
COUNTED = (False, True, True, True)


def test_each_nodes_time_is_its_median_over_the_runs_that_count() -> None:
    trace = read_trace([LOADING, *KERNELS, *RUNS], COUNTED)
    assert [(node.name, node.op_type, node.median_ms) for node in trace.nodes] == [
        ("a", "MatMul", 0.022),  # of 20, 30, 22 µs
        ("b", "Add", 0.005),  # of 5, 4, 6 µs
    ]


def test_what_a_run_spends_outside_of_kernels_is_a_median_too() -> None:
    assert read_trace([*KERNELS, *RUNS], COUNTED).outside_ms == 0.015  # 40 - 25, 44 - 34, 60 - 28: 15, 10, 32 µs


def test_a_node_says_what_it_reads_and_makes() -> None:
    node = read_trace([*KERNELS, *RUNS], COUNTED).nodes[0]
    assert node.provider == "CPUExecutionProvider"
    assert node.inputs == (TensorType(dtype="float", shape=(1, 2)),)
    assert node.outputs == (TensorType(dtype="float", shape=(1, 3)),)


def test_a_body_that_a_loop_runs_twice_is_added_up_and_the_loop_is_not_counted_as_well() -> None:
    events = [
        model_run(0, 100), kernel("loop", "Loop", 1, 80, 0), kernel("c", "Add", 2, 30, 0), kernel("c", "Add", 40, 35, 0)
    ]  # fmt: skip
    trace = read_trace(events, (True,))
    assert [(node.name, node.median_ms) for node in trace.nodes] == [("c", 0.065)]


def test_a_node_that_a_run_did_not_execute_took_nothing_in_it() -> None:
    events = [*(model_run(start, 50) for start in (0, 100, 200)), kernel("c", "Add", 1, 8)]
    assert read_trace(events, (True, True, True)).nodes[0].median_ms == 0.0


def test_nodes_of_one_name_are_told_apart_by_their_number() -> None:
    events = [model_run(0, 50), kernel("c", "Add", 1, 8, 3), kernel("c", "Add", 10, 9, 4)]
    assert [node.median_ms for node in read_trace(events, (True,)).nodes] == [0.008, 0.009]


def test_a_profile_of_other_runs_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r"^The profile has 4 runs, and 3 were made. Profile again.$"):
        read_trace([*KERNELS, *RUNS], COUNTED[:3])


@pytest.mark.parametrize(("events", "counted"), [([], ()), (RUNS, (False,) * 4)])
def test_a_profile_without_a_run_that_counts_is_refused(events: list, counted: tuple) -> None:
    with pytest.raises(MeasurementError, match=r"^No run of the profile counts. Profile again.$"):
        read_trace(events, counted)
