"""Random smooth programs: every derivative is the same linear map, however it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import defnpy as dp
from defnpy.ir.expr import Graph
from defnpy.ir.trace import current
from defnpy.ops.elementwise import tanh
from defnpy.testing.programs import draw_program

FEW = settings(max_examples=15, suppress_health_check=[*HealthCheck])


@st.composite
def functions(draw: st.DrawFn) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """A random function of the float inputs of a program, which gives a number, and a point."""
    program = draw_program(lambda n: draw(st.integers(0, n - 1)), steps=8, smooth=True)
    numbers = [i for i, x in enumerate(program.inputs) if x.dtype == np.float64]
    assume(numbers and sum(program.inputs[i].size for i in numbers) < 60)
    graph: Graph = program.graph

    def function(*xs: Any) -> Any:
        trace = current()
        assert trace is not None
        values: list[Any] = list(program.inputs)
        for i, x in zip(numbers, xs, strict=True):
            values[i] = x
        return trace.inline(graph, values)[0]

    return function, [program.inputs[i] for i in numbers]


def directions(point: list[np.ndarray], seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(x.shape) for x in point)


def dot(left: Any, right: Any) -> float:
    return float(sum(np.sum(np.asarray(a) * np.asarray(b)) for a, b in zip(left, right, strict=True)))


def close(found: Any, expected: Any) -> None:
    scale = max(1.0, float(np.abs(np.asarray(expected)).max(initial=0.0)))
    np.testing.assert_allclose(np.asarray(found) / scale, np.asarray(expected) / scale, rtol=1e-8, atol=1e-9)


def check_first_order(function: Callable[..., Any], point: list[np.ndarray]) -> None:
    d, every = directions(point, 1), tuple(range(len(point)))
    gradient = dp.grad(function, every)(*point)
    value, along = dp.jvp(function, point, d)
    close(along, dot(gradient, d))
    close(dp.linearize(function, *point)[1](*d), along)
    close(dot(dp.vjp(function, *point)[1](1.0), d), along)
    for policy in ("nothing", "dots", "everything"):
        again, found = dp.value_and_grad(dp.checkpoint(function, policy=policy), every)(*point)
        close(again, value)
        for f, e in zip(found, gradient, strict=True):
            close(f, e)
    for jacobian in (dp.jacfwd, dp.jacrev):
        for f, e in zip(jacobian(function, every)(*point), gradient, strict=True):
            close(f, e)


def check_second_order(function: Callable[..., Any], point: list[np.ndarray]) -> None:
    d, e, every = directions(point, 2), directions(point, 3), tuple(range(len(point)))
    product = dp.hvp(function, point, d)
    close(dot(product, e), dot(dp.hvp(function, point, e), d))  # the Hessian is symmetric
    other = dp.grad(lambda *xs: dp.jvp(function, xs, d)[1], every)(*point)
    rows = dp.hessian(function, every)(*point)
    for i, (p, o) in enumerate(zip(product, other, strict=True)):
        close(o, p)
        whole = sum(np.tensordot(np.asarray(rows[i][j]), d[j], axes=d[j].ndim) for j in every)
        close(whole, p)


@FEW
@given(functions())
def test_first_derivatives_agree(drawn: Any) -> None:
    check_first_order(*drawn)


@FEW
@given(functions())
def test_second_derivatives_agree(drawn: Any) -> None:
    check_second_order(*drawn)


def test_a_wrong_rule_forwards_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tanh, "jvp", lambda tangents, y, x: tangents[0] * (1 - y))
    with pytest.raises(AssertionError):
        check_first_order(lambda x: dp.sum(dp.tanh(x) * x), [np.array([0.3, -1.0])])
