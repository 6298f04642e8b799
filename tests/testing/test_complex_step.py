"""Complex steps: exact where they can be taken, a clear refusal elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError
from defnpy.ir.op import REGISTRY, Op
from defnpy.testing import complex_step_gradient
from defnpy.testing.complex_step import ANALYTIC, PIECES

OPS = [op for op in REGISTRY.values() if op.name in ANALYTIC | PIECES.keys() - {"stop_grad"}]


def projected(op: Op, params: dict[str, Any]) -> Any:
    def function(*xs: Any) -> Any:
        y = op(*xs, **params)
        return dp.sum(y * dp.cos(dp.reshape(dp.iota(shape=(y.size,), dtype=y.dtype), y.shape)))

    return function


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_each_op_agrees_with_its_rule(op: Op) -> None:
    """The complex step does not read the rule, and has no rounding of its own: ten times the last digit."""
    checked = 0
    for case in op.cases:
        arrays = [np.asarray(a) for a in case.arrays(np.random.default_rng(3), np.dtype("float64"))]
        numbers = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")
        if not case.smooth or not numbers or np.dtype(case.params.get("dtype", float)).kind != "f":
            continue
        function = projected(op, case.params)
        found, expected = complex_step_gradient(function, *arrays, argnums=numbers), dp.grad(function, numbers)(*arrays)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
            checked += 1
    assert checked


def test_the_lists_name_ops() -> None:
    assert ANALYTIC | PIECES.keys() <= REGISTRY.keys()


def test_a_net_over_containers() -> None:
    def loss(p: Any, x: Any) -> Any:
        z = dp.relu(x @ p["W"] + p["b"])
        return dp.mean(dp.logsumexp(z, axis=-1)) + dp.sum(dp.tanh(p["W"]) ** 2)

    rng = np.random.default_rng(0)
    p = {"W": rng.normal(size=(3, 4)), "b": rng.normal(size=4), "name": "net"}
    x = rng.normal(size=(5, 3))
    found, expected = complex_step_gradient(loss, p, x), dp.grad(loss)(p, x)
    assert found["name"] is None
    for key in ("W", "b"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-12, atol=1e-14)


def test_a_wrong_rule_is_found_to_the_last_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no difference quotient shows."""
    right = REGISTRY["exp"].vjp
    monkeypatch.setattr(REGISTRY["exp"], "vjp", lambda g, y, x: (right(g, y, x)[0] * (1 + 1e-12),))
    x = np.array(0.3)
    gap = abs(float(complex_step_gradient(dp.exp, x)) - float(np.asarray(dp.grad(dp.exp)(x))))
    assert 5e-13 < gap < 5e-12


def curve(x: Any) -> Any:
    return dp.sum(dp.erf(x))


def test_an_op_without_complex_numbers_is_refused() -> None:
    with pytest.raises(GradientError) as caught:
        complex_step_gradient(curve, np.ones(2))
    assert caught.value.what == "complex steps: erf does not compute with complex numbers"
    assert "return dp.sum(dp.erf(x))" in caught.value.where
    assert caught.value.hint == "compare with differences instead: gradient_report, numerical_gradient"


def test_it_needs_a_scalar() -> None:
    with pytest.raises(GradientError, match=r"complex steps need a scalar function, not one that returns shape \(2,\)"):
        complex_step_gradient(lambda x: x, np.ones(2))
