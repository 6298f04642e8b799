"""Along an axis: cumulative sums and products, differences, order statistics."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import shapes
from ..dtypes import DEFAULT_INT, as_dtype
from ..errors import Mismatch
from ..ir.expr import Value
from ..ir.trace import aval_of, function
from ..ops import cumulative, linear
from ..ops import elementwise as e
from ..ops.convert import cast
from ..ops.logic import not_equal
from ..ops.sort import along, argsort, sort_
from .indexing import getitem
from .manipulation import moveaxis
from .statistics import _float

__all__ = ["TopK", "cumulative_prod", "cumulative_sum", "diff", "median", "quantile", "top_k"]


@function
def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False, reverse: bool = False
) -> Any:
    """The sums of all elements up to each place along ``axis``, its own included; from the end with ``reverse=True``.

    axis: may be left out where there is only one. dtype: the one to sum in; by default that of :func:`dp.sum`.
    include_initial: begin with the sum of nothing, 0, so that the axis grows by one.

    >>> import defnpy as dp
    >>> dp.cumulative_sum(dp.asarray([1, 2, 3]), include_initial=True)
    Tensor([0, 1, 3, 6], dtype=int64)
    """
    return _cumulative(cumulative.cumulative_sum, 0, x, axis, dtype, include_initial, reverse)


@function
def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False, reverse: bool = False
) -> Any:
    """The products of all elements up to each place along ``axis``, its own included; from the end with
    ``reverse=True``. The gradient is right at zeros too.

    axis: may be left out where there is only one. dtype: the one to multiply in; by default that of :func:`dp.prod`.
    include_initial: begin with the product of nothing, 1, so that the axis grows by one.

    >>> import defnpy as dp
    >>> dp.cumulative_prod(dp.asarray([1, 2, 3, 4]))
    Tensor([ 1,  2,  6, 24], dtype=int64)
    """
    return _cumulative(cumulative.cumulative_prod, 1, x, axis, dtype, include_initial, reverse)


def _cumulative(op: Any, start: int, x: Any, axis: int | None, dtype: Any, initial: bool, reverse: bool) -> Any:
    if dtype is not None:
        x = cast(x, as_dtype(dtype))
    ndim = len(aval_of(x).shape)
    if axis is None:
        if ndim != 1:
            raise Mismatch(f"say along which of the {ndim} axes", hint="axis=-1")
        axis = 0
    result = op(x, axis=axis, reverse=reverse)
    if not initial:
        return cast(result, as_dtype(dtype)) if dtype is not None else result
    one = tuple(int(a == axis % ndim) for a in range(ndim))
    none = (0,) * ndim
    return linear.pad(result, low=none if reverse else one, high=one if reverse else none, value=start)


@function
def diff(x: Any, /, *, n: int = 1, axis: int = -1) -> Any:
    """The differences of neighbours along ``axis``, ``n`` times over; the axis gets shorter by n.

    >>> import defnpy as dp
    >>> dp.diff(dp.asarray([1.0, 4.0, 9.0, 16.0]), n=2)
    Tensor([2., 2.], dtype=float32)
    """
    if n < 0:
        raise Mismatch(f"the number of differences is {n}", hint="take 0 or more")
    axis = shapes.normalize_axis(axis, len(aval_of(x).shape))
    front = (slice(None),) * axis
    for _ in range(n):
        later, earlier = getitem(x, (*front, slice(1, None))), getitem(x, (*front, slice(None, -1)))
        x = not_equal(later, earlier) if x.dtype.kind == "b" else later - earlier
    return x


class TopK(NamedTuple):
    """What :func:`top_k` returns: the largest elements, and where they stand."""

    values: Any
    indices: Any


@function
def top_k(x: Any, k: int, /, *, axis: int = -1) -> TopK:
    """The ``k`` largest elements along ``axis``, in descending order, and their positions. NaN counts as the largest.

    Of equal elements the first ones are taken. The gradient goes to the elements that were taken.

    >>> import defnpy as dp
    >>> values, indices = dp.top_k(dp.asarray([3.0, 9.0, 5.0]), 2)
    >>> values, indices
    (Tensor([9., 5.], dtype=float32), Tensor([1, 2], dtype=int64))
    """
    shape = aval_of(x).shape
    axis = shapes.normalize_axis(axis, len(shape))
    if not 0 <= k <= shape[axis]:
        raise Mismatch(f"there are no {k} largest of the {shape[axis]} elements of axis {axis}")
    indices = getitem(argsort(x, axis=axis, descending=True), (*(slice(None),) * axis, slice(k)))
    return TopK(along(x, indices, axis), indices)


@function
def quantile(x: Any, q: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """The value below which the fraction ``q`` of the elements over ``axis`` lies; a straight line between two of them.

    q: numbers from 0 to 1; its axes come first in the result. NaN if one of the elements is NaN. The gradient goes to
    the two elements around the place, and to q by the slope of the line.

    >>> import defnpy as dp
    >>> dp.quantile(dp.asarray([1.0, 2.0, 4.0, 8.0]), 0.5)
    Tensor(3., dtype=float32)
    """
    x = _float(x)
    axes = shapes.normalize_axes(axis, x.ndim)
    if isinstance(q, (int, float)) and not 0 <= q <= 1:
        raise Mismatch(f"q is a fraction between 0 and 1, not {q}")
    if any(x.shape[a] == 0 for a in axes):
        raise Mismatch("nothing has no quantile: an axis of x has size 0")
    kept = tuple(n for a, n in enumerate(x.shape) if a not in axes)
    count = math.prod(x.shape[a] for a in axes)
    rows = linear.reshape(moveaxis(x, axes, tuple(range(x.ndim - len(axes), x.ndim))), shape=(*kept, count))
    rows = sort_(rows, axis=-1)
    place = (q if isinstance(q, Value) else cast(q, x.dtype)) * (count - 1)
    below = e.floor(place)
    first = cast(below, DEFAULT_INT)
    low, high = getitem(rows, (..., first)), getitem(rows, (..., e.minimum(first + 1, count - 1)))
    result = low + (high - low) * cast(place - below, x.dtype)
    largest = linear.reshape(getitem(rows, (..., -1)), shape=(*kept, *(1,) * place.ndim))
    result = e.where(not_equal(largest, largest), largest, result)
    result = moveaxis(result, tuple(range(len(kept), result.ndim)), tuple(range(place.ndim)))
    if keepdims:
        ones = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        result = linear.reshape(result, shape=(*place.shape, *ones))
    return result


@function
def median(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """The middle element over ``axis`` (int, tuple, None for all), or the average of the two in the middle.

    NaN if one of the elements is NaN.

    >>> import defnpy as dp
    >>> dp.median(dp.asarray([[1.0, 9.0, 2.0], [4.0, 3.0, 5.0]]), axis=1)
    Tensor([2., 4.], dtype=float32)
    """
    return quantile(x, 0.5, axis=axis, keepdims=keepdims)
