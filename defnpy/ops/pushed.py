"""Loops that also carry tangents: the rule forwards of ``while_loop`` and ``scan``, which stand in ``loops.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir.expr import Graph
from .subgraphs import silent, zeros

__all__ = ["Pushed", "ranges"]


def ranges(numbers: Sequence[int], carries: int, sequences: int) -> tuple[list[int], list[int], list[int]]:
    """The numbers of inputs that are carries, rows of sequences, and values of the outside."""
    end = carries + sequences
    return (
        [i for i in numbers if i < carries],
        [i for i in numbers if carries <= i < end],
        [i for i in numbers if i >= end],
    )


class Pushed:
    """A loop that also carries tangents, made of one without.

    order: its operands and their tangents, as numbers: those of the loop, then ``size + i`` for the tangent of ``i``.
    """

    def __init__(self, ctx: Any, loop: dict[str, Any], tangents: Sequence[Any]) -> None:
        body, k, m = silent(loop["body"]), loop["carries"], loop["sequences"]
        self.size, results = len(body.inputs), len(body.outputs)
        self._tangents = tangents
        moving = [t is not None for t in tangents]
        while True:
            forwards, found = ctx.jvp_of(body, moving, [*moving[:k], *[False] * (results - k)])
            more = [j for j in range(k) if found[j] and not moving[j]]
            if not more:
                break
            for j in more:
                moving[j] = True
        groups = ranges(range(self.size), k, m)
        moved = [[i for i in part if moving[i]] for part in groups]
        tangent = [[self.size + i for i in part] for part in moved]
        self.order = [i for part, own in zip(groups, tangent, strict=True) for i in (*part, *own)]
        place = {i: p for p, i in enumerate([*range(self.size), *(i for own in tangent for i in own)])}
        pushed = {i: results + r for r, i in enumerate([i for i in range(results) if found[i]])}
        rows = [i for i in range(k, results) if found[i]]
        outputs = [*range(k), *[pushed[j] for j in moved[0]], *[pushed[i] for i in rows]]
        self.body = Graph(
            [forwards.inputs[place[i]] for i in self.order],
            [forwards.outputs[i] for i in outputs],
            forwards.effects,
            [forwards.names[place[i]] for i in self.order],
        )
        self.carries, self.sequences = k + len(moved[0]), m + len(moved[1])
        kept = [j for j in loop["record"] if moving[j]]
        self.record = tuple([k + moved[0].index(j) for j in kept])
        self._results = [*moved[0], *rows, *[results + loop["record"].index(j) for j in kept]]
        self._count = results + len(loop["record"])
        self._from = k

    def operands(self, x: Sequence[Any]) -> list[Any]:
        """Its operands, from those of the loop."""
        return [x[i] if i < self.size else self._tangent(i - self.size, x) for i in self.order]

    def _tangent(self, i: int, x: Sequence[Any]) -> Any:
        return zeros(x[i]) if self._tangents[i] is None else self._tangents[i]

    def tangents(self, found: Sequence[Any]) -> list[Any]:
        """The tangents of the loop's results, from its own results."""
        by_number = dict(zip(self._results, found[self._from :], strict=False))
        return [by_number.get(i) for i in range(self._count)]
