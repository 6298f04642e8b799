"""Guards: a choice that mostly does nothing. See ``guards``."""

from __future__ import annotations

from ..dtypes import DEFAULT_INT
from ..ir.expr import Expr, Graph, has_effect, is_open
from ..ops.subgraphs import passed_on

__all__ = ["guards"]


def guards(graph: Graph) -> dict[Expr, tuple[Expr, ...]]:
    """The branches of which the first one returns operands as they are, and these operands, one for each result.

    Nobody else reads the operands, and no two results are the same one. So the results may take their memory, and as
    long as the first branch is chosen, a look at the index is all there is to do: the program goes on. Only where
    another one is, its results are computed and written over the operands, and then it is early enough to compile that
    branch.
    """
    found = {}
    for node in graph.nodes():
        closed = node.op.name == "cond" and not is_open(node) and not has_effect(node)
        if closed and node.args[0].dtype == DEFAULT_INT:
            found[node] = passed_on(node)
    if not any(found.values()):
        return {}
    users = graph.users()
    ends = {*graph.outputs, *graph.effects}

    def alone(operand: Expr, node: Expr) -> bool:
        once = sum(arg is operand for arg in node.args) == 1
        return once and operand.op.name != "parameter" and users[operand] == [node] and operand not in ends

    def separate(node: Expr, kept: tuple[Expr, ...]) -> bool:
        return len(set(kept)) == len(kept) and all(alone(operand, node) for operand in kept)

    return {node: kept for node, kept in found.items() if kept and separate(node, kept)}
