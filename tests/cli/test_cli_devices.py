"""devices add: a profile from facts, or from this machine; doctor --from-facts judges the same facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevit.board.facts import collect_facts
from edgevit.catalog import load_device

CPUINFO = (Path(__file__).parents[1] / "machine/captures/raspberry-pi-4.txt").read_text(encoding="utf-8")


@pytest.fixture
def facts(tmp_path):
    """A file with the facts of a Raspberry Pi 4 that has throttled and kept the governor that it came with."""
    document = {
        **collect_facts(command=lambda words: ""),
        "uname": "aarch64", "board": "Raspberry Pi 4 Model B Rev 1.5", "cpuinfo": CPUINFO, "cores": 4, "glibc": "2.36",
        "max_mhz": [1800] * 4, "caches": {"l1d_kib": 32, "l2_kib": 1024}, "pythons": ["3.11"],
        "memory": {"total": 3792},
        "machine": {
            "cpu": "Cortex-A72", "arch": "aarch64", "cores": 4, "os": "Debian GNU/Linux 12 (bookworm)",
            "python": "3.11.2",
        },
        "sensor_kind": "raspberry-pi", "bench": {"gemm_gflops": 11.2, "copy_gb_s": 4.1},
        "sensors": {
            "at": "before", "governor": "ondemand", "throttled": False, "throttle_flags": ["under-voltage-occurred"],
        },
    }  # fmt: skip
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """The folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_facts_become_a_profile_that_device_takes(command, facts, tmp_path):
    ended = command("devices", "add", "--from-facts", facts, "--name", "my-pi", "-o", tmp_path / "my-pi.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert "the profile of Raspberry Pi 4 Model B Rev 1.5" in ended.out
    assert f"Next: edgevit doctor --device {tmp_path / 'my-pi.yaml'}" in ended.out
    device = load_device(str(tmp_path / "my-pi.yaml"))
    assert (device.name, device.cpu.clusters[0].model, device.quantization.precision) == ("my-pi", "Cortex-A72", "fp32")


def test_the_profile_as_json_is_one_document(command, facts, tmp_path):
    ended = command("devices", "add", "--from-facts", facts, "-o", tmp_path / "x.yaml", "--json")
    assert (ended.code, ended.document["kind"]) == (0, "device")
    assert ended.document["device"]["name"] == "raspberry-pi-4-model-b-rev-1-5"


def test_a_file_that_is_there_is_not_overwritten(command, facts, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    ended = command("devices", "add", "--from-facts", facts, "-o", tmp_path / "mine.yaml")
    assert ended.code == 2
    assert "mine.yaml: is there already. Choose another file with -o." in ended.err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "../../etc/x"], "--name '../../etc/x': small letters, digits"),
        (["--name", "Bad Name"], "--name 'Bad Name': small letters, digits"),
        (["-o", "no/such/folder/x.yaml"], "no/such/folder/x.yaml: cannot be written"),
    ],
)
def test_bad_names_and_places_are_one_line(command, facts, words, said):
    ended = command("devices", "add", "--from-facts", facts, *words)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "local"], "--name 'local': is a device of edgevit's own already. Choose another name."),
        (["--name", "rpi5"], "--name 'rpi5': is a device of edgevit's own already."),
        (["--name", "a\x1b[2J"], r"--name 'a\x1b[2J': small letters"),
        (["-o", "new\nline.yaml"], r"-o 'new\nline.yaml': has a character that cannot be printed."),
        (["-o", "facts.json"], "facts.json: is there already. Choose another file with -o."),
        (["--name", "taken"], "taken.yaml: is there already. Choose another file with -o."),
        (["-o", "no/such/x.yaml"], "no/such/x.yaml: cannot be written: No such file or directory."),
    ],
)
def test_what_cannot_be_written_is_said_before_the_board_is_asked(command, facts, in_folder, monkeypatch, words, said):
    monkeypatch.setattr("edgevit.cli.devices.facts_over_ssh", lambda *_: pytest.fail("the board was asked"))
    (in_folder / "taken.yaml").write_text("mine")
    ended = command("devices", "add", "--from-host", "pi", *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert said in ended.err
    assert {path.name for path in in_folder.iterdir()} == {"facts.json", "taken.yaml"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("name: \x1b[2J", "long.yaml: line 1: a character"), ("# " + "x" * (1 << 20), "long.yaml: is larger than 1 MiB")],
)
def test_a_profile_that_could_not_be_read_again_is_not_written(command, facts, in_folder, monkeypatch, text, said):
    monkeypatch.setattr("edgevit.machine.newdevice.profile_yaml", lambda device, path: text)
    ended = command("devices", "add", "--from-facts", facts, "--name", "long")
    assert ended.code == 2
    assert said in ended.err
    assert [path.name for path in in_folder.iterdir()] == ["facts.json"]


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "facts"}'])
@pytest.mark.parametrize("words", [["devices", "add"], ["doctor"]])
def test_what_is_no_facts_is_one_line(command, tmp_path, words, text):
    (tmp_path / "broken.json").write_text(text)
    ended = command(*words, "--from-facts", tmp_path / "broken.json")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "broken.json: its facts cannot be read" in ended.err
    assert command(*words, "--from-facts", tmp_path / "none.json").code == 2


@pytest.mark.parametrize("words", [["devices", "add"], ["doctor"]])
@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("machine.cpu", "Cortex\x1b[2J"), ("machine.cpu", "Cortex\x9b2J"), ("machine.cpu", "x" * 2_000_000),
        ("machine.os", "Debian\x1b]0;mine\x07"), ("machine.os", "Debian\u202enaibeD"), ("machine.arch", "\x1b[31m"),
        ("machine.python", "abc"), ("machine.python", "3.x.y"), ("machine.python", "3.11\x1b[2J"),
        ("sensors.governor", "\x1b[2J"), ("sensors.throttle_flags", ["\x1b[2J"]),
        ("cpuinfo", "model name\t: \x1b[2J\n"),
        ("cpuinfo", "model name\t: " + "x" * 10_000),
        ("packages", {"\x1b[2J": "1.0"}),
    ],
)  # fmt: skip
def test_words_of_a_board_that_would_steer_a_terminal_are_refused(command, facts, in_folder, words, place, value):
    document = json.loads(facts.read_text())
    *above, key = place.split(".")
    (document[above[0]] if above else document)[key] = value
    facts.write_text(json.dumps(document))
    ended = command(*words, "--from-facts", facts)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"its facts cannot be read: {place}" in ended.err
    assert ended.err.rstrip("\n").isprintable()
    assert [path.name for path in in_folder.iterdir()] == ["facts.json"]


def test_doctor_judges_a_board_by_its_facts(command, facts):
    ended = command("doctor", "--from-facts", facts, "--device", "rpi4")
    assert ended.code == 0
    assert "! The CPU's governor is ondemand: its clock moves" in ended.out
    assert "! Since it booted, the board has had: under-voltage." in ended.out
    wrong = command("doctor", "--from-facts", facts, "--device", "rpi5", "--json")
    assert wrong.code == 5
    problems = [finding for finding in wrong.document["findings"] if finding["severity"] == "problem"]
    assert problems[0]["what"].startswith("This processor lacks asimdhp (fp16 arithmetic), asimddp")


def test_doctor_says_whether_the_bundles_runtime_has_a_wheel(command, facts):
    ended = command("doctor", "--from-facts", facts, "--device", "rpi4", "--runtime", "openvino")
    assert "Python 3.11 installs openvino==2026.4.1" in ended.out
