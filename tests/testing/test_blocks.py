"""The numerical gradient of compiled functions: blocks of perturbations agree with one call after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError
from defnpy.testing import blocks, numerical, numerical_gradient

RNG = np.random.default_rng(4)
STEP = 1e-4
X, T = RNG.random((20, 30)), RNG.integers(0, 10, 20)
PARAMS = {
    "W1": 0.1 * RNG.standard_normal((30, 12)),
    "b1": 0.1 * RNG.standard_normal(12),
    "act": dp.tanh,
    "W2": 0.1 * RNG.standard_normal((12, 10)),
    "b2": 0.1 * RNG.standard_normal(10),
}


def loss(p: Any, x: Any, t: Any) -> Any:
    z = p["act"](x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    return dp.mean(dp.logsumexp(z, axis=-1) - dp.sum(z * dp.one_hot(t, 10, dtype=z.dtype), axis=-1))


def check(function: Any, *args: Any, argnums: int | tuple[int, ...] = 0, scale: float = 1.0) -> Any:
    """The bound: each value is off by some units in the last place of the largest sum on its way, the difference by
    two such errors, and that is divided by 2 h."""
    fast = numerical_gradient(dp.defn(function), *args, h=STEP, argnums=argnums)
    slow = numerical_gradient(function, *args, h=STEP, argnums=argnums)
    bound = 16 * np.finfo(np.float64).eps * scale / STEP
    pairs = zip(dp.tree.leaves(fast), dp.tree.leaves(slow), strict=True)
    for f, s in pairs:
        assert (f.shape, f.dtype) == (s.shape, s.dtype)
        np.testing.assert_allclose(f, s, rtol=0, atol=bound)
    return fast


@pytest.fixture(autouse=True)
def always_in_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leaves of any size; returns how many elements went through blocks."""
    counted: list[int] = []
    inner = blocks.values_at_elements

    def counting(function: Any, values: Any, number: int, places: Any, elements: Any) -> Any:
        counted.append(len(places))
        return inner(function, values, number, places, elements)

    monkeypatch.setattr(numerical, "WORTH_COMPILING", 0)
    monkeypatch.setattr(numerical, "values_at_elements", counting)
    return counted


def test_a_net_agrees_with_the_loop(always_in_blocks: list[int]) -> None:
    found = check(loss, PARAMS, X, T, scale=float(loss(PARAMS, X, T)))
    assert found["act"] is None
    assert sum(always_in_blocks) == 2 * (30 * 12 + 12 + 12 * 10 + 10)
    automatic = dp.grad(loss)(PARAMS, X, T)
    np.testing.assert_allclose(found["W1"], automatic["W1"], atol=1e-7)


@pytest.mark.parametrize(("memory", "nodes"), [(1, 4000), (300_000, 4000), (2**26, 1)])
def test_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, memory: int, nodes: int) -> None:
    monkeypatch.setattr(blocks, "MEMORY", memory)
    monkeypatch.setattr(blocks, "NODES", nodes)
    params = {**PARAMS, "W1": PARAMS["W1"][:, :3], "b1": PARAMS["b1"][:3], "W2": PARAMS["W2"][:3]}
    check(loss, params, X, T, scale=3.0)


def test_memory_bounds_the_block() -> None:
    program = dp.defn(lambda args, indices, elements: args[0][0] * elements)
    indices, elements = np.zeros((1, 100_000), np.int64), np.zeros(100_000)
    assert blocks._block_size(program, ([dp.asarray(1.0)],), indices, elements) == 100_000
    wide = dp.defn(lambda args, indices, elements: dp.sum(elements[:, None] * dp.ones(10_000), axis=1))
    size = blocks._block_size(wide, (), indices, elements)
    assert 100 < size and size * 10_000 * 4 <= blocks.MEMORY


def test_several_arguments_captured_values_and_integers() -> None:
    shift = dp.asarray(X[0])
    check(lambda a, b: dp.sum(dp.sin(a + shift) * b) + b[0] ** 2, X[1], np.arange(30), argnums=(0, 1), scale=1e3)
    check(lambda s: dp.exp(s) * dp.sum(shift), 0.5, scale=30.0)


def test_where_the_base_is_infinite_elements_are_moved_one_by_one() -> None:
    """1/x at 0: a sum with an infinity in it cannot be corrected."""
    with np.errstate(invalid="ignore"):
        found = numerical_gradient(dp.defn(lambda x: 2 * dp.sum(1 / x)), np.array([1.0, 0.0, -2.0]), h=STEP)
    assert np.isnan(found[0]) and np.isnan(found[2])  # inf - inf, as in the loop
    np.testing.assert_allclose(found[1], 2 / STEP**2, rtol=1e-12)


def test_a_few_elements_are_not_worth_a_program(monkeypatch: pytest.MonkeyPatch, always_in_blocks: list[int]) -> None:
    monkeypatch.setattr(numerical, "WORTH_COMPILING", 64)
    numerical_gradient(dp.defn(lambda x: dp.sum(x**2)), np.ones(63))
    numerical_gradient(dp.defn(lambda x: dp.sum(x**2)), np.ones((8, 8)), dtype="float32")
    numerical_gradient(lambda x: dp.sum(x**2), np.ones((8, 8)))
    assert not always_in_blocks
    numerical_gradient(dp.defn(lambda x: dp.sum(x**2)), np.ones((8, 8)))
    assert always_in_blocks == [128]


def test_a_result_that_is_no_scalar() -> None:
    with pytest.raises(GradientError, match=r"need a scalar function, not one that returns shape \(3,\)"):
        numerical_gradient(dp.defn(lambda x: x * 2), np.ones(3))


def test_a_wrong_correction_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a corrected sum that forgets the base."""
    from defnpy.transforms import perturb

    monkeypatch.setattr(perturb, "_corrected", lambda base, at, change: change)
    with pytest.raises(AssertionError):
        check(lambda x: dp.exp(dp.sum(x)), X[0])


# -- where corrections of sums say nothing -----------------------------------------------------------------------------


def masked_sum(x):
    """The sum of the first row is NaN, and what is masked looks finite."""
    row = dp.sum(x * dp.log(x * x), axis=1)
    return dp.sum(dp.where(dp.isfinite(row), row, 3 * dp.sum(x, axis=1)))


def removable(x):
    row = dp.sum((dp.exp(x) - dp.cos(x)) / x, axis=1)
    return dp.sum(dp.where(dp.isnan(row), 7 * dp.sum(x, axis=1), row))


def huge(x):
    return dp.sum(dp.log(1 + dp.sum(1 / (x * x), axis=1)))


@pytest.mark.parametrize(("function", "corner"), [(masked_sum, 0.0), (removable, 0.0), (huge, 1e-9), (huge, 1e-12)])
def test_a_base_that_says_nothing_is_not_built_upon(function, corner):
    x = np.full((8, 8), 0.5)
    x[0, 0] = corner
    with np.errstate(all="ignore"):
        plain = dp.testing.numerical_gradient(function, x)
        compiled = dp.testing.numerical_gradient(dp.defn(function), x)
    np.testing.assert_allclose(compiled, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: dp.sum(dp.scan(lambda c, r: (dp.tanh(c + r), c[0]), x[0], x)[1]),
        lambda x: dp.sum(dp.cond(x[0, 0] > 0, dp.sin, dp.cos, x)),
        lambda x: dp.sum(dp.linalg.qr(x + 8 * dp.eye(8, dtype=x.dtype))[1]),
        lambda x: dp.sum(dp.while_loop(lambda s: dp.sum(s * s) > 5.0, lambda s: s * 0.5, x)),
    ],
)
def test_ops_of_several_results(function):
    x = np.random.default_rng(0).uniform(0.5, 1.0, (8, 8))
    plain = dp.testing.numerical_gradient(function, x)
    compiled = dp.testing.numerical_gradient(dp.defn(function), x)
    np.testing.assert_allclose(compiled, plain, rtol=1e-7, atol=1e-7)
