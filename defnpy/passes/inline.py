"""Calls of graphs replaced by what they compute, once nobody asks for their derivatives any more."""

from __future__ import annotations

from ..ir.expr import Expr, Graph, subgraphs, with_subgraphs
from ..ir.op import ITEM
from ..ir.trace import tracing

__all__ = ["inline_calls"]


def inline_calls(graph: Graph) -> Graph:
    """The graph without calls, at any depth. What two calls both compute, or a call and what is around it, is computed
    once."""
    if not _has_calls(graph):
        return graph
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        results: dict[Expr, list[Expr]] = {}

        def visit(node: Expr, args: tuple[Expr, ...]) -> Expr:
            trace.place = node.loc
            if node.op.family == "call":
                inner = inline_calls(node.kwargs["graph"])
                results[node] = trace.inline(inner, args[: len(inner.inputs)])
                return args[0] if args else results[node][0]  # nobody reads a node of several results itself
            if node.op is ITEM and node.args[0] in results:
                return results[node.args[0]][node.kwargs["index"]]
            return trace.copy(node, args, with_subgraphs(node, inline_calls))

        return trace.graph(graph.rebuild(inputs, visit))


def _has_calls(graph: Graph) -> bool:
    return any(
        node.op.family == "call" or any(_has_calls(inner) for _, inner in subgraphs(node))
        for node in graph.nodes()
        if node.op.graphs
    )
