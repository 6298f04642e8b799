"""vmap against JAX's, with its in_axes and out_axes, over values, gradients and nested batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import defnpy as dp

jax = pytest.importorskip("jax", reason="JAX is the oracle of these tests")
jnp = jax.numpy

RNG = np.random.default_rng(11)
A, B, C = RNG.standard_normal((4, 3, 5)), RNG.standard_normal((5, 3)), RNG.standard_normal((3, 4))
T = RNG.integers(0, 5, 4)
IMAGES, KERNELS = RNG.standard_normal((3, 2, 2, 6, 5)), RNG.standard_normal((3, 4, 2, 3, 3))


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def network(np_: Any) -> Callable[..., Any]:
    def loss(w: Any, v: Any, x: Any, t: Any) -> Any:
        z = np_.tanh(x @ w) @ v
        return np_.log(np_.sum(np_.exp(z))) - z[t]

    return loss


def convolution(np_: Any) -> Callable[..., Any]:
    if np_ is dp:
        return lambda x, w: dp.conv(x, w, strides=2, padding=1)
    return lambda x, w: jax.lax.conv_general_dilated(x, w, (2, 2), [(1, 1), (1, 1)])


# name: the function of a namespace, its operands, in_axes, out_axes
CASES: dict[str, tuple[Callable[[Any], Callable[..., Any]], list[Any], Any, Any]] = {
    "matrix products": (lambda np_: lambda a, b: a @ b, [A, B], (0, None), 0),
    "of a shared left": (lambda np_: lambda b, a: b @ a, [B, A], (None, 0), 1),
    "along other axes": (lambda np_: lambda a, c: np_.sin(a) * c[:, None], [A, C], (0, 1), 2),
    "reductions": (lambda np_: lambda a: (np_.max(a, axis=0), np_.argmax(a), np_.prod(a, axis=-1)), [A], -1, (1, 0, 0)),
    "indexing": (lambda np_: lambda a, i: a[:, i], [A, T], 0, 0),
    "updates": (lambda np_: lambda a, i: a.at[:, i].add(2.0), [A, T], (None, 0), 0),
    "sorting": (lambda np_: lambda a: (np_.sort(a, axis=0), np_.argsort(a, axis=-1)), [A], 0, 0),
    "shapes": (lambda np_: lambda a: np_.stack([a.T.reshape(3, 5), a[::-1]]), [A], 0, 1),
    "normalization": (lambda np_: lambda a: (a - np_.mean(a, axis=1, keepdims=True)) / np_.std(a), [A], 1, 1),
    "convolution of images": (convolution, [IMAGES, KERNELS[0]], (0, None), 0),
    "convolution with kernels": (convolution, [IMAGES[0], KERNELS], (None, 0), 1),
    "convolution of both": (convolution, [IMAGES, KERNELS], 0, 2),
    "a network": (network, [B.T, B, C.T, T], (None, None, 0, 0), 0),
}


def check(ours: Any, theirs: Any, *operands: Any) -> None:
    found, expected = ours(*map(dp.asarray, operands)), theirs(*map(jnp.asarray, operands))
    flat, other = dp.tree.leaves(found), jax.tree_util.tree_leaves(expected)
    for f, e in zip(flat, other, strict=True):
        assert np.shape(f) == np.shape(e)
        np.testing.assert_allclose(np.asarray(f), np.asarray(e), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    make, operands, in_axes, out_axes = CASES[name]
    theirs = jax.vmap(make(jnp), in_axes, out_axes)
    check(dp.vmap(make(dp), in_axes, out_axes), theirs, *operands)
    check(dp.vmap(dp.defn(make(dp)), in_axes, out_axes), theirs, *operands)


def test_gradients_of_every_example() -> None:
    ours, theirs = dp.grad(network(dp), (0, 1)), jax.grad(network(jnp), (0, 1))
    operands = [B.T, B, C.T, T]
    check(dp.vmap(ours, (None, None, 0, 0)), jax.vmap(theirs, (None, None, 0, 0)), *operands)
    compiled = dp.vmap(dp.grad(dp.defn(network(dp)), (0, 1)), (None, None, 0, 0), out_axes=(0, -1))
    check(compiled, jax.vmap(theirs, (None, None, 0, 0), out_axes=(0, -1)), *operands)


def test_the_gradient_of_a_nested_batch() -> None:
    def total(np_: Any, vmap: Any) -> Callable[..., Any]:
        inner = vmap(network(np_), (None, None, 0, None))
        return lambda w, v, x, t: np_.sum(vmap(inner, (None, None, None, 0))(w, v, x, t) ** 2)

    ours, theirs = total(dp, dp.vmap), total(jnp, jax.vmap)
    check(dp.grad(ours, (0, 1, 2)), jax.grad(theirs, (0, 1, 2)), B.T, B, C.T, T)
    check(dp.grad(dp.defn(ours), (0, 1, 2)), jax.grad(theirs, (0, 1, 2)), B.T, B, C.T, T)


def test_a_hessian_row_by_row() -> None:
    def hessian(np_: Any, vmap: Any, grad: Any) -> Callable[..., Any]:
        def f(x: Any) -> Any:
            return np_.sum(np_.tanh(x @ np_.asarray(B.T)) ** 3)

        return lambda x: vmap(lambda d: grad(lambda y: np_.sum(grad(f)(y) * d))(x))(np_.eye(3, dtype="float64"))

    check(hessian(dp, dp.vmap, dp.grad), hessian(jnp, jax.vmap, jax.grad), C[:, 0])
