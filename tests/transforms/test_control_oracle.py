"""Loops and branches against JAX: values, gradients and second derivatives of one program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import defnpy as dp

jax = pytest.importorskip("jax", reason="JAX is the oracle of these tests")


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def test_against_jax():
    rng = np.random.default_rng(7)
    w, h, xs = rng.standard_normal((4, 4)) * 0.4, rng.standard_normal(4), rng.standard_normal((6, 4))

    def program(np_, lax):
        def f(w, h, xs):
            def step(carry, x):
                h, n = carry
                h = lax.cond(np_.sum(x) > 0, lambda h: np_.tanh(w @ h + x), lambda h: h * x, h)
                h = lax.fori_loop(0, 3, lambda i, h: h * 0.9 + np_.sin(h * i), h)
                return (h, n + 1), np_.sum(h * h)

            (h, n), ys = lax.scan(step, (h, 0), xs)
            return np_.sum(ys) + np_.sum(h) * n

        return f

    ours, theirs = program(dp, dp), program(jax.numpy, jax.lax)
    np.testing.assert_allclose(ours(w, h, xs), theirs(w, h, xs), rtol=1e-12)
    for a, b in zip(dp.grad(ours, (0, 1, 2))(w, h, xs), jax.grad(theirs, (0, 1, 2))(w, h, xs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    direction = rng.standard_normal(4)
    ours_second = dp.grad(lambda h: dp.sum(dp.grad(ours, 1)(w, h, xs) * direction))(h)
    theirs_second = jax.grad(lambda h: jax.numpy.sum(jax.grad(theirs, 1)(w, h, xs) * direction))(h)
    np.testing.assert_allclose(ours_second, theirs_second, rtol=1e-10)
