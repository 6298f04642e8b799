"""The comparison of three gradients: it agrees where it should, and tells apart what makes them differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import defnpy as dp
from book_chapters.ch04 import two_layer_net as sigmoid_net
from book_chapters.ch05 import two_layer_net as relu_net
from book_chapters.ch06.batch_norm_gradient_check import gradient_by_hand, written_loss
from book_chapters.common import nets
from book_chapters.common.functions import cross_entropy_with_logits
from book_chapters.common.gradcheck import chosen_places, compare, numerical_grad
from defnpy.errors import GradientError


def data(rows: int, inputs: int, classes: int, seed: int = 0) -> tuple[dp.Tensor, dp.Tensor]:
    rng = np.random.default_rng(seed)
    return dp.asarray(rng.uniform(size=(rows, inputs))), dp.asarray(rng.integers(classes, size=rows))


@given(
    st.lists(st.integers(2, 5), min_size=2, max_size=4),
    st.sampled_from(["relu", "sigmoid", "tanh"]),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 999),
)
@settings(max_examples=15)
def test_numerical_and_automatic_gradients_of_the_books_nets_agree(
    hidden: list[int], activation: str, batch_norm: bool, dropout: float, seed: int
) -> None:
    """Any depth and width; with dropout the key makes the loss a function."""
    sizes = (4, *hidden, 3)
    x, t = data(8, 4, 3, seed)
    key = dp.random.key(seed)
    params = nets.init(key, sizes, "he", dtype="float64", batch_norm=batch_norm)
    state = nets.init_state(params)

    def loss(params: nets.Params, x: dp.Tensor, t: dp.Tensor) -> Any:
        scores, _ = nets.apply(params, state, key, x, train=True, activation=activation, dropout=dropout)
        return cross_entropy_with_logits(scores, t) + 0.01 * nets.squared_weights(params)

    with dp.config(backend="reference"):  # the nets differ in every example: nothing is worth compiling
        check = compare(loss, params, x, t, h=1e-6, samples=4, seed=seed)
    assert all(row.kinks or row.automatic_max < 1e-8 for row in check.rows), f"\n{check}"


@pytest.mark.parametrize("net", [sigmoid_net, relu_net])
def test_the_nets_of_chapters_4_and_5_agree_but_for_the_1e_7(net: Any) -> None:
    x, t = data(3, 20, 10)
    params = net.init(dp.random.key(0), inputs=20, hidden=5, dtype="float64")
    check = compare(net.loss, params, x, t, formula=net.gradient_by_hand)
    assert check.max_automatic < 1e-9 and not check.kinks
    assert 1.2e-7 < check.row("b2").formula_mean < 1.6e-7
    assert "1e-7" in check.meaning(check.row("b2"))
    same = compare(net.loss_of_scores, params, x, t, formula=net.gradient_by_hand)
    assert max(row.formula_max for row in same.rows) < 1e-9, "y - t is the gradient of the loss of scores"


def test_a_wrong_formula_stands_out() -> None:
    x, t = data(3, 20, 10)
    params = sigmoid_net.init(dp.random.key(0), inputs=20, hidden=5, dtype="float64")

    def wrong(params: Any, x: Any, t: Any) -> Any:
        found = sigmoid_net.gradient_by_hand(params, x, t)
        return {**found, "W1": 1.01 * found["W1"]}

    check = compare(sigmoid_net.loss_of_scores, params, x, t, formula=wrong)
    assert check.row("W1").formula_max > 1e-6 > 1e-9 > check.row("W2").formula_max


def test_a_wrong_gradient_is_no_kink() -> None:
    x = {"x": dp.asarray([1.0, 2.0], dtype="float64")}
    for wrong in (0.5, 1e-3, 1e-5):
        check = compare(lambda p, c=wrong: dp.sum(c * p["x"] * dp.stop_grad(p["x"]) + (1 - c) * p["x"] ** 2 / 2), x)
        assert check.max_automatic > 0.4 * wrong and not check.kinks


def test_a_kink_at_the_place_itself_is_one_at_every_step() -> None:
    """As beta of a batch normalisation with one row, or a bias 0 behind units that are all 0."""
    x = {"x": dp.asarray([0.0, 0.5], dtype="float64")}
    for h in (1e-4, 1e-6):
        check = compare(lambda p: dp.sum(3 * dp.relu(p["x"]) + p["x"] ** 2), x, h=h)
        assert check.kinks == 1 and check.max_automatic == pytest.approx(1.5, rel=1e-3)


def test_kinks_are_counted_and_gone_with_a_smaller_step() -> None:
    x = {"x": dp.asarray([-3e-5, 0.5, -0.5], dtype="float64")}

    def loss(p: Any) -> Any:
        return dp.sum(dp.relu(p["x"]))

    check = compare(loss, x)
    assert check.kinks == 1 and check.max_automatic > 0.1 and "1 with a kink" in str(check)
    assert compare(loss, x, h=1e-6).max_automatic < 1e-9


def test_a_check_of_zeros_is_called_degenerate() -> None:
    check = compare(
        lambda p: dp.sum(p["x"]) * 0 + p["y"] ** 2,
        {"x": dp.ones(3, dtype="float64"), "y": dp.asarray(2.0, dtype="float64")},
    )
    assert [row.degenerate for row in check.rows] == [True, False]
    assert "degenerate: every gradient is 0, so" in str(check)


def test_a_bias_that_a_batch_norm_takes_away_is_called_degenerate() -> None:
    """Its gradient is rounding: neither it nor the numerical one says anything of the rule."""
    x, t = data(10, 8, 3)
    params = nets.init(dp.random.key(0), (8, 6, 3), "he", dtype=dp.float64, batch_norm=True)
    check = compare(written_loss, params, x, t, formula=gradient_by_hand)
    assert [row.name for row in check.rows if row.degenerate] == ["b1"]
    assert 0 < check.row("b1").gradient < 1e-15
    assert check.meaning(check.row("b1")).startswith("degenerate: every gradient is 0 up to rounding")


def test_what_is_left_is_explained_at_every_step() -> None:
    """The 1e-7 of the logarithm is seen beside rounding that is a fifth of it."""
    x, t = data(3, 20, 10)
    params = relu_net.init(dp.random.key(0), inputs=20, hidden=5, dtype=dp.float64)
    check = compare(relu_net.loss, params, x, t, formula=relu_net.gradient_by_hand, h=1e-6)
    for row in check.rows:
        named = "leaves out the 1e-7" in check.meaning(row)
        assert named == (row.apart_mean > 3 * row.automatic_mean)
    assert "leaves out the 1e-7" in check.meaning(check.row("b2"))


def test_float32_is_refused_and_shown_when_forced() -> None:
    x, t = data(3, 20, 10)
    params = relu_net.init(dp.random.key(0), inputs=20, hidden=5)
    x = x.astype("float32")
    with pytest.raises(GradientError, match="noise"):
        compare(relu_net.loss, params, x, t)
    check = compare(relu_net.loss, params, x, t, force=True)
    row = check.row("W1")
    assert row.automatic_mean > 0.05 * row.gradient and "float32: rounding alone" in str(check)


def test_integers_are_refused() -> None:
    with pytest.raises(GradientError, match=r"x is int64: a step of 0\.0001 would be rounded away"):
        numerical_grad(lambda p: dp.sum(p["x"] ** 2), {"x": dp.asarray([3, 4])})


def test_places_are_drawn_once_each() -> None:
    params = {"W": dp.ones((30, 30)), "b": dp.ones(3)}
    places = chosen_places(params, 50, seed=1)
    assert len(set(places["W"].tolist())) == 50 and places["b"].tolist() == [0, 1, 2]
    assert len(chosen_places(params)["W"]) == 900
    assert chosen_places(params, 50, seed=1)["W"].tolist() == places["W"].tolist()


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_compiled_and_interpreted_gradients_are_the_same(activation: str) -> None:
    x, t = data(6, 5, 4)
    params = nets.init(dp.random.key(1), (5, 7, 4), "he", dtype="float64")
    gradient = dp.grad(dp.defn(lambda params: nets.loss(params, x, t, 0.1, activation=activation)))
    with dp.config(backend="reference"):
        interpreted = gradient(params)
    for name, compiled in gradient(params).items():
        np.testing.assert_allclose(np.asarray(compiled), np.asarray(interpreted[name]), atol=1e-13)
