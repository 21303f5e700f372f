"""Gathers the facts of a board over ssh: the program that a board runs to describe itself, and what it said."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.board.amalgamate import facts_source
from edgevit.errors import DeviceError
from edgevit.machine.facts import Facts, parse_facts
from edgevit.remote.complaints import quoted
from edgevit.remote.connection import SshOptions, connect
from edgevit.remote.errands import run_program
from edgevit.remote.host import Host

LIMIT_S = 180.0


def gather_board_facts(host: Host, ssh: SshOptions | None = None, arguments: Sequence[str] = ()) -> Facts:
    """What the board says of itself. arguments: of board/facts.py.

    Raises DeviceError when it is unreachable or its program fails, InputError when it says what no board would.
    """
    with connect(host, ssh) as connection:
        ended = run_program(connection, facts_source(), arguments, doing="looking at the board", limit_s=LIMIT_S)
    if ended.code != 0:
        raise DeviceError(f"{host}: cannot describe itself ({quoted(ended.said) or f'exit code {ended.code}'}).")
    return parse_facts(ended.document, str(host))
