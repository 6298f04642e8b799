"""What is seen while training runs: lines, and on a terminal a bar below them."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol

__all__ = ["Bar", "Lines", "Progress", "progress"]


class Progress(Protocol):
    """A context manager that shows lines and how far training is."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def line(self, text: str) -> None:
        """Show a line that stays."""

    def update(self, done: int, loss: float, images_per_second: float) -> None:
        """Show the state of training."""


class Lines:
    """Plain lines, for files and pipes; the state between them is not shown."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def line(self, text: str) -> None:
        print(text, flush=True)

    def update(self, done: int, loss: float, images_per_second: float) -> None:
        return None


class Bar:
    """A bar with the loss and the images per second, and lines above it."""

    def __init__(self, total: int, done: int) -> None:
        # Imported here: it costs as much as a thousand iterations, and a run without a terminal never shows a bar.
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("iteration"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            refresh_per_second=5,
        )
        self._task = self._bar.add_task("training", total=total, completed=done, state="compiling")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, done: int, loss: float, images_per_second: float) -> None:
        self._bar.update(self._task, completed=done, state=f"loss {loss:.4f}  {images_per_second:,.0f} images/s")


def progress(total: int, done: int) -> Progress:
    """A bar where the output is a terminal, else lines. ``done`` of ``total`` iterations are behind us."""
    return Bar(total, done) if sys.stdout.isatty() else Lines()
