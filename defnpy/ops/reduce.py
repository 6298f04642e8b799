"""The reductions that are not linear (``sum`` is in linear.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DEFAULT_INT, bool_
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.op import Op
from .convert import cast
from .elementwise import where
from .families import reduction, uniform, widened
from .linear import broadcast_to, concat_, flip, inverse, permute_dims, reshape, restore, slice_, sum_
from .logic import equal, logical_or, not_equal

_REAL, _INTEGER, _BOOL = uniform(-3, 3), uniform(-5, 6, "i"), uniform(0, 2, "b")


def _not_empty(x: Aval, axis: shapes.Axes) -> None:
    for a in axis:
        if x.shape[a] == 0:
            raise Mismatch(f"axis {a} has size 0, and nothing has no extremum", hint="check x.size before")


def _extremum_vjp(g: Any, y: Any, x: Any, *, axis: shapes.Axes, keepdims: bool) -> tuple[Any]:
    hit = logical_or(equal(x, restore(y, x, axis)), not_equal(x, x))
    count = restore(sum_(cast(hit, g.dtype), axis=axis), x, axis)
    return (where(hit, restore(g, x, axis) / count, 0),)


_extremum_reduction = reduction(vjp=_extremum_vjp, domains=[_REAL, _INTEGER], check=_not_empty, empty=False)


@_extremum_reduction
def max_(x, /, *, axis=None, keepdims=False):
    """The largest element over ``axis`` (int, tuple, None for all); NaN if one is NaN.

    The gradient is split evenly between equal largest elements. An axis of size 0 is an error.

    >>> import defnpy as dp
    >>> dp.max(dp.asarray([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    Tensor([5., 3.], dtype=float32)
    """
    return np.max(x, axis=axis, keepdims=keepdims)


@_extremum_reduction
def min_(x, /, *, axis=None, keepdims=False):
    """The smallest element over ``axis`` (int, tuple, None for all); NaN if one is NaN.

    The gradient is split evenly between equal smallest elements. An axis of size 0 is an error.

    >>> import defnpy as dp
    >>> dp.min(dp.asarray([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    Tensor([1., 2.], dtype=float32)
    """
    return np.min(x, axis=axis, keepdims=keepdims)


def _scan_product(x: Any) -> Any:
    """The products of all elements before each one along the last axis, in log2(n) steps."""
    n = x.shape[-1]
    front = (0,) * (x.ndim - 1)
    ones = broadcast_to(np.ones((), x.dtype)[()], shape=(*x.shape[:-1], 1))
    result = concat_(ones, slice_(x, starts=(*front, 0), stops=(*x.shape[:-1], n - 1), steps=(1,) * x.ndim), axis=-1)
    step = 1
    while step < n:
        kept = slice_(result, starts=(*front, 0), stops=(*x.shape[:-1], n - step), steps=(1,) * x.ndim)
        shifted = concat_(broadcast_to(np.ones((), x.dtype)[()], shape=(*x.shape[:-1], step)), kept, axis=-1)
        result = result * shifted
        step *= 2
    return result


def _prod_vjp(g: Any, y: Any, x: Any, *, axis: shapes.Axes, keepdims: bool) -> tuple[Any]:
    # The product of the others, without dividing by x: an element may be 0.
    if 0 in x.shape:
        return (broadcast_to(restore(g, x, axis), shape=x.shape),)
    kept = tuple(a for a in range(x.ndim) if a not in axis)
    front = permute_dims(x, axes=kept + axis)
    rows = reshape(front, shape=(*shapes.reduce(x.shape, axis), shapes.size(tuple(x.shape[a] for a in axis))))
    others = _scan_product(rows) * flip(_scan_product(flip(rows, axis=-1)), axis=-1)
    others = permute_dims(reshape(others, shape=front.shape), axes=inverse(kept + axis))
    return (restore(g, x, axis) * others,)


@reduction(vjp=_prod_vjp, domains=[_REAL, _INTEGER], kinds="biuf", out=widened)
def prod_(x, /, *, axis=None, keepdims=False):
    """The product over ``axis`` (int, tuple, None for all); of nothing it is 1. Its gradient is right at zeros too.

    >>> import defnpy as dp
    >>> dp.prod(dp.asarray([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([3., 8.], dtype=float32)
    """
    return np.prod(x, axis=axis, keepdims=keepdims, dtype=widened(np.asarray(x).dtype))


_LOGIC = "it has no numbers to differentiate"


def _truth(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    """Of numbers, whether they are not 0; NaN is not."""
    return [cast(x, bool_) for x in args]


@reduction(vjp=None, not_differentiable=_LOGIC, domains=[_BOOL], kinds="b", out=lambda dtype: bool_, convert=_truth)
def any_(x, /, *, axis=None, keepdims=False):
    """Whether at least one element over ``axis`` holds; a number does unless it is 0.

    >>> import defnpy as dp
    >>> dp.any(dp.asarray([[True, False], [False, False]]), axis=1)
    Tensor([ True, False])
    """
    return np.any(x, axis=axis, keepdims=keepdims)


@reduction(vjp=None, not_differentiable=_LOGIC, domains=[_BOOL], kinds="b", out=lambda dtype: bool_, convert=_truth)
def all_(x, /, *, axis=None, keepdims=False):
    """Whether all elements over ``axis`` hold; a number does unless it is 0.

    >>> import defnpy as dp
    >>> dp.all(dp.asarray([[True, True], [True, False]]), axis=1)
    Tensor([ True, False])
    """
    return np.all(x, axis=axis, keepdims=keepdims)


def _position(find: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """argmax or argmin over several axes: the flat position among the reduced ones."""
    x = np.asarray(x)
    axes = shapes.normalize_axes(axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    length = shapes.size(tuple(x.shape[a] for a in axes))
    rows = np.transpose(x, kept + axes).reshape([*(x.shape[a] for a in kept), length])
    result = np.asarray(find(rows, axis=-1))
    return result.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else result


_position_reduction = reduction(
    vjp=None,
    not_differentiable="a position is flat almost everywhere",
    domains=[_REAL, _INTEGER],
    out=lambda dtype: DEFAULT_INT,
    check=_not_empty,
    empty=False,
)


@_position_reduction
def argmax(x, /, *, axis=None, keepdims=False):
    """The position of the first largest element (of the first NaN if there is one), as int64.

    Over several axes, or over all with ``axis=None``, it is the position in row-major order among them.

    >>> import defnpy as dp
    >>> dp.argmax(dp.asarray([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    Tensor([1, 0], dtype=int64)
    """
    return _position(np.argmax, x, axis, keepdims)


@_position_reduction
def argmin(x, /, *, axis=None, keepdims=False):
    """The position of the first smallest element (of the first NaN if there is one), as int64.

    Over several axes, or over all with ``axis=None``, it is the position in row-major order among them.

    >>> import defnpy as dp
    >>> dp.argmin(dp.asarray([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    Tensor([0, 1], dtype=int64)
    """
    return _position(np.argmin, x, axis, keepdims)
