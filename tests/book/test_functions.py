"""Activations and losses of the book: its toy values, the forms of labels, and what the 1e-7 does to the gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import defnpy as dp
from book_chapters.ch03.three_layers import forward, init_network
from book_chapters.ch04.losses import whole_array_softmax
from book_chapters.common import functions
from defnpy.errors import ShapeError

DTYPES = [("float64", 1e-8), ("float32", 1e-6)]
SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 6))


def array(values: object, dtype: str = "float64") -> dp.Tensor:
    return dp.asarray(np.asarray(values, dtype))


@pytest.mark.parametrize(("dtype", "within"), DTYPES)
def test_toy_values_of_the_book(dtype: str, within: float) -> None:
    def close(found: dp.Tensor, expected: object) -> None:
        assert found.dtype == dtype
        np.testing.assert_allclose(np.asarray(found), expected, atol=within, rtol=0)

    close(functions.sigmoid(array([-1, 1, 2], dtype)), [0.2689414214, 0.7310585786, 0.880797078])
    close(functions.softmax(array([0.3, 2.9, 4], dtype)), [0.0182112733, 0.2451918129, 0.7365969138])
    close(functions.softmax(array([1010, 1000, 990], dtype)), [0.99995460, 4.5397869e-05, 2.0610600e-09])
    close(forward(init_network(dtype), array([1.0, 0.5], dtype)), [0.3168270764, 0.6962790899])
    y = array([0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0], dtype)
    close(functions.sum_squared_error(y, functions.one_hot_labels(2, y)), 0.09750000000000003)
    close(functions.cross_entropy_error(y, 2), 0.510825457099338)


def test_step_relu_and_their_slopes() -> None:
    x = array([-2.0, 0.0, 3.0])
    assert functions.step_function(x).tolist() == [0, 0, 1]
    assert functions.relu(x).tolist() == [0.0, 0.0, 3.0]
    assert (
        functions.relu_grad(x).tolist() == dp.grad(lambda x: dp.sum(functions.relu(x)))(x).tolist() == [0.0, 0.0, 1.0]
    )
    slopes = dp.grad(lambda x: dp.sum(functions.sigmoid(x)))(x)
    np.testing.assert_allclose(np.asarray(slopes), np.asarray(functions.sigmoid_grad(x)), rtol=1e-14)


@pytest.mark.parametrize("x", [-1000.0, 1000.0])
def test_a_sigmoid_far_out_has_value_and_slope(x: float) -> None:
    value, slope = dp.value_and_grad(dp.defn(functions.sigmoid))(array(x))
    assert value.item() == float(x > 0) and slope.item() == 0.0


# --- the softmax ----------------------------------------------------------------------------------------------------


@given(SHAPES, st.integers(0, 99), st.floats(-50, 50))
@settings(max_examples=25)
def test_rows_of_a_softmax_sum_to_one_and_do_not_mind_a_shift(shape: tuple[int, int], seed: int, shift: float) -> None:
    x = np.random.default_rng(seed).normal(size=shape) * 5
    y = np.asarray(functions.softmax(array(x)))
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(functions.softmax(array(x + shift))), y, rtol=1e-10, atol=1e-300)


def against_hand(softmax: object, x: dp.Tensor, t: dp.Tensor) -> float:
    automatic = dp.grad(lambda x: functions.cross_entropy_error(softmax(x), t))(x)  # type: ignore[operator]
    y = softmax(x)  # type: ignore[operator]
    return float(np.abs(np.asarray(automatic - (y - functions.one_hot_labels(t, y)) / x.shape[0])).max())


def test_a_softmax_over_the_whole_batch_is_caught_by_its_gradient() -> None:
    x, t = array(np.random.default_rng(0).normal(size=(3, 4))), dp.asarray([0, 3, 1])
    assert against_hand(functions.softmax, x, t) < 1e-5
    assert against_hand(whole_array_softmax, x, t) > 1e-2


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [functions.softmax_loss, functions.cross_entropy_with_logits])
def test_labels_as_integers_and_one_hot_give_one_loss(loss) -> None:  # type: ignore[no-untyped-def]
    x, t = array(np.random.default_rng(0).normal(size=(5, 3))), np.asarray([0, 2, 1, 1, 0])
    expected = -np.mean(np.log(np.asarray(functions.softmax(x)))[np.arange(5), t])
    for labels in (dp.asarray(t), dp.asarray(t.astype(np.uint8)), dp.asarray(np.eye(3)[t])):
        assert loss(x, labels).item() == pytest.approx(expected, abs=1e-6)


def test_three_classes_and_three_rows_are_no_riddle() -> None:
    """The book tells one-hot labels by their size alone."""
    x = array(np.eye(3))
    assert functions.cross_entropy_error(x, dp.asarray([0, 1, 2])).item() == pytest.approx(0, abs=1e-6)
    assert functions.cross_entropy_error(array([[1.0]]), dp.asarray([0])).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (4,), (5, 2), ()])
@pytest.mark.parametrize("loss", [functions.cross_entropy_error, functions.cross_entropy_with_logits])
def test_labels_of_another_form_are_refused(loss, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ShapeError) as error:
        dp.defn(loss)(dp.ones((5, 3)), dp.zeros(shape, dtype=dp.int64))
    assert f"labels of shape {shape}" in error.value.what
    assert error.value.hint == ("pass t.ravel()" if shape == (5, 1) else "pass integers (5,) or one-hot rows (5, 3)")


def test_float_labels_are_no_classes() -> None:
    with pytest.raises(ShapeError, match="float64"):
        functions.cross_entropy_error(dp.ones((5, 3)), array(np.zeros(5)))


# --- the 1e-7 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "left"), [(10.0, 0.9978), (20.0, 0.0202), (32.0, 1.27e-7), (80.0, 1.8e-28)])
def test_the_exact_gradient_of_the_books_loss_vanishes_where_it_is_needed(gap: float, left: float) -> None:
    x, t = array([[0.0, gap]]), dp.asarray([0])
    assert -dp.grad(dp.defn(functions.softmax_loss))(x, t)[0, 0].item() == pytest.approx(left, rel=1e-2)
    assert -dp.grad(dp.defn(functions.cross_entropy_with_logits))(x, t)[0, 0].item() == pytest.approx(1, abs=1e-4)


def test_no_sample_costs_more_than_sixteen() -> None:
    assert functions.softmax_loss(array([[0.0, 1000.0]]), dp.asarray([0])).item() == pytest.approx(16.118, abs=1e-3)
    assert functions.cross_entropy_with_logits(array([[0.0, 1000.0]]), dp.asarray([0])).item() == 1000.0
