"""Mini-batches of arrays that fit in memory, in an order that a key and the number of the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import random, tree
from ..errors import DataError
from ..tensor import Tensor, wrap

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of ``size`` rows from a container of arrays that have the same number of rows.

    data: tensors or NumPy arrays in any container; a batch is a container of the same form, of tensors.
    key: shuffle the rows; without one they come in the order of the arrays.
    drop_last: leave out the rows that do not fill a batch. They are a smaller batch otherwise, and a compiled function
    is compiled a second time for its shape.

    A loader keeps no state. Iterating over it gives epoch 0 every time; ``loader.epoch(n)`` is another order for every
    ``n``, the same in every process, so that training can stop after any epoch and go on.

    Raises ``DataError`` for arrays of different numbers of rows, and where there is no batch at all.

    >>> import defnpy as dp
    >>> x, t = dp.arange(5), dp.asarray([0, 1, 0, 1, 1])
    >>> for images, labels in dp.data.DataLoader((x, t), 2):
    ...     print(images.tolist(), labels.tolist())
    [0, 1] [0, 1]
    [2, 3] [0, 1]
    [4] [1]
    >>> loader = dp.data.DataLoader({"x": x}, 2, key=dp.random.key(0), drop_last=True)
    >>> len(loader), [batch["x"].tolist() for batch in loader.epoch(1)]
    (2, [[0, 3], [4, 2]])
    """

    def __init__(self, data: Any, size: int, *, key: Tensor | None = None, drop_last: bool = False) -> None:
        leaves, self._structure = tree.flatten(data)
        self._arrays = [np.asarray(leaf) for leaf in leaves]
        self._key = key
        counts = dict.fromkeys(len(array) if array.ndim else None for array in self._arrays)
        if len(counts) != 1 or None in counts:
            shown = ", ".join(
                f"{path} of shape {array.shape}"
                for path, array in zip(tree.paths(data, "data"), self._arrays, strict=True)
            )
            raise DataError(
                f"DataLoader: {shown or 'no arrays'}", hint="expected arrays with the same number of rows, one at least"
            )
        if size < 1:
            raise DataError(f"DataLoader: batches of {size} rows", hint="expected a size from 1")
        self.rows, self.size = len(self._arrays[0]), size
        self._stop = self.rows // size * size if drop_last else self.rows
        if not self._stop:
            smaller = f"choose a size up to {self.rows}, or drop_last=False" if self.rows else "expected rows"
            raise DataError(f"DataLoader: {self.rows} rows make no batch of {size}", hint=smaller)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-self._stop // self.size)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of an epoch, numbered from 0."""
        order = None if self._key is None else _permutation(random.fold_in(self._key, number), self.rows)
        for start in range(0, self._stop, self.size):
            rows = np.arange(start, min(start + self.size, self._stop))
            chosen = rows if order is None else order[rows]
            # Taken by their numbers, the rows are copies: what becomes of the arrays later does not reach a batch.
            yield tree.unflatten(self._structure, [wrap(np.take(array, chosen, axis=0)) for array in self._arrays])


def _permutation(key: Tensor, count: int) -> np.ndarray:
    """The numbers below ``count`` in a random order: that of as many 64-bit numbers (ties are settled by position)."""
    return np.argsort(np.asarray(random.bits(key, (count,), dtype="uint64")), kind="stable")
