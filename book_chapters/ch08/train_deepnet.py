"""Section 8.1.1: training the deep net, for a hundred updates or twelve thousand.

    W <- Adam 0.001 on batches of 100, with dropout: the loss in training is that of a net with every second unit away

The book trains for 20 epochs of 600 updates, to more than 99 %. Without more options this page makes a hundred updates,
which show that everything is connected (the original's accuracies are those of a hundred, too); ``--iters 12000`` is
the book's run. The weights that the other pages of this chapter use are those of

    python -m book_chapters.ch08.train_deepnet --seed 0 --iters 3000 --save book_chapters/ch08/deep_convnet_params.npz

five epochs, kept in float32. As in chapter 7, another processor adds in another order and gets another net of the kind.

In defnpy the whole step, with batch, dropout's masks, gradient and Adam, is one compiled function. The book's ``loss``
drops units even where it is only asked how good the net is; here that is the argument ``train``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch07.simple_convnet import as_images
from book_chapters.ch08.deep_convnet import PART, init, loss, scores
from book_chapters.common.data import save_npz, save_path
from book_chapters.common.plot import accuracies
from book_chapters.common.trainer import accuracy, batch, mean_of_last, train
from book_chapters.runner import Run, study

__all__ = ["State", "step"]

OPTIONS = {"save": "an .npz file for the trained parameters"}
QUICK = {"iters": 10}
ACCEPTANCE = (Acceptance("test[:1000]", 0.75, 1.0, original="0.873"),)

BATCH, EPOCH = 100, 600
WATCHED = 1000


class State(NamedTuple):
    """What training changes: parameters, and what the optimizer remembers."""

    params: Any
    optimizer: Any


@partial(dp.defn, donate=("state",))
def step(
    state: State, optimizer: Any, key: dp.Tensor, iteration: Any, images: dp.Tensor, labels: dp.Tensor
) -> tuple[State, dp.Tensor]:
    """One iteration on a batch of 100 that key and iteration choose: the new state, and the loss of the old parameters.

    images are bytes (count, 28, 28).
    """
    keys = dp.random.split(key, 2)
    x, t = batch(keys[0], iteration, BATCH, images, labels)
    x = as_images(x, state.params["W1"].dtype)
    value, grads = dp.value_and_grad(loss)(state.params, dp.random.fold_in(keys[1], iteration), x, t)
    return State(*optimizer.update(state.params, grads, state.optimizer)), value


def main(run: Run, *, iters: int = 100, save: str = "") -> None:
    target = save_path(save)
    data = run.mnist()
    images, labels = dp.asarray(data.train_images), dp.asarray(data.train_labels)
    weights_key, step_key = dp.random.split(run.key, 2)
    optimizer = dp.optim.Adam(lr=0.001)
    params = init(weights_key, run.dtype)
    every = EPOCH if iters > EPOCH else EPOCH // 12

    def judge(state: Any, images: Any, labels: Any) -> float:
        return accuracy(partial(scores, state.params), images, labels, rows=PART)

    def evaluate(iteration: int, state: Any) -> tuple[float, float]:
        on_train = judge(state, data.train_images[:WATCHED], data.train_labels[:WATCHED])
        on_test = judge(state, data.test_images[:WATCHED], data.test_labels[:WATCHED])
        run.say(f"=== iteration:{iteration + 1}, train acc:{on_train:.4f}, test acc:{on_test:.4f} ===")
        return on_train, on_test

    trained = train(
        lambda state, i: step(state, optimizer, step_key, i, images, labels),
        State(params, optimizer.init(params)),
        iters,
        every=every,
        evaluate=evaluate,
    )
    watched = judge(trained.state, data.test_images[:WATCHED], data.test_labels[:WATCHED])
    run.figure("test[:1000]", watched)
    run.say(f"after {iters} updates: test acc:{watched:.4f} on the first {WATCHED}")
    if iters >= EPOCH:
        final = judge(trained.state, data.test_images, data.test_labels)
        run.say(f"=============== Final Test Accuracy ===============\ntest acc:{final:.4f}")
        run.figure("test", final)
    run.figure("mean loss of the last 100", mean_of_last(trained.losses))
    seen = [iteration / EPOCH for iteration, _ in trained.evaluations]
    on_train, on_test = (list(column) for column in zip(*[pair for _, pair in trained.evaluations], strict=True))
    run.curve({"epoch": seen, "train": on_train, "test": on_test})
    run.curve({"iteration": range(iters), "loss": trained.losses}, "loss")
    run.picture(lambda figure: accuracies(figure, seen, {"train": on_train, "test": on_test}, mark=True, every=2))
    if target is not None:
        command = f"python -m book_chapters.ch08.train_deepnet --seed {run.seed} --iters {iters}"
        save_npz(target, {**trained.state.params, "command": command})
        run.say(f"saved: {target}")


if __name__ == "__main__":
    study(main)
