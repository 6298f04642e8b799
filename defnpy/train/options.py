"""Values of command line options: from text, or an error that argparse shows beside the option's name."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["natural", "number_from_0", "one_of", "positive_integer", "positive_number", "ratio", "word_or_number"]


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
    return _number(text, "a number above 0", lambda value: 0 < value < math.inf)


def number_from_0(text: str) -> float:
    """A finite number, 0 or above.

    >>> number_from_0("0")
    0.0
    """
    return _number(text, "a number from 0", lambda value: 0 <= value < math.inf)


def ratio(text: str) -> float:
    """A number from 0 to below 1.

    >>> ratio("0.2")
    0.2
    """
    return _number(text, "a number from 0 to below 1", lambda value: 0 <= value < 1)


def word_or_number(*words: str) -> Callable[[str], str | float]:
    """Accepts these words, and numbers above 0.

    >>> word_or_number("he")("he"), word_or_number("he")("0.01")
    ('he', 0.01)
    """

    def read(text: str) -> str | float:
        try:
            return text if text in words else positive_number(text)
        except argparse.ArgumentTypeError:
            expected = f"expected {', '.join(words)} or a number above 0"
            raise argparse.ArgumentTypeError(f"{expected}, not {text!r}") from None

    return read


def _number(text: str, expected: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return value


def _integer(text: str, low: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low}, not {text!r}")
    return value
