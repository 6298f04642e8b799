"""The step of a difference quotient: a V in float64, noise in float32."""

from __future__ import annotations

import numpy as np

import defnpy as dp
from defnpy.testing import step_sweep


def loss(p):
    return dp.sum(dp.exp(p["x"])) + 0.01 * p["b"] ** 2 + 0.1 * p["b"]


P = {"x": dp.asarray([0.5, 1.0, -0.3]), "b": dp.asarray(5.0)}


def test_the_curve_is_a_v():
    sweep = step_sweep(loss, [P])
    errors = np.array(sweep.errors["['x']"])
    best = int(np.argmin(errors))
    assert sweep.steps[best] == sweep.best["['x']"] and 1e-7 < sweep.steps[best] < 1e-3
    right = errors[: best - 1]
    assert np.all((right[:-1] / right[1:] > 90) & (right[:-1] / right[1:] < 110))  # with the square of the step
    assert errors[-1] > 1e3 * errors[best]  # and rounding over the step
    assert list(sweep.errors) == ["['b']", "['x']"]


def test_float32_is_noise():
    wide, narrow = (step_sweep(loss, [P], dtype=dtype, steps=[1e-4]) for dtype in ("float64", "float32"))
    assert narrow.errors["['x']"][0] > 1e4 * wide.errors["['x']"][0]


def test_a_kink_within_the_step_lifts_the_right_side():
    sweep = step_sweep(lambda x: dp.sum(dp.relu(x)), [dp.asarray([1e-3, 1.0])], steps=[1e-2, 1e-4])
    assert sweep.errors["argument"][0] > 0.1 and sweep.errors["argument"][1] < 1e-9


def test_plain_data_and_text():
    sweep = step_sweep(lambda a, b: dp.sum(a * b), [dp.ones(3), dp.ones(3)], argnums=(0, 1), steps=[1e-2])
    assert sweep.to_dict()["steps"] == [1e-2] and list(sweep.to_dict()["errors"]) == ["arg0", "arg1"]
    assert str(sweep).splitlines()[0] == "relative error of central differences in float64"
