"""A cable between ssh and its board that a test can cut, silence or make slow: a proxy on 127.0.0.1."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

PIECE_BYTES = 16 * 1024


class Cable:
    """Forwards connections to `port`. bytes_per_s: of each direction, None for no limit."""

    def __init__(self, port: int, bytes_per_s: float | None = None) -> None:
        self._target = port
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self._is_cut = False
        self._is_silent = False
        self.carried = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Both ends see the connection end, and nobody can connect any more."""
        self._is_cut = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """Nothing arrives any more, and nobody is told: a board without power, a pulled plug."""
        self._is_silent = True

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends += [near, far]
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with near, far, contextlib.suppress(OSError):
            while True:
                for source in select.select([near, far], [], [], 1.0)[0]:
                    piece = source.recv(PIECE_BYTES)
                    if self._is_silent:
                        continue
                    if not piece:
                        return
                    if self._bytes_per_s:
                        time.sleep(len(piece) / self._bytes_per_s)
                    other[source].sendall(piece)
                    self.carried += len(piece)


@contextlib.contextmanager
def cable_to(port: int, bytes_per_s: float | None = None) -> Iterator[Cable]:
    cable = Cable(port, bytes_per_s)
    try:
        yield cable
    finally:
        cable.close()
