"""Progress on the terminal: a bar on stderr, and nothing but the notes where stderr is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class TerminalProgress:
    """Implements edgevit.progress.Progress. Redrawn four times a second, so that a long step is seen to be alive."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[detail]}"),
            console=self._console, refresh_per_second=4, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None and kind is None:
            self._finish(self._task)
        self._bars.stop()

    def stage(self, title: str) -> None:
        if self._task is not None:
            self._finish(self._task)
        self._task = self._bars.add_task(title, total=None, detail="")

    def update(self, done: int, total: int, detail: str = "") -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, detail=detail)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=not self._console.is_terminal)

    def _finish(self, task: TaskID) -> None:
        """A stage that is done has its bar full, whatever it counted last."""
        state = self._bars.tasks[self._bars.task_ids.index(task)]
        total = state.total or max(1, state.completed)
        self._bars.update(task, completed=total, total=total)
