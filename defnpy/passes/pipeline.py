"""The passes, in tuples: their order is data."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..config import current
from ..ir.check import verify
from ..ir.expr import Graph
from .branches import decide
from .inline import inline_calls
from .loops import prune, share
from .simplify import simplify
from .stabilize import stabilize

__all__ = ["PASSES", "PREPARATION", "optimize", "prepare", "uncollected"]

Pass = Callable[[Graph], Graph]

PREPARATION: tuple[Pass, ...] = (stabilize,)
PASSES: tuple[Pass, ...] = (inline_calls, share, prune, decide, stabilize, simplify)


def prepare(graph: Graph) -> Graph:
    """The graph as it is differentiated: a derivative can only be as stable as the formula that it is taken of."""
    return _run(PREPARATION, graph)


def optimize(graph: Graph) -> Graph:
    """The graph after all passes. Code nobody needs is gone with the first rebuild, equal nodes are one."""
    return _run(PASSES, graph)


def _run(passes: Sequence[Pass], graph: Graph) -> Graph:
    check = current().verify
    if check:
        verify(graph)
    with uncollected():
        for run in passes:
            graph = run(graph)
            if check:
                verify(graph)
    return graph


@contextmanager
def uncollected() -> Iterator[None]:
    """Put the search for reference cycles off: nodes are made by the thousand and all live on, so that Python would
    look through all of them again and again, for as long as the passes themselves take."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
