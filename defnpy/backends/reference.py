"""The reference: every op computed by its own NumPy body. Eager calls run here; other backends are held against it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..ir.aval import Aval, Avals
from ..ir.evaluate import Evaluator, value_of
from ..ir.expr import Graph
from ..ir.op import Op
from ..ir.show import names, show
from ..shapes import size
from ..tensor import Tensor, wrap
from .base import Array, MemoryReport, StepReport, ValueReport

__all__ = ["Eager", "ReferenceBackend", "evaluate"]


class Eager:
    """The bottom of the trace stack: computes a call at once."""

    def bind(self, op: Op, operands: Sequence[Any], params: dict[str, Any], aval: Aval) -> Any:
        """The tensor that ``op`` gives, or the tuple of them."""
        arrays = [x._array if isinstance(x, Tensor) else x for x in operands]
        with np.errstate(all="ignore"):
            result = op.body(*arrays, **params)
        if isinstance(aval, Avals):
            return tuple([self._own(part, arrays) for part in result])
        return self._own(result, arrays)

    @staticmethod
    def _own(result: Any, arrays: list[Any]) -> Tensor:
        array = np.asarray(result)
        if any(array is x for x in arrays if not isinstance(x, np.generic)) or array.base is not None:
            # A view of a caller's writeable array must not become a tensor that changes later.
            if any(isinstance(x, np.ndarray) and x.flags.writeable for x in arrays):
                array = array.copy()
        return wrap(array)


def evaluate(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a closed graph, node by node."""
    return _Program(graph)(inputs)


class _Program:
    """An evaluator as an executable."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._run = Evaluator(graph)

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        with np.errstate(all="ignore"):
            found = self._run(inputs)
        # Outputs are the caller's own: never an input's memory, nor a view into something larger.
        return [np.array(x, order="C") if _shared(x, inputs) else x for x in found]

    def source(self) -> str:
        """The graph: the reference runs it as it is."""
        return show(self._graph, source=True)

    def steps(self) -> list[StepReport]:
        """One call per node."""
        printed = names(self._graph)
        places = [node.loc.position.text if node.loc else "" for node, *_ in self._run.steps]
        return [
            StepReport("call", printed[step[0]], step[0].op.name, (place,) if place else ())
            for step, place in zip(self._run.steps, places, strict=True)
        ]

    def memory(self) -> MemoryReport:
        """Arguments and outputs; every value is an array of its own, freed after its last use."""
        graph = self._graph
        return MemoryReport(
            sum(size(n.shape) * n.dtype.itemsize for n in graph.inputs),
            sum(size(n.shape) * n.dtype.itemsize for n in graph.outputs),
            0,
        )

    def values(self) -> list[ValueReport]:
        """Nothing was decided here."""
        return []

    def measure(self, inputs: Sequence[Array], repeats: int) -> list[float]:
        """Seconds of every node, the least of ``repeats``."""
        best = [float("inf")] * len(self._run.steps)
        for _ in range(repeats):
            values = self._run.values(inputs)
            with np.errstate(all="ignore"):
                for i, (node, args, params, target, _) in enumerate(self._run.steps):
                    operands = [values[a] for a in args]
                    began = time.perf_counter()
                    values[target] = value_of(node, operands, params)
                    best[i] = min(best[i], time.perf_counter() - began)
        return best


def _shared(array: Array, inputs: Sequence[Array]) -> bool:
    return array.base is not None or not array.flags.c_contiguous or any(array is x for x in inputs)


class ReferenceBackend:
    """Runs graphs with NumPy, one op at a time."""

    name = "reference"

    def compile(self, graph: Graph, donated: Collection[int] = ()) -> _Program:
        """Nothing is compiled; the nodes are put in order."""
        return _Program(graph)

    def clear_cache(self) -> int:
        """Nothing is kept."""
        return 0
