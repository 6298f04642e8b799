"""Random numbers from explicit keys: the same key gives the same numbers, on every backend, always.

A key is a uint32 tensor of shape (2,). Bits come from Threefry-2x32 applied to the position of each element, so that
any element can be computed alone. For equal keys bits, split, fold_in, uniform on [0, 1) and 32- and 64-bit randint
equal those of ``jax.random`` (its partitionable mode); normal numbers agree to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import shapes
from .dtypes import DEFAULT_FLOAT, DEFAULT_INT, as_dtype, uint32, uint64
from .errors import DTypeError, Mismatch
from .ir.expr import Value
from .ir.trace import aval_of, function
from .ops import linear
from .ops.convert import astype, cast
from .ops.create import threefry2x32
from .ops.elementwise import erfinv, maximum, multiply
from .ops.logic import bitwise_or, bitwise_right_shift, bitwise_xor

__all__ = ["bits", "fold_in", "key", "normal", "randint", "split", "uniform"]

_LOW = 0xFFFFFFFF


@function
def key(seed: Any, /) -> Any:
    """A key from an integer seed (Python int or integer tensor, 64 bits of it).

    >>> import defnpy as dp
    >>> dp.random.key(7)
    Tensor([0, 7], dtype=uint32)
    """
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        words = np.array([(int(seed) >> 32) & _LOW, int(seed) & _LOW], np.uint32)
        return linear.concat_(*[linear.reshape(w, shape=(1,)) for w in words], axis=0)
    return _words(seed)


def _words(value: Any) -> Any:
    """The two 32-bit halves of an integer, high one first."""
    aval = aval_of(value)
    if aval.dtype.kind not in "iu" or aval.shape != ():
        raise Mismatch(f"a seed is one integer, not {aval}", error=DTypeError)
    wide = cast(value, uint64)
    high = astype(bitwise_right_shift(wide, np.uint64(32)), dtype=uint32)
    return linear.concat_(
        linear.reshape(high, shape=(1,)), linear.reshape(astype(wide, dtype=uint32), shape=(1,)), axis=0
    )


def _parts(key: Any) -> tuple[Any, Any]:
    if not isinstance(key, (Value, np.ndarray)) or key.dtype != uint32 or key.shape != (2,):
        shown = aval_of(key) if isinstance(key, (Value, np.ndarray)) else repr(key)
        raise Mismatch(
            f"a key is a u32[2] tensor, not {shown}", hint="make one with dp.random.key(seed)", error=DTypeError
        )
    return tuple(linear.reshape(linear.slice_(key, starts=(i,), stops=(i + 1,), steps=(1,)), shape=()) for i in (0, 1))


@function
def fold_in(key: Any, data: Any, /) -> Any:
    """A new key from a key and an integer, a step number for one; equal inputs give equal keys.

    >>> import defnpy as dp
    >>> dp.random.fold_in(dp.random.key(7), 1)
    Tensor([ 195045567, 4062205631], dtype=uint32)
    """
    # Like JAX, the integer counts by its lower 32 bits.
    counter = cast(int(data) & _LOW, uint32) if isinstance(data, (int, np.integer)) else astype(data, dtype=uint32)
    first, second = _parts(key)
    words = [threefry2x32(first, second, np.uint32(0), counter, word=w) for w in (0, 1)]
    return linear.concat_(*[linear.reshape(w, shape=(1,)) for w in words], axis=0)


def _counters(shape: shapes.Shape) -> tuple[Any, Any]:
    """Each element's position in row-major order, as two 32-bit words."""
    total = shapes.size(shape)
    if total > 2**32:
        raise Mismatch(f"{total} random numbers from one key are more than 2**32", hint="split the key")
    # Positions below 2**32 need no high word; beyond, 64-bit arithmetic would be needed.
    return np.uint32(0), linear.iota(shape=shape, axis=None, dtype=uint32)


@function
def split(key: Any, count: int = 2, /) -> Any:
    """``count`` independent keys: a uint32 tensor of shape (count, 2). Index it, or unpack it outside of traced code.

    >>> import defnpy as dp
    >>> first, second = dp.random.split(dp.random.key(7))
    >>> first
    Tensor([3625411723, 1954958720], dtype=uint32)
    """
    high, low = _counters((count,))
    first, second = _parts(key)
    words = [threefry2x32(first, second, high, low, word=w) for w in (0, 1)]
    return linear.concat_(*[linear.reshape(w, shape=(count, 1)) for w in words], axis=1)


@function
def bits(key: Any, shape: Any = (), /, *, dtype: Any = uint32) -> Any:
    """Random bits as uint32 (or uint64, uint16, uint8) numbers of ``shape``.

    >>> import defnpy as dp
    >>> dp.random.bits(dp.random.key(7), (2,))
    Tensor([2895194379, 4185947648], dtype=uint32)
    """
    target = as_dtype(dtype)
    if target.kind != "u":
        raise Mismatch(f"bits are unsigned integers, not {target}", error=DTypeError)
    shape = shapes.as_shape(shape)
    first, second = _parts(key)
    high, low = _counters(shape)
    words = [linear.broadcast_to(threefry2x32(first, second, high, low, word=w), shape=shape) for w in (0, 1)]
    if target == uint64:
        return bitwise_or(cast(words[0], uint64) << np.uint64(32), cast(words[1], uint64))
    return cast(bitwise_xor(words[0], words[1]), target)


@function
def uniform(key: Any, shape: Any = (), /, *, dtype: Any = DEFAULT_FLOAT, low: Any = 0.0, high: Any = 1.0) -> Any:
    """Floats spread evenly over [low, high), on a grid of 2**-23 (float32) or 2**-52 (float64) of the width.

    >>> import defnpy as dp
    >>> dp.random.uniform(dp.random.key(7), (2,))
    Tensor([0.6740899, 0.9746169], dtype=float32)
    """
    target = as_dtype(dtype)
    if target.kind != "f":
        raise Mismatch(f"uniform numbers are floats, not {target}", hint="use dp.random.randint", error=DTypeError)
    mantissa = 23 if target.itemsize == 4 else 52
    width = 8 * target.itemsize
    word = np.dtype(f"uint{width}")
    drawn = bitwise_right_shift(bits(key, shape, dtype=word), word.type(width - mantissa))
    unit = multiply(astype(drawn, dtype=target), target.type(2.0**-mantissa))
    low, high = cast(low, target), cast(high, target)
    return maximum(unit * (high - low) + low, low)


@function
def normal(key: Any, shape: Any = (), /, *, dtype: Any = DEFAULT_FLOAT) -> Any:
    """Floats of the standard normal distribution: sqrt(2) erfinv(u) with u uniform on (-1, 1).

    >>> import defnpy as dp
    >>> [round(x, 4) for x in dp.random.normal(dp.random.key(7), (2,)).tolist()]
    [0.4512, 1.9535]
    """
    target = as_dtype(dtype)
    if target.kind != "f":
        raise Mismatch(f"normal numbers are floats, not {target}", error=DTypeError)
    above = float(np.nextafter(target.type(-1), target.type(0)))
    return multiply(erfinv(uniform(key, shape, dtype=target, low=above, high=1.0)), target.type(math.sqrt(2)))


@function
def randint(key: Any, shape: Any, low: Any, high: Any, /, *, dtype: Any = DEFAULT_INT) -> Any:
    """Integers spread evenly over [low, high): int64 by default, int32 draws half the bits.

    ``low`` and ``high`` are Python ints or integer tensors; where high <= low the result is low.

    >>> import defnpy as dp
    >>> dp.random.randint(dp.random.key(7), (3,), 0, 10, dtype="int32")
    Tensor([9, 2, 0], dtype=int32)
    """
    target = as_dtype(dtype)
    if target.kind not in "iu":
        raise Mismatch(f"randint draws integers, not {target}", error=DTypeError)
    width = max(8 * target.itemsize, 32)  # fewer bits would not be spread evenly over a wide span
    word = np.dtype(f"uint{width}")
    first = split(key)
    draws = [
        bits(
            linear.reshape(linear.slice_(first, starts=(i, 0), stops=(i + 1, 2), steps=(1, 1)), shape=(2,)),
            shape,
            dtype=word,
        )
        for i in (0, 1)
    ]
    low, high = cast(low, target), cast(high, target)
    span = maximum(_difference(low, high, word), word.type(1))
    # Two words give a number far wider than the span, so that its remainder is even to within 2**-width.
    half = word.type(2 ** (width // 2)) % span
    multiplier = (half * half) % span
    offset = ((draws[0] % span) * multiplier + draws[1] % span) % span
    return cast(low, target) + cast(offset, target)


def _difference(low: Any, high: Any, word: Any) -> Any:
    """``high - low``, 0 where that is negative, as an unsigned number."""
    if isinstance(high, Value) or isinstance(low, Value):
        return cast(maximum(high, low), word) - cast(low, word)
    return word.type(max(int(high) - int(low), 0))
