"""A graph computed node by node with NumPy: for the reference backend, and for control flow with its graphs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DefnpyError, Mismatch
from ..source import quote
from .aval import Avals
from .expr import Expr, Graph

__all__ = ["Evaluator", "evaluator", "located", "value_of"]

Array = np.ndarray[Any, Any]


def located(node: Expr, mismatch: Mismatch) -> DefnpyError:
    """The three-part error of a mismatch that showed only while running: the op, its operands, the user's line."""
    operands = ", ".join(str(arg.aval) for arg in node.args)
    error = mismatch.error(f"{node.op.name}({operands}): {mismatch.what}", where=quote(node.loc), hint=mismatch.hint)
    return error


class Evaluator:
    """The nodes of a graph as a flat list of steps over numbered slots; a slot is emptied after its last use.

    steps: node, slots of its operands, parameters, its own slot, the slots that are empty from then on.
    """

    def __init__(self, graph: Graph) -> None:
        nodes = graph.nodes()
        slot = {node: i for i, node in enumerate(dict.fromkeys((*graph.inputs, *nodes)))}
        last: dict[Expr, int] = {}
        computed = [node for node in nodes if node.op.name != "parameter"]
        for i, node in enumerate(computed):
            for arg in (node, *node.args):
                last[arg] = i
        kept = set(graph.outputs)
        self._empty = [None] * (len(slot) - len(graph.inputs))
        self._outputs = [slot[node] for node in graph.outputs]
        self.steps = []
        for i, node in enumerate(computed):
            used = dict.fromkeys((node, *node.args))
            dead = [slot[arg] for arg in used if last[arg] == i and arg not in kept]
            self.steps.append((node, [slot[arg] for arg in node.args], node.kwargs, slot[node], dead))

    def values(self, inputs: Sequence[Array]) -> list[Any]:
        """The slots before the first step."""
        return [*inputs, *self._empty]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs. They may be inputs, or views of them."""
        values = self.values(inputs)
        for node, args, params, target, dead in self.steps:
            try:
                values[target] = value_of(node, [values[i] for i in args], params)
            except Mismatch as mismatch:
                raise located(node, mismatch) from None
            for i in dead:
                values[i] = None
        return [values[i] for i in self._outputs]


def value_of(node: Expr, operands: list[Any], params: dict[str, Any]) -> Any:
    """What the body of a node gives: an array, or the tuple of them of an op with several results."""
    result = node.op.body(*operands, **params)
    return result if isinstance(node.aval, Avals) else np.asarray(result)


_known: weakref.WeakKeyDictionary[Graph, Evaluator] = weakref.WeakKeyDictionary()


def evaluator(graph: Graph) -> Evaluator:
    """The evaluator of a graph, made once."""
    found = _known.get(graph)
    if found is None:
        found = _known[graph] = Evaluator(graph)
    return found
