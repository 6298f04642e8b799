"""The optimizers: the book's trajectories, NumPy's own formulas, purity, one compilation, donation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy import optim

ALL = [optim.SGD, optim.Momentum, optim.Nesterov, optim.AdaGrad, optim.RMSprop, optim.Adam]

# x²/20 + y² from (-7, 2): where the book's own classes are after 30 updates, in float64.
TRAJECTORIES = [
    (optim.SGD(lr=0.95), -0.3503929958, 0.0847823166),
    (optim.Momentum(lr=0.1), 0.8964138585, 0.0880856017),
    (optim.Nesterov(lr=0.1), 0.6896148997, -0.0006799058),
    (optim.AdaGrad(lr=1.5), -0.1201623223, 2.49e-17),
    (optim.RMSprop(lr=0.3), -5.35e-06, 1.5e-11),
    (optim.Adam(lr=0.3), 0.1360068524, 0.3182453755),
]


def name(value: Any) -> str | None:
    if isinstance(value, type):
        return value.__name__
    return type(value).__name__ if dataclasses.is_dataclass(value) else None


def bowl(p: dict[str, dp.Tensor]) -> dp.Tensor:
    return p["x"] ** 2 / 20 + p["y"] ** 2


def step(optimizer: Any, params: Any, state: Any) -> Any:
    return optimizer.update(params, dp.grad(bowl)(params), state)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("optimizer", "x", "y"), TRAJECTORIES, ids=name)
def test_the_trajectories_of_the_book(optimizer: Any, x: float, y: float, compiled: bool) -> None:
    advance: Callable[..., Any] = dp.defn(step, donate=("params", "state")) if compiled else step
    params = {"x": dp.asarray(-7.0, dtype="float64"), "y": dp.asarray(2.0, dtype="float64")}
    state = optimizer.init(params)
    for _ in range(30):
        params, state = advance(optimizer, params, state)
    np.testing.assert_allclose([params["x"], params["y"]], [x, y], rtol=0, atol=1e-8)
    assert params["x"].dtype == "float64"
    if compiled:
        assert advance.cache_info().misses == 1  # type: ignore[attr-defined]


def in_numpy(optimizer: Any, p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """The book's update rules, in place and in order, as its ``optimizer.py`` spells them."""
    kind, lr = type(optimizer).__name__, optimizer.lr
    p, v, m = p.copy(), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        if kind == "SGD":
            p -= lr * g
        elif kind == "Momentum":
            v = optimizer.momentum * v - lr * g
            p += v
        elif kind == "Nesterov":
            p += optimizer.momentum * optimizer.momentum * v
            p -= (1 + optimizer.momentum) * lr * g
            v *= optimizer.momentum
            v -= lr * g
        elif kind == "AdaGrad":
            v += g * g
            p -= lr * g / (np.sqrt(v) + 1e-7)
        elif kind == "RMSprop":
            v *= optimizer.decay
            v += (1 - optimizer.decay) * g * g
            p -= lr * g / (np.sqrt(v) + 1e-7)
        else:
            rate = lr * np.sqrt(1 - optimizer.beta2**t) / (1 - optimizer.beta1**t)
            m += (1 - optimizer.beta1) * (g - m)
            v += (1 - optimizer.beta2) * (g * g - v)
            p -= rate * m / (np.sqrt(v) + 1e-7)
    return p


OTHERS = [
    optim.SGD(lr=0.02),
    optim.Momentum(lr=0.02, momentum=0.7),
    optim.Nesterov(lr=0.02, momentum=0.7),
    optim.AdaGrad(lr=0.02),
    optim.RMSprop(lr=0.02, decay=0.9),
    optim.Adam(lr=0.02, beta1=0.8, beta2=0.95),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-5)])
@pytest.mark.parametrize("optimizer", OTHERS, ids=name)
def test_the_same_numbers_as_numpy(optimizer: Any, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 2)), [rng.normal(size=(3, 2)) for _ in range(12)]
    update = dp.defn(lambda optimizer, p, g, state: optimizer.update(p, g, state))
    params = [dp.asarray(start, dtype=dtype)]
    state = optimizer.init(params)
    for g in gradients:
        params, state = update(optimizer, params, [dp.asarray(g, dtype=dtype)], state)
    assert params[0].dtype == dtype
    np.testing.assert_allclose(params[0], in_numpy(optimizer, start, gradients), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ALL, ids=name)
def test_purity_and_one_compilation_for_all_rates(kind: Any) -> None:
    params, grads = {"w": dp.asarray([1.0, 2.0]), "b": dp.asarray(0.5)}, {"w": dp.asarray([0.3, -0.1]), "b": 1.0}
    optimizer = kind()
    state = optimizer.init(params)
    before = [np.array(leaf) for leaf in dp.tree.leaves((params, state))]
    update = dp.defn(lambda optimizer, p, g, state: optimizer.update(p, g, state))
    first = [update(dataclasses.replace(optimizer, lr=lr), params, grads, state) for lr in (0.1, 0.2, 0.1)]
    for leaf, old in zip(dp.tree.leaves((params, state)), before, strict=True):
        np.testing.assert_array_equal(leaf, old)
    for one, again in zip(dp.tree.leaves(first[0]), dp.tree.leaves(first[2]), strict=True):
        np.testing.assert_array_equal(one, again)
    moved = [abs(p["b"].item() - 0.5) for p, _ in first]
    assert moved[1] == pytest.approx(2 * moved[0], rel=1e-5)
    assert update.cache_info().misses == 1
    assert not dp.tree.difference(first[0], (params, state))


@pytest.mark.parametrize("kind", ALL, ids=name)
def test_the_rate_never_widens(kind: Any) -> None:
    p, g = dp.asarray([1.0]), dp.asarray([0.5])
    for lr in (0.5, np.float64(0.5), dp.asarray(0.5, dtype="float64"), dp.asarray(1)):
        optimizer = kind(lr=lr)
        new, state = optimizer.update(p, g, optimizer.init(p))
        assert new.dtype == "float32"
        assert {leaf.dtype.name for leaf in dp.tree.leaves(state)} <= {"float32", "int64"}


@pytest.mark.parametrize("kind", ALL, ids=name)
def test_what_has_no_gradient_is_carried_along(kind: Any) -> None:
    params = {"w": dp.asarray([1.0]), "activation": dp.tanh, "name": "first", "frozen": True}

    def loss(p: dict[str, Any]) -> dp.Tensor:
        return dp.sum(p["activation"](p["w"]))

    optimizer = kind(lr=0.1)
    new, state = optimizer.update(params, dp.grad(loss)(params), optimizer.init(params))
    assert new["activation"] is dp.tanh and new["name"] == "first" and new["frozen"] is True
    assert new["w"].item() < 1.0
    assert not dp.tree.difference(state, optimizer.init(params))


@pytest.mark.parametrize("kind", ALL, ids=name)
def test_integers_are_refused(kind: Any) -> None:
    with pytest.raises(dp.errors.DTypeError) as caught:
        kind().init({"w": dp.ones(2), "n": [dp.asarray(3)]})
    assert caught.value.what == "params['n'][0] is i64[]: an optimizer moves floats"
    assert 'kind().init({"w": dp.ones(2), "n": [dp.asarray(3)]})' in caught.value.where


def test_adam_keeps_its_count_in_a_tensor_and_its_precision_in_float32() -> None:
    """With beta2 in float32, 1 - beta2 is off by 1.3e-5, and so would the first steps be."""
    optimizer = optim.Adam(lr=1.0)
    p, state = optimizer.update(dp.asarray(0.0), dp.asarray(1e3), optimizer.init(dp.asarray(0.0)))
    assert state["count"].dtype == "int64" and state["count"].item() == 1
    assert p.item() == pytest.approx(-1.0, rel=3e-7)


def test_gradients_of_another_form_are_refused() -> None:
    optimizer = optim.SGD()
    params = {"w": dp.ones(2)}
    with pytest.raises(dp.errors.TreeError, match=r"container 2 differs from the first"):
        optimizer.update(params, {"v": dp.ones(2)}, optimizer.init(params))


@pytest.mark.parametrize("kind", ALL, ids=name)
def test_many_rates_at_once(kind: Any) -> None:
    """The rate is a leaf like any other, so a search over rates is a vmap over the optimizer."""
    rates, p, g = np.array([0.1, 0.2, 0.4], np.float32), dp.asarray([1.0, -2.0]), dp.asarray([0.3, 0.1])

    def update(optimizer: Any) -> Any:
        return optimizer.update(p, g, optimizer.init(p))[0]

    together = dp.vmap(update)(kind(lr=dp.asarray(rates)))
    for lr, found in zip(rates.tolist(), together, strict=True):
        np.testing.assert_allclose(found, update(kind(lr=lr)), rtol=1e-6)
