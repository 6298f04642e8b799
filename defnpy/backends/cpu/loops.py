"""Control flow on the CPU: the graphs of a loop are programs of their own, which a native loop runs again and again.

Between two iterations only addresses change: a carry lies in one of two buffers by turns, a row of a sequence one row
further on, a recorded carry in the tape itself. So an iteration costs its own steps and no Python. A body that calls
the library (another loop, or an op without kernels) is run from Python instead.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir.expr import Expr, Graph, subgraphs
from ...ops.mark import stop_grad
from ...shapes import DYNAMIC
from ..base import Array
from . import native
from .compile import Source, machine_code
from .machine import words

__all__ = ["otherwise", "parts_of", "runner"]

_LOOP = {"run": "ptr", "nothing": "ptr", "test": "ptr", "truth": "ptr", "body": "ptr", "movers": "ptr", "many": "i64",
         "first": "i64", "limit": "i64", "failed": "i64"}  # fmt: skip
_MOVER = {"slot": "ptr", "base": "i64", "stride": "i64", "mask": "i64", "ahead": "i64"}
_ENDLESS = 2**62
_ROWS = 64  # of a tape of unknown length, at first

_SOURCE = Source(
    f"""
; Run the iterations from %first on, until the test says no or %limit is reached. The number of the next one is left in
; the words. The result is 0 or the status of a step that failed; then %failed is 1 if it was one of the body.
define i64 @loop(ptr %words) {{
entry:
{words("words", _LOOP)}
  br label %head
head:
  %i = phi i64 [ %first, %entry ], [ %i1, %again ]
  store i64 %i, ptr %first_at
  %within = icmp slt i64 %i, %limit
  br i1 %within, label %move, label %end
move:
  %k = phi i64 [ 0, %head ], [ %k1, %moved ]
  %any = icmp slt i64 %k, %many
  br i1 %any, label %place, label %ask
place:
  %at = mul i64 %k, {8 * len(_MOVER)}
  %mover = getelementptr i8, ptr %movers, i64 %at
{words("mover", _MOVER)}
  %step = add i64 %i, %ahead
  %turn = and i64 %step, %mask
  %far = mul i64 %turn, %stride
  %address = add i64 %base, %far
  store i64 %address, ptr %slot
  br label %moved
moved:
  %k1 = add i64 %k, 1
  br label %move
ask:
  %asks = icmp ne ptr %test, null
  br i1 %asks, label %question, label %go
question:
  %status = call i64 %run(ptr %test, ptr %nothing, ptr %nothing)
  %wrong = icmp ne i64 %status, 0
  br i1 %wrong, label %fail, label %answer
answer:
  %said = load i8, ptr %truth
  %no = icmp eq i8 %said, 0
  br i1 %no, label %end, label %go
go:
  %result = call i64 %run(ptr %body, ptr %nothing, ptr %nothing)
  %bad = icmp ne i64 %result, 0
  br i1 %bad, label %failbody, label %again
again:
  %i1 = add i64 %i, 1
  br label %head
failbody:
  store i64 1, ptr %failed_at
  ret i64 %result
fail:
  ret i64 %status
end:
  ret i64 0
}}
""",
    ("loop",),
)


@functools.cache
def _loop() -> tuple[Any, int]:
    """The native loop, and the address of the native entry that it calls."""
    (address,) = machine_code(_SOURCE)
    entry = ctypes.cast(native.run(), ctypes.c_void_p).value
    assert entry is not None
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(address), entry


_NOTHING: list[Any] = []
Build = Callable[[Graph], Any]


def separate(graph: Graph) -> Graph:
    """The graph with an array of its own for each output, even for an input that is returned as it is."""
    seen: set[Expr] = set()
    outputs = []
    for node in graph.outputs:
        if node in seen or node.op.name == "parameter":
            node = Expr(stop_grad, (node,), (), node.aval, node.loc, node.trace)
        seen.add(node)
        outputs.append(node)
    return Graph(graph.inputs, outputs, graph.effects, graph.names)


def parts_of(node: Expr, build: Build) -> dict[str, Any]:
    """The executables of the graphs that a node runs, by what they are called."""
    return {label: build(separate(graph)) for label, graph in subgraphs(node)}


def runner(node: Expr, parts: dict[str, Any]) -> Callable[..., Sequence[Array]]:
    """A function of the operands' arrays that gives those of the results."""
    if node.op.name == "cond":
        return functools.partial(_branch, node, list(parts.values()).__getitem__)
    loop = _Loop(node, parts)
    return loop.natively if loop.native else loop.in_python


def otherwise(node: Expr, build: Build) -> Callable[..., Sequence[Array]]:
    """A function of the operands' arrays that gives the results of a ``cond`` whose first branch is not the one that is
    chosen. What it needs is compiled when it is called."""
    branches = node.kwargs["branches"]
    return functools.partial(_branch, node, functools.cache(lambda i: build(separate(branches[i]))))


def _branch(node: Expr, branch: Callable[[int], Any], index: Any, *x: Any) -> Sequence[Array]:
    """The results of the branch that is chosen; of several, if every example chooses, each one's for its examples."""
    chosen = np.clip(index, 0, len(node.kwargs["branches"]) - 1)
    given = [_whole(a) for a in x]
    if chosen.ndim == 0:
        found: Sequence[Array] = branch(int(chosen))(given)
        return found
    results = [np.empty(y.shape, y.dtype) for y in node.kwargs["branches"][0].outputs]
    for i in np.unique(chosen).tolist():
        for result, value in zip(results, branch(i)(given), strict=True):
            result[chosen == i] = value[chosen == i]
    return results


def _whole(x: Any) -> Array:
    """An operand as the native code takes it."""
    array = np.asarray(x)
    return array if array.flags.c_contiguous else np.array(array, order="C")


class _Loop:
    """A while_loop or a scan."""

    def __init__(self, node: Expr, parts: dict[str, Any]) -> None:
        params = node.kwargs
        self.body, self.test = parts["body"], parts.get("test")
        self.carries, self.sequences = params["carries"], params.get("sequences", 0)
        self.record: tuple[int, ...] = params["record"]
        self.length: int = params.get("length", DYNAMIC)
        self.reverse: bool = params.get("reverse", False)
        graph = params["body"]
        self.inputs = [(n.shape, n.dtype) for n in graph.inputs]
        self.outputs = [(n.shape, n.dtype) for n in graph.outputs]
        # A stopped body ends its iteration; behind a stopped test the body would be missing.
        self.native = self.body.is_native and (self.test is None or (self.test.is_native and not self.test.may_stop))

    def _operands(self, x: Sequence[Any]) -> tuple[int, list[Array]]:
        """How many iterations are known to be done, and what the body takes."""
        if self.test is not None:
            return _ENDLESS, [_whole(a) for a in x]
        if self.length == DYNAMIC:
            return int(x[0]), [_whole(a) for a in x[1:]]
        return self.length, [_whole(a) for a in x]

    # -- by Python -------------------------------------------------------------------------------------------------

    def in_python(self, *x: Any) -> Sequence[Array]:
        """Iteration by iteration: a body that calls the library can do no better."""
        count, operands = self._operands(x)
        k, m = self.carries, self.sequences
        carry, xs, outer = operands[:k], operands[k : k + m], operands[k + m :]
        stacked = [np.empty((count, *shape), dtype) for shape, dtype in self._stacked()] if self.test is None else []
        tapes: list[list[Array]] = [[] for _ in self.record]
        done = 0
        while done < count and (self.test is None or self.test([*carry, *outer])[0]):
            i = count - 1 - done if self.reverse else done
            found = self.body([*carry, *[rows[i, ...] for rows in xs], *outer])
            for rows, value in zip(stacked, [*found[k:], *[carry[j] for j in self.record]], strict=self.test is None):
                rows[i] = value
            if self.test is not None:
                for tape, j in zip(tapes, self.record, strict=True):
                    tape.append(carry[j])
            carry = found[:k]
            done += 1
        if self.test is None:
            return [*carry, *stacked]
        kept = [self.inputs[j] for j in self.record]
        rows_of = [np.array(t, d).reshape(done, *shape) for t, (shape, d) in zip(tapes, kept, strict=True)]
        return [*carry, *rows_of, np.asarray(np.int64(done))]

    def _stacked(self) -> list[Any]:
        return [*self.outputs[self.carries :], *[self.inputs[j] for j in self.record]]

    # -- natively --------------------------------------------------------------------------------------------------

    def natively(self, *x: Any) -> Sequence[Array]:
        """All iterations in one call, or in a few, between which a tape of unknown length grows."""
        count, operands = self._operands(x)
        frames = [part.borrowed() for part in (self.body, self.test) if part is not None]
        try:
            return self._run(count, operands, frames)
        finally:
            for part, frame in zip((self.body, self.test), frames, strict=False):
                part.give_back(frame)

    def _run(self, count: int, operands: list[Array], frames: list[Any]) -> Sequence[Array]:
        k, m = self.carries, self.sequences
        rows = count if self.test is None else _ROWS
        carry = [self._carry_buffer(j, rows, operands[j]) for j in range(k)]
        made = [np.empty((count, *shape), dtype) for shape, dtype in self.outputs[k:]]
        for part, frame in zip((self.body, self.test), frames, strict=False):
            for i in range(k + m, len(operands)):
                frame.slots[part.input_slots[i]] = operands[i].ctypes.data
        run, entry = _loop()
        state = np.array(
            [entry, id(_NOTHING), 0, 0, frames[0].addresses[0], 0, 0, 0, count, 0], np.int64
        )  # fmt: skip
        if self.test is not None:
            state[2] = frames[1].addresses[0]
            truth = np.zeros(1, np.uint8)
            frames[1].slots[self.test.output_slots[0]] = state[3] = truth.ctypes.data
        growing = self.test is not None and bool(self.record)
        while True:
            movers = np.array(self._movers(carry, operands[k : k + m], made, rows, frames), np.int64)
            state[5], state[6] = movers.ctypes.data, len(movers)
            state[8] = rows if growing else count
            while status := run(state.ctypes.data):
                stopped = 0 if state[9] else 1
                [part for part in (self.body, self.test) if part is not None][stopped].resume(frames[stopped], status)
                state[7] += 1  # the rest of this iteration is done
                state[9] = 0
            done = int(state[7])
            if not growing or done < rows:
                break
            rows *= 2
            for j in self.record:
                longer = np.empty((rows + 1, *carry[j].shape[1:]), carry[j].dtype)
                longer[: done + 1] = carry[j]
                carry[j] = longer
        return self._results(carry, made, done)

    def _carry_buffer(self, j: int, rows: int, first: Array) -> Array:
        """The memory of a carry: its two turns, or a row for every iteration, and one for the end."""
        buffer = np.empty((rows + 1 if j in self.record else 2, *first.shape), first.dtype)
        buffer[-1 if j in self.record and self.reverse else 0] = first
        return buffer

    def _movers(
        self, carry: list[Array], xs: list[Array], made: list[Array], rows: int, frames: list[Any]
    ) -> list[list[int]]:
        """What changes from iteration to iteration: slot, address at first, stride, mask and number of turns ahead."""
        body = self.body
        found = []
        for j, buffer in enumerate(carry):
            each = buffer.strides[0]
            recorded = j in self.record
            backwards = recorded and self.reverse
            base = buffer.ctypes.data + (rows * each if backwards else 0)
            rest = [base, -each if backwards else each, -1 if recorded else 1]
            found.append([_slot(frames[0], body.input_slots[j]), *rest, 0])
            found.append([_slot(frames[0], body.output_slots[j]), *rest, 1])
            if self.test is not None:
                found.append([_slot(frames[1], self.test.input_slots[j]), *rest, 0])
        streams = [*zip(body.input_slots[self.carries :], xs, strict=False)]
        streams += [*zip(body.output_slots[self.carries :], made, strict=True)]
        for slot, buffer in streams:
            each = buffer.strides[0] if buffer.ndim and buffer.size else 0
            base = buffer.ctypes.data + ((rows - 1) * each if self.reverse else 0)
            found.append([_slot(frames[0], slot), base, -each if self.reverse else each, -1, 0])
        return found

    def _results(self, carry: list[Array], made: list[Array], done: int) -> list[Array]:
        final, tapes = [], []
        for j, buffer in enumerate(carry):
            recorded = j in self.record
            row = (0 if self.reverse else done) if recorded else done & 1
            final.append(np.array(buffer[row]))
        for j in self.record:
            tapes.append(carry[j][1:] if self.reverse else carry[j][:done])
        counts = [np.asarray(np.int64(done))] if self.test is not None and self.record else []
        return [*final, *made, *tapes, *counts]


def _slot(frame: Any, number: int) -> int:
    return int(frame.slots.ctypes.data) + 8 * number
