"""Values of command line options: from text, or an error that argparse shows beside the option's name."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["natural", "one_of", "positive_integer", "positive_number"]


def one_of(*words: str) -> Callable[[str], str]:
    """Accepts these words and no other.

    >>> one_of("relu", "sigmoid")("relu")
    'relu'
    """

    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"expected {' or '.join(words)}, not {text!r}")
        return text

    return read


def natural(text: str) -> int:
    """A whole number from 0.

    >>> natural("7")
    7
    """
    return _integer(text, 0)


def positive_integer(text: str) -> int:
    """A whole number from 1; digits may be grouped.

    >>> positive_integer("10_000")
    10000
    """
    return _integer(text, 1)


def positive_number(text: str) -> float:
    """A finite number above 0.

    >>> positive_number("1e-3")
    0.001
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return value


def _integer(text: str, low: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low}, not {text!r}")
    return value
