"""Chapter 6: the optimizers' paths, the training step, batch normalisation and dropout as pure functions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from book_chapters.ch06 import batch_norm_test, optimizer_compare_naive
from book_chapters.ch06.losses import smooth_curve
from book_chapters.ch06.multi_layer_net import State, correct, loss, start, step
from book_chapters.common import layers, nets

RNG = np.random.default_rng(0)
SIZES = (784, 8, 6, 10)
IMAGES = dp.asarray(RNG.integers(0, 256, (40, 784), dtype=np.uint8))
LABELS = dp.asarray(RNG.integers(0, 10, 40, dtype=np.uint8))
OPTIMIZERS = optimizer_compare_naive.OPTIMIZERS


def textbook_path(name: str, lr: float) -> tuple[float, float]:
    """30 updates on x^2/20 + y^2 in plain Python, from the formulas in the book."""
    end = []
    for start_at, slope in ((-7.0, 0.1), (2.0, 2.0)):
        p, v, h, m, s = start_at, 0.0, 0.0, 0.0, 0.0
        for t in range(1, 31):
            g = slope * p
            if name == "SGD":
                p -= lr * g
            elif name == "Momentum":
                v = 0.9 * v - lr * g
                p += v
            elif name == "Nesterov":
                p += 0.9 * 0.9 * v - 1.9 * lr * g
                v = 0.9 * v - lr * g
            elif name == "AdaGrad":
                h += g * g
                p -= lr * g / (np.sqrt(h) + 1e-7)
            elif name == "RMSprop":
                h = 0.99 * h + (1 - 0.99) * g * g
                p -= lr * g / (np.sqrt(h) + 1e-7)
            else:
                m += (1 - 0.9) * (g - m)
                s += (1 - 0.999) * (g * g - s)
                p -= lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(s) + 1e-7)
        end.append(p)
    return end[0], end[1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_paths_are_the_textbook_ones(name: str) -> None:
    points = optimizer_compare_naive.path(OPTIMIZERS[name])
    np.testing.assert_allclose(points[-1], textbook_path(name, OPTIMIZERS[name].lr), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(points[-1], optimizer_compare_naive.ENDS[name], atol=1e-8)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_changes_nothing_it_is_given(name: str) -> None:
    optimizer = OPTIMIZERS[name]
    params, grads = {"W": dp.asarray([1.0, 2.0])}, {"W": dp.asarray([0.5, -0.5])}
    state = optimizer.init(params)
    before = [np.array(x) for x in dp.tree.leaves((params, grads, state))]
    first, second = optimizer.update(params, grads, state), optimizer.update(params, grads, state)
    for a, b in zip(before, dp.tree.leaves((params, grads, state)), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(dp.tree.leaves(first), dp.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0]["W"], params["W"])


def test_one_program_for_all_rates_decays_and_widths() -> None:
    before = step.cache_info().misses
    for lr, decay, width in ((0.1, 0.0, 0.1), (0.01, 0.1, "he"), (0.5, 1e-5, "xavier")):
        optimizer = dp.optim.SGD(lr=lr)
        state = start(dp.random.key(0), SIZES, width, optimizer)
        for i in range(2):
            state, _ = step(state, optimizer, decay, dp.random.key(1), i, IMAGES, LABELS, batch_size=20)
    assert step.cache_info().misses == before + 1


def test_the_loss_after_the_update_is_lower() -> None:
    def losses(after: bool) -> list[float]:
        optimizer = dp.optim.SGD(lr=0.5)
        state, found = start(dp.random.key(0), SIZES, "he", optimizer), []
        for i in range(5):
            state, value = step(state, optimizer, 0.0, dp.random.key(1), i, IMAGES, LABELS, batch_size=20, after=after)
            found.append(float(value))
        return found

    assert all(after < before for before, after in zip(losses(False), losses(True), strict=True))


def test_weight_decay_takes_from_the_weights_alone() -> None:
    params = nets.init(dp.random.key(0), SIZES, "he", dtype="float64", batch_norm=True)
    x, t = dp.asarray(RNG.standard_normal((20, 784))), LABELS[:20]

    def objective(params: Any, decay: float) -> Any:
        return loss(params, nets.init_state(params), None, x, t, decay, activation="relu", dropout=0.0)[0]

    without, with_decay = (dp.grad(partial(objective, decay=decay))(params) for decay in (0.0, 0.3))
    for name, value in params.items():
        taken = 0.3 * np.asarray(value) if name.startswith("W") else 0.0
        np.testing.assert_allclose(np.asarray(with_decay[name]) - without[name], taken, atol=1e-12)


def test_running_statistics_follow_the_batches() -> None:
    x = RNG.standard_normal((50, 3)) * [1.0, 5.0, 0.1] + [0.0, 7.0, -2.0]
    state = layers.batch_norm_state(3, "float64")
    for _ in range(2):
        y, state = layers.batch_norm(dp.asarray(x), dp.ones(3), dp.zeros(3), state, train=True)
    np.testing.assert_allclose(np.mean(y, axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(np.var(y, axis=0), x.var(axis=0) / (x.var(axis=0) + 1e-6), rtol=1e-6)
    # From 0, by a tenth of the way each time.
    np.testing.assert_allclose(state["mean"], 0.19 * x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(state["var"], 0.19 * x.var(axis=0), rtol=1e-12)
    y, after = layers.batch_norm(dp.asarray(x), dp.ones(3), dp.zeros(3), state, train=False)
    np.testing.assert_allclose(y, (x - state["mean"]) / np.sqrt(np.asarray(state["var"]) + 1e-6))
    assert after is state


def test_a_row_alone_normalises_to_nothing() -> None:
    y, _ = layers.batch_norm(dp.ones((1, 4)) * 7.0, dp.ones(4), dp.zeros(4), layers.batch_norm_state(4), train=True)
    np.testing.assert_array_equal(y, np.zeros((1, 4)))


def test_the_same_key_drops_the_same_units() -> None:
    params = nets.init(dp.random.key(0), SIZES, "he")
    x = dp.ones((5, 784))
    run = partial(nets.apply, params, {}, x=x, train=True, dropout=0.5)
    first, again, other = (run(key=dp.random.key(k))[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_loss_with_dropout_has_a_numerical_gradient() -> None:
    params = nets.init(dp.random.key(3), (6, 5, 4, 3), 0.5, dtype="float64")
    x, t = dp.asarray(RNG.standard_normal((4, 6))), dp.asarray([0, 2, 1, 1])

    def objective(params: Any) -> Any:
        return loss(params, {}, dp.random.key(5), x, t, 0.01, activation="tanh", dropout=0.4)[0]

    report = dp.testing.gradient_report(objective, (params,))
    assert report.ok and report.max_absolute < 1e-8


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_numerical_equals_automatic(activation: str, batch_norm: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(3, 7, size=rng.integers(3, 6)))
    params = nets.init(dp.random.key(seed), sizes, 0.7, dtype="float64", batch_norm=batch_norm)
    x = dp.asarray(rng.standard_normal((8, sizes[0])))
    t = dp.asarray(rng.integers(0, sizes[-1], 8))

    @dp.defn
    def objective(params: Any) -> Any:
        running = nets.init_state(params)
        return loss(params, running, None, x, t, 0.1, activation=activation, dropout=0.0)[0]

    report = dp.testing.gradient_report(objective, (params,), samples=12)
    assert report.ok and report.max_absolute < 1e-8, str(report)


def test_evaluation_uses_the_running_statistics() -> None:
    optimizer = dp.optim.SGD(lr=0.1)
    state = start(dp.random.key(0), SIZES, "he", optimizer, batch_norm=True)
    for i in range(3):
        state, _ = step(state, optimizer, 0.0, dp.random.key(1), i, IMAGES, LABELS, batch_size=20)
    state = State(*state)
    one_by_one = [int(correct(state.params, state.running, IMAGES[i : i + 1], LABELS[i : i + 1])) for i in range(10)]
    assert sum(one_by_one) == int(correct(state.params, state.running, IMAGES[:10], LABELS[:10]))


def test_a_training_that_overflows_is_seen() -> None:
    optimizer = dp.optim.SGD(lr=batch_norm_test.LR)
    state = start(dp.random.key(0), batch_norm_test.SIZES, 1.0, optimizer)
    images = dp.asarray(RNG.integers(0, 256, (100, 784), dtype=np.uint8))
    labels = dp.asarray(RNG.integers(0, 10, 100, dtype=np.uint8))
    accuracies, last = batch_norm_test.training(state, dp.random.key(1), images, labels, 5)
    assert len(accuracies) == 5 and not np.isfinite(last)


def test_smoothing_keeps_length_and_lines() -> None:
    np.testing.assert_allclose(smooth_curve([2.0] * 12), [2.0] * 12)
    np.testing.assert_allclose(smooth_curve(list(range(30)))[5:-5], np.arange(5, 25))
