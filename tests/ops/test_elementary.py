"""What the table of ops cannot see of the elementary functions: their rules at the points that the docstrings name."""

from __future__ import annotations

import math

import numpy as np
import pytest

import defnpy as dp

BACKENDS = [None, "cpu"]


def slope(function, x: float, backend: str | None) -> float:
    """The derivative at one point in float64, op by op or compiled."""
    gradient = dp.grad(dp.defn(function, backend=backend) if backend else function)
    return float(gradient(dp.asarray(x, dtype="float64")).item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_length_has_no_slope_at_the_origin(backend: str | None) -> None:
    assert slope(lambda x: dp.hypot(x, 0.0 * x), 0.0, backend) == 0
    assert slope(lambda x: dp.hypot(x, 3.0), 4.0, backend) == pytest.approx(0.8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rule_overflows_before_the_slope_does(backend: str | None) -> None:
    assert slope(dp.asinh, 1e200, backend) == pytest.approx(1e-200, rel=1e-14, abs=0)
    assert slope(lambda x: dp.hypot(x, 1e200), 1e200, backend) == pytest.approx(math.sqrt(0.5))
    assert slope(lambda x: dp.atan2(1e200, x), 1e200, backend) == pytest.approx(-5e-201, rel=1e-14, abs=0)
    assert slope(lambda x: dp.logaddexp(x, 1000.0), -1000.0, backend) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_slopes_at_the_ends(backend: str | None) -> None:
    assert slope(dp.asin, 1.0, backend) == math.inf
    assert slope(dp.acos, -1.0, backend) == -math.inf
    assert slope(dp.acosh, 1.0, backend) == math.inf
    assert slope(dp.erf, 0.0, backend) == pytest.approx(2 / math.sqrt(math.pi))
    assert slope(lambda x: dp.copysign(x, -1.0), 2.0, backend) == -1
    assert slope(lambda x: dp.copysign(2.0, x), -1.0, backend) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_angles_of_zeros_and_infinities(backend: str | None) -> None:
    """Which side of the cut a zero lies on, its sign says."""
    y, x = (g.ravel() for g in np.meshgrid([0.0, -0.0, np.inf, -np.inf, 1.0], [0.0, -0.0, np.inf, -np.inf, -1.0]))
    function = dp.defn(dp.atan2, backend=backend) if backend else dp.atan2
    found = np.asarray(function(dp.asarray(y), dp.asarray(x)))
    np.testing.assert_allclose(found, np.arctan2(y, x), rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(np.arctan2(y, x)))


def test_integers_are_taken_as_floats() -> None:
    assert dp.erf(dp.asarray([0, 1])).dtype == dp.float32
    assert dp.signbit(dp.asarray([-1, 0])).tolist() == [True, False]
