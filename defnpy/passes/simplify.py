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
from ..ops.linear import broadcast_to, permute_dims, reshape

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
    return trace.constant(np.asarray(result)[()])


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
        return x * x
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
    return node.args[0] if node.op.name == "permute_dims" and node.kwargs["axes"] == tuple(range(node.ndim)) else None


def idle_cast(trace: Trace, node: Expr) -> Any:
    """A cast to the dtype that the operand has is the operand."""
    same = node.op.name == "astype" and (node.dtype, node.aval.weak) == (node.args[0].dtype, node.args[0].aval.weak)
    return node.args[0] if same else None


def reduce_nothing(trace: Trace, node: Expr) -> Any:
    """A sum, product or extremum over no axes is its operand."""
    if node.op.name in ("sum", "prod", "max", "min") and node.kwargs["axis"] == () and node.dtype == node.args[0].dtype:
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
)
LIMIT = 100  # rewrites of one node; reaching it means that two rules undo each other


class LoopingRules(AssertionError):
    """Two rules undo each other's work."""


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied until none fires, in one walk: operands are simple before their users."""
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        simple: set[Expr] = set(inputs)

        def visit(node: Expr, args: tuple[Expr, ...]) -> Expr:
            trace.place = node.loc
            return _simplified(trace, trace.copy(node, args), simple)

        outputs = graph.rebuild(inputs, visit)
        return trace.graph(outputs)


def _simplified(trace: Trace, node: Expr, simple: set[Expr]) -> Expr:
    fired: list[str] = []
    while node not in simple:
        for arg in node.args:  # what a rule has made may have operands that nobody has looked at
            if arg not in simple:
                better = _simplified(trace, arg, simple)
                if better is not arg:
                    node = trace.copy(node, tuple([better if a is arg else a for a in node.args]))
        for rule in RULES:
            better = rule(trace, node)
            if better is not None and better is not node:
                fired.append(rule.__name__)
                node = trace.lift(better)
                break
        else:
            simple.add(node)
        if len(fired) > LIMIT:
            raise LoopingRules(f"simplification does not end: {', '.join(fired[-6:])} fire in turn on {node.op.name}")
    return node
