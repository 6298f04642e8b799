"""How many parts a step has for threads to share: decided once, from sizes and the number of threads alone.

A step is worth sharing when it takes several times what handing it out costs (about 1.5 us). The estimate counts, for
every point of the iteration space, what the kernel does there.
"""

from __future__ import annotations

from .emit import Emitted
from .kernel import Compute, FoldStore, Load, Loop, Statement, Store, executions, walk
from .products import Product

__all__ = ["crew", "share"]

WORTH = 4000.0  # nanoseconds of work for every thread
CHEAP, DEAR, MEMORY = 0.03, 0.3, 0.1  # nanoseconds of an operation, of one that is not cheap, of an access to memory
FLOP = 0.015  # nanoseconds of a multiplication or addition in a matrix product
MOST = 1024  # parts of a step
LINE = 64  # elements: parts of a contiguous range begin at cache lines


def share(emitted: Emitted, threads: int) -> tuple[int, int, int]:
    """The extent of a kernel's parallel loops, how many threads share it, and the grain of their parts."""
    kernel = emitted.kernel
    if not kernel.parallel:
        return 1, 1, 1
    sizes = emitted.lengths
    loops = [s for s in walk(kernel.body) if isinstance(s, Loop) and s.variable == kernel.parallel]
    extent = sizes[loops[0].size]  # they all have it
    inner = any(isinstance(s, Loop) for loop in loops for s in loop.body)
    grain = 1 if inner else LINE
    nanoseconds = sum(times * _cost(s) for s, times in executions(kernel.body, sizes))
    return extent, max(1, min(threads, MOST, int(nanoseconds / WORTH), -(-extent // grain))), grain


def crew(product: Product, threads: int) -> int:
    """How many threads share a matrix product."""
    return max(1, min(threads, MOST, int(product.flops * FLOP / WORTH)))


def _cost(s: Statement) -> float:
    if isinstance(s, Compute):
        return CHEAP if s.op.cheap else DEAR
    return MEMORY if isinstance(s, (Load, Store, FoldStore)) else 0.0
