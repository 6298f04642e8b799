"""The book's layers, forward and backward: the formulas written by hand against automatic gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from book_chapters.common import layers, nets
from book_chapters.common.im2col import col2im, conv_output_size, im2col
from defnpy.errors import ConfigError, ShapeError

RNG = np.random.default_rng(7)


def normal(*shape: int) -> dp.Tensor:
    return dp.asarray(RNG.normal(size=shape))


def batch_norm(x: Any, gamma: Any, beta: Any) -> Any:
    return layers.batch_norm(x, gamma, beta, layers.batch_norm_state(x.shape[1], x.dtype), train=True)[0]


KEY = dp.random.key(3)
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[dp.Tensor, ...]]] = {
    "affine": (layers.affine, layers.affine_backward, (normal(4, 3), normal(3, 5), normal(5))),
    "affine of images": (layers.affine, layers.affine_backward, (normal(4, 2, 3), normal(6, 5), normal(5))),
    "relu": (layers.relu, layers.relu_backward, (normal(4, 3),)),
    "sigmoid": (layers.sigmoid, layers.sigmoid_backward, (normal(4, 3),)),
    "convolution": (
        layers.convolution,
        layers.convolution_backward,
        (normal(2, 3, 7, 6), normal(4, 3, 3, 2), normal(4)),
    ),
    "convolution with stride and padding": (
        partial(layers.convolution, stride=2, pad=1),
        partial(layers.convolution_backward, stride=2, pad=1),
        (normal(2, 1, 5, 7), normal(3, 1, 3, 3), normal(3)),
    ),
    "pooling": (
        partial(layers.pooling, window=2, stride=2),
        partial(layers.pooling_backward, window=2, stride=2),
        (normal(2, 3, 4, 6),),
    ),
    "pooling of windows that overlap": (
        partial(layers.pooling, window=3, stride=1),
        partial(layers.pooling_backward, window=3, stride=1),
        (normal(1, 2, 5, 5),),
    ),
    "batch normalisation": (batch_norm, layers.batch_norm_backward, (normal(6, 4), normal(4), normal(4))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_way_back_by_hand_is_the_automatic_one(name: str) -> None:
    forward, backward, inputs = PAIRS[name]
    y = forward(*inputs)
    g = dp.asarray(RNG.normal(size=y.shape))
    automatic = dp.grad(lambda *x: dp.sum(g * forward(*x)), tuple(range(len(inputs))))(*inputs)
    for by_hand, found in zip(backward(g, y, *inputs), automatic, strict=True):
        np.testing.assert_allclose(np.asarray(by_hand), np.asarray(found), atol=1e-10, rtol=0)


def test_a_wrong_way_back_is_told_apart() -> None:
    forward, backward, inputs = PAIRS["batch normalisation"]
    y = forward(*inputs)
    g = dp.asarray(RNG.normal(size=y.shape))
    automatic = dp.grad(lambda x: dp.sum(g * forward(x, *inputs[1:])))(inputs[0])
    wrong = backward(g + 0.01, y, *inputs)[0] + 0.01
    assert float(dp.max(dp.abs(wrong - automatic))) > 1e-3


def test_softmax_with_loss_leaves_the_1e_7_out() -> None:
    x, t = normal(5, 4), dp.asarray([0, 3, 1, 2, 2])
    by_hand = layers.softmax_with_loss_backward(1.0, layers.softmax_with_loss(x, t), x, t)[0]
    automatic = dp.grad(lambda x: layers.softmax_with_loss(x, t))(x)
    apart = float(dp.max(dp.abs(by_hand - automatic)))
    assert 1e-9 < apart < 1e-5


# --- batch normalisation and dropout --------------------------------------------------------------------------------


def test_batch_norm_centres_and_scales_and_moves_its_statistics() -> None:
    x = 3 + 5 * normal(50, 4)
    state = layers.batch_norm_state(4, "float64")
    y, new = layers.batch_norm(x, dp.ones(4, dtype="float64"), dp.zeros(4, dtype="float64"), state, train=True)
    mean, var = np.asarray(x).mean(axis=0), np.asarray(x).var(axis=0)
    np.testing.assert_allclose(np.asarray(y).mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.asarray(y).var(axis=0), var / (var + layers.BN_EPS), rtol=1e-10)
    np.testing.assert_allclose(np.asarray(new["mean"]), 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(new["var"]), 0.1 * var, rtol=1e-12)
    assert state["mean"].tolist() == [0.0] * 4, "the state that went in is as it was"
    still, same = layers.batch_norm(x, dp.ones(4, dtype="float64"), dp.zeros(4, dtype="float64"), new, train=False)
    assert same is new
    np.testing.assert_allclose(
        np.asarray(still), (np.asarray(x) - 0.1 * mean) / np.sqrt(0.1 * var + layers.BN_EPS), rtol=1e-10
    )


def test_batch_norm_of_a_single_row_is_beta_and_checks_nothing() -> None:
    x, gamma, beta = normal(1, 3), normal(3), normal(3)
    assert batch_norm(x, gamma, beta).tolist() == beta.reshape((1, 3)).tolist()
    gradient = dp.grad(lambda x: dp.sum(batch_norm(x, gamma, beta) ** 2))(x)
    assert gradient.tolist() == [[0.0, 0.0, 0.0]]


def test_batch_norm_of_images_works_on_every_element() -> None:
    x = normal(6, 2, 3, 3)
    state = layers.batch_norm_state(18, "float64")
    y, _ = layers.batch_norm(x, dp.ones(18, dtype="float64"), dp.zeros(18, dtype="float64"), state, train=True)
    assert y.shape == x.shape
    np.testing.assert_allclose(np.asarray(y).mean(axis=0), 0, atol=1e-12)


def test_dropout_keeps_its_share_and_scales_when_it_evaluates() -> None:
    x = dp.ones(10_000, dtype="float64")
    kept = layers.dropout(KEY, x, ratio=0.3, train=True)
    assert set(kept.tolist()) == {0.0, 1.0}
    assert float(dp.mean(kept)) == pytest.approx(0.7, abs=0.02)
    assert layers.dropout(KEY, x, ratio=0.3, train=False)[0].item() == 0.7
    other = layers.dropout(dp.random.key(4), x, ratio=0.3, train=True)
    assert kept.tolist() != other.tolist()


def test_dropout_with_a_key_can_be_differentiated_numerically() -> None:
    x = normal(20)
    forward = partial(layers.dropout, KEY, ratio=0.5, train=True)
    dp.testing.check_grads(lambda x: forward(x) ** 2, [x])
    g = normal(20)
    automatic = dp.grad(lambda x: dp.sum(g * forward(x)))(x)
    _, by_hand = layers.dropout_backward(g, forward(x), KEY, x, ratio=0.5)
    assert automatic.tolist() == by_hand.tolist()


# --- im2col ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
def test_im2col_and_col2im_are_adjoint(stride: int) -> None:
    x = normal(2, 3, 5, 7)
    rows = im2col(x, 3, 3, stride, 1)
    y = normal(*rows.shape)
    there, back = dp.sum(rows * y).item(), dp.sum(x * col2im(y, x.shape, 3, 3, stride, 1)).item()
    assert there == pytest.approx(back, rel=1e-12)
    gradient = dp.grad(lambda x: dp.sum(im2col(x, 3, 3, stride, 1) * y))(x)
    assert gradient.tolist() == col2im(y, x.shape, 3, 3, stride, 1).tolist()


def test_windows_that_do_not_fit_are_refused() -> None:
    assert conv_output_size(28, 5) == 24
    with pytest.raises(ShapeError, match=r"\(7 \+ 2\*0 - 5\) / 3 \+ 1 = 1.66667 places"):
        im2col(dp.ones((1, 1, 7, 7)), 5, 5, stride=3)
    with pytest.raises(ShapeError, match="a window of 5"):
        conv_output_size(3, 5)


# --- nets -----------------------------------------------------------------------------------------------------------


def test_initial_weights_have_the_scale_that_was_asked_for() -> None:
    params = nets.init(dp.random.key(0), (400, 300, 10), "he", batch_norm=True)
    assert sorted(params) == ["W1", "W2", "b1", "b2", "beta1", "gamma1"]
    assert float(dp.std(params["W1"])) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert nets.weight_scale("xavier", 25) == nets.weight_scale("sigmoid", 25) == 0.2
    with pytest.raises(ConfigError, match="unknown scheme of initial weights 'xaver'"):
        nets.weight_scale("xaver", 25)


def test_permuting_a_batch_permutes_its_scores() -> None:
    params = nets.init(dp.random.key(0), (6, 5, 4), "he", dtype="float64")
    x, order = normal(7, 6), np.random.default_rng(0).permutation(7)
    scores = np.asarray(nets.predict(params, x))
    np.testing.assert_allclose(np.asarray(nets.predict(params, x[order])), scores[order], rtol=1e-13)


def test_weight_decay_pulls_at_weights_and_not_at_biases() -> None:
    params = nets.init(dp.random.key(0), (6, 5, 4), "he", dtype="float64")
    x, t = normal(7, 6), dp.asarray([0, 1, 2, 3, 0, 1, 2])
    plain, decayed = (dp.grad(nets.loss)(params, x, t, decay) for decay in (0.0, 0.1))
    for name, value in params.items():
        pull = 0.1 * np.asarray(value) if name.startswith("W") else 0.0
        np.testing.assert_allclose(np.asarray(decayed[name]), np.asarray(plain[name]) + pull, atol=1e-13)
