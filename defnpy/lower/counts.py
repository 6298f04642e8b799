"""Divisors that count elements, as in a mean: sizes like any other, so that the kernel is the same for other sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection

from ..shapes import Shape
from .kernel import Literal, Operand, Position, Statement, Term

__all__ = ["Counts"]


class Counts:
    """The divisors of one kernel.

    space: its loops. summed: how many elements the sums of the program add up. sizes: the kernel's, by name.
    statements: what makes numbers of sizes; they come first.
    """

    def __init__(self, space: Shape, summed: Collection[int], sizes: dict[str, int]) -> None:
        self.space = space
        self.summed = summed
        self.sizes = sizes
        self.statements: list[Statement] = []
        self._known: dict[Literal, Operand] = {}

    def divisor(self, value: Literal) -> Operand:
        """``value``, or the name of the number that it counts: of points of some loops, or of what a sum adds up."""
        if value.dtype.kind != "f" or value.value < 3:
            return value
        if value not in self._known:
            names = self._counted(value)
            self._known[value] = name = f"n_count{len(self.statements) or ''}" if names else value
            if isinstance(name, str):
                self.statements.append(Position(name, value.dtype, (Term("", 1, names),)))
        return self._known[value]

    def _counted(self, value: Literal) -> tuple[str, ...]:
        """The names of the sizes whose product a number is."""
        axes = [a for a, n in enumerate(self.space) if n != 1]
        for count in range(1, len(axes) + 1):
            for chosen in itertools.combinations(axes, count):
                if value.value == math.prod(self.space[a] for a in chosen):
                    self.sizes |= {f"n{a}": self.space[a] for a in chosen}
                    return tuple([f"n{a}" for a in chosen])
        if value.value not in self.summed:
            return ()
        name = f"m{len(self.sizes)}"
        self.sizes[name] = int(value.value)
        return (name,)
