"""Section 3.6.2, before it: how the weights of this chapter's net came about.

    W <- W - lr dL/dW        L the cross-entropy of a batch of 100 images

The book hands out a file of trained weights and explains training in chapter 4. The file that comes with these pages,
``weights.npz``, is the result of

    python -m book_chapters.ch03.train_weights --seed 0 --save book_chapters/ch03/weights.npz

784-50-100-10, sigmoid, weights from N(0, 1 / inputs), float32, Adam, 6,000 batches of 100. In defnpy the step is one
compiled function that draws its batch by a key; the loss is computed from the scores.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.common import nets
from book_chapters.common.data import save_npz, save_path, scaled
from book_chapters.common.trainer import accuracy, batch, mean_of_last, train
from book_chapters.runner import Run, study
from defnpy.optim import Adam

OPTIONS = {"save": "write the weights to this .npz file"}
QUICK = {"iters": 200}
ACCEPTANCE = (Acceptance("test accuracy", 0.95, 0.97, original="0.9654 (Adam, float32 NumPy)"),)

SIZES = (784, 50, 100, 10)
BATCH = 100


@dp.defn
def predict(params: nets.Params, images: dp.Tensor) -> dp.Tensor:
    """Scores of images of bytes."""
    return nets.predict(params, scaled(images, params["W1"].dtype), activation="sigmoid")


@dp.defn
def step(
    params: nets.Params,
    state: Any,
    optimizer: Adam,
    key: dp.Tensor,
    iteration: int,
    images: dp.Tensor,
    labels: dp.Tensor,
) -> tuple[tuple[nets.Params, Any], dp.Tensor]:
    """One batch: new parameters and new state of the optimizer, and the loss before."""
    x, t = batch(key, iteration, BATCH, images, labels)
    x = scaled(x, params["W1"].dtype)
    value, grads = dp.value_and_grad(partial(nets.loss, activation="sigmoid"))(params, x, t)
    return optimizer.update(params, grads, state), value


def main(run: Run, *, iters: int = 6000, save: str = "") -> None:
    target = save_path(save)
    data = run.mnist()
    init_key, batch_key = dp.random.split(run.key)
    optimizer = Adam(lr=0.001)
    params = nets.init(init_key, SIZES, "xavier", dtype=run.dtype)
    images, labels = dp.asarray(data.train_images), dp.asarray(data.train_labels)

    def one(state: Any, iteration: int) -> tuple[Any, dp.Tensor]:
        return step(*state, optimizer, batch_key, iteration, images, labels)

    trained = train(one, (params, optimizer.init(params)), iters)
    params = trained.state[0]
    reached = accuracy(lambda x: predict(params, x), data.test_images, data.test_labels)
    run.say(f"loss {mean_of_last(trained.losses):.4f}, test accuracy {reached:.4f}")
    run.figure("test accuracy", reached)
    run.figure("loss of the last 100", mean_of_last(trained.losses))
    run.curve({"iteration": range(iters), "loss": trained.losses})
    if target is not None:
        command = f"python -m book_chapters.ch03.train_weights --seed {run.seed} --iters {iters}"
        save_npz(target, {**params, "command": command})
        run.say(f"saved: {target}")


if __name__ == "__main__":
    study(main)
