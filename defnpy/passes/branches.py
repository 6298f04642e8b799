"""``decide``: a branch that is known is taken, and of small ones all are computed and one result is chosen.

It runs after differentiation only: a derivative must not see a choice between values where there is one between
functions.
"""

from __future__ import annotations

from typing import Any

from ..ir.expr import Expr, Graph, has_effect
from ..ir.trace import Trace
from ..ops.elementwise import where
from ..ops.linear import reshape
from ..ops.logic import less_equal
from ..ops.subgraphs import passed_on
from .patterns import fitted, number
from .rewrite import Rule, rewrite, rule

__all__ = ["decide"]

ELEMENTS = 256  # that all branches together may compute, rather than to ask which one is wanted

_VIEWS = ("reshape", "permute_dims", "broadcast_to", "slice", "flip", "stop_grad")


@rule("item")
def known_branch(trace: Trace, node: Expr) -> Any:
    """A result of a branch that is chosen by a number."""
    cond = node.args[0]
    if cond.op.name != "cond" or has_effect(cond) or cond.args[0].ndim:
        return None
    value = number(cond.args[0])
    if value is None:
        return None
    branches = cond.kwargs["branches"]
    branch = branches[min(max(int(value), 0), len(branches) - 1)]
    return fitted(trace.inline(branch, cond.args[1:])[node.kwargs["index"]], node)


@rule("item")
def chosen_value(trace: Trace, node: Expr) -> Any:
    """A result of branches that are small, or chosen for every example: all are computed."""
    cond = node.args[0]
    if cond.op.name != "cond" or has_effect(cond):
        return None
    index, *x = cond.args
    branches = cond.kwargs["branches"]
    if not all(_safe(graph, index.ndim > 0) for graph in branches):
        return None
    if index.ndim == 0 and sum(map(_elements, branches)) > ELEMENTS:
        return None
    if index.ndim > 0 and passed_on(cond) and any(map(_multiplies, branches)):
        return None  # a look at the index is cheaper than products that are mostly for nothing
    results = [trace.inline(graph, x)[node.kwargs["index"]] for graph in branches]
    chosen = results[-1]
    for i, result in reversed(list(enumerate(results[:-1]))):
        here = less_equal(index, index.dtype.type(i))
        chosen = where(reshape(here, shape=(*index.shape, *(1,) * (node.ndim - index.ndim))), result, chosen)
    return fitted(chosen, node)


def _safe(graph: Graph, examples: bool) -> bool:
    """Whether a branch can be computed for nothing: it raises no error, calls no library and ends. Of many examples
    some choose it as a rule, so that it may also take long."""
    families = ("leaf", "item", "elementwise", "reduction", "contraction") if examples else ("leaf", "elementwise")
    return all(
        (
            node.op.family in families
            or node.op.name in _VIEWS
            or (examples and node.op.name == "scan" and _safe(node.kwargs["body"], examples))
        )
        and (node.op.name != "pow" or node.dtype.kind == "f")
        for node in graph.nodes()
    )


def _elements(graph: Graph) -> int:
    return sum(node.size for node in graph.nodes() if node.op.family == "elementwise")


def _multiplies(graph: Graph) -> bool:
    return any(node.op.family == "contraction" for node in graph.nodes())


RULES: tuple[Rule, ...] = (known_branch, chosen_value)


def decide(graph: Graph) -> Graph:
    """The graph with its branches decided where that is possible, inside of loops too."""
    return rewrite(graph, RULES) if any(node.op.graphs for node in graph.nodes()) else graph
