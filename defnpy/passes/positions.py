"""The simplifying rules on elements taken and written at integer positions.

A position that only counts along its own axis (an ``iota``, as ``arange(n)`` is) is the index of a loop:
``x[arange(n), labels]`` takes one element of each row. Where all positions are known the elements are a view; they are
taken before they are computed with, if that is less work; and what is written or added at such places meets no other
update, so that it is a choice for each element: the gradient of a cross-entropy is a comparison with the label.

An index out of bounds stays an error, of the same axis, and a negative one counts from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.expr import Expr
from ..ir.trace import Trace
from ..ops.elementwise import add, where
from ..ops.gather import gather
from ..ops.linear import broadcast_to, iota, permute_dims, reshape, slice_
from ..ops.logic import equal, logical_and
from .patterns import number
from .rewrite import Rule, rule

__all__ = ["POSITION_RULES"]

BEHIND = 48  # elementwise nodes behind an element that are computed for the taken elements alone
FEWER = 8  # a node that is not cheap is computed twice only for so many times fewer elements


def _counts(index: Expr) -> int | None:
    """The axis of an index tensor along which it counts 0, 1, 2 ..., if it does no more than that."""
    return index.kwargs["axis"] if index.op.name == "iota" else None


@rule("reshape", "broadcast_to", "permute_dims", "slice", "astype")
def moved_iota(trace: Trace, node: Expr) -> Any:
    """A view of an iota that still counts along one axis is an iota; so is one of other integers."""
    (x,) = node.args
    own = _counts(x)
    if own is None or node.dtype.kind not in "iu" or node.aval.weak or 0 in (node.size, x.size):
        return None
    n, first = x.shape[own], 0
    if node.op.name == "permute_dims":
        axis = node.kwargs["axes"].index(own)
    elif node.op.name == "reshape":
        if x.size != n or n not in node.shape:
            return None
        axis = node.shape.index(n)
    else:
        axis = own + node.ndim - x.ndim
    if node.op.name == "slice":
        first = node.kwargs["starts"][own]
        if node.shape[axis] > 1 and (first or node.kwargs["steps"][own] != 1):
            return None
    elif node.shape[axis] != n or n - 1 > np.iinfo(node.dtype).max:
        return None
    if node.shape[axis] == 1:
        return broadcast_to(node.dtype.type(first), shape=node.shape)
    return iota(shape=node.shape, axis=axis, dtype=node.dtype)


@rule("gather")
def known_positions(trace: Trace, node: Expr) -> Any:
    """A gather whose positions are numbers, or count along axes of their own, is a view."""
    x, *indices = node.args
    if 0 in (node.size, x.size):
        return None
    starts, stops = [0] * x.ndim, list(x.shape)
    along: dict[int, int] = {}  # the axis of the indices -> the axis of x that it runs along
    for axis, index in zip(node.kwargs["axes"], indices, strict=True):
        counted, value = _counts(index), number(index)
        if value is not None and -x.shape[axis] <= value < x.shape[axis]:
            starts[axis] = int(value) % x.shape[axis]
            stops[axis] = starts[axis] + 1
        elif counted is not None and counted not in along and index.shape[counted] <= x.shape[axis]:
            along[counted] = axis
            stops[axis] = index.shape[counted]
        else:
            return None
    ndim = indices[0].ndim
    rest = tuple([a for a in range(x.ndim) if a not in node.kwargs["axes"]])
    single = tuple([a for a in node.kwargs["axes"] if a not in along.values()])
    taken = slice_(x, starts=tuple(starts), stops=tuple(stops), steps=(1,) * x.ndim)
    taken = permute_dims(taken, axes=(*[along[a] for a in range(ndim) if a in along], *rest, *single))
    kept = tuple([n if a in along or a >= ndim else 1 for a, n in enumerate(node.shape)])
    return broadcast_to(reshape(taken, shape=kept), shape=node.shape)


@rule("gather")
def take_first(trace: Trace, node: Expr) -> Any:
    """Some elements of an elementwise op's result are that op on those elements of its operands: where these are at
    most half, all that is computed for them is cheap, or they are few (``FEWER``)."""
    x, *indices = node.args
    if x.op.family != "elementwise" or 2 * node.size > x.size or not _less_work(x, node.size):
        return None
    taken = []
    for arg in x.args:
        if arg.size == 1:
            taken.append(reshape(arg, shape=()))
            continue
        whole = reshape(arg, shape=(*(1,) * (x.ndim - arg.ndim), *arg.shape))  # an error is to name the same axis
        own = [
            broadcast_to(index.dtype.type(0), shape=index.shape) if whole.shape[axis] != x.shape[axis] else index
            for axis, index in zip(node.kwargs["axes"], indices, strict=True)
        ]
        taken.append(gather(whole, *own, axes=node.kwargs["axes"]))
    result = trace.copy(x, tuple(map(trace.lift, taken)))
    return result if result.shape == node.shape else None


def _less_work(x: Expr, count: int) -> bool:
    """Whether it is less work to compute ``count`` elements of ``x`` from elements of what lies behind, though all of
    ``x`` may be needed as well."""
    pending, seen = [x], {x}
    while pending:
        node = pending.pop()
        if node.op.family != "elementwise" or node.size <= count:
            continue
        if not node.op.cheap and node.size < FEWER * count:
            return False
        fresh = [arg for arg in dict.fromkeys(node.args) if arg not in seen]
        seen.update(fresh)
        pending += fresh
        if len(seen) > BEHIND:
            return False
    return True


@rule("scatter_add", "scatter_set")
def update_in_order(trace: Trace, node: Expr) -> Any:
    """Updates of which no two can meet, because every axis of the positions counts along an axis of the result, are a
    choice between the old and the new value of each element."""
    x, updates, *indices = node.args
    axes = node.kwargs["axes"]
    if node.size == 0 or updates.size == 0 or (node.op.name == "scatter_add" and x.dtype.kind == "b"):
        return None
    covers: dict[int, int] = {}  # the axis of the result -> the axis of the indices that counts along it
    for axis, index in zip(axes, indices, strict=True):
        counted = _counts(index)
        if counted is not None and counted not in covers.values() and index.shape[counted] == x.shape[axis]:
            covers[axis] = counted
    ndim = indices[0].ndim
    if not covers or any(n != 1 and a not in covers.values() for a, n in enumerate(indices[0].shape)):
        return None
    rest = [a for a in range(x.ndim) if a not in axes]
    origin = [covers.get(a, ndim + rest.index(a) if a in rest else None) for a in range(x.ndim)]
    order = tuple([a for a in origin if a is not None])
    order += tuple([a for a in range(updates.ndim) if a not in order])  # axes of size 1

    def placed(z: Any) -> Any:
        """``z``, which has the axes of the updates, along those of the result."""
        return reshape(permute_dims(z, axes=order), shape=tuple([1 if a is None else z.shape[a] for a in origin]))

    indexed = tuple([n if a in axes else 1 for a, n in enumerate(x.shape)])
    hit: Any = None
    for axis in axes:
        if axis not in covers:
            at = placed(gather(_counter(indexed, axis), *indices, axes=axes))  # checked, and counted from the front
            here = equal(_counter(tuple([n if a == axis else 1 for a, n in enumerate(x.shape)]), axis), at)
            hit = here if hit is None else logical_and(hit, here)
    new = placed(updates)
    if node.op.name == "scatter_add":
        new = add(x, new)  # to 0 as well: 0 + -0 is 0
    if hit is None:
        return broadcast_to(new, shape=node.shape)
    return where(broadcast_to(hit, shape=node.shape), new, x)


def _counter(shape: tuple[int, ...], axis: int) -> Any:
    """An iota of the narrower integers where they are enough: it is compared with every element of an array."""
    return iota(shape=shape, axis=axis, dtype="int32" if shape[axis] < 2**31 else "int64")


POSITION_RULES: tuple[Rule, ...] = (moved_iota, known_positions, take_first, update_in_order)
