"""The CPU backend: fused kernels and matrix products, run step after step by the native entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...config import current as options
from ...errors import IndexingError, Mismatch
from ...ir.expr import Graph
from ...lower.program import Program, lower
from ..base import Array, KernelReport
from ..reference import located
from . import native, prelude
from .driver import readable
from .link import Frame, Linked
from .render import render

__all__ = ["CpuBackend", "CpuExecutable"]


class CpuBackend:
    """Fused kernels through LLVM, matrix products through OpenBLAS, everything else through the reference."""

    name = "cpu"

    def compile(self, graph: Graph) -> CpuExecutable:
        """Lower, compile and link a graph."""
        return CpuExecutable(lower(graph, options().threads))


class CpuExecutable:
    """A compiled program. Each thread that runs it at the same time gets memory of its own."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._linked = linked = Linked(program)
        self._run = native.run()
        self._made = [(node.shape, node.dtype) for node in program.made]
        self._plain = len(linked.segments) == 1 and linked.segments[0].call is None
        place = {node: i for i, node in enumerate(program.made)}
        outputs = program.graph.outputs
        # Mostly every output is an array that was made for it, in order.
        self._as_made = self._plain and [place.get(node) for node in outputs] == list(range(len(program.made)))
        self._slots = [linked.slots[program.names[node]] for node in outputs]
        self._frames: list[Frame] = []

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, as fresh arrays."""
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame(self._linked)
        given = inputs if type(inputs) is list else list(inputs)
        made = [np.empty(shape, dtype) for shape, dtype in self._made]
        try:
            if not self._plain:
                return self._with_calls(given, made, frame)
            status = self._run(frame.addresses[0], id(given), id(made))
            if status:
                self._fail(given, made, frame, 0, status)
        finally:
            self._frames.append(frame)
        return made if self._as_made else self._returned([*given, *made])

    def _with_calls(self, given: list[Array], made: list[Array], frame: Frame) -> list[Array]:
        linked = self._linked
        arrays: list[Any] = [*given, *made, *frame.temporaries]
        arrays += [None] * (len(linked.slots) - len(arrays))
        for number, (segment, address) in enumerate(zip(linked.segments, frame.addresses, strict=True)):
            if segment.steps:
                status = self._run(address, id(given), id(made))
                if status:
                    self._fail(given, made, frame, number, status)
            if segment.call is not None:
                arrays[segment.slot] = array = segment.call(arrays)
                frame.slots[segment.slot] = array.ctypes.data
        return self._returned(arrays)

    def _returned(self, arrays: list[Any]) -> list[Array]:
        """The outputs by slot: an argument or an array that is given out already is copied."""
        result, seen = [], set()
        for slot in self._slots:
            array = arrays[slot]
            result.append(np.array(array) if slot < self._linked.inputs or slot in seen else array)
            seen.add(slot)
        return result

    def _fail(self, given: list[Array], made: list[Array], frame: Frame, segment: int, status: int) -> None:
        """Raise the error of a bounds check."""
        step = self._linked.segments[segment].steps[(status >> 32) - 1]
        assert step.kernel is not None
        if step.threads > 1:
            # Several threads may have failed at once. Alone the step fails at the first bad index.
            alone = native.Alone(step, frame)
            status = alone.run(self._run, given, made)
        name = next(n for n in step.kernel.scratch if n.endswith("failed_index"))
        failed = frame.temporaries[self._linked.slots[name] - self._linked.first_temporary].reshape(-1)[0]
        node, axis = step.kernel.emitted.checks[(status & 0xFFFFFFFF) - 1]
        position = node.kwargs["axes"].index(axis) + 1
        index = int(failed.astype(node.args[position].dtype))  # an unsigned index was kept as its bits
        n = node.args[0].shape[axis]
        mismatch = Mismatch(f"index {index} is out of bounds for axis {axis} of size {n}", error=IndexingError)
        raise located(node, mismatch)

    def source(self) -> str:
        """Kernels and program as Python source that runs alone (slowly): nothing is needed to read or try it."""
        parts = ["import math\n\nimport numpy as np\n"]
        kernels = [render(step.emitted.kernel) for step in self._linked.kernels]
        used = "\n".join(kernels)
        for block in prelude.SOURCE.strip().split("\n\n\n"):
            if block.split("(")[0].removeprefix("def ") + "(" in used:
                parts.append(block + "\n")
        parts += kernels
        parts.append(readable(self._program))
        return "\n\n".join(part.strip("\n") + "\n" for part in parts)

    def kernels(self) -> list[KernelReport]:
        """Name, source, user lines, seconds to compile or load, and cache hit of every kernel."""
        return [
            KernelReport(s.emitted.kernel.name, render(s.emitted.kernel), s.emitted.kernel.lines, f.seconds, f.cached)
            for s, f in zip(self._linked.kernels, self._linked.functions, strict=True)
        ]
