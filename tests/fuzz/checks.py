"""What is asked of one random program: the same answers in every way in which they can be computed.

A program is extended by its own derivatives (:func:`derive`): one graph computes its outputs, their weighted sum L, the
gradient of L, L' along a direction by reverse and by forward mode, the product of the Hessian with that direction, and
L'' along it in both modes. Then, by the reference,

- ``jvp``: both modes agree, to first and second order;
- ``difference``: they agree with differences of L and of L' along the direction (smooth programs);
- ``vmap``: the graph for two examples at once gives what it gives for each;
- ``passes``: so does the graph after all passes, one alone, all but one;
- ``dead``: an example that a ``where`` leaves out may hold NaN or infinity (``dead.py``);
- ``cpu``: and compiled, with all passes or with none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from defnpy.backends.cpu.backend import CpuBackend
from defnpy.backends.reference import evaluate
from defnpy.ir.aval import Aval
from defnpy.ir.check import verify
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.trace import Trace, tracing
from defnpy.ops.linear import sum_
from defnpy.passes.pipeline import PASSES, prepare
from defnpy.testing.programs import Program
from defnpy.transforms.grad import backward
from defnpy.transforms.jvp import forward
from defnpy.transforms.vmap import batched_graph

__all__ = ["Derived", "Mismatch", "Unreliable", "compare", "compiled", "derive", "joined", "passes_of"]

Arrays = list[np.ndarray]

STEP = 1e-5
SMALLER = 8


class Mismatch(AssertionError):
    """Two ways to compute the same thing give different answers."""


class Unreliable(Exception):
    """The answers differ, but so do those for inputs that differ in their last bits: the program amplifies rounding."""


@dataclass
class Derived:
    """A program and its derivatives as one graph.

    labels: what each output is: "output", "loss", "first", "tangent", "gradient", "second", "tangent of first",
    "hessian product". direction: input numbers and what they move by. values: the reference's answers.
    """

    program: Program
    seed: int
    smooth: bool
    graph: Graph
    inputs: Arrays
    labels: list[str]
    direction: dict[int, np.ndarray]
    values: Arrays

    def one(self, label: str, values: Arrays) -> float | None:
        """The only output of that label."""
        return float(values[self.labels.index(label)]) if label in self.labels else None

    def moved(self, change: Callable[[int, np.ndarray], np.ndarray]) -> Arrays:
        """The inputs with the float ones of the program changed."""
        count = len(self.program.inputs)
        return [change(i, x) if i < count and x.dtype.kind == "f" else x for i, x in enumerate(self.inputs)]


def derive(program: Program, seed: int, smooth: bool) -> Derived:
    """Extend a program by its derivatives; odd seeds stabilize it first, as ``grad`` does."""
    rng = np.random.default_rng(seed)
    source = prepare(program.graph) if seed % 2 else program.graph
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(source.inputs, source.names, strict=True)]
        values = list(program.inputs)

        def drawn(like: Expr, name: str) -> Expr:
            values.append(np.asarray(rng.standard_normal(like.shape), like.dtype))
            return trace.parameter(Aval(like.shape, like.dtype), name)

        outputs = trace.inline(source, inputs)
        named = [("output", y) for y in outputs]
        floats = [y for y in outputs if y.dtype.kind == "f" and y.size]
        loss = _total(trace, [sum_(y * drawn(y, f"weights{i}")) for i, y in enumerate(floats)])
        wrt = [x for x in inputs if x.dtype.kind == "f" and x.size]
        found = _backward(trace, loss, wrt)
        moving = [x for x, g in zip(wrt, found, strict=True) if g is not None]
        gradients = [g for g in found if g is not None]
        direction: dict[int, np.ndarray] = {}
        if loss is not None and moving:
            directions = [drawn(x, f"direction{i}") for i, x in enumerate(moving)]
            where = {x: i for i, x in enumerate(inputs)}
            direction = {where[x]: d for x, d in zip(moving, values[-len(moving) :], strict=True)}
            first = _total(trace, [sum_(g * d) for g, d in zip(gradients, directions, strict=True)])
            products = _backward(trace, first, moving)
            second = _total(trace, [sum_(h * d) for h, d in zip(products, directions, strict=True) if h is not None])
            named += [("loss", loss), ("first", first), ("tangent", _forward(trace, loss, moving, directions))]
            named += [("gradient", g) for g in gradients]
            named += [("second", second), ("tangent of first", _forward(trace, first, moving, directions))]
            named += [("hessian product", h) for h in products]
        present = [(label, trace.lift(y)) for label, y in named if y is not None]
        graph = trace.graph([y for _, y in present])
    labels = [label for label, _ in present]
    return Derived(program, seed, smooth, graph, values, labels, direction, evaluate(graph, values))


def _total(trace: Trace, parts: Sequence[Any]) -> Any:
    if not parts:
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return trace.lift(total)


def _backward(trace: Trace, y: Any, wrt: Sequence[Expr]) -> list[Any]:
    if y is None or not wrt:
        return [None] * len(wrt)
    return backward(trace, [y], [trace.constant(y.dtype.type(1))], list(wrt))


def _forward(trace: Trace, y: Expr, wrt: Sequence[Expr], tangents: Sequence[Expr]) -> Any:
    return forward(trace, [y], list(wrt), list(tangents))[0]


# -- comparing --------------------------------------------------------------------------------------------------------


def compare(derived: Derived, what: str, found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Equal shapes and dtypes; floats equal to the program's tolerance, relative to the largest element.

    Where the expected value is not finite, an equivalent formula may well be.
    """
    for number, (label, y, z) in enumerate(zip(derived.labels, found, expected, strict=True)):
        place = f"{what}: {label} (output {number})"
        if (y.shape, y.dtype) != (z.shape, z.dtype):
            raise Mismatch(f"{place} is {y.dtype}{list(y.shape)}, not {z.dtype}{list(z.shape)}")
        if z.dtype.kind != "f":
            if not np.array_equal(y, z):
                raise Mismatch(f"{place} is {_short(y)}, not {_short(z)}")
            continue
        known = np.isfinite(z)
        if not known.any():
            continue
        allowed = derived.program.tolerance * (1 + float(np.abs(z[known]).max()))
        if np.all(np.abs(y[known] - z[known]) <= allowed):
            continue
        gap = float(np.nan_to_num(np.abs(y[known] - z[known]), nan=np.inf).max())
        if np.isfinite(gap) and gap <= 10 * _sensitivity(derived, number):
            raise Unreliable(place)
        raise Mismatch(f"{place} is {_short(y)}, not {_short(z)}")


def _short(x: np.ndarray) -> str:
    return np.array2string(x.reshape(-1), precision=17, threshold=8, edgeitems=3)


def _sensitivity(derived: Derived, number: int) -> float:
    """How much an output moves with the last bits of the inputs."""
    rng = np.random.default_rng(0)
    single = any(x.dtype == np.float32 for x in derived.inputs) or derived.values[number].dtype == np.float32
    size = 1e-6 if single else 1e-13
    largest, here = 0.0, evaluate(derived.graph, derived.inputs)[number]
    for _ in range(4):
        near = [x * (1 + size * rng.standard_normal(x.shape)).astype(x.dtype) if x.dtype.kind == "f" else x
                for x in derived.inputs]  # fmt: skip
        gap = np.abs(evaluate(derived.graph, near)[number] - here)
        largest = max(largest, float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)))
    return largest


# -- the checks -------------------------------------------------------------------------------------------------------


def check_jvp(derived: Derived) -> None:
    """Forward and reverse mode give the same derivative."""
    for reverse, forwards in (("first", "tangent"), ("second", "tangent of first")):
        a, b = derived.one(reverse, derived.values), derived.one(forwards, derived.values)
        if (a is None) != (b is None):
            a, b = a or 0.0, b or 0.0  # one of the modes knows that nothing depends on the inputs
        if a is None or b is None or not np.isfinite(a):
            continue
        if not abs(a - b) <= derived.program.tolerance * (1 + _magnitude(derived, reverse)):
            number = derived.labels.index(reverse) if reverse in derived.labels else derived.labels.index(forwards)
            if np.isfinite(b) and abs(a - b) <= 10 * _sensitivity(derived, number):
                raise Unreliable(reverse)
            raise Mismatch(f"jvp: {reverse} is {a!r} in reverse and {b!r} in forward mode")


def _magnitude(derived: Derived, label: str) -> float:
    """The size of the terms that a derivative along the direction is the sum of."""
    of = {"first": "gradient", "second": "hessian product"}[label]
    parts = [v for name, v in zip(derived.labels, derived.values, strict=True) if name == of]
    return sum(float(np.abs(part).sum()) for part in parts)


def check_difference(derived: Derived) -> None:
    """The derivatives along the direction agree with differences."""
    if not derived.smooth or not derived.direction:
        return
    length = np.sqrt(sum(float(np.sum(d * d)) for d in derived.direction.values()))
    size = np.sqrt(sum(float(np.sum(derived.inputs[i] ** 2)) for i in derived.direction))
    step = STEP * max(1.0, size) / max(1.0, length)
    faults: list[str] = []
    for h in (step, step / SMALLER, step / SMALLER**2):  # a kink within the step does not reach a smaller one
        faults = _difference_faults(derived, h)
        if not faults:
            return
    number = derived.labels.index(faults[0].split(":")[0])
    if _sensitivity(derived, number) > 1e-9 * (1 + abs(float(derived.values[number]))):
        raise Unreliable(faults[0])
    raise Mismatch(f"difference: {faults[0]}")


def _difference_faults(derived: Derived, h: float) -> list[str]:
    def along(sign: float) -> Arrays:
        shifted = derived.moved(lambda i, x: x + sign * h * derived.direction[i] if i in derived.direction else x)
        return evaluate(derived.graph, shifted)

    above, below = along(1.0), along(-1.0)
    faults = []
    for function, derivative in (("loss", "first"), ("first", "second")):
        up, down = derived.one(function, above), derived.one(function, below)
        exact = derived.one(derivative, derived.values)
        if up is None or down is None:
            continue
        exact = 0.0 if exact is None else exact
        quotient = (up - down) / (2 * h)
        magnitude = _magnitude(derived, derivative) if derivative in derived.labels else 0.0
        noise = 64 * np.finfo(float).eps * (abs(up) + abs(down) + magnitude) / (2 * h)
        if np.isfinite(quotient) and not abs(quotient - exact) <= 1e-5 * (1 + magnitude) + noise:
            faults.append(f"{derivative if derivative in derived.labels else function}: {exact!r}, not {quotient!r}")
    return faults


def check_vmap(derived: Derived) -> None:
    """Two examples at once, the program's inputs and half of them, give what each gives; the rest is shared."""
    count = len(derived.program.inputs)
    halved = derived.moved(lambda i, x: x * x.dtype.type(0.5))
    flags = [i < count for i in range(len(derived.inputs))]
    graph, batched = batched_graph(derived.graph, flags, 2)
    verify(graph)
    pairs = zip(derived.inputs, halved, flags, strict=True)
    found = evaluate(graph, [np.stack([a, b]) if flag else a for a, b, flag in pairs])
    for example, inputs in enumerate((derived.inputs, halved)):
        rows = [y[example] if flag else y for y, flag in zip(found, batched, strict=True)]
        values = derived.values if example == 0 else evaluate(derived.graph, inputs)
        other = Derived(
            derived.program, derived.seed, derived.smooth, derived.graph, inputs, derived.labels, {}, values
        )
        compare(other, f"vmap, example {example}", rows, values)


def passes_of(seed: int) -> list[tuple[Callable[[Graph], Graph], ...]]:
    """Which passes run: all, one, all but one; which one depends on the seed."""
    count = len(PASSES)
    alone, missing = PASSES[seed % count], PASSES[seed // count % count]
    return [PASSES, (alone,), tuple([run for run in PASSES if run is not missing])]


def check_passes(derived: Derived) -> None:
    """All passes, one of them alone, and all but one, keep the answers."""
    for chosen in passes_of(derived.seed):
        graph = derived.graph
        for run in chosen:
            graph = run(graph)
        verify(graph)
        names = "+".join(run.__name__ for run in chosen)
        compare(derived, f"passes {names}", evaluate(graph, derived.inputs), derived.values)


def check_cpu(derived: Derived, passes: bool = True) -> None:
    """Compiled, the graph gives the same answers."""
    graph = derived.graph
    for run in PASSES if passes else ():
        graph = run(graph)
    compare(derived, "cpu" if passes else "cpu without passes", compiled(graph, derived.inputs), derived.values)


def compiled(graph: Graph, inputs: Arrays) -> Arrays:
    """The answers of the compiled graph."""
    return CpuBackend().compile(graph)([np.array(x, order="C") for x in inputs])


def joined(several: Sequence[Derived]) -> tuple[Graph, Arrays]:
    """Several graphs beside each other in one, and its inputs: they are compiled together."""
    with tracing() as trace:
        outputs: list[Expr] = []
        for k, derived in enumerate(several):
            inputs = [trace.parameter(node.aval, f"p{k}_{i}") for i, node in enumerate(derived.graph.inputs)]
            outputs += trace.inline(derived.graph, inputs)
        return trace.graph(outputs), [x for derived in several for x in derived.inputs]
