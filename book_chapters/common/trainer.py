"""The training loop: a pure step, repeated; the rest is left to the caller (book: ``common/trainer.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import defnpy as dp
from defnpy.data import batch_indices
from defnpy.errors import TrainingError

from .data import PART_ROWS, parts

__all__ = ["Trained", "accuracy", "batch", "finite", "mean_of_last", "train"]

BLOCK = 100

Step = Callable[[Any, Any], tuple[Any, dp.Tensor]]  # state and iteration -> the next state, and the loss


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
    step: Step,
    state: Any,
    iters: int,
    *,
    every: int = 0,
    evaluate: Callable[[int, Any], Any] | None = None,
    compiled: bool = False,
) -> Trained:
    """``state, loss = step(state, iteration)``, ``iters`` times; evaluated after iterations 0, every, 2 every ...

    So "epoch 0" is seen after one update, and the last evaluation may lie before the end, both as in the book. The loss
    is that of the state before its update, from the gradient's own forward pass; the book computes a second one after.

    compiled: do up to a hundred iterations in one call of one compiled loop, so that nothing runs in Python between
    them. Worth it for many short steps: every call of ``train`` compiles a loop of its own.

    Raises ``TrainingError``, naming the iteration, when a loss is not finite.
    """
    advance = _compiled(step) if compiled else _one_by_one(step)
    losses: list[float] = []
    evaluations: list[tuple[int, Any]] = []
    for block in _blocks(iters, every if evaluate is not None else 0):
        state, found = advance(state, block)
        losses += finite(found, block.start)
        if evaluate is not None and every > 0 and block[-1] % every == 0:
            evaluations.append((block[-1], evaluate(block[-1], state)))
    return Trained(state, losses, evaluations)


def _blocks(iters: int, every: int) -> Iterator[range]:
    """The iterations, cut behind those that are evaluated and after every hundred."""
    start = 0
    while start < iters:
        stop = min(start + BLOCK, iters)
        if every > 0:
            stop = min(stop, -(-start // every) * every + 1)
        yield range(start, stop)
        start = stop


def _one_by_one(step: Step) -> Callable[[Any, range], tuple[Any, list[float]]]:
    def advance(state: Any, block: range) -> tuple[Any, list[float]]:
        pending = []
        for iteration in block:
            state, loss = step(state, iteration)
            pending.append(loss)
        return state, [float(loss) for loss in pending]

    return advance


def _compiled(step: Step) -> Callable[[Any, range], tuple[Any, list[float]]]:
    @dp.defn
    def iterate(state: Any, first: int, count: int) -> tuple[Any, dp.Tensor]:
        def body(i: Any, carry: Any) -> Any:
            state, losses = carry
            state, loss = step(state, first + i)
            return state, dp.where(dp.arange(BLOCK) == i, loss, losses)

        return dp.fori_loop(0, count, body, (state, dp.zeros(BLOCK, dtype=dp.float64)))

    def advance(state: Any, block: range) -> tuple[Any, list[float]]:
        state, losses = iterate(state, block.start, len(block))
        return state, losses.tolist()[: len(block)]

    return advance


def finite(values: list[float], done: int) -> list[float]:
    """The losses, ``done`` others before them. Raises ``TrainingError`` for the first that is not finite."""
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
