"""Losses, activations and initializers against NumPy, their gradients, and the shapes that losses refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy import nn

RNG = np.random.default_rng(0)
LOGITS = dp.asarray(RNG.normal(size=(5, 4)))
LABELS = dp.asarray([3, 0, 1, 1, 2])
SOFT = dp.softmax(dp.asarray(RNG.normal(size=(5, 4))))
Y, T = dp.asarray(RNG.normal(size=(5, 4))), dp.asarray(RNG.normal(size=(5, 4)))

# -- losses ---------------------------------------------------------------------------------------------------------


def test_cross_entropy_of_labels_rows_and_probabilities() -> None:
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    each = -np.log(p[np.arange(5), np.asarray(LABELS)])
    np.testing.assert_allclose(nn.cross_entropy(LOGITS, LABELS), each.mean(), rtol=1e-12)
    np.testing.assert_allclose(nn.cross_entropy(LOGITS, LABELS, reduce=None), each, rtol=1e-12)
    np.testing.assert_allclose(nn.cross_entropy(LOGITS, dp.one_hot(LABELS, 4)), each.mean(), rtol=1e-12)
    soft = -(np.asarray(SOFT) * np.log(p)).sum(axis=1)
    np.testing.assert_allclose(nn.cross_entropy(LOGITS, SOFT, reduce=dp.sum), soft.sum(), rtol=1e-12)
    np.testing.assert_allclose(nn.cross_entropy(LOGITS[0], LABELS[0]), each[0], rtol=1e-12)


def test_cross_entropy_where_the_book_s_saturates() -> None:
    """-log(y + 1e-7) is 16.1 at most, and its gradient vanishes for a confidently wrong answer."""
    gap = dp.asarray([[0.0, 80.0]])
    value, g = dp.value_and_grad(lambda z: nn.cross_entropy(z, dp.asarray([0])))(gap)
    assert value.item() == 80.0 and g.tolist() == [[-1.0, 1.0]]
    saturated = dp.grad(lambda z: -dp.log(dp.softmax(z)[0, 0] + 1e-7))(gap)
    assert abs(saturated[0, 0].item()) < 1e-20


ONE_NUMBER: list[tuple[Callable[..., Any], Any, Any, Callable[[Any, Any], Any]]] = [
    (nn.mean_squared_error, Y, T, lambda y, t: np.mean((y - t) ** 2)),
    (nn.mean_absolute_error, Y, T, lambda y, t: np.mean(np.abs(y - t))),
    (nn.huber, Y, T, lambda y, t: np.mean(np.where(abs(y - t) <= 1, (y - t) ** 2 / 2, abs(y - t) - 0.5))),
    (
        nn.binary_cross_entropy,
        Y,
        SOFT,
        lambda z, t: -np.mean(t * np.log(1 / (1 + np.exp(-z))) + (1 - t) * np.log(1 / (1 + np.exp(z)))),
    ),
    (nn.kl_divergence, dp.log_softmax(Y), SOFT, lambda lp, q: np.mean(np.sum(q * (np.log(q) - lp), axis=1))),
]


@pytest.mark.parametrize(("loss", "y", "t", "formula"), ONE_NUMBER, ids=[loss.__name__ for loss, *_ in ONE_NUMBER])
def test_losses(loss: Callable[..., Any], y: Any, t: Any, formula: Callable[[Any, Any], Any]) -> None:
    np.testing.assert_allclose(loss(y, t), formula(np.asarray(y), np.asarray(t)), rtol=1e-12)
    np.testing.assert_allclose(dp.defn(lambda y, t: loss(y, t))(y, t), loss(y, t), rtol=1e-12)
    each = loss(y, t, reduce=None)
    np.testing.assert_allclose(loss(y, t), np.mean(each), rtol=1e-12)
    dp.testing.check_grads(lambda y: loss(y, t), [y])


def test_losses_in_the_far_ends() -> None:
    far = dp.asarray([-1e4, 1e4])
    assert nn.binary_cross_entropy(far, dp.asarray([0.0, 1.0])).item() == 0.0
    assert np.isfinite(dp.grad(lambda z: nn.binary_cross_entropy(z, dp.asarray([1.0, 0.0])))(far)).all()
    assert nn.kl_divergence(dp.log_softmax(dp.asarray([0.0, 200.0])), dp.asarray([0.0, 1.0])).item() == 0.0


CLASSES = "integer labels have the shape of the logits without the classes, (5,)"
REFUSED = [
    (nn.cross_entropy, (5, 4), "float32", (5, 1), "int64", CLASSES, "take the axis of size 1 away: labels[..., 0]"),
    (nn.cross_entropy, (5, 4), "float32", (5, 4), "int32", CLASSES,
     "rows with a single 1 are floats here: labels.astype('float32')"),
    (nn.cross_entropy, (5, 4), "float32", (4,), "int32", CLASSES, ""),
    (nn.cross_entropy, (5, 4), "float32", (5,), "float32", "labels that are floats have the shape of the logits", ""),
    (nn.cross_entropy, (5, 4), "float32", (5,), "bool", "labels are integers, or floats in the logits' shape", ""),
    (nn.cross_entropy, (), "float32", (), "int32", "the logits have no axis of classes", ""),
    *[
        (loss, (5, 1), "float32", (5,), "float32", "predictions and targets have equal shapes: none is broadcast",
         "take the axis of size 1 away: y[..., 0]")
        for loss, *_ in ONE_NUMBER
    ],
    (nn.huber, (5, 4), "float32", (4,), "float32", "predictions and targets have equal shapes: none is broadcast", ""),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "y", "y_dtype", "t", "t_dtype", "what", "hint"), REFUSED)
def test_losses_refuse_to_broadcast(
    loss: Any, y: Any, y_dtype: str, t: Any, t_dtype: str, what: str, hint: str
) -> None:
    with pytest.raises(dp.errors.DefnpyError) as caught:
        loss(dp.zeros(y, dtype=y_dtype), dp.zeros(t, dtype=t_dtype))
    assert caught.value.what.endswith(f": {what}") and caught.value.what.startswith(f"{loss.__name__}(f32[")
    assert caught.value.hint == hint and "test_functions.py" in caught.value.where


# -- activations ----------------------------------------------------------------------------------------------------

X = np.array([-30.0, -3.0, -0.5, 0.25, 2.0, 30.0])
ACTIVATIONS: list[tuple[Callable[..., Any], Callable[[Any], Any]]] = [
    (nn.identity, lambda x: x),
    (nn.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    (nn.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    (nn.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))),
    (nn.gelu, lambda x: x * np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])),
    (nn.silu, lambda x: x / (1 + np.exp(-x))),
    (nn.softsign, lambda x: x / (1 + np.abs(x))),
    (nn.log_sigmoid, lambda x: -np.logaddexp(0, -x)),
]


@pytest.mark.parametrize(("f", "formula"), ACTIVATIONS, ids=[f.__name__ for f, _ in ACTIVATIONS])
def test_activations(f: Callable[..., Any], formula: Callable[[Any], Any]) -> None:
    x = dp.asarray(X)
    np.testing.assert_allclose(f(x), formula(X), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dp.defn(lambda x: f(x))(x), formula(X), rtol=1e-12, atol=1e-15)
    dp.testing.check_grads(f, [dp.asarray(X[1:-1])])
    far = dp.grad(lambda x: dp.sum(f(x)))(dp.asarray([-1e5, 1e5]))
    assert np.isfinite(far).all() and np.isnan(f(dp.asarray(np.nan)))
    assert f(dp.asarray([1.0])).dtype == "float32"


# -- initializers ---------------------------------------------------------------------------------------------------

N, M = 400, 100
SPREADS = [
    (nn.normal(0.3), 0.3, None),
    (nn.truncated_normal(0.3), 0.3, 0.3 * 2 / 0.87962566),
    (nn.uniform(0.3), 0.3 / math.sqrt(3), 0.3),
    (nn.glorot_normal, math.sqrt(2 / (N + M)), None),
    (nn.glorot_uniform, math.sqrt(2 / (N + M)), math.sqrt(6 / (N + M))),
    (nn.he_normal, math.sqrt(2 / N), None),
    (nn.he_uniform, math.sqrt(2 / N), math.sqrt(6 / N)),
    (nn.lecun_normal, math.sqrt(1 / N), None),
    (nn.lecun_uniform, math.sqrt(1 / N), math.sqrt(3 / N)),
]


@pytest.mark.parametrize(("initializer", "std", "limit"), SPREADS)
def test_initializers(initializer: Any, std: float, limit: float | None) -> None:
    key = dp.random.key(5)
    for dtype in ("float32", "float64"):
        w = initializer(key, (N, M), dtype)
        assert w.shape == (N, M) and w.dtype == dtype
        assert abs(np.mean(w)) < 4 * std / math.sqrt(N * M) and np.std(w) == pytest.approx(std, rel=0.02)
        assert limit is None or 0.99 * limit < np.abs(w).max() <= limit
    np.testing.assert_array_equal(w, initializer(key, (N, M), "float64"))
    assert (np.asarray(w) != np.asarray(initializer(dp.random.key(6), (N, M), "float64"))).any()


def test_fans_and_constants() -> None:
    assert nn.initializers.fans((8, 3)) == (8, 3) and nn.initializers.fans((6, 4, 3, 2)) == (24, 36)
    assert nn.initializers.fans((7,)) == (7, 7) and nn.initializers.fans(()) == (1, 1)
    kernel = nn.he_normal(dp.random.key(0), (64, 16, 5, 5), "float64")
    assert np.std(kernel) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert nn.zeros(None, (2,), "float32").tolist() == [0, 0] and nn.ones(None, (2,), "int32").tolist() == [1, 1]
    table = nn.constant(np.arange(3.0))(None, (2, 3), "float32")
    assert table.tolist() == [[0, 1, 2]] * 2


def test_initializers_print_as_they_are_written_and_equal_ones_are_equal() -> None:
    layer = nn.Dense(3, 2, weight=nn.normal(0.01), bias=nn.constant(0.5))
    assert repr(layer) == "Dense(3, 2, weight=normal(0.01), bias=constant(0.5))"
    assert repr(nn.Dense(3, 2, dp.tanh, nn.he_normal)) == "Dense(3, 2, tanh, weight=he_normal)"
    same = nn.Dense(3, 2, weight=nn.normal(0.01), bias=nn.constant(0.5))
    assert layer == same and hash(layer) == hash(same)
    assert nn.uniform(0.1) != nn.uniform(0.2) and nn.uniform(0.1) != nn.normal(0.1)
    assert nn.truncated_normal(0.1) == nn.truncated_normal(0.1)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (4, 3, 2, 2), (7, 1, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = np.asarray(nn.orthogonal(1.5)(dp.random.key(2), shape, "float64"))
    assert w.shape == shape
    matrix = w.reshape(shape[0], -1)
    square = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(square, 2.25 * np.eye(len(square)), atol=1e-12)


def test_orthogonal_prefers_no_direction() -> None:
    draw = dp.defn(lambda key: nn.orthogonal()(key, (2, 2), "float64"))
    drawn = np.stack([np.asarray(draw(dp.random.key(seed))) for seed in range(400)])
    assert np.abs(drawn.mean(axis=0)).max() < 0.15  # of entries between -1 and 1; LAPACK's own Q has one sign
