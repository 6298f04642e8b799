"""Marks: ops that return their operand and mean something beside its value."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.op import Case
from .elementwise import clip
from .families import movement, special


def _normal(rng: np.random.Generator, dtype: Any) -> list[Any]:
    return [rng.standard_normal((2,)).astype(dtype)]


@movement(
    infer=lambda x: x,
    vjp=None,
    batch=lambda batched, x: stop_grad(x),
    not_differentiable="that is what it is for: the gradient stops here",
    cases=[Case(_normal)],
)
def stop_grad(x, /):
    """``x``, treated as a constant by every derivative.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: x * dp.stop_grad(x))(3.0)
    Tensor(3., dtype=float32)
    """
    return np.asarray(x)


def _scale_normalize(x: Aval, *, factor: Any) -> dict[str, Any]:
    return {"factor": float(factor)}


@movement(
    normalize=_scale_normalize,
    infer=lambda x, *, factor: x,
    vjp=lambda g, y, x, *, factor: (g * factor,),
    jvp=lambda tangents, y, x, *, factor: tangents[0] * factor,
    batch=lambda batched, x, *, factor: scale_grad(x, factor=factor),
    cases=[Case(_normal, {"factor": -0.5}, smooth=False), Case(_normal, {"factor": 1.0})],
)
def scale_grad(x, /, *, factor):
    """``x``, whose derivative is ``factor`` times what it would be: for -1 the gradient is reversed.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: dp.scale_grad(x, factor=10.0) ** 2)(3.0)
    Tensor(60., dtype=float32)
    """
    return np.asarray(x)


def _clip_normalize(x: Aval, *, low: Any, high: Any) -> dict[str, Any]:
    if not low <= high:
        raise Mismatch(f"there is nothing between low = {low} and high = {high}")
    return {"low": float(low), "high": float(high)}


@movement(
    normalize=_clip_normalize,
    infer=lambda x, *, low, high: x,
    vjp=lambda g, y, x, *, low, high: (clip(g, low, high),),
    jvp=lambda tangents, y, x, *, low, high: tangents[0],
    batch=lambda batched, x, *, low, high: clip_grad(x, low=low, high=high),
    cases=[Case(_normal, {"low": -1e6, "high": 1e6})],  # narrower ones make the two modes differ, as they should
)
def clip_grad(x, /, *, low, high):
    """``x``, whose gradient is limited to [low, high], element by element, on the way back through here.

    Only cotangents are limited: a tangent, going forwards, is no gradient and passes as it is.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: dp.sum(dp.clip_grad(x, low=-1, high=1) ** 2))(dp.asarray([0.25, -3.0]))
    Tensor([ 0.5, -1. ], dtype=float32)
    """
    return np.asarray(x)


@special(
    family="effect",
    normalize=lambda x, *, label="": {"label": str(label)},
    infer=lambda x, *, label: x,
    vjp=lambda g, y, x, *, label: (g,),
    jvp=lambda tangents, y, x, *, label: tangents[0],
    batch=lambda batched, x, *, label: print_value(x, label=label),
    cases=[Case(_normal, {"label": "x"})],
    effect=True,
)
def print_value(x, /, *, label=""):
    """Print the value when the program runs, and return it. It is printed even when nobody uses the result.

    Several prints come in the order in which the program made them. The text goes to standard output. Under ``vmap``
    the values of all examples are printed as one array, the batch axis first.

    >>> import defnpy as dp
    >>> @dp.defn
    ... def f(x):
    ...     dp.print_value(2 * x, label="twice")
    ...     return x
    >>> f(1.5)
    twice = 3.
    Tensor(1.5, dtype=float32)
    """
    x = np.asarray(x)
    text: Any = np.array2string(x, separator=", ")
    sys.stdout.write(f"{label} = {text}\n" if label else f"{text}\n")
    sys.stdout.flush()
    return x
