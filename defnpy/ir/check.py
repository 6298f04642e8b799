"""verify(graph): closed, acyclic, avals as the ops infer them. Run between passes in tests."""

from __future__ import annotations

from ..dtypes import DType
from ..errors import Mismatch
from ..shapes import Shape
from .aval import Aval, Avals
from .expr import Expr, Graph, has_effect, subgraphs

__all__ = ["InvalidGraph", "verify"]


class InvalidGraph(AssertionError):
    """A graph breaks one of its invariants: a fault in a transform or a pass, never in the user's program.

    >>> import defnpy as dp
    >>> graph = dp.defn(lambda x: x + 1).expr(1.0)
    >>> open_graph = type(graph)((), graph.outputs)
    >>> dp.debug.verify(open_graph)
    Traceback (most recent call last):
    defnpy.ir.check.InvalidGraph: the graph is not closed: it reads a parameter f64~[] that is no input of it
    """


def verify(graph: Graph) -> Graph:
    """Return ``graph`` if it is sound, else raise :class:`InvalidGraph` saying which node breaks what.

    >>> import defnpy as dp
    >>> len(dp.debug.verify(dp.defn(lambda x: dp.exp(x) + 1).expr(1.0)).nodes())
    6
    """
    inputs = set(graph.inputs)
    if len(inputs) != len(graph.inputs):
        raise InvalidGraph("an input stands twice in the graph")
    if len(graph.names) != len(graph.inputs):
        raise InvalidGraph(f"{len(graph.names)} names for {len(graph.inputs)} inputs")
    done: set[Expr] = set()
    for node in graph.nodes():
        if any(arg not in done for arg in node.args):
            raise InvalidGraph(f"{node.op.name} {node.aval} reads a value that depends on it: the graph has a cycle")
        done.add(node)
        if node.op.name == "parameter":
            if node not in inputs:
                raise InvalidGraph(f"the graph is not closed: it reads a parameter {node.aval} that is no input of it")
            continue
        for arg in node.args:
            if isinstance(arg.aval, Avals) and node.op.name != "item":
                raise InvalidGraph(f"{node.op.name} reads {arg.op.name}, which has several results, as if it were one")
        for label, inner in subgraphs(node):
            try:
                verify(inner)
            except InvalidGraph as invalid:
                raise InvalidGraph(f"in {label} of {node.op.name}: {invalid}") from None
        try:
            aval = node.op.aval([arg.aval for arg in node.args], node.kwargs)
        except Mismatch as mismatch:
            raise InvalidGraph(f"{node.op.name}: {mismatch.what}") from None
        if _kinds(aval) != _kinds(node.aval):
            raise InvalidGraph(f"{node.op.name} is marked {node.aval}, but its operands give {aval}")
    for output in graph.outputs:
        if isinstance(output.aval, Avals):
            raise InvalidGraph(f"the graph returns {output.op.name}, which has several results, as if it were one")
    for effect in graph.effects:
        if not has_effect(effect):
            raise InvalidGraph(f"{effect.op.name} is listed as an effect and has none")
    return graph


def _kinds(aval: Aval) -> list[tuple[Shape, DType]]:
    """Shapes and dtypes, all that must agree: the same value may be weak or not."""
    return [(part.shape, part.dtype) for part in (aval.parts if isinstance(aval, Avals) else (aval,))]
