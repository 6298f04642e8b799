"""Functions of the scalar dialect, each written once: branch-free code that LLVM vectorizes.

The dialect is a part of Python: assignments, arithmetic, comparisons, ``a if c else b`` (both sides are computed), loops
over numbers that are known beforehand (they are unrolled), ``if`` on such numbers, and calls of each other. A number
takes the dtype of the operand that it meets. Built in are

* ``fma copysign sqrt floor ceil trunc rint abs fmod``,
* the conversions ``float32 float64 int32 int64 uint32 uint64``, and ``as_int`` and ``as_float``: the same bits,
* for integers ``quotient`` and ``rest``, towards zero, whose divisor must not be 0, and ``ushr``, a shift that brings zeros,
* ``width``: the bits of a dtype, a known number.

A function for one dtype has it at the end of its name (``exp_f32``), one for a kind of dtypes the kind (``mod_i``).
Where there is none, the C library's function of that name is called.
"""

# The names that are built in mean nothing to Python, so no checker can follow them here.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dtypes import DType

__all__ = ["find"]


def find(name: str, dtype: DType) -> Callable[..., Any] | None:
    """The function of that name for operands of ``dtype``, or None."""
    for key in (f"{name}_{dtype.kind}{8 * dtype.itemsize}", f"{name}_{dtype.kind}", name):
        found = globals().get(key)
        if found is not None and found is not find:
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


# -- elementary functions -------------------------------------------------------------------------------------------
#
# Each is accurate to the bound in docs/mathematics.md over its whole range. The pattern is that of Cody and Waite,
# "Software manual for the elementary functions", 1980: reduce the argument by numbers split into words, with fma so that
# the large part cancels exactly; a polynomial on the small rest; put together. The coefficients are minimax (Remez) for
# the relative error of the whole function, highest power first, and stand where they are used.

_SIGN_F32 = -0x80000000


def horner(x, coefficients):
    """The polynomial with these coefficients, highest power first."""
    p = coefficients[0]
    for c in coefficients[1:]:
        p = fma(p, x, c)
    return p


def power_of_two_f32(k):
    """2**k for an int32 from -126 to 127."""
    return as_float((k + 127) << 23)


def scale_f32(x, k):
    """x 2**k for an int32 from -252 to 254, rounded once: a subnormal result is reached in the second product."""
    half = k >> 1
    return x * power_of_two_f32(half) * power_of_two_f32(k - half)


_ROUND_F32 = 12582912.0  # 1.5 * 2**23: what is added to it is rounded to an integer, which stands in the low bits
_LOG2E_F32 = 1.4426950216293335
_LN2_F32 = (0.6931471824645996, -1.9046542121259336e-09)
# (exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2
_EXP_F32 = (0.001381431706249714, 0.00836885068565607, 0.041668400168418884, 0.1666651964187622, 0.4999999403953552)
_EXPM1_F32 = (0.0013882503844797611, 0.00836664717644453, 0.04166720435023308, 0.16666541993618011, 0.4999999701976776)


def exp_f32(x):
    """NaN goes through the arithmetic."""
    x = -104.0 if x < -104.0 else x
    x = 89.0 if x > 89.0 else x
    shifted = fma(x, _LOG2E_F32, _ROUND_F32)
    n = shifted - _ROUND_F32
    r = fma(n, -_LN2_F32[1], fma(n, -_LN2_F32[0], x))
    one = r + 1
    p = one + fma(r * r, horner(r, _EXP_F32), r - (one - 1))
    return scale_f32(p, as_int(shifted) - 0x4B400000)


def expm1_f32(x):
    """2**n (1 + p) - 1 with p = expm1(r), as 2**n p + (2**n - 1)."""
    c = -18.0 if x < -18.0 else x
    c = 89.0 if c > 89.0 else c
    shifted = fma(c, _LOG2E_F32, _ROUND_F32)
    n = shifted - _ROUND_F32
    r = fma(n, -_LN2_F32[1], fma(n, -_LN2_F32[0], c))
    p = fma(r * r, horner(r, _EXPM1_F32), r)
    half = power_of_two_f32(as_int(shifted) - 0x4B400001)  # 2**(n - 1): 2**n would overflow before the result does
    return x if x == 0 else fma(half, p, half - 0.5) * 2


# (tanh(x) - x) / x**3 in x**2, for |x| <= 0.63
_TANH_F32 = (
    0.002126228529959917, -0.008159556426107883, 0.021693682298064232, -0.05394551903009415, 0.13333196938037872,
    -0.3333333134651184,
)  # fmt: skip


def tanh_f32(x):
    """A polynomial near 0, 1 - 2 / (exp(2x) + 1) further out."""
    a = abs(x)
    z = a * a
    near = fma(a * z, horner(z, _TANH_F32), a)
    far = 1 - 2 / (exp(a + a) + 1)
    return copysign(near if a < 0.625 else far, x)


def sigmoid_f(x):
    """exp of a negative number only: it never overflows, and far below 0 the result is a tiny number, not 0."""
    e = exp(-abs(x))
    d = 1 + e
    y = (1 if x >= 0 else e) / d
    return fma(y, (d - 1) - e, y)  # what the rounding of d lost; d is near 1 where that shows


# (log(1 + f) - f + f**2 / 2) / f**3 for sqrt(1/2) <= 1 + f <= sqrt(2)
_LOG_F32 = (
    0.0674668550491333, -0.11675691604614258, 0.11888162791728973, -0.12405582517385483, 0.14219552278518677,
    -0.1666799634695053, 0.2000211924314499, -0.25000009040708694, 0.3333331346511841,
)  # fmt: skip


def log_f32(x):
    """x = 2**k (1 + f)."""
    tiny = x < 1.1754943508222875e-38
    bits = as_int(x * 8388608.0 if tiny else x)
    k = (bits - 0x3F3504F3) >> 23
    f = as_float(bits - (k << 23)) - 1
    n = float32(k) - (23.0 if tiny else 0.0)
    y = fma(f * f, fma(f, horner(f, _LOG_F32), -0.5), n * _LN2_F32[1])
    y = fma(n, _LN2_F32[0], f + y)
    y = y if x < inf else x  # inf and NaN
    return y if x > 0 else (-inf if x == 0 else x - x if x != x else nan)


# -- circular functions ---------------------------------------------------------------------------------------------

_TWO_OVER_PI = 0.6366197723675814
_HALF_PI_F32 = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
_TURN_F32 = (1.462918119976564e-09, -4.070940267922164e-17)  # pi / 2 * 2**-30
# The bits of 2 / pi after 8 zeros, in words of 32.
_TWO_OVER_PI_WORDS = (0x00A2F983, 0x6E4E4415, 0x29FC2757, 0xD1F534DD, 0xC0DB6295, 0x993C4390, 0x41FE5163)


def word_u32(at, i):
    """Word at // 32 + i of 2 / pi, for at < 128."""
    two = at & 64 != 0
    odd = _TWO_OVER_PI_WORDS[i + 3] if two else _TWO_OVER_PI_WORDS[i + 1]
    even = _TWO_OVER_PI_WORDS[i + 2] if two else _TWO_OVER_PI_WORDS[i]
    return odd if at & 32 != 0 else even


def quarters_f32(x):
    """(n, r): x = n pi / 2 + r for x >= 0, n an int32 modulo 4, |r| <= pi / 4.

    Below 2**17 with a pi / 2 of three words. Above, after Payne and Hanek ("Radian reduction for trigonometric functions",
    SIGNUM 18, 1983): of x 2 / pi modulo 4 only 96 bits of 2 / pi matter, those that begin where the exponent of x says.
    """
    shifted = fma(x, _TWO_OVER_PI, _ROUND_F32)
    n = shifted - _ROUND_F32
    near = fma(n, -_HALF_PI_F32[2], fma(n, -_HALF_PI_F32[1], fma(n, -_HALF_PI_F32[0], x)))
    bits = as_int(x)
    at = uint32((bits >> 23) - 144)
    w0, w1, w2, w3 = word_u32(at, 0), word_u32(at, 1), word_u32(at, 2), word_u32(at, 3)
    left = at & 31
    right = 31 - left
    w0 = (w0 << left) | ((w1 >> 1) >> right)
    w1 = (w1 << left) | ((w2 >> 1) >> right)
    w2 = (w2 << left) | ((w3 >> 1) >> right)
    m = uint32((bits & 0x7FFFFF) | 0x800000)
    product = (uint64(m * w0) << 32) + uint64(m) * uint64(w1) + ((uint64(m) * uint64(w2)) >> 32)
    high = int32(product >> 32)
    turns = (high + 0x20000000) >> 30
    rest = high - (turns << 30)
    # In units of 2**-30: a head of 23 bits, and the 31 bits after it.
    head = float32(rest & -64)
    tail = float32(((rest & 63) << 25) | int32((product & 0xFFFFFFFF) >> 7)) * 2.9802322387695312e-08
    far = fma(head, _TURN_F32[0], fma(head, _TURN_F32[1], tail * _TURN_F32[0]))
    small = x < 131072.0
    return (as_int(shifted) if small else turns), (near if small else far)


# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2, for |r| <= pi / 4
_SIN_F32 = (2.717366669457988e-06, -0.00019839232845697552, 0.008333329111337662, -0.1666666716337204)
_COS_F32 = (2.4425680749118328e-05, -0.0013887251261621714, 0.04166664555668831)


def wave_f32(r, n):
    """sin(n pi / 2 + r)."""
    z = r * r
    s = fma(r * z, horner(z, _SIN_F32), r)
    c = fma(z * z, horner(z, _COS_F32), fma(z, -0.5, 1.0))
    y = s if n & 1 == 0 else c
    return as_float(as_int(y) ^ (n >> 1 << 31))


def sin_f32(x):
    """NaN at infinity."""
    n, r = quarters_f32(abs(x))
    y = wave_f32(r, n)
    y = as_float(as_int(y) ^ (as_int(x) & _SIGN_F32))
    return y if abs(x) < inf else x - x


def cos_f32(x):
    """NaN at infinity."""
    n, r = quarters_f32(abs(x))
    y = wave_f32(r, n + 1)
    return y if abs(x) < inf else x - x


# -- random bits ----------------------------------------------------------------------------------------------------


def threefry2x32(k0, k1, c0, c1, word):
    """Word 0 or 1 of the counter-based generator of Salmon et al., SC 2011, in 20 rounds."""
    keys = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
    x0 = c0 + k0
    x1 = c1 + k1
    for group in range(5):
        for turns in (17, 29, 16, 24) if group % 2 else (13, 15, 26, 6):
            x0 = x0 + x1
            x1 = ((x1 << turns) | (x1 >> (32 - turns))) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + (group + 1)
    return x0 if word == 0 else x1


_ERFINV_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


def erfinv_f(x):
    """M. Giles, "Approximating the erfinv function", GPU Computing Gems 2, 2011; then two Newton steps in float64."""
    x = float64(x)
    w = -log1p(-x * x)
    centre = w - 2.5
    tail = sqrt(w) - 3
    p = x * 0 + _ERFINV_CENTRE[0]
    q = x * 0 + _ERFINV_TAIL[0]
    for c in _ERFINV_CENTRE[1:]:
        p = c + p * centre
    for c in _ERFINV_TAIL[1:]:
        q = c + q * tail
    y = (p if w < 5 else q) * x
    for _ in range(2):
        # Far out erf(y) - x cancels; the complement does not.
        far = (1 - abs(x)) - erfc(abs(y))
        error = erf(y) - x if abs(x) < 0.5 else (far if x > 0 else -far)
        y = y - error / (1.1283791670955126 * exp(-y * y) - y * error)
    y = x * 0.88622692545275801365 if abs(x) < 1e-10 else y
    return x * inf if abs(x) == 1 else y
