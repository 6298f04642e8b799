"""Gradients by central differences, element by element, over containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..errors import GradientError
from ..tensor import wrap
from ..transforms.stage import is_tensor
from .arguments import converted

__all__ = ["numerical_gradient"]


def numerical_gradient(
    function: Callable[..., Any],
    *args: Any,
    h: float = 1e-4,
    argnums: int | tuple[int, ...] = 0,
    dtype: Any = "float64",
) -> Any:
    """The gradient of a scalar function by central differences, one element at a time, over containers.

    Returns the structure of the differentiated argument, like :func:`defnpy.grad`: arrays for numbers, None for other
    leaves. All float arguments are converted to ``dtype`` first; "float32" is there to show why not to use it.

    >>> import defnpy as dp
    >>> dp.testing.numerical_gradient(lambda p: dp.sum(p["x"] ** 2), {"x": dp.asarray([3.0, 4.0])})
    {'x': array([6., 8.])}
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    values = [converted(arg, np.dtype(dtype), integers=i in numbers) for i, arg in enumerate(args)]
    gradients = tuple(_difference_all(function, values, n, h) for n in numbers)
    return gradients[0] if isinstance(argnums, int) else gradients


def _difference_all(function: Callable[..., Any], values: list[Any], number: int, h: float) -> Any:
    def at(leaf: Any) -> Any:
        if not is_tensor(leaf) or leaf.dtype.kind == "b":
            return None
        result = np.empty_like(leaf)
        step = leaf.dtype.type(h)
        flat, out = leaf.reshape(-1), result.reshape(-1)
        for i in range(flat.size):
            kept = flat[i]
            flat[i] = kept + step
            above = _call(function, values)
            flat[i] = kept - step
            below = _call(function, values)
            flat[i] = kept
            out[i] = (above - below) / (2 * step)
        return result

    return tree.map(at, values[number])


def _call(function: Callable[..., Any], values: list[Any]) -> Any:
    # Tensors of their own: the arrays below are changed in place between calls.
    tensors = [tree.map(lambda x: wrap(x.copy()) if isinstance(x, np.ndarray) else x, v) for v in values]
    result = np.asarray(function(*tensors))
    if result.shape != ():
        raise GradientError(f"numerical differences need a scalar function, not one that returns shape {result.shape}")
    return result[()]
