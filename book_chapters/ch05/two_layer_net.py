"""Section 5.7.2: the net of chapter 4 out of layers, with ReLU instead of the sigmoid.

    L = softmax_with_loss(affine(relu(affine(x, W1, b1)), W2, b2), t)

The book keeps its layers in an ordered dict and goes through it backwards. In defnpy layers are functions; the way
back, ``gradient_by_hand``, is written out once with the backward functions of ``common/layers.py``, to be compared with
``dp.grad``. Training uses ``dp.value_and_grad``, which finds the way back in the traced graph.
"""

from __future__ import annotations

import defnpy as dp
from book_chapters.ch04.two_layer_net import Params, init
from book_chapters.common import functions, layers
from book_chapters.common.data import scaled
from book_chapters.common.trainer import batch

__all__ = ["Params", "gradient_by_hand", "init", "loss", "loss_of_scores", "predict", "step"]


def predict(params: Params, x: dp.Tensor) -> dp.Tensor:
    """The scores, before the softmax: (N, 10)."""
    hidden = layers.relu(layers.affine(x, params["W1"], params["b1"]))
    return layers.affine(hidden, params["W2"], params["b2"])


def loss(params: Params, x: dp.Tensor, t: dp.Tensor) -> dp.Tensor:
    """The book's: the mean of -log(softmax_t + 1e-7)."""
    return layers.softmax_with_loss(predict(params, x), t)


def loss_of_scores(params: Params, x: dp.Tensor, t: dp.Tensor) -> dp.Tensor:
    """The one to train on: the mean of logsumexp(scores) - scores_t."""
    return functions.cross_entropy_with_logits(predict(params, x), t)


def gradient_by_hand(params: Params, x: dp.Tensor, t: dp.Tensor) -> Params:
    """The layers forward, then backward in reverse order, each with the gradient that the one behind it gave."""
    W1, b1, W2, b2 = (params[name] for name in ("W1", "b1", "W2", "b2"))
    a1 = layers.affine(x, W1, b1)
    z1 = layers.relu(a1)
    a2 = layers.affine(z1, W2, b2)
    value = layers.softmax_with_loss(a2, t)
    g, _ = layers.softmax_with_loss_backward(1.0, value, a2, t)
    g, dW2, db2 = layers.affine_backward(g, a2, z1, W2, b2)
    (g,) = layers.relu_backward(g, z1, a1)
    _, dW1, db1 = layers.affine_backward(g, a1, x, W1, b1)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


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
