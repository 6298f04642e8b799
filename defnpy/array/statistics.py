"""Averages, and the stable forms of softmax: composites without rules of their own."""

from __future__ import annotations

import math
from typing import Any

from .. import shapes
from ..dtypes import DEFAULT_FLOAT, iinfo
from ..ir.expr import Value
from ..ir.trace import aval_of, function
from ..ops import elementwise as e
from ..ops.convert import cast
from ..ops.linear import reshape, sum_
from ..ops.logic import equal, isinf, not_equal
from ..ops.mark import stop_grad
from ..ops.reduce import max_

__all__ = [
    "clip",
    "count_nonzero",
    "log_softmax",
    "logsumexp",
    "mean",
    "positive",
    "softmax",
    "softplus",
    "square",
    "std",
    "var",
]


def _float(x: Any) -> Any:
    aval = aval_of(x)
    return (
        x
        if aval.dtype.kind == "f" and isinstance(x, Value)
        else cast(x, DEFAULT_FLOAT if aval.dtype.kind != "f" else aval.dtype)
    )


@function
def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """The average over ``axis`` (int, tuple, None for all); integers are averaged as floats. Of nothing it is NaN.

    >>> import defnpy as dp
    >>> dp.mean(dp.asarray([[1.0, 2.0], [3.0, 6.0]]), axis=1)
    Tensor([1.5, 4.5], dtype=float32)
    """
    x = _float(x)
    count = math.prod(x.shape[a] for a in shapes.normalize_axes(axis, x.ndim))
    return sum_(x, axis=axis, keepdims=keepdims) / float(count)


@function
def var(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The variance over ``axis``: the squared distance from the mean, divided by the count less ``correction``.

    >>> import defnpy as dp
    >>> dp.var(dp.asarray([1.0, 3.0]))
    Tensor(1., dtype=float32)
    """
    x = _float(x)
    count = math.prod(x.shape[a] for a in shapes.normalize_axes(axis, x.ndim))
    distance = x - mean(x, axis=axis, keepdims=True)
    return sum_(distance * distance, axis=axis, keepdims=keepdims) / float(count - correction)


@function
def std(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The square root of :func:`var`. Where all elements are equal its derivative is taken as 0.

    >>> import defnpy as dp
    >>> dp.std(dp.asarray([1.0, 3.0]))
    Tensor(1., dtype=float32)
    """
    spread = var(x, axis=axis, correction=correction, keepdims=keepdims)
    return e.where(equal(spread, 0), spread, e.sqrt(spread))


def _shift(x: Any, axis: Any) -> Any:
    """The largest element, as a constant; 0 where it is infinite, so that the differences are numbers, or where there
    is none."""
    if 0 in (x.shape[a] for a in shapes.normalize_axes(axis, x.ndim)):
        return 0
    largest = stop_grad(max_(x, axis=axis, keepdims=True))
    return e.where(isinf(largest), 0, largest)


@function
def logsumexp(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over ``axis``, without overflow: the largest element is taken out first.

    >>> import defnpy as dp
    >>> round(dp.logsumexp(dp.asarray([1000.0, 1000.0])).item(), 2)
    1000.69
    """
    x = _float(x)
    axes = shapes.normalize_axes(axis, x.ndim)
    shift = _shift(x, axes)
    result = e.log(sum_(e.exp(x - shift), axis=axes, keepdims=True)) + shift
    return result if keepdims else reshape(result, shape=shapes.reduce(x.shape, axes))


@function
def softmax(x: Any, /, *, axis: Any = -1) -> Any:
    """exp(x) divided by its sum over ``axis``: positive numbers that sum to 1.

    >>> import defnpy as dp
    >>> [round(p, 4) for p in dp.softmax(dp.asarray([0.3, 2.9, 4.0])).tolist()]
    [0.0182, 0.2452, 0.7366]
    """
    x = _float(x)
    exponential = e.exp(x - _shift(x, axis))
    return exponential / sum_(exponential, axis=axis, keepdims=True)


@function
def log_softmax(x: Any, /, *, axis: Any = -1) -> Any:
    """The logarithm of :func:`softmax`, accurate where the softmax is tiny.

    >>> import defnpy as dp
    >>> dp.log_softmax(dp.asarray([0.0, 200.0]))
    Tensor([-200.,    0.], dtype=float32)
    """
    x = _float(x)
    shifted = x - _shift(x, axis)
    return shifted - e.log(sum_(e.exp(shifted), axis=axis, keepdims=True))


@function
def softplus(x: Any, /) -> Any:
    """log(1 + exp(x)), finite everywhere; its derivative is the sigmoid, and it has all others too, at 0 as well.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.softplus(dp.asarray([-1000.0, 0.0, 1000.0])).tolist()]
    [0.0, 0.6931, 1000.0]
    """
    return e.relu(x) + e.log1p(e.exp(e.where(x > 0, -x, x)))  # the exponent is -abs(x), without a kink


@function
def square(x: Any, /) -> Any:
    """x times x.

    >>> import defnpy as dp
    >>> dp.square(dp.asarray([1, -3]))
    Tensor([1, 9], dtype=int64)
    """
    return e.multiply(x, x)


@function
def positive(x: Any, /) -> Any:
    """x itself, as ``+x`` is.

    >>> import defnpy as dp
    >>> dp.positive(dp.asarray([1, -3]))
    Tensor([ 1, -3], dtype=int64)
    """
    return e.multiply(x, 1)


@function
def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    """How many elements over ``axis`` (int, tuple, None for all) are not zero: int64.

    >>> import defnpy as dp
    >>> dp.count_nonzero(dp.asarray([[0.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([1, 2], dtype=int64)
    """
    return sum_(x if aval_of(x).dtype.kind == "b" else not_equal(x, 0), axis=axis, keepdims=keepdims)


@function
def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    """x limited to [min, max]; None leaves a side open. Where min > max the result is max; NaN stays NaN.

    The gradient goes to x on the closed interval, to the bound that was taken outside of it.

    >>> import defnpy as dp
    >>> dp.clip(dp.asarray([-2.0, 0.5, 2.0]), 0.0, 1.0)
    Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    aval = aval_of(x)
    if aval.dtype.kind == "f" or isinstance(min, float) or isinstance(max, float):
        ends = (-math.inf, math.inf)
    else:
        ends = (int(iinfo(aval.dtype).min), int(iinfo(aval.dtype).max))
    return e.clip(x, ends[0] if min is None else min, ends[1] if max is None else max)
