"""Which rows make up a batch: a function of a key and the number of the iteration, of nothing else."""

from __future__ import annotations

from .. import random
from ..dtypes import int32
from ..tensor import Tensor

__all__ = ["batch_indices"]


def batch_indices(key: Tensor, iteration: Tensor | int, count: int, size: int) -> Tensor:
    """``size`` row numbers below ``count``, drawn uniformly with replacement: int32 (size,).

    key: a random key; every iteration folds its own number into it, so a run that is continued at some
    iteration draws the batches that an uninterrupted run would have drawn.

    Works on values and inside ``defn``, where ``iteration`` may be traced: one compilation serves them all.

    >>> import defnpy as dp
    >>> rows = batch_indices(dp.random.key(0), 7, 60_000, 100)
    >>> rows.shape
    (100,)
    >>> bool((rows == batch_indices(dp.random.key(0), 7, 60_000, 100)).all())
    True
    """
    return random.randint(random.fold_in(key, iteration), (size,), 0, count, dtype=int32)
