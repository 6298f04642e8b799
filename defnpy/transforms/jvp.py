"""Forward-mode differentiation: one walk forwards over a graph.

An op's own rule is used where it has one. Of the others the rule backwards is transposed: it is the same linear map,
read in the other direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import DType, cotangent_dtype
from ..errors import GradientError
from ..ir.aval import Aval, Avals
from ..ir.expr import Expr, Graph, topological
from ..ir.op import ITEM
from ..ir.trace import Trace, tracing
from ..ops.convert import cast
from ..ops.linear import broadcast_to
from ..source import quote
from .cotangent import unbroadcast
from .grad import Reverse, backward, context, zeros

__all__ = ["Forward", "forward", "jvp_of"]


def forward(trace: Trace, outputs: Sequence[Expr], wrt: Sequence[Expr], tangents: Sequence[Any]) -> list[Any]:
    """The tangents of ``outputs``, given those of ``wrt``; None for one that does not move with them.

    All nodes belong to ``trace``, which is open; the new nodes are recorded in it, at the place in the user's code of
    the node whose tangent they compute. An integer may have a tangent, a float one, as it may have a cotangent.
    """
    found: dict[Expr, Any] = {node: t for node, t in zip(wrt, tangents, strict=True) if t is not None}
    outer_place = trace.place
    try:
        for node in topological(outputs):
            if node in found or all(arg not in found for arg in node.args):
                continue
            trace.place = node.loc
            if node.op is ITEM:
                moved = found[node.args[0]][node.kwargs["index"]]
            else:
                moved = _moved(trace, node, [found.get(arg) for arg in node.args])
            if moved is not None:
                found[node] = moved
    finally:
        trace.place = outer_place
    return [found.get(node) for node in outputs]


def _moved(trace: Trace, node: Expr, tangents: list[Any]) -> Any:
    """The tangent of a node: one value, a tuple for several results, None where it has none."""
    op = node.op
    several = isinstance(node.aval, Avals)
    results = trace.items(node) if isinstance(node.aval, Avals) else (node,)
    if op.jvp is not None:
        y = results if several else node
        moved = op.jvp(tangents, y, *node.args, **node.kwargs, **context(op, Forward()))
        if moved is None:
            return None
        parts = list(moved) if several else [moved]
    elif op.vjp is not None:
        parts = _transposed(trace, node, results, tangents)
    else:
        return None  # an op without a rule is flat (see its declaration)
    parts = [None if part is None else fitted(part, y) for part, y in zip(parts, results, strict=True)]
    return tuple(parts) if several else parts[0]


def fitted(part: Any, y: Expr) -> Any:
    """A rule's result in the shape and dtype of the tangent of ``y``; None where that has no tangent."""
    dtype = cotangent_dtype(y.dtype)
    if dtype is None:
        return None
    return cast(part if part.shape == y.shape else broadcast_to(part, shape=y.shape), dtype)


def _transposed(trace: Trace, node: Expr, results: Sequence[Expr], tangents: Sequence[Any]) -> list[Any]:
    """The tangents of a node by its rule backwards, which is linear in the cotangents g.

    Going backwards through ``g -> vjp(g)``, with the tangents as its cotangents, gives the map forwards. It no longer
    reads g, so what computes with g is left behind as the result is copied.
    """
    moving = [y for y in results if cotangent_dtype(y.dtype) is not None]
    with tracing() as inner:
        inner.place = node.loc
        g = {y: inner.parameter(Aval(y.shape, _float(y)), "g") for y in moving}
        cotangents = tuple([g.get(y) for y in results])
        several = isinstance(node.aval, Avals)
        given = (cotangents, tuple(results)) if several else (cotangents[0], node)
        assert node.op.vjp is not None
        pulled = node.op.vjp(*given, *node.args, **node.kwargs, **context(node.op, Reverse()))
        ends, seeds = [], []
        for arg, part, tangent in zip(node.args, pulled, tangents, strict=True):
            end = None if part is None or tangent is None else unbroadcast(part, arg)
            if end is not None:
                ends.append(inner.lift(end))
                seeds.append(inner.lift(tangent))
        found = dict(zip(moving, backward(inner, ends, seeds, list(g.values()), guard=False), strict=True))
        reached = [y for y in moving if found[y] is not None]
        graph = inner.graph([inner.lift(found[y]) for y in reached])
        outside = [value for value, _ in inner.captured.values()]
    if not set(g.values()).isdisjoint(graph.nodes()):
        raise GradientError(
            f"{node.op.name}: the rule backwards is not linear in the cotangent, so it has no transpose to go forwards",
            where=quote(node.loc),
            hint="a derivative is linear: multiply the cotangent, add it",
        )
    parts = dict(zip(reached, trace.inline(graph, [*moving, *outside]), strict=True))  # nobody reads the first ones
    return [parts.get(y) for y in results]


def _float(y: Expr) -> DType:
    dtype = cotangent_dtype(y.dtype)
    assert dtype is not None
    return dtype


def jvp_of(
    graph: Graph, moving: Sequence[bool], wanted: Sequence[bool] | None = None
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph that also computes tangents, and which of its outputs have one.

    moving: for every input whether it has a tangent. Those follow the inputs, in order; the tangents of outputs follow
    the outputs.
    wanted: outputs that must have a tangent, which is zero where they do not move (a loop's state has one in every
    iteration if it has one in any). An output without a derivative, a boolean, never has one.
    """
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        wrt = [node for node, moves in zip(inputs, moving, strict=True) if moves]
        tangents = [
            trace.parameter(Aval(node.shape, _float(node)), f"d_{name}")
            for node, name, moves in zip(inputs, graph.names, moving, strict=True)
            if moves
        ]
        outputs = trace.inline(graph, inputs)
        found = forward(trace, outputs, wrt, tangents)
        for i, (y, wants) in enumerate(zip(outputs, wanted or [False] * len(outputs), strict=True)):
            if wants and found[i] is None and cotangent_dtype(y.dtype) is not None:
                found[i] = zeros(y)
        moved = [trace.lift(part) for part in found if part is not None]
        return trace.graph([*outputs, *moved]), tuple(part is not None for part in found)


class Forward(Reverse):
    """What a forward rule of an op that runs graphs is handed as ``ctx``."""

    jvp_of = staticmethod(jvp_of)
