"""The CPU backend: fused kernels and matrix products, run step after step by the native entry."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...config import current as options
from ...ir.evaluate import located
from ...ir.expr import Expr, Graph
from ...lower.emit import FAILED
from ...lower.program import GuardStep, KernelStep, ProductStep, Program, lower
from ...lower.recompute import reasons
from ...lower.work import kernel_work, product_work
from ...shapes import out_of_bounds, size
from ..base import Array, MemoryReport, StepReport, ValueReport
from . import cache, native, prelude
from .driver import readable
from .link import Frame, Linked, Segment
from .render import render

__all__ = ["CpuBackend", "CpuExecutable"]


class CpuBackend:
    """Fused kernels through LLVM, matrix products through OpenBLAS, everything else through the reference."""

    name = "cpu"

    def compile(self, graph: Graph, donated: Collection[int] = ()) -> CpuExecutable:
        """Lower, compile and link a graph, and the graphs that its nodes run."""
        return CpuExecutable(lower(graph, options().threads, donated), self.compile)

    def clear_cache(self) -> int:
        """Remove all kernels from the disk cache in use; returns how many files there were."""
        return cache.clear(options().cache_dir) if options().cache_dir else 0


class CpuExecutable:
    """A compiled program. Each thread that runs it at the same time gets memory of its own.

    is_native: whether it runs without Python and each output is an array that was made for it, as bodies of loops need.
    may_stop: whether it has guards.
    """

    def __init__(self, program: Program, build: Callable[[Graph], CpuExecutable]) -> None:
        self._program = program
        self._linked = linked = Linked(program, build)
        self._run = native.run()
        self._made = [(node.shape, node.dtype) for node in program.made]
        number = {node: i for i, node in enumerate(program.graph.inputs)}
        taken = program.donated
        self._donated = [(i, number[taken[node]]) for i, node in enumerate(program.made) if node in taken]
        self._plain = len(linked.segments) == 1 and linked.segments[0].call is None
        place = {program.names[node]: i for i, node in enumerate(program.made)}
        outputs = [program.names[node] for node in program.graph.outputs]
        # Mostly every output is an array that was made for it, in order.
        places = [place.get(name) for name in outputs]
        self._as_made = self._plain and places == list(range(len(program.made)))
        self.is_native = self._plain and None not in places and len(set(places)) == len(places)
        self.may_stop = any(isinstance(step, GuardStep) for step in program.steps)
        self._slots = [linked.slots[name] for name in outputs]
        self._frames: list[Frame] = []
        self._bare: list[Frame] = []

    # -- as the body of a loop -------------------------------------------------------------------------------------

    @property
    def input_slots(self) -> range:
        """The slots of the arguments."""
        return range(self._linked.inputs)

    @property
    def output_slots(self) -> list[int]:
        """The slots of the outputs."""
        return self._slots

    def borrowed(self) -> Frame:
        """Memory for a loop's runs, to be given back."""
        try:
            return self._bare.pop()
        except IndexError:
            return Frame(self._linked, bare=True)

    def give_back(self, frame: Frame) -> None:
        """See :meth:`borrowed`."""
        self._bare.append(frame)

    def resume(self, frame: Frame, status: int) -> None:
        """Do what a run stopped for, and the rest of it; or raise the error."""
        self._resume(frame, 0, status)

    # -- as a program ----------------------------------------------------------------------------------------------

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, as fresh arrays."""
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame(self._linked)
        given = inputs if type(inputs) is list else list(inputs)
        made = self._reused(given) if self._donated else [np.empty(shape, dtype) for shape, dtype in self._made]
        try:
            if not self._plain:
                return self._with_calls(given, made, frame)
            status = self._run(frame.addresses[0], id(given), id(made))
            if status:
                self._resume(frame, 0, status)
        finally:
            self._frames.append(frame)
        return made if self._as_made else self._returned([*given, *made])

    def _reused(self, given: list[Array]) -> list[Array]:
        """Arrays for the outputs: those of donated inputs, or copies of them if somebody else still holds them."""
        made: list[Any] = [None] * len(self._made)
        for i, number in self._donated:
            alone = _holders(given, number) == _ALONE and given[number].base is None
            made[i] = given[number] if alone else given[number].copy()
        return [np.empty(*self._made[i]) if array is None else array for i, array in enumerate(made)]

    def _with_calls(
        self,
        given: list[Array],
        made: list[Array],
        frame: Frame,
        look: Callable[[Segment, list[Any]], None] = lambda segment, arrays: None,
    ) -> list[Array]:
        """Run segment by segment; ``look`` is called with the arrays by slot before each library call."""
        linked = self._linked
        arrays: list[Any] = [*given, *made, *frame.temporaries]
        arrays += [None] * (len(linked.slots) - len(arrays))
        for number, (segment, address) in enumerate(zip(linked.segments, frame.addresses, strict=True)):
            if segment.steps:
                status = self._run(address, id(given), id(made))
                if status:
                    self._resume(frame, number, status)
            look(segment, arrays)
            if segment.call is not None:
                for slot, array in zip(segment.results, segment.call(arrays), strict=True):
                    arrays[slot] = array
                    frame.slots[slot] = array.ctypes.data
        return self._returned(arrays)

    def _returned(self, arrays: list[Any]) -> list[Array]:
        """The outputs by slot: an argument or an array that is given out already is copied."""
        result, seen = [], set()
        for slot in self._slots:
            array = arrays[slot]
            result.append(np.array(array) if slot < self._linked.inputs or slot in seen else array)
            seen.add(slot)
        return result

    def _resume(self, frame: Frame, segment: int, status: int) -> None:
        """Go on where a step of a segment stopped."""
        number = -1
        while status:
            number += status >> 32
            source = self._linked.segments[segment].sources[number]
            if not isinstance(source, GuardStep):
                self._fail(frame, segment, number, status & 0xFFFFFFFF)
            else:
                self._linked.mend(source, frame.slots)
            status = self._run(frame.behind(segment, number), id(_NOTHING), id(_NOTHING))

    def _fail(self, frame: Frame, segment: int, number: int, status: int) -> None:
        """Raise the error of a bounds check. status: the kernel's."""
        step, source = self._linked.segments[segment].steps[number], self._linked.segments[segment].sources[number]
        assert isinstance(source, KernelStep)
        if step.threads > 1:
            # Several threads may have failed at once. On one the step fails at the first bad index.
            alone = native.Launch(native.Steps([replace(step, threads=1)]), frame.slots, 0, 0)
            status = self._run(alone.address, id(_NOTHING), id(_NOTHING)) & 0xFFFFFFFF
        name = next(n for n in source.scratch if n.endswith(FAILED))
        failed = frame.temporaries[self._linked.slots[name] - self._linked.first_temporary].reshape(-1)[0]
        node, axis = source.emitted.checks[status - 1]
        axes = node.kwargs["axes"]
        position = node.args[axes.index(axis) - len(axes)]  # the indices are the last operands
        index = int(failed.astype(position.dtype))  # an unsigned index was kept as its bits
        raise located(node, out_of_bounds(index, node.args[0].shape[axis], axis))

    def source(self) -> str:
        """Kernels and program as Python source that runs alone (slowly): nothing is needed to read or try it."""
        parts = ["import math\n\nimport numpy as np\n"]
        kernels = [render(step.emitted.kernel) for step in self._linked.kernels]
        used = "\n".join(kernels)
        for block in prelude.SOURCE.strip().split("\n\n\n"):
            if block.split("(")[0].removeprefix("def ") + "(" in used:
                parts.append(block + "\n")
        for node, inner in self._linked.parts.items():
            for label, part in inner.items():
                head = f"# {label} of {self._program.names[node]}, which runs it natively\n"
                parts.append(head + part.source().replace("import math\n\nimport numpy as np\n", "").lstrip("\n"))
        parts += kernels
        parts.append(readable(self._program))
        return "\n\n".join(part.strip("\n") + "\n" for part in parts)

    def steps(self) -> list[StepReport]:
        """Every kernel, product and call, in order."""
        functions = dict(zip(map(id, self._linked.kernels), self._linked.functions, strict=True))
        names = self._program.names
        reports = []
        for step in self._program.steps:
            if isinstance(step, KernelStep):
                kernel, function = step.emitted.kernel, functions[id(step)]
                moved, flops = kernel_work(step.emitted)
                report = StepReport(
                    "kernel", kernel.name, render(kernel), kernel.lines, step.threads, moved, flops,
                    function.seconds, function.cached,
                )  # fmt: skip
            elif isinstance(step, ProductStep):
                product = step.product
                moved, flops = product_work(product)
                shape = f"({product.m}, {product.k}) @ ({product.k}, {product.n})"
                text = shape if product.batch == 1 else f"{product.batch} x {shape}"
                report = StepReport(
                    "product", names[product.node], text, _lines(product.node), step.threads, moved, flops
                )
            elif isinstance(step, GuardStep):
                asked = f"if {names[step.node.args[0]]} > 0"
                report = StepReport("guard", names[step.node], asked, _lines(step.node))
            else:
                report = StepReport("call", names[step.node], step.node.op.name, _lines(step.node))
            reports.append(report)
        return reports

    def memory(self) -> MemoryReport:
        """Arguments, outputs, and the arena of the temporaries."""
        graph = self._program.graph
        made = [node for node in graph.outputs if node not in self._program.donated]
        return MemoryReport(sum(map(_bytes, graph.inputs)), sum(map(_bytes, made)), self._program.arena)

    def values(self) -> list[ValueReport]:
        """What lies between the steps, and what is computed again instead."""
        names = self._program.names
        return [ValueReport(names[node], _bytes(node), why) for node, why in reasons(self._program.graph)]

    def measure(self, inputs: Sequence[Array], repeats: int) -> list[float]:
        """Seconds of every step by itself, the least of ``repeats``, on the memory of a whole call before."""
        frame, given = Frame(self._linked), list(inputs)
        seconds: list[float] = []

        def look(segment: Segment, arrays: list[Any]) -> None:
            calls = [native.Launch(native.Steps([step]), frame.slots, 0, 0) for step in segment.steps]
            alone = [functools.partial(self._run, call.address, id(_NOTHING), id(_NOTHING)) for call in calls]
            if segment.call is not None:
                alone.append(functools.partial(segment.call, arrays))
            for run in alone:
                best = float("inf")
                for _ in range(repeats):
                    began = time.perf_counter()
                    run()
                    best = min(best, time.perf_counter() - began)
                seconds.append(best)

        self._with_calls(given, self._reused(given), frame, look)  # the caller holds the inputs: nothing is reused
        return seconds


def _bytes(node: Expr) -> int:
    return size(node.shape) * node.dtype.itemsize


def _holders(arrays: list[Array], number: int) -> int:
    """How many hold an array of the list, whatever this Python counts of its own."""
    array = arrays[number]
    return sys.getrefcount(array)


_ALONE = _holders([np.empty(1)], 0)  # of an array that only the list holds
_NOTHING: list[Any] = []


def _lines(node: Expr) -> tuple[str, ...]:
    return (node.loc.position.text,) if node.loc is not None and node.loc.position.text else ()
