"""What a backend is, and what it makes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..ir.expr import Graph

__all__ = ["Backend", "Executable", "KernelReport"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class KernelReport:
    """What is known of one compiled kernel.

    name, source: as printed. lines: the user's lines it covers. seconds: the time to compile or load it;
    cached: whether it came from the disk cache.
    """

    name: str
    source: str
    lines: tuple[str, ...]
    seconds: float
    cached: bool


class Executable(Protocol):
    """A compiled graph. Calling it is safe from several threads."""

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, as fresh arrays; ``inputs`` are C-contiguous arrays of the graph's avals, never written to."""

    def source(self) -> str:
        """The generated program as text."""

    def kernels(self) -> list[KernelReport]:
        """The kernels it launches."""


class Backend(Protocol):
    """A target machine."""

    name: str

    def compile(self, graph: Graph) -> Executable:
        """An executable of a closed graph."""
