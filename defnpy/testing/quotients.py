"""Central differences for single elements, each with a step of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .kinks import SMALLER
from .noise import rounding

__all__ = ["STEPS_DOWN", "Evaluate", "Quotients", "refine"]

Array = np.ndarray[Any, Any]
Evaluate = Callable[[Array, Array], tuple[Array, Array]]  # positions and steps to the values above and below

# How often a step is made smaller where quotient and gradient disagree, if rounding allows: arguments may be far
# smaller than others beside them.
STEPS_DOWN = 18


@dataclass
class Quotients:
    """For some elements: where they are, their steps, and the function's values with each one moved up and down."""

    x: Array
    step: Array
    above: Array
    below: Array

    def at(self, chosen: Array) -> Quotients:
        """Some of them."""
        return Quotients(self.x[chosen], self.step[chosen], self.above[chosen], self.below[chosen])

    def put(self, positions: Array, other: Quotients) -> None:
        """Replace some of them."""
        self.step[positions], self.above[positions], self.below[positions] = other.step, other.above, other.below

    @property
    def width(self) -> Array:
        """How far apart the two points are: the elements have been rounded."""
        return (self.x + self.step) - (self.x - self.step)

    @property
    def numerical(self) -> Array:
        with np.errstate(all="ignore"):
            return (self.above - self.below) / self.width

    def noise(self, inside: float = 0.0) -> Array:
        """A bound on the rounding in each: that of the values, or ``inside`` the function."""
        with np.errstate(all="ignore"):
            of_values: Array = rounding(self.above, self.below, self.width, self.x.dtype)
            return np.maximum(of_values, 2 * inside / self.width)

    def agree(self, automatic: Array, tolerance: float, inside: float = 0.0) -> Array:
        """Whether each is the automatic value, to a relative tolerance and rounding."""
        numerical = self.numerical
        with np.errstate(all="ignore"):
            allowed = tolerance * np.maximum(np.abs(numerical), np.abs(automatic)) + self.noise(inside)
            found: Array = np.abs(numerical - automatic) <= allowed
        return found


def refine(quotients: Quotients, automatic: Array, tolerance: float, inside: float, evaluate: Evaluate) -> Array:
    """Take smaller steps where quotient and automatic value disagree, until they agree, or the quotient stays as it is,
    or rounding is more than the tolerance: a function may change, or end its domain, within a step. Returns which are
    well in the end."""
    well = quotients.agree(automatic, tolerance, inside)
    positions = np.flatnonzero(~well)
    current = quotients.at(positions)
    for _ in range(STEPS_DOWN):
        if not positions.size:
            return well
        step = current.step / SMALLER
        smaller = Quotients(current.x, step, *evaluate(positions, step))
        wanted, found, before = automatic[positions], smaller.numerical, current.numerical
        agree = smaller.agree(wanted, tolerance, inside)
        quotients.put(positions[agree], smaller.at(agree))
        well[positions[agree]] = True
        with np.errstate(all="ignore"):
            settled = np.abs(found - before) <= np.minimum(np.abs(found), np.abs(found - wanted)) / SMALLER
            falls = np.abs(found - wanted) <= np.abs(before - wanted) / 2
            lost = smaller.noise(inside) > tolerance * np.maximum(np.abs(found), np.abs(wanted))
        going = ~(agree | settled | (lost & ~falls))
        positions, current = positions[going], smaller.at(going)
    # All the way down nothing but the error of the formula, which falls with the square of the step.
    falling = np.abs(current.numerical - automatic[positions]) <= np.abs(quotients.numerical[positions]) / 1e12
    quotients.put(positions[falling], current.at(falling))
    well[positions[falling]] = True
    return well
