"""Simplification: rules that give the same numbers, to the bit, with fewer nodes. Each is a named function.

A rule gets a node over already simplified operands and returns a better node, or None. It may use ops; the driver
simplifies what it makes. Rules that are only nearly exact (x * 0, x - x) are not here: they are wrong for NaN and inf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.expr import Expr, Graph
from ..ir.trace import Trace, tracing
from ..ops.elementwise import multiply
from ..ops.linear import broadcast_to, permute_dims, reshape, slice_

__all__ = ["RULES", "simplify"]

Rule = Callable[[Trace, Expr], Any]


def _value(node: Expr) -> Any:
    """The number a node repeats in every element, or None."""
    while node.op.name in ("broadcast_to", "reshape"):
        node = node.args[0]
    return node.kwargs["value"].value if node.op.name == "constant" else None


def _is(node: Expr, number: float, *, negative_zero: bool = False) -> bool:
    value = _value(node)
    return value is not None and value == number and bool(np.signbit(value)) == negative_zero


def fold_constants(trace: Trace, node: Expr) -> Any:
    """An elementwise op on numbers is a number."""
    if node.op.family != "elementwise" or node.shape != () or not node.args or node.aval.weak:
        return None
    if any(arg.op.name != "constant" for arg in node.args):
        return None
    with np.errstate(all="ignore"):
        result = node.op.body(*[arg.kwargs["value"].value for arg in node.args], **node.kwargs)
    return trace.constant(node.dtype.type(result))


def number_before_broadcast(trace: Trace, node: Expr) -> Any:
    """An elementwise op whose operands all repeat a number computes one number and repeats that."""
    if node.op.family != "elementwise" or node.shape == () or not node.args or node.aval.weak:
        return None
    values = [_value(arg) for arg in node.args]
    if any(value is None for value in values):
        return None
    scalar = node.op(*[trace.constant(value) for value in values], **node.kwargs)
    return broadcast_to(scalar, shape=node.shape)


def _same(node: Expr, kept: Expr) -> Any:
    """``kept`` in place of an elementwise ``node`` that leaves it as it is."""
    if kept.dtype != node.dtype or kept.aval.weak != node.aval.weak:
        return None
    return kept if kept.shape == node.shape else broadcast_to(kept, shape=node.shape)


def multiply_by_one(trace: Trace, node: Expr) -> Any:
    """x * 1 and 1 * x are x; so is x / 1."""
    if node.op.name not in ("multiply", "divide"):
        return None
    x, y = node.args
    if _is(y, 1):
        return _same(node, x)
    return _same(node, y) if node.op.name == "multiply" and _is(x, 1) else None


def add_zero(trace: Trace, node: Expr) -> Any:
    """x - 0 is x. x + 0 is x for integers only: -0.0 + 0.0 is 0.0."""
    if node.op.name == "subtract" and _is(node.args[1], 0):
        return _same(node, node.args[0])
    if node.op.name == "add":
        x, y = node.args
        negative = node.dtype.kind == "f"
        if _is(y, 0, negative_zero=negative):
            return _same(node, x)
        if _is(x, 0, negative_zero=negative):
            return _same(node, y)
    return None


def small_powers(trace: Trace, node: Expr) -> Any:
    """x ** 1 is x, x ** 2 is x * x, x ** 0 is 1."""
    if node.op.name != "pow":
        return None
    x, y = node.args
    if x.shape != node.shape:
        return None
    if _is(y, 1):
        return _same(node, x)
    if _is(y, 2):
        return multiply(x, x)
    return broadcast_to(node.dtype.type(1), shape=node.shape) if _is(y, 0) and not node.aval.weak else None


def double_negation(trace: Trace, node: Expr) -> Any:
    """-(-x) is x."""
    return node.args[0].args[0] if node.op.name == "negative" and node.args[0].op.name == "negative" else None


def choose_known(trace: Trace, node: Expr) -> Any:
    """where with a known condition is one of its branches."""
    if node.op.name != "where":
        return None
    condition = _value(node.args[0])
    return None if condition is None else _same(node, node.args[1 if condition else 2])


def idle_movement(trace: Trace, node: Expr) -> Any:
    """A reshape, broadcast, permutation or slice that changes nothing is its operand; so is stop_grad after tracing."""
    if node.op.family != "movement" or len(node.args) != 1 or node.shape != node.args[0].shape:
        return None
    if node.op.name in ("reshape", "broadcast_to", "stop_grad", "slice"):
        return node.args[0]
    if node.op.name == "flip" and all(node.shape[a] == 1 for a in node.kwargs["axis"]):
        return node.args[0]
    return node.args[0] if node.op.name == "permute_dims" and node.kwargs["axes"] == tuple(range(node.ndim)) else None


def idle_cast(trace: Trace, node: Expr) -> Any:
    """A cast to the dtype that the operand has is the operand."""
    same = node.op.name == "astype" and (node.dtype, node.aval.weak) == (node.args[0].dtype, node.args[0].aval.weak)
    return node.args[0] if same else None


def reduce_nothing(trace: Trace, node: Expr) -> Any:
    """A sum, product or extremum over no axes is its operand (but a float sum: it makes 0.0 of -0.0)."""
    names = ("prod", "max", "min") if node.dtype.kind == "f" else ("sum", "prod", "max", "min")
    if node.op.name in names and node.kwargs["axis"] == () and node.dtype == node.args[0].dtype:
        return node.args[0]
    return None


def chained_movement(trace: Trace, node: Expr) -> Any:
    """Of two reshapes, broadcasts or permutations in a row, one is enough."""
    if node.op.family != "movement" or not node.args or node.args[0].op is not node.op:
        return None
    inner = node.args[0].args[0]
    if node.op.name == "reshape":
        return reshape(inner, shape=node.shape)
    if node.op.name == "broadcast_to":
        return broadcast_to(inner, shape=node.shape)
    if node.op.name == "permute_dims":
        first = node.args[0].kwargs["axes"]
        return permute_dims(inner, axes=tuple(first[a] for a in node.kwargs["axes"]))
    return None


def implicit_broadcast(trace: Trace, node: Expr) -> Any:
    """An elementwise op broadcasts its operands itself, as long as another operand has the full shape."""
    if node.op.family != "elementwise" or len(node.args) < 2:
        return None
    if not any(arg.shape == node.shape and arg.op.name != "broadcast_to" for arg in node.args):
        return None
    if not any(arg.op.name == "broadcast_to" for arg in node.args):
        return None
    return trace.copy(node, tuple(arg.args[0] if arg.op.name == "broadcast_to" else arg for arg in node.args))


def slice_of_view(trace: Trace, node: Expr) -> Any:
    """A slice of a slice is one slice; a slice of a reshape that only adds axes of size 1 goes below it."""
    if node.op.name != "slice":
        return None
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


def slice_of_concat(trace: Trace, node: Expr) -> Any:
    """A slice that touches one of the joined tensors only is a slice of that one."""
    if node.op.name != "slice" or node.args[0].op.name != "concat" or 0 in node.shape:
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


def one_element(trace: Trace, node: Expr) -> Any:
    """One element of an elementwise op's result is that op on one element of each operand; of iota, a number.

    Only where few operations lie behind the element: keys and counters, not whole nets.
    """
    if node.op.name != "slice" or node.size != 1:
        return None
    (x,) = node.args
    starts = node.kwargs["starts"]
    if x.op.name == "iota":
        return broadcast_to(x.dtype.type(starts[x.kwargs["axis"]]), shape=node.shape)
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


RULES: tuple[Rule, ...] = (
    fold_constants,
    number_before_broadcast,
    multiply_by_one,
    add_zero,
    small_powers,
    double_negation,
    choose_known,
    idle_movement,
    idle_cast,
    reduce_nothing,
    chained_movement,
    implicit_broadcast,
    slice_of_view,
    slice_of_concat,
    one_element,
)
LIMIT = 1000  # rewrites that one node of the graph may set off; reaching it means that rules undo each other
ELEMENTWISE = 48  # nodes behind an element that is computed alone


class LoopingRules(AssertionError):
    """Two rules undo each other's work."""


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied until none fires, in one walk: operands are simple before their users."""
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        simple: set[Expr] = set(inputs)

        def visit(node: Expr, args: tuple[Expr, ...]) -> Expr:
            trace.place = node.loc
            return _simplified(trace, trace.copy(node, args), simple, [])

        outputs = graph.rebuild(inputs, visit)
        return trace.graph(outputs)


def _simplified(trace: Trace, node: Expr, simple: set[Expr], fired: list[str]) -> Expr:
    """``node`` and what it sets off, simplified; ``fired`` lists the rules that did it."""
    while node not in simple:
        for arg in node.args:  # what a rule has made may have operands that nobody has looked at
            if arg not in simple:
                better = _simplified(trace, arg, simple, fired)
                if better is not arg:
                    node = trace.copy(node, tuple([better if a is arg else a for a in node.args]))
        for rule in RULES:
            better = rule(trace, node)
            if better is not None and better is not node:
                fired.append(rule.__name__)
                if len(fired) > LIMIT:
                    last = ", ".join(fired[-6:])
                    raise LoopingRules(f"simplification does not end: {last} fire in turn on {node.op.name}")
                node = trace.lift(better)
                break
        else:
            simple.add(node)
    return node
