"""What commands that look at one board over ssh share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.machine.facts import Facts


def facts_over_ssh(host: str, ssh_config: Path | None, arguments: Sequence[str] = ()) -> Facts:
    """What the board says of itself; a spinner on the terminal meanwhile. arguments: of board/facts.py."""
    from edgevit.cli.progress import TerminalProgress
    from edgevit.remote.connection import SshOptions
    from edgevit.remote.gather import gather_board_facts
    from edgevit.remote.host import parse_host

    board = parse_host(host)
    with TerminalProgress() as progress:
        progress.stage(f"Looking at {board}")
        return gather_board_facts(board, SshOptions(ssh_config), arguments)
