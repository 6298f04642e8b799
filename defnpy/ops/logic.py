"""Comparison, logic and bits: the elementwise primitives that have nothing to differentiate, each in one statement."""

from __future__ import annotations

import numpy as np

from ..dtypes import bool_
from .families import elementwise, uniform

_LOGIC = "it has no numbers to differentiate"
_REAL = uniform(-3, 3)
_INTEGER = uniform(-5, 6, "i")


@elementwise(scalar="{x} == {y}", vjp=None, not_differentiable=_LOGIC, kinds="biuf", out=bool_, cases=[_REAL, _INTEGER])
def equal(x, y, /):
    """Whether two elements are equal; NaN equals nothing.

    >>> import defnpy as dp
    >>> dp.equal(dp.asarray([1, 2]), 2)
    Tensor([False,  True])
    """
    return np.equal(x, y)


@elementwise(scalar="{x} != {y}", vjp=None, not_differentiable=_LOGIC, kinds="biuf", out=bool_, cases=[_REAL, _INTEGER])
def not_equal(x, y, /):
    """Whether two elements differ; NaN differs from everything.

    >>> import defnpy as dp
    >>> dp.not_equal(dp.asarray([1, 2]), 2)
    Tensor([ True, False])
    """
    return np.not_equal(x, y)


@elementwise(scalar="{x} < {y}", vjp=None, not_differentiable=_LOGIC, kinds="biuf", out=bool_, cases=[_REAL, _INTEGER])
def less(x, y, /):
    """Whether x < y, element by element.

    >>> import defnpy as dp
    >>> dp.less(dp.asarray([1, 2]), 2)
    Tensor([ True, False])
    """
    return np.less(x, y)


@elementwise(scalar="{x} <= {y}", vjp=None, not_differentiable=_LOGIC, kinds="biuf", out=bool_, cases=[_REAL, _INTEGER])
def less_equal(x, y, /):
    """Whether x <= y, element by element.

    >>> import defnpy as dp
    >>> dp.less_equal(dp.asarray([1, 2, 3]), 2)
    Tensor([ True,  True, False])
    """
    return np.less_equal(x, y)


@elementwise(scalar="{x} > {y}", vjp=None, not_differentiable=_LOGIC, kinds="biuf", out=bool_, cases=[_REAL, _INTEGER])
def greater(x, y, /):
    """Whether x > y, element by element.

    >>> import defnpy as dp
    >>> dp.greater(dp.asarray([1, 3]), 2)
    Tensor([False,  True])
    """
    return np.greater(x, y)


@elementwise(scalar="{x} >= {y}", vjp=None, not_differentiable=_LOGIC, kinds="biuf", out=bool_, cases=[_REAL, _INTEGER])
def greater_equal(x, y, /):
    """Whether x >= y, element by element.

    >>> import defnpy as dp
    >>> dp.greater_equal(dp.asarray([1, 2, 3]), 2)
    Tensor([False,  True,  True])
    """
    return np.greater_equal(x, y)


_BOOL = uniform(0, 2, "b")


@elementwise(scalar="{x} and {y}", vjp=None, not_differentiable=_LOGIC, kinds="b", out=bool_, cases=[_BOOL])
def logical_and(x, y, /):
    """Whether both hold; takes booleans.

    >>> import defnpy as dp
    >>> dp.logical_and(dp.asarray([True, True]), dp.asarray([True, False]))
    Tensor([ True, False])
    """
    return np.logical_and(x, y)


@elementwise(scalar="{x} or {y}", vjp=None, not_differentiable=_LOGIC, kinds="b", out=bool_, cases=[_BOOL])
def logical_or(x, y, /):
    """Whether at least one holds; takes booleans.

    >>> import defnpy as dp
    >>> dp.logical_or(dp.asarray([True, False]), dp.asarray([False, False]))
    Tensor([ True, False])
    """
    return np.logical_or(x, y)


@elementwise(scalar="{x} != {y}", vjp=None, not_differentiable=_LOGIC, kinds="b", out=bool_, cases=[_BOOL])
def logical_xor(x, y, /):
    """Whether exactly one holds; takes booleans.

    >>> import defnpy as dp
    >>> dp.logical_xor(dp.asarray([True, False]), True)
    Tensor([False,  True])
    """
    return np.logical_xor(x, y)


@elementwise(scalar="not {x}", vjp=None, not_differentiable=_LOGIC, kinds="b", out=bool_, cases=[_BOOL])
def logical_not(x, /):
    """The opposite truth value; takes booleans.

    >>> import defnpy as dp
    >>> dp.logical_not(dp.asarray([True, False]))
    Tensor([False,  True])
    """
    return np.logical_not(x)


@elementwise(scalar="{x} & {y}", vjp=None, not_differentiable=_LOGIC, kinds="biu", cases=[_INTEGER, _BOOL])
def bitwise_and(x, y, /):
    """Bits set in both; takes integers or booleans.

    >>> import defnpy as dp
    >>> dp.bitwise_and(dp.asarray([6, 5]), 3)
    Tensor([2, 1], dtype=int64)
    """
    return np.bitwise_and(x, y)


@elementwise(scalar="{x} | {y}", vjp=None, not_differentiable=_LOGIC, kinds="biu", cases=[_INTEGER, _BOOL])
def bitwise_or(x, y, /):
    """Bits set in either; takes integers or booleans.

    >>> import defnpy as dp
    >>> dp.bitwise_or(dp.asarray([6, 5]), 3)
    Tensor([7, 7], dtype=int64)
    """
    return np.bitwise_or(x, y)


@elementwise(scalar="{x} ^ {y}", vjp=None, not_differentiable=_LOGIC, kinds="biu", cases=[_INTEGER, _BOOL])
def bitwise_xor(x, y, /):
    """Bits set in exactly one; takes integers or booleans.

    >>> import defnpy as dp
    >>> dp.bitwise_xor(dp.asarray([6, 5]), 3)
    Tensor([5, 6], dtype=int64)
    """
    return np.bitwise_xor(x, y)


@elementwise(scalar="invert({x})", vjp=None, not_differentiable=_LOGIC, kinds="biu", cases=[_INTEGER, _BOOL])
def bitwise_invert(x, /):
    """All bits flipped; takes integers or booleans.

    >>> import defnpy as dp
    >>> dp.bitwise_invert(dp.asarray([0, 1]))
    Tensor([-1, -2], dtype=int64)
    """
    return np.invert(x)


_SHIFT = (uniform(0, 100, "u"), uniform(0, 31, "u"))


@elementwise(scalar="shl({x}, {y})", vjp=None, not_differentiable=_LOGIC, kinds="iu", cases=[_SHIFT])
def bitwise_left_shift(x, y, /):
    """x times 2 to the power y, in the bits of the dtype: 0 when y is their number or more. Takes integers.

    >>> import defnpy as dp
    >>> dp.bitwise_left_shift(dp.asarray([1, 3]), 2)
    Tensor([ 4, 12], dtype=int64)
    """
    return np.left_shift(x, y)


@elementwise(scalar="shr({x}, {y})", vjp=None, not_differentiable=_LOGIC, kinds="iu", cases=[_SHIFT])
def bitwise_right_shift(x, y, /):
    """x divided by 2 to the power y, rounded down; takes integers.

    >>> import defnpy as dp
    >>> dp.bitwise_right_shift(dp.asarray([5, -5]), 1)
    Tensor([ 2, -3], dtype=int64)
    """
    return np.right_shift(x, y)


@elementwise(scalar="{x} != {x}", vjp=None, not_differentiable=_LOGIC, kinds="f", out=bool_, cases=[_REAL])
def isnan(x, /):
    """Whether the element is NaN.

    >>> import defnpy as dp
    >>> dp.isnan(dp.asarray([1.0, float("nan")]))
    Tensor([False,  True])
    """
    return np.isnan(x)


@elementwise(scalar="abs({x}) == inf", vjp=None, not_differentiable=_LOGIC, kinds="f", out=bool_, cases=[_REAL])
def isinf(x, /):
    """Whether the element is infinite.

    >>> import defnpy as dp
    >>> dp.isinf(dp.asarray([1.0, float("-inf")]))
    Tensor([False,  True])
    """
    return np.isinf(x)


@elementwise(scalar="abs({x}) < inf", vjp=None, not_differentiable=_LOGIC, kinds="f", out=bool_, cases=[_REAL])
def isfinite(x, /):
    """Whether the element is neither infinite nor NaN.

    >>> import defnpy as dp
    >>> dp.isfinite(dp.asarray([1.0, float("inf"), float("nan")]))
    Tensor([ True, False, False])
    """
    return np.isfinite(x)
