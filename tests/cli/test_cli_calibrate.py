"""devices calibrate: what a board measured counts from then on, and what is no such measurement is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_bench import example_bench

from edgevit.benchreport import BenchReport, Latency, Machine
from edgevit.board.stats import summarize
from edgevit.board.sweep import sweep_document
from edgevit.bundle import load_bundle
from edgevit.catalog import load_device
from edgevit.latency.own import read_own
from edgevit.latency.predict import predict_bundle
from edgevit.store import write_json

BOARD = Machine(cpu="Cortex-A76", arch="aarch64", cores=4, os="Debian 12", python="3.11.2")
RPI5 = {"name": "rpi5", "arch": "aarch64", "threads": 4, "measured_on": None}


STARTS = {"starts": 3} | dict.fromkeys(
    ("python_ms", "check_ms", "import_ms", "load_ms", "first_inference_ms", "first_start_ms", "spread_ms"), 1.0
)


@pytest.fixture(autouse=True)
def settings_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path / "settings"


def figures(p50: float) -> dict[str, Any]:
    samples = (p50 * 0.9, p50, p50 * 1.1) * 30
    return {"samples_ms": samples, "latency_ms": Latency(**summarize(samples))}


@pytest.fixture
def bundle(make_bundle):
    return make_bundle(device=RPI5)


@pytest.fixture
def measured(bundle, tmp_path):
    """measured(p50, name, …) writes a report of the bundle on a Pi 5, which took p50 ms."""
    manifest = load_bundle(bundle).manifest

    def write(p50: float = 3.0, name: str = "report.json", **changes: Any) -> Path:
        fields = {"device": "rpi5", "machine": BOARD, "threads": 4, "precision": "fp32", **figures(p50),
                  "artifact_sha256": manifest.files["model.onnx"].sha256}  # fmt: skip
        write_json(tmp_path / name, {**example_bench(**fields).model_dump(mode="json"), **changes})
        return tmp_path / name

    return write


def test_a_report_moves_the_prediction_to_it(command, bundle, measured):
    before = predict_bundle(load_bundle(bundle), load_device("rpi5"))
    wanted = 3.0 * before.median_milliseconds
    ended = command("devices", "calibrate", measured(wanted), "--bundle", bundle)
    assert (ended.code, ended.err) == (0, "")
    assert "latencies.json: 1 of your own rows; predictions use them from now on." in ended.out
    now = predict_bundle(load_bundle(bundle), load_device("rpi5"))
    assert abs(now.median_milliseconds / wanted - 1) < 0.25
    assert now.basis.endswith("and 1 of your own, 1 of MLAS on Cortex-A76")
    low, high = now.interval90_milliseconds
    assert high / low < before.interval90_milliseconds[1] / before.interval90_milliseconds[0]


def test_as_json_it_is_one_document(command, bundle, measured):
    ended = command(
        "devices", "calibrate", measured(3.0), measured(4.0, "b.json", host="pi-2"), "--bundle", bundle, "--json"
    )
    assert ended.code == 0
    assert (ended.document["kind"], ended.document["rows"]) == ("calibration", 2)
    lesson = ended.document["lessons"][0]
    assert lesson["measured_p50_ms"] == 3.0
    assert abs(lesson["predicted_now_milliseconds"] - 3.0) < abs(lesson["predicted_before_milliseconds"] - 3.0)


def test_the_same_report_twice_is_one_row(command, bundle, measured):
    for p50 in (3.0, 3.0, 3.2):
        assert command("devices", "calibrate", measured(p50), "--bundle", bundle).code == 0
    assert [row.p50_ms for row in read_own()] == [3.2]


def test_a_sweep_teaches_all_of_its_reports(command, bundle, measured, tmp_path):
    paths = [measured(p50, f"{threads}.json", threads=threads) for threads, p50 in ((1, 8.0), (2, 4.5), (4, 3.0))]
    write_json(tmp_path / "sweep.json", sweep_document([json.loads(path.read_text()) for path in paths]))
    ended = command("devices", "calibrate", tmp_path / "sweep.json", "--bundle", bundle, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert [(each["threads"], each["measured_p50_ms"]) for each in ended.document["lessons"]] == [
        (1, 8.0), (2, 4.5), (4, 3.0),
    ]  # fmt: skip
    assert [(row.threads, row.p50_ms) for row in read_own()] == [(1, 8.0), (2, 4.5), (4, 3.0)]


def test_a_report_that_was_held_to_some_cores_of_two_kinds_is_refused(command, bundle, measured):
    path = measured(device="rk3588", cores=[4, 5, 6, 7])
    ended = command("devices", "calibrate", path, "--bundle", bundle)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "was held to some cores, and which of the board's kinds they are is not in a report" in ended.err


def test_a_board_of_ones_own_is_named_by_its_profile(command, bundle, measured, tmp_path):
    text = Path(__file__).parents[2].joinpath("devices/rpi5.yaml").read_text().replace("name: rpi5", "name: my-pi")
    (tmp_path / "my-pi.yaml").write_text(text)
    path = measured(device="pi-1", host="pi-1")
    refused = command("devices", "calibrate", path, "--bundle", bundle)
    assert refused.code == 2
    assert "was measured on 'pi-1', which is no profile's name" in refused.err
    assert "Name the board's profile with --device." in refused.err
    taken = command("devices", "calibrate", path, "--bundle", bundle, "--device", tmp_path / "my-pi.yaml")
    assert taken.code == 0
    assert [row.device for row in read_own()] == ["my-pi"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"is_valid": False, "invalid_reasons": ("It throttled.",)},
            "is an invalid measurement (It throttled.). Measure",
        ),
        ({"machine": {**BOARD.model_dump(), "is_emulated": True}}, "was measured on an emulated machine"),
        ({"artifact_sha256": "cd" * 32}, "is of the artifact cdcdcdcdcdcd…, which is in no bundle that was named"),
        ({"machine": {**BOARD.model_dump(), "arch": "x86_64"}}, "was measured on x86_64, and rpi5 is aarch64"),
        ({"device": "local"}, "was measured on 'local'"),
        (
            {"mode": "cold-start", "cold_start": STARTS},
            "its mode is cold-start, and predictions learn from",
        ),
        ({"mode": "streams", "streams": 4}, "its mode is streams, and predictions learn from mode latency"),
        ({"mode": "single-stream"}, "its mode is single-stream, and predictions learn from mode latency"),
        ({"streams": 4}, "its streams is 4, and predictions learn from streams 1"),
        ({"batch": 8}, "its batch is 8, and predictions learn from batch 1"),
        ({"runtime": "litert"}, "its runtime is litert, and predictions learn from runtime onnxruntime"),
        ({"precision": "int8-static"}, "its precision is int8-static, and predictions learn from precision fp32"),
        ({"threads": 5}, "its 5 threads shared 4 cores"),
        ({"cores": [2]}, "its 4 threads shared 1 core,"),
        ({"latency_ms": {**example_bench().latency_ms.model_dump(), "p50": 1.0}}, "its figures do not follow from its"),
        ({"samples_ms": []}, "its figures do not follow from its samples"),
        ({"threads": 10**9}, "threads: Input should be less than or equal to 1000000."),
        *(
            ({name: value}, f"{name}: Input should be greater than or equal to 1.")
            for name in ("threads", "batch", "streams")
            for value in (0, -1)
        ),
        *(
            (
                {"latency_ms": {**example_bench().latency_ms.model_dump(), "p50": value}},
                f"latency_ms.p50: Input should be {said}",
            )
            for value, said in (
                (0, "greater than 0"),
                (-1, "greater than 0"),
                (1e300, "less than or equal to 1000000000000"),
            )
        ),
        ({"mode": "cold-start"}, "mode 'cold-start' and the figures of cold_start come together"),
    ],
)
def test_what_teaches_nothing_is_refused_and_nothing_is_kept(command, bundle, measured, settings_folder, changes, said):
    ended = command("devices", "calibrate", measured(), measured(name="bad.json", **changes), "--bundle", bundle)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"bad.json: {said}" in ended.err
    assert not settings_folder.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "bench"}', '{"kind": "emulation"}', "\x00", "[" * 5000])
def test_what_is_no_report_is_one_line(command, bundle, tmp_path, text):
    (tmp_path / "broken.json").write_text(text)
    ended = command("devices", "calibrate", tmp_path / "broken.json", "--bundle", bundle)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "broken.json: " in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing argument"),
        (["none.json", "--bundle", "{bundle}"], "none.json: is neither a bundle nor a report"),
        (["{report}"], "Missing option '--bundle'"),
        (["{report}", "--bundle", "nowhere"], "nowhere"),
        (["{report}", "--bundle", "{bundle}", "--device", "rpi-5"], "Unknown device 'rpi-5'. Did you mean 'rpi5'?"),
    ],
)
def test_bad_words_are_one_line(command, bundle, measured, words, said):
    filled = [word.format(bundle=bundle, report=measured()) for word in words]
    ended = command("devices", "calibrate", *filled)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert said in ended.err


def test_damaged_rows_of_ones_own_are_named_with_what_to_do(command, bundle, measured, settings_folder):
    (settings_folder / "edgevit").mkdir(parents=True)
    (settings_folder / "edgevit" / "latencies.json").write_text("{")
    ended = command("devices", "calibrate", measured(), "--bundle", bundle)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "latencies.json: is not JSON. Mend it, or remove it and calibrate again." in ended.err


def test_a_measured_figure_stays_one_and_a_prediction_does_not_become_one(command, bundle, measured):
    report = measured(3.0)
    before = report.read_bytes()
    assert command("devices", "calibrate", report, "--bundle", bundle).code == 0
    assert report.read_bytes() == before
    assert BenchReport.model_validate(json.loads(before)).latency_ms.p50 == 3.0
