"""A compiled function at many perturbed arguments: in blocks, by one program, which computes what each one changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import tree
from ..defn import Defn
from ..errors import GradientError
from ..ir.aval import Avals
from ..ir.expr import Graph
from ..shapes import size as elements_of
from ..tensor import wrap
from ..transforms.perturb import at_elements
from ..transforms.stage import is_tensor

__all__ = ["values_at_elements"]

Array = np.ndarray[Any, Any]
MEMORY = 2**26  # bytes that all values of a block would take, were each of them kept
NODES = 4000  # nodes that a block may add to the graph, where the examples of an op are computed one after the other


def values_at_elements(
    function: Defn[Any, Any], values: Sequence[Any], number: int, places: Array, elements: Array
) -> Array:
    """The scalar ``function`` at ``values``, whose tensor leaf ``number`` has one element replaced: at the flat index
    ``places[k]`` by ``elements[k]``. One float per k, NaN where the program's own value is doubtful."""
    args = tuple(tree.map(lambda x: wrap(x.copy()) if isinstance(x, np.ndarray) else x, list(values)))
    shape = [leaf for leaf in tree.leaves(args) if is_tensor(leaf)][number].shape
    program = Defn(at_elements(function.function, number), function._backend)
    indices = np.stack(np.unravel_index(places, shape)) if shape else np.empty((0, len(places)), np.int64)
    size = _block_size(program, args, indices, elements)
    result = np.empty(len(places), elements.dtype)
    for start in range(0, len(places), size):
        # The last block overlaps the one before, so that all have one shape.
        chosen = slice(max(min(start, len(places) - size), 0), start + size)
        found, doubtful = program(args, tuple(indices[:, chosen]), elements[chosen])
        result[chosen] = np.where(doubtful, np.nan, found)
    return result


def _block_size(program: Defn[Any, Any], args: Any, indices: Array, elements: Array) -> int:
    """How many perturbations a block may hold: from what a third one adds to the graph of two."""
    two, three = (program.expr(args, tuple(np.resize(i, n) for i in indices), np.resize(elements, n)) for n in (2, 3))
    output = three.outputs[0]
    if output.shape != (3,):
        raise GradientError(
            f"numerical differences need a scalar function, not one that returns shape {output.shape[1:]}"
        )
    costs = (MEMORY, _bytes(three) - _bytes(two)), (NODES, len(three.nodes()) - len(two.nodes()))
    return max(1, min([len(elements), *[bound // each for bound, each in costs if each > 0]]))


def _bytes(graph: Graph) -> int:
    avals = [node.aval for node in graph.nodes()]
    values = [value for aval in avals for value in (aval.parts if isinstance(aval, Avals) else (aval,))]
    return sum(elements_of(value.shape) * value.dtype.itemsize for value in values)
