"""Progress: how long work says where it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def stage(self, title: str) -> None:
        """A new stage of the work begins: 'Calibrating'."""

    def update(self, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` steps of this stage are behind us; `detail` a figure worth seeing ('top-1 97.2 %')."""

    def note(self, text: str) -> None:
        """Something that the user should know, kept on the screen: a skipped picture, a download."""


class Silence:
    """Nobody listens."""

    def stage(self, title: str) -> None: ...

    def update(self, done: int, total: int, detail: str = "") -> None: ...

    def note(self, text: str) -> None: ...
