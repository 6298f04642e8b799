"""Section 4.5.1: a net of two layers as pure functions (book: the class ``TwoLayerNet``).

    z1 = sigmoid(x W1 + b1)        y = softmax(z1 W2 + b2)        L = cross-entropy of y

784 pixels, 50 hidden units, 10 digits. The class of the book holds the parameters and works only because its layers
hold the same arrays (``p[k] -= lr * g`` trains, ``p[k] = p[k] - lr * g`` does not). In defnpy the parameters go in and
come out.

There are two losses: ``loss`` is the book's, log(y + 1e-7); ``loss_of_scores`` is the one to train on, see
``common/functions.py``. ``gradient_by_hand`` is the book's backward pass, (y - t) / N going back through the layers.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.common import functions
from book_chapters.common.data import scaled
from book_chapters.common.trainer import batch

__all__ = ["Params", "gradient_by_hand", "init", "loss", "loss_of_scores", "predict", "scores", "step"]

Params = dict[str, dp.Tensor]


def init(
    key: dp.Tensor,
    *,
    inputs: int = 784,
    hidden: int = 50,
    outputs: int = 10,
    scale: float = 0.01,
    dtype: Any = "float32",
) -> Params:
    """W1 (inputs, hidden) and W2 (hidden, outputs) from N(0, scale^2), b1 and b2 zero."""
    key1, key2 = dp.random.split(key)
    return {
        "W1": scale * dp.random.normal(key1, (inputs, hidden), dtype=dtype),
        "b1": dp.zeros((hidden,), dtype=dtype),
        "W2": scale * dp.random.normal(key2, (hidden, outputs), dtype=dtype),
        "b2": dp.zeros((outputs,), dtype=dtype),
    }


def scores(params: Params, x: dp.Tensor) -> dp.Tensor:
    """What the softmax is taken of: (N, outputs)."""
    z1 = functions.sigmoid(x @ params["W1"] + params["b1"])
    return z1 @ params["W2"] + params["b2"]


def predict(params: Params, x: dp.Tensor) -> dp.Tensor:
    """Probabilities: (N, outputs)."""
    return functions.softmax(scores(params, x))


def loss(params: Params, x: dp.Tensor, t: dp.Tensor) -> dp.Tensor:
    """The book's: the mean of -log(y_t + 1e-7)."""
    return functions.cross_entropy_error(predict(params, x), t)


def loss_of_scores(params: Params, x: dp.Tensor, t: dp.Tensor) -> dp.Tensor:
    """The one to train on: the mean of logsumexp(scores) - scores_t."""
    return functions.cross_entropy_with_logits(scores(params, x), t)


def gradient_by_hand(params: Params, x: dp.Tensor, t: dp.Tensor) -> Params:
    """The book's ``gradient``: of ``loss_of_scores``, though it prints ``loss``."""
    z1 = functions.sigmoid(x @ params["W1"] + params["b1"])
    y = functions.softmax(z1 @ params["W2"] + params["b2"])
    dy = (y - functions.one_hot_labels(t, y)) / x.shape[0]
    da1 = (dy @ params["W2"].T) * z1 * (1 - z1)
    return {"W1": x.T @ da1, "b1": dp.sum(da1, axis=0), "W2": z1.T @ dy, "b2": dp.sum(dy, axis=0)}


@dp.defn
def step(
    params: Params,
    key: dp.Tensor,
    iteration: int,
    images: dp.Tensor,
    labels: dp.Tensor,
    lr: float,
    *,
    batch_size: int = 100,
) -> tuple[Params, dp.Tensor]:
    """One iteration on images of bytes: draw a batch, descend along the gradient; and the loss before the update."""
    x, t = batch(key, iteration, batch_size, images, labels)
    value, grads = dp.value_and_grad(loss_of_scores)(params, scaled(x, params["W1"].dtype), t)
    return dp.tree.map(lambda p, g: p - lr * g, params, grads), value
