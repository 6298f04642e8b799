"""Simplification: rules that give the same numbers, to the bit, with fewer or cheaper nodes.

Here are those of algebra; ``movement.py`` has those of views, casts and reductions. Rules that are only nearly exact
(x * 0, x - x) are in neither: they are wrong for NaN and inf.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.expr import Expr, Graph
from ..ir.trace import Trace
from ..ops.elementwise import add, multiply, negative, subtract
from ..ops.linear import broadcast_to
from .movement import MOVEMENT_RULES
from .patterns import fitted, is_count, is_number, number
from .positions import POSITION_RULES
from .rewrite import Rule, rewrite, rule

__all__ = ["RULES", "simplify"]


@rule("elementwise")
def fold_constants(trace: Trace, node: Expr) -> Any:
    """An elementwise op on numbers is a number. A quotient by a count stays one: the kernel takes it as an argument."""
    if node.shape != () or not node.args or node.aval.weak:
        return None
    if node.op.name == "divide" and is_count(number(node.args[1])):
        return None
    if any(arg.op.name != "constant" for arg in node.args):
        return None
    with np.errstate(all="ignore"):
        result = node.op.body(*[arg.kwargs["value"].value for arg in node.args], **node.kwargs)
    return trace.constant(node.dtype.type(result))


@rule("elementwise")
def number_before_broadcast(trace: Trace, node: Expr) -> Any:
    """An elementwise op whose operands all repeat one value computes one value and repeats that."""
    if node.shape == () or not node.args or node.aval.weak:
        return None
    values = []
    for arg in node.args:
        value = number(arg)
        if value is not None:
            values.append(trace.constant(value))
        elif arg.op.name == "broadcast_to" and arg.args[0].shape == () and not arg.aval.weak:
            values.append(arg.args[0])
        else:
            return None
    return broadcast_to(node.op(*values, **node.kwargs), shape=node.shape)


@rule("multiply", "divide")
def multiply_by_one(trace: Trace, node: Expr) -> Any:
    """x * 1 and 1 * x are x; so is x / 1."""
    x, y = node.args
    if is_number(y, 1):
        return fitted(x, node)
    return fitted(y, node) if node.op.name == "multiply" and is_number(x, 1) else None


@rule("multiply", "divide")
def multiply_by_minus_one(trace: Trace, node: Expr) -> Any:
    """x * -1 and -1 * x are -x; so is x / -1."""
    x, y = node.args
    if is_number(y, -1):
        return fitted(negative(x), node)
    return fitted(negative(y), node) if node.op.name == "multiply" and is_number(x, -1) else None


@rule("add", "subtract")
def add_zero(trace: Trace, node: Expr) -> Any:
    """x - 0 is x. x + 0 is x for integers only: -0.0 + 0.0 is 0.0, so floats need -0.0."""
    x, y = node.args
    if node.op.name == "subtract":
        return fitted(x, node) if is_number(y, 0) else None
    negative_zero = node.dtype.kind == "f"
    if is_number(y, 0, negative_zero=negative_zero):
        return fitted(x, node)
    return fitted(y, node) if is_number(x, 0, negative_zero=negative_zero) else None


@rule("add", "subtract")
def add_negative(trace: Trace, node: Expr) -> Any:
    """x + (-y) is x - y, (-x) + y is y - x, x - (-y) is x + y."""
    x, y = node.args
    if y.op.name == "negative":
        return subtract(x, y.args[0]) if node.op.name == "add" else add(x, y.args[0])
    return subtract(y, x.args[0]) if node.op.name == "add" and x.op.name == "negative" else None


@rule("multiply", "divide")
def product_of_negatives(trace: Trace, node: Expr) -> Any:
    """(-x) * (-y) is x * y, and (-x) / (-y) is x / y."""
    x, y = node.args
    both = x.op.name == "negative" and y.op.name == "negative"
    return node.op(x.args[0], y.args[0]) if both else None


@rule("pow")
def small_powers(trace: Trace, node: Expr) -> Any:
    """x ** 1 is x, x ** 2 is x * x, x ** 0 is 1."""
    x, y = node.args
    if x.shape != node.shape:
        return None
    if is_number(y, 1):
        return fitted(x, node)
    if is_number(y, 2):
        return multiply(x, x)
    return broadcast_to(node.dtype.type(1), shape=node.shape) if is_number(y, 0) and not node.aval.weak else None


@rule("negative", "logical_not")
def double_negation(trace: Trace, node: Expr) -> Any:
    """-(-x) is x; so is not (not x)."""
    return node.args[0].args[0] if node.args[0].op is node.op else None


@rule("where")
def choose_known(trace: Trace, node: Expr) -> Any:
    """where with a known condition is one of its branches; with twice the same branch it is that one."""
    condition, x, y = node.args
    known = number(condition)
    if known is not None:
        return fitted(x if known else y, node)
    return fitted(x, node) if x is y else None


@rule("elementwise")
def implicit_broadcast(trace: Trace, node: Expr) -> Any:
    """An elementwise op broadcasts its operands itself, as long as another operand has the full shape."""
    if len(node.args) < 2 or not any(arg.op.name == "broadcast_to" for arg in node.args):
        return None
    if not any(arg.shape == node.shape and arg.op.name != "broadcast_to" for arg in node.args):
        return None
    return trace.copy(node, tuple([arg.args[0] if arg.op.name == "broadcast_to" else arg for arg in node.args]))


RULES: tuple[Rule, ...] = (
    fold_constants,
    number_before_broadcast,
    multiply_by_one,
    multiply_by_minus_one,
    add_zero,
    add_negative,
    product_of_negatives,
    small_powers,
    double_negation,
    choose_known,
    implicit_broadcast,
    *MOVEMENT_RULES,
    *POSITION_RULES,
)


def simplify(graph: Graph) -> Graph:
    """The graph with every rule of ``RULES`` applied until none fires."""
    return rewrite(graph, RULES)
