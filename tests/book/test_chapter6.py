"""Chapter 6: the optimizers' paths, the training step, batch normalisation and dropout as pure functions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import defnpy as dp
from book_chapters.ch06 import batch_norm_gradient_check, batch_norm_test, optimizer_compare_naive
from book_chapters.ch06.losses import smooth_curve
from book_chapters.ch06.multi_layer_net import State, correct, loss, start, step
from book_chapters.common import nets

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


def test_the_same_key_drops_the_same_units() -> None:
    params = nets.init(dp.random.key(0), SIZES, "he")
    x = dp.ones((5, 784))
    run = partial(nets.apply, params, {}, x=x, train=True, dropout=0.5)
    first, again, other = (run(key=dp.random.key(k))[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_backward_pass_by_hand_is_that_of_the_loss_but_for_the_epsilon() -> None:
    params = nets.init(dp.random.key(0), (12, 6, 5, 4), "he", dtype="float64", batch_norm=True)
    x, t = dp.asarray(RNG.standard_normal((9, 12))), dp.asarray(RNG.integers(0, 4, 9))
    by_hand = batch_norm_gradient_check.gradient_by_hand(params, x, t)
    running = nets.init_state(params)
    exact = dp.grad(lambda p: loss(p, running, None, x, t, 0.0, activation="relu", dropout=0.0)[0])
    written = dp.grad(batch_norm_gradient_check.written_loss)(params, x, t)
    assert by_hand.keys() == params.keys()
    for name, value in exact(params).items():
        np.testing.assert_allclose(by_hand[name], value, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(by_hand[name], written[name], atol=1e-5, err_msg=name)
    assert not np.allclose(by_hand["b3"], written["b3"], rtol=0, atol=1e-9)


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
