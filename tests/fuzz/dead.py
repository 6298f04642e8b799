"""What a `where` leaves out: random programs over several examples, one of which holds NaN or infinity.

The program is batched over examples, as ``vmap`` does it, some of its inputs being the same for all. Of the results a
``where`` takes those of the examples that are alive; the loss is not linear in them. Whatever the dead example holds,
the value, the gradient, the product of the Hessian with a direction, and both in forward mode are those for ordinary
numbers in its place, and 0 for its own inputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from defnpy.backends.reference import evaluate
from defnpy.errors import LinAlgError
from defnpy.ir.aval import Aval
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.trace import tracing
from defnpy.ops.elementwise import sin, where
from defnpy.ops.linear import reshape, sum_
from defnpy.ops.mark import stop_grad
from defnpy.passes.pipeline import PASSES
from defnpy.testing.programs import Program
from defnpy.transforms.vmap import batched_graph
from tests.fuzz.checks import Derived, Unreliable, compare, compiled, derive

__all__ = ["check_dead", "check_dead_compiled", "poisoned"]

ALIVE = np.array([True, False, True])
OPAQUE = {"custom_vjp", "custom_jvp"}  # through a rule of the user's a condition goes as one boolean
POISONS = (np.nan, np.inf, -np.inf, 0.0)


def poisoned(program: Program, seed: int) -> Derived | None:
    """The program over examples with its derivatives, a poisoned example among its inputs, and the values that it has
    with ordinary numbers there. None where no result depends on a float by example."""
    rng = np.random.default_rng(seed)
    floats = [i for i, x in enumerate(program.inputs) if x.dtype.kind == "f" and x.size]
    if not floats or any(node.op.name in OPAQUE for node in program.graph.nodes()):
        return None
    chosen = {floats[int(rng.integers(len(floats)))]}
    flags = [i in chosen or bool(rng.integers(2)) for i in range(len(program.inputs))]
    data = {i for i in floats if flags[i] and rng.integers(3) == 0}  # not differentiated
    graph, batched = batched_graph(program.graph, flags, len(ALIVE))
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        operands = [stop_grad(x) if i in data else x for i, x in enumerate(inputs)]
        alive = trace.parameter(Aval(ALIVE.shape, ALIVE.dtype), "alive")
        parts = [
            _selected(y, alive)
            for y, given in zip(trace.inline(graph, [trace.lift(x) for x in operands]), batched, strict=True)
            if given and y.dtype.kind == "f" and y.size
        ]
        if not parts:
            return None
        whole = trace.graph([sum(parts[1:], parts[0])])
    tame = [_examples(x) if flag else x for x, flag in zip(program.inputs, flags, strict=True)] + [ALIVE]
    derived = derive(Program(whole, tame, program.tolerance), seed, smooth=False)
    values = list(derived.inputs)
    moved = [i for i, flag in enumerate(flags) if flag and i in floats]
    for i, name in enumerate(derived.graph.names):  # what is dead does not move
        if name.startswith("direction") and values[i].shape[:1] == ALIVE.shape:
            values[i] = np.where(ALIVE.reshape(-1, *(1,) * (values[i].ndim - 1)), values[i], 0).astype(values[i].dtype)
    bad = list(values)
    for i in moved:
        if i in chosen or rng.integers(2):
            dead = values[i].copy()
            places = rng.random(dead[~ALIVE].shape) < (1.0 if rng.integers(2) else 0.4)
            dead[~ALIVE] = np.where(places, POISONS[int(rng.integers(len(POISONS)))], dead[~ALIVE])
            bad[i] = dead
    expected = evaluate(derived.graph, values)
    return replace(derived, inputs=bad, values=expected, direction={})


def _selected(y: Expr, alive: Expr) -> Expr:
    """A number made of the examples that are alive."""
    mask = reshape(alive, shape=(len(ALIVE), *(1,) * (y.ndim - 1)))
    taken = where(mask, y, 0)
    return sum_(sin(taken)) + sum_(taken * taken) * 0.01


def _examples(x: np.ndarray) -> np.ndarray:
    """Three examples: the input, half of it, which most ops can take, too, and the input again."""
    return np.stack([x, x * x.dtype.type(0.5) if x.dtype.kind == "f" else x, x])


def check_dead(derived: Derived) -> None:
    """What a ``where`` leaves out has no say: as written, and after all passes."""
    with _unless_refused():
        made = poisoned(derived.program, derived.seed)
        if made is not None:
            compare(made, "dead", evaluate(made.graph, made.inputs), made.values)
            compare(made, "dead, after passes", evaluate(_optimized(made.graph), made.inputs), made.values)


def check_dead_compiled(derived: Derived) -> None:
    """Nor has it when compiled."""
    with _unless_refused():
        made = poisoned(derived.program, derived.seed)
        if made is not None:
            compare(made, "cpu dead", compiled(_optimized(made.graph), made.inputs), made.values)


def _optimized(graph: Graph) -> Graph:
    for run in PASSES:
        graph = run(graph)
    return graph


@contextlib.contextmanager
def _unless_refused() -> Iterator[None]:
    try:
        yield
    except LinAlgError as error:  # which LAPACK's ops raise for NaN, wherever it is
        raise Unreliable(str(error)) from error
