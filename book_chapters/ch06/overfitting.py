"""A net too large for its 300 images, trained with and without a remedy: two pages of chapter 6 do this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import defnpy as dp
from book_chapters.ch06.multi_layer_net import CLASSES, PIXELS, correct, start, step
from book_chapters.common.trainer import train
from book_chapters.runner import Run

__all__ = ["Learned", "keep", "learn"]

SIZES = (PIXELS, 100, 100, 100, 100, 100, 100, CLASSES)
IMAGES, BATCH = 300, 100
LR = 0.01


class Learned(NamedTuple):
    """Accuracies on the 300 images and on all test images, one per epoch of three updates; the loss of each update."""

    train: list[float]
    test: list[float]
    losses: list[float]


def learn(run: Run, name: str, epochs: int, *, decay: float = 0.0, dropout: float = 0.0) -> Learned:
    """Train with SGD 0.01 on the first 300 images, from the seed's weights and batches; say both accuracies each epoch.

    Reports the last ones, and their distance, as "NAME train", "NAME test" and "NAME gap".
    """
    run.say(f"--- {name}")
    data = run.mnist(least=IMAGES)
    images = dp.asarray(data.train_images[:IMAGES].reshape(-1, PIXELS))
    labels = dp.asarray(data.train_labels[:IMAGES])
    test_images, test_labels = dp.asarray(data.test_images.reshape(-1, PIXELS)), dp.asarray(data.test_labels)
    weights_key, batch_key = dp.random.split(run.key, 2)
    optimizer = dp.optim.SGD(lr=LR)

    def update(state: Any, iteration: int) -> tuple[Any, dp.Tensor]:
        return step(state, optimizer, decay, batch_key, iteration, images, labels, batch_size=BATCH, dropout=dropout)

    def evaluate(iteration: int, state: Any) -> tuple[float, float]:
        sets = ((images, labels), (test_images, test_labels))
        on_train, on_test = (int(correct(state.params, state.running, x, t, dropout=dropout)) / len(t) for x, t in sets)
        run.say(f"epoch:{iteration // per_epoch}, train acc:{on_train:.4f}, test acc:{on_test:.4f}")
        return on_train, on_test

    per_epoch = IMAGES // BATCH
    iters = (epochs - 1) * per_epoch + 1
    state = start(weights_key, SIZES, "he", optimizer, dtype=run.dtype)
    trained = train(update, state, iters, every=per_epoch, evaluate=evaluate)
    on_train, on_test = zip(*[pair for _, pair in trained.evaluations], strict=True)
    run.figure(f"{name} train", on_train[-1])
    run.figure(f"{name} test", on_test[-1])
    run.figure(f"{name} gap", on_train[-1] - on_test[-1])
    return Learned(list(on_train), list(on_test), trained.losses)


def keep(run: Run, learned: dict[str, Learned]) -> None:
    """Keep the accuracies and losses of several trainings as curves, and their picture."""
    accuracies: dict[str, Sequence[Any]] = {}
    losses: dict[str, Sequence[Any]] = {}
    for name, (on_train, on_test, of_updates) in learned.items():
        accuracies |= {f"{name} train": on_train, f"{name} test": on_test}
        losses[name] = of_updates
    run.curve({"epoch": range(len(on_train)), **accuracies})
    run.curve({"iteration": range(len(of_updates)), **losses}, "loss")
    run.picture(lambda figure: draw(figure, learned))


def draw(figure: Any, learned: dict[str, Learned]) -> None:
    """Accuracy against epochs, a panel for each training."""
    figure.set_size_inches(10, 4)
    for axes, (name, (on_train, on_test, _)) in zip(
        figure.subplots(1, len(learned), sharey=True), learned.items(), strict=True
    ):
        axes.plot(np.arange(len(on_train)), on_train, marker="o", label="train", markevery=10)
        axes.plot(np.arange(len(on_test)), on_test, marker="s", label="test", markevery=10)
        axes.set(title=name, xlabel="epochs", ylabel="accuracy", ylim=(0, 1.0))
        axes.legend(loc="lower right")
