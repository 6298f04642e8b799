"""How far predictions are from their targets: functions to one number, the mean over the examples.

Shapes must be equal: (N,) against (N, 1) would broadcast to (N, N) and train something else without a word. Each takes
``reduce``, the function that makes one number of the examples' losses; with ``reduce=None`` they come one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..array.creation import one_hot
from ..array.statistics import logsumexp, mean, softplus
from ..errors import DTypeError, Mismatch
from ..ir.aval import Aval
from ..ir.trace import aval_of, function
from ..ops.elementwise import abs_, log, where
from ..ops.linear import sum_

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "huber",
    "kl_divergence",
    "mean_absolute_error",
    "mean_squared_error",
]

Reduce = Callable[[Any], Any] | None


@function
def cross_entropy(logits: Any, labels: Any, /, *, reduce: Reduce = mean) -> Any:
    """-log(softmax(logits)) of the label, computed as logsumexp(z) - z[label], which neither overflows nor rounds to 0.

    logits: (..., classes), the scores before a softmax. labels: integers (...), below the number of classes, or floats
    of the logits' shape: the probability of each class, rows that sum to 1.

    >>> import defnpy as dp
    >>> logits = dp.asarray([[0.0, 0.0], [0.0, 100.0]])
    >>> dp.nn.cross_entropy(logits, dp.asarray([0, 0]), reduce=None)
    Tensor([  0.6931472, 100.       ], dtype=float32)
    >>> dp.nn.cross_entropy(logits, dp.asarray([[0.5, 0.5], [0.0, 1.0]])).item() == dp.log(2.0).item() / 2
    True
    """
    z, t = aval_of(logits), aval_of(labels)
    if not z.shape:
        raise Mismatch("the logits have no axis of classes")
    if t.dtype.kind in "iu":
        if t.shape != z.shape[:-1]:
            raise Mismatch(
                f"integer labels have the shape of the logits without the classes, {z.shape[:-1]}",
                hint=_label_hint(z, t),
            )
        labels = one_hot(labels, z.shape[-1], dtype=z.dtype if z.dtype.kind == "f" else None)
    elif t.dtype.kind != "f":
        raise Mismatch("labels are integers, or floats in the logits' shape", error=DTypeError)
    else:
        _equal(z, t, "labels that are floats have the shape of the logits")
    return _reduced(logsumexp(logits, axis=-1) - sum_(logits * labels, axis=-1), reduce)


def _label_hint(z: Aval, t: Aval) -> str:
    if t.shape == (*z.shape[:-1], 1):
        return "take the axis of size 1 away: labels[..., 0]"
    if t.shape == z.shape:
        return "rows with a single 1 are floats here: labels.astype('float32')"
    return ""


@function
def binary_cross_entropy(logits: Any, labels: Any, /, *, reduce: Reduce = mean) -> Any:
    """-t log(s) - (1 - t) log(1 - s) of s = sigmoid(logits), computed from the logits as softplus(z) - t z.

    labels: of the logits' shape, 0 or 1 or between.

    >>> import defnpy as dp
    >>> dp.nn.binary_cross_entropy(dp.asarray([0.0, 500.0]), dp.asarray([1.0, 0.0]), reduce=None)
    Tensor([  0.6931472, 500.       ], dtype=float32)
    """
    _equal(aval_of(logits), aval_of(labels))
    return _reduced(softplus(logits) - logits * labels, reduce)


@function
def mean_squared_error(y: Any, t: Any, /, *, reduce: Reduce = mean) -> Any:
    """(y - t)², averaged over all elements. The book's sum of squares is ``reduce=lambda e: 0.5 * dp.sum(e)``.

    >>> import defnpy as dp
    >>> dp.nn.mean_squared_error(dp.asarray([1.0, 4.0]), dp.asarray([1.0, 2.0]))
    Tensor(2., dtype=float32)
    """
    _equal(aval_of(y), aval_of(t))
    return _reduced((y - t) * (y - t), reduce)


@function
def mean_absolute_error(y: Any, t: Any, /, *, reduce: Reduce = mean) -> Any:
    """|y - t|, averaged over all elements.

    >>> import defnpy as dp
    >>> dp.nn.mean_absolute_error(dp.asarray([1.0, 4.0]), dp.asarray([1.0, 2.0]))
    Tensor(1., dtype=float32)
    """
    _equal(aval_of(y), aval_of(t))
    return _reduced(abs_(y - t), reduce)


@function
def huber(y: Any, t: Any, /, *, delta: float = 1.0, reduce: Reduce = mean) -> Any:
    """Half the squared error up to ``delta``, and beyond it the line that goes on: large errors pull no harder.

    >>> import defnpy as dp
    >>> dp.nn.huber(dp.asarray([0.5, 9.0]), dp.asarray([0.0, 0.0]), reduce=None)
    Tensor([0.125, 8.5  ], dtype=float32)
    """
    _equal(aval_of(y), aval_of(t))
    error = abs_(y - t)
    return _reduced(where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta)), reduce)


@function
def kl_divergence(log_p: Any, q: Any, /, *, reduce: Reduce = mean) -> Any:
    """sum(q (log q - log p)) over the last axis, where q and p are probabilities: 0 where they agree.

    log_p: logarithms, of ``dp.log_softmax`` for one. q: of the same shape; where it is 0 the term is 0.

    >>> import defnpy as dp
    >>> q = dp.asarray([0.5, 0.5, 0.0])
    >>> round(dp.nn.kl_divergence(dp.log_softmax(dp.zeros(3)), q).item(), 4)
    0.4055
    """
    _equal(aval_of(log_p), aval_of(q))
    return _reduced(sum_(q * (log(where(q > 0, q, 1.0)) - log_p), axis=-1), reduce)


def _equal(y: Aval, t: Aval, rule: str = "predictions and targets have equal shapes: none is broadcast") -> None:
    if y.shape != t.shape:
        one = (*t.shape, 1) == y.shape or (*y.shape, 1) == t.shape
        raise Mismatch(rule, hint="take the axis of size 1 away: y[..., 0]" if one else "")


def _reduced(each: Any, reduce: Reduce) -> Any:
    return each if reduce is None else reduce(each)
