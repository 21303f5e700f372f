"""Facts from a board are not trusted: what is absurd is refused in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.board.facts import collect_facts
from edgevit.errors import InputError
from edgevit.machine.facts import MAX_BYTES, Facts, parse_facts
from edgevit.machine.jetpack import RELEASES, jetpack_of

HERE = collect_facts(command=lambda words: "")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"cores": 0}, "cores"),
        ({"cores": 10**9}, "cores"),
        ({"cpuinfo": "x" * (1 << 21)}, "cpuinfo"),
        ({"board": "Pi\x1b[2J"}, "board"),
        ({"glibc": "2.36; rm -rf /"}, "glibc"),
        ({"pythons": ["3.11 --evil"]}, "pythons.0"),
        ({"packages": {"numpy": "1.0 evil"}}, "packages.numpy"),
        ({"max_mhz": [1] * 5000}, "max_mhz"),
        ({"memory": {"total": 1 << 60}}, "memory.total"),
        ({"supply_v": 1e300}, "supply_v"),
        ({"unknown": 1}, "unknown"),
        ({"kind": "bench"}, "kind"),
        ({"schema_version": 99}, "schema_version"),
    ],
)
def test_what_no_board_would_say_is_refused_with_its_key(change: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=rf"^pi@pi: its facts cannot be read: {key}: ") as caught:
        parse_facts(json.dumps({**HERE, **change}), "pi@pi")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"facts"', "{}", "\0"])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="its facts cannot be read"):
        parse_facts(text, "pi@pi")


def test_a_document_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="its facts are larger than 4 MiB"):
        parse_facts(" " * (MAX_BYTES + 1), "pi@pi")


@given(st.binary(max_size=200))
def test_any_bytes_are_facts_or_one_error(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_facts(data, "pi@pi")


def test_the_python_of_the_facts_is_a_minor_version() -> None:
    facts = parse_facts(json.dumps(HERE), "here")
    assert isinstance(facts, Facts)
    assert facts.python.count(".") == 1


def test_releases_are_known_with_and_without_their_zero() -> None:
    assert (jetpack_of("35.1") or RELEASES["36.4.3"]).version == "5.0.2"
    assert jetpack_of("36.4.3") == RELEASES["36.4.3"]
    assert jetpack_of("99.1") is None
