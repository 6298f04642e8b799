"""The passes, in one tuple: their order is data."""

from __future__ import annotations

from ..config import current
from ..ir.check import verify
from ..ir.expr import Graph
from .simplify import simplify

__all__ = ["PASSES", "optimize"]

PASSES = (simplify,)


def optimize(graph: Graph) -> Graph:
    """The graph after all passes. Code nobody needs is gone with the first rebuild, equal nodes are one."""
    check = current().verify
    if check:
        verify(graph)
    for run in PASSES:
        graph = run(graph)
        if check:
            verify(graph)
    return graph
