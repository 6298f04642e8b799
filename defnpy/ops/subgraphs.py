"""What control flow does to the closed graphs that it runs: who needs what in them, and small changes to their lists of
inputs and outputs. The nodes of a graph never change, so a graph with other inputs may share them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..ir.aval import Avals
from ..ir.expr import Expr, Graph, with_subgraphs
from ..ir.trace import Trace, tracing

__all__ = ["copied", "extended", "needed", "parameters", "reached", "silent", "with_outputs", "without_unused"]


def reached(graph: Graph, outputs: Collection[int]) -> set[int]:
    """The numbers of the inputs that some of the outputs depend on."""
    nodes = set(Graph(graph.inputs, [graph.outputs[i] for i in outputs]).nodes())
    return {i for i, node in enumerate(graph.inputs) if node in nodes}


def needed(graph: Graph) -> set[int]:
    """The numbers of the inputs that the outputs or effects depend on."""
    nodes = set(graph.nodes())
    return {i for i, node in enumerate(graph.inputs) if node in nodes}


def without_unused(graph: Graph) -> Graph:
    """The graph without the inputs that it does not need."""
    used = sorted(needed(graph))
    return Graph([graph.inputs[i] for i in used], graph.outputs, graph.effects, [graph.names[i] for i in used])


def with_outputs(graph: Graph, outputs: Iterable[int]) -> Graph:
    """The graph with some of its outputs, in the order given."""
    return Graph(graph.inputs, [graph.outputs[i] for i in outputs], graph.effects, graph.names)


def parameters(trace: Trace, graph: Graph) -> list[Expr]:
    """New inputs of a trace, like those of a graph."""
    return [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]


def copied(graph: Graph) -> tuple[Trace, list[Expr], list[Expr]]:
    """A trace that holds a copy of the graph, its inputs and its outputs; to be gone on with."""
    with tracing() as trace:
        inputs = parameters(trace, graph)
        return trace, inputs, trace.inline(graph, inputs)


def extended(graph: Graph, like: Graph, places: Sequence[int]) -> Graph:
    """The graph with the inputs of another: its own input ``i`` is that at ``places[i]``."""
    with tracing() as trace:
        inputs = parameters(trace, like)
        return trace.graph(trace.inline(graph, [inputs[i] for i in places]))


def silent(graph: Graph) -> Graph:
    """The graph without effects: a value that is printed when it is computed is not printed again in a derivative."""
    if not graph.effects:
        return graph
    with tracing() as trace:
        inputs = parameters(trace, graph)

        def visit(node: Expr, args: tuple[Expr, ...]) -> Expr:
            if node.op.effect and not isinstance(node.aval, Avals) and node.aval == args[0].aval:
                return args[0]
            return trace.copy(node, args, with_subgraphs(node, silent))

        return trace.graph(graph.rebuild(inputs, visit))
