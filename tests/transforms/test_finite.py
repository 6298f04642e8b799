"""What is said of finite values is true: at zeros, small and large numbers, to second order."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.expr import Expr
from defnpy.ir.op import REGISTRY, Op
from defnpy.transforms.finite import calm, facts
from defnpy.transforms.stage import stage

TAME = [op for op in REGISTRY.values() if op.tame and op.name != "astype"]
NUMBERS = np.array([0.0, -0.0, 1e-300, 1e-5, 0.5, 1.0, -1.0, 3.0, -30.0, 700.0, -700.0, 1e5, -1e5])


def check_tame(op: Op) -> None:
    columns = [NUMBERS] * op.arity
    if op.name == "where":
        columns[0] = np.array([False, True])
    x = [dp.asarray(g.ravel()) for g in np.meshgrid(*columns)]
    floats = tuple(i for i, a in enumerate(x) if a.dtype.kind == "f")

    def first(*x):
        return dp.grad(lambda *x: dp.sum(op(*x)), floats)(*x)

    found = [op(*x), *first(*x), *dp.grad(lambda *x: sum(dp.sum(part) for part in first(*x)), floats)(*x)]
    assert all(np.isfinite(np.asarray(part)).all() for part in found), op.name


@pytest.mark.parametrize("op", TAME, ids=lambda op: op.name)
def test_a_tame_op_gives_finite_numbers_for_finite_ones(op: Op) -> None:
    check_tame(op)


@pytest.mark.parametrize("name", ["sqrt", "exp", "divide", "log", "asin", "pow"])
def test_an_op_that_is_not_tame_would_be_noticed(name: str) -> None:
    assert not REGISTRY[name].tame
    with pytest.raises(AssertionError, match=name):
        check_tame(REGISTRY[name])


def known(function, count: int = 1):
    graph = stage(function, [np.ones((2, 3))] * count, {}).graph
    found = facts(graph.nodes())
    output: Expr = graph.outputs[0]
    return found[output]


@pytest.mark.parametrize(
    ("function", "finite", "low"),
    [
        (lambda x: x, True, 0),
        (lambda x: x * x, True, 1),
        (lambda x: x**2, True, 1),
        (lambda x: x**3, True, 0),
        (lambda x: x**0.5, False, 0),
        (lambda x: dp.mean((x - 1) ** 2, axis=0) + 1e-5, True, 2),
        (lambda x: x / dp.sqrt(dp.mean(x * x) + 1e-5), True, 0),
        (lambda x: x / dp.sqrt(dp.mean(x * x)), False, 0),
        (lambda x: dp.sqrt(dp.abs(x)), True, 1),
        (lambda x: dp.sqrt(x), False, 0),
        (lambda x: dp.log1p(dp.abs(x)), True, 0),
        (lambda x: dp.log(x * x), False, 0),
        (lambda x: dp.exp(x), False, 1),
        (lambda x: dp.tanh(dp.exp(x)), False, 0),
        (lambda x: dp.relu(x) @ x.T, True, 0),
        (lambda x: dp.maximum(x, 0.5), True, 2),
        (lambda x: dp.where(x > 0, x * x, 1.0), True, 1),
        (lambda x: dp.reshape(dp.sigmoid(x), 6)[::-1] + 0.0, True, 1),
    ],
)
def test_what_is_known_of_a_value(function, finite, low) -> None:
    found = known(function)
    assert (found.finite, found.low) == (finite, low)


@pytest.mark.parametrize(
    ("function", "at", "right"),
    [
        (lambda w: dp.sum(dp.relu(dp.where(MASK, PAIR, -dp.inf) * w)), 2.0, 0.5),
        (lambda w: dp.max(dp.where(MASK, PAIR, -dp.inf) * w), 2.0, 0.5),
        (lambda w: dp.max(dp.pad(PAIR[:1], low=1, value=-np.inf) * w), 2.0, 0.5),
        (lambda x: dp.sum(dp.minimum(dp.abs(x) * dp.inf, 1.0)), [0.5, 1.0], [0.0, 0.0]),
        (lambda x: dp.sum(dp.minimum(dp.abs(x) / truncated(x), 1.0)), [0.5, 6.0], [0.0, 0.0]),
    ],
    ids=["relu of -inf", "max of -inf", "max of a pad", "minimum of inf", "divisor cut to zero"],
)
def test_numbers_that_are_infinite_and_casts_that_reach_zero(function, at, right):
    np.testing.assert_allclose(np.asarray(dp.grad(function)(np.asarray(at))), right)
    np.testing.assert_allclose(np.asarray(dp.grad(dp.defn(function))(np.asarray(at))), right)


MASK, PAIR = np.array([True, False]), np.array([0.5, 1.0])


def truncated(x):
    """0.2 becomes 0."""
    return (dp.abs(x) * 0.2 + 0.1).astype(dp.int64).astype(dp.float64)


def test_what_is_calm():
    """A softmax is, of masked scores too; a quotient, a root and a loop with one are not."""
    mask = np.tril(np.ones((3, 3), bool))[:2]

    def is_calm(function):
        graph = stage(function, [np.ones((2, 3))], {}).graph
        return graph.outputs[0] in calm(graph.nodes())

    attention = lambda x: dp.softmax(dp.where(mask, x, -dp.inf), axis=1) @ x.T  # noqa: E731
    assert is_calm(attention) and is_calm(dp.log_softmax) and is_calm(lambda x: dp.exp(x) @ x.T)
    assert is_calm(lambda x: dp.fori_loop(0, 3, lambda i, c: dp.tanh(c), x))
    assert not is_calm(lambda x: attention(x / dp.sum(x)))
    assert not is_calm(lambda x: dp.sqrt(x * x) @ x.T)
    assert not is_calm(lambda x: dp.fori_loop(0, 3, lambda i, c: dp.sqrt(c), x))
    assert not is_calm(lambda x: dp.where(mask, x, dp.nan))
