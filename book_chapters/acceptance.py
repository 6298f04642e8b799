"""What a page must reach, as data: its figure, the range, and what the original program gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Acceptance", "near"]


@dataclass(frozen=True)
class Acceptance:
    """One figure of a page and the range it must lie in, both ends included.

    figure: the name under which the page reports it (:meth:`book_chapters.runner.Run.figure`).
    low, high: the range. original: what the book's own program gives, as text.
    """

    figure: str
    low: float = -math.inf
    high: float = math.inf
    original: str = ""

    def met(self, value: Any) -> bool:
        """Whether a figure lies in the range. NaN (or its name) and a figure that is missing (None) lie in none."""
        return value is not None and self.low <= float(value) <= self.high

    @property
    def range(self) -> str:
        """The range as text.

        >>> Acceptance("loss", high=0.2).range, Acceptance("loss", 0.1, 0.2).range, Acceptance("count", 17, 17).range
        ('<= 0.2', '0.1 .. 0.2', '17')
        >>> near("x", 0.5, 1e-9).range
        '0.5 +- 1e-09'
        """
        if self.low == self.high:
            return f"{self.low:.10g}"
        if self.high - self.low < 1e-3 * max(abs(self.low), abs(self.high)) or self.low == -self.high:
            return f"{(self.low + self.high) / 2:.13g} +- {(self.high - self.low) / 2:.1g}"
        if math.isinf(self.low):
            return f"<= {self.high:.10g}"
        if math.isinf(self.high):
            return f">= {self.low:.10g}"
        return f"{self.low:.10g} .. {self.high:.10g}"


def near(figure: str, value: float, within: float, original: str = "") -> Acceptance:
    """The range of ``value`` give or take ``within``."""
    return Acceptance(figure, value - within, value + within, original or f"{value:.10g}")
