"""One loop written in five ways (plainly, with checkpoints, with rules of its own), and every derivative of each."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp


def step(c, x):
    c = dp.tanh(c * x + dp.where(x > 0, dp.sqrt(x), 0))
    return c, c * c


def over_rows(step):
    def total(c, xs):
        c, ys = dp.scan(step, c, xs)
        return dp.sum(c) + dp.sum(ys)

    return total


def inner(c, x):
    return dp.tanh(c * x + dp.where(x > 0, dp.sqrt(x), 0))


def slope(x):
    return dp.where(x > 0, 0.5 / dp.sqrt(x), 0)


def with_cell(cell):
    def ruled(c, x):
        c = cell(c, x)
        return c, c * c

    return over_rows(ruled)


PLAIN = over_rows(step)
WRITTEN = {
    "a checkpoint in the loop": over_rows(dp.checkpoint(step)),
    "a checkpoint around it": dp.checkpoint(PLAIN, policy="dots"),
    "a rule backwards": with_cell(
        dp.custom_vjp(lambda g, y, c, x: (g * (1 - y * y) * x, g * (1 - y * y) * (c + slope(x))))(inner)
    ),
    "a rule forwards": with_cell(
        dp.custom_jvp(lambda t, y, c, x: (1 - y * y) * (t[0] * x + t[1] * (c + slope(x))))(inner)
    ),
}
C = dp.asarray([0.3, -0.2], dtype="float64")
XS = dp.asarray(np.array([[0.5, 0.0], [1.5, -1.0], [0.2, 2.0]]))  # with zeros and worse in the dead branch
DERIVATIVES = {
    "grad": lambda f: dp.grad(f, 1)(C, XS),
    "jvp": lambda f: dp.jvp(f, (C, XS), (C, XS))[1],
    "vjp": lambda f: dp.vjp(f, C, XS)[1](1.0)[1],
    "linearize": lambda f: dp.linearize(f, C, XS)[1](C, XS),
    "hvp": lambda f: dp.hvp(f, (C, XS), (C, XS))[1],
    "hessian": lambda f: dp.hessian(f, 1)(C, XS),
    "grad of the hessian": lambda f: dp.grad(lambda c: dp.sum(dp.hessian(f)(c, XS)))(C),
    "grads of a batch": lambda f: dp.vmap(dp.grad(f), (0, None))(dp.stack([C, 2 * C]), XS),
    "hessian of a batch": lambda f: dp.hessian(lambda c: dp.sum(dp.vmap(f, (0, None))(dp.stack([c, 2 * c]), XS)))(C),
}


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("written", WRITTEN)
def test_all_ways_to_write_it_agree(written, derivative):
    take = DERIVATIVES[derivative]
    expected = np.asarray(take(PLAIN))
    assert np.isfinite(expected).all() and expected.any()
    np.testing.assert_allclose(take(WRITTEN[written]), expected, rtol=1e-10, atol=1e-12)
    if derivative in ("grad", "hvp"):
        np.testing.assert_allclose(take(dp.defn(WRITTEN[written], backend="cpu")), expected, rtol=1e-10, atol=1e-12)


def test_derivatives_through_a_loop_without_a_bound():
    def loop(x):
        return dp.while_loop(lambda s: s[1] < 5, lambda s: (dp.sin(s[0]) * x + s[0], s[1] + 1), (x, 0))[0]

    first, second = [], []
    for f in (loop, dp.checkpoint(loop)):
        for way in (lambda f: f, lambda f: dp.defn(f, backend="cpu")):
            x = dp.asarray(0.7, dtype="float64")
            first += [dp.grad(way(f))(x), dp.jvp(way(f), (x,), (1.0,))[1], dp.jacfwd(way(f))(x)]
            second += [dp.grad(dp.grad(way(f)))(x), dp.hessian(way(f))(x), dp.hvp(way(f), (x,), (1.0,))[0]]
    h = 1e-5
    values = [loop(dp.asarray(0.7 + d, dtype="float64")).item() for d in (-h, 0.0, h)]
    np.testing.assert_allclose([d.item() for d in first], (values[2] - values[0]) / (2 * h), rtol=1e-7)
    np.testing.assert_allclose([d.item() for d in second], second[0].item(), rtol=1e-12)
    np.testing.assert_allclose(second[0].item(), (values[2] - 2 * values[1] + values[0]) / h**2, rtol=1e-4)
