"""Stabilization: formulas that overflow, or cancel, in the middle become the forms that do not.

Each rule is an identity of real numbers, so wherever the formula as written is accurate the result is the same up to
rounding, and so are all derivatives. Elsewhere it is better: log(1 + exp(1000)) is 1000 instead of inf. The rules run
on the graph as it was traced, before differentiation as well as before compilation: the derivative of the formula as
written would be inf * 0. They change nothing else, and never look behind ``stop_grad`` or an effect.

The forms are the usual ones. See N. Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 1.14 for
log1p and expm1; P. Blanchard, D. Higham, N. Higham, "Accurately computing the log-sum-exp and softmax functions", IMA
J. Numer. Anal. 41 (2021); M. Mächler, "Accurately Computing log(1 - exp(-|a|))" (2012) for softplus.
"""

from __future__ import annotations

from typing import Any

from .. import shapes
from ..array.statistics import log_softmax, logsumexp
from ..ir.expr import Expr, Graph
from ..ir.trace import Trace
from ..ops.elementwise import exp, expm1, log, log1p, multiply, negative, relu, sigmoid, where
from ..ops.linear import reshape
from .patterns import fitted, is_number, number
from .rewrite import Rule, rewrite, rule

__all__ = ["RULES", "stabilize"]

VIEWS = ("reshape", "permute_dims", "broadcast_to", "slice", "flip", "gather")


# -- what the rules recognise ---------------------------------------------------------------------------------------


def _other(node: Expr, wanted: float) -> Expr | None:
    """The operand of a sum or product beside the number ``wanted``, or None."""
    x, y = node.args
    if is_number(x, wanted):
        return y
    return x if is_number(y, wanted) else None


def _exponent(node: Expr | None) -> Expr | None:
    """x, of exp(x)."""
    return node.args[0] if node is not None and node.op.name == "exp" else None


def _exponent_beside_one(node: Expr) -> Expr | None:
    """x, of 1 + exp(x)."""
    return _exponent(_other(node, 1)) if node.op.name == "add" else None


def _negated(x: Expr) -> Any:
    """-x, and y for x = -y."""
    return x.args[0] if x.op.name == "negative" else negative(x)


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)). Written with where instead of abs, which has no second derivative at 0, it has them all."""
    return relu(x) + log1p(exp(where(x > 0, negative(x), x)))


def _never_positive(x: Expr) -> bool:
    """Whether ``x`` is plainly -abs(y), or where(y > 0, -y, y) as in softplus: its exponential cannot overflow."""
    if x.op.name == "negative":
        return x.args[0].op.name == "abs"
    if x.op.name != "where" or x.args[0].op.name != "greater":
        return False
    (y, bound), inner, outer = x.args[0].args, x.args[1], x.args[2]
    opposite = any(a.op.name == "negative" and a.args[0] is b for a, b in ((inner, outer), (outer, inner)))
    return y is outer and is_number(bound, 0) and opposite


def _summed(node: Expr) -> tuple[Expr, shapes.Axes] | None:
    """x and the axes of a sum of x over axes that have elements (a maximum needs one)."""
    if node.op.name != "sum" or 0 in node.args[0].shape:
        return None
    return node.args[0], node.kwargs["axis"]


def _less_its_largest(x: Expr, axes: shapes.Axes) -> bool:
    """Whether ``x`` is y less the largest of y over ``axes``, however that was protected: its sum of exp is safe."""
    if x.op.name != "subtract":
        return False
    largest = x.args[1]
    while largest.op.name in ("stop_grad", "reshape", "broadcast_to", "where"):
        *_, first, last = (largest, *largest.args)
        largest = last if number(last) is None else first  # where(isinf(m), 0, m), where(isfinite(m), m, 0)
    return largest.op.name == "max" and largest.args[0] is x.args[0] and largest.kwargs["axis"] == axes


def _softmax(node: Expr) -> tuple[Expr, shapes.Axes] | None:
    """x and the axes of exp(x) / sum(exp(x)), whichever way the sum got its axes back."""
    if node.op.name != "divide":
        return None
    numerator, total = node.args
    x = _exponent(numerator)
    if x is None:
        return None
    if total.op.name == "broadcast_to":
        total = total.args[0]
    aligned = total.shape
    if total.op.name == "reshape":
        total = total.args[0]
    found = _summed(total)
    if found is None or found[0] is not numerator:
        return None
    axes = found[1]
    kept = tuple([1 if a in axes else n for a, n in enumerate(x.shape)])
    return (x, axes) if (1,) * (x.ndim - len(aligned)) + aligned == kept else None


# -- the rules ------------------------------------------------------------------------------------------------------


@rule("log")
def log_of_exp(trace: Trace, node: Expr) -> Any:
    """log(exp(x)) is x."""
    return _exponent(node.args[0])


@rule("log")
def log_of_softmax(trace: Trace, node: Expr) -> Any:
    """log(exp(x) / sum(exp(x))) is x - max(x) - log(sum(exp(x - max(x)))); what was subtracted before is left so."""
    found = _softmax(node.args[0])
    if found is None:
        return None
    x, axes = found
    if _less_its_largest(x, axes):
        return fitted(x - log(node.args[0].args[1]), node)
    return fitted(log_softmax(x, axis=axes), node)


@rule("log")
def log_of_sum_of_exp(trace: Trace, node: Expr) -> Any:
    """log(sum(exp(x))) is m + log(sum(exp(x - m))), m being the largest x."""
    found = _summed(node.args[0])
    x = None if found is None else _exponent(found[0])
    if found is None or x is None:
        return None
    if x.size == node.size:
        return reshape(x, shape=node.shape)  # the largest of one is that one
    if _less_its_largest(x, found[1]):
        return None
    return fitted(logsumexp(x, axis=found[1], keepdims=node.args[0].kwargs["keepdims"]), node)


@rule("log", "log1p")
def log_of_one_plus_exp(trace: Trace, node: Expr) -> Any:
    """log(1 + exp(x)), or log1p(exp(x)), is softplus(x) = max(x, 0) + log1p(exp(-abs(x))), finite everywhere."""
    (argument,) = node.args
    x = _exponent(argument) if node.op.name == "log1p" else _exponent_beside_one(argument)
    return None if x is None or _never_positive(x) else fitted(_softplus(x), node)


@rule("log", "log1p")
def log_of_sigmoid(trace: Trace, node: Expr) -> Any:
    """log(sigmoid(x)) is -softplus(-x); log(1 - sigmoid(x)), or log1p(-sigmoid(x)), is -softplus(x)."""
    (argument,) = node.args
    if node.op.name == "log":
        if argument.op.name == "sigmoid":
            return fitted(negative(_softplus(_negated(argument.args[0]))), node)
        if argument.op.name != "subtract" or not is_number(argument.args[0], 1):
            return None
        argument = argument.args[1]
    elif argument.op.name == "negative":
        argument = argument.args[0]
    else:
        return None
    return fitted(negative(_softplus(argument.args[0])), node) if argument.op.name == "sigmoid" else None


@rule("log")
def log_of_one_plus(trace: Trace, node: Expr) -> Any:
    """log(1 + x) is log1p(x), and log(1 - x) is log1p(-x)."""
    (argument,) = node.args
    if argument.op.name == "add":
        x = _other(argument, 1)
        return None if x is None else fitted(log1p(x), node)
    if argument.op.name == "subtract" and is_number(argument.args[0], 1):
        return fitted(log1p(negative(argument.args[1])), node)
    return None


@rule("log")
def log_of_view(trace: Trace, node: Expr) -> Any:
    """The log of some elements of a softmax, or of what else has a stable logarithm, are those elements of its log."""
    views = []
    (x,) = node.args
    while x.op.name in VIEWS:
        views.append(x)
        x = x.args[0]
    if not views:
        return None
    whole = log(x)
    for better in (log_of_exp, log_of_softmax, log_of_sum_of_exp, log_of_one_plus_exp, log_of_sigmoid):
        result = better(trace, whole)
        if result is not None:
            for view in reversed(views):
                result = trace.copy(view, (trace.lift(result), *view.args[1:]))
            return result
    return None


@rule("divide")
def one_over_one_plus_exp(trace: Trace, node: Expr) -> Any:
    """1 / (1 + exp(x)) is sigmoid(-x), y / (1 + exp(x)) is y * sigmoid(-x), exp(x) / (1 + exp(x)) is sigmoid(x)."""
    numerator, denominator = node.args
    x = _exponent_beside_one(denominator)
    if x is None:
        return None
    if _exponent(numerator) is x:
        return fitted(sigmoid(x), node)
    result = sigmoid(_negated(x))
    return fitted(result if is_number(numerator, 1) else multiply(numerator, result), node)


@rule("subtract", "add")
def exp_minus_one(trace: Trace, node: Expr) -> Any:
    """exp(x) - 1, or -1 + exp(x), is expm1(x); 1 - exp(x) is -expm1(x)."""
    x, y = node.args
    if node.op.name == "add":
        exponent = _exponent(_other(node, -1))
        return None if exponent is None else fitted(expm1(exponent), node)
    if x.op.name == "exp" and is_number(y, 1):
        return fitted(expm1(x.args[0]), node)
    return fitted(negative(expm1(y.args[0])), node) if y.op.name == "exp" and is_number(x, 1) else None


RULES: tuple[Rule, ...] = (
    log_of_exp,
    log_of_softmax,
    log_of_sum_of_exp,
    log_of_one_plus_exp,
    log_of_sigmoid,
    log_of_one_plus,
    log_of_view,
    one_over_one_plus_exp,
    exp_minus_one,
)


def stabilize(graph: Graph) -> Graph:
    """The graph with every rule of ``RULES`` applied until none fires."""
    return rewrite(graph, RULES)
