"""A program linked to this machine: native steps in a row, with the library calls between them.

Every value in memory has a slot: the arguments, the outputs, the temporaries, the results of library calls. A step
names the slots of its buffers; a frame holds the addresses in the slots during one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import Mismatch
from ...ir.expr import Expr
from ...lower.fuse import VIEWS
from ...lower.memory import ALIGNMENT
from ...lower.program import CallStep, KernelStep, Program
from ..base import Array
from ..reference import located
from . import blas, native
from .compile import Function, functions

__all__ = ["Frame", "Linked", "Step"]


@dataclass
class Step:
    """A native step: its function, the slots of its buffers, its size arguments, and how threads share it."""

    address: int
    buffers: list[int]
    sizes: list[int]
    extent: int
    threads: int
    grain: int
    kernel: KernelStep | None


@dataclass
class Segment:
    """Native steps in a row, then a library call, if one follows: a function of the frame's arrays and its slot.

    most: the buffers of the step that has most.
    """

    steps: list[Step] = field(default_factory=list)
    call: Callable[[list[Any]], Array] | None = None
    slot: int = -1
    table: Any = None
    most: int = 0


class Linked:
    """The steps of a program as tables for the native entry, shared by all its frames."""

    def __init__(self, program: Program) -> None:
        self.program = program
        names = program.names
        graph = program.graph
        calls = [s.node for s in program.steps if isinstance(s, CallStep)]
        keys = [names[n] for n in graph.inputs] + [names[n] for n in program.made]
        self.inputs, self.made = len(graph.inputs), program.made
        self.first_temporary = len(keys)
        keys += [t.name for t in program.temporaries]
        keys += [names[n] for n in calls]
        self.slots = {key: i for i, key in enumerate(keys)}
        kernels = [s for s in program.steps if isinstance(s, KernelStep)]
        self.functions: list[Function] = functions([s.emitted.kernel for s in kernels])
        self.kernels = kernels
        address = dict(zip(map(id, kernels), self.functions, strict=True))
        self.segments = [Segment()]
        for step in program.steps:
            if isinstance(step, CallStep):
                self.segments[-1].call = self._library_call(step.node)
                self.segments[-1].slot = self.slots[names[step.node]]
                self.segments.append(Segment())
            elif isinstance(step, KernelStep):
                self.segments[-1].steps.append(self._launch(step, address[id(step)].address))
            else:
                self.segments[-1].steps.append(self._product(step))
        if len(self.segments) > 1 and not self.segments[-1].steps:
            self.segments.pop()
        self._kept: list[Any] = []
        for segment in self.segments:
            segment.table = self._table(segment.steps)
            segment.most = max([len(s.buffers) for s in segment.steps], default=0)
        self.threads = max([s.threads for segment in self.segments for s in segment.steps], default=1)

    def _launch(self, step: KernelStep, address: int) -> Step:
        scratch, buffers, strides = iter(step.scratch), [], []
        for source in step.emitted.buffers:
            name = self.program.names[source] if isinstance(source, Expr) else next(scratch)
            buffers.append(self.slots[name])
            if isinstance(source, int):
                temporary = self.program.temporaries[self.slots[name] - self.first_temporary]
                strides.append(temporary.shape[1] * temporary.dtype.itemsize)
        sizes = [*step.emitted.sizes, *strides]
        return Step(address, buffers, sizes, step.extent, step.threads, step.grain, step)

    def _product(self, step: Any) -> Step:
        product = step.product
        sizes, extent, grain = blas.split(product)
        buffers = [self.slots[self.program.names[n]] for n in (product.left.base, product.right.base, product.node)]
        return Step(blas.gemm(product.node.dtype), buffers, sizes, extent, step.threads, grain, None)

    def _table(self, steps: Sequence[Step]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The records of the steps, as ``native`` reads them."""
        table = np.zeros((len(steps), native.STEP_WORDS), np.int64)
        for record, step in zip(table, steps, strict=True):
            buffers, sizes = np.array(step.buffers, np.int64), np.array(step.sizes or [0], np.int64)
            self._kept += [buffers, sizes]
            record[:] = (
                step.address, buffers.ctypes.data, len(buffers), sizes.ctypes.data,
                step.extent, step.threads, step.grain,
            )  # fmt: skip
        return table

    # -- library calls ---------------------------------------------------------------------------------------------

    def _library_call(self, node: Expr) -> Callable[[list[Any]], Array]:
        """The reference body of a node, on arrays by slot; its errors name the user's line."""
        params = node.kwargs
        operands = [self._viewer(arg) for arg in node.args]

        def call(arrays: list[Any]) -> Array:
            values = [operand(arrays) for operand in operands]
            try:
                with np.errstate(all="ignore"):
                    return _own(node.op.body(*values, **params), values)
            except Mismatch as mismatch:
                raise located(node, mismatch) from None

        return call

    def _viewer(self, node: Expr) -> Callable[[list[Any]], Any]:
        """How to see ``node`` in the arrays by slot."""
        if node.op.name == "constant":
            number = np.asarray(node.kwargs["value"].value)
            return lambda arrays: number
        if node in self.program.placed or node.op.name not in VIEWS:
            slot = self.slots[self.program.names[node]]
            return lambda arrays: arrays[slot]
        inner, body, params = self._viewer(node.args[0]), node.op.body, node.kwargs
        return lambda arrays: body(inner(arrays), **params)


def _own(result: Any, operands: Sequence[Any]) -> Array:
    """The result of a library call as an array of its own: not an operand, nor a view into one."""
    array = np.asarray(result)
    if array.base is not None or any(array is x for x in operands) or not array.flags.c_contiguous:
        return np.array(array, order="C")
    return array


class Frame:
    """Memory for one call at a time of a linked program."""

    def __init__(self, linked: Linked) -> None:
        program = linked.program
        try:
            raw = np.empty(program.arena + ALIGNMENT, np.uint8)
        except (MemoryError, ValueError):
            need = f"{program.arena / 2**40:,.3f} TiB"
            raise MemoryError(f"unable to allocate {need} for the values between the steps of a program") from None
        start = -raw.ctypes.data % ALIGNMENT
        self.slots = np.zeros(max(len(linked.slots), 1), np.int64)
        self.temporaries = []
        for i, t in enumerate(program.temporaries, linked.first_temporary):
            begin = start + t.offset
            size = int(np.prod(t.shape, dtype=np.int64)) * t.dtype.itemsize
            array = raw[begin : begin + size].view(t.dtype).reshape(t.shape)
            self.slots[i] = raw.ctypes.data + begin
            self.temporaries.append(array)
        self._raw = raw
        shared = native.pool(linked.threads).address if linked.threads > 1 else 0
        slots = self.slots.ctypes.data
        self._words = np.array(
            [
                (s.table.ctypes.data, len(s.steps), slots, linked.inputs, len(linked.made), shared, s.most)
                for s in linked.segments
            ],
            np.int64,
        )
        self.addresses = [row.ctypes.data for row in self._words]
