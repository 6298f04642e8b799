"""Section 7.5: training the convolutional net.

    conv 30@5x5 -> relu -> pool 2x2 -> affine 100 -> relu -> affine 10,  Adam 0.001, batches of 100, 20 epochs of 600

The two-layer net of chapter 5 reaches 97 % on the test images; this one, which looks at neighbourhoods of pixels before
it looks at the whole, reaches 99 %. Accuracy is watched on the first 1000 images of both sets; at the end, and after 1
and 5 epochs, on all test images. The book's loop leaves out what does not fill a batch; here every image counts.

In defnpy batch, gradient and Adam are one compiled step, which writes the new parameters into the memory of the old. It
computes the loss before the update, in the pass that the gradient needs anyway.

``--iters 600`` is one epoch; ``--save FILE.npz`` keeps the parameters. ``ch07/params.npz``, which other pages draw, is
``python -m book_chapters.ch07.train_convnet --seed 0 --save book_chapters/ch07/params.npz``. Twelve thousand updates
magnify every rounding, so another processor, or another version of the compiler, which adds in another order, gives
another net of the same kind.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch07.simple_convnet import scores, start, step
from book_chapters.common.data import save_npz, save_path
from book_chapters.common.trainer import accuracy, mean_of_last, train
from book_chapters.runner import Run, study

OPTIONS = {"save": "an .npz file for the trained parameters, as float16"}
QUICK = {"iters": 60}
ACCEPTANCE = (
    Acceptance("test after 1 epoch", 0.95, 1.0, original="0.9651 (NumPy's f32 peer), 0.96"),
    Acceptance("test after 5 epochs", 0.98, 1.0, original="0.9861"),
    Acceptance("test after 20 epochs", 0.985, 0.992, original="0.9890"),
)

BATCH, EPOCH = 100, 600
WATCHED, PART = 1000, 500


def _named(epochs: int) -> str:
    return f"test after {epochs} epoch" + "s" * (epochs != 1)


def draw(figure: Any, epochs: list[int], on_train: list[float], on_test: list[float]) -> None:
    """Accuracy against epochs."""
    axes = figure.subplots()
    axes.plot(epochs, on_train, marker="o", label="train", markevery=2)
    axes.plot(epochs, on_test, marker="s", label="test", markevery=2)
    axes.set(xlabel="epochs", ylabel="accuracy", ylim=(0, 1.0))
    axes.legend(loc="lower right")


def main(run: Run, *, iters: int = 20 * EPOCH, save: str = "") -> None:
    target = save_path(save)
    data = run.mnist(any_size=True)
    images, labels = dp.asarray(data.train_images), dp.asarray(data.train_labels)
    weights_key, batch_key = dp.random.split(run.key, 2)
    optimizer = dp.optim.Adam(lr=0.001)

    def evaluate(iteration: int, state: Any) -> tuple[float, float]:
        net = partial(scores, state.params)
        epoch = iteration // EPOCH
        on_train = accuracy(net, data.train_images[:WATCHED], data.train_labels[:WATCHED], rows=PART)
        on_test = accuracy(net, data.test_images[:WATCHED], data.test_labels[:WATCHED], rows=PART)
        run.say(f"=== epoch:{epoch + 1}, train acc:{on_train:.4f}, test acc:{on_test:.4f} ===")
        if epoch in (1, 5):
            run.figure(_named(epoch), whole(state))
        return on_train, on_test

    def whole(state: Any) -> float:
        return accuracy(partial(scores, state.params), data.test_images, data.test_labels, rows=PART)

    trained = train(
        lambda state, i: step(state, optimizer, batch_key, i, images, labels, batch_size=BATCH),
        start(weights_key, optimizer, image=(1, *images.shape[1:]), dtype=run.dtype),
        iters,
        every=EPOCH,
        evaluate=evaluate,
    )
    final = whole(trained.state)
    run.say(f"=============== Final Test Accuracy ===============\ntest acc:{final:.4f}")
    run.figure(_named(iters // EPOCH) if iters % EPOCH == 0 else "test", final)
    run.figure("mean loss of the last 100", mean_of_last(trained.losses))
    epochs = [iteration // EPOCH for iteration, _ in trained.evaluations]
    on_train, on_test = (list(column) for column in zip(*[pair for _, pair in trained.evaluations], strict=True))
    run.curve({"epoch": epochs, "train": on_train, "test": on_test})
    run.curve({"iteration": range(iters), "loss": trained.losses}, "loss")
    run.picture(lambda figure: draw(figure, epochs, on_train, on_test))
    if target is not None:
        halves = {name: np.asarray(value).astype(np.float16) for name, value in trained.state.params.items()}
        save_npz(target, halves)
        run.say(f"saved: {target}")


if __name__ == "__main__":
    study(main)
