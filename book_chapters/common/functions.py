"""Activations and losses of chapters 3 and 4 (book: ``common/functions.py``).

All of them work on values and inside ``@defn``, row by row along the last axis, in the dtype they are given.

Two cross-entropies stand here, because the book's is not what the book trains on:

``cross_entropy_error(y, t)`` takes probabilities and computes log(y + 1e-7), so that a probability of 0 costs 16.1
instead of infinity. Its exact derivative by the scores is (y - t) y_t / (y_t + 1e-7): where the net is sure and wrong,
y_t is far below 1e-7 and the gradient vanishes (2 % of y - t at a gap of 20 between the scores, nothing at 32). The
book's layers return y - t, which is not the derivative of the loss they print. Automatic differentiation takes the
formula at its word, and so a net that starts with large weights stands still.

``cross_entropy_with_logits(scores, t)`` takes the scores and computes logsumexp(scores) - scores[t]. It needs no 1e-7,
and its derivative is y - t exactly. The chapters train on it.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from defnpy.errors import ShapeError

__all__ = [
    "cross_entropy_error",
    "cross_entropy_with_logits",
    "identity_function",
    "mean_squared_error",
    "one_hot_labels",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "step_function",
    "sum_squared_error",
]

EPS = 1e-7


def identity_function(x: Any) -> Any:
    """x."""
    return x


def step_function(x: Any) -> Any:
    """1 where x > 0, else 0: int64.

    >>> step_function(dp.asarray([-1.0, 0.0, 2.0])).tolist()
    [0, 0, 1]
    """
    return (dp.asarray(x) > 0).astype(dp.int64)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without the overflow of exp(-x) for very negative x.

    >>> sigmoid(dp.asarray([-1000.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    return dp.sigmoid(x)


def sigmoid_grad(x: Any) -> Any:
    """The derivative of the sigmoid by hand: s (1 - s)."""
    s = sigmoid(x)
    return (1 - s) * s


def relu(x: Any) -> Any:
    """max(x, 0). NaN stays NaN, which the mask ``x * (x > 0)`` would also keep, and ``inf`` stays ``inf``."""
    return dp.relu(x)


def relu_grad(x: Any) -> Any:
    """The derivative of relu by hand: 1 where x > 0, else 0.

    At 0 the book says 1 here and 0 in its layer; it is 0 everywhere in defnpy.

    >>> relu_grad(dp.asarray([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    x = dp.asarray(x)
    return (x > 0).astype(x.dtype)


def softmax(x: Any) -> Any:
    """exp(x) / sum(exp(x)) along the last axis, each row shifted by its own maximum first.

    A maximum or a sum over the whole batch instead would still train, to 96 %, and its rows would not sum to 1.

    >>> softmax(dp.asarray([[1010.0, 1000.0], [0.0, 0.0]], dtype="float64")).tolist()[1]
    [0.5, 0.5]
    """
    x = dp.asarray(x)
    e = dp.exp(x - dp.max(x, axis=-1, keepdims=True))
    return e / dp.sum(e, axis=-1, keepdims=True)


def one_hot_labels(t: Any, like: Any) -> Any:
    """Labels in one-hot form, with the shape and the dtype of ``like`` (rows, classes).

    Integers (rows,) are classes; anything of ``like``'s own shape is one-hot already. The form is told by shape alone,
    while tracing. Raises ``ShapeError`` for any other one: labels (rows, 1) would broadcast to (rows, rows) and give a
    plausible, wrong loss.

    >>> one_hot_labels(dp.asarray([2, 0]), dp.zeros((2, 3))).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    t, like = dp.asarray(t), dp.asarray(like)
    if t.shape == like.shape:
        return t.astype(like.dtype)
    if t.shape == like.shape[:-1] and t.dtype.kind in "iu":
        return dp.one_hot(t, like.shape[-1], dtype=like.dtype)
    rows, classes = like.shape[:-1], like.shape[-1]
    hint = "pass t.ravel()" if t.shape == (*rows, 1) else f"pass integers {rows} or one-hot rows {like.shape}"
    raise ShapeError(
        f"labels of shape {t.shape} and dtype {t.dtype} do not fit scores of shape {like.shape}: "
        f"expected integers {rows}, or one-hot labels with {classes} columns",
        hint=hint,
    )


def sum_squared_error(y: Any, t: Any) -> Any:
    """0.5 sum (y - t)^2, over everything.

    >>> y = dp.asarray([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0], dtype="float64")
    >>> round(sum_squared_error(y, one_hot_labels(2, y)).item(), 12)
    0.0975
    """
    return 0.5 * dp.sum((dp.asarray(y) - t) ** 2)


mean_squared_error = sum_squared_error  # its name in the first edition


def cross_entropy_error(y: Any, t: Any) -> Any:
    """Mean of -log(y_t + 1e-7) for probabilities y (rows, classes) or (classes,): the book's form; see the top.

    >>> y = dp.asarray([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0], dtype="float64")
    >>> cross_entropy_error(y, 2)
    Tensor(0.51082546, dtype=float64)
    """
    y = dp.asarray(y)
    labels = one_hot_labels(t, y)
    rows = y.size // y.shape[-1]
    return -dp.sum(labels * dp.log(y + EPS)) / rows


def softmax_loss(scores: Any, t: Any) -> Any:
    """The book's loss of scores: cross_entropy_error of their softmax."""
    return cross_entropy_error(softmax(scores), t)


def cross_entropy_with_logits(scores: Any, t: Any) -> Any:
    """Mean of logsumexp(scores) - scores_t for scores (rows, classes) or (classes,): what the chapters train on.

    >>> cross_entropy_with_logits(dp.asarray([[0.0, 100.0]]), dp.asarray([0])).item()
    100.0
    """
    scores = dp.asarray(scores)
    of_the_label = dp.sum(scores * one_hot_labels(t, scores), axis=-1)
    return dp.mean(dp.logsumexp(scores, axis=-1) - of_the_label)
