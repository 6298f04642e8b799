"""Labels as positions, as rows with a single 1, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..array.creation import asarray
from ..array.indexing import take
from ..array.manipulation import expand_dims
from ..dtypes import DEFAULT_FLOAT
from ..errors import DataError
from ..ir.expr import Expr
from ..ops.convert import astype
from ..ops.logic import equal
from ..ops.reduce import argmax

__all__ = ["one_cold", "one_hot"]


def one_hot(values: Any, labels: int | Sequence[Any], /, *, dtype: Any = DEFAULT_FLOAT) -> Any:
    """1 where a value equals a label, 0 elsewhere: one more axis at the end, with a place for every label.

    labels: the labels in their order, or their number ``n`` for ``range(n)``. The values may be words too, outside of
    traced code. A value that is none of the labels is a ``DataError``; in traced code, where values are not known, it
    gives a row of zeros, as ``dp.one_hot`` does.

    >>> import defnpy as dp
    >>> dp.data.one_hot([2, 0], 3)
    Tensor([[0., 0., 1.],
            [1., 0., 0.]], dtype=float32)
    >>> dp.data.one_hot(["no", "yes"], ("yes", "no"), dtype="uint8")
    Tensor([[0, 1],
            [1, 0]], dtype=uint8)
    """
    known = np.arange(labels) if isinstance(labels, int) else np.asarray(labels)
    if isinstance(values, Expr):
        return astype(equal(expand_dims(values, axis=-1), asarray(known)), dtype=dtype)
    given = np.asarray(values)
    found = given[..., None] == known
    if np.ndim(found) != given.ndim + 1 or not found.any(axis=-1).all():
        strange = given[~found.any(axis=-1)].tolist()[:3] if np.ndim(found) == given.ndim + 1 else given.tolist()
        raise DataError(
            f"one_hot: {', '.join(map(repr, strange))} in the values and not in the labels",
            hint=f"the labels are {', '.join(map(repr, known.tolist()[:12]))}{' ...' * (len(known) > 12)}",
        )
    return asarray(found.astype(np.dtype(dtype)))


def one_cold(scores: Any, labels: Sequence[Any] | None = None, /) -> Any:
    """The label of the largest score along the last axis: the inverse of :func:`one_hot`, and what a net answers.

    Without labels it is the position, counted from 0, int64. Words come as a NumPy array, outside of traced code.

    >>> import defnpy as dp
    >>> scores = dp.asarray([[0.1, 2.0, 0.3], [5.0, 0.0, 1.0]])
    >>> dp.data.one_cold(scores), dp.data.one_cold(scores, (10, 20, 30))
    (Tensor([1, 0], dtype=int64), Tensor([20, 10], dtype=int64))
    >>> dp.data.one_cold(scores, ["cat", "dog", "bird"]).tolist()
    ['dog', 'cat']
    """
    place = argmax(scores, axis=-1)
    if labels is None:
        return place
    known = np.asarray(labels)
    count = asarray(scores).shape[-1]
    if known.shape != (count,):
        raise DataError(
            f"one_cold: {count} scores and labels of shape {known.shape}", hint="expected a label for every score"
        )
    return take(asarray(known), place) if known.dtype.kind in "biuf" else known[np.asarray(place)]
