"""Section 6.5: learning rate and weight decay by random search.

100 times a learning rate is drawn from 10^U(-6, -2) and a weight decay from 10^U(-8, -4); a net of six hidden layers of
100 learns 400 images for 50 epochs with them, and 100 other images judge it. Randomly drawn values find the good ones
sooner than a grid does (Bergstra and Bengio 2012). Good learning rates lie near 10^-2 here; the decay hardly matters.

In defnpy both numbers are arguments of the compiled step: a hundred trials are one compilation. So are the judgements,
because the 100 and the 400 images are judged together, in one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch06.multi_layer_net import CLASSES, PIXELS, start, step
from book_chapters.common import nets
from book_chapters.common.data import scaled
from book_chapters.runner import Run, study

OPTIONS = {"trials": "how many pairs are tried", "epochs": "of four updates each"}
QUICK = {"trials": 10, "epochs": 10}
ACCEPTANCE = (
    Acceptance("best validation accuracy", 0.75, 1.0, original="0.87, 0.80"),
    Acceptance("lowest learning rate of the best 5", 3e-3, 1e-2, original="5.1e-3, 5.8e-3"),
    Acceptance("compilations of the step", 1, 1, original="-"),
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


@dp.defn
def hits(params: Any, images: dp.Tensor, labels: dp.Tensor) -> dp.Tensor:
    """For each image (bytes) whether it gets its label: bool (count,)."""
    return dp.argmax(nets.predict(params, scaled(images, params["W1"].dtype)), axis=-1) == labels


def draw(figure: Any, trials: list[Trial]) -> None:
    """The best twenty: validation solid, training dashed."""
    figure.set_size_inches(10, 8)
    for i, axes in enumerate(figure.subplots(4, 5, sharex=True, sharey=True).flat):
        if i < len(trials):
            axes.plot(trials[i].validation)
            axes.plot(trials[i].train, "--")
            axes.set(title=f"Best-{i + 1}", ylim=(0, 1.0), xticks=[])


def main(run: Run, *, trials: int = 100, epochs: int = 50) -> None:
    data = run.mnist()
    order_key, draw_key, weights_key, batch_key = dp.random.split(run.key, 4)
    # The book shuffles the 500 before it splits them: a validation set must not be the first images of a sorted file.
    order = np.argsort(np.asarray(dp.random.uniform(order_key, (IMAGES,))))
    images = dp.asarray(data.train_images[:IMAGES].reshape(-1, PIXELS)[order])
    labels = dp.asarray(data.train_labels[:IMAGES][order])
    train_images, train_labels = images[VALIDATION:], labels[VALIDATION:]
    exponents = np.asarray(dp.random.uniform(draw_key, (trials, 2), dtype="float64"))
    per_epoch = train_images.shape[0] // BATCH
    before = step.cache_info().misses
    done = []
    for number, (u, v) in enumerate(exponents):
        lr, decay = 10 ** (-6 + 4 * u), 10 ** (-8 + 4 * v)
        optimizer = dp.optim.SGD(lr=lr)
        key = dp.random.fold_in(weights_key, number)
        state = start(key, SIZES, "he", optimizer, dtype=run.dtype)
        trial = Trial(lr, decay, [], [])
        for i in range((epochs - 1) * per_epoch + 1):
            state, _ = step(state, optimizer, decay, batch_key, i, train_images, train_labels, batch_size=BATCH)
            if i % per_epoch == 0:
                right = np.asarray(hits(state.params, images, labels))
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
    run.figure("compilations of the step", step.cache_info().misses - before)
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
