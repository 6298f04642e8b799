"""Sorting, and searching in what is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DEFAULT_INT
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.op import Case
from ..ir.trace import aval_of
from .batching import everywhere
from .convert import one_dtype
from .families import special
from .gather import gather
from .linear import concat_, iota, reshape, slice_


def every_index(indices: Any, axis: int) -> list[Any]:
    """An index tensor per axis: ``indices`` along ``axis``, and each element's own place along the others."""
    shape = aval_of(indices).shape
    return [indices if a == axis else iota(shape=shape, axis=a) for a in range(len(shape))]


def along(x: Any, indices: Any, axis: int) -> Any:
    """One element of ``x`` per index along ``axis``; outside that axis the shapes agree."""
    return gather(x, *every_index(indices, axis), axes=tuple(range(x.ndim)))


def _order_normalize(x: Aval, *, axis: int = -1, descending: bool = False, stable: bool = True) -> dict[str, Any]:
    axis = shapes.normalize_axis(axis, len(x.shape))
    return {"axis": axis, "descending": bool(descending), "stable": bool(stable)}


# Whole numbers in random order: no two are so close that a numerical difference could swap them.
def _distinct(*shape: int) -> Any:
    return lambda rng, dtype: [rng.permutation(shapes.size(shape)).reshape(shape).astype(dtype)]


def _tied(rng: np.random.Generator, dtype: Any) -> list[Any]:
    return [rng.integers(0, 3, (4, 5)).astype(dtype)]


_CASES = [
    Case(_distinct(5)),
    Case(_distinct(3, 4), {"axis": 0, "descending": True}),
    Case(_distinct(2, 3, 4), {"axis": 1, "stable": False}),
    Case(_tied, {"descending": True}, smooth=False),
    Case(lambda rng, dtype: [np.array([2.0, np.nan, -np.inf, np.nan, 0.0], dtype)], smooth=False),
    Case(_distinct(0, 3), {"axis": 0}),
]


@special(
    family="library",
    normalize=_order_normalize,
    infer=lambda x, *, axis, descending, stable: Aval(x.shape, DEFAULT_INT),
    vjp=None,
    not_differentiable="positions do not change with the elements, but where they jump",
    batch=lambda batched, x, *, axis, **params: argsort(x, axis=axis + 1, **params),
    convert=one_dtype,
    cases=_CASES,
)
def argsort(x, /, *, axis=-1, descending=False, stable=True):
    """The positions that sort ``x`` along ``axis``: int64. NaN counts as the largest value.

    Equal elements keep their order, in a descending sort too, unless ``stable=False`` leaves it open (which is faster).

    >>> import defnpy as dp
    >>> dp.argsort(dp.asarray([3.0, 1.0, 2.0]))
    Tensor([1, 2, 0], dtype=int64)
    >>> dp.argsort(dp.asarray([1, 2, 2]), descending=True)
    Tensor([1, 2, 0], dtype=int64)
    """
    x = np.asarray(x)
    if not descending:
        return np.argsort(x, axis=axis, stable=stable)
    # Sorted from the other end, so that the order of equal elements is turned round twice.
    return np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, stable=stable), axis)


def _sort_vjp(g: Any, y: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> tuple[Any]:
    # An element that went to place i has the cotangent of place i; the order of the order is where each one went.
    places = argsort(argsort(x, axis=axis, descending=descending), axis=axis)
    return (along(g, places, axis),)


@special(
    family="library",
    normalize=_order_normalize,
    infer=lambda x, *, axis, descending, stable: x,
    vjp=_sort_vjp,
    batch=lambda batched, x, *, axis, **params: sort_(x, axis=axis + 1, **params),
    convert=one_dtype,
    cases=_CASES,
)
def sort_(x, /, *, axis=-1, descending=False, stable=True):
    """The elements in order along ``axis``. NaN counts as the largest value.

    Each element takes the cotangent of the place that it went to; equal elements are told apart by their order in x.

    >>> import defnpy as dp
    >>> dp.sort(dp.asarray([[3.0, 1.0, 2.0]]), descending=True)
    Tensor([[3., 2., 1.]], dtype=float32)
    """
    y = np.sort(x, axis=axis)  # the same elements in every stable or unstable sort
    return np.flip(y, axis) if descending else y


def _search_infer(x: Aval, values: Aval, *, side: str) -> Aval:
    if len(x.shape) != 1:
        raise Mismatch(f"what is searched has one axis, not the shape {x.shape}")
    return Aval(values.shape, DEFAULT_INT)


def _search_normalize(x: Aval, values: Aval, *, side: str = "left") -> dict[str, Any]:
    if side not in ("left", "right"):
        raise Mismatch(f"side is 'left' or 'right', not {side!r}")
    return {"side": side}


def _search_batch(batched: Sequence[bool], x: Any, values: Any, *, side: str) -> Any:
    """Every example searches its own x: sorted together with it, a value stands behind what is smaller of x, and behind
    the values that are smaller."""
    if not batched[0]:
        return searchsorted(x, values, side=side)
    x, values = everywhere(batched, (x, values))
    rows = reshape(values, shape=(x.shape[0], shapes.size(values.shape[1:])))
    first = 0 if side == "left" else x.shape[1]  # a value that is equal to one of x comes before it, or behind it
    both = concat_(rows, x, axis=1) if side == "left" else concat_(x, rows, axis=1)
    among_both = slice_(_ranks(both), starts=(0, first), stops=(x.shape[0], first + rows.shape[1]), steps=(1, 1))
    return reshape(among_both - _ranks(rows), shape=values.shape)


def _ranks(rows: Any) -> Any:
    """The place of each element in its row, when that is sorted."""
    return argsort(argsort(rows, axis=1), axis=1)


def _searched(values: tuple[int, ...]) -> Any:
    return lambda rng, dtype: [np.arange(5).astype(dtype), rng.integers(-1, 6, values).astype(dtype)]


@special(
    family="library",
    normalize=_search_normalize,
    infer=_search_infer,
    vjp=None,
    not_differentiable="positions do not change with the elements, but where they jump",
    batch=_search_batch,
    convert=one_dtype,
    cases=[Case(_searched((2, 3))), Case(_searched(()), {"side": "right"}), Case(_searched((0,)))],
)
def searchsorted(x, values, /, *, side="left"):
    """Where each of ``values`` belongs in ``x``, which is sorted and has one axis: int64, the shape of the values.

    Put in before that place, x stays sorted; of equal elements that is the first (``side="left"``), or the place behind
    the last (``"right"``).

    >>> import defnpy as dp
    >>> dp.searchsorted(dp.asarray([1.0, 2.0, 3.0]), dp.asarray([2.0, 5.0]))
    Tensor([1, 3], dtype=int64)
    """
    return np.searchsorted(x, values, side=side)
