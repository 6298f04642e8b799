"""Where temporaries lie: one arena, planned before the first call, in which dead values make room for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Request", "aligned", "plan"]

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True)
class Request:
    """A temporary of ``size`` bytes, written at step ``first`` and read for the last time at step ``last``."""

    size: int
    first: int
    last: int


def plan(requests: Sequence[Request]) -> tuple[list[int], int]:
    """Byte offsets of the temporaries, and the size of the arena.

    Largest first, each at the lowest offset that no temporary alive at the same time covers.

    >>> plan([Request(100, 0, 1), Request(50, 1, 2), Request(100, 2, 3)])
    ([0, 128, 0], 192)
    """
    offsets = [0] * len(requests)
    placed: list[int] = []
    total = 0
    for i in sorted(range(len(requests)), key=lambda i: -requests[i].size):
        request = requests[i]
        overlapping = [j for j in placed if requests[j].first <= request.last and request.first <= requests[j].last]
        offset = 0
        for j in sorted(overlapping, key=offsets.__getitem__):
            if offset + request.size <= offsets[j]:
                break
            offset = max(offset, aligned(offsets[j] + requests[j].size))
        offsets[i] = offset
        placed.append(i)
        total = max(total, aligned(offset + request.size))
    return offsets, total


def aligned(n: int) -> int:
    """``n`` bytes rounded up to whole cache lines."""
    return -(-n // ALIGNMENT) * ALIGNMENT
