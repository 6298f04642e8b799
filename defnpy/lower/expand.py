"""What is written in terms of simpler ops before the graph is cut into kernels: convolution, pooling, padding.

A convolution becomes a matrix product or a sum (``convolve.py``). The largest element of a window is a chain of
comparisons of slices of the image, one slice for each element of a window (``taps.py``). An array with padding, or
joined of others, is put together of parts, which the kernels that compute them store at their places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from .. import shapes
from ..ir.expr import Expr, Graph
from ..ir.op import Literal
from ..ir.trace import tracing
from ..ops.elementwise import add, maximum, where
from ..ops.linear import broadcast_to, iota, permute_dims, place, reshape, sum_
from ..ops.logic import equal, logical_and, logical_not, logical_or
from ..ops.reduce import max_
from ..ops.window import lowest, overlap_add, windows
from . import convolve
from .products import ORDERED, arrange
from .taps import TAPS, Taps, around, sliced_operand, within

__all__ = ["expand"]

Rule = Callable[..., Any]


def expand(graph: Graph) -> Graph:
    """The graph with the ops of ``RULES`` written in terms of others; itself where none asks for that."""
    if not any(map(_asks, graph.nodes())):
        return graph
    users = graph.users()
    alone = {node for node, readers in users.items() if len(readers) == 1}.difference(graph.outputs)
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]

        def visit(node: Expr, args: tuple[Expr, ...]) -> Expr:
            trace.place = node.loc
            rule, simpler = RULES.get(node.op.name), None
            if node.op.family == "elementwise" and any(x.op.name == "place" for x in args):
                simpler = _part_by_part(node, args, alone)
            elif rule is not None and 0 not in (node.size, *[x.size for x in args]):
                simpler = rule(*args, **node.kwargs)
            return trace.copy(node, args) if simpler is None else trace.lift(simpler)

        return trace.graph(graph.rebuild(inputs, visit))


def _asks(node: Expr) -> bool:
    """Whether a node makes it worth while to look at all."""
    if node.op.name == "dot_general":
        plan = arrange(node)
        return plan is not None and ORDERED in plan.copies
    return node.op.name in RULES and node.op.name != "sum"


# -- arrays put together of parts -------------------------------------------------------------------------------------


def _pad(x: Any, *, low: Any, high: Any, interior: Any, value: Literal) -> Any:
    shape = shapes.pad(x.shape, low, high, interior)
    return place(x, shape=shape, starts=(low,), steps=(tuple(i + 1 for i in interior),), value=value)


def _concat(*xs: Any, axis: int) -> Any:
    ends = np.cumsum([0, *[x.shape[axis] for x in xs]]).tolist()
    starts = tuple(tuple(end if a == axis else 0 for a in range(xs[0].ndim)) for end in ends[:-1])
    shape = tuple(ends[-1] if a == axis else n for a, n in enumerate(xs[0].shape))
    return place(*xs, shape=shape, starts=starts, steps=((1,) * len(shape),) * len(xs))


def _part_by_part(node: Expr, args: tuple[Expr, ...], alone: Collection[Expr]) -> Any:
    """An elementwise op on an array put together of parts that no one else reads: put together of its values."""
    pairs = zip(node.args, args, strict=True)
    whole = next((x for old, x in pairs if old in alone and _covered(x) and x.shape == node.shape), None)
    if whole is None or len(whole.args) > TAPS:
        return None
    parts = []
    for part, starts, steps in zip(whole.args, whole.kwargs["starts"], whole.kwargs["steps"], strict=True):
        operands = [part if x is whole else sliced_operand(x, starts, steps, part.shape) for x in args]
        parts.append(node.op(*operands, **node.kwargs))
    return place(*parts, **{**whole.kwargs, "value": 0})


def _covered(x: Expr) -> bool:
    """Whether an array is put together of parts and nothing else."""
    return x.op.name == "place" and sum(part.size for part in x.args) == x.size


def _sum(x: Any, *, axis: Any, keepdims: bool) -> Any:
    """The sum of parts of one shape, before the sum over their axes."""
    if not _covered(x) or x.dtype.kind != "f" or len(x.args) > TAPS or len({part.shape for part in x.args}) != 1:
        return None
    if any(n != m for a, (n, m) in enumerate(zip(x.shape, x.args[0].shape, strict=True)) if a not in axis):
        return None
    return sum_(functools.reduce(add, x.args), axis=axis, keepdims=keepdims)


# -- the largest element of each window -------------------------------------------------------------------------------


def _max_pool(x: Any, **geometry: Any) -> Any:
    """A maximum of slices, or over the last axes of the windows."""
    of = Taps(x.shape, **geometry)
    if x.dtype.kind == "b":
        return None
    if of.few:
        return functools.reduce(maximum, of.of(x, lowest(x.dtype)))
    del geometry["padding"]
    taken = windows(around(x, of.padding, lowest(x.dtype)), **geometry)
    return max_(taken, axis=tuple(range(x.ndim, taken.ndim)))


def _max_select(v: Any, x: Any, **geometry: Any) -> Any:
    of = Taps(x.shape, **geometry)
    if not of.few or x.dtype.kind == "b":
        return None
    chosen, *others = of.of(v)
    for larger, tap in zip(of.contest(x), others, strict=True):
        chosen = where(larger, tap, chosen)
    return chosen


def _max_unpool(y: Any, x: Any, **geometry: Any) -> Any:
    """Windows that do not meet are parts of the result; others are added up."""
    of = Taps(x.shape, **geometry)
    if not of.few or x.dtype.kind == "b":
        return None
    larger = of.contest(x)
    if of.apart:
        zero, parts, later = y.dtype.type(0), [], None
        for won in reversed(larger):
            parts.append(where(won if later is None else logical_and(won, logical_not(later)), y, zero))
            later = won if later is None else logical_or(won, later)
        parts.append(y if later is None else where(later, zero, y))
        starts, steps = zip(*of.places(), strict=True)
        return within(place(*reversed(parts), shape=of.whole, starts=starts, steps=steps), x.shape[2:], of.padding)
    winner: Any = broadcast_to(np.int32(0), shape=y.shape)
    for number, won in enumerate(larger, 1):
        winner = where(won, np.int32(number), winner)
    count = len(of.window)
    split = (*y.shape[:2], *[1] * count, *y.shape[2:])
    shape = (*y.shape[:2], *of.window, *y.shape[2:])
    number = reshape(iota(shape=(shapes.size(of.window),), dtype="int32"), shape=of.window)
    number = reshape(number, shape=(1, 1, *of.window, *[1] * count))
    hit = equal(reshape(winner, shape=split), number)
    spread = where(broadcast_to(hit, shape=shape), reshape(y, shape=split), y.dtype.type(0))
    spread = permute_dims(spread, axes=(0, 1, *range(2 + count, 2 + 2 * count), *range(2, 2 + count)))
    added = overlap_add(spread, size=of.whole[2:], strides=of.strides, dilation=of.dilation)
    return within(added, x.shape[2:], of.padding)


RULES: dict[str, Rule] = {
    "pad": _pad,
    "concat": _concat,
    "sum": _sum,
    "dot_general": convolve.product,
    "conv": convolve.conv,
    "conv_transpose": convolve.conv_transpose,
    "conv_weight": convolve.conv_weight,
    "max_pool": _max_pool,
    "max_select": _max_select,
    "max_unpool": _max_unpool,
}
