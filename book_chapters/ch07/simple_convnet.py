"""The convolutional net of chapter 7 as pure functions (book: ``ch07/simple_convnet.py``).

    conv 30@5x5 -> relu -> max pool 2x2 -> affine 100 -> relu -> affine 10

    params = init(key)                     W1 (30, 1, 5, 5), b1, W2 (4320, 100), b2, W3 (100, 10), b3
    scores = predict(params, x)            x (N, 1, 28, 28), floats from 0 to 1
    params, adam, loss = step(...)

In defnpy the parameters are a dict that goes in and comes out, and ``step`` is one compiled function. ``gradient`` is
the book's backward pass by hand, layer by layer, for comparison: no page trains with it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import defnpy as dp
from book_chapters.common import functions, layers
from book_chapters.common.data import scaled
from book_chapters.common.im2col import conv_output_size
from book_chapters.common.trainer import batch

__all__ = ["State", "as_images", "gradient", "init", "loss", "predict", "scores", "start", "step", "written_loss"]

Params = dict[str, dp.Tensor]
POOL = 2


class State(NamedTuple):
    """What training changes: parameters, and what the optimizer remembers."""

    params: Any
    optimizer: Any


def init(
    key: dp.Tensor,
    *,
    image: tuple[int, int, int] = (1, 28, 28),
    filters: int = 30,
    window: int = 5,
    hidden: int = 100,
    classes: int = 10,
    std: float = 0.01,
    dtype: Any = "float32",
) -> Params:
    """Weights from N(0, std^2), biases 0, for images (channels, height, width).

    Raises ``ShapeError`` where filters or pools do not fit the image a whole number of times.
    """
    channels, *sides = image
    height, width = (conv_output_size(conv_output_size(n, window), POOL, POOL) for n in sides)
    keys = dp.random.split(key, 3)

    def weights(i: int, shape: tuple[int, ...]) -> dp.Tensor:
        return std * dp.random.normal(keys[i], shape, dtype=dtype)

    return {
        "W1": weights(0, (filters, channels, window, window)),
        "b1": dp.zeros((filters,), dtype=dtype),
        "W2": weights(1, (filters * height * width, hidden)),
        "b2": dp.zeros((hidden,), dtype=dtype),
        "W3": weights(2, (hidden, classes)),
        "b3": dp.zeros((classes,), dtype=dtype),
    }


def predict(params: Params, x: Any) -> Any:
    """Scores (N, classes) of images (N, channels, height, width)."""
    h = dp.relu(dp.conv(x, params["W1"]) + params["b1"][:, None, None])
    h = dp.max_pool(h, POOL)
    h = dp.relu(layers.affine(h, params["W2"], params["b2"]))
    return layers.affine(h, params["W3"], params["b3"])


def loss(params: Params, x: Any, t: Any) -> Any:
    """Mean cross-entropy, of the scores: what the net trains on."""
    return functions.cross_entropy_with_logits(predict(params, x), t)


def written_loss(params: Params, x: Any, t: Any) -> Any:
    """The loss as the book writes it, with 1e-7 in the logarithm."""
    return functions.softmax_loss(predict(params, x), t)


def gradient(params: Params, x: Any, t: Any) -> Params:
    """The book's backward pass by hand: layer by layer from the end, each by its formula."""
    p, pool = params, {"window": POOL, "stride": POOL}
    a1 = layers.convolution(x, p["W1"], p["b1"])
    h1 = layers.relu(a1)
    pooled = layers.pooling(h1, **pool)
    a2 = layers.affine(pooled, p["W2"], p["b2"])
    h2 = layers.relu(a2)
    z = layers.affine(h2, p["W3"], p["b3"])

    g, _ = layers.softmax_with_loss_backward(1.0, None, z, t)
    g, dW3, db3 = layers.affine_backward(g, z, h2, p["W3"], p["b3"])
    (g,) = layers.relu_backward(g, h2, a2)
    g, dW2, db2 = layers.affine_backward(g, a2, pooled, p["W2"], p["b2"])
    (g,) = layers.pooling_backward(g, pooled, h1, **pool)
    (g,) = layers.relu_backward(g, h1, a1)
    _, dW1, db1 = layers.convolution_backward(g, a1, x, p["W1"], p["b1"])
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}


def as_images(images: dp.Tensor, dtype: Any) -> dp.Tensor:
    """Bytes (N, height, width) as floats from 0 to 1, (N, 1, height, width)."""
    n, height, width = images.shape
    return dp.reshape(scaled(images, dtype), (n, 1, height, width))


def start(key: dp.Tensor, optimizer: Any, **settings: Any) -> State:
    """The state before training; ``settings`` are those of :func:`init`."""
    params = init(key, **settings)
    return State(params, optimizer.init(params))


@partial(dp.defn, donate=("state",))
def step(
    state: State,
    optimizer: Any,
    key: dp.Tensor,
    iteration: Any,
    images: dp.Tensor,
    labels: dp.Tensor,
    *,
    batch_size: int = 100,
) -> tuple[State, dp.Tensor]:
    """One iteration, on a batch that key and iteration choose: the new state, and the loss of the old parameters.

    images are bytes (count, height, width). The memory of the old state becomes that of the new one. The gradient by
    the images, which the book's first layer computes and nobody reads, is never computed.
    """
    x, t = batch(key, iteration, batch_size, images, labels)
    value, grads = dp.value_and_grad(loss)(state.params, as_images(x, state.params["W1"].dtype), t)
    return State(*optimizer.update(state.params, grads, state.optimizer)), value


@dp.defn
def scores(params: Params, images: dp.Tensor) -> dp.Tensor:
    """:func:`predict` of images in bytes (N, height, width)."""
    return predict(params, as_images(images, params["W1"].dtype))
