"""Cumulative ops: each element of the result folds the elements up to its own place along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import shapes
from ..ir.aval import Aval
from ..ir.op import Case
from .convert import one_dtype
from .elementwise import where
from .families import special, widened
from .gather import scatter_add
from .linear import flip, iota, pad, slice_, zeros_like
from .logic import equal, logical_and, not_equal
from .sort import every_index

Array = np.ndarray[Any, Any]


def _normalize(x: Aval, *, axis: int = -1, reverse: bool = False) -> dict[str, Any]:
    return {"axis": shapes.normalize_axis(axis, len(x.shape)), "reverse": bool(reverse)}


def _widened(x: Aval, **params: Any) -> Aval:
    dtype = widened(x.dtype)
    return Aval(x.shape, dtype, x.weak and dtype == x.dtype)


def _normal(*shape: int) -> Any:
    return lambda rng, dtype: [rng.standard_normal(shape).astype(dtype)]


def _integers(rng: np.random.Generator, dtype: Any) -> list[Array]:
    return [rng.integers(-3, 4, (2, 5)).astype("int8")]


_CASES = [
    Case(_normal(5)),
    Case(_normal(3, 4), {"axis": 0}),
    Case(_normal(2, 3, 4), {"axis": 1, "reverse": True}),
    Case(_normal(1, 2), {"axis": 0}),
    Case(_normal(0, 2), {"axis": 0, "reverse": True}),
    Case(_integers, {"reverse": True}),
    Case(lambda rng, dtype: [np.array([1.0, np.inf, 2.0, np.nan, 5.0], dtype)], smooth=False),
]


def _accumulate(fold: np.ufunc, x: Any, axis: int, reverse: bool, dtype: Any = None) -> Any:
    x = np.asarray(x)
    if reverse:
        return np.flip(fold.accumulate(np.flip(x, axis), axis=axis, dtype=dtype), axis)
    return fold.accumulate(x, axis=axis, dtype=dtype)


def _shifted(x: Any, steps: int, axis: int, fill: float) -> Any:
    """``x`` moved ``steps`` places towards the end of the axis; ``fill`` comes in at the front."""
    stops = tuple(n - steps if a == axis else n for a, n in enumerate(x.shape))
    kept = slice_(x, starts=(0,) * x.ndim, stops=stops, steps=(1,) * x.ndim)
    return pad(kept, low=tuple(steps if a == axis else 0 for a in range(x.ndim)), value=fill)


@special(
    family="library",
    normalize=_normalize,
    infer=_widened,
    vjp=lambda g, y, x, *, axis, reverse: (cumulative_sum(g, axis=axis, reverse=not reverse),),
    batch=lambda batched, x, *, axis, reverse: cumulative_sum(x, axis=axis + 1, reverse=reverse),
    convert=one_dtype,
    cases=_CASES,
)
def cumulative_sum(x, /, *, axis=-1, reverse=False):
    """The sums of all elements up to each place along ``axis``, its own included; from the end with ``reverse=True``.

    Booleans and small integers are summed in the default integer.

    >>> import defnpy as dp
    >>> dp.cumulative_sum(dp.asarray([1, 2, 3]))
    Tensor([1, 3, 6], dtype=int64)
    """
    return _accumulate(np.add, x, axis, reverse, widened(np.asarray(x).dtype))


def _recurrence(a: Any, b: Any, axis: int) -> Any:
    """h[k] = b[k] + a[k] h[k-1], for all k in log2(n) steps that double the reach (Kogge and Stone 1973)."""
    step = 1
    while step < a.shape[axis]:
        a, b = a * _shifted(a, step, axis, 0), b + a * _shifted(b, step, axis, 0)
        step *= 2
    return b


def _product_vjp(g: Any, y: Any, x: Any, *, axis: int, reverse: bool) -> tuple[Any]:
    # Without dividing by x, which may be 0: the product of what lies before an element, times h, which gathers what
    # comes after it: h[k] = g[k] + x[k+1] h[k+1], from the end.
    if x.shape[axis] == 0:
        return (zeros_like(g, x.shape),)
    if reverse:
        g, y, x = (flip(v, axis=axis) for v in (g, y, x))
    h = _recurrence(_shifted(flip(x, axis=axis), 1, axis, 0), flip(g, axis=axis), axis)
    result = _shifted(y, 1, axis, 1) * flip(h, axis=axis)
    return (flip(result, axis=axis) if reverse else result,)


@special(
    family="library",
    normalize=_normalize,
    infer=_widened,
    vjp=_product_vjp,
    batch=lambda batched, x, *, axis, reverse: cumulative_prod(x, axis=axis + 1, reverse=reverse),
    convert=one_dtype,
    cases=[*_CASES, Case(lambda rng, dtype: [np.array([[2.0, 0.0, -1.0, 3.0], [0.0, 1.5, 0.0, 2.0]], dtype)])],
)
def cumulative_prod(x, /, *, axis=-1, reverse=False):
    """The products of all elements up to each place along ``axis``, its own included; with ``reverse``, from the end.

    Small integers are multiplied in the default integer. The gradient is right at zeros too.

    >>> import defnpy as dp
    >>> dp.cumulative_prod(dp.asarray([1, 2, 3, 4]))
    Tensor([ 1,  2,  6, 24], dtype=int64)
    """
    return _accumulate(np.multiply, x, axis, reverse, widened(np.asarray(x).dtype))


def _extremum_vjp(g: Any, y: Any, x: Any, *, axis: int, reverse: bool) -> tuple[Any]:
    # The extremum so far stands where it last changed; once it is NaN it changes no more.
    if x.shape[axis] == 0:
        return (zeros_like(g, x.shape),)
    if reverse:
        g, y = flip(g, axis=axis), flip(y, axis=axis)
    before = _shifted(y, 1, axis, 0)
    changed = logical_and(not_equal(y, before), equal(before, before))
    places = cumulative_max(where(changed, iota(shape=x.shape, axis=axis), 0), axis=axis)
    result = scatter_add(zeros_like(g), g, *every_index(places, axis), axes=tuple(range(x.ndim)))
    return (flip(result, axis=axis) if reverse else result,)


@special(
    family="library",
    normalize=_normalize,
    infer=lambda x, *, axis, reverse: x,
    vjp=_extremum_vjp,
    batch=lambda batched, x, *, axis, reverse: cumulative_max(x, axis=axis + 1, reverse=reverse),
    convert=one_dtype,
    cases=_CASES,
)
def cumulative_max(x, /, *, axis=-1, reverse=False):
    """The largest of the elements up to each place along ``axis``; from the end with ``reverse=True``. NaN stays NaN.

    The cotangent goes to the element that was reached first, where several are the largest.

    >>> import defnpy as dp
    >>> dp.cumulative_max(dp.asarray([1.0, 3.0, 2.0]))
    Tensor([1., 3., 3.], dtype=float32)
    """
    return _accumulate(np.maximum, x, axis, reverse)


@special(
    family="library",
    normalize=_normalize,
    infer=lambda x, *, axis, reverse: x,
    vjp=_extremum_vjp,
    batch=lambda batched, x, *, axis, reverse: cumulative_min(x, axis=axis + 1, reverse=reverse),
    convert=one_dtype,
    cases=_CASES,
)
def cumulative_min(x, /, *, axis=-1, reverse=False):
    """The smallest of the elements up to each place along ``axis``; from the end with ``reverse=True``. NaN stays NaN.

    The cotangent goes to the element that was reached first, where several are the smallest.

    >>> import defnpy as dp
    >>> dp.cumulative_min(dp.asarray([2.0, 3.0, 1.0]))
    Tensor([2., 2., 1.], dtype=float32)
    """
    return _accumulate(np.minimum, x, axis, reverse)
