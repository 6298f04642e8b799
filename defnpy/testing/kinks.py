"""Kinks: where the difference quotients to the left and to the right of a point disagree.

At a kink of ReLU, of a maximum or of max-pooling there is no derivative. The central difference gives the mean of the
two slopes, the rules a value of their own choice; both are right when the value lies between the slopes. A kink that is
only near the point, within the step, spoils the central difference too, and goes away with a smaller step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Kink", "slopes_at_kinks"]

Array = np.ndarray[Any, Any]

SMALLER = 8  # the second step is so many times smaller


@dataclass(frozen=True)
class Kink:
    """An element at which the function has a kink: its index, the slopes on both sides, the automatic derivative.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda x: dp.sum(dp.relu(x)), [dp.asarray([0.0, 1.0])])
    >>> [(kink.index, kink.left, round(kink.right, 6), kink.automatic) for kink in report.parameters[0].kinks]
    [((0,), 0.0, 1.0, 0.0)]
    """

    index: tuple[int, ...]
    left: float
    right: float
    automatic: float


def slopes_at_kinks(
    middle: Any,
    above: Array,
    below: Array,
    h: Array,
    noise: Array,
    suspects: Array,
    evaluate: Callable[[Array, Array], tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """The positions of elements with a kink, and their slopes to the left and to the right.

    middle: the value at the point; above, below: with an element moved by its h; noise: a bound on the rounding error
    of the quotient. suspects: elements to look at in any case. ``evaluate(positions, steps)`` gives above and below for
    smaller steps. A smooth function has slopes that differ by h f'': so much less for a smaller step, while its central
    difference stays. Anything else is a kink.
    """
    central, jump = (above - below) / (2 * h), np.abs(above - 2 * middle + below) / h
    largest = np.abs(central).max(initial=0.0)
    positions = np.flatnonzero(suspects | ~(jump <= 1e-3 * largest + 64 * noise))
    small = h[positions] / SMALLER
    up, down = evaluate(positions, small)
    right, left = (up - middle) / small, (middle - down) / small
    jump, central, blur = jump[positions], central[positions], 4 * SMALLER * noise[positions]
    proportional = np.abs(np.abs(right - left) - jump / SMALLER) <= jump / (2 * SMALLER) + blur
    settled = np.abs((right + left) / 2 - central) <= 1e-3 * jump + blur
    kink = ~(proportional & settled) & np.isfinite(left) & np.isfinite(right)
    return positions[kink], left[kink], right[kink]
