"""The difference quotient of a function of one number: where the book begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import GradientError

__all__ = ["numerical_diff"]


def numerical_diff(function: Callable[[float], Any], x: float, *, h: float = 1e-4) -> float:
    """The central difference (f(x + h) - f(x - h)) / 2h of a function of one Python float, in float64.

    Its error falls as h**2 until rounding, which grows as 1 / h, takes over.

    >>> from defnpy.testing import numerical_diff
    >>> numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5.0)
    0.1999999999990898
    """
    return (_number(function(np.float64(x + h))) - _number(function(np.float64(x - h)))) / (2 * h)


def _number(value: Any) -> float:
    array = np.asarray(value)
    if array.shape != ():
        raise GradientError(f"numerical differences need a scalar function, not one that returns shape {array.shape}")
    return float(array)
