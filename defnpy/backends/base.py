"""What a backend is, and what it makes of a graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..ir.expr import Graph

__all__ = ["Backend", "Executable", "MemoryReport", "StepReport", "ValueReport"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StepReport:
    """What is known of one step of a compiled program.

    kind: "kernel", "product" (a matrix product by BLAS), "call" (the reference body of an op) or "guard" (a branch that
    is mostly not taken: a look at its index, and it is compiled only where it is taken).
    name, source: as printed. lines: the user's lines it covers. threads: how many share it.
    bytes: what it must move to and from memory; flops: operations on floats. Both are 0 for a call or a guard.
    seconds: the time to compile or load a kernel; cached: whether it came from the disk cache.
    """

    kind: str
    name: str
    source: str
    lines: tuple[str, ...]
    threads: int = 1
    bytes: int = 0
    flops: int = 0
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True)
class MemoryReport:
    """Bytes of one call: of its arguments, of the outputs that it makes, and of the arena that holds all temporaries.

    An output that takes the memory of a donated argument is not counted again. Results of calls are arrays of their
    own, beside these.
    """

    arguments: int
    outputs: int
    temporaries: int


@dataclass(frozen=True)
class ValueReport:
    """A value between the steps: its name and bytes, and why it lies in memory, or why it does not."""

    name: str
    bytes: int
    reason: str


class Executable(Protocol):
    """A compiled graph. Calling it is safe from several threads."""

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, as arrays of their own; ``inputs`` are C-contiguous arrays of the graph's avals.

        They are never written to, but for donated ones that nobody holds outside of the list.
        """

    def source(self) -> str:
        """The generated program as text."""

    def steps(self) -> list[StepReport]:
        """What it does, in order."""

    def memory(self) -> MemoryReport:
        """What it needs."""

    def values(self) -> list[ValueReport]:
        """What is kept between its steps, and what is computed again."""

    def measure(self, inputs: Sequence[Array], repeats: int) -> list[float]:
        """Seconds of every step, the least of some repeats."""


class Backend(Protocol):
    """A target machine."""

    name: str

    def compile(self, graph: Graph, donated: Collection[int] = ()) -> Executable:
        """An executable of a closed graph. The memory of ``donated`` inputs (their numbers) may become outputs'."""

    def clear_cache(self) -> int:
        """Remove what the backend keeps on disk; returns how many files there were."""
