"""Functions of the scalar dialect, each written once: branch-free code that LLVM vectorizes.

The dialect is a part of Python: assignments, arithmetic, comparisons, ``a if c else b`` (both sides are computed),
loops over numbers that are known beforehand (they are unrolled), ``if`` on such numbers, and calls of each other. A
number takes the dtype of the operand that it meets. Built in are

* ``fma copysign sqrt floor ceil trunc rint abs fmod``,
* the conversions ``float32 float64 int32 int64 uint32 uint64``, and ``as_int`` and ``as_float``: the same bits,
* for integers ``quotient`` and ``rest``, towards zero, whose divisor must not be 0, ``ushr``, a shift that brings
  zeros, and ``rotate``, one that brings back what it takes out,
* ``width``: the bits of a dtype, a known number.

Elementary functions stand in ``exponentials``, ``angles`` and ``normal``, the rest here.

A function for one dtype has it at the end of its name (``exp_f32``), one for a kind of dtypes the kind (``mod_i``).
A name that has none for the dtype at hand cannot be compiled.
"""

# The names that are built in mean nothing to Python, so no checker can follow them here.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from ...dtypes import DType
from . import angles, exponentials, normal

__all__ = ["find"]


def find(name: str, dtype: DType) -> Callable[..., Any] | None:
    """The function of that name for operands of ``dtype``, or None."""
    for key in (f"{name}_{dtype.kind}{8 * dtype.itemsize}", f"{name}_{dtype.kind}", name):
        for names in (globals(), vars(exponentials), vars(angles), vars(normal)):
            found = names.get(key)
            if isinstance(found, FunctionType) and found is not find:
                return found
    return None


def maximum(x, y):
    """NaN if either is NaN."""
    return x if x >= y or x != x else y


def minimum(x, y):
    """NaN if either is NaN."""
    return x if x <= y or x != x else y


# -- integers: the shifts and quotients that the machine leaves open, as NumPy closes them ---------------------------


def shl(x, y):
    """x << y, 0 for a shift by more bits than there are."""
    return x << y if y >= 0 and y < width(x) else 0


def shr_i(x, y):
    """x >> y, the sign alone for a shift by more bits than there are."""
    return x >> y if y >= 0 and y < width(x) else (-1 if x < 0 else 0)


def shr_u(x, y):
    """x >> y, 0 for a shift by more bits than there are."""
    return x >> y if y < width(x) else 0


def floordiv_i(x, y):
    """Rounded down; 0 for division by 0. -x for y = -1, where the machine would trap on the smallest number."""
    safe = 1 if y == 0 or y == -1 else y
    q = quotient(x, safe)
    r = rest(x, safe)
    down = q - 1 if r != 0 and (r ^ safe) < 0 else q
    return 0 if y == 0 else (-x if y == -1 else down)


def mod_i(x, y):
    """What floordiv leaves, with the sign of y; 0 for division by 0."""
    safe = 1 if y == 0 or y == -1 else y
    r = rest(x, safe)
    return r + safe if r != 0 and (r ^ safe) < 0 else r


def floordiv_u(x, y):
    """0 for division by 0."""
    return 0 if y == 0 else quotient(x, 1 if y == 0 else y)


def mod_u(x, y):
    """0 for division by 0."""
    return rest(x, 1 if y == 0 else y)


def pow_i(x, y):
    """By squaring, once for every bit of the exponent, which is not negative."""
    result = x * 0 + 1
    for bit in range(width(x)):
        result = result * x if (y >> bit) & 1 == 1 else result
        x = x * x
    return result


def pow_u(x, y):
    """By squaring, once for every bit of the exponent."""
    return pow_i(x, y)


# -- floats ---------------------------------------------------------------------------------------------------------


def mod_f(x, y):
    """The remainder of floordiv, with the sign of y; exact."""
    r = fmod(x, y)
    moved = r + y if (r < 0) != (y < 0) else r
    return copysign(0.0 * x, y) if r == 0 else moved


def floordiv_f(x, y):
    """floor(x / y) without the rounding of the quotient; x / y for division by 0."""
    r = fmod(x, y)
    wrong = r != 0 and (r < 0) != (y < 0)
    q = (x - r) / y
    q = q - 1 if wrong else q
    whole = floor(q)
    whole = whole + 1 if q - whole > 0.5 else whole
    whole = copysign(0.0 * r, x / y) if q == 0 else whole
    return x / y if y == 0 else whole


def signbit(x):
    """Whether the sign is minus, of zeros and NaN too."""
    return as_int(x) < 0


def nextafter_f(x, y):
    """One more or less in the bits; from 0, the smallest number with the sign of y."""
    bits = as_int(x)
    bits = bits + 1 if (y > x) == (x > 0) else bits - 1
    step = copysign(as_float(as_int(x) * 0 + 1), y) if x == 0 else as_float(bits)
    step = y if x == y else step
    return step if x == x and y == y else x + y


# -- random bits ----------------------------------------------------------------------------------------------------


def threefry2x32(k0, k1, c0, c1):
    """Both words of the counter-based generator of Salmon et al., SC 2011, in 20 rounds."""
    keys = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
    x0 = c0 + k0
    x1 = c1 + k1
    for group in range(5):
        for turns in (17, 29, 16, 24) if group % 2 else (13, 15, 26, 6):
            x0 = x0 + x1
            x1 = rotate(x1, turns) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + (group + 1)
    return x0, x1
