"""Fixtures of tests that need a board: one that is this machine, over a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host_board import HostBoard, running_board

from edgevit.remote.connection import SshOptions


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostBoard]:
    """A board of this machine's architecture whose python3 has numpy and ONNX Runtime; ssh calls it 'board'."""
    with running_board(tmp_path_factory.mktemp("board")) as running:
        yield running


@pytest.fixture
def ssh(board: HostBoard) -> SshOptions:
    """How ssh reaches the board."""
    return SshOptions(config=Path(board.config))
