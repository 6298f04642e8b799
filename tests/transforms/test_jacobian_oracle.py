"""Jacobians, Hessians and products with them against JAX, values and structure, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp

jax = pytest.importorskip("jax", reason="JAX is the oracle of these tests; it comes with the extra defnpy[bench]")
import jax.numpy as jnp  # noqa: E402


@pytest.fixture(autouse=True)
def in_float64():
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        yield


def net(m: Any, p: Any, x: Any) -> Any:
    h = m.tanh(x @ p["w1"] + p["b1"])
    return {"logits": h @ p["w2"], "norm": m.sum(h * h)}


def loss(m: Any, p: Any, x: Any) -> Any:
    z = net(m, p, x)["logits"]
    z = z - m.max(z, axis=1, keepdims=True)
    return m.mean(m.log(m.sum(m.exp(z), axis=1))) + m.sum(m.abs(p["w1"])) * 0.1 + m.prod(p["b1"])


def example() -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    p = {"w1": rng.standard_normal((3, 4)), "b1": rng.standard_normal(4), "w2": rng.standard_normal((4, 2))}
    return p, rng.standard_normal((5, 3))


def assert_same(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(dp.tree.map(lambda x: 0, ours)) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-10, atol=1e-13)


def on(m: Any, function: Any) -> Any:
    return lambda p, x: function(m, p, x)


@pytest.mark.parametrize("argnums", [0, 1, (1, 0)])
@pytest.mark.parametrize("mode", ["jacfwd", "jacrev"])
def test_jacobians(mode, argnums):
    p, x = example()
    expected = getattr(jax, mode)(on(jnp, net), argnums)(p, x)
    for compiled in (on(dp, net), dp.defn(on(dp, net), backend="cpu")):
        assert_same(getattr(dp, mode)(compiled, argnums)(p, x), expected)
        assert_same(dp.jacobian(compiled, argnums)(p, x), expected)


def test_hessian():
    p, x = example()
    expected = jax.hessian(on(jnp, loss))(p, x)
    for compiled in (on(dp, loss), dp.defn(on(dp, loss), backend="cpu")):
        assert_same(dp.hessian(compiled)(p, x), expected)


def test_third_derivatives():
    p, x = example()
    expected = jax.jacfwd(jax.jacrev(jax.grad(on(jnp, loss), 1), 1), 1)(p, x)
    for order in ((dp.jacfwd, dp.jacrev), (dp.jacrev, dp.jacfwd), (dp.jacrev, dp.jacrev), (dp.jacfwd, dp.jacfwd)):
        assert_same(order[0](order[1](dp.grad(on(dp, loss), 1), 1), 1)(p, x), expected)


def test_products():
    p, x = example()
    rng = np.random.default_rng(4)
    dp_ = {name: rng.standard_normal(value.shape) for name, value in p.items()}
    dx = rng.standard_normal(x.shape)
    expected = jax.jvp(jax.grad(on(jnp, loss), (0, 1)), (p, x), (dp_, dx))[1]
    assert_same(dp.hvp(dp.defn(on(dp, loss)), (p, x), (dp_, dx)), expected)
    theirs, pull = jax.vjp(on(jnp, net), p, x)
    ours, pullback = dp.vjp(dp.defn(on(dp, net)), p, x)
    g = {name: rng.standard_normal(value.shape) for name, value in theirs.items()}
    assert_same(ours, theirs)
    assert_same(pullback(g), pull(g))
