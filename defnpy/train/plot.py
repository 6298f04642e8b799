"""The curves of a run as a picture. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .atomic import replacing

if TYPE_CHECKING:
    from .result import Result

__all__ = ["plot", "require"]

FORMATS = ("pdf", "png", "svg")
SMOOTH = 100


def require(path: Path) -> None:
    """Raise ``ConfigError`` if :func:`plot` could not draw to ``path``: asked before training, not after."""
    if path.suffix.removeprefix(".") not in FORMATS:
        raise ConfigError(f"--plot {path}: unknown kind of picture", hint=f"end the name in .{', .'.join(FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib, which is not installed", hint="pip install 'defnpy[plot]'")


def plot(path: Path, result: Result) -> None:
    """Draw the loss of every iteration with its running mean, and the accuracy after every epoch, to ``path``."""
    # The Figure without pyplot needs no display and leaves no state behind.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = result.first_iteration
    iterations = range(first + 1, first + len(result.losses) + 1)
    left.plot(iterations, result.losses, color="lightgrey", label="batch")
    left.plot(iterations, running_mean(result.losses, SMOOTH), label=f"mean of the last {SMOOTH}")
    left.set(xlabel="iteration", ylabel="loss", ylim=(0, None))
    at = [evaluation.iteration for evaluation in result.evaluations]
    right.plot(at, [evaluation.train_accuracy for evaluation in result.evaluations], "o-", label="train")
    right.plot(at, [evaluation.test_accuracy for evaluation in result.evaluations], "s--", label="test")
    right.set(xlabel="iteration", ylabel="accuracy", ylim=(0, 1))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=120)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """The mean of the last ``width`` values at each place, of fewer at the start.

    >>> running_mean([1.0, 3.0, 5.0], 2)
    [1.0, 2.0, 4.0]
    """
    windows = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]
