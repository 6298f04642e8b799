"""Chapters 7 and 8: convolutional nets against NumPy, against their hand-written gradient and against differences."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from book_chapters.ch03 import train_weights
from book_chapters.ch06 import overfit_dropout, overfit_weight_decay, weight_init_activation_histogram
from book_chapters.ch07 import load_params, simple_convnet, train_convnet, visualize_filter
from book_chapters.ch07.drawn_card import SIDE, drawn_card
from book_chapters.ch08 import deep_convnet, half_float_network, misclassified_mnist, train_deepnet
from book_chapters.common.data import book_weights, load_npz
from book_chapters.common.trainer import accuracy
from book_chapters.runner import Run, study
from defnpy.data import mnist
from defnpy.errors import DataError, ShapeError

Array = Any


def numpy_scores(params: dict[str, Array], x: Array) -> Array:
    """The net by loops over windows and nothing else."""
    p = {name: np.asarray(value) for name, value in params.items()}
    seen = np.lib.stride_tricks.sliding_window_view(np.asarray(x), p["W1"].shape[2:], axis=(2, 3))
    h = np.maximum(np.einsum("ncyxij,fcij->nfyx", seen, p["W1"]) + p["b1"][:, None, None], 0)
    n, f, height, width = h.shape
    h = h.reshape(n, f, height // 2, 2, width // 2, 2).max(axis=(3, 5)).reshape(n, -1)
    return np.maximum(h @ p["W2"] + p["b2"], 0) @ p["W3"] + p["b3"]


def random_net(seed: int, std: float = 0.5) -> tuple[dict[str, dp.Tensor], dp.Tensor, dp.Tensor]:
    """Parameters of a small net, a batch of images and their labels, float64."""
    rng = np.random.default_rng(seed)
    channels, filters, hidden, classes = (int(n) for n in rng.integers(1, 4, 4))
    classes, window = classes + 1, int(rng.integers(2, 4))
    height, width = (int(n) * 2 + window - 1 for n in rng.integers(1, 4, 2))
    params = simple_convnet.init(
        dp.random.key(seed), image=(channels, height, width), filters=filters, window=window, hidden=hidden + 2,
        classes=classes, std=std, dtype="float64",
    )  # fmt: skip
    params = {name: value + 0.1 * rng.standard_normal(value.shape) for name, value in params.items()}
    return (
        params,
        dp.asarray(rng.standard_normal((3, channels, height, width))),
        dp.asarray(rng.integers(0, classes, 3)),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_net_is_the_one_in_numpy(seed: int, backend: str) -> None:
    params, x, _ = random_net(seed)
    with dp.config(backend=backend):
        np.testing.assert_allclose(dp.defn(simple_convnet.predict)(params, x), numpy_scores(params, x), rtol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_hand_written_gradient_is_the_automatic_one(seed: int) -> None:
    given = random_net(seed)
    automatic, by_hand = dp.grad(simple_convnet.loss)(*given), simple_convnet.gradient(*given)
    for name, value in by_hand.items():
        np.testing.assert_allclose(value, automatic[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_numerical_equals_automatic(seed: int) -> None:
    params, x, t = random_net(seed)
    report = dp.testing.gradient_report(dp.defn(partial(simple_convnet.written_loss, x=x, t=t)), (params,), samples=20)
    assert report.ok and report.max_absolute < 1e-8, str(report)


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="a window of 2 with stride 2 does not fit a size of 23"):
        simple_convnet.init(dp.random.key(0), image=(1, 27, 27))


def test_labels_in_a_column_are_refused() -> None:
    params, x, t = random_net(0)
    with pytest.raises(ShapeError, match=r"labels of shape \(3, 1\)"):
        simple_convnet.written_loss(params, x, t[:, None])


def test_one_step_lowers_the_loss_of_its_batch() -> None:
    rng = np.random.default_rng(0)
    images = dp.asarray(rng.integers(0, 256, (20, 28, 28), dtype=np.uint8))
    labels = dp.asarray(rng.integers(0, 10, 20, dtype=np.uint8))
    optimizer = dp.optim.Adam(lr=0.01)
    state = simple_convnet.start(dp.random.key(0), optimizer, filters=2, hidden=5)
    losses = []
    for i in range(20):
        state, value = simple_convnet.step(state, optimizer, dp.random.key(1), i, images, labels, batch_size=20)
        losses.append(float(value))
    assert losses[-1] < losses[0] and abs(losses[0] - np.log(10)) < 0.01


def test_the_deep_net() -> None:
    params = deep_convnet.init(dp.random.key(0))
    assert sum(value.size for value in params.values()) == 123_552
    assert np.std(params["W2"]) == pytest.approx(np.sqrt(2 / 144), rel=0.05)
    images = dp.asarray(np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8))
    x = simple_convnet.as_images(images, "float32")
    run = dp.defn(partial(deep_convnet.predict, train=True))
    first, again, other = (np.asarray(run(params, dp.random.key(k), x)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with dp.config(backend="reference"):
        np.testing.assert_allclose(run(params, dp.random.key(1), x), first, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            deep_convnet.predict(params, None, x, train=False), deep_convnet.scores(params, images)
        )


def test_the_deep_nets_weights_tell_how_they_were_made_and_reach_what_is_recorded() -> None:
    command = str(load_npz(deep_convnet.OURS)["command"])
    assert command == "python -m book_chapters.ch08.train_deepnet --seed 0 --iters 3000"
    data = mnist.load()
    with dp.config(backend="cpu"):
        found = accuracy(
            partial(deep_convnet.scores, deep_convnet.load()), data.test_images[:500], data.test_labels[:500], rows=250
        )
    assert found == pytest.approx(0.988)


def test_the_twenty_first_mistakes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run("page")
    with dp.config(backend="cpu"):
        misclassified_mnist.main(run, images=1000)
    assert run.figures["wrong"] == run.figures["listed"] == 12 and run.figures["test accuracy"] == pytest.approx(0.988)
    assert "{1: (3, 5), 2: (9, 8), 3: (6, 0)," in capsys.readouterr().out


def test_half_precision_rounds_every_layer() -> None:
    params, data = deep_convnet.load(), mnist.load()
    images = dp.asarray(data.test_images[:20])
    with dp.config(backend="cpu"):
        exact, rounded = (
            np.asarray(f(params, images)) for f in (deep_convnet.scores, half_float_network.scores_in_half)
        )
        unrounded = dp.asarray(simple_convnet.as_images(images, "float32"))
        for number in range(1, deep_convnet.LAYERS + 1):
            unrounded = deep_convnet.layer(params, unrounded, number=number)
            unrounded = unrounded * 0.5 if number > 6 else unrounded
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    assert 1e-4 < np.abs(rounded - exact).max() < 0.05
    np.testing.assert_allclose(unrounded, exact, atol=1e-4)  # the same net, but for the rounding


def test_the_deep_net_learns() -> None:
    data, optimizer = mnist.load(), dp.optim.Adam(lr=0.001)
    images, labels = dp.asarray(data.train_images[:10]), dp.asarray(data.train_labels[:10])
    params = deep_convnet.init(dp.random.key(0))
    state, losses = train_deepnet.State(params, optimizer.init(params)), []
    with dp.config(backend="cpu"):
        for i in range(16):
            state, value = train_deepnet.step(state, optimizer, dp.random.key(1), i, images, labels)
            losses.append(float(value))
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.3, losses


def test_neighbours_of_noise_and_of_a_slope() -> None:
    rng = np.random.default_rng(0)
    noise, slope = rng.standard_normal((200, 5, 5)), np.broadcast_to(np.arange(5.0), (3, 5, 5))
    assert abs(visualize_filter.neighbours(dp.asarray(noise)).item()) < 0.05
    assert visualize_filter.neighbours(dp.asarray(slope)).item() > 0.7


def test_the_card_is_drawn_the_same_every_time() -> None:
    card = np.asarray(drawn_card())
    assert card.shape == (SIDE, SIDE) and card.min() >= 0 and card.max() <= 1 and len(np.unique(card)) > 1000
    np.testing.assert_array_equal(card, drawn_card())


def test_weights_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_params.load(tmp_path / "params.npz", "float32")
    (tmp_path / "params.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match="cannot be read"):
        load_params.load(tmp_path / "params.npz", "float32")


@pytest.mark.parametrize("name, expected", [("ch07_params.npz", 0.9600), ("ch07_params_2016.npz", 0.9890)])
def test_the_books_weights_give_the_books_accuracy(name: str, expected: float) -> None:
    path = book_weights(name)
    if path is None:
        pytest.skip(f"{name}, the book's weights, is not beside the clone")
    params, data = load_params.load(path, "float32"), mnist.load()
    with dp.config(backend="cpu"):
        found = accuracy(partial(simple_convnet.scores, params), data.test_images, data.test_labels, rows=500)
    assert found == pytest.approx(expected, abs=1e-4)


def test_our_own_weights_reach_what_is_recorded() -> None:
    params, data = load_params.load(load_params.OURS, "float32"), mnist.load()
    images, labels = data.test_images[:1030], data.test_labels[:1030]
    with dp.config(backend="cpu"):
        assert accuracy(partial(simple_convnet.scores, params), images, labels, rows=500) > 0.97


@pytest.mark.parametrize(
    "page, words, message",
    [
        (overfit_dropout, ["--ratio", "1.5"], "--ratio 1.5: a share is from 0 to 1"),
        (overfit_weight_decay, ["--decay", "-1"], "--decay -1: expected a number from 0"),
        (weight_init_activation_histogram, ["--std", "5"], "'5' is none of 1, 0.01, xavier, he"),
        (train_convnet, ["--save", "no/such/folder.npz"], "--save no/such/folder.npz: there is no such folder"),
        (train_deepnet, ["--save", "."], "--save .: a folder"),
        (train_weights, ["--save", "no/such/folder.npz"], "--save no/such/folder.npz: there is no such folder"),
    ],
)
def test_options_without_sense_are_told_before_any_work(
    page: Any, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        study(page.main, words)
    assert ended.value.code == 2 and message in capsys.readouterr().err
