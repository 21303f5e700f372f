from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.remote.host import Host, parse_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("pi@raspberrypi.local", Host("raspberrypi.local", "pi")),
        ("my-board_2", Host("my-board_2")),
        ("root@192.168.1.7", Host("192.168.1.7", "root")),
        ("jetson@fe80::1%eth0", Host("fe80::1%eth0", "jetson")),
        ("::1", Host("::1")),
    ],
)
def test_a_host_is_read_and_written_as_ssh_takes_it(text: str, host: Host) -> None:
    assert parse_host(text) == host
    assert str(host) == text


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=touch${IFS}x", "-l", "pi@-oProxyCommand=x", "--", "pi@", "@board", "a@b@c", "pi board",
        " board", "board ", "board\n", "board\t", "board\0", "board;reboot", "board|x", "board&", "$(reboot)",
        "`reboot`", "b'oard", 'b"oard', "board>x", "board<x", "b*", "b?", "b[1]", "b{1}", "~root", "b\\x", "b#", "b!",
        "b=c", "b,c", "b/c", "ssh://pi@board", "pi@board:x", "pi:secret@board", "böard", "boa\u200brd", "[::1]",
        "fe80::1%$(x)", "%h", "", "a" * 256,
    ],
)  # fmt: skip
def test_what_a_shell_or_ssh_could_misread_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_host(text)
    message = str(refusal.value)
    assert message.startswith("The host ")
    assert "\n" not in message
    assert len(message) < 250


def test_a_port_belongs_into_the_ssh_config() -> None:
    with pytest.raises(InputError, match=r"^The host 'pi@board:2222' has a port\. Name it in ~/\.ssh/config"):
        parse_host("pi@board:2222")


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_one_plain_word(text: str) -> None:
    try:
        host = parse_host(text)
    except InputError:
        return
    assert str(host) == text
    assert not text.startswith("-")
    assert all(letter.isascii() and (letter.isalnum() or letter in "@._-:%") for letter in text)
