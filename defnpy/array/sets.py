"""Functions whose result is as long as the values decide: of concrete tensors only, a trace knows no values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import Mismatch, TraceError
from ..ir.expr import Expr
from ..ir.trace import function
from ..tensor import Tensor
from .creation import asarray

__all__ = [
    "UniqueAll",
    "UniqueCounts",
    "UniqueInverse",
    "nonzero",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


class UniqueAll(NamedTuple):
    """What :func:`unique_all` returns.

    >>> import defnpy as dp
    >>> dp.unique_all(dp.asarray([3, 1, 3]))._fields
    ('values', 'indices', 'inverse_indices', 'counts')
    """

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What :func:`unique_counts` returns.

    >>> import defnpy as dp
    >>> dp.unique_counts(dp.asarray([3, 1, 3])).counts
    Tensor([1, 2], dtype=int64)
    """

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What :func:`unique_inverse` returns.

    >>> import defnpy as dp
    >>> dp.unique_inverse(dp.asarray([3, 1, 3])).inverse_indices
    Tensor([1, 0, 1], dtype=int64)
    """

    values: Tensor
    inverse_indices: Tensor


def _concrete(x: Any, hint: str) -> np.ndarray[Any, Any]:
    if isinstance(x, Expr):
        what = "how many elements the result has depends on values, which a trace does not know"
        raise Mismatch(what, hint=hint, error=TraceError)
    return np.asarray(asarray(x))


_SORTED = "sort instead, the length stays: dp.sort(x); equal neighbours are told by dp.diff(...) == 0"


def _unique(x: Any) -> list[Tensor]:
    """Values in ascending order, where each stands first, which one every element is, and how often each occurs."""
    array = _concrete(x, _SORTED)
    values, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    return [asarray(part) for part in (values, first, inverse.reshape(array.shape), counts)]


@function
def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """Where x is not zero: for each axis the positions along it, in row-major order. Of a concrete tensor.

    >>> import defnpy as dp
    >>> dp.nonzero(dp.asarray([[0, 7], [8, 0]]))
    (Tensor([0, 1], dtype=int64), Tensor([1, 0], dtype=int64))
    """
    array = _concrete(x, "keep the shape and blend instead: dp.where(x != 0, y, 0)")
    if array.ndim == 0:
        raise Mismatch("a number has no positions", hint="compare it: x != 0")
    return tuple(asarray(places) for places in np.nonzero(array))


@function
def unique_values(x: Any, /) -> Tensor:
    """Every value of x once, in ascending order; each NaN is a value of its own. Of a concrete tensor.

    >>> import defnpy as dp
    >>> dp.unique_values(dp.asarray([3, 1, 3]))
    Tensor([1, 3], dtype=int64)
    """
    return _unique(x)[0]


@function
def unique_counts(x: Any, /) -> UniqueCounts:
    """:func:`unique_values`, and how often each occurs.

    >>> import defnpy as dp
    >>> dp.unique_counts(dp.asarray([3, 1, 3])).counts
    Tensor([1, 2], dtype=int64)
    """
    values, _, _, counts = _unique(x)
    return UniqueCounts(values, counts)


@function
def unique_inverse(x: Any, /) -> UniqueInverse:
    """:func:`unique_values`, and which of them each element of x is, in the shape of x.

    >>> import defnpy as dp
    >>> values, inverse = dp.unique_inverse(dp.asarray([3, 1, 3]))
    >>> values[inverse]
    Tensor([3, 1, 3], dtype=int64)
    """
    values, _, inverse, _ = _unique(x)
    return UniqueInverse(values, inverse)


@function
def unique_all(x: Any, /) -> UniqueAll:
    """:func:`unique_values`, where each stands first among all elements, which one each element is, and how often.

    >>> import defnpy as dp
    >>> dp.unique_all(dp.asarray([3, 1, 3])).indices
    Tensor([1, 0], dtype=int64)
    """
    return UniqueAll(*_unique(x))
