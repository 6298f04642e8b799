"""Elementary functions beside those of ``elementwise``: further logarithms, circular and hyperbolic functions, the
error function, and the parts of a float. Each in one statement.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import bool_
from .elementwise import exp, negative, sigmoid, sqrt, where
from .families import elementwise, uniform
from .logic import equal

_REAL = uniform(-3, 3)
_POSITIVE = uniform(0.5, 3)
_UNIT = uniform(-0.9, 0.9)
_LN2, _LN10 = math.log(2), math.log(10)
_AWAY_FROM_ZERO = [
    (uniform(0.1, 3), uniform(0.1, 3)),
    (uniform(-3, -0.1), uniform(0.1, 3)),
    (uniform(-3, -0.1), uniform(-3, -0.1)),
]


@elementwise(scalar="exp2({x})", vjp=lambda g, y, x: (g * y * _LN2,), kinds="f", cases=[_REAL], cheap=False)
def exp2(x, /):
    """2 to the power x.

    >>> import defnpy as dp
    >>> dp.exp2(dp.asarray([-1.0, 0.0, 10.0]))
    Tensor([5.000e-01, 1.000e+00, 1.024e+03], dtype=float32)
    """
    return np.exp2(x)


@elementwise(scalar="log2({x})", vjp=lambda g, y, x: (g / (x * _LN2),), kinds="f", cases=[_POSITIVE], cheap=False)
def log2(x, /):
    """Logarithm to base 2: -inf at 0, NaN below.

    >>> import defnpy as dp
    >>> dp.log2(dp.asarray([0.5, 1.0, 1024.0]))
    Tensor([-1.,  0., 10.], dtype=float32)
    """
    return np.log2(x)


@elementwise(scalar="log10({x})", vjp=lambda g, y, x: (g / (x * _LN10),), kinds="f", cases=[_POSITIVE], cheap=False)
def log10(x, /):
    """Logarithm to base 10: -inf at 0, NaN below.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.log10(dp.asarray([1.0, 2.0, 1000.0])).tolist()]
    [0.0, 0.301, 3.0]
    """
    return np.log10(x)


@elementwise(
    scalar="logaddexp({x}, {y})",
    vjp=lambda g, z, x, y: (g * sigmoid(x - y), g * sigmoid(y - x)),
    kinds="f",
    cases=[_REAL],
    cheap=False,
    tame=True,
)
def logaddexp(x, y, /):
    """log(exp(x) + exp(y)), finite wherever the larger of x and y is.

    >>> import defnpy as dp
    >>> round(dp.logaddexp(dp.asarray(1000.0), 1000.0).item(), 2)
    1000.69
    """
    return np.logaddexp(x, y)


# -- circular functions and their inverses ----------------------------------------------------------------------------


@elementwise(scalar="tan({x})", vjp=lambda g, y, x: (g * (1 + y * y),), kinds="f", cases=[uniform(-1, 1)], cheap=False)
def tan(x, /):
    """Tangent of an angle in radians.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.tan(dp.asarray([0.0, 1.0])).tolist()]
    [0.0, 1.5574]
    """
    return np.tan(x)


@elementwise(
    scalar="asin({x})", vjp=lambda g, y, x: (g / sqrt((1 - x) * (1 + x)),), kinds="f", cases=[_UNIT], cheap=False
)
def asin(x, /):
    """The angle from -pi/2 to pi/2 with sine x; NaN beyond -1 and 1. Its derivative at the ends is infinite.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.asin(dp.asarray([0.0, 1.0])).tolist()]
    [0.0, 1.5708]
    """
    return np.arcsin(x)


@elementwise(
    scalar="acos({x})", vjp=lambda g, y, x: (-g / sqrt((1 - x) * (1 + x)),), kinds="f", cases=[_UNIT], cheap=False
)
def acos(x, /):
    """The angle from 0 to pi with cosine x; NaN beyond -1 and 1. Its derivative at the ends is infinite.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.acos(dp.asarray([-1.0, 0.0, 1.0])).tolist()]
    [3.1416, 1.5708, 0.0]
    """
    return np.arccos(x)


@elementwise(
    scalar="atan({x})", vjp=lambda g, y, x: (g / (1 + x * x),), kinds="f", cases=[_REAL], cheap=False, tame=True
)
def atan(x, /):
    """The angle from -pi/2 to pi/2 with tangent x.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.atan(dp.asarray([0.0, 1.0, float("inf")])).tolist()]
    [0.0, 0.7854, 1.5708]
    """
    return np.arctan(x)


def _atan2_vjp(g: Any, z: Any, y: Any, x: Any) -> Any:
    r = hypot(x, y)
    return g * (x / r) / r, -g * (y / r) / r


@elementwise(
    scalar="atan2({y}, {x})",
    vjp=_atan2_vjp,
    kinds="f",
    cases=[(_REAL, uniform(0.5, 2)), (uniform(0.5, 2), _REAL), (uniform(0.5, 2), uniform(-2, -0.5))],
    cheap=False,
)
def atan2(y, x, /):
    """The angle of the point (x, y), from -pi to pi: the sign of a zero says from which side. NaN gradient at (0, 0).

    >>> import defnpy as dp
    >>> [round(a, 4) for a in dp.atan2(dp.asarray([1.0, 0.0, -1.0]), dp.asarray([1.0, -1.0, 0.0])).tolist()]
    [0.7854, 3.1416, -1.5708]
    """
    return np.arctan2(y, x)


# -- hyperbolic functions and their inverses --------------------------------------------------------------------------


@elementwise(scalar="sinh({x})", vjp=lambda g, y, x: (g * cosh(x),), kinds="f", cases=[_REAL], cheap=False)
def sinh(x, /):
    """Hyperbolic sine.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.sinh(dp.asarray([0.0, 1.0])).tolist()]
    [0.0, 1.1752]
    """
    return np.sinh(x)


@elementwise(scalar="cosh({x})", vjp=lambda g, y, x: (g * sinh(x),), kinds="f", cases=[_REAL], cheap=False)
def cosh(x, /):
    """Hyperbolic cosine.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.cosh(dp.asarray([0.0, 1.0])).tolist()]
    [1.0, 1.5431]
    """
    return np.cosh(x)


@elementwise(
    scalar="asinh({x})", vjp=lambda g, y, x: (g / hypot(x, 1.0),), kinds="f", cases=[_REAL], cheap=False, tame=True
)
def asinh(x, /):
    """The inverse of :func:`sinh`.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.asinh(dp.asarray([0.0, 1.0])).tolist()]
    [0.0, 0.8814]
    """
    return np.arcsinh(x)


@elementwise(
    scalar="acosh({x})",
    vjp=lambda g, y, x: (g / (sqrt(x - 1) * sqrt(x + 1)),),
    kinds="f",
    cases=[uniform(1.1, 3)],
    cheap=False,
)
def acosh(x, /):
    """The number from 0 on with hyperbolic cosine x; NaN below 1. Its derivative at 1 is inf.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.acosh(dp.asarray([1.0, 2.0])).tolist()]
    [0.0, 1.317]
    """
    return np.arccosh(x)


@elementwise(scalar="atanh({x})", vjp=lambda g, y, x: (g / ((1 - x) * (1 + x)),), kinds="f", cases=[_UNIT], cheap=False)
def atanh(x, /):
    """The inverse of :func:`tanh`: infinite at -1 and 1, NaN beyond.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.atanh(dp.asarray([0.0, 0.5, 1.0])).tolist()]
    [0.0, 0.5493, inf]
    """
    return np.arctanh(x)


# -- the error function -----------------------------------------------------------------------------------------------

_SLOPE = 2 / math.sqrt(math.pi)
_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@elementwise(
    scalar="erf({x})", vjp=lambda g, y, x: (g * exp(-x * x) * _SLOPE,), kinds="f", cases=[_REAL], cheap=False, tame=True
)
def erf(x, /):
    """The error function: the integral of 2/sqrt(pi) exp(-t²) from 0 to x.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.erf(dp.asarray([-1.0, 0.0, 1.0])).tolist()]
    [-0.8427, 0.0, 0.8427]
    """
    x = np.asarray(x)
    return _erf(x).astype(x.dtype)


@elementwise(
    scalar="erfc({x})",
    vjp=lambda g, y, x: (-g * exp(-x * x) * _SLOPE,),
    kinds="f",
    cases=[_REAL],
    cheap=False,
    tame=True,
)
def erfc(x, /):
    """1 - erf(x), accurate far out, where erf(x) is 1.

    >>> import defnpy as dp
    >>> round(dp.erfc(dp.asarray(10.0, dtype="float64")).item() * 1e45, 4)
    2.0885
    """
    x = np.asarray(x)
    return _erfc(x).astype(x.dtype)


# -- lengths, quotients and the parts of a float ----------------------------------------------------------------------


def _hypot_vjp(g: Any, z: Any, x: Any, y: Any) -> Any:
    length = where(equal(z, 0), 1, z)
    return g * (x / length), g * (y / length)


@elementwise(
    scalar="hypot({x}, {y})",
    vjp=_hypot_vjp,
    kinds="f",
    cases=[(_REAL, uniform(0.5, 2)), (uniform(-2, -0.5), _REAL)],
    cheap=False,
    tame=True,
)
def hypot(x, y, /):
    """sqrt(x² + y²) without overflow. Its derivative at (0, 0) is taken as 0.

    >>> import defnpy as dp
    >>> dp.hypot(dp.asarray([3.0, 3e30]), dp.asarray([4.0, 4e30]))
    Tensor([5.e+00, 5.e+30], dtype=float32)
    """
    return np.hypot(x, y)


@elementwise(scalar="1 / {x}", vjp=lambda g, y, x: (-g * y * y,), kinds="f", cases=[uniform(0.5, 2), uniform(-2, -0.5)])
def reciprocal(x, /):
    """1 / x; infinite at 0, with the sign of the zero.

    >>> import defnpy as dp
    >>> dp.reciprocal(dp.asarray([2.0, -0.5]))
    Tensor([ 0.5, -2. ], dtype=float32)
    """
    return np.reciprocal(x)


@elementwise(
    scalar="copysign({x}, {y})",
    vjp=lambda g, z, x, y: (where(equal(signbit(x), signbit(y)), g, negative(g)), None),
    kinds="f",
    cases=_AWAY_FROM_ZERO,
    tame=True,
)
def copysign(x, y, /):
    """The magnitude of x with the sign of y, that of a zero or NaN too. The gradient goes to x alone.

    >>> import defnpy as dp
    >>> dp.copysign(dp.asarray([1.0, -2.0]), -0.0)
    Tensor([-1., -2.], dtype=float32)
    """
    return np.copysign(x, y)


@elementwise(
    scalar="signbit({x})",
    vjp=None,
    not_differentiable="it has no numbers to differentiate",
    kinds="f",
    out=bool_,
    cases=[_REAL],
)
def signbit(x, /):
    """Whether the sign is minus, that of a zero or NaN too.

    >>> import defnpy as dp
    >>> dp.signbit(dp.asarray([1.0, -1.0, 0.0, -0.0]))
    Tensor([False,  True, False,  True])
    """
    return np.signbit(x)


@elementwise(
    scalar="nextafter({x}, {y})",
    vjp=None,
    not_differentiable="it moves by the last bit, which has no size of its own",
    kinds="f",
    cases=[_REAL],
)
def nextafter(x, y, /):
    """The float next to x on the way to y.

    >>> import defnpy as dp
    >>> dp.nextafter(dp.asarray(1.0), 2.0) - 1.0 == dp.finfo(dp.float32).eps
    Tensor(True)
    """
    return np.nextafter(x, y)
