"""The elementary functions of compiled kernels: no error above 2 units in the last place, and loops that vectorize.

docs/mathematics.md holds what a larger sample measures, with the same references: ``python -m benchmarks.core.ulps``.
"""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import numpy as np
import pytest

from benchmarks.core.ulps import FLOATS, FUNCTIONS, HAS_WIDE, Function, compiled, measure, optimized, samples, ulps
from defnpy.backends.cpu import mathematics

LIMIT = 2.0
ROWS = [pytest.param(f, dtype, id=f"{f.name}-{dtype}") for f in FUNCTIONS.values() for dtype in FLOATS]


@pytest.mark.parametrize(("function", "dtype"), ROWS)
def test_the_error_is_at_most_two_units_in_the_last_place(function: Function, dtype: str) -> None:
    """Over all exponents and both signs, subnormal numbers, zeros with their signs, infinities and NaN."""
    if dtype == "float64" and not HAS_WIDE:
        pytest.skip("long double is float64 on this machine")
    operands = samples(function, dtype, 5000 if function.name.startswith("erf") else 50_000)
    errors = measure(function, dtype, operands)
    worst = int(errors.argmax())
    assert errors[worst] <= LIMIT, [x[worst] for x in operands]


@pytest.mark.parametrize(("function", "dtype"), ROWS)
def test_the_loop_is_vectorized(function: Function, dtype: str) -> None:
    """Arithmetic on vectors, and no call of the C library."""
    if not llvm.get_host_cpu_features().get("fma", True):
        pytest.skip("without fma as an instruction, each is a call")
    assert mathematics.find(function.name, np.dtype(dtype)) is not None
    text = optimized(function.name, dtype, function.arity)
    assert re.search(r"= f(mul|div) <\d+ x (float|double)>", text)
    assert "store <" in text
    assert not re.search(r"call \w+ @(?!llvm)", text)


def test_the_largest_arguments_of_circular_functions() -> None:
    """The float64 nearest of all to a multiple of pi / 2, and the largest one. Digits by mpmath."""
    x = np.array([6381956970095103 * 2.0**797, np.finfo("float64").max])
    np.testing.assert_array_equal(compiled("cos", "float64")(x), [-4.687165924254628e-19, -0.9999876894265599])
    np.testing.assert_array_equal(compiled("sin", "float64")(x), [1.0, 0.004961954789184062])


@pytest.mark.parametrize("dtype", FLOATS)
def test_whole_results_are_exact(dtype: str) -> None:
    powers = np.arange(-20, 21).astype(dtype)
    np.testing.assert_array_equal(compiled("exp2", dtype)(powers), 2.0 ** powers.astype(float))
    np.testing.assert_array_equal(compiled("log2", dtype)(np.exp2(powers)), powers)
    tens = np.arange(1, 11 if dtype == "float32" else 23)
    np.testing.assert_array_equal(compiled("log10", dtype)(10.0**tens), tens)
    bases, exponents = (g.ravel() for g in np.meshgrid(np.arange(-6.0, 7.0), np.arange(0.0, 6.0)))
    np.testing.assert_array_equal(compiled("pow", dtype, 2)(bases, exponents), bases**exponents)


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers_at_the_ends(dtype: str) -> None:
    """Signs, zeros, infinities and NaN as IEEE 754 has them."""
    ends = np.array([0, 0.5, 1, 1.5, 2, 3, 1e30, np.inf], dtype)
    ends = np.concatenate([ends, -ends, [np.nan]]).astype(dtype)
    x, y = (g.ravel() for g in np.meshgrid(ends, ends))
    with np.errstate(all="ignore"):
        expected = np.power(x.astype("float64"), y.astype("float64")).astype(dtype)
    found = compiled("pow", dtype, 2)(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "float32" else 1e-15)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_next_float_and_the_sign(dtype: str) -> None:
    ends = np.finfo(dtype)
    values = [0.0, ends.smallest_subnormal, ends.tiny, 1.0, 2.0, ends.max, np.inf]
    values = np.array([*values, *[-v for v in values], np.nan], dtype)
    x, y = (g.ravel() for g in np.meshgrid(values, values))
    with np.errstate(over="ignore"):
        expected = np.nextafter(x, y)
    found = compiled("nextafter", dtype, 2)(x, y)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_an_error_is_measured() -> None:
    """One unit off, the wrong sign of zero, and NaN where there is a number."""
    expected = np.array([1.5, 0.0, 2.0, np.nan])
    found = np.array([np.nextafter(np.float32(1.5), np.float32(2)), -0.0, np.nan, np.nan], np.float32)
    np.testing.assert_array_equal(ulps(found, expected), [1, np.inf, np.inf, 0])
