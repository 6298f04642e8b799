"""The simplifying rules on views, casts and reductions: fewer movements, and elements known without computing the rest.

They give the same numbers to the bit, but for the order in which a sum is taken.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DType
from ..ir.expr import Expr
from ..ir.trace import Trace
from ..ops.contract import dot_general, free_axes
from ..ops.convert import astype
from ..ops.elementwise import add
from ..ops.linear import broadcast_to, concat_, permute_dims, reshape, slice_, sum_
from .patterns import number
from .rewrite import Rule, rule

__all__ = ["MOVEMENT_RULES"]

ELEMENTWISE = 48  # nodes behind an element that is computed alone


@rule("reshape", "broadcast_to", "permute_dims", "slice", "flip", "pad", "stop_grad", "scale_grad", "clip_grad")
def idle_movement(trace: Trace, node: Expr) -> Any:
    """A movement that changes nothing is its operand; so are the marks on derivatives, now that those are there."""
    (x,) = node.args
    if node.shape != x.shape:
        return None
    name = node.op.name
    if name == "permute_dims":
        idle = node.kwargs["axes"] == tuple(range(node.ndim))
    elif name == "flip":
        idle = all(node.shape[a] == 1 for a in node.kwargs["axis"])
    else:  # a pad could cut off on one side what it adds on the other
        idle = name != "pad" or not any(node.kwargs["low"] + node.kwargs["high"])
    return x if idle else None


@rule("reshape", "permute_dims", "slice", "flip", "broadcast_to")
def moved_number(trace: Trace, node: Expr) -> Any:
    """A view of one repeated value is that value, repeated to the shape of the view."""
    (x,) = node.args
    if node.op.name != "broadcast_to":
        if x.op.name != "broadcast_to" or x.args[0].size != 1:
            return broadcast_to(x, shape=node.shape) if number(x) is not None else None
        x = x.args[0]
    elif x.size != 1 or not x.ndim:
        return None
    return broadcast_to(reshape(x, shape=()) if x.ndim else x, shape=node.shape)


@rule("concat")
def idle_concat(trace: Trace, node: Expr) -> Any:
    """Joined tensors without elements are left out; one alone is the result."""
    axis = node.kwargs["axis"]
    parts = [part for part in node.args if part.shape[axis]]
    if len(parts) == len(node.args) > 1 or not parts:
        return None
    return parts[0] if len(parts) == 1 else concat_(*parts, axis=axis)


@rule("astype")
def idle_cast(trace: Trace, node: Expr) -> Any:
    """A cast to the dtype that the operand has is the operand."""
    (x,) = node.args
    return x if (node.dtype, node.aval.weak) == (x.dtype, x.aval.weak) else None


@rule("astype")
def chained_casts(trace: Trace, node: Expr) -> Any:
    """Of two casts in a row the first is left out when it lost nothing."""
    (x,) = node.args
    if x.op.name != "astype" or not _lossless(x.args[0].dtype, x.dtype):
        return None
    return astype(x.args[0], dtype=node.dtype, weak=node.aval.weak)


def _lossless(narrow: DType, wide: DType) -> bool:
    """Whether every number of one dtype is one of the other. NumPy's "safe" casts are, but for int64 as float64."""
    exact = narrow.kind not in "iu" or wide.kind != "f" or narrow.itemsize < wide.itemsize
    return exact and np.can_cast(narrow, wide, "safe")


@rule("sum", "prod", "max", "min")
def reduce_nothing(trace: Trace, node: Expr) -> Any:
    """A reduction over axes of size 1, or over none, is its operand; a float sum adds 0.0: -0.0 becomes 0.0."""
    (x,) = node.args
    if node.dtype != x.dtype or any(x.shape[a] != 1 for a in node.kwargs["axis"]):
        return None
    if node.op.name == "sum" and node.dtype.kind == "f":
        x = add(x, trace.constant(x.dtype.type(0)))
    return reshape(x, shape=node.shape)


@rule("reshape", "broadcast_to", "permute_dims", "flip")
def chained_movement(trace: Trace, node: Expr) -> Any:
    """Of two reshapes, broadcasts, permutations or flips in a row, one is enough."""
    (x,) = node.args
    if x.op is not node.op:
        return None
    inner = x.args[0]
    if node.op.name == "reshape":
        return reshape(inner, shape=node.shape)
    if node.op.name == "broadcast_to":
        return broadcast_to(inner, shape=node.shape)
    if node.op.name == "permute_dims":
        first = x.kwargs["axes"]
        return permute_dims(inner, axes=tuple([first[a] for a in node.kwargs["axes"]]))
    once = set(node.kwargs["axis"]) ^ set(x.kwargs["axis"])
    return node.op(inner, axis=tuple(sorted(once)))


@rule("permute_dims")
def permuted_unit_axes(trace: Trace, node: Expr) -> Any:
    """A permutation that moves only axes of size 1 is a reshape."""
    moved = [a for a in node.kwargs["axes"] if node.args[0].shape[a] != 1]
    return reshape(node.args[0], shape=node.shape) if moved == sorted(moved) else None


@rule("dot_general")
def repeated_operand(trace: Trace, node: Expr) -> Any:
    """Products of many operands with one that is repeated for each of them are one product."""
    contract, batch = node.kwargs["contract"], node.kwargs["batch"]
    assert dot_general.batch is not None
    if not batch[0] or batch[0][0] or batch[1][0]:
        return None
    for side, x in enumerate(node.args):
        if x.op.name == "broadcast_to" and x.args[0].ndim < x.ndim:
            args = list(node.args)
            args[side] = broadcast_to(x.args[0], shape=x.shape[1:])
            pairs = [
                tuple([tuple([a - 1 for a in axes]) for axes in pair])
                for pair in (contract, (batch[0][1:], batch[1][1:]))
            ]
            return dot_general.batch((side == 1, side == 0), *args, contract=pairs[0], batch=pairs[1])
    return None


@rule("dot_general")
def permuted_operand(trace: Trace, node: Expr) -> Any:
    """A matrix product reads a permuted operand as it lay before, as long as its free axes stay in their order."""
    contract, batch, args = list(node.kwargs["contract"]), list(node.kwargs["batch"]), list(node.args)
    for side, x in enumerate(node.args):
        if x.op.name == "permute_dims":
            axes = x.kwargs["axes"]
            free = [axes[a] for a in free_axes(x.ndim, contract[side], batch[side])]
            if free == sorted(free):
                contract[side] = tuple([axes[a] for a in contract[side]])
                batch[side] = tuple([axes[a] for a in batch[side]])
                args[side] = x.args[0]
    if args[0] is node.args[0] and args[1] is node.args[1]:
        return None
    return dot_general(*args, contract=tuple(contract), batch=tuple(batch))


@rule("dot_general")
def product_of_elements(trace: Trace, node: Expr) -> Any:
    """A product that sums nothing multiplies element by element, and one that leaves batch axes alone sums rows: loops,
    which join those around them. (BLAS adds a single product to 0, and loses the sign of a zero that is negative.)"""
    left, right = node.args
    (c0, c1), (b0, b1) = node.kwargs["contract"], node.kwargs["batch"]
    f0, f1 = free_axes(left.ndim, c0, b0), free_axes(right.ndim, c1, b1)
    if c0 and (f0 or f1 or not b0 or node.dtype.kind != "f"):
        return None
    left, right = permute_dims(left, axes=b0 + f0 + c0), permute_dims(right, axes=b1 + f1 + c1)
    if c0:
        return sum_(left * right, axis=tuple(range(len(b0), left.ndim)))
    shape = node.shape[: len(b0)]
    left = reshape(left, shape=(*left.shape, *(1,) * len(f1)))
    return left * reshape(right, shape=(*shape, *(1,) * len(f0), *right.shape[len(b0) :]))


@rule("slice")
def slice_of_view(trace: Trace, node: Expr) -> Any:
    """A slice of a slice is one slice; a slice of a reshape that only adds axes of size 1 goes below it."""
    (x,) = node.args
    starts, steps = node.kwargs["starts"], node.kwargs["steps"]
    if x.op.name == "slice":
        inner = x.kwargs
        first = tuple(a + s * i for a, s, i in zip(inner["starts"], inner["steps"], starts, strict=True))
        stride = tuple(s * t for s, t in zip(inner["steps"], steps, strict=True))
        return _sliced(x.args[0], first, stride, node.shape)
    if x.op.name == "reshape":
        kept = [a for a, n in enumerate(x.shape) if n != 1]
        (base,) = x.args
        if [n for n in base.shape if n != 1] != [x.shape[a] for a in kept] or 0 in node.shape:
            return None
        axes = iter(kept)
        origin = [None if n == 1 else next(axes) for n in base.shape]
        first = tuple(0 if a is None else starts[a] for a in origin)
        stride = tuple(1 if a is None else steps[a] for a in origin)
        return reshape(
            _sliced(base, first, stride, tuple(1 if a is None else node.shape[a] for a in origin)), shape=node.shape
        )
    return None


def _sliced(x: Expr, starts: tuple[int, ...], steps: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """The elements of ``x`` from ``starts`` in ``steps``, ``shape`` of them."""
    starts = tuple(a if n else 0 for a, n in zip(starts, shape, strict=True))
    stops = tuple(a + (n - 1) * s + 1 if n else 0 for a, s, n in zip(starts, steps, shape, strict=True))
    return slice_(x, starts=starts, stops=stops, steps=steps)


@rule("slice")
def slice_of_concat(trace: Trace, node: Expr) -> Any:
    """A slice that touches one of the joined tensors only is a slice of that one."""
    if node.args[0].op.name != "concat" or 0 in node.shape:
        return None
    joined = node.args[0]
    axis = joined.kwargs["axis"]
    starts, steps = node.kwargs["starts"], node.kwargs["steps"]
    begin = 0
    for part in joined.args:
        end = begin + part.shape[axis]
        last = starts[axis] + (node.shape[axis] - 1) * steps[axis]
        if begin <= starts[axis] and last < end:
            first = tuple(a - begin if i == axis else a for i, a in enumerate(starts))
            return _sliced(part, first, steps, node.shape)
        begin = end
    return None


@rule("slice")
def one_element(trace: Trace, node: Expr) -> Any:
    """One element of an elementwise op's result is that op on one element of each operand; of iota, a number.

    Only where few operations lie behind the element: keys and counters, not whole nets.
    """
    if node.size != 1:
        return None
    (x,) = node.args
    starts = node.kwargs["starts"]
    if x.op.name == "iota":
        axis = x.kwargs["axis"]
        place = starts[axis] if axis is not None else sum(map(operator.mul, starts, shapes.strides(x.shape)))
        return broadcast_to(x.dtype.type(place), shape=node.shape)
    if x.op.name == "broadcast_to":
        (base,) = x.args
        return reshape(_element(base, starts), shape=node.shape)
    if x.op.family != "elementwise" or not _few_behind(x):
        return None
    return reshape(trace.copy(x, tuple([_element(arg, starts) for arg in x.args])), shape=node.shape)


def _few_behind(x: Expr) -> bool:
    """Whether at most ``ELEMENTWISE`` nodes stand between ``x`` and what is no elementwise op or view."""
    pending, seen = [x], {x}
    while pending:
        node = pending.pop()
        if node.op.family in ("elementwise", "movement"):
            fresh = [arg for arg in dict.fromkeys(node.args) if arg not in seen]
            seen.update(fresh)
            pending += fresh
        if len(seen) > ELEMENTWISE:
            return False
    return True


def _element(x: Expr, place: tuple[int, ...]) -> Any:
    """The 0-d element of ``x`` that an elementwise op reads at ``place`` of its result."""
    own = place[len(place) - x.ndim :]
    starts = tuple(0 if n == 1 else a for a, n in zip(own, x.shape, strict=True))
    return reshape(_sliced(x, starts, (1,) * x.ndim, (1,) * x.ndim), shape=())


MOVEMENT_RULES: tuple[Rule, ...] = (
    idle_movement,
    moved_number,
    idle_concat,
    idle_cast,
    chained_casts,
    reduce_nothing,
    chained_movement,
    permuted_unit_axes,
    permuted_operand,
    repeated_operand,
    product_of_elements,
    slice_of_view,
    slice_of_concat,
    one_element,
)
