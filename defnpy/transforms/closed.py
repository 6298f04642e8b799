"""The user's functions as closed graphs of equal inputs, for the ops that run graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import DefnpyError, DTypeError, ShapeError
from ..ir.aval import Aval
from ..ir.expr import Expr, Graph, Value
from ..ir.trace import aval_of, current, tracing
from ..ops.convert import cast
from ..ops.logic import not_equal
from ..ops.subgraphs import parameters
from ..source import capture, quote
from .stage import Staged, default_dtype, is_tensor

__all__ = ["Stand", "converted", "joined", "operands_as", "results", "stands", "tensors", "truth", "wrong"]


class Stand(Value):
    """What stands for an operand while a function is traced: its shape and dtype."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval


def wrong(error: type[DefnpyError], what: str, hint: str = "", at: Any = None) -> DefnpyError:
    """The error, at the line that made a traced value or at the one that is running."""
    return error(what, where=(quote(at.loc) if isinstance(at, Expr) else "") or quote(capture()), hint=hint)


def stands(value: Any) -> Any:
    """A container with something of their shapes and dtypes in the places of its tensors."""
    return tree.map(lambda leaf: Stand(aval_of(leaf)) if is_tensor(leaf) else leaf, value)


def tensors(value: Any) -> list[Any]:
    return [leaf for leaf in tree.leaves(value) if is_tensor(leaf)]


def joined(staged: Sequence[Staged], count: int) -> tuple[list[Graph], list[Any]]:
    """Graphs of equal inputs, their own first ``count``, then all that one of them captures; and these values."""
    outer = {id(value): value for s in staged for value in s.captured}
    graphs = []
    for s in staged:
        with tracing() as trace:
            own = parameters(trace, Graph(s.graph.inputs[:count], (), (), s.graph.names[:count]))
            held = {key: trace.parameter(aval_of(value), f"outer{i}") for i, (key, value) in enumerate(outer.items())}
            graphs.append(trace.graph(trace.inline(s.graph, [*own, *[held[id(value)] for value in s.captured]])))
    return graphs, list(outer.values())


def converted(graph: Graph, avals: Sequence[Aval]) -> Graph:
    """The graph with its first outputs in the dtypes of ``avals``."""
    if all(node.aval == aval for node, aval in zip(graph.outputs, avals, strict=False)):
        return graph
    with tracing() as trace:
        found = trace.inline(graph, parameters(trace, graph))
        first = [cast(node, aval.dtype, aval.weak) for node, aval in zip(found, avals, strict=False)]
        return trace.graph([*map(trace.lift, first), *found[len(avals) :]])


def operands_as(values: Sequence[Any], avals: Sequence[Aval]) -> list[Any]:
    return [cast(value, aval.dtype, aval.weak) for value, aval in zip(values, avals, strict=True)]


def results(values: Sequence[Any], graph: Graph) -> list[Any]:
    """Results as the caller sees them: outside of a trace nothing is weak."""
    if current() is not None:
        return list(values)
    weak = [node.aval.weak for node in graph.outputs]
    return [cast(v, default_dtype(n.aval)) if w else v for v, w, n in zip(values, weak, graph.outputs, strict=True)]


def truth(name: str, what: str, value: Any) -> Any:
    """One boolean, from a boolean or a number."""
    if not is_tensor(value):
        raise wrong(
            DTypeError,
            f"{name}: {what} must be a boolean or a number, not {type(value).__name__}",
            "compare something: x > 0",
        )
    aval = aval_of(value)
    if aval.shape != ():
        raise wrong(
            ShapeError,
            f"{name}: {what} must be one boolean, not {aval}",
            "ask for all or any of its elements: dp.all(...), dp.any(...); to choose by element use dp.where",
            value,
        )
    if not isinstance(value, (Value, np.ndarray)):
        return np.bool_(value)
    return cast(value, aval.dtype) if aval.dtype.kind == "b" else not_equal(value, aval.dtype.type(0))
