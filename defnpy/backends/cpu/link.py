"""A program linked to this machine: native steps in a row, with the library calls between them.

A step may stop the program: a guard whose index says so, or a kernel that met an index out of bounds. What a guard asks
for is done from Python then, on the memory of the frame, and the steps behind it go on.

Every value in memory has a slot: the arguments, the outputs, the temporaries, the results of library calls. A step
names the slots of its buffers; a frame holds the addresses in the slots during one call.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import Mismatch
from ...ir.aval import Avals
from ...ir.evaluate import located
from ...ir.expr import Expr
from ...lower.fuse import VIEWS
from ...lower.memory import ALIGNMENT
from ...lower.program import CallStep, GuardStep, KernelStep, ProductStep, Program
from ...shapes import size
from ..base import Array
from . import blas, loops, native
from .compile import Function, functions
from .native import Launch, Step, Steps

__all__ = ["Frame", "Linked", "Segment"]


class _Memory:
    """The arrays in the slots of a frame, seen at their addresses."""

    def __init__(self, slots: Array, stored: dict[int, Expr]) -> None:
        self._slots, self._stored = slots, stored

    def __getitem__(self, slot: int) -> Array:
        node = self._stored[slot]
        count = size(node.shape) * node.dtype.itemsize
        memory = (ctypes.c_char * count).from_address(int(self._slots[slot]))
        return np.ndarray(node.shape, node.dtype, memoryview(memory))


Slots = list[Any] | _Memory


@dataclass
class Segment:
    """Native steps in a row, then a library call, if one follows.

    sources: what each step was lowered as. call: a function of the frame's arrays, which gives the arrays for
    ``results``, slots.
    """

    steps: list[Step] = field(default_factory=list)
    sources: list[KernelStep | ProductStep | GuardStep] = field(default_factory=list)
    call: Callable[[Slots], list[Array]] | None = None
    results: list[int] = field(default_factory=list)


class Linked:
    """The steps of a program as tables for the native entry, shared by all its frames."""

    def __init__(self, program: Program, build: loops.Build) -> None:
        self.program = program
        self._build = build
        self.parts: dict[Expr, dict[str, Any]] = {}  # of nodes that run graphs: the executables of these
        names = program.names
        graph = program.graph
        called = [node for s in program.steps if isinstance(s, CallStep) for node in s.results]
        keys = [names[n] for n in graph.inputs] + [names[n] for n in program.made]
        self.inputs, self.made = len(graph.inputs), program.made
        self.first_temporary = len(keys)
        keys += [t.name for t in program.temporaries]
        keys += [names[n] for n in called]
        self.slots = {key: i for i, key in enumerate(keys)}
        kernels = [s for s in program.steps if isinstance(s, KernelStep)]
        products = [s.product for s in program.steps if isinstance(s, ProductStep)]
        written = [native.source(), *[source for product in products for source in blas.sources(product)]]
        self.functions: list[Function] = functions([s.emitted.kernel for s in kernels], written)
        self.kernels = kernels
        address = dict(zip(map(id, kernels), self.functions, strict=True))
        self.segments = [Segment()]
        for step in program.steps:
            segment = self.segments[-1]
            if isinstance(step, CallStep):
                segment.call = self._library_call(step)
                segment.results = [self.slots[names[node]] for node in step.results]
                self.segments.append(Segment())
                continue
            if isinstance(step, KernelStep):
                segment.steps.append(self._launch(step, address[id(step)].address))
            elif isinstance(step, GuardStep):
                segment.steps.append(self._guard(step))
            else:
                segment.steps.append(self._product(step))
            segment.sources.append(step)
        if len(self.segments) > 1 and not self.segments[-1].steps:
            self.segments.pop()
        self.tables = [Steps(segment.steps) for segment in self.segments]
        self._mending: dict[Expr, Callable[..., Sequence[Array]]] = {}

    def _launch(self, step: KernelStep, address: int) -> Step:
        scratch, buffers, strides = iter(step.scratch), [], []
        for source in step.emitted.buffers:
            name = self.program.names[source] if isinstance(source, Expr) else next(scratch)
            buffers.append(self.slots[name])
            if isinstance(source, int):
                temporary = self.program.temporaries[self.slots[name] - self.first_temporary]
                strides.append(temporary.shape[1] * temporary.dtype.itemsize)
        sizes = [*step.emitted.sizes, *strides]
        shared = address, buffers, sizes, step.extent, step.threads, step.grain
        if step.stream is None:
            return Step(*shared)
        ahead = sum(1 << number for number in step.stream.alongside)
        return Step(*shared, streamed=step.stream.target, ahead=ahead, width=step.stream.width)

    def _product(self, step: ProductStep) -> Step:
        product = step.product
        sizes, extent, grain, parts = blas.split(product, step.threads)
        buffers = [self.slots[self.program.names[n]] for n in (product.left.base, product.right.base, product.node)]
        return Step(blas.gemm(product.node.dtype), buffers, sizes, extent, step.threads, grain, parts=parts)

    def _guard(self, step: GuardStep) -> Step:
        index = step.node.args[0]
        return Step(native.guard(), [self.slots[self.program.names[index]]], [], index.size, 1, 1)

    @functools.cached_property
    def _stored(self) -> dict[int, Expr]:
        """What lies in the slots of the arguments and of what steps compute."""
        names = self.program.names
        known = [x for x in (*self.program.graph.inputs, *self.program.placed) if x in names]
        return {self.slots[names[x]]: x for x in known if names[x] in self.slots}

    def mend(self, step: GuardStep, slots: Array) -> None:
        """What a guard stopped for: the results of its node, over the operands that they are by default."""
        node, memory = step.node, _Memory(slots, self._stored)
        if node not in self._mending:
            self._mending[node] = loops.otherwise(node, self._build)
        with np.errstate(all="ignore"):
            found = self._mending[node](*[self._viewer(x)(memory) for x in node.args])
        for item, operand in zip(step.results, step.operands, strict=True):
            memory[self.slots[self.program.names[operand]]][...] = found[item.kwargs["index"]]

    # -- library calls ---------------------------------------------------------------------------------------------

    def _library_call(self, step: CallStep) -> Callable[[Slots], list[Array]]:
        """The reference body of a node, on arrays by slot; its errors name the user's line."""
        node, params = step.node, step.node.kwargs
        operands = [self._viewer(arg) for arg in node.args]
        wanted = [0 if result is node else result.kwargs["index"] for result in step.results]
        several = isinstance(node.aval, Avals)
        body: Callable[..., Any] = functools.partial(node.op.body, **params)
        if node.op.family == "control":
            self.parts[node] = loops.parts_of(node, self._build)
            body = loops.runner(node, self.parts[node])

        def call(arrays: Slots) -> list[Array]:
            values = [operand(arrays) for operand in operands]
            try:
                with np.errstate(all="ignore"):
                    result = body(*values)
            except Mismatch as mismatch:
                raise located(node, mismatch) from None
            found = result if several else (result,)
            return [_own(found[i], values) for i in wanted]

        return call

    def _viewer(self, node: Expr) -> Callable[[Slots], Any]:
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
    """Memory for one call at a time of a linked program. bare: the slots of arguments and outputs are filled by others,
    not from lists of arrays."""

    def __init__(self, linked: Linked, *, bare: bool = False) -> None:
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
        given, made = (0, 0) if bare else (linked.inputs, len(linked.made))
        self._launches = [Launch(table, self.slots, given, made) for table in linked.tables]
        self.addresses = [call.address for call in self._launches]
        self._linked = linked
        self._behind: dict[tuple[int, int], Launch] = {}

    def behind(self, segment: int, number: int) -> int:
        """The address of the launch of the steps behind a step of a segment, on the slots as they are."""
        if (segment, number) not in self._behind:
            rest = Steps(self._linked.segments[segment].steps[number + 1 :])
            self._behind[segment, number] = Launch(rest, self.slots, 0, 0)
        return self._behind[segment, number].address
