"""Section 6.5: learning rate and weight decay by random search.

    lr = 10^U(-6, -2)        decay = 10^U(-8, -4)        W <- W - lr (dL/dW + decay W)

100 times both are drawn; a net of six hidden layers of 100 learns 400 images for 50 epochs with them, and 100 other
images judge it. Randomly drawn values find the good ones sooner than a grid does (Bergstra and Bengio 2012). Good
learning rates lie near 10^-2 here; the decay hardly matters.

In defnpy both numbers are arguments, so a hundred trials are one compilation of one function: an epoch, which makes
four updates and judges the 100 and the 400 images together. As in the book they are judged after the first of the four.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch06.multi_layer_net import CLASSES, PIXELS, State, start, step
from book_chapters.common import nets
from book_chapters.common.data import scaled
from book_chapters.runner import Run, study

OPTIONS = {"trials": "how many pairs are tried", "epochs": "of four updates each"}
QUICK = {"trials": 10, "epochs": 10}
ACCEPTANCE = (
    Acceptance("best validation accuracy", 0.75, 1.0, original="0.87, 0.80"),
    Acceptance("lowest learning rate of the best 5", 3e-3, 1e-2, original="5.1e-3, 5.8e-3"),
    Acceptance("compilations", 1, 1, original="-"),
)

SIZES = (PIXELS, 100, 100, 100, 100, 100, 100, CLASSES)
IMAGES, VALIDATION, BATCH = 500, 100, 100
SHOWN = 20


class Trial(NamedTuple):
    """The pair that was tried, and the accuracies after each epoch."""

    lr: float
    decay: float
    validation: list[float]
    train: list[float]


def hits(params: Any, images: dp.Tensor, labels: dp.Tensor) -> dp.Tensor:
    """For each image (bytes) whether it gets its label: bool (count,)."""
    return dp.argmax(nets.predict(params, scaled(images, params["W1"].dtype)), axis=-1) == labels


@partial(dp.defn, donate=("state",))
def epoch(
    state: State, optimizer: Any, decay: Any, key: dp.Tensor, number: Any, images: dp.Tensor, labels: dp.Tensor
) -> tuple[State, dp.Tensor]:
    """As many updates as the images after the first 100, which are for validation, have batches; hits after the first.

    Each update is a call of the step, which becomes a part of this program.
    """
    per_epoch = (images.shape[0] - VALIDATION) // BATCH
    for i in range(per_epoch):
        iteration = number * per_epoch + i
        state, _ = step(
            state, optimizer, decay, key, iteration, images[VALIDATION:], labels[VALIDATION:], batch_size=BATCH
        )
        if i == 0:
            right = hits(state.params, images, labels)
    return state, right


def draw(figure: Any, trials: list[Trial]) -> None:
    """The best twenty: validation solid, training dashed."""
    figure.set_size_inches(10, 8)
    for i, axes in enumerate(figure.subplots(4, 5, sharex=True, sharey=True).flat):
        axes.set_visible(i < len(trials))
        if i < len(trials):
            axes.plot(trials[i].validation)
            axes.plot(trials[i].train, "--")
            axes.set(title=f"Best-{i + 1}", ylim=(0, 1.0), xticks=[])


def main(run: Run, *, trials: int = 100, epochs: int = 50) -> None:
    data = run.mnist(least=IMAGES)
    order_key, draw_key, weights_key, batch_key = dp.random.split(run.key, 4)
    # The book shuffles the 500 before it splits them: a validation set must not be the first images of a sorted file.
    order = np.argsort(np.asarray(dp.random.uniform(order_key, (IMAGES,))))
    images = dp.asarray(data.train_images[:IMAGES].reshape(-1, PIXELS)[order])
    labels = dp.asarray(data.train_labels[:IMAGES][order])
    exponents = np.asarray(dp.random.uniform(draw_key, (trials, 2), dtype="float64"))
    before = dp.compilations().programs
    done = []
    for number, (u, v) in enumerate(exponents):
        lr, decay = 10 ** (-6 + 4 * u), 10 ** (-8 + 4 * v)
        optimizer = dp.optim.SGD(lr=lr)
        key = dp.random.fold_in(weights_key, number)
        state = start(key, SIZES, "he", optimizer, dtype=run.dtype)
        trial = Trial(lr, decay, [], [])
        for i in range(epochs):
            state, found = epoch(state, optimizer, decay, batch_key, i, images, labels)
            right = np.asarray(found)
            trial.validation.append(float(right[:VALIDATION].mean()))
            trial.train.append(float(right[VALIDATION:].mean()))
        done.append(trial)
        run.say(f"val acc:{trial.validation[-1]:.2f} | lr:{lr:.3e}, weight decay:{decay:.3e}")
    done.sort(key=lambda trial: trial.validation[-1], reverse=True)
    run.say("=========== Hyper-Parameter Optimization Result ===========")
    for rank, trial in enumerate(done[:SHOWN], 1):
        run.say(f"Best-{rank}(val acc:{trial.validation[-1]:.2f}) | lr:{trial.lr:.3e}, weight decay:{trial.decay:.3e}")
    run.figure("best validation accuracy", done[0].validation[-1])
    run.figure("lowest learning rate of the best 5", min(trial.lr for trial in done[:5]))
    run.figure("compilations", dp.compilations().programs - before)
    run.curve(
        {
            f"{what} {n}": getattr(trial, what)
            for n, trial in enumerate(done[:SHOWN], 1)
            for what in ("validation", "train")
        }
    )
    run.picture(lambda figure: draw(figure, done[:SHOWN]))


if __name__ == "__main__":
    study(main)
