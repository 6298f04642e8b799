"""The training loop: a pure step, repeated; the rest is left to the caller (book: ``common/trainer.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import defnpy as dp
from defnpy.data import batch_indices
from defnpy.errors import TrainingError

from .data import PART_ROWS, parts

__all__ = ["Trained", "accuracy", "batch", "mean_of_last", "train"]

BLOCK = 100


class Trained(NamedTuple):
    """state: after the last iteration. losses: one per iteration, before its update. evaluations: what came back."""

    state: Any
    losses: list[float]
    evaluations: list[tuple[int, Any]]


def batch(key: dp.Tensor, iteration: Any, size: int, *arrays: dp.Tensor) -> tuple[dp.Tensor, ...]:
    """The rows of the arrays that make up a batch: ``size`` of them, drawn with replacement, as the book draws them.

    An "epoch" of (rows / size) batches is therefore no pass over the data. Key and iteration alone decide: no global
    generator moves on. Works inside ``@defn`` with a traced iteration.

    >>> (x,) = batch(dp.random.key(0), 3, 4, dp.arange(10))
    >>> x.shape
    (4,)
    """
    rows = batch_indices(key, iteration, arrays[0].shape[0], size)
    return tuple(dp.take(array, rows, axis=0) for array in arrays)


def train(
    step: Callable[[Any, int], tuple[Any, dp.Tensor]],
    state: Any,
    iters: int,
    *,
    every: int = 0,
    evaluate: Callable[[int, Any], Any] | None = None,
) -> Trained:
    """``state, loss = step(state, iteration)``, ``iters`` times; evaluated after iterations 0, every, 2 every ...

    So "epoch 0" is seen after one update, and the last evaluation may lie before the end, both as in the book. The loss
    is that of the state before its update, from the gradient's own forward pass; the book computes a second one after.

    Raises ``TrainingError``, naming the iteration, when a loss is not finite.
    """
    losses: list[float] = []
    pending: list[dp.Tensor] = []
    evaluations: list[tuple[int, Any]] = []
    for iteration in range(iters):
        state, loss = step(state, iteration)
        pending.append(loss)
        seen = evaluate is not None and every > 0 and iteration % every == 0
        if seen or len(pending) == BLOCK or iteration + 1 == iters:
            losses += _finite(pending, len(losses))
            pending = []
        if seen and evaluate is not None:
            evaluations.append((iteration, evaluate(iteration, state)))
    return Trained(state, losses, evaluations)


def _finite(pending: list[dp.Tensor], done: int) -> list[float]:
    values = [float(loss) for loss in pending]
    for number, value in enumerate(values, done + 1):
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at iteration {number}",
                hint="the updates grew without bound: try a smaller learning rate",
            )
    return values


def accuracy(predict: Callable[[dp.Tensor], dp.Tensor], images: Any, labels: Any, rows: int = PART_ROWS) -> float:
    """The share of images whose largest score stands at their label; in parts, the last one included.

    >>> accuracy(lambda x: x, dp.eye(3), dp.asarray([0, 1, 1]), rows=2)
    0.6666666666666666
    """
    right = sum(int(dp.sum(dp.argmax(predict(x), axis=-1) == t)) for x, t in parts(images, labels, rows=rows))
    return right / len(labels)


def mean_of_last(losses: list[float], count: int = 100) -> float:
    """The mean of the last ``count`` losses: one batch's loss is noise.

    >>> mean_of_last([9.0, 1.0, 2.0], 2)
    1.5
    """
    last = losses[-count:]
    return sum(last) / len(last)
