"""Marks: ops that return their operand and mean something beside its value."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..ir.op import Case
from .families import movement, special


@movement(
    infer=lambda x: x,
    vjp=None,
    batch=lambda batched, x: stop_grad(x),
    not_differentiable="that is what it is for: the gradient stops here",
    cases=[Case(lambda rng, dtype: [rng.standard_normal((2,)).astype(dtype)])],
)
def stop_grad(x, /):
    """``x``, treated as a constant by every derivative.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: x * dp.stop_grad(x))(3.0)
    Tensor(3., dtype=float32)
    """
    return np.asarray(x)


@special(
    family="effect",
    normalize=lambda x, *, label="": {"label": str(label)},
    infer=lambda x, *, label: x,
    vjp=lambda g, y, x, *, label: (g,),
    jvp=lambda tangents, y, x, *, label: tangents[0],
    batch=lambda batched, x, *, label: print_value(x, label=label),
    cases=[Case(lambda rng, dtype: [rng.standard_normal((2,)).astype(dtype)], {"label": "x"})],
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
