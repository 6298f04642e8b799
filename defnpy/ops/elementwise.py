"""The elementwise primitives, each in one statement.

Conventions at kinks: abs'(0) = 0, relu'(0) = 0, the gradient of a tie of maximum or minimum is split evenly, clip
passes the gradient on the closed interval. NaN passes through maximum, minimum, relu and clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import bool_
from ..errors import DTypeError, Mismatch
from ..ir.op import Op
from ..ir.trace import aval_of
from .convert import one_dtype
from .families import elementwise, uniform
from .logic import equal, logical_and, logical_not, logical_or

_FLAT = "it is flat almost everywhere"
_REAL = uniform(-3, 3)
_INTEGER = uniform(-5, 6, "i")
_NATURAL = uniform(1, 6, "u")


@elementwise(scalar="{x} + {y}", vjp=lambda g, z, x, y: (g, g), cases=[_REAL, _INTEGER], tame=True)
def add(x, y, /):
    """Sum, element by element; shapes broadcast, dtypes promote.

    >>> import defnpy as dp
    >>> dp.add(dp.asarray([1.0, 2.0]), 0.5)
    Tensor([1.5, 2.5], dtype=float32)
    """
    return np.add(x, y)


@elementwise(scalar="{x} - {y}", vjp=lambda g, z, x, y: (g, -g), cases=[_REAL, _INTEGER], tame=True)
def subtract(x, y, /):
    """Difference, element by element; shapes broadcast, dtypes promote.

    >>> import defnpy as dp
    >>> dp.subtract(dp.asarray([1.0, 2.0]), dp.asarray([[1.0], [2.0]]))
    Tensor([[ 0.,  1.],
            [-1.,  0.]], dtype=float32)
    """
    return np.subtract(x, y)


@elementwise(scalar="{x} * {y}", vjp=lambda g, z, x, y: (g * y, g * x), cases=[_REAL, _INTEGER], tame=True)
def multiply(x, y, /):
    """Product, element by element; shapes broadcast, dtypes promote.

    >>> import defnpy as dp
    >>> dp.multiply(dp.asarray([1, 2, 3]), 2)
    Tensor([2, 4, 6], dtype=int64)
    """
    return np.multiply(x, y)


@elementwise(
    scalar="{x} / {y}",
    vjp=lambda g, z, x, y: (g / y, -g * z / y),
    kinds="f",
    cases=[(_REAL, uniform(0.5, 2)), (_REAL, uniform(-2, -0.5))],
)
def divide(x, y, /):
    """Quotient, element by element; integers are divided as floats. Division by zero gives inf or NaN.

    >>> import defnpy as dp
    >>> dp.divide(dp.asarray([1, 2]), 4)
    Tensor([0.25, 0.5 ], dtype=float32)
    """
    return np.divide(x, y)


@elementwise(
    scalar="floordiv({x}, {y})",
    vjp=None,
    not_differentiable=_FLAT,
    cases=[(_REAL, uniform(0.5, 2, smooth=False)), (_INTEGER, _NATURAL)],
)
def floor_divide(x, y, /):
    """Quotient rounded down, element by element. An integer divided by zero gives 0.

    >>> import defnpy as dp
    >>> dp.floor_divide(dp.asarray([7, -7]), 2)
    Tensor([ 3, -4], dtype=int64)
    """
    return np.floor_divide(x, y)


@elementwise(
    scalar="mod({x}, {y})",
    vjp=lambda g, z, x, y: (g, -g * floor_divide(x, y)),
    cases=[(uniform(0.1, 0.9), uniform(1, 2)), (uniform(-0.9, -0.1), uniform(1, 2)), (_INTEGER, _NATURAL)],
)
def remainder(x, y, /):
    """Remainder of :func:`floor_divide`, with the sign of the divisor, as Python's ``%``.

    The derivative with respect to the divisor is ``-floor(x / y)``.

    >>> import defnpy as dp
    >>> dp.remainder(dp.asarray([7.0, -7.0]), 3.0)
    Tensor([1., 2.], dtype=float32)
    """
    return np.remainder(x, y)


def _pow_vjp(g: Any, z: Any, x: Any, y: Any) -> Sequence[Any]:
    # y x^(y-1), where y = 0 must give 0 at x = 0 too; and x^y log x, where 0^y has derivative 0.
    dx = where(equal(y, 0), 0, y * pow_(x, where(equal(y, 0), 1, y - 1)))
    dy = z * log(where(equal(x, 0), 1, x))
    return g * dx, g * dy


@elementwise(
    scalar="pow({x}, {y})",
    vjp=_pow_vjp,
    cases=[(uniform(0.5, 2), uniform(-2, 2)), (_INTEGER, uniform(0, 4, "i"))],
    cheap=False,
)
def pow_(x, y, /):
    """Power, element by element. An integer to a negative integer power is an error; make one of them a float.

    At x = 0 the derivative with respect to the exponent is 0.

    >>> import defnpy as dp
    >>> dp.pow(dp.asarray([1.0, 2.0, 3.0]), 2)
    Tensor([1., 4., 9.], dtype=float32)
    """
    if np.result_type(x, y).kind in "iu" and np.any(np.less(y, 0)):
        raise Mismatch(
            "an integer to a negative power is no integer",
            hint="make the base a float: x.astype(float)",
            error=DTypeError,
        )
    return np.power(x, y)


@elementwise(scalar="-{x}", vjp=lambda g, y, x: (-g,), cases=[_REAL, _INTEGER], tame=True)
def negative(x, /):
    """The number with its sign changed.

    >>> import defnpy as dp
    >>> dp.negative(dp.asarray([1.0, -2.0]))
    Tensor([-1.,  2.], dtype=float32)
    """
    return np.negative(x)


@elementwise(
    scalar="abs({x})",
    vjp=lambda g, y, x: (g * sign(x),),
    cases=[uniform(0.1, 3), uniform(-3, -0.1), _INTEGER],
    tame=True,
)
def abs_(x, /):
    """Absolute value. Its derivative at 0 is taken as 0.

    >>> import defnpy as dp
    >>> dp.abs(dp.asarray([-1.5, 2.0]))
    Tensor([1.5, 2. ], dtype=float32)
    """
    return np.abs(x)


@elementwise(
    scalar="1 if {x} > 0 else (-1 if {x} < 0 else (0 if {x} == 0 else {x}))",
    vjp=None,
    not_differentiable=_FLAT,
    cases=[_REAL, _INTEGER],
    tame=True,
)
def sign(x, /):
    """-1, 0 or 1; NaN for NaN.

    >>> import defnpy as dp
    >>> dp.sign(dp.asarray([-3.0, 0.0, 2.0]))
    Tensor([-1.,  0.,  1.], dtype=float32)
    """
    return np.sign(x)


@elementwise(scalar="exp({x})", vjp=lambda g, y, x: (g * y,), kinds="f", cases=[_REAL], cheap=False)
def exp(x, /):
    """e to the power x.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.exp(dp.asarray([0.0, 1.0])).tolist()]
    [1.0, 2.7183]
    """
    return np.exp(x)


@elementwise(scalar="expm1({x})", vjp=lambda g, y, x: (g * exp(x),), kinds="f", cases=[_REAL], cheap=False)
def expm1(x, /):
    """exp(x) - 1, accurate near 0.

    >>> import defnpy as dp
    >>> dp.expm1(dp.asarray(1e-10, dtype="float64"))
    Tensor(1.e-10, dtype=float64)
    """
    return np.expm1(x)


@elementwise(scalar="log({x})", vjp=lambda g, y, x: (g / x,), kinds="f", cases=[uniform(0.5, 3)], cheap=False)
def log(x, /):
    """Natural logarithm: -inf at 0, NaN below.

    >>> import defnpy as dp
    >>> dp.log(dp.asarray([1.0, 0.0]))
    Tensor([  0., -inf], dtype=float32)
    """
    return np.log(x)


@elementwise(scalar="log1p({x})", vjp=lambda g, y, x: (g / (x + 1),), kinds="f", cases=[uniform(-0.5, 3)], cheap=False)
def log1p(x, /):
    """log(1 + x), accurate near 0.

    >>> import defnpy as dp
    >>> dp.log1p(dp.asarray(1e-10, dtype="float64"))
    Tensor(1.e-10, dtype=float64)
    """
    return np.log1p(x)


@elementwise(scalar="sqrt({x})", vjp=lambda g, y, x: (g / (y * 2),), kinds="f", cases=[uniform(0.5, 3)])
def sqrt(x, /):
    """Square root; NaN below 0. Its derivative at 0 is inf.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.sqrt(dp.asarray([4.0, 2.0])).tolist()]
    [2.0, 1.4142]
    """
    return np.sqrt(x)


@elementwise(scalar="sin({x})", vjp=lambda g, y, x: (g * cos(x),), kinds="f", cases=[_REAL], cheap=False, tame=True)
def sin(x, /):
    """Sine of an angle in radians.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.sin(dp.asarray([0.0, 1.0])).tolist()]
    [0.0, 0.8415]
    """
    return np.sin(x)


@elementwise(scalar="cos({x})", vjp=lambda g, y, x: (-g * sin(x),), kinds="f", cases=[_REAL], cheap=False, tame=True)
def cos(x, /):
    """Cosine of an angle in radians.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.cos(dp.asarray([0.0, 1.0])).tolist()]
    [1.0, 0.5403]
    """
    return np.cos(x)


@elementwise(
    scalar="tanh({x})", vjp=lambda g, y, x: (g * (1 - y * y),), kinds="f", cases=[_REAL], cheap=False, tame=True
)
def tanh(x, /):
    """Hyperbolic tangent.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.tanh(dp.asarray([0.0, 1.0])).tolist()]
    [0.0, 0.7616]
    """
    return np.tanh(x)


@elementwise(
    scalar="sigmoid({x})", vjp=lambda g, y, x: (g * y * (1 - y),), kinds="f", cases=[_REAL], cheap=False, tame=True
)
def sigmoid(x, /):
    """The logistic function 1 / (1 + exp(-x)), accurate and finite at both ends.

    >>> import defnpy as dp
    >>> dp.sigmoid(dp.asarray([-200.0, 0.0, 200.0]))
    Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    e = np.exp(np.where(x < 0, x, -x))
    return np.where(x < 0, e, np.ones_like(e)) / (e + 1)


@elementwise(
    scalar="{x} if {x} > 0 or {x} != {x} else 0",
    vjp=lambda g, y, x: (where(x > 0, g, 0),),
    cases=[uniform(0.1, 3), uniform(-3, -0.1), _INTEGER],
    tame=True,
)
def relu(x, /):
    """max(x, 0); its derivative at 0 is taken as 0, NaN stays NaN.

    >>> import defnpy as dp
    >>> dp.relu(dp.asarray([-1.0, 2.0]))
    Tensor([0., 2.], dtype=float32)
    """
    return np.maximum(x, np.zeros((), np.asarray(x).dtype))


def _half_of_ties(g: Any, chosen: Any, x: Any, y: Any) -> Any:
    return where(chosen, where(equal(x, y), g * 0.5, g), 0)


@elementwise(
    scalar="maximum({x}, {y})",
    vjp=lambda g, z, x, y: (_half_of_ties(g, x >= y, x, y), _half_of_ties(g, y >= x, x, y)),
    cases=[(uniform(0.1, 1), uniform(-1, -0.1)), (uniform(-1, -0.1), uniform(0.1, 1)), _INTEGER],
    tame=True,
)
def maximum(x, y, /):
    """The larger of two numbers; NaN if either is NaN. The gradient of a tie is split evenly.

    >>> import defnpy as dp
    >>> dp.maximum(dp.asarray([1.0, 5.0]), 3.0)
    Tensor([3., 5.], dtype=float32)
    """
    return np.maximum(x, y)


@elementwise(
    scalar="minimum({x}, {y})",
    vjp=lambda g, z, x, y: (_half_of_ties(g, x <= y, x, y), _half_of_ties(g, y <= x, x, y)),
    cases=[(uniform(0.1, 1), uniform(-1, -0.1)), (uniform(-1, -0.1), uniform(0.1, 1)), _INTEGER],
    tame=True,
)
def minimum(x, y, /):
    """The smaller of two numbers; NaN if either is NaN. The gradient of a tie is split evenly.

    >>> import defnpy as dp
    >>> dp.minimum(dp.asarray([1.0, 5.0]), 3.0)
    Tensor([1., 3.], dtype=float32)
    """
    return np.minimum(x, y)


def _clip_vjp(g: Any, z: Any, x: Any, low: Any, high: Any) -> Sequence[Any]:
    below, above = x < low, x > high
    inside = logical_not(logical_or(below, above))
    return (
        where(inside, g, 0),
        where(logical_and(below, low <= high), g, 0),
        where(logical_or(above, logical_and(below, low > high)), g, 0),
    )


@elementwise(
    scalar="minimum(maximum({x}, {low}), {high})",
    vjp=_clip_vjp,
    cases=[
        (uniform(-1, 1), uniform(-3, -2), uniform(2, 3)),
        (uniform(-1, 1), uniform(2, 3), uniform(4, 5)),
        (uniform(-1, 1), uniform(-5, -4), uniform(-3, -2)),
        _INTEGER,
    ],
    tame=True,
)
def clip(x, low, high, /):
    """x limited to [low, high]; where low > high the result is high. NaN stays NaN.

    The gradient goes to x on the closed interval, to the bound that was taken outside of it.

    >>> import defnpy as dp
    >>> dp.clip(dp.asarray([-2.0, 0.5, 2.0]), 0.0, 1.0)
    Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    return np.minimum(np.maximum(x, low), high)


def _condition_first(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    condition, *branches = args
    aval = aval_of(condition)
    if aval.dtype != bool_:
        raise Mismatch(f"the condition is {aval}, not bool", hint="compare first: x != 0", error=DTypeError)
    if isinstance(condition, bool):
        condition = np.bool_(condition)
    return [condition, *one_dtype(op, branches)]


@elementwise(
    scalar="{x} if {condition} else {y}",
    vjp=lambda g, z, condition, x, y: (None, where(condition, g, 0), where(condition, 0, g)),
    kinds="biuf",
    convert=_condition_first,
    cases=[(uniform(0, 2, "b"), _REAL, _REAL), (uniform(0, 2, "b"), _INTEGER, _INTEGER)],
    tame=True,
)
def where(condition, x, y, /):
    """x where the condition holds, else y; all three broadcast.

    The branch that is not taken gets a gradient of exactly 0.

    >>> import defnpy as dp
    >>> x = dp.asarray([-1.0, 2.0])
    >>> dp.where(x > 0, x, 0)
    Tensor([0., 2.], dtype=float32)
    """
    return np.where(condition, x, y)


@elementwise(scalar="floor({x})", vjp=None, not_differentiable=_FLAT, kinds="f", cases=[_REAL], tame=True)
def floor(x, /):
    """Rounded down.

    >>> import defnpy as dp
    >>> dp.floor(dp.asarray([1.5, -1.5]))
    Tensor([ 1., -2.], dtype=float32)
    """
    return np.floor(x)


@elementwise(scalar="ceil({x})", vjp=None, not_differentiable=_FLAT, kinds="f", cases=[_REAL], tame=True)
def ceil(x, /):
    """Rounded up.

    >>> import defnpy as dp
    >>> dp.ceil(dp.asarray([1.5, -1.5]))
    Tensor([ 2., -1.], dtype=float32)
    """
    return np.ceil(x)


@elementwise(scalar="trunc({x})", vjp=None, not_differentiable=_FLAT, kinds="f", cases=[_REAL], tame=True)
def trunc(x, /):
    """Rounded towards zero.

    >>> import defnpy as dp
    >>> dp.trunc(dp.asarray([1.5, -1.5]))
    Tensor([ 1., -1.], dtype=float32)
    """
    return np.trunc(x)


@elementwise(scalar="rint({x})", vjp=None, not_differentiable=_FLAT, kinds="f", cases=[_REAL], tame=True)
def round_(x, /):
    """Rounded to the nearest integer, halves to the even one.

    >>> import defnpy as dp
    >>> dp.round(dp.asarray([0.5, 1.5, 2.6]))
    Tensor([0., 2., 3.], dtype=float32)
    """
    return np.rint(x)


# Wichura's algorithm AS 241 (Applied Statistics 37, 1988): rational approximations to the normal quantile.
_CENTRE = (
    [3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4]
    + [4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3],
    [1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3]
    + [2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3],
)
_MIDDLE = (
    [1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0]
    + [1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4],
    [1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1]
    + [1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9],
)
_TAIL = (
    [6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1]
    + [2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7],
    [1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2]
    + [7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15],
)


def _ratio(coefficients: tuple[list[float], list[float]], r: Any) -> Any:
    return np.polyval(coefficients[0][::-1], r) / np.polyval(coefficients[1][::-1], r)


@elementwise(
    scalar="erfinv({x})",
    vjp=lambda g, y, x: (g * exp(y * y) * (math.sqrt(math.pi) / 2),),
    kinds="f",
    cases=[uniform(-0.9, 0.9)],
    cheap=False,
)
def erfinv(x, /):
    """The inverse of the error function: erf(erfinv(x)) = x on (-1, 1), infinite at the ends, NaN outside.

    >>> import defnpy as dp
    >>> [round(y, 4) for y in dp.erfinv(dp.asarray([0.0, 0.5, 1.0])).tolist()]
    [0.0, 0.4769, inf]
    """
    x = np.asarray(x)
    wide = x.astype(np.float64)
    half = wide / 2  # the quantile's p - 1/2, without the rounding of forming p
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = half * _ratio(_CENTRE, 0.180625 - half * half)
        r = np.sqrt(-np.log(np.maximum((1 - np.abs(wide)) / 2, np.finfo(np.float64).tiny)))
        tail = np.copysign(np.where(r <= 5, _ratio(_MIDDLE, r - 1.6), _ratio(_TAIL, r - 5)), wide)
        result = np.where(np.abs(half) <= 0.425, centre, tail) / math.sqrt(2)
        result = np.where(np.abs(wide) < 1e-10, wide * (math.sqrt(math.pi) / 2), result)  # half would underflow
        result = np.where(np.abs(wide) < 1, result, np.where(np.abs(wide) == 1, wide * np.inf, np.nan))
    return result.astype(x.dtype)
