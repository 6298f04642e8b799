"""The layers of chapters 5 to 7 as pairs of pure functions, forward and backward (book: ``common/layers.py``).

A layer of the book is an object: ``forward`` keeps what ``backward`` will need (``self.x``, ``self.mask``), and works
only if the two are called in turn. Here nothing is kept. What backward needs are its arguments:

    y = layer(*x)                     layer_backward(g, y, *x) -> one gradient per x

with g the gradient of the loss by y. That is the form of the rules inside defnpy. The backward functions are the book's
formulas, written by hand to be compared with ``dp.grad``; no page trains with them, because ``grad`` finds them itself.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp

from . import functions
from .im2col import col2im, conv_output_size, im2col

__all__ = [
    "affine",
    "affine_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_state",
    "convolution",
    "convolution_backward",
    "dropout",
    "dropout_backward",
    "pooling",
    "pooling_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax_with_loss",
    "softmax_with_loss_backward",
]

BN_EPS = 1e-6  # the book writes 10e-7
BN_MOMENTUM = 0.9


def affine(x: Any, W: Any, b: Any) -> Any:
    """x W + b for x (N, I) or (N, ...), which is flattened; W (I, O), b (O,)."""
    return dp.reshape(x, (x.shape[0], -1)) @ W + b


def affine_backward(g: Any, y: Any, x: Any, W: Any, b: Any) -> tuple[Any, Any, Any]:
    """dx = g W^T, dW = x^T g, db = the sum of g over the batch."""
    flat = dp.reshape(x, (x.shape[0], -1))
    return dp.reshape(g @ W.T, x.shape), flat.T @ g, dp.sum(g, axis=0)


def relu(x: Any) -> Any:
    """max(x, 0)."""
    return functions.relu(x)


def relu_backward(g: Any, y: Any, x: Any) -> tuple[Any]:
    """g where x > 0, else 0; g itself is not changed (the book's layer writes into its caller's array)."""
    return (g * functions.relu_grad(x),)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return functions.sigmoid(x)


def sigmoid_backward(g: Any, y: Any, x: Any) -> tuple[Any]:
    """g y (1 - y): of the output alone."""
    return (g * y * (1 - y),)


def softmax_with_loss(scores: Any, t: Any) -> Any:
    """The book's loss: the mean of -log(softmax(scores)_t + 1e-7)."""
    return functions.softmax_loss(scores, t)


def softmax_with_loss_backward(g: Any, y: Any, scores: Any, t: Any) -> tuple[Any, None]:
    """(softmax - t) / N: the derivative of the loss without the 1e-7, which the book's layer leaves out of account."""
    probabilities = functions.softmax(scores)
    return g * (probabilities - functions.one_hot_labels(t, scores)) / scores.shape[0], None


def convolution(x: Any, W: Any, b: Any, *, stride: int = 1, pad: int = 0) -> Any:
    """x (N, C, H, W), W (FN, C, FH, FW), b (FN,) -> (N, FN, OH, OW), by im2col and one product, as in the book.

    ``dp.conv`` computes the same without making the rows.
    """
    (n, _, h, w), (fn, _, fh, fw) = x.shape, W.shape
    out_h, out_w = conv_output_size(h, fh, stride, pad), conv_output_size(w, fw, stride, pad)
    rows = im2col(x, fh, fw, stride, pad) @ dp.reshape(W, (fn, -1)).T + b
    return dp.permute_dims(dp.reshape(rows, (n, out_h, out_w, fn)), (0, 3, 1, 2))


def convolution_backward(
    g: Any, y: Any, x: Any, W: Any, b: Any, *, stride: int = 1, pad: int = 0
) -> tuple[Any, Any, Any]:
    """An affine layer on the rows: dW = rows^T g, db = the sum of g, dx = col2im(g W)."""
    fn, _, fh, fw = W.shape
    flat = dp.reshape(dp.permute_dims(g, (0, 2, 3, 1)), (-1, fn))
    dW = dp.reshape((im2col(x, fh, fw, stride, pad).T @ flat).T, W.shape)
    dx = col2im(flat @ dp.reshape(W, (fn, -1)), x.shape, fh, fw, stride, pad)
    return dx, dW, dp.sum(flat, axis=0)


def _pool_rows(x: Any, window: int, stride: int, pad: int) -> Any:
    """(N OH OW C, window window): each row what one maximum is taken of."""
    return dp.reshape(im2col(x, window, window, stride, pad), (-1, window * window))


def pooling(x: Any, *, window: int, stride: int, pad: int = 0) -> Any:
    """The largest of each window of (N, C, H, W), by im2col, as in the book (padding counts as 0).

    ``dp.max_pool`` computes the same without the rows, and ignores padding.
    """
    n, c, h, w = x.shape
    out_h, out_w = conv_output_size(h, window, stride, pad), conv_output_size(w, window, stride, pad)
    largest = dp.max(_pool_rows(x, window, stride, pad), axis=1)
    return dp.permute_dims(dp.reshape(largest, (n, out_h, out_w, c)), (0, 3, 1, 2))


def pooling_backward(g: Any, y: Any, x: Any, *, window: int, stride: int, pad: int = 0) -> tuple[Any]:
    """g goes to the first of the largest elements (argmax); the others had no part in the result."""
    n, c, h, w = x.shape
    out_h, out_w = conv_output_size(h, window, stride, pad), conv_output_size(w, window, stride, pad)
    first = dp.argmax(_pool_rows(x, window, stride, pad), axis=1)
    flat = dp.reshape(dp.permute_dims(g, (0, 2, 3, 1)), (-1, 1))
    spread = dp.one_hot(first, window * window, dtype=x.dtype) * flat
    rows = dp.reshape(spread, (n * out_h * out_w, c * window * window))
    return (col2im(rows, x.shape, window, window, stride, pad),)


def batch_norm_state(width: int, dtype: Any = "float32") -> dict[str, dp.Tensor]:
    """Running statistics before training: mean 0 and variance 0, as in the book (1 is usual elsewhere)."""
    return {"mean": dp.zeros((width,), dtype=dtype), "var": dp.zeros((width,), dtype=dtype)}


def batch_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    state: dict[str, Any],
    *,
    train: bool,
    eps: float = BN_EPS,
    momentum: float = BN_MOMENTUM,
) -> tuple[Any, dict[str, Any]]:
    """gamma (x - mean) / sqrt(var + eps) + beta, and the new running statistics.

    x (N, D); with more axes it is flattened to (N, rest), so every element of an image has its own gamma, as in the
    book (per channel is usual elsewhere). With ``train`` mean and (biased) variance are the batch's, and the running
    ones move towards them; without, they are the running ones, and stay.
    """
    flat = dp.reshape(x, (x.shape[0], -1))
    if train:
        mean, var = dp.mean(flat, axis=0), dp.var(flat, axis=0)
        moved = {"mean": mean, "var": var}
        new = {name: momentum * state[name] + (1 - momentum) * moved[name] for name in state}
    else:
        mean, var, new = state["mean"], state["var"], state
    y = gamma * (flat - mean) / dp.sqrt(var + eps) + beta
    return dp.reshape(y, x.shape), new


def batch_norm_backward(g: Any, y: Any, x: Any, gamma: Any, beta: Any, *, eps: float = BN_EPS) -> tuple[Any, Any, Any]:
    """The book's way back through the nodes of the graph, in training; x (N, D)."""
    n = x.shape[0]
    centred = x - dp.mean(x, axis=0)
    deviation = dp.sqrt(dp.mean(centred**2, axis=0) + eps)
    normal = centred / deviation
    d_normal = gamma * g
    d_deviation = -dp.sum(d_normal * centred / deviation**2, axis=0)
    d_centred = d_normal / deviation + (2 / n) * centred * (0.5 * d_deviation / deviation)
    return d_centred - dp.sum(d_centred, axis=0) / n, dp.sum(normal * g, axis=0), dp.sum(g, axis=0)


def dropout(key: Any, x: Any, *, ratio: float, train: bool) -> Any:
    """In training, each element is 0 with probability ``ratio``; else x times 1 - ratio, which is its mean.

    The mask comes from the key: the same key gives the same one, so a function with dropout can be differentiated
    numerically too. (Elsewhere the survivors are scaled up in training instead, and evaluation leaves x alone.)

    >>> y = dropout(dp.random.key(0), dp.ones(1000), ratio=0.2, train=True)
    >>> bool((y == dropout(dp.random.key(0), dp.ones(1000), ratio=0.2, train=True)).all()), int(y.sum())
    (True, 814)
    """
    return x * _kept(key, x, ratio) if train else x * (1.0 - ratio)


def dropout_backward(g: Any, y: Any, key: Any, x: Any, *, ratio: float) -> tuple[None, Any]:
    """g where x was kept."""
    return None, g * _kept(key, x, ratio)


def _kept(key: Any, x: Any, ratio: float) -> Any:
    return (dp.random.uniform(key, x.shape, dtype=x.dtype) >= ratio).astype(x.dtype)
