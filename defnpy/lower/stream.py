"""Which output of a step is written past the caches: decided once, from the step's loops and sizes alone.

An ordinary store reads the line that it changes first, and leaves it in the caches. That pays when the value is read
soon. When a step moves more than a cache holds, nothing of its beginning is left at its end; then the line need not
come, which saves a quarter of the traffic of a step with two inputs and one output.
"""

from __future__ import annotations

from dataclasses import dataclass

from .emitted import Emitted
from .kernel import FoldStore, Load, Loop, Store, Term, walk
from .work import kernel_work

__all__ = ["Stream", "stream"]

LARGE = 2**25  # bytes: as much as the last caches of today's processors give a few of their cores


@dataclass(frozen=True)
class Stream:
    """target: the number of the buffer that goes past the caches. width: the bytes of its elements.

    alongside: the buffers with elements of that size that are read at the same places.
    """

    target: int
    width: int
    alongside: tuple[int, ...]


def stream(emitted: Emitted) -> Stream | None:
    """The first buffer that a kernel fills element by element, in order, without reading it.

    The kernel does nothing but run along it, so that it can as well run along one block after the other.
    """
    kernel = emitted.kernel
    if kernel.checks or not kernel.parallel or kernel_work(emitted)[0] <= LARGE:
        return None
    loops = [s for s in kernel.body if isinstance(s, Loop)]
    if any(loop.variable != kernel.parallel for loop in loops):
        return None
    along = (Term(kernel.parallel),)
    accesses = [s for s in walk(kernel.body) if isinstance(s, (Load, Store, FoldStore))]
    filled = [s for loop in loops for s in loop.body if isinstance(s, Store) and s.index == along]
    for number, buffer in enumerate(kernel.buffers):
        if [s for s in accesses if s.buffer == buffer.name] == [s for s in filled if s.buffer == buffer.name] != []:
            width = buffer.dtype.itemsize
            read = {s.buffer for s in accesses if isinstance(s, Load) and s.index == along}
            others = [i for i, b in enumerate(kernel.buffers) if b.name in read and b.dtype.itemsize == width]
            return Stream(number, width, tuple(others))
    return None
