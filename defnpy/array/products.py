"""Matrix products, all cases of ``dot_general``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import shapes
from ..errors import Mismatch
from ..ir.trace import aval_of, function
from ..ops import linear
from ..ops.contract import dot_general

__all__ = ["dot", "matmul", "outer", "tensordot", "vecdot"]


@function
def matmul(x: Any, y: Any, /) -> Any:
    """The matrix product ``x @ y``: over the last axis of x and the second last of y; leading axes broadcast.

    A 1-d operand is a row on the left, a column on the right, and its axis is gone from the result.

    >>> import defnpy as dp
    >>> dp.matmul(dp.asarray([[1.0, 2.0], [3.0, 4.0]]), dp.asarray([1.0, 1.0]))
    Tensor([3., 7.], dtype=float32)
    """
    left, right = aval_of(x).shape, aval_of(y).shape
    a, b = shapes.matmul_axes(left, right)
    if len(left) <= 2 and len(right) <= 2:
        return dot_general(x, y, contract=((a,), (b,)))
    if len(right) == 1:
        return dot_general(x, y, contract=((a,), (0,)))
    if len(right) == 2:
        return dot_general(x, y, contract=((a,), (0,)))
    stack = shapes.broadcast(left[:-2], right[:-2])
    if right[:-2] != stack:
        y = linear.broadcast_to(y, shape=stack + right[-2:])
    batch = tuple(range(len(stack)))
    if len(left) == 1:
        row = linear.broadcast_to(x, shape=(*stack, *left))
        return dot_general(row, y, contract=((len(stack),), (len(stack),)), batch=(batch, batch))
    if left[:-2] != stack:
        x = linear.broadcast_to(x, shape=stack + left[-2:])
    return dot_general(x, y, contract=((len(stack) + 1,), (len(stack),)), batch=(batch, batch))


@function
def dot(x: Any, y: Any, /) -> Any:
    """NumPy's ``dot``: over the last axis of x and the second last (or only) axis of y; a number multiplies.

    Unlike :func:`matmul` it pairs every leading index of x with every one of y.

    >>> import defnpy as dp
    >>> dp.dot(dp.asarray([1.0, 2.0]), dp.asarray([3.0, 4.0]))
    Tensor(11., dtype=float32)
    """
    left, right = aval_of(x).shape, aval_of(y).shape
    if not left or not right:
        return x * y
    a, b = shapes.matmul_axes(left, right)
    return dot_general(x, y, contract=((a,), (b,)))


@function
def tensordot(x: Any, y: Any, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Any:
    """Products summed over the last ``axes`` of x and the first of y, or over the given pair of axis lists.

    >>> import defnpy as dp
    >>> dp.tensordot(dp.ones((2, 3, 4)), dp.ones((4, 3, 5)), axes=((1, 2), (1, 0))).shape
    (2, 5)
    """
    ndim = len(aval_of(x).shape)
    if isinstance(axes, int):
        axes = (tuple(range(ndim - axes, ndim)), tuple(range(axes)))
    return dot_general(x, y, contract=axes)


@function
def vecdot(x: Any, y: Any, /, *, axis: int = -1) -> Any:
    """The dot product of vectors along ``axis``; the other axes broadcast.

    >>> import defnpy as dp
    >>> dp.vecdot(dp.asarray([[1.0, 2.0], [3.0, 4.0]]), dp.asarray([1.0, 1.0]))
    Tensor([3., 7.], dtype=float32)
    """
    left, right = aval_of(x).shape, aval_of(y).shape
    if not left or not right:
        raise Mismatch("vectors have an axis")
    a, b = shapes.normalize_axis(axis, len(left)), shapes.normalize_axis(axis, len(right))
    if left[a] != right[b]:
        raise Mismatch(f"the vectors have lengths {left[a]} and {right[b]}")
    shape = shapes.broadcast(shapes.reduce(left, (a,)), shapes.reduce(right, (b,)))
    x = linear.broadcast_to(_last(x, a), shape=(*shape, left[a]))
    y = linear.broadcast_to(_last(y, b), shape=(*shape, right[b]))
    batch = tuple(range(len(shape)))
    return dot_general(x, y, contract=((len(shape),), (len(shape),)), batch=(batch, batch))


def _last(x: Any, axis: int) -> Any:
    ndim = len(aval_of(x).shape)
    if axis == ndim - 1:
        return x
    return linear.permute_dims(x, axes=(*[a for a in range(ndim) if a != axis], axis))


@function
def outer(x: Any, y: Any, /) -> Any:
    """All products of an element of x with one of y, both 1-d.

    >>> import defnpy as dp
    >>> dp.outer(dp.asarray([1.0, 2.0]), dp.asarray([3.0, 4.0]))
    Tensor([[3., 4.],
            [6., 8.]], dtype=float32)
    """
    if len(aval_of(x).shape) != 1 or len(aval_of(y).shape) != 1:
        raise Mismatch("both operands have one axis")
    return dot_general(x, y, contract=((), ()))
