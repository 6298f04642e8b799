"""Which values are finite, and which are not negative, as far as the graph tells: that decides where a dead branch may
spoil a gradient, and so where a mask is needed. Arguments are taken to be finite, and overflow of sums and products is
not thought of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..ir.aval import Avals
from ..ir.expr import Expr, Graph, subgraphs
from ..ir.op import CONSTANT

__all__ = ["Facts", "calm", "facts", "is_calm", "is_tame"]

# Families whose ops add, multiply, choose and move.
_TAME = frozenset({"contraction", "convolution", "item", "leaf", "movement", "parts", "reduction", "window"})
_SAME_SIGN = frozenset({"broadcast_to", "flip", "gather", "max", "min", "permute_dims", "reshape", "slice", "windows"})
_EXPONENTIALS = frozenset({"exp", "exp2"})


class Facts(NamedTuple):
    """finite: neither infinite nor NaN. low: 2 for a positive value, 1 for one that is not negative, 0 for others."""

    finite: bool
    low: int


def facts(order: Sequence[Expr], mild: bool = False) -> dict[Expr, Facts]:
    """What is known of the nodes of a graph, operands first.

    mild: overflow and underflow of exp is not thought of either, and an infinity that is written down is meant: so a
    softmax is finite, of numbers masked with -inf too.
    """
    known: dict[Expr, Facts] = {}
    for node in order:
        x = [known[arg] for arg in node.args]
        if isinstance(node.aval, Avals):
            graphs = mild and node.op.family in ("control", "call")
            inside = graphs and all(is_calm(graph) for _, graph in subgraphs(node))
            known[node] = Facts(inside and all(fact.finite for fact in x), 0)
        else:
            known[node] = Facts(_finite(node, x, mild), _low(node, [fact.low for fact in x], mild))
    return known


def calm(order: Sequence[Expr]) -> set[Expr]:
    """The nodes of a graph that are finite, with all that they are computed from and all derivatives on the way, by
    mild facts."""
    known, found = facts(order, mild=True), set[Expr]()
    for node in order:
        x = [known[arg] for arg in node.args]
        float_ = not isinstance(node.aval, Avals) and node.dtype.kind == "f"
        if known[node].finite and all(arg in found for arg in node.args) and (not float_ or is_tame(node, x, True)):
            found.add(node)
    return found


def is_calm(graph: Graph) -> bool:
    """Whether all nodes of a graph are."""
    nodes = graph.nodes()
    return len(calm(nodes)) == len(nodes)


def _finite(node: Expr, x: Sequence[Facts], mild: bool) -> bool:
    if node.dtype.kind != "f":
        return True
    if node.op is CONSTANT:
        value = node.kwargs["value"].value
        return bool(np.isfinite(value) or (mild and np.isinf(value)))
    if node.op.name == "pad" and not np.isfinite(node.kwargs["value"].value) and not mild:
        return False
    root = node.op.name == "sqrt" and x[0].low > 0  # of 0 it is finite, and its derivative is not
    return all(fact.finite for fact in x) and (root or is_tame(node, x, mild))


def is_tame(node: Expr, x: Sequence[Facts], mild: bool = False) -> bool:
    """Whether a node's value and derivatives are finite if its operands are."""
    name = node.op.name
    if name == "divide":
        return x[1].low == 2
    if name in ("sqrt", "log", "reciprocal"):
        return x[0].low == 2
    if name == "log1p":
        return x[0].low > 0
    if name == "pow":
        return _whole_exponent(node) is not None
    if mild and name in _EXPONENTIALS:
        return True
    return node.op.tame or node.op.family in _TAME


def _low(node: Expr, x: Sequence[int], mild: bool) -> int:
    name = node.op.name
    if mild and name in _EXPONENTIALS:
        return 2
    if mild and name == "sum":
        return x[0]
    if node.op is CONSTANT:
        value = node.kwargs["value"].value
        return 2 if np.greater(value, 0) else int(np.greater_equal(value, 0))
    if name in _SAME_SIGN or name == "sqrt":
        return x[0]
    if name == "astype":  # a small number may become 0
        wide = node.dtype.kind == "f" and node.dtype.itemsize >= node.args[0].dtype.itemsize
        return x[0] if wide else min(x[0], 1)
    if name == "add":
        return max(x) if min(x) > 0 else 0
    if name == "multiply":  # the product of two small numbers may be 0
        return int(node.args[0] is node.args[1] or min(x) > 0)
    if name == "divide":
        return int(min(x) > 0)
    if name == "pow":
        return int((_whole_exponent(node) or 1) % 2 == 0)
    if name == "maximum":
        return max(x)
    if name in ("minimum", "where"):
        return min(x[-2:])
    if name == "sum":
        return min(x[0], 1)
    return int(name in ("abs", "exp", "exp2", "hypot", "relu", "sigmoid"))


def _whole_exponent(node: Expr) -> int | None:
    """The exponent of a power, where that is a number 0, 1, 2 ..."""
    exponent = node.args[1]
    while exponent.op.name in ("astype", "broadcast_to"):
        (exponent,) = exponent.args
    value = float(exponent.kwargs["value"].value) if exponent.op is CONSTANT else -1.0
    return int(value) if value >= 0 and value.is_integer() else None
