"""What control flow does to the closed graphs that it runs: who needs what in them, and small changes to their lists of
inputs and outputs. The nodes of a graph never change, so a graph with other inputs may share them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..dtypes import cotangent_dtype
from ..errors import Mismatch
from ..ir.aval import Aval, Avals
from ..ir.expr import Expr, Graph, with_subgraphs
from ..ir.trace import Trace, tracing
from ..shapes import DYNAMIC
from .elementwise import where
from .linear import broadcast_to
from .logic import logical_or, not_equal

__all__ = [
    "check", "drawn", "extended", "given", "has_tangent", "mask_flags", "needed", "parameters", "passed_on", "reached",
    "returned", "selected", "silent", "traced", "whole_mask", "with_outputs", "without_unused", "zeros",
]  # fmt: skip


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


def passed_on(cond: Expr) -> tuple[Expr, ...]:
    """The operands of a ``cond`` that its first branch returns, one for each result, if it does nothing else."""
    first = cond.kwargs["branches"][0]
    operands = dict(zip(first.inputs, cond.args[1:], strict=True))
    return tuple([operands[x] for x in first.outputs]) if all(x in operands for x in first.outputs) else ()


def check(what: str, graph: Graph, avals: Sequence[Aval]) -> None:
    """Refuse operands that are not what a graph takes."""
    expected = [(node.shape, node.dtype) for node in graph.inputs]
    found = [(aval.shape, aval.dtype) for aval in avals]
    if found != expected:
        taken = ", ".join(str(node.aval) for node in graph.inputs)
        raise Mismatch(f"{what} takes ({taken}), not ({', '.join(map(str, avals))})")


def returned(graph: Graph) -> list[Aval]:
    """What the outputs of a graph are."""
    return [node.aval for node in graph.outputs]


def has_tangent(x: Any) -> bool:
    """Whether a value can have a tangent, and a cotangent: booleans have none."""
    return cotangent_dtype(x.dtype) is not None


def zeros(x: Any) -> Any:
    """Zeros in the place of a cotangent of ``x``."""
    dtype = cotangent_dtype(x.dtype)
    assert dtype is not None
    return broadcast_to(dtype.type(0), shape=x.shape)


def given(values: Iterable[Any]) -> list[Any]:
    """Those that are not None."""
    return [value for value in values if value is not None]


def mask_flags(cotangents: Sequence[Any]) -> list[bool | None]:
    """What ``ctx.vjp_of`` is told of the cotangents in ``ctx.cotangents``: which of them come with a condition."""
    return [part.strict if part.masked else None for part in cotangents]


def whole_mask(part: Any) -> Any:
    """The condition of a cotangent in its shape; true everywhere where it has none."""
    shape = part.bare.shape
    alive = part.alive if part.masked else np.True_
    if DYNAMIC in shape:  # nothing can be broadcast to it, but elementwise ops do that
        return alive if part.masked and alive.shape == shape else logical_or(not_equal(part.bare, part.bare), alive)
    return broadcast_to(alive, shape=shape)


def selected(parts: Sequence[Any]) -> list[Any]:
    """Cotangents that masks follow, one for each, as selections."""
    count = len(parts) // 2
    return [where(alive, part, 0) for part, alive in zip(parts[:count], parts[count:], strict=True)]


# -- test cases of ops that run graphs ---------------------------------------------------------------------------------


def traced(make: Callable[..., Sequence[Any]], *avals: Aval) -> Graph:
    """The closed graph of a function of traced values."""
    with tracing() as trace:
        results = make(*[trace.parameter(aval, f"x{i}") for i, aval in enumerate(avals)])
        return trace.graph([trace.lift(result) for result in results])


def drawn(*operands: Any) -> Any:
    """Random arrays of these shapes, and the numbers among them, as a Case draws them. They are float64, whatever it is
    asked for: a graph takes one dtype."""
    return lambda rng, dtype: [rng.standard_normal(x) if isinstance(x, tuple) else x for x in operands]
