from __future__ import annotations

import os
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from edgevit import yamlfile
from edgevit.errors import BadFileError
from edgevit.recipe import Recipe
from edgevit.schema import Record
from edgevit.yamlfile import read_yaml


class Inner(Record):
    size: int = Field(default=1, gt=0, le=10)
    mode: Literal["fast", "small"] = "fast"


class Outer(Record):
    name: str = Field(pattern=r"^[a-z]+$", max_length=5)
    rate: float = 0.5
    flag: bool = False
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    args: dict[str, int] = Field(default_factory=dict)
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


@pytest.fixture
def read(tmp_path):
    def _read(text: str | bytes, record=Outer):
        path = tmp_path / "file.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_yaml(path, record)

    return _read


@pytest.fixture
def problem(read, tmp_path):
    """What is said about a text, without the path that every message begins with."""

    def _problem(text: str | bytes) -> str:
        with pytest.raises(BadFileError) as caught:
            read(text)
        message = str(caught.value)
        assert caught.value.exit_code == 2
        assert "\n" not in message
        assert message.startswith(f"{tmp_path / 'file.yaml'}: ")
        return message.removeprefix(f"{tmp_path / 'file.yaml'}: ")

    return _problem


def test_a_file_becomes_its_record(read):
    text = "name: abc  # comment\nrate: 5e-4\nflag: true\ninner: {size: 3}\ninners:\n  - mode: small\npair: [1, 2.5]\n"

    record = read(text)

    assert (record.name, record.rate, record.flag) == ("abc", 0.0005, True)
    assert record.inner == Inner(size=3)
    assert record.inners == (Inner(mode="small"),)
    assert record.pair == (1.0, 2.5)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(read):
    assert read(b"\xef\xbb\xbfname: abc\r\nrate: 1\r\n").rate == 1.0


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"),
        ("5e-4", 0.0005),
        ("-.5", -0.5),
        ("-7", -7),
        ("0", 0),
        ("~", None),
        ("", None),
        ("False", False),
        (".inf", float("inf")),
        ("9" * 30, 1e30),
    ],
)
def test_plain_values_mean_what_they_look_like(written, value):
    plain = yamlfile._plain(written)

    assert plain == value
    assert type(plain) is type(value)


@given(st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_that_python_writes_is_read_back(number):
    assert yamlfile._plain(repr(number)) == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [1, 2\n", "line 2, column 1: YAML syntax: expected ',' or ']', but got '<stream end>'."),
        ("name: abc\n\trate: 1\n", "line 2, column 1: YAML is indented with spaces; here is a tab."),
        ("name: a: b\n", "line 1, column 8: YAML syntax: mapping values are not allowed here."),
        ("name: abc\nrate: 1\nname: d\n", "line 3, column 1: duplicate key 'name'; it stands on line 1 already."),
        (
            "name: abc\ninner: {size: 1, size: 2}\n",
            "line 2, column 18: duplicate key 'size'; it stands on line 2 already.",
        ),
        ("", "is empty."),
        ("# nothing but words\n", "is empty."),
        ("---\n", "is empty."),
        ("- name\n", "line 1, column 1: must be a mapping (key: value), not a list."),
        ("just words\n", "line 1, column 1: must be a mapping (key: value), not a single value."),
        ("name: abc\n---\nname: d\n", "line 2, column 1: a second document begins ('---'); one file is one record."),
        ("1: abc\n", "line 1, column 1: a key must be text; put it in quotes."),
        ("{[a]: b}\n", "line 1, column 2: a key must be text; put it in quotes."),
        ("<<: {name: abc}\n", "line 1, column 1: merging with '<<' is not allowed; write the keys out."),
        ("name: \x07\n", "line 1: a character that YAML does not allow (U+0007)."),
    ],
)
def test_what_yaml_gets_wrong_is_said_with_its_place(problem, text, expected):
    assert problem(text) == expected


def test_tags_are_refused_so_that_no_file_runs_code(problem):
    assert problem("name: !!python/object/apply:os.system [ls]\n") == (
        "line 1, column 7: YAML tags are not allowed ('tag:yaml.org,2002:python/object/apply:os.system')."
    )


def test_aliases_are_refused_so_that_no_file_unfolds_without_end(problem):
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"

    assert problem(bomb) == "line 1, column 4: anchors and aliases ('&a', '*a') are not allowed; write it out."
    assert problem("name: *a\n").startswith("line 1, column 7: anchors and aliases ('&a', '*a') are not allowed")


def test_deep_nesting_is_refused_before_it_overflows_the_stack(problem):
    assert "nested deeper than 32 levels." in problem("name: " + "[" * 5000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate: 1\n", "line 1, key 'name': this key is missing."),
        (
            "name: abc\ninner:\n  sise: 3\n",
            "line 3, key 'inner.sise': unknown key 'sise'. Did you mean 'size'? Allowed: size, mode.",
        ),
        ("name: abc\ninner: {x: 3}\n", "line 2, key 'inner.x': unknown key 'x'. Allowed: size, mode."),
        (
            "naem: abc\n",
            "line 1, key 'naem': unknown key 'naem'. Did you mean 'name'? Allowed: name, rate, flag, inner, "
            "inners, pair, args, even. (1 more problem in this file.)",
        ),
        ("name: 3.1\n", "line 1, key 'name': must be text, not 3.1. Put it in quotes."),
        (
            "name: 2024\nrate: x\nflag: 1\n",
            "line 1, key 'name': must be text, not 2024. Put it in quotes. (2 more problems in this file.)",
        ),
        ("name:\n", "line 1, key 'name': must be text, not empty."),
        ("name: ABC\n", "line 1, key 'name': must match ^[a-z]+$, not 'ABC'."),
        ("name: abcdef\n", "line 1, key 'name': must have at most 5 characters, not 'abcdef'."),
        ("name: abc\nrate: fast\n", "line 2, key 'rate': must be a number, not 'fast'."),
        ("name: abc\nrate: .nan\n", "line 2, key 'rate': must be a finite number, not nan."),
        ("name: abc\nrate: true\n", "line 2, key 'rate': must be a number, not true."),
        ("name: abc\nflag: yes\n", "line 2, key 'flag': must be true or false, not 'yes'."),
        ("name: abc\ninner: 3\n", "line 2, key 'inner': must be a mapping (key: value), not 3."),
        ("name: abc\ninner: [3]\n", "line 2, key 'inner': must be a mapping (key: value), not a list of 1."),
        ("name: abc\nargs: x\n", "line 2, key 'args': must be a mapping (key: value), not 'x'."),
        ("name: abc\ninners: {size: 1}\n", "line 2, key 'inners': must be a list, not a mapping."),
        ("name: abc\ninner:\n  size: 2.5\n", "line 3, key 'inner.size': must be a whole number, not 2.5."),
        ("name: abc\ninner:\n  size: '2'\n", "line 3, key 'inner.size': must be a whole number, not '2'."),
        ("name: abc\ninner:\n  size: 0\n", "line 3, key 'inner.size': must be greater than 0, not 0."),
        ("name: abc\ninner:\n  size: 11\n", "line 3, key 'inner.size': must be at most 10, not 11."),
        (
            "name: abc\ninner:\n  mode: smal\n",
            "line 3, key 'inner.mode': must be 'fast' or 'small', not 'smal'. Did you mean 'small'?",
        ),
        (
            "name: abc\ninners:\n  - size: 1\n  - size: -1\n",
            "line 4, key 'inners.1.size': must be greater than 0, not -1.",
        ),
        ("name: abc\ninners:\n  - 7\n", "line 3, key 'inners.0': must be a mapping (key: value), not 7."),
        ("name: abc\neven: 3\n", "line 2, key 'even': 3 is odd."),
        ('name: "\\ud800"\n', "line 1: holds an escape that stands for no character."),
    ],
)
def test_what_the_record_forbids_is_said_with_line_key_and_remedy(problem, text, expected):
    assert problem(text) == expected


def test_a_list_of_the_wrong_length_says_what_it_should_have(problem):
    assert problem("name: abc\npair: [1]\n") == "line 2, key 'pair.1': this key is missing."
    assert (
        problem("name: abc\npair: [1, 2, 3]\n") == "line 2, key 'pair': must have at most 2 item(s), not a list of 3."
    )


def test_wrong_items_are_reported_rather_than_a_list_too_short(read):
    class Listing(Record):
        inners: tuple[Inner, ...] = Field(min_length=1)

    with pytest.raises(BadFileError) as wrong_item:
        read("inners:\n  - {size: 1, bad: 2}\n", Listing)
    with pytest.raises(BadFileError) as no_item:
        read("inners: []\n", Listing)

    assert "line 2, key 'inners.0.bad': unknown key 'bad'. Allowed: size, mode." in str(wrong_item.value)
    assert "more problem" not in str(wrong_item.value)
    assert "line 1, key 'inners': must have at least 1 item(s), not a list of 0." in str(no_item.value)


def test_a_long_value_is_cut_short(problem):
    message = problem(f"name: abc\nrate: {'x' * 500}\n")

    assert len(message) < 120
    assert message.endswith("x….")


def test_text_that_is_not_utf8_is_refused_with_its_line(problem):
    assert problem(b"name: abc\nrate: \xff\n") == "line 2: is not UTF-8 text. Save it as UTF-8."


def test_a_missing_file_a_directory_and_a_pipe_are_told_apart(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, words in (
        (tmp_path / "none.yaml", "no such file. Check the path."),
        (tmp_path, "is a directory, not a YAML file."),
        (tmp_path / "pipe.yaml", "is not a regular file."),
    ):
        with pytest.raises(BadFileError) as caught:
            read_yaml(path, Outer)
        assert str(caught.value) == f"{path}: {words}"


def test_a_name_that_the_system_cannot_take_is_refused(tmp_path):
    with pytest.raises(BadFileError, match=r"cannot be read: File name too long\."):
        read_yaml(tmp_path / ("x" * 300), Outer)


def test_a_file_over_1_mib_is_refused_unread(problem):
    assert problem(b"#" * (1 << 20) + b"\n") == "is larger than 1 MiB; that is no recipe or device profile."


def test_keys_of_a_free_mapping_are_kept(read):
    assert read("name: abc\nargs: {depth: 4, embed_dim: 96}\n").args == {"depth": 4, "embed_dim": 96}


def test_a_recipe_is_read_with_its_own_types(read):
    text = "name: r\nmodel: {name: vit}\ndata: {source: digits}\ntrain: {augment: {scale: [0.8, 1]}}\n"

    assert read(text, Recipe).train.augment.scale == (0.8, 1.0)
