"""What OpenSSH 9.2 says, each message taken from a real failure against an sshd, or from its source."""

from __future__ import annotations

import pytest

from edgevit.errors import DeviceError, InputError
from edgevit.remote.complaints import connection_error, printable, quoted
from edgevit.remote.host import parse_host

HOST = parse_host("pi@board")
UNKNOWN = (
    "No ED25519 host key is known for [127.0.0.1]:2222 and you have requested strict checking.\r\n"
    "Host key verification failed.\r\n"
)
CHANGED = (
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "Host key for [127.0.0.1]:2222 has changed and you have requested strict checking.\r\n"
    "Host key verification failed.\r\n"
)


@pytest.mark.parametrize(
    ("said", "words", "fix"),
    [
        (UNKNOWN, "is not in known_hosts", "ssh pi@board"),
        ("Host key verification failed.\r\n", "is not in known_hosts", "ssh pi@board"),
        (CHANGED, "is not the one that known_hosts has", "ssh-keygen -R board"),
        ("pi@board: Permission denied (publickey,password).\r\n", "lets nobody in", "ssh-copy-id pi@board"),
        ("Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures", "lets nobody", "ssh-copy-id"),
        ("ssh: Could not resolve hostname board: Name or service not known\r\n", "no machine of that name", "spelling"),
        ("ssh: connect to host board port 22: Connection refused\r\n", "no ssh server", "systemctl enable --now ssh"),
        ("ssh: connect to host board port 22: Connection timed out\r\n", "does not answer", "ping board"),
        ("ssh: connect to host board port 22: No route to host\r\n", "does not answer", "ping board"),
        ("kex_exchange_identification: Connection closed by remote host\r\n", "closed the connection", "ssh -v"),
        ("Connection reset by 127.0.0.1 port 2222\r\n", "closed the connection", "ssh -v pi@board"),
        ("something new\r\n", "something new", "ssh -v pi@board"),
        ("", "gives no reason", "ssh -v pi@board"),
    ],
)
def test_each_cause_has_a_line_and_a_way_out(said: str, words: str, fix: str) -> None:
    error = connection_error(HOST, said)
    assert isinstance(error, DeviceError)
    assert error.exit_code == 5
    assert str(error).startswith("pi@board: ")
    assert words in str(error)
    assert fix in str(error)
    assert "\n" not in str(error)


def test_a_broken_ssh_config_is_the_users_to_mend() -> None:
    said = (
        "/home/me/.ssh/config: line 3: Bad configuration option: prot\r\n/home/me/.ssh/config: terminating, 1 bad\r\n"
    )
    error = connection_error(HOST, said)
    assert isinstance(error, InputError)
    assert "line 3: Bad configuration option: prot" in str(error)


def test_what_a_board_says_cannot_steer_the_terminal() -> None:
    assert printable("\x1b]0;title\x07 a\tb\u202e\r\nc") == "]0;title a b c"
    assert quoted("first\n\x1b[31mError: no\n\n") == "[31mError: no"
    assert quoted("Error: bad thing.\n") == "bad thing"
    assert len(quoted("x" * 10_000)) <= 201
