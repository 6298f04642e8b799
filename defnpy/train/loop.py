"""The training loop: iterations in blocks, with everything that is not training left to the caller."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import defnpy as dp

from ..errors import TrainingError
from .dataset import Dataset, Part
from .net import Model

__all__ = ["Block", "accuracy", "blocks", "run"]

BLOCK = 100


class Block(NamedTuple):
    """Some iterations in a row.

    done: how many iterations are done now, counted from the start of training (not of a resumed run).
    state: the parameters and all else that training changes, after them.
    losses: one per iteration of the block, each that of the parameters before its update.
    seconds: the time they took.
    """

    done: int
    state: Any
    losses: list[float]
    seconds: float


def blocks(start: int, stop: int, epoch: int) -> Iterator[range]:
    """Cut the iterations from ``start`` to ``stop`` at every epoch's end and every 100th iteration.

    The first iteration is a block of its own: it is the one that compiles.

    >>> list(blocks(0, 250, 150))
    [range(0, 1), range(1, 100), range(100, 150), range(150, 200), range(200, 250)]
    """
    done = start
    while done < stop:
        end = done + 1 if done == start else min(stop, _next(done, BLOCK), _next(done, epoch))
        yield range(done, end)
        done = end


def _next(done: int, every: int) -> int:
    return (done // every + 1) * every


def run(
    model: Model, dataset: Dataset, state: Any, key: dp.Tensor, *, start: int, stop: int, epoch: int, lr: float
) -> Iterator[Block]:
    """Train from iteration ``start`` to ``stop``, yielding after every block.

    A block is one call of one compiled loop, so that between two iterations nothing runs in Python. Iteration ``i``
    draws its batch from ``key`` and ``i`` alone, so continuing from a block's ``done`` and ``state`` gives the bits
    that going on would give.

    Raises ``TrainingError`` that names the first iteration whose loss is not finite.
    """

    @dp.defn
    def iterate(state: Any, first: int, count: int, images: dp.Tensor, labels: dp.Tensor, lr: float) -> Any:
        def body(i: Any, carry: Any) -> Any:
            state, losses = carry
            state, loss = model.step(state, key, first + i, images, labels, lr)
            return state, dp.where(dp.arange(BLOCK) == i, loss, losses)

        return dp.fori_loop(0, count, body, (state, dp.zeros(BLOCK)))

    for block in blocks(start, stop, epoch):
        began = time.perf_counter()
        state, found = iterate(state, block.start, len(block), dataset.images, dataset.labels, lr)
        losses = found.tolist()[: len(block)]
        for iteration, value in zip(block, losses, strict=True):
            if not math.isfinite(value):
                smaller = min(lr / 10, 0.1)
                raise TrainingError(
                    f"the loss is {value} at iteration {iteration + 1}, with learning rate {lr:g}",
                    hint=f"the updates grew without bound: try a smaller learning rate, --lr {smaller:g} for one",
                )
        yield Block(block.stop, state, losses, time.perf_counter() - began)


def accuracy(model: Model, state: Any, parts: list[Part]) -> float:
    """The share of images that get their label, from 0 to 1."""
    right = sum(int(model.correct(state, images, labels)) for images, labels in parts)
    return right / sum(labels.shape[0] for _, labels in parts)
