"""Functions between layers, element by element, beside ``dp.relu``, ``dp.sigmoid``, ``dp.tanh`` and ``dp.softplus``.

Where one has a kink, its derivative there is the one from the left, as it is for ``relu``.
"""

from __future__ import annotations

import math
from typing import Any

from ..array.statistics import softplus
from ..ir.trace import function
from ..ops.elementary import erf
from ..ops.elementwise import abs_, expm1, sigmoid, where

__all__ = ["elu", "gelu", "identity", "leaky_relu", "log_sigmoid", "selu", "silu", "softsign"]


def identity(x: Any, /) -> Any:
    """x itself.

    >>> identity(3)
    3
    """
    return x


@function
def leaky_relu(x: Any, /, *, slope: float = 0.01) -> Any:
    """x where it is positive, slope x elsewhere.

    >>> import defnpy as dp
    >>> dp.nn.leaky_relu(dp.asarray([-2.0, 3.0]), slope=0.5)
    Tensor([-1.,  3.], dtype=float32)
    """
    return where(x > 0, x, slope * x)


@function
def elu(x: Any, /, *, alpha: float = 1.0) -> Any:
    """x where it is positive, alpha (exp(x) - 1) elsewhere.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.nn.elu(dp.asarray([-1.0, 2.0])).tolist()]
    [-0.6321, 2.0]
    """
    # Where x is positive its exponential may overflow, and 0 times infinity would be the gradient.
    return where(x > 0, x, alpha * expm1(where(x > 0, 0.0, x)))


@function
def selu(x: Any, /) -> Any:
    """elu scaled so that activations keep mean 0 and variance 1: Klambauer and others 2017.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.nn.selu(dp.asarray([-1.0, 2.0])).tolist()]
    [-1.1113, 2.1014]
    """
    return 1.0507009873554805 * elu(x, alpha=1.6732632423543772)


@function
def gelu(x: Any, /) -> Any:
    """x Φ(x), Φ being the normal distribution function: Hendrycks and Gimpel 2016, in the exact form.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.nn.gelu(dp.asarray([-1.0, 2.0])).tolist()]
    [-0.1587, 1.9545]
    """
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@function
def silu(x: Any, /) -> Any:
    """x sigmoid(x), also called swish.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.nn.silu(dp.asarray([-1.0, 2.0])).tolist()]
    [-0.2689, 1.7616]
    """
    return x * sigmoid(x)


@function
def softsign(x: Any, /) -> Any:
    """x / (1 + abs(x)).

    >>> import defnpy as dp
    >>> dp.nn.softsign(dp.asarray([-1.0, 3.0]))
    Tensor([-0.5 ,  0.75], dtype=float32)
    """
    return x / (1 + abs_(x))


@function
def log_sigmoid(x: Any, /) -> Any:
    """The logarithm of the sigmoid, accurate where that is tiny.

    >>> import defnpy as dp
    >>> dp.nn.log_sigmoid(dp.asarray([-1000.0, 1000.0]))
    Tensor([-1000.,    -0.], dtype=float32)
    """
    return -softplus(-x)
