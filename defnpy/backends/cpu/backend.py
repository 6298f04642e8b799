"""The CPU backend: a program's steps become one straight-line function over compiled kernels and NumPy's BLAS."""

from __future__ import annotations

import itertools
import linecache
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import IndexingError, Mismatch
from ...ir.expr import Graph
from ...lower.program import KernelStep, Program, lower
from ..base import Array, KernelReport
from ..reference import located
from . import prelude
from .compile import Function, function
from .driver import Driver, driver
from .render import render

__all__ = ["CpuBackend", "CpuExecutable"]

_numbers = itertools.count()


class CpuBackend:
    """Fused kernels through Numba, matrix products through NumPy's BLAS, everything else through the reference."""

    name = "cpu"

    def compile(self, graph: Graph) -> CpuExecutable:
        """Lower, compile and link a graph."""
        return CpuExecutable(lower(graph))


class CpuExecutable:
    """A compiled program. Each thread that runs it at the same time gets memory of its own."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._steps = [s for s in program.steps if isinstance(s, KernelStep)]
        self._functions: list[Function] = [function(s.emitted.kernel) for s in self._steps]
        self._driver: Driver = driver(program)
        filename = f"<defnpy program {next(_numbers)}>"
        text = self._driver.text
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        namespace = self._driver.namespace | {
            s.emitted.kernel.name: f.pointer for s, f in zip(self._steps, self._functions, strict=True)
        }
        namespace["fail"] = self._fail
        exec(compile(text, filename, "exec"), namespace)
        self._run = namespace["program"]
        self._prepare = namespace["prepare"]
        self._frames: list[Any] = []
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, as fresh arrays."""
        with self._lock:
            frame = self._frames.pop() if self._frames else None
        if frame is None:
            frame = self._new_frame()
        try:
            outputs: list[Array] = self._run(inputs, *frame)
        finally:
            self._frames.append(frame)
        return outputs

    def _new_frame(self) -> tuple[Any, ...]:
        """Memory for the temporaries, and everything about it that can be worked out before a call."""
        raw = np.empty(self._program.arena + 64, np.uint8)
        start = -raw.ctypes.data % 64
        arrays = {}
        for t in self._program.temporaries:
            bytes_ = int(np.prod(t.shape, dtype=np.int64)) * t.dtype.itemsize
            begin = start + t.offset
            arrays[t.name] = raw[begin : begin + bytes_].view(t.dtype).reshape(t.shape)
        status = np.zeros(2, np.int64)
        with np.errstate(all="ignore"):
            prepared: tuple[Any, ...] = self._prepare(arrays, status)
        return prepared

    def _fail(self, step: int, code: Any, failed: Any) -> None:
        node, axis = self._steps[step].emitted.checks[int(code) - 1]
        position = node.kwargs["axes"].index(axis) + 1
        index = int(failed.astype(node.args[position].dtype))  # an unsigned index was kept as its bits
        n = node.args[0].shape[axis]
        mismatch = Mismatch(f"index {index} is out of bounds for axis {axis} of size {n}", error=IndexingError)
        raise located(node, mismatch)

    def source(self) -> str:
        """Kernels and program as Python source that runs alone (slowly): no Numba is needed to read or try it."""
        parts = ["import math\n\nimport numpy as np\n"]
        kernels = [render(s.emitted.kernel) for s in self._steps]
        used = "\n".join(kernels)
        for block in prelude.SOURCE.strip().split("\n\n\n"):
            if block.split("(")[0].removeprefix("def ") + "(" in used:
                parts.append(block + "\n")
        parts += kernels
        parts.append(self._driver.readable)
        return "\n\n".join(part.strip("\n") + "\n" for part in parts)

    def kernels(self) -> list[KernelReport]:
        """Name, source, user lines, seconds to compile or load, and cache hit of every kernel."""
        return [
            KernelReport(s.emitted.kernel.name, render(s.emitted.kernel), s.emitted.kernel.lines, f.seconds, f.cached)
            for s, f in zip(self._steps, self._functions, strict=True)
        ]
