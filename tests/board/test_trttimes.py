from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.board.trttimes import TrtLayer, TrtQuery, parse_profile, parse_times, parse_trtexec
from edgevit.errors import BadFileError, EdgevitError

# Real output, some lines of each. TensorRT 8.4 on a Jetson AGX Xavier: https://github.com/OE4T/meta-tegra/pull/952
XAVIER_8_4 = """\
[03/11/2022-14:57:03] [I] === Performance summary ===
[03/11/2022-14:57:03] [I] Throughput: 41087.7 qps
[03/11/2022-14:57:03] [I] Latency: min = 0.387207 ms, max = 0.447357 ms, mean = 0.402238 ms, median = 0.401947 ms, percentile(99%) = 0.420288 ms
[03/11/2022-14:57:03] [I] H2D Latency: min = 0.00622559 ms, max = 0.0571899 ms, mean = 0.0104126 ms, median = 0.00952148 ms, percentile(99%) = 0.0272217 ms
[03/11/2022-14:57:03] [I] Total Host Walltime: 3.00119 s
&&&& PASSED TensorRT.trtexec [TensorRT v8400] # trtexec --loadEngine=mnist16.trt --batch=16
"""  # noqa: E501
# TensorRT 8.5.2 on a Jetson AGX Xavier, its long lines cut off by whoever posted them:
# https://github.com/OE4T/meta-tegra/pull/1150. The last line is not of the post.
XAVIER_8_5 = """\
[12/20/2022-18:24:07] [I] Throughput: 43073.6 qps
[12/20/2022-18:24:07] [I] Latency: min = 0.369385 ms, max = 2.36157 ms, mean = 0.386481 ms, median = 0.385986 ms, percentile(90%) = 0.391113 ms, percentile(95%) = 0.393066 ms, percentile(99%) = 0.404907 ms
[12/20/2022-18:24:07] [I] Enqueue Time: min = 0.156738 ms, max = 2.35205 ms, mean = 0.185932 ms, median = 0.181396 ms, percentile(90%) = 0.209473 ms, percentile(95%) = 0.22229 ms, percentile(99%) = 0.2551s
&&&& PASSED TensorRT.trtexec [TensorRT v8502] # trtexec
"""  # noqa: E501
# TensorRT 10 on a desktop's GPU: https://github.com/NVIDIA/TensorRT/issues/4177. The last line is not of the post.
DESKTOP_10 = """\
[10/03/2024-10:47:59] [I] Throughput: 130.298 qps
[10/03/2024-10:47:59] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms, median = 7.16092 ms, percentile(90%) = 10.2996 ms, percentile(95%) = 10.8698 ms, percentile(99%) = 12.9675 ms
[10/03/2024-10:47:59] [I] GPU Compute Time: min = 5.34595 ms, max = 13.3388 ms, mean = 7.58404 ms, median = 7.14139 ms, percentile(90%) = 10.2881 ms, percentile(95%) = 10.8175 ms, percentile(99%) = 12.9485 ms
[10/03/2024-10:47:59] [W] * Throughput may be bound by Enqueue Time rather than GPU Compute and the GPU may be under-utilized.
&&&& PASSED TensorRT.trtexec [TensorRT v100400] # trtexec
"""  # noqa: E501
# TensorRT 10.16 on a Jetson Orin: https://github.com/OE4T/meta-tegra/pull/2243. The last line is not of the post.
ORIN = """\
[01/01/1970-03:47:30] [I] Selected Device: Orin
[01/01/1970-03:47:30] [I] Compute Capability: 8.7
[01/01/1970-03:47:30] [I] TensorRT version: 10.16.2
&&&& PASSED TensorRT.trtexec [TensorRT v101602] # trtexec
"""
# As samples/common/sampleReporting.cpp of 10.3 writes them.
TIMES = """[
  { "startEnqMs" : 0, "endEnqMs" : 0.5, "startH2dMs" : 0.1, "endH2dMs" : 0.2, "startComputeMs" : 0.2, "endComputeMs" : 2.6, "startD2hMs" : 2.6, "endD2hMs" : 2.7, "h2dMs" : 0.1, "computeMs" : 2.4, "d2hMs" : 0.1, "latencyMs" : 2.6 }
, { "startEnqMs" : 3.25, "endEnqMs" : 3.5, "startH2dMs" : 3.3, "endH2dMs" : 3.4, "startComputeMs" : 3.4, "endComputeMs" : 5.4, "startD2hMs" : 5.4, "endD2hMs" : 5.5, "h2dMs" : 0.1, "computeMs" : 2, "d2hMs" : 1e-05, "latencyMs" : 2.10001 }
]
"""  # noqa: E501
PROFILE = """[
  { "count" : 625 }
, { "name" : "Reformatting CopyNode for Input Tensor 0 to Conv_0", "timeMs" : 36.6844, "averageMs" : 0.058695, "medianMs" : 0.0585, "percentage" : 25 }
, { "name" : "Conv_0 + PWN(Clip_3)", "timeMs" : 110.0532, "averageMs" : 0.176085, "medianMs" : 0.176, "percentage" : 75 }
]
"""  # noqa: E501
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def test_a_summary_of_8_4_has_its_one_percentile() -> None:
    summary = parse_trtexec(XAVIER_8_4)
    assert summary.throughput_qps == 41087.7
    assert summary.figures["latency_ms"] == {
        "min": 0.387207, "max": 0.447357, "mean": 0.402238, "median": 0.401947, "p99": 0.420288,
    }  # fmt: skip
    assert summary.figures["h2d_ms"]["max"] == 0.0571899
    assert "d2h_ms" not in summary.figures


def test_a_summary_of_8_5_has_three_and_what_is_cut_off_is_left_out() -> None:
    summary = parse_trtexec(XAVIER_8_5)
    assert summary.figures["latency_ms"]["p90"] == 0.391113
    assert summary.figures["latency_ms"]["p99"] == 0.404907
    assert "p99" not in summary.figures["enqueue_ms"]
    assert summary.warnings == ()


def test_a_summary_of_10_has_its_warnings() -> None:
    summary = parse_trtexec(DESKTOP_10)
    assert summary.figures["compute_ms"]["median"] == 7.14139
    assert summary.warnings == (
        "Throughput may be bound by Enqueue Time rather than GPU Compute and the GPU may be under-utilized.",
    )
    assert (summary.gpu, summary.load_s, summary.build_s, summary.engine_mib) == (None, None, None, None)


def test_the_gpu_is_named() -> None:
    summary = parse_trtexec(ORIN)
    assert (summary.gpu, summary.throughput_qps, dict(summary.figures)) == ("Orin", None, {})


def test_what_a_build_took_is_read() -> None:
    text = "[x] [I] Engine built in 93.5 sec.\n[x] [I] Created engine with size: 5.78431 MiB\n&&&& PASSED x\n"
    summary = parse_trtexec(text)
    assert (summary.build_s, summary.engine_mib) == (93.5, 5.78431)


@pytest.mark.parametrize("text", ["", XAVIER_8_4.partition("&&&&")[0], XAVIER_8_4.replace("PASSED", "FAILED")])
def test_output_that_does_not_say_that_it_passed_is_refused(text: str) -> None:
    with pytest.raises(EdgevitError, match="does not say that it passed"):
        parse_trtexec(text)


def test_queries_are_read_in_their_order() -> None:
    assert parse_times(TIMES, "times.json") == (
        TrtQuery(0.0, 0.1, 2.4, 0.1, 2.6),
        TrtQuery(3.25, 0.1, 2.0, 1e-05, 2.10001),
    )


def test_layers_are_read_and_the_count_is_none() -> None:
    first, second = parse_profile(PROFILE, "profile.json")
    assert first == TrtLayer("Reformatting CopyNode for Input Tensor 0 to Conv_0", 0.058695, 25.0)
    assert second == TrtLayer("Conv_0 + PWN(Clip_3)", 0.176085, 75.0)


@pytest.mark.parametrize("name", ['a "quoted" layer', "a\\b", 'ends with "', "{ \\x \\n }", "μ + ü"])
def test_a_layer_s_name_may_hold_what_trtexec_does_not_escape(name: str) -> None:
    text = PROFILE.replace("Conv_0 + PWN(Clip_3)", name)
    assert parse_profile(text, "profile.json")[1].name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TIMES[:-10], "is not JSON: trtexec was ended while it wrote it"),
        ("", "is not JSON"),
        ("[]", "holds no query: trtexec measured nothing"),
        ("{}", "is not a list of records"),
        ("[1]", "is not a list of records"),
        (TIMES.replace('"latencyMs" : 2.6', '"latencyMs" : -1'), r"0\.latencyMs: is -1, and no time"),
        (TIMES.replace('"latencyMs" : 2.6', '"latencyMs" : 0'), r"0\.latencyMs: is 0 ms"),
        (TIMES.replace('"latencyMs" : 2.6', '"latencyMs" : NaN'), r"0\.latencyMs: is nan, and no time"),
        (TIMES.replace('"latencyMs" : 2.6', '"latencyMs" : 1e999'), r"0\.latencyMs: is inf, and no time"),
        (TIMES.replace('"latencyMs" : 2.10001', '"latencyMs" : "2"'), r"1\.latencyMs: is '2', and no time"),
        (TIMES.replace('"h2dMs" : 0.1', '"h2d" : 0.1'), r"0\.h2dMs: is missing, and no time"),
        (TIMES.replace('"latencyMs" : 2.6', f'"latencyMs" : {10**400}'), r"0\.latencyMs: is 1000"),
        (TIMES.replace('"latencyMs" : 2.6', '"latencyMs" : true'), r"0\.latencyMs: is True, and no time"),
    ],
)
def test_times_that_are_none_are_refused_with_their_place(text: str, words: str) -> None:
    with pytest.raises(BadFileError, match=words):
        parse_times(text, "times.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "does not begin with the number of its runs"),
        (PROFILE.replace('{ "count" : 625 }', '{ "runs" : 625 }'), "does not begin with the number of its runs"),
        (PROFILE.replace('"averageMs" : 0.058695', '"averageMs" : nan'), "is not JSON"),
        (PROFILE.replace('"averageMs" : 0.058695', '"averageMs" : null'), r"1\.averageMs: is missing"),
        ('[{ "count" : 1 }, { "averageMs" : 1, "percentage" : 1 }]', "1: has no name"),
    ],
)
def test_a_profile_that_is_none_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(BadFileError, match=words):
        parse_profile(text, "profile.json")


@given(ANY_JSON)
def test_any_json_is_read_or_refused(document: object) -> None:
    text = json.dumps(document)
    for parse in (parse_times, parse_profile):
        with contextlib.suppress(BadFileError):
            parse(text, "a.json")


@given(st.text())
def test_any_text_is_refused_by_name_and_not_by_a_crash(text: str) -> None:
    for parse in (parse_times, parse_profile):
        with pytest.raises(BadFileError):
            parse(text, "a.json")
    with contextlib.suppress(EdgevitError):
        parse_trtexec(text)


@given(st.data())
def test_a_log_with_anything_in_it_gives_finite_figures_or_an_error(data: st.DataObject) -> None:
    lines = DESKTOP_10.splitlines()
    place = data.draw(st.integers(0, len(lines) - 2))
    cut = data.draw(st.integers(0, len(lines[place])))
    lines[place] = lines[place][:cut] + data.draw(st.text(max_size=20))
    summary = parse_trtexec("\n".join(lines))
    assert all(math.isfinite(value) for row in summary.figures.values() for value in row.values())


@given(st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=30))
def test_what_trtexec_writes_is_what_is_read(latencies: list[float]) -> None:
    start = '[\n  { "startEnqMs" : 1, "h2dMs" : 0, "computeMs" : 1, "d2hMs" : 0, "latencyMs" : '
    text = start + '\n}, { "startEnqMs" : 1, "h2dMs" : 0, "computeMs" : 1, "d2hMs" : 0, "latencyMs" : '.join(
        repr(value) for value in latencies
    )
    assert [query.latency_ms for query in parse_times(text + " }\n]\n", "t")] == latencies
