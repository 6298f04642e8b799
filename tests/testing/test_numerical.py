"""Numerical differences: their formula, containers, dtypes, and that they leave their arguments alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError
from defnpy.testing import numerical_diff, numerical_gradient

X = dp.asarray([0.5, -1.0, 2.0])


def test_numerical_diff_is_the_central_difference():
    def f(x):
        return 0.01 * x**2 + 0.1 * x

    for x, h in ((5.0, 1e-4), (10.0, 1e-4), (2.0, 0.5)):
        assert numerical_diff(f, x, h=h) == (f(x + h) - f(x - h)) / (2 * h)
    assert numerical_diff(f, 5.0) == 0.1999999999990898


def test_its_error_falls_with_the_square_of_the_step():
    errors = [abs(numerical_diff(math.exp, 1.0, h=h) - math.e) for h in (1e-1, 1e-2, 1e-3)]
    assert 95 < errors[0] / errors[1] < 105 and 95 < errors[1] / errors[2] < 105


@pytest.mark.parametrize("function", [dp.sin, dp.defn(lambda x: dp.sin(x), backend="reference")])
def test_numerical_diff_of_a_defnpy_function_is_taken_in_float64(function):
    assert abs(numerical_diff(function, 1.0) - math.cos(1.0)) < 1e-8


def test_numerical_diff_needs_a_scalar():
    with pytest.raises(GradientError, match=r"need a scalar function, not one that returns shape \(2,\)"):
        numerical_diff(lambda x: np.ones(2) * x, 1.0)


def test_numerical_gradient_over_containers():
    def f(p, x):
        return dp.sum(p["w"] * x) + p["b"][0] ** 2

    p = {"w": X, "b": [3.0, None], "f": dp.tanh, "s": "text", "flag": True}
    got = numerical_gradient(f, p, X)
    np.testing.assert_allclose(got["w"], [0.5, -1.0, 2.0], rtol=1e-8)
    assert got["w"].dtype == np.float64 and got["w"].shape == (3,)
    np.testing.assert_allclose(got["b"][0], 6.0, rtol=1e-8)
    assert got["b"][1] is None and got["f"] is None and got["s"] is None and got["flag"] is None


def test_numerical_gradient_for_several_arguments():
    def f(a, b):
        return a**2 * b

    first, second = numerical_gradient(f, 3.0, 2.0, argnums=(0, 1))
    np.testing.assert_allclose([first, second], [12.0, 9.0], rtol=1e-8)
    np.testing.assert_allclose(numerical_gradient(f, 3.0, 2.0, argnums=1), 9.0, rtol=1e-8)


def test_numerical_gradient_of_integers_and_indices():
    np.testing.assert_allclose(numerical_gradient(lambda x: dp.sum(x**2), dp.asarray([1, 2])), [2.0, 4.0], rtol=1e-8)
    picked = numerical_gradient(lambda x, i: dp.sum(x[i]), X, np.array([1, 1]))  # an index stays an integer
    np.testing.assert_allclose(picked, [0.0, 2.0, 0.0], atol=1e-8)


def test_numerical_gradient_of_compiled_and_of_numpy_functions():
    wanted = [1.0, -2.0, 4.0]
    for f in (dp.defn(lambda x: dp.sum(x**2), backend="cpu"), lambda x: np.sum(np.asarray(x) ** 2)):
        np.testing.assert_allclose(numerical_gradient(f, X), wanted, rtol=1e-8)


def test_numerical_gradient_leaves_its_arguments_alone():
    x = np.array([1.0, 2.0])
    kept = []
    numerical_gradient(lambda t: kept.append(t) or dp.sum(t * t), x)
    assert x.tolist() == [1.0, 2.0]
    assert len(kept) == 4 and len({tuple(t.tolist()) for t in kept}) == 4  # no tensor changed after the call


def test_numerical_gradient_in_float32_is_poor():
    got = numerical_gradient(lambda x: dp.sum(x**2), dp.asarray([3.0, 4.0]), dtype="float32")
    assert got.dtype == np.float32 and got.tolist() == [5.98907470703125, 8.001327514648438]


def test_numerical_gradient_needs_a_scalar():
    with pytest.raises(GradientError, match=r"need a scalar function, not one that returns shape \(3,\)"):
        numerical_gradient(lambda x: x, X)
