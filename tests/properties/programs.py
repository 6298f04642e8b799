"""Running the random programs of ``defnpy.testing``: on the reference, compiled, as the printed source, in Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from defnpy.backends.cpu import prelude
from defnpy.backends.cpu.backend import CpuBackend
from defnpy.backends.cpu.driver import readable
from defnpy.backends.cpu.render import render
from defnpy.backends.reference import evaluate
from defnpy.ir.expr import Expr, Graph
from defnpy.lower.memory import ALIGNMENT
from defnpy.lower.program import CallStep, KernelStep, lower
from defnpy.testing.programs import Program, draw_program

__all__ = [
    "Mathematics",
    "Program",
    "check_memory",
    "compare",
    "draw_program",
    "run_compiled",
    "run_readable",
    "run_reference",
]


def run_reference(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return evaluate(graph, inputs)


def run_compiled(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return CpuBackend().compile(graph)(inputs)


class Guarded:
    """A flat buffer of a kernel that refuses an index outside of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, index: int) -> Any:
        assert 0 <= index < self.array.size, f"index {index} of a buffer of {self.array.size}"
        return self.array[index]

    def __setitem__(self, index: int, value: Any) -> None:
        assert 0 <= index < self.array.size, f"index {index} of a buffer of {self.array.size}"
        self.array[index] = value


class Mathematics:
    """The functions of ``math`` as compiled code computes them: inf and NaN where Python raises."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name) if hasattr(np, name) else getattr(math, name)


class _Poisoned:
    """NumPy, but fresh memory is full of rubbish."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def empty(shape: Any, dtype: Any) -> np.ndarray:
        array = np.empty(shape, dtype)
        if array.dtype.kind == "b":
            array[...] = True
        else:
            array[...] = np.nan if array.dtype.kind == "f" else 111
        return array


def run_readable(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run the printed program as plain Python: nothing is compiled.

    No kernel may read or write out of bounds, none may write to an input, and the outputs are arrays of their own.
    """
    inputs = [np.array(x, order="C") for x in inputs]
    for x in inputs:
        x.flags.writeable = False
    program = lower(graph)
    check_memory(program)
    namespace: dict[str, Any] = {}
    exec("import numpy as np\n" + prelude.SOURCE, namespace)
    namespace["math"] = Mathematics()
    for step in program.steps:
        if isinstance(step, KernelStep):
            exec(render(step.emitted.kernel), namespace)
            namespace[step.emitted.kernel.name] = _guarded(namespace[step.emitted.kernel.name])
    for node in graph.nodes():
        namespace.setdefault(node.op.name, node.op.body)
    scope = dict(namespace, np=_Poisoned())
    exec(readable(program), scope)
    with np.errstate(all="ignore"):
        outputs = [np.asarray(y) for y in scope["program"](*inputs)]
    for number, y in enumerate(outputs):
        for other in (*inputs, *outputs[:number]):
            assert not np.shares_memory(y, other), f"output {number} is not an array of its own"
    return outputs


def _guarded(kernel: Callable[..., int]) -> Callable[..., int]:
    def call(*arguments: Any) -> int:
        return kernel(*[Guarded(a) if isinstance(a, np.ndarray) else a for a in arguments])

    return call


def check_memory(program: Any) -> None:
    """No two temporaries that hold something at the same time share a byte; every one is aligned and in the arena."""
    uses = lifetimes(program)
    placed = []
    for t in program.temporaries:
        size = math.prod(t.shape) * t.dtype.itemsize
        assert t.offset % ALIGNMENT == 0, f"{t.name} is not aligned"
        assert t.offset + size <= program.arena, f"{t.name} leaves the arena"
        first, last = uses[t.name]
        for name, begin, end, other_first, other_last in placed:
            apart = last < other_first or other_last < first or t.offset >= end or begin >= t.offset + size
            assert apart or not size, f"{t.name} overlaps {name}"
        if size:
            placed.append((t.name, t.offset, t.offset + size, first, last))


def lifetimes(program: Any) -> dict[str, tuple[int, int]]:
    """For every temporary the first and last step that touch it, found from the steps alone."""
    touched: dict[str, list[int]] = {}
    for number, step in enumerate(program.steps):
        if isinstance(step, KernelStep):
            names = [*step.scratch, *[program.names[b] for b in step.emitted.buffers if isinstance(b, Expr)]]
        else:
            result = step.node if isinstance(step, CallStep) else step.product.node
            pending, names = list(result.args), [program.names[result]]
            while pending:
                node = pending.pop()
                names.append(program.names[node])
                if node not in program.placed:
                    pending += node.args
        for name in names:
            touched.setdefault(name, []).append(number)
    return {name: (min(steps), max(steps)) for name, steps in touched.items()}


def compare(program: Program, found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Equal shapes, dtypes and values, within the program's tolerance."""
    assert len(found) == len(expected)
    for number, (node, y, z) in enumerate(zip(program.graph.outputs, found, expected, strict=True)):
        assert y.shape == z.shape == node.shape, f"output {number}: shape {y.shape}, not {z.shape}"
        assert y.dtype == z.dtype == node.dtype, f"output {number}: dtype {y.dtype}, not {z.dtype}"
        if y.dtype.kind == "f":
            np.testing.assert_allclose(
                y, z, rtol=program.tolerance, atol=program.tolerance * 10, err_msg=f"output {number}"
            )
        else:
            np.testing.assert_array_equal(y, z, err_msg=f"output {number}")
