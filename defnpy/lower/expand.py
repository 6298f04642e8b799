"""What is written in terms of simpler ops before the graph is cut into kernels: convolution, pooling, padding.

A convolution becomes the matrix product that it is. Its columns, the windows of the padded image, are a view, which the
scheduler has copied once for all products that read it. Its transpose is one too, or a product whose columns are added
up. The largest element of a window is a chain of comparisons of
slices of the image, one slice for each element of a window. An array with padding, or joined of others, is put together
of parts, which the kernels that compute them store at their places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import shapes
from ..ir.expr import Expr, Graph
from ..ir.op import Literal
from ..ir.trace import tracing
from ..ops.contract import dot_general
from ..ops.elementwise import add, maximum, where
from ..ops.linear import broadcast_to, flip, iota, permute_dims, place, reshape, slice_, sum_
from ..ops.logic import equal, greater_equal, less, logical_and, logical_not, logical_or
from ..ops.reduce import max_
from ..ops.window import lowest, overlap_add, taps, windows
from .products import ORDERED, arrange

__all__ = ["expand"]

TAPS = 16  # elements of a window that are compared one by one, in straight-line code
BELOW = 5  # elementwise ops in a row below which a slice is taken
WIDER = 4  # so many times as many channels may be convolved back into few, before their columns take too much memory
TERMS = 36  # of a sum that needs no matrix product, where a group of channels has few outputs:
OUTPUTS = 8  # from twice as many on a product is faster (benchmarks/core/convolutions.py)
PARTS = 16  # a sum over a batch is taken in at most so many parts, whatever the number of threads

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
        operands = [part if x is whole else _sliced_operand(x, starts, steps, part.shape) for x in args]
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


def _around(x: Any, padding: shapes.Pairs, value: Any = 0) -> Any:
    """``x`` with padding along its last axes."""
    if not any(low or high for low, high in padding):
        return x
    lead = x.ndim - len(padding)
    shape = x.shape[:lead] + tuple(lo + n + hi for n, (lo, hi) in zip(x.shape[lead:], padding, strict=True))
    starts = (0,) * lead + tuple(low for low, _ in padding)
    return place(x, shape=shape, starts=(starts,), steps=((1,) * x.ndim,), value=value)


def _within(x: Any, size: shapes.Shape, padding: shapes.Pairs) -> Any:
    """``x`` without the padding along its last axes, which have ``size`` elements then."""
    lead = x.ndim - len(size)
    starts = (0,) * lead + tuple(low for low, _ in padding)
    stops = tuple(a + n for a, n in zip(starts, x.shape[:lead] + size, strict=True))
    return x if x.shape[lead:] == size else slice_(x, starts=starts, stops=stops, steps=(1,) * x.ndim)


def _copied(x: Any) -> Any:
    """``x`` as an array of its own and no view: to be copied once here, not once for each of its readers."""
    return place(x, shape=x.shape, starts=((0,) * x.ndim,), steps=((1,) * x.ndim,), value=0)


# -- matrix products --------------------------------------------------------------------------------------------------


def _product(left: Any, right: Any, *, contract: Any, batch: Any) -> Any:
    """A product whose operands lie in an order that BLAS can read, once they are copied."""
    node = dot_general(left, right, contract=contract, batch=batch)
    plan = arrange(node)
    if plan is None or ORDERED not in plan.copies:
        return node
    operands, axes = [], []
    for x, groups, copy, contracted, batched in zip(
        (left, right), (plan.left, plan.right), plan.copies, contract, batch, strict=True
    ):
        order = sum(groups, ()) if copy == ORDERED else tuple(range(x.ndim))
        operands.append(permute_dims(x, axes=order))
        axes.append((tuple(map(order.index, contracted)), tuple(map(order.index, batched))))
    (left_contract, left_batch), (right_contract, right_batch) = axes
    return dot_general(*operands, contract=(left_contract, right_contract), batch=(left_batch, right_batch))


def _columns(x: Any, window: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The windows of x: (N, [G,] I / G, *kernel, *counts)."""
    taken = windows(_around(x, padding), window=window, strides=strides, dilation=dilation)
    return _grouped(permute_dims(taken, axes=_exchanged(len(window))), 1, groups)


def _exchanged(count: int) -> shapes.Axes:
    """The permutation by which the places of windows and what is in them change sides, ``count`` axes each."""
    return (0, 1, *range(2 + count, 2 + 2 * count), *range(2, 2 + count))


def _grouped(x: Any, axis: int, groups: int) -> Any:
    """``x`` with an axis of channels as one of groups and one of the channels in each; one group needs no axis."""
    if groups == 1:
        return x
    return reshape(x, shape=(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]))


def _for_each(w: Any, batch: int, groups: int) -> Any:
    """The kernel of every example: (N, [G,] O / G, I / G, *kernel)."""
    w = _grouped(w, 0, groups)
    return broadcast_to(w, shape=(batch, *w.shape))


def _stack(groups: int) -> tuple[shapes.Axes, shapes.Axes]:
    """The axes of examples and groups, of both operands of a product."""
    axes = (0,) if groups == 1 else (0, 1)
    return axes, axes


def _shaped(x: Any, shape: shapes.Shape) -> Any:
    return x if x.shape == shape else reshape(x, shape=shape)


def _conv(x: Any, w: Any, *, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    if w.dtype.kind != "f":
        return None
    if _direct(w, groups):
        return _conv_by_taps(x, w, _Taps(x.shape, w.shape[2:], strides, padding, dilation), groups)
    columns = _columns(x, w.shape[2:], strides, padding, dilation, groups)
    stack = _stack(groups)
    inner = tuple(range(len(stack[0]), len(stack[0]) + w.ndim - 1))
    contract = (tuple(a + 1 for a in inner), inner)
    product = _product(_for_each(w, x.shape[0], groups), columns, contract=contract, batch=stack)
    return _shaped(product, (x.shape[0], w.shape[0], *columns.shape[inner[-1] + 1 :]))


def _conv_transpose(y: Any, w: Any, *, strides: Any, padding: Any, dilation: Any, groups: int, size: Any) -> Any:
    if w.dtype.kind != "f":
        return None
    reach = tuple(extent - 1 for extent in shapes.extents(w.shape[2:], dilation))
    whole = tuple((n - 1) * s + 1 for n, s in zip(y.shape[2:], strides, strict=True))
    lows = tuple(r - low for r, (low, _) in zip(reach, padding, strict=True))
    highs = tuple(n + r - low - m for n, r, low, m in zip(size, reach, lows, whole, strict=True))
    turned = _turned(w, groups)
    few = w.shape[0] <= WIDER * w.shape[1] * groups and set(strides) == {1}
    if (few or _direct(turned, groups)) and min(*lows, *highs) >= 0:
        # Every pixel sees the outputs around it, with zeros between those of windows that move by more than one,
        # through the kernel turned around. That is a convolution, whose columns are copied; columns that are added
        # back take several times as long.
        shape = (*y.shape[:2], *[low + m + high for low, m, high in zip(lows, whole, highs, strict=True)])
        if shape != y.shape:
            y = place(y, shape=shape, starts=((0, 0, *lows),), steps=((1, 1, *strides),), value=0)
        one = (1,) * len(size)
        return _conv(y, turned, strides=one, padding=((0, 0),) * len(size), dilation=dilation, groups=groups)
    n, stack = y.shape[0], _stack(groups)
    channels = ((len(stack[0]),), (len(stack[0]),))
    product = _product(_for_each(w, n, groups), _grouped(y, 1, groups), contract=channels, batch=stack)
    taken = _shaped(product, (n, w.shape[1] * groups, *w.shape[2:], *y.shape[2:]))
    taken = permute_dims(taken, axes=_exchanged(len(size)))
    padded = tuple(low + s + high for s, (low, high) in zip(size, padding, strict=True))
    return _within(overlap_add(taken, size=padded, strides=strides, dilation=dilation), size, padding)


def _turned(w: Any, groups: int) -> Any:
    """A copy of the kernel turned around, its inputs and outputs exchanged: (I, O / G, *kernel)."""
    grouped = _grouped(w, 0, groups)
    lead = grouped.ndim - w.ndim
    turned = flip(grouped, axis=tuple(range(lead + 2, grouped.ndim)))
    turned = permute_dims(turned, axes=(*range(lead), lead + 1, lead, *range(lead + 2, grouped.ndim)))
    return _shaped(_copied(turned), (w.shape[1] * groups, w.shape[0] // groups, *w.shape[2:]))


def _conv_weight(x: Any, y: Any, *, size: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The batch in P parts: sums of (P, N / P, [G,] O / G, *counts) times (P, N / P, [G,] I / G, *kernel, *counts)."""
    if y.dtype.kind != "f":
        return None
    shape = (y.shape[1], x.shape[1] // groups, *size)
    if groups == x.shape[1] and shapes.size(size) <= TAPS:
        return _weight_by_taps(_Taps(x.shape, size, strides, padding, dilation), x, y, shape)
    parts = _even_parts(x.shape[0])

    def cut(z: Any) -> Any:
        return reshape(z, shape=(parts, z.shape[0] // parts, *z.shape[1:]))

    columns = cut(_columns(x, size, strides, padding, dilation, groups))
    outputs = cut(_grouped(y, 1, groups))
    stack = (0,) if groups == 1 else (0, 2)
    channels, count = len(stack) + 1, len(size)
    contract = (
        (1, *range(channels + 1, channels + 1 + count)),
        (1, *range(channels + 1 + count, channels + 1 + 2 * count)),
    )
    product = _product(outputs, columns, contract=contract, batch=(stack, stack))
    return _shaped(product if parts == 1 else sum_(product, axis=(0,)), shape)


# -- convolution without a product, where each channel has a kernel of its own -----------------------------------------


def _direct(w: Any, groups: int) -> bool:
    """Whether the sums have so few terms, for so few outputs, that a product would do little but read its columns."""
    return groups > 1 and shapes.size(w.shape[1:]) <= TERMS and w.shape[0] <= OUTPUTS * groups


def _conv_by_taps(x: Any, w: Any, of: _Taps, groups: int) -> Any:
    """A sum over the input channels of a group and the elements of a window, in straight-line code."""
    n, count, each, outputs = x.shape[0], len(of.window), x.shape[1] // groups, w.shape[0] // groups
    w = reshape(w, shape=(groups, outputs, *w.shape[1:]))
    several = (1,) * (outputs > 1)  # an axis of outputs in a group, if there is more than one
    terms = []
    for tap, at in zip(of.contiguous(x), np.ndindex(*of.window), strict=True):
        for channel in range(each):
            seen = _sliced(tap, (0, channel, *(0,) * count), (1, each, *(1,) * count), (n, groups, *of.counts))
            weight = _sliced(w, (0, 0, channel, *at), (1,) * w.ndim, (groups, outputs, *(1,) * (1 + count)))
            weight = reshape(weight, shape=(groups, *[outputs for _ in several], *(1,) * count))
            terms.append(reshape(seen, shape=(n, groups, *several, *of.counts)) * weight)
    return _shaped(functools.reduce(add, terms), (n, groups * outputs, *of.counts))


def _weight_by_taps(of: _Taps, x: Any, y: Any, shape: shapes.Shape) -> Any:
    """One sum over the batch and all windows for every element of a window; each channel is a row of its own."""
    n, groups, count = x.shape[0], x.shape[1], len(of.window)
    order = (1, 2, 0, *range(3, 3 + count))  # (G, O / G, N, *counts)
    outputs = permute_dims(reshape(y, shape=(n, groups, y.shape[1] // groups, *of.counts)), axes=order)
    parts = []
    for tap in of.contiguous(x):
        seen = permute_dims(reshape(tap, shape=(n, groups, 1, *of.counts)), axes=order)
        parts.append(
            reshape(sum_(seen * outputs, axis=tuple(range(2, 3 + count))), shape=(shape[0], *(1,) * (1 + count)))
        )
    starts = tuple([(0, 0, *at) for at in np.ndindex(*of.window)])
    return place(*parts, shape=shape, starts=starts, steps=((1,) * len(shape),) * len(parts), value=0)


def _even_parts(n: int) -> int:
    """Into how many equal parts a batch is cut: an even number where there is one, for threads to share."""
    found = [p for p in range(1, PARTS + 1) if n % p == 0]
    return max([p for p in found if p % 2 == 0], default=max(found))


# -- the largest element of each window -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Taps:
    """The elements of a window one by one, where windows slide over an array of ``shape``."""

    shape: shapes.Shape
    window: Any
    strides: Any
    padding: Any
    dilation: Any

    @property
    def counts(self) -> shapes.Shape:
        return shapes.windows(self.shape[2:], self.window, self.strides, self.padding, self.dilation)

    @property
    def few(self) -> bool:
        return shapes.size(self.window) <= TAPS

    @property
    def apart(self) -> bool:
        """Whether no two windows meet."""
        covers = shapes.extents(self.window, self.dilation)
        return all(extent <= stride for extent, stride in zip(covers, self.strides, strict=True))

    @property
    def whole(self) -> shapes.Shape:
        """The shape with the padding."""
        return self.shape[:2] + tuple(lo + n + hi for n, (lo, hi) in zip(self.shape[2:], self.padding, strict=True))

    def places(self) -> list[tuple[shapes.Shape, shapes.Shape]]:
        """For each element of a window its place in the padded array, as starts and steps."""
        found = taps(self.window, self.counts, self.strides, self.dilation)
        return [((0, 0, *[i.start for i in at]), (1, 1, *[i.step for i in at])) for _, (_, *at) in found]

    def of(self, x: Any, value: Any = 0) -> list[Any]:
        """Each element of a window of ``x``, for all windows."""
        x = _around(x, self.padding, value)
        return [_sliced(x, starts, steps, self.shape[:2] + self.counts) for starts, steps in self.places()]

    def contiguous(self, x: Any) -> list[Any]:
        """Like :meth:`of`; where windows move by more than one, of a copy in which what they see at once lies together:
        the numbers at even places apart from those at odd ones, and so on."""
        if set(self.strides) == {1}:
            return self.of(x)
        count, lows = len(self.window), [low for low, _ in self.padding]
        parts, starts = [], []
        for phase in np.ndindex(*self.strides):
            first = tuple([(p - low) % s for p, low, s in zip(phase, lows, self.strides, strict=True)])
            sizes = tuple([-(-(n - f) // s) for n, f, s in zip(x.shape[2:], first, self.strides, strict=True)])
            if min(sizes) > 0:
                parts.append(_sliced(x, (0, 0, *first), (1, 1, *self.strides), (*x.shape[:2], *sizes)))
                parts[-1] = reshape(parts[-1], shape=(*x.shape[:2], *(1,) * count, *sizes))
                at = [(f + low) // s for f, low, s in zip(first, lows, self.strides, strict=True)]
                starts.append((0, 0, *phase, *at))
        planes = [-(-n // s) for n, s in zip(self.whole[2:], self.strides, strict=True)]
        shape = (*x.shape[:2], *self.strides, *planes)
        apart = place(*parts, shape=shape, starts=tuple(starts), steps=((1,) * len(shape),) * len(parts), value=0)
        taken = []
        for tap in np.ndindex(*self.window):
            offsets = [k * d for k, d in zip(tap, self.dilation, strict=True)]
            phase = tuple([o % s for o, s in zip(offsets, self.strides, strict=True)])
            begin = tuple([o // s for o, s in zip(offsets, self.strides, strict=True)])
            shape = (*x.shape[:2], *(1,) * count, *self.counts)
            seen = _sliced(apart, (0, 0, *phase, *begin), (1,) * apart.ndim, shape)
            taken.append(reshape(seen, shape=(*x.shape[:2], *self.counts)))
        return taken

    def inside(self) -> list[Any]:
        """For each element of a window whether it lies in the array; None where that is so in all windows."""
        result = []
        for starts, steps in self.places():
            held = None
            for axis in range(2, len(self.shape)):
                low, n, m = self.padding[axis - 2][0], self.shape[axis], self.counts[axis - 2]
                first, last = starts[axis] - low, starts[axis] - low + (m - 1) * steps[axis]
                shape = tuple(m if a == axis else 1 for a in range(len(self.shape)))
                at = iota(shape=shape, axis=axis, dtype="int64") * np.int64(steps[axis]) + np.int64(first)
                for holds in [greater_equal(at, np.int64(0))] * (first < 0) + [less(at, np.int64(n))] * (last >= n):
                    held = holds if held is None else logical_and(held, holds)
            result.append(held)
        return result

    def contest(self, x: Any) -> list[Any]:
        """For each element of a window but the first: whether it is larger than all before it.

        The last one of which that is true is the first of the largest. A NaN is larger than any number, and what lies
        outside never is.
        """
        first, *others = self.of(x, lowest(x.dtype))
        inside = self.inside()
        best, found, result = first, inside[0], []
        for tap, held in zip(others, inside[1:], strict=True):
            larger = logical_not(greater_equal(best, tap))
            if x.dtype.kind == "f":
                larger = logical_and(larger, equal(best, best))
            if found is not None:
                larger = logical_or(larger, logical_not(found))
                found = None if held is None else logical_or(found, held)
            larger = larger if held is None else logical_and(larger, held)
            best = where(larger, tap, best)
            result.append(larger)
        return result


def _max_pool(x: Any, **geometry: Any) -> Any:
    """A maximum of slices, or over the last axes of the windows."""
    of = _Taps(x.shape, **geometry)
    if x.dtype.kind == "b":
        return None
    if of.few:
        return functools.reduce(maximum, of.of(x, lowest(x.dtype)))
    del geometry["padding"]
    taken = windows(_around(x, of.padding, lowest(x.dtype)), **geometry)
    return max_(taken, axis=tuple(range(x.ndim, taken.ndim)))


def _max_select(v: Any, x: Any, **geometry: Any) -> Any:
    of = _Taps(x.shape, **geometry)
    if not of.few or x.dtype.kind == "b":
        return None
    chosen, *others = of.of(v)
    for larger, tap in zip(of.contest(x), others, strict=True):
        chosen = where(larger, tap, chosen)
    return chosen


def _max_unpool(y: Any, x: Any, **geometry: Any) -> Any:
    """Windows that do not meet are parts of the result; others are added up."""
    of = _Taps(x.shape, **geometry)
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
        return _within(place(*reversed(parts), shape=of.whole, starts=starts, steps=steps), x.shape[2:], of.padding)
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
    return _within(added, x.shape[2:], of.padding)


def _sliced(x: Any, starts: Any, steps: Any, shape: Any, below: int = BELOW) -> Any:
    """A slice of ``x``, taken below the cheap elementwise ops that made it: they need not be computed on their own."""
    if (shape, starts) == (x.shape, (0,) * x.ndim):
        return x
    if below and x.op.family == "elementwise" and x.op.cheap:
        made = x.op(*[_sliced_operand(arg, starts, steps, shape, below - 1) for arg in x.args], **x.kwargs)
        return made if made.shape == shape else broadcast_to(made, shape=shape)
    stops = tuple(a + (n - 1) * s + 1 for a, s, n in zip(starts, steps, shape, strict=True))
    return slice_(x, starts=starts, stops=stops, steps=steps)


def _sliced_operand(x: Any, starts: Any, steps: Any, shape: Any, below: int = BELOW) -> Any:
    """What an elementwise op needs of an operand, which broadcasts, for a slice of its result."""
    lead, one = len(shape) - x.ndim, [n == 1 for n in x.shape]
    starts = tuple(0 if only else a for only, a in zip(one, starts[lead:], strict=True))
    steps, shape = [tuple(1 if only else n for only, n in zip(one, of[lead:], strict=True)) for of in (steps, shape)]
    return _sliced(x, starts, steps, shape, below)


RULES: dict[str, Rule] = {
    "pad": _pad,
    "concat": _concat,
    "sum": _sum,
    "dot_general": _product,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "conv_weight": _conv_weight,
    "max_pool": _max_pool,
    "max_select": _max_select,
    "max_unpool": _max_unpool,
}
