"""How a mask goes through an op: what of the operands is alive, and how products leave out what is dead.

A mask says what is read of a result, whatever the numbers are: an element of an operand is alive where an element of
the result that is alive may depend on it. It may be larger than that, never smaller. Three rules give it. An op that
moves elements, or adds them, moves the mask as it moves the cotangent. A product does, with ones in place of the other
operand. Of any other op an element of the result is taken to depend on all elements of the operands; in a stack of
matrices, on those of its own matrix. Control flow has the masks among what its graphs compute (``Op.graphs``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import DEFAULT_INT, cotangent_dtype
from ..ir.aval import Aval
from ..ir.expr import Expr, Graph, Params
from ..ir.op import Op
from ..ir.trace import current, tracing
from ..ops.contract import dot_general, free_axes
from ..ops.control import cond
from ..ops.convert import cast
from ..ops.cumulative import cumulative_max, cumulative_min, cumulative_prod, cumulative_sum
from ..ops.elementwise import where
from ..ops.gather import scatter_add, scatter_set
from ..ops.linalg import solve, triangular_solve
from ..ops.linear import broadcast_to, permute_dims, reshape, restore, sum_
from ..ops.logic import greater, isfinite, logical_and, logical_not, logical_or, not_equal
from ..ops.mark import stop_grad
from ..ops.reduce import all_, any_
from ..ops.sort import sort_
from .cotangent import Cotangent

__all__ = ["is_moving", "is_product", "product_rule", "spread", "without_dead"]

_MOVING = frozenset({cumulative_max, cumulative_min, cumulative_sum, scatter_add, scatter_set, sort_, sum_})
_MOVING_FAMILIES = frozenset({"after", "effect", "movement", "parts", "window"})
_SYSTEMS = frozenset({solve, triangular_solve})


def is_moving(op: Op) -> bool:
    """Whether the rule backwards only moves cotangents and adds them, so that nothing can spoil one."""
    return op.family in _MOVING_FAMILIES or op in _MOVING


def is_product(op: Op) -> bool:
    """Whether an op is linear in each of two operands, and its derivatives are such products too."""
    return op.family in ("contraction", "convolution")


def spread(node: Expr, outer: Sequence[Cotangent]) -> Callable[[int], Any]:
    """What is alive of each operand of a node, by its number, when ``outer`` are the cotangents of its results; asked
    for one operand, it broadcasts to its shape."""
    if len(outer) == 1 and (is_moving(node.op) or is_product(node.op) or node.op in (cumulative_prod, *_SYSTEMS)):
        alive = functools.cache(lambda: _whole(outer[0]))
        if node.op is dot_general:
            return lambda i: _of_factor(node, alive(), i)
        if node.op in _SYSTEMS:  # the columns are systems of their own
            return lambda i: any_(alive(), axis=(-2, -1) if i == 0 else -2, keepdims=True)
        return lambda i: _pulled(node, alive(), i)
    if node.op.family == "reduction":
        ((x,), axis) = node.args, node.kwargs["axis"]
        return lambda i: restore(_whole(outer[0]), x, axis)
    lead = node.args[0].ndim - 2 if node.op.family == "matrices" else 0
    each = functools.cache(lambda: functools.reduce(logical_or, [_beyond(_whole(g), lead) for g in outer]))
    return lambda i: reshape(each(), shape=(*each().shape, *(1,) * (node.args[i].ndim - lead)))


def _whole(g: Cotangent) -> Any:
    """The condition in the shape of the cotangent."""
    shape = g.bare.shape
    return g.alive if g.alive.shape == shape else broadcast_to(g.alive, shape=shape)


def _beyond(alive: Any, lead: int) -> Any:
    """Whether anything is alive beyond the first ``lead`` axes."""
    axes = tuple(range(lead, alive.ndim))
    return any_(alive, axis=axes) if axes else alive


def _pulled(node: Expr, alive: Any, i: int) -> Any:
    """The mask of an operand, by the rule of the op: as it would pull back ones, with ones for what it multiplies."""
    assert node.op.vjp is not None
    rule = functools.partial(node.op.vjp, **node.kwargs)
    if node.op.family in ("movement", "parts", "after") or node.op is sum_:
        found = rule(alive, node, *node.args)[i]
        return found if found.dtype.kind == "b" else not_equal(found, 0)
    dtype = cotangent_dtype(node.dtype)
    assert dtype is not None
    if is_moving(node.op):
        return not_equal(rule(cast(alive, dtype), node, *node.args)[i], 0)
    ones = [broadcast_to(dtype.type(1), shape=x.shape) for x in (node, *node.args)]
    return not_equal(rule(cast(alive, dtype), *ones)[i], 0)


def _of_factor(node: Expr, alive: Any, i: int) -> Any:
    """Of a product: alive along the other operand's free axes."""
    contract, batch = node.kwargs["contract"], node.kwargs["batch"]
    x, lead = node.args[i], len(batch[0])
    free = [free_axes(arg.ndim, contract[k], batch[k]) for k, arg in enumerate(node.args)]
    start = lead + len(free[0])
    others = tuple(range(start, alive.ndim) if i == 0 else range(lead, start))
    found = any_(alive, axis=others) if others else alive
    axes = (*batch[i], *free[i])  # where the axes of what was found stand in the operand
    order = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    found = found if order == tuple(range(len(order))) else permute_dims(found, axes=order)
    return reshape(found, shape=tuple(1 if a in contract[i] else n for a, n in enumerate(x.shape)))


def without_dead(node: Expr, y: Any, alive: Callable[[int], Any]) -> tuple[Any, ...]:
    """The result and the operands for a rule that mixes elements, with ones for those that nothing alive depends on."""
    if node.op is cumulative_prod:
        return y, *[where(alive(0), x, 1) for x in node.args]
    if node.op in _SYSTEMS:
        return where(alive(1), y, 1), *node.args
    return y, *node.args


# -- products ----------------------------------------------------------------------------------------------------------


def product_rule(
    node: Expr, g: Cotangent, alive: Callable[[int], Any], wanted: Sequence[bool], wild: bool
) -> list[Any]:
    """The rule of a product for a cotangent with a mask: no dead element meets one of an operand that is not finite.

    wild: whether an op may have made an operand infinite or NaN. Then what meets nothing that is alive is 0 in the
    operands. If not, it stays, which costs nothing, but has no derivative.

    A product with zeros for what is dead does it, as long as the operands are finite, which the result tells. A guard
    stands behind that (see ``lower/guards.py``): if they are not, the finite part is multiplied alone, and where
    something alive meets the rest the plain product stays.
    """
    dtype = cotangent_dtype(node.dtype)
    trace = current()
    assert dtype is not None and trace is not None and node.op.vjp is not None
    rule = functools.partial(node.op.vjp, **node.kwargs)
    operands = [trace.lift(where(alive(i), x, 0 if wild else stop_grad(x))) for i, x in enumerate(node.args)]
    if node.size <= sum(x.size for x in operands):
        finite = all_(logical_or(isfinite(node), logical_not(_whole(g))) if wild else isfinite(node))
    else:
        finite = functools.reduce(logical_and, [all_(isfinite(x)) for x in operands])
    plain = [
        trace.lift(cast(part, dtype)) if wants else None
        for part, wants in zip(rule(g.value, None, *operands), wanted, strict=True)
    ]
    given = [part for part in plain if part is not None] + [*map(trace.lift, (g.value, *operands, g.alive))]
    branches = _branches(node.op, node.params, tuple(wanted), tuple([x.aval for x in given]))
    found = iter(cond(where(finite, DEFAULT_INT.type(0), DEFAULT_INT.type(1)), *given, branches=branches))
    return [None if part is None else next(found) for part in plain]


@functools.lru_cache(maxsize=256)
def _branches(op: Op, params: Params, wanted: tuple[bool, ...], avals: tuple[Aval, ...]) -> tuple[Graph, Graph]:
    """The results of the plain rule as they are, and those that leave out what is dead; of equal products once.

    The inputs are the plain results that are wanted, the cotangent, the operands and the mask.
    """
    assert op.vjp is not None
    rule = functools.partial(op.vjp, **dict(params))
    count = sum(wanted)
    with tracing() as trace:
        x = [trace.parameter(aval, f"x{i}") for i, aval in enumerate(avals)]
        plain, (g, left, right, alive) = x[:count], x[count:]
        finite = [isfinite(x) for x in (left, right)]
        clean = rule(g, None, *[where(f, x, 0) for f, x in zip(finite, (left, right), strict=True)])
        met = broadcast_to(cast(alive, g.dtype), shape=g.shape)
        meetings = rule(met, None, *[cast(logical_not(f), g.dtype) for f in finite])
        parts = [pair for pair, wants in zip(zip(meetings, clean, strict=True), wanted, strict=True) if wants]
        exact = [where(greater(n, 0), spoilt, own) for spoilt, (n, own) in zip(plain, parts, strict=True)]
        return trace.graph(plain), trace.graph([trace.lift(part) for part in exact])
