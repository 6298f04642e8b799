"""What a call of a kernel needs to know beside the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..ir.expr import Expr
from .kernel import Kernel

__all__ = ["FAILED", "Emitted"]

FAILED = "failed_index"  # the buffer in which a check leaves the index that is out of bounds


@dataclass
class Emitted:
    """A kernel and what a call must pass.

    buffers: for every buffer of the kernel the node whose memory it is, the number of elements of a scratch row, or
        another temporary.
    sizes: the values of the size arguments. checks: the node and axis behind each status code of a bounds check.
    """

    kernel: Kernel
    buffers: list[Any]
    sizes: list[int]
    checks: list[tuple[Expr, int]]

    @property
    def lengths(self) -> dict[str, int]:
        """The sizes by name."""
        return dict(zip(self.kernel.sizes, self.sizes, strict=True))
