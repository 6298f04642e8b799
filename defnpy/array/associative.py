"""``associative_scan``: all partial results of an associative operation, in a number of steps that grows as log(n)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import shapes, tree
from ..errors import Mismatch, ShapeError, TreeError
from ..ir.expr import Expr
from ..ir.trace import error
from ..ops.linear import concat_, flip, place, slice_
from ..source import capture, quote
from .creation import asarray

__all__ = ["associative_scan"]


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """``out[i] = fn(fn(elems[0], elems[1]), ... elems[i])`` along ``axis``, by 2 log2(n) calls of ``fn``.

    fn: an associative operation on containers like ``elems``, which computes many pairs at once, along ``axis``; it
    need not commute. elems: a container of tensors of one length along ``axis``; so is the result. reverse: from the
    last element to the first. Raises ``ShapeError`` where the lengths differ or ``fn`` changes a shape, ``TreeError``
    where it returns another structure. The algorithm is that of Blelloch, "Prefix sums and their applications" (1990).

    >>> import defnpy as dp
    >>> dp.associative_scan(dp.add, dp.asarray([1, 2, 3, 4, 5]))
    Tensor([ 1,  3,  6, 10, 15], dtype=int64)
    >>> affine = lambda f, g: (f[0] * g[0], f[1] * g[0] + g[1])  # x -> a x + b, one after the other
    >>> dp.associative_scan(affine, (dp.asarray([2.0, 3.0, 4.0]), dp.asarray([1.0, 1.0, 1.0])))[1]
    Tensor([ 1.,  4., 17.], dtype=float32)
    """
    leaves, structure = tree.flatten(elems)
    arrays = [asarray(leaf) for leaf in leaves]
    try:
        axes = [shapes.normalize_axis(axis, x.ndim) for x in arrays]
        lengths = list(dict.fromkeys(x.shape[a] for x, a in zip(arrays, axes, strict=True)))
        if len(lengths) != 1:
            raise Mismatch(f"the lengths along axis {axis} differ: {', '.join(map(str, lengths)) or 'there is none'}")
    except Mismatch as mismatch:
        raise error("associative_scan", mismatch, arrays) from None

    def combined(first: list[Any], second: list[Any]) -> list[Any]:
        returned = fn(tree.unflatten(structure, first), tree.unflatten(structure, second))
        values, found = tree.flatten(returned)
        if found != structure:
            raise TreeError(
                f"associative_scan: fn returns another structure than elems: "
                f"{tree.difference(tree.unflatten(structure, first), returned, 'elems')}",
                where=quote(capture()),
            )
        values = [asarray(value) for value in values]
        for path, x, y in zip(tree.paths(elems, "elems"), first, values, strict=True):
            if x.shape != y.shape:
                raise ShapeError(
                    f"associative_scan: of pairs of {path} {x.aval} fn makes {y.aval}",
                    where=(quote(y.loc) if isinstance(y, Expr) else "") or quote(capture()),
                    hint="it combines many pairs at once, and keeps the shape",
                )
        return values

    def turned(values: list[Any]) -> list[Any]:
        return [flip(x, axis=a) for x, a in zip(values, axes, strict=True)] if reverse else values

    return tree.unflatten(structure, turned(_scanned(combined, turned(arrays), axes)))


def _scanned(combined: Callable[[list[Any], list[Any]], list[Any]], xs: list[Any], axes: list[int]) -> list[Any]:
    """Of neighbours combined, half as many, all partial results are every second one of the whole."""
    n = xs[0].shape[axes[0]]
    if n < 2:
        return xs

    def every(values: list[Any], start: int, stop: int, step: int = 1) -> list[Any]:
        return [_part(x, a, start, stop, step) for x, a in zip(values, axes, strict=True)]

    odd = _scanned(combined, combined(every(xs, 0, n - 1, 2), every(xs, 1, n, 2)), axes)
    even = every(xs, 0, 1)
    if n > 2:
        later = combined(every(odd, 0, (n - 1) // 2), every(xs, 2, n, 2))
        even = [concat_(x, y, axis=a) for x, y, a in zip(even, later, axes, strict=True)]
    return [_alternating(x, y, a) for x, y, a in zip(even, odd, axes, strict=True)]


def _part(x: Any, axis: int, start: int, stop: int, step: int) -> Any:
    starts, stops, steps = (
        tuple(value if a == axis else other for a, other in enumerate(others))
        for value, others in ((start, (0,) * x.ndim), (stop, x.shape), (step, (1,) * x.ndim))
    )
    return slice_(x, starts=starts, stops=stops, steps=steps)


def _alternating(even: Any, odd: Any, axis: int) -> Any:
    """``even[0], odd[0], even[1], ...`` along ``axis``."""
    n = even.shape[axis] + odd.shape[axis]
    shape = tuple(n if a == axis else m for a, m in enumerate(even.shape))
    starts = tuple(tuple(first if a == axis else 0 for a in range(even.ndim)) for first in (0, 1))
    step = tuple(2 if a == axis else 1 for a in range(even.ndim))
    return place(even, odd, shape=shape, starts=starts, steps=(step, step))
