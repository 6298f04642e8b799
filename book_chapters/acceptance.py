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
        """Whether a figure lies in the range. NaN and a figure that is missing (None) lie in none."""
        return value is not None and self.low <= value <= self.high

    @property
    def range(self) -> str:
        """The range as text.

        >>> Acceptance("loss", high=0.2).range, Acceptance("loss", 0.1, 0.2).range, Acceptance("count", 17, 17).range
        ('<= 0.2', '0.1 .. 0.2', '17')
        """
        if self.low == self.high:
            return f"{self.low:.10g}"
        if math.isinf(self.low):
            return f"<= {self.high:.10g}"
        if math.isinf(self.high):
            return f">= {self.low:.10g}"
        return f"{self.low:.10g} .. {self.high:.10g}"


def near(figure: str, value: float, within: float, original: str = "") -> Acceptance:
    """The range of ``value`` give or take ``within``."""
    return Acceptance(figure, value - within, value + within, original or f"{value:.10g}")
