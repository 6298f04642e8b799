"""Pictures that several pages draw, on a matplotlib figure that is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["accuracies", "curve"]


def curve(figure: Any, x: Sequence[float], y: Sequence[float], **settings: Any) -> None:
    """One line; ``settings`` are those of matplotlib's axes (ylim, xlabel ...)."""
    axes = figure.subplots()
    axes.plot(x, y)
    axes.set(**settings)


def accuracies(
    figure: Any, epochs: Sequence[float], lines: Mapping[str, Sequence[float]], *, mark: bool = False, every: int = 1
) -> None:
    """Accuracies against epochs, the first solid, the others dashed; with ``mark``, markers o and s as the book's."""
    axes = figure.subplots()
    for (name, values), style, marker in zip(lines.items(), ("-", "--", ":"), ("o", "s", "D"), strict=False):
        axes.plot(epochs, values, style, label=name, marker=marker if mark else None, markevery=every)
    axes.set(xlabel="epochs", ylabel="accuracy", ylim=(0, 1.0))
    axes.legend(loc="lower right")
