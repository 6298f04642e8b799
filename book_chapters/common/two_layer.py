"""The training of chapters 4 and 5, which differ in nothing but the net: 10,000 batches of 100, learning rate 0.1."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import defnpy as dp
from book_chapters.runner import Run

from .data import scaled
from .plot import accuracies
from .trainer import accuracy, mean_of_last, train

__all__ = ["train_two_layer_net"]

Params = dict[str, dp.Tensor]
BATCH = 100
RATE = 0.1


def train_two_layer_net(run: Run, net: ModuleType, iters: int, line: Callable[[float, float], str]) -> Params:
    """Train ``net`` (its init, predict, step), say ``line(train accuracy, test accuracy)`` each epoch; the parameters.

    Figures: the accuracies of epoch 1 and of the last evaluation, their gap, and the mean loss of the last 100 batches.
    """
    data = run.mnist()
    init_key, batch_key = dp.random.split(run.key)
    images, labels = dp.asarray(data.train_images), dp.asarray(data.train_labels)
    predict = dp.defn(lambda params, x: net.predict(params, scaled(x, params["W1"].dtype)))

    def one(params: Params, iteration: int) -> tuple[Params, dp.Tensor]:
        return net.step(params, batch_key, iteration, images, labels, RATE, batch_size=BATCH)

    def evaluate(iteration: int, params: Params) -> tuple[float, float]:
        of_train = accuracy(lambda x: predict(params, x), data.train_images, data.train_labels)
        of_test = accuracy(lambda x: predict(params, x), data.test_images, data.test_labels)
        run.say(line(of_train, of_test))
        return of_train, of_test

    every = max(len(labels) // BATCH, 1)
    params = net.init(init_key, dtype=run.dtype)
    trained = train(one, params, iters, every=every, evaluate=evaluate, compiled=True)
    of_train, of_test = zip(*(seen for _, seen in trained.evaluations), strict=True)
    if len(of_test) > 1:
        run.figure("test accuracy of epoch 1", of_test[1])
    run.figure("test accuracy", of_test[-1])
    run.figure("train accuracy", of_train[-1])
    run.figure("gap", abs(of_train[-1] - of_test[-1]))
    run.figure("loss of the last 100", mean_of_last(trained.losses))
    run.figure("evaluations", len(of_test))
    run.curve({"epoch": range(len(of_test)), "train": of_train, "test": of_test})
    run.curve({"iteration": range(iters), "loss": trained.losses}, "loss")
    lines = {"train acc": of_train, "test acc": of_test}

    def draw(figure: Any) -> None:
        accuracies(figure, range(len(of_test)), lines)

    run.picture(draw)
    return trained.state
