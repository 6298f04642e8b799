"""Kernels that take small angles for granted: right for any, wherever a large one stands and whoever computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.assembly import assemble
from defnpy.backends.cpu.backend import CpuBackend

SMALL = np.random.default_rng(0).uniform(-100, 100, 50_000).astype(np.float32)
CLOSE = {"rtol": 3e-7, "atol": 1e-7}


def kernels(f: Any, *args: Any) -> list[Any]:
    return [step.emitted.kernel for step in CpuBackend().compile(dp.defn(f).compile(*args).graph)._linked.kernels]


def with_large(*places: int) -> np.ndarray[Any, Any]:
    x = SMALL.copy()
    x[list(places)] = np.resize(np.array([1e9, -3e38, np.inf, np.nan], np.float32), len(places))
    return x


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize("places", [(), (0,), (49_999,), (25_000, 25_001), (7, 20_000, 30_000, 49_000)])
@pytest.mark.parametrize("threads", [1, 3])
def test_large_angles_anywhere(name: str, places: tuple[int, ...], threads: int) -> None:
    x = with_large(*places)
    with np.errstate(invalid="ignore"):
        expected = getattr(np, name)(x.astype(np.float64)).astype(np.float32)
    with dp.config(threads=threads, backend="cpu"):
        found = np.asarray(dp.defn(getattr(dp, name))(x))
    np.testing.assert_allclose(found, expected, rtol=1e-6 if name == "tan" else 3e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize("places", [(), (0,), (7, 20_000, 30_000, 49_000)])
def test_large_angles_among_doubles(name: str, places: tuple[int, ...]) -> None:
    x = with_large(*places).astype(np.float64)
    with np.errstate(invalid="ignore"):
        expected = getattr(np, name)(x)
    np.testing.assert_allclose(dp.defn(getattr(dp, name), backend="cpu")(x), expected, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("sign", [1, -1])
def test_doubles_next_to_multiples_of_half_pi(sign: int) -> None:
    """Where the first words of n pi / 2 cancel; on both sides of the bound between the two reductions."""
    n = np.r_[1:3000, 80_000:84_000, 10.0 ** np.arange(6, 20)]
    x = sign * (n * (np.pi / 2))
    x = np.concatenate([np.nextafter(x, 0), x, np.nextafter(x, np.inf), [131072.0, np.nextafter(131072.0, 0)]])
    for name in ("sin", "cos"):
        found = np.asarray(dp.defn(getattr(dp, name), backend="cpu")(x))
        np.testing.assert_allclose(found, getattr(np, name)(x), rtol=4e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loops_over_numbers_that_meet_a_large_angle(dtype: str) -> None:
    """One ends at the first large angle, though its own condition, of a wrong number, might never do so."""

    def found(x: Any) -> Any:
        return dp.while_loop(lambda c: dp.sin(c * x) < 0.99, lambda c: c + 1, x * 0 + 1)

    def summed(x: Any) -> Any:
        return dp.fori_loop(0, 50, lambda i, c: c + dp.cos(x * i), x * 0)

    for x in (0.5, 1e4, 3e5):
        x = dp.asarray(x, dtype=dtype)
        for f in (found, summed):
            a, b = (dp.defn(f, backend=backend)(x) for backend in ("cpu", "reference"))
            np.testing.assert_allclose(a, b, rtol=1e-4 if dtype == "float32" else 1e-12)
    assert any("_whole(" in assemble(kernel, "k") for kernel in kernels(summed, x))


def test_sums_rows_and_several_outputs_begin_anew() -> None:
    x = with_large(3, 40_000)[:48_000].reshape(48, 1000)
    x[np.abs(x) == np.inf] = 5e5
    x[np.isnan(x)] = 1

    def f(x: Any) -> Any:
        y = dp.sin(x)
        return y, dp.sum(y, axis=1), dp.sum(y, axis=0), dp.max(y), dp.exp(y) / dp.sum(dp.exp(y), axis=1, keepdims=True)

    wide = np.sin(x.astype(np.float64))
    expected = wide, wide.sum(1), wide.sum(0), wide.max(), np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    for found, value in zip(dp.defn(f, backend="cpu")(x), expected, strict=True):
        np.testing.assert_allclose(np.asarray(found), value, rtol=1e-5, atol=1e-4)


def test_a_donated_argument_is_not_read_twice() -> None:
    """Its memory is the result's: a second body would read what the first one wrote."""
    step = dp.defn(lambda x: dp.sin(x) + x, donate="x", backend="cpu")
    x = with_large(100)[:1000]
    expected = np.sin(x.astype(np.float64)) + x
    np.testing.assert_allclose(np.asarray(step(dp.asarray(x.copy()))), expected, **CLOSE)


def test_only_what_can_be_done_twice_has_two_bodies() -> None:
    x, i = dp.ones(100), dp.arange(100)
    (twice,) = kernels(dp.sin, x)
    assert twice.repeatable and "_whole(" in assemble(twice, "k")
    (once,) = kernels(lambda x: dp.exp(x), x)
    assert once.repeatable and "_whole(" not in assemble(once, "k")
    (checked,) = kernels(lambda x, i: dp.sin(x[i]), x, i)
    assert not checked.repeatable and "_whole(" not in assemble(checked, "k")
