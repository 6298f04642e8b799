"""Several trainings on the same batches, their losses in one table and one picture: two pages of chapter 6 do this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.ch06.multi_layer_net import PIXELS, correct, start, step
from book_chapters.common.trainer import mean_of_last, train
from book_chapters.runner import Run

__all__ = ["compare", "draw", "smooth_curve"]

BATCH = 128
SHOWN_EVERY = 100


def smooth_curve(values: Sequence[float]) -> np.ndarray:
    """The weighted mean of eleven neighbours (a Kaiser window, beta 2), the ends mirrored; as many as there were.

    >>> bool(np.allclose(smooth_curve([3.0] * 20), 3.0))
    True
    """
    window = np.kaiser(11, 2)
    return np.convolve(np.pad(np.asarray(values), 5, mode="reflect"), window / window.sum(), mode="valid")


def compare(
    run: Run, variants: Mapping[str, tuple[float | str, Any]], sizes: Sequence[int], iters: int
) -> dict[str, float]:
    """Train one net per name, of initial weights by a scheme and with an optimizer; print, report and keep the losses.

    A loss is that of the batch after its update, as in the book: the net has just been told the answers, and the more
    eager an optimizer is, the more this flatters it (AdaGrad's loss would be twice as high before the update).

    Figures are "NAME loss", the mean of the last hundred, and "NAME test accuracy". Returns the former by name.
    """
    data = run.mnist()
    images, labels = dp.asarray(data.train_images.reshape(-1, PIXELS)), dp.asarray(data.train_labels)
    test_images, test_labels = dp.asarray(data.test_images.reshape(-1, PIXELS)), dp.asarray(data.test_labels)
    weights_key, batch_key = dp.random.split(run.key, 2)
    losses, accuracies = {}, {}
    for number, (name, (scheme, optimizer)) in enumerate(variants.items()):
        trained = train(
            lambda state, i, optimizer=optimizer: step(
                state, optimizer, 0.0, batch_key, i, images, labels, batch_size=BATCH, after=True
            ),
            start(dp.random.fold_in(weights_key, number), sizes, scheme, optimizer, dtype=run.dtype),
            iters,
        )
        losses[name] = trained.losses
        right = correct(trained.state.params, trained.state.running, test_images, test_labels)
        accuracies[name] = int(right) / len(test_labels)
    for i in range(0, iters, SHOWN_EVERY):
        run.say(f"===========iteration:{i}===========")
        for name in variants:
            run.say(f"{name}:{losses[name][i]:.4f}")
    means = {name: mean_of_last(values) for name, values in losses.items()}
    for name in variants:
        run.say(f"{name:9s} mean loss of the last 100: {means[name]:.4f}, test accuracy {accuracies[name]:.4f}")
        run.figure(f"{name} loss", means[name])
        run.figure(f"{name} test accuracy", accuracies[name])
    run.curve({"iteration": range(iters), **losses})
    return means


def draw(
    figure: Any, losses: Mapping[str, Sequence[float]], names: Sequence[str], *, top: float, markers: str = "oxsD"
) -> None:
    """The smoothed losses against iterations, from 0 to ``top``."""
    axes = figure.subplots()
    for name, marker in zip(names, markers, strict=False):
        axes.plot(losses["iteration"], smooth_curve(losses[name]), marker=marker, markevery=100, label=name)
    axes.set(xlabel="iterations", ylabel="loss", ylim=(0, top))
    axes.legend()
