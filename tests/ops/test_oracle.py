"""JAX as an outside oracle: the same functions, values and gradients, for random cotangents, in float64 and float32.

The table-driven tests hold defnpy against itself; these hold it against other people's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.ops.gather import gather, scatter_add, scatter_set
from defnpy.ops.linear import slice_

jax = pytest.importorskip("jax", reason="JAX is the oracle of these tests; it comes with the extra defnpy[bench]")
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """float64 in JAX, for the length of a test."""
    if hasattr(jax, "enable_x64"):
        with jax.enable_x64(True):
            yield
    else:  # JAX before 0.8
        with jax.experimental.enable_x64():
            yield


@dataclass
class Pair:
    """One function in both libraries. draw: how its operands are made; integers among them are not differentiated."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    draw: Callable[[np.random.Generator], list[np.ndarray]]

    def __repr__(self) -> str:
        return self.name


def reals(*shapes: tuple[int, ...], low: float = -3.0, high: float = 3.0) -> Callable[..., list[np.ndarray]]:
    return lambda rng: [rng.uniform(low, high, shape) for shape in shapes]


M, V = (3, 4), (4,)
ROW = np.array([2, 0, -1, 2])
LABELS = np.eye(4)[[2, 0, 3]]
TABLE = np.array([[0, 2], [2, 1]])

ELEMENTWISE = [
    Pair("add", dp.add, jnp.add, reals(M, V)),
    Pair("subtract", dp.subtract, jnp.subtract, reals(M, (3, 1))),
    Pair("multiply", dp.multiply, jnp.multiply, reals(M, ())),
    Pair("divide", dp.divide, jnp.divide, reals(M, V, low=0.5)),
    Pair("floor_divide", dp.floor_divide, jnp.floor_divide, reals(M, V)),
    Pair("remainder", dp.remainder, jnp.remainder, reals(M, M)),
    Pair("pow", dp.pow, jnp.power, reals(M, V, low=0.2)),
    Pair("pow of negatives", lambda x: dp.pow(x, 3), lambda x: jnp.power(x, 3), reals(M)),
    Pair("negative", dp.negative, jnp.negative, reals(M)),
    Pair("abs", dp.abs, jnp.abs, reals(M)),
    Pair("sign", dp.sign, jnp.sign, reals(M)),
    Pair("exp", dp.exp, jnp.exp, reals(M)),
    Pair("expm1", dp.expm1, jnp.expm1, reals(M)),
    Pair("log", dp.log, jnp.log, reals(M, low=0.1)),
    Pair("log1p", dp.log1p, jnp.log1p, reals(M, low=-0.9)),
    Pair("sqrt", dp.sqrt, jnp.sqrt, reals(M, low=0.1)),
    Pair("sin", dp.sin, jnp.sin, reals(M)),
    Pair("cos", dp.cos, jnp.cos, reals(M)),
    Pair("tanh", dp.tanh, jnp.tanh, reals(M)),
    Pair("sigmoid", dp.sigmoid, jax.nn.sigmoid, reals(M, low=-20, high=20)),
    Pair("relu", dp.relu, jax.nn.relu, reals(M)),
    Pair("softplus", dp.softplus, jax.nn.softplus, reals(M, low=-20, high=20)),
    Pair("maximum", dp.maximum, jnp.maximum, reals(M, V)),
    Pair("minimum", dp.minimum, jnp.minimum, reals(M, V)),
    Pair("maximum of equals", lambda x: dp.maximum(x, x * 1), lambda x: jnp.maximum(x, x * 1), reals(M)),
    Pair("clip", lambda x: dp.clip(x, -1.0, 2.0), lambda x: jnp.clip(x, -1.0, 2.0), reals(M)),
    Pair("where", lambda x, y: dp.where(x > y, x * 2, y), lambda x, y: jnp.where(x > y, x * 2, y), reals(M, V)),
    Pair("floor", dp.floor, jnp.floor, reals(M)),
    Pair("ceil", dp.ceil, jnp.ceil, reals(M)),
    Pair("trunc", dp.trunc, jnp.trunc, reals(M)),
    Pair("round", dp.round, jnp.round, reals(M)),
    Pair("erfinv", dp.erfinv, lax.erf_inv, reals(M, low=-0.95, high=0.95)),
    Pair("stop_grad", lambda x: x * dp.stop_grad(x), lambda x: x * lax.stop_gradient(x), reals(M)),
]


def reductions() -> Iterator[Pair]:
    for name in ("sum", "mean", "max", "min", "prod", "var", "std"):
        for axis, keep in ((None, False), (0, False), (-1, True), ((0, 2), False)):

            def ours(x: Any, name: str = name, axis: Any = axis, keep: bool = keep) -> Any:
                return getattr(dp, name)(x, axis=axis, keepdims=keep)

            def theirs(x: Any, name: str = name, axis: Any = axis, keep: bool = keep) -> Any:
                return getattr(jnp, name)(x, axis=axis, keepdims=keep)

            yield Pair(f"{name} over {axis}", ours, theirs, reals((2, 3, 4)))


REDUCTIONS = [
    *reductions(),
    Pair("max of ties", lambda x: dp.max(dp.round(x) * 0 + x[0], axis=1), lambda x: jnp.max(jnp.round(x) * 0 + x[0], 1),
         lambda rng: [np.broadcast_to(rng.integers(0, 2, 4), (3, 4)).astype(float)]),
    Pair("prod with zeros", lambda x: dp.prod(x, axis=1), lambda x: jnp.prod(x, axis=1),
         lambda rng: [rng.standard_normal((3, 4)) * (np.arange(12).reshape(3, 4) > 4)]),
    Pair("argmax", lambda x: x + dp.argmax(x, axis=1)[:, None], lambda x: x + jnp.argmax(x, axis=1)[:, None], reals(M)),
    Pair("argmin", lambda x: x + dp.argmin(x), lambda x: x + jnp.argmin(x), reals(M)),
]  # fmt: skip


def products() -> Iterator[Pair]:
    layouts = [
        ("matrix product", (3, 4), (4, 5), ((1,), (0,)), ((), ())),
        ("left transposed", (4, 3), (4, 5), ((0,), (0,)), ((), ())),
        ("right transposed", (3, 4), (5, 4), ((1,), (1,)), ((), ())),
        ("vectors", (4,), (4,), ((0,), (0,)), ((), ())),
        ("outer", (2,), (3,), ((), ()), ((), ())),
        ("batched", (2, 3, 4), (2, 4, 5), ((2,), (1,)), ((0,), (0,))),
        ("batch in the middle", (3, 2, 4), (4, 5, 2), ((2,), (0,)), ((1,), (2,))),
        ("two axes", (2, 3, 4), (4, 5, 3), ((1, 2), (2, 0)), ((), ())),
        ("two batch axes", (2, 3, 4, 5), (3, 2, 5), ((3,), (2,)), ((0, 1), (1, 0))),
        ("nothing to sum", (2, 0), (0, 3), ((1,), (0,)), ((), ())),
    ]
    for name, left, right, contract, batch in layouts:

        def ours(x: Any, y: Any, contract: Any = contract, batch: Any = batch) -> Any:
            return dp.dot_general(x, y, contract=contract, batch=batch)

        def theirs(x: Any, y: Any, contract: Any = contract, batch: Any = batch) -> Any:
            return lax.dot_general(x, y, (contract, batch))

        yield Pair(f"dot_general: {name}", ours, theirs, reals(left, right))


PRODUCTS = [
    *products(),
    Pair("matmul of stacks", dp.matmul, jnp.matmul, reals((2, 1, 3, 4), (5, 4, 2))),
    Pair("matmul by a vector", dp.matmul, jnp.matmul, reals((2, 3, 4), (4,))),
    Pair("tensordot", lambda x, y: dp.tensordot(x, y, axes=([0, 2], [2, 1])),
         lambda x, y: jnp.tensordot(x, y, axes=([0, 2], [2, 1])), reals((2, 3, 4), (5, 4, 2))),
    Pair("vecdot", dp.vecdot, jnp.vecdot, reals((3, 4), (2, 3, 4))),
    Pair("dot", dp.dot, jnp.dot, reals((2, 3, 4), (5, 4, 2))),
    Pair("outer", dp.outer, jnp.outer, reals((3,), (4,))),
]  # fmt: skip

MOVEMENT = [
    Pair("reshape", lambda x: dp.reshape(x, (2, 6)), lambda x: jnp.reshape(x, (2, 6)), reals(M)),
    Pair("permute_dims", lambda x: dp.permute_dims(x, (2, 0, 1)), lambda x: jnp.transpose(x, (2, 0, 1)),
         reals((2, 3, 4))),
    Pair("broadcast_to", lambda x: dp.broadcast_to(x, (2, 3, 4)), lambda x: jnp.broadcast_to(x, (2, 3, 4)),
         reals((3, 1))),
    Pair("flip", lambda x: dp.flip(x, axis=1), lambda x: jnp.flip(x, axis=1), reals(M)),
    Pair("concat", lambda x, y: dp.concat([x, y, x], axis=1), lambda x, y: jnp.concatenate([x, y, x], axis=1),
         reals((2, 3), (2, 1))),
    Pair("stack", lambda x, y: dp.stack([x, y], axis=1), lambda x, y: jnp.stack([x, y], axis=1), reals(M, M)),
    Pair("pad", lambda x: dp.pad(x, low=(1, 0), high=(0, 2), interior=(1, 2), value=0.5),
         lambda x: lax.pad(x, jnp.asarray(0.5, x.dtype), [(1, 0, 1), (0, 2, 2)]), reals(M)),
    Pair("slice", lambda x: slice_(x, starts=(0, 1), stops=(3, 4), steps=(2, 2)),
         lambda x: lax.slice(x, (0, 1), (3, 4), (2, 2)), reals(M)),
    Pair("index", lambda x: x[1:, ::-2], lambda x: x[1:, ::-2], reals(M)),
    Pair("roll", lambda x: dp.roll(x, 2, axis=1), lambda x: jnp.roll(x, 2, axis=1), reals(M)),
    Pair("astype", lambda x: dp.astype(x, "int32") * x, lambda x: x.astype("int32") * x, reals(M)),
]  # fmt: skip

INDEXING = [
    Pair("gather one axis", lambda x: gather(x, ROW, axes=(0,)), lambda x: x[ROW], reals(M)),
    Pair("gather the last axis", lambda x: gather(x, TABLE, axes=(1,)), lambda x: jnp.moveaxis(x[:, TABLE], 0, -1),
         reals(M)),
    Pair("gather two axes", lambda x: gather(x, TABLE, TABLE, axes=(0, 1)), lambda x: x[TABLE, TABLE],
         reals((3, 4, 2))),
    Pair("take", lambda x: dp.take(x, ROW, axis=0), lambda x: jnp.take(x, ROW, axis=0), reals(M)),
    Pair("take_along_axis", lambda x: dp.take_along_axis(x, np.array([[0], [3], [1]]), axis=1),
         lambda x: jnp.take_along_axis(x, np.array([[0], [3], [1]]), axis=1), reals(M)),
    Pair("scatter_add with duplicates", lambda x, u: scatter_add(x, u, ROW, axes=(0,)), lambda x, u: x.at[ROW].add(u),
         reals(M, (4, 4))),
    Pair("scatter_add to two axes", lambda x, u: scatter_add(x, u, TABLE, TABLE, axes=(0, 1)),
         lambda x, u: x.at[TABLE, TABLE].add(u), reals((3, 4, 2), (2, 2, 2))),
    Pair("scatter_set", lambda x, u: scatter_set(x, u, ROW[:2], axes=(0,)), lambda x, u: x.at[ROW[:2]].set(u),
         reals(M, (2, 4))),
    Pair("at set", lambda x, u: x.at[1:, 2].set(u), lambda x, u: x.at[1:, 2].set(u), reals(M, (2,))),
    Pair("at add", lambda x, u: x.at[:, ROW].add(u), lambda x, u: x.at[:, ROW].add(u), reals(M, (4,))),
]  # fmt: skip

SOFTMAX = [
    Pair("softmax", lambda x: dp.softmax(x, axis=-1), lambda x: jax.nn.softmax(x, axis=-1), reals(M)),
    Pair("softmax over axis 0", lambda x: dp.softmax(x, axis=0), lambda x: jax.nn.softmax(x, axis=0), reals(M)),
    Pair("log_softmax", lambda x: dp.log_softmax(x), lambda x: jax.nn.log_softmax(x), reals(M)),
    Pair("log_softmax far apart", dp.log_softmax, jax.nn.log_softmax, reals(M, low=-1e3, high=1e3)),
    Pair("logsumexp", lambda x: dp.logsumexp(x, axis=1), lambda x: jax.nn.logsumexp(x, axis=1), reals(M)),
    Pair("logsumexp of all", dp.logsumexp, jax.nn.logsumexp, reals((2, 3, 4), low=-500, high=500)),
    Pair("cross-entropy", lambda z: -dp.mean(dp.sum(dp.log_softmax(z) * dp.asarray(LABELS, dtype=z.dtype), axis=-1)),
         lambda z: -jnp.mean(jnp.sum(jax.nn.log_softmax(z) * jnp.asarray(LABELS, z.dtype), axis=-1)), reals(M)),
    Pair("layer norm", lambda x: (x - dp.mean(x, axis=-1, keepdims=True)) / dp.std(x, axis=-1, keepdims=True),
         lambda x: (x - jnp.mean(x, axis=-1, keepdims=True)) / jnp.std(x, axis=-1, keepdims=True), reals(M)),
]  # fmt: skip

PAIRS = [*ELEMENTWISE, *REDUCTIONS, *PRODUCTS, *MOVEMENT, *INDEXING, *SOFTMAX]
CLOSE = {"float64": {"rtol": 1e-11, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 2e-4}}


def check(pair: Pair, dtype: str, backend: str) -> None:
    """Value and gradient of one function in both libraries."""
    rng = np.random.default_rng(7)
    arrays = [np.asarray(x, dtype) for x in pair.draw(rng)]
    expected, pull_back = jax.vjp(pair.theirs, *map(jnp.asarray, arrays))
    cotangent = np.asarray(rng.standard_normal(expected.shape), expected.dtype)

    def projected(c: Any, *xs: Any) -> Any:
        y = pair.ours(*xs)
        return dp.sum(y * c), y

    numbers = tuple(range(1, len(arrays) + 1))
    function = dp.grad(dp.defn(projected, backend=backend), numbers, has_aux=True)
    gradients, value = function(*map(dp.asarray, [cotangent, *arrays]))
    assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(value, expected, **CLOSE[dtype])
    for x, ours, theirs in zip(arrays, gradients, pull_back(jnp.asarray(cotangent)), strict=True):
        assert (ours.shape, ours.dtype) == (x.shape, x.dtype)
        np.testing.assert_allclose(ours, theirs, **CLOSE[dtype])


@pytest.mark.parametrize("pair", PAIRS, ids=repr)
def test_values_and_gradients_are_jaxs(pair: Pair) -> None:
    check(pair, "float64", "cpu")


@pytest.mark.parametrize("pair", PAIRS[::4], ids=repr)
def test_values_and_gradients_are_jaxs_in_float32(pair: Pair) -> None:
    check(pair, "float32", "reference")


def test_a_difference_is_noticed() -> None:
    """The gradient of the hyperbolic tangent with a constant where its slope should be."""
    wrong = Pair("wrong", lambda x: dp.tanh(dp.stop_grad(x)) + x * 0, jnp.tanh, reals(M))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(wrong, "float64", "reference")


@pytest.mark.parametrize(
    ("ours", "theirs", "points"),
    [
        (dp.tanh, jnp.tanh, [-2.0, 0.1, 3.0]),
        (dp.sigmoid, jax.nn.sigmoid, [-30.0, 0.5, 30.0]),
        (dp.erfinv, lax.erf_inv, [-0.9, 0.1, 0.99]),
        (dp.softplus, jax.nn.softplus, [-5.0, 0.3, 5.0]),
        (lambda x: dp.logsumexp(dp.stack([x, 2 * x, x * x])), lambda x: jax.nn.logsumexp(jnp.stack([x, 2 * x, x * x])),
         [-1.0, 0.2, 2.0]),
        (lambda x: dp.prod(dp.stack([x, x - 0.5, x * x])), lambda x: jnp.prod(jnp.stack([x, x - 0.5, x * x])),
         [0.0, 0.5, 2.0]),
    ],
    ids=["tanh", "sigmoid", "erfinv", "softplus", "logsumexp", "prod"],
)  # fmt: skip
def test_third_derivatives_are_jaxs(ours: Callable[..., Any], theirs: Callable[..., Any], points: list[float]) -> None:
    third = dp.grad(dp.grad(dp.grad(dp.defn(lambda x: ours(x), backend="reference"))))
    expected = jax.grad(jax.grad(jax.grad(theirs)))
    for x in points:
        found = third(dp.asarray(x, dtype="float64"))
        np.testing.assert_allclose(found, expected(jnp.asarray(x, "float64")), rtol=1e-9, atol=1e-12)
