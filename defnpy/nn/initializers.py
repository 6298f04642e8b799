"""Parameters before training: functions ``(key, shape, dtype) -> tensor``.

The size of random weights is chosen so that signals neither grow nor fade from layer to layer. ``fan_in`` and
``fan_out`` count what a unit reads and what reads an input: the rows and columns of a matrix (inputs, outputs), and for
the kernels (outputs, inputs, *window) of a convolution each number of channels times the size of the window.

"Deep Learning from Scratch" calls ``lecun_normal`` Xavier's, and ``he_normal`` He's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import random
from ..array.creation import asarray, diagonal, full
from ..array.linalg import qr
from ..array.manipulation import broadcast_to, matrix_transpose, reshape
from ..ops.elementwise import erfinv, where

__all__ = [
    "constant",
    "fans",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "zeros",
]

Shape = tuple[int, ...]
Initializer = Callable[[Any, Shape, Any], Any]


def fans(shape: Shape) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of a matrix (inputs, outputs) or of kernels (outputs, inputs, *window); see above.

    >>> fans((784, 50)), fans((30, 1, 5, 5))
    ((784, 50), (25, 750))
    """
    if len(shape) <= 2:
        return (shape[0], shape[-1]) if shape else (1, 1)
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def zeros(key: Any, shape: Shape, dtype: Any) -> Any:
    """Zeros; the key is not used.

    >>> zeros(None, (2,), "float32")
    Tensor([0., 0.], dtype=float32)
    """
    return full(shape, 0, dtype=dtype)


def ones(key: Any, shape: Shape, dtype: Any) -> Any:
    """Ones; the key is not used.

    >>> ones(None, (2,), "float32")
    Tensor([1., 1.], dtype=float32)
    """
    return full(shape, 1, dtype=dtype)


@dataclass(frozen=True)
class Chosen:
    """An initializer with its number chosen. It prints as the call that made it, and is equal to others of its kind."""

    draw: Callable[[Any, Any, Shape, Any], Any]
    number: float

    def __call__(self, key: Any, shape: Shape, dtype: Any) -> Any:
        return self.draw(self.number, key, shape, dtype)

    def __repr__(self) -> str:
        return f"{self.draw.__name__.strip('_')}({self.number:g})"


def constant(value: Any) -> Initializer:
    """The same number everywhere, or the numbers of an array that broadcasts to the shape.

    >>> constant(0.5)(None, (2,), "float32")
    Tensor([0.5, 0.5], dtype=float32)
    """
    return Chosen(_constant, value) if isinstance(value, (int, float)) else partial(_constant, value)


def _constant(value: Any, key: Any, shape: Shape, dtype: Any) -> Any:
    return broadcast_to(asarray(value, dtype=dtype), shape)


def normal(std: float = 0.01) -> Initializer:
    """The normal distribution with mean 0 and standard deviation ``std``.

    >>> import defnpy as dp
    >>> round(dp.std(normal(0.1)(dp.random.key(0), (100, 100), "float32")).item(), 2)
    0.1
    """
    return Chosen(_normal, std)


def _normal(std: float, key: Any, shape: Shape, dtype: Any) -> Any:
    return random.normal(key, shape, dtype=dtype) * std


def truncated_normal(std: float = 0.01) -> Initializer:
    """A normal distribution around 0 without what lies beyond two standard deviations, scaled so that its own is std.

    >>> import defnpy as dp
    >>> w = truncated_normal(1.0)(dp.random.key(0), (100, 100), "float32")
    >>> round(dp.std(w).item(), 1), dp.max(dp.abs(w)).item() < 2.28
    (1.0, True)
    """
    return Chosen(_truncated_normal, std)


def _truncated_normal(std: float, key: Any, shape: Shape, dtype: Any) -> Any:
    # Of the normal distribution between -2 and 2: P(|x| < 2), and the standard deviation.
    inside, deviation = math.erf(math.sqrt(2)), 0.8796256610342398
    drawn = erfinv(random.uniform(key, shape, dtype=dtype, low=-inside, high=inside))
    return drawn * (std * math.sqrt(2) / deviation)


def uniform(limit: float = 0.01) -> Initializer:
    """The uniform distribution between -limit and limit.

    >>> import defnpy as dp
    >>> dp.max(uniform(0.1)(dp.random.key(0), (100,), "float32")).item() < 0.1
    True
    """
    return Chosen(_uniform, limit)


def _uniform(limit: float, key: Any, shape: Shape, dtype: Any) -> Any:
    return random.uniform(key, shape, dtype=dtype, low=-limit, high=limit)


def glorot_normal(key: Any, shape: Shape, dtype: Any) -> Any:
    """Normal with variance 2 / (fan_in + fan_out): Glorot and Bengio 2010, for tanh and softsign.

    >>> import defnpy as dp
    >>> round(dp.std(glorot_normal(dp.random.key(0), (150, 50), "float32")).item(), 2)
    0.1
    """
    return normal(math.sqrt(2 / sum(fans(shape))))(key, shape, dtype)


def glorot_uniform(key: Any, shape: Shape, dtype: Any) -> Any:
    """Uniform with variance 2 / (fan_in + fan_out).

    >>> import defnpy as dp
    >>> round(dp.std(glorot_uniform(dp.random.key(0), (150, 50), "float32")).item(), 2)
    0.1
    """
    return uniform(math.sqrt(6 / sum(fans(shape))))(key, shape, dtype)


def orthogonal(gain: float = 1.0) -> Initializer:
    """Rows or columns, whichever are fewer, that are orthogonal and ``gain`` long: Saxe and others 2013.

    Kernels of a convolution are taken as a matrix (outputs, inputs times window). Lengths of signals stay as they are
    through many layers.

    >>> import defnpy as dp
    >>> w = orthogonal()(dp.random.key(0), (2, 3), "float64")
    >>> dp.round(w @ w.T) + 0.0
    Tensor([[1., 0.],
            [0., 1.]], dtype=float64)
    """
    return Chosen(_orthogonal, gain)


def _orthogonal(gain: float, key: Any, shape: Shape, dtype: Any) -> Any:
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = qr(random.normal(key, (max(rows, columns), min(rows, columns)), dtype=dtype))
    # The factors are unique where R's diagonal is positive, and Q then has no direction that it prefers.
    q = q * where(diagonal(r) < 0, -1.0, 1.0) * gain
    return reshape(q if rows >= columns else matrix_transpose(q), shape)


def he_normal(key: Any, shape: Shape, dtype: Any) -> Any:
    """Normal with variance 2 / fan_in: He and others 2015, for relu, which lets half of a signal through.

    >>> import defnpy as dp
    >>> round(dp.std(he_normal(dp.random.key(0), (200, 50), "float32")).item(), 2)
    0.1
    """
    return normal(math.sqrt(2 / fans(shape)[0]))(key, shape, dtype)


def he_uniform(key: Any, shape: Shape, dtype: Any) -> Any:
    """Uniform with variance 2 / fan_in.

    >>> import defnpy as dp
    >>> round(dp.std(he_uniform(dp.random.key(0), (200, 50), "float32")).item(), 2)
    0.1
    """
    return uniform(math.sqrt(6 / fans(shape)[0]))(key, shape, dtype)


def lecun_normal(key: Any, shape: Shape, dtype: Any) -> Any:
    """Normal with variance 1 / fan_in: LeCun and others 1998, for selu and the sigmoid.

    >>> import defnpy as dp
    >>> round(dp.std(lecun_normal(dp.random.key(0), (100, 50), "float32")).item(), 2)
    0.1
    """
    return normal(math.sqrt(1 / fans(shape)[0]))(key, shape, dtype)


def lecun_uniform(key: Any, shape: Shape, dtype: Any) -> Any:
    """Uniform with variance 1 / fan_in.

    >>> import defnpy as dp
    >>> round(dp.std(lecun_uniform(dp.random.key(0), (100, 50), "float32")).item(), 2)
    0.1
    """
    return uniform(math.sqrt(3 / fans(shape)[0]))(key, shape, dtype)
