"""Random programs in batches: some inputs batched, or single elements changed, against a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import defnpy as dp
from defnpy.debug import verify
from defnpy.ir.expr import Graph
from defnpy.ir.op import REGISTRY
from defnpy.ir.trace import tracing
from defnpy.transforms import perturb as perturbation
from defnpy.transforms.perturb import perturb
from defnpy.transforms.vmap import batched_graph
from tests.properties.programs import Program, compare, run_compiled, run_reference
from tests.properties.test_programs import examples, numbered, programs

SIZE = 3


def check_batched(program: Program, seed: int, run: Callable[..., list[np.ndarray]] = run_reference) -> None:
    """Some inputs get other values in every example, which are the same ones in another order."""
    rng = np.random.default_rng(seed)
    flags = [bool(rng.integers(0, 3)) for _ in program.inputs]
    rows = [
        [rng.permutation(x.ravel()).reshape(x.shape) if b else x for x, b in zip(program.inputs, flags, strict=True)]
        for _ in range(SIZE)
    ]
    graph, given_back = batched_graph(program.graph, flags, SIZE)
    verify(graph)
    inputs = [np.stack(column) if b else column[0] for column, b in zip(zip(*rows, strict=True), flags, strict=True)]
    results = run(graph, inputs)
    for i, row in enumerate(rows):
        found = [result[i] if b else result for result, b in zip(results, given_back, strict=True)]
        compare(program, found, run_reference(program.graph, row))


@given(programs(steps=16), st.integers(0, 2**32 - 1))
@examples(150)
def test_a_batch_of_a_program(program: Program, seed: int) -> None:
    check_batched(program, seed)


@given(programs(steps=10, gradient=True, smooth=True), st.integers(0, 2**32 - 1))
@examples(100)
def test_a_batch_of_a_gradient(program: Program, seed: int) -> None:
    check_batched(program, seed)


@given(programs(steps=12), st.integers(0, 2**32 - 1))
@examples(15)
def test_a_compiled_batch(program: Program, seed: int) -> None:
    check_batched(program, seed, run_compiled)


def perturbed_graph(
    graph: Graph, number: int, places: np.ndarray, elements: np.ndarray
) -> tuple[Graph, list[np.ndarray]]:
    """The graph for changes of one input, the index of each a column of ``places``, and what it captured."""
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        outputs, _ = perturb(trace, graph, inputs, number, list(places), elements)
        result = trace.graph([trace.lift(x) for x in outputs])
        captured = [value for value, _ in trace.captured.values()]
    return result, captured


def check_perturbed(program: Program, seed: int) -> None:
    """Single elements of an input get another whole number."""
    rng = np.random.default_rng(seed)
    floats = [i for i, x in enumerate(program.inputs) if x.dtype.kind == "f" and x.size]
    if not floats:
        return
    number = int(rng.choice(floats))
    x = program.inputs[number]
    chosen = rng.integers(0, x.size, 4)
    elements = rng.integers(-3, 4, 4).astype(x.dtype)
    places = np.stack(np.unravel_index(chosen, x.shape)) if x.ndim else np.empty((0, 4), np.int64)
    graph, captured = perturbed_graph(program.graph, number, places, elements)
    verify(graph)
    results = run_reference(graph, [*program.inputs, *captured])
    for i, (place, element) in enumerate(zip(chosen, elements, strict=True)):
        moved = x.copy()
        moved.reshape(-1)[place] = element
        inputs = [moved if n == number else other for n, other in enumerate(program.inputs)]
        compare(program, [result[i] for result in results], run_reference(program.graph, inputs))


@given(programs(steps=16), st.integers(0, 2**32 - 1))
@examples(150)
def test_changes_of_single_elements(program: Program, seed: int) -> None:
    check_perturbed(program, seed)


@given(programs(steps=10, gradient=True, smooth=True), st.integers(0, 2**32 - 1))
@examples(60)
def test_changes_of_single_elements_of_a_gradient(program: Program, seed: int) -> None:
    check_perturbed(program, seed)


# -- planted faults ---------------------------------------------------------------------------------------------------


def noticed(check: Callable[[Program, int], None]) -> bool:
    """Whether one of the first programs fails the check."""
    for number in range(600):
        try:
            check(numbered(number), number)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("name", ["add", "permute_dims", "reshape", "sum", "concat", "slice", "dot_general", "where"])
def test_examples_in_the_wrong_order_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = REGISTRY[name]
    rule = op.batch
    assert rule is not None
    monkeypatch.setattr(op, "batch", lambda *operands, **params: dp.flip(rule(*operands, **params), axis=0))
    assert noticed(check_batched)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("sliced", lambda x, at: dp.flip(REGISTRY["gather"](x, *at.values(), axes=tuple(at)), axis=0)),
        ("_corrected", lambda base, at, change: change),
        ("widened", lambda x, keep: perturbation.Batched(dp.broadcast_to(x.base, (len(x.value), *x.base.shape)))),
    ],
)
def test_a_wrong_slice_is_noticed(name: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perturbation, name, fault)
    assert noticed(check_perturbed)
