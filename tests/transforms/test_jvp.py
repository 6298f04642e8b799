"""Forward mode over graphs: the ops' own rules, the transposed ones, and how a walk puts them together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.errors import GradientError
from defnpy.ir.check import verify
from defnpy.ir.op import REGISTRY, Case, Op
from defnpy.ops.families import special
from defnpy.transforms.grad import vjp_of
from defnpy.transforms.jvp import jvp_of
from defnpy.transforms.stage import stage

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

OPS = [op for op in REGISTRY.values() if op.family != "leaf" and op.vjp is not None]
ROWS = [pytest.param(op, case, id=f"{op.name}-{i}") for op in OPS for i, case in enumerate(op.cases) if case.smooth]


def arrays_of(case: Case) -> list[np.ndarray]:
    return [np.asarray(a) for a in case.arrays(np.random.default_rng(5), np.dtype("float64"))]


def directions(arrays: list[np.ndarray]) -> list[Any]:
    rng = np.random.default_rng(6)
    return [rng.standard_normal(a.shape) if a.dtype.kind == "f" else None for a in arrays]


def tangents_of(function: Any, arrays: list[np.ndarray], tangents: list[Any]) -> list[Any]:
    """The tangents of the results, None for those that do not move."""
    staged = stage(function, arrays, {})
    moving = [t is not None for t in tangents] + [False] * len(staged.captured)
    graph, moved = jvp_of(staged.graph, moving)
    verify(graph)
    inputs = [*arrays, *staged.captured, *[t for t in tangents if t is not None]]
    outputs = evaluate(graph, [np.asarray(x) for x in inputs])
    found = iter(outputs[len(staged.graph.outputs) :])
    return [next(found) if has_one else None for has_one in moved]


def check_tangents(op: Op, case: Case) -> None:
    """The tangents of a smooth case against differences: all operands moved at once, and all but one."""
    arrays = arrays_of(case)
    every = directions(arrays)
    kept = [every]
    if sum(t is not None for t in every) > 1:
        kept += [[None if i == j else t for j, t in enumerate(every)] for i, t in enumerate(every) if t is not None]

    def call(*xs: Any) -> Any:
        return op(*xs, **case.params)

    for tangents in kept:
        found = tangents_of(call, arrays, tangents)
        ends = [
            call(*[a if t is None else a + h * t for a, t in zip(arrays, tangents, strict=True)]) for h in (1e-6, -1e-6)
        ]
        above, below = (end if isinstance(end, tuple) else (end,) for end in ends)
        for part, up, down in zip(found, above, below, strict=True):
            expected = (np.asarray(up, float) - np.asarray(down, float)) / 2e-6
            got = np.zeros_like(expected) if part is None else part
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("op", "case"), ROWS)
def test_every_rule_agrees_with_differences(op: Op, case: Case) -> None:
    check_tangents(op, case)


def is_transposed(op: Op) -> bool:
    """Whether a rule forwards is the transposed one backwards. A loop keeps what it no longer reads among its operands,
    and ``clip_grad`` limits cotangents, but no tangents."""
    return op.jvp is not None and not op.graphs and op.name != "clip_grad"


@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if is_transposed(row.values[0])])
def test_a_rule_is_the_transposed_rule_backwards(op: Op, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = arrays_of(case)
    tangents = directions(arrays)
    if all(t is None for t in tangents):
        return

    def call(*xs: Any) -> Any:
        return op(*xs, **case.params)

    own = tangents_of(call, arrays, tangents)
    monkeypatch.setattr(op, "jvp", None)
    for one, other in zip(own, tangents_of(call, arrays, tangents), strict=True):
        for a, b in ((one, other), (other, one)):
            np.testing.assert_allclose(0 if a is None else a, 0 if b is None else b, rtol=1e-12, atol=1e-13)


def test_planted_faults_are_caught() -> None:
    def body(x, /):
        return np.sin(x)

    body.__name__ = "numpy_sine"
    case = Case(lambda rng, dtype: [rng.standard_normal(3).astype(dtype)])
    for jvp in (lambda t, y, x: t[0] * dp.sin(x), lambda t, y, x: dp.cos(x), lambda t, y, x: None):
        op = special(family="test", infer=lambda x: x, vjp=lambda g, y, x: (g * dp.cos(x),), cases=[case], jvp=jvp)(
            body
        )
        try:
            with pytest.raises(AssertionError):
                check_tangents(op, case)
        finally:
            del REGISTRY["numpy_sine"]


def test_a_rule_that_is_not_linear_cannot_be_transposed() -> None:
    def body(x, /):
        return np.sin(x)

    body.__name__ = "numpy_sine"
    case = Case(lambda rng, dtype: [rng.standard_normal(3).astype(dtype)])
    op = special(family="test", infer=lambda x: x, vjp=lambda g, y, x: (g * g * dp.cos(x),), cases=[case])(body)
    try:
        with pytest.raises(GradientError, match="numpy_sine: the rule backwards is not linear in the cotangent"):
            check_tangents(op, case)
    finally:
        del REGISTRY["numpy_sine"]


def test_what_does_not_move_has_no_tangent() -> None:
    x, n = np.array([1.0, 2.0]), np.array([3, 4])

    def f(x, n):
        return x * 2, n * 2, x > 1, dp.floor(x), dp.stop_grad(x) * n

    found = tangents_of(f, [x, n], [np.ones(2), None])
    assert [part is not None for part in found] == [True, False, False, False, False]


def test_an_integer_may_have_a_tangent_as_it_may_have_a_cotangent() -> None:
    (found,) = tangents_of(lambda n: n * n, [np.array([3, 4])], [np.ones(2, np.float32)])
    assert found.tolist() == [6.0, 8.0] and found.dtype == np.float32


def test_a_wanted_tangent_is_zero_where_nothing_moves() -> None:
    staged = stage(lambda x, y: (x, y, y > 0), [np.ones(2), np.ones(3)], {})
    graph, moved = jvp_of(staged.graph, [True, False], wanted=[True, True, True])
    assert moved == (True, True, False)
    assert [node.shape for node in graph.outputs] == [(2,), (3,), (3,), (2,), (3,)]
    outputs = evaluate(graph, [np.ones(2), np.ones(3), np.full(2, 5.0)])
    assert outputs[3].tolist() == [5.0, 5.0] and outputs[4].tolist() == [0.0, 0.0, 0.0]


def test_the_graph_that_pulls_back_is_the_transpose() -> None:
    staged = stage(lambda x, y: (dp.sin(x) * y, dp.sum(x)), [np.ones(3), np.ones(())], {})
    forwards, _ = jvp_of(staged.graph, [True, True])
    backwards = vjp_of(staged.graph, [True, True], [True, True])
    verify(forwards), verify(backwards)
    rng = np.random.default_rng(0)
    x, y, dx, dy, g, h = (rng.standard_normal(s) for s in ((3,), (), (3,), (), (3,), ()))
    *_, du, dv = evaluate(forwards, [x, y, dx, dy])
    gx, gy = evaluate(backwards, [x, y, g, h])
    np.testing.assert_allclose(np.sum(g * du) + h * dv, np.sum(gx * dx) + gy * dy, rtol=1e-12)


def test_the_forward_graph_computes_nothing_twice() -> None:
    """The transposed rule of a maximum leaves no trace of the cotangent that it was made with."""
    staged = stage(lambda x: dp.max(x, axis=1), [np.ones((2, 3))], {})
    graph, _ = jvp_of(staged.graph, [True])
    assert [node.op.name for node in graph.nodes()].count("max") == 1
