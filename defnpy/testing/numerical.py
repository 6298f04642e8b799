"""Gradients by central differences, element by element, over containers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..defn import Defn
from ..errors import GradientError
from ..tensor import wrap
from ..transforms.stage import is_tensor
from .arguments import movable
from .blocks import values_at_elements

__all__ = ["both_sides", "numerical_gradient", "value_at"]

WORTH_COMPILING = 64  # elements of a leaf; for fewer, calls of the function itself take less than another program


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

    Of a ``@defn`` function, in float64, many elements are moved at once, and only what they change is computed again
    (see ``transforms/perturb.py``). What is summed is summed in another order then: the quotients differ from those of
    one call after the other by the rounding of those sums divided by ``h``.

    >>> import defnpy as dp
    >>> dp.testing.numerical_gradient(lambda p: dp.sum(p["x"] ** 2), {"x": dp.asarray([3.0, 4.0])})
    {'x': array([6., 8.])}
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    values = movable(function, args, numbers, np.dtype(dtype))
    gradients = tuple(_gradient(function, values, n, h) for n in numbers)
    return gradients[0] if isinstance(argnums, int) else gradients


def _gradient(function: Callable[..., Any], values: list[Any], number: int, h: float) -> Any:
    leaves, structure = tree.flatten(values[number])
    quotients = [
        None if found is None else ((found[0] - found[1]) / (2 * leaf.dtype.type(h))).reshape(leaf.shape)
        for leaf, found in zip(leaves, both_sides(function, values, number, h), strict=True)
    ]
    return tree.unflatten(structure, quotients)


def both_sides(
    function: Callable[..., Any],
    values: list[Any],
    number: int,
    h: Any,
    places: Sequence[Any] | None = None,
) -> list[Any]:
    """For every leaf of argument ``number``: the function's values with one element moved up, and moved down, by h.

    Two flat arrays per leaf, one value per element; None for a leaf that has no derivative. The leaves of ``values``
    are writeable arrays (see ``converted``). h: one step, or for every leaf one, or one per element. places: for every
    leaf the flat indices of the elements, if not all.
    """
    result: list[Any] = []
    for i, leaf in enumerate(tree.leaves(values[number])):
        if not is_tensor(leaf) or leaf.dtype.kind != "f":
            result.append(None)
            continue
        flat = leaf.reshape(-1)
        chosen = np.arange(flat.size) if places is None else np.asarray(places[i], np.int64)
        step = np.broadcast_to(np.asarray(h[i] if isinstance(h, list) else h, leaf.dtype), len(chosen))
        above, below = np.full((2, len(chosen)), np.nan, leaf.dtype)
        if isinstance(function, Defn) and leaf.dtype == np.float64 and len(chosen) >= WORTH_COMPILING:
            leaf_number = sum(map(is_tensor, tree.leaves(values[:number]) + tree.leaves(values[number])[:i]))
            moved = np.concatenate([flat[chosen] + step, flat[chosen] - step])
            found = values_at_elements(function, values, leaf_number, np.tile(chosen, 2), moved)
            above, below = found.reshape(2, -1)
        # One by one, what is not known yet: where a sum overflows, its corrections say nothing.
        for position in np.flatnonzero(~(np.isfinite(above) & np.isfinite(below))):
            place = chosen[position]
            kept = flat[place]
            flat[place] = kept + step[position]
            above[position] = value_at(function, values)
            flat[place] = kept - step[position]
            below[position] = value_at(function, values)
            flat[place] = kept
        result.append((above, below))
    return result


def value_at(function: Callable[..., Any], values: list[Any]) -> Any:
    """The value of a scalar function, as a NumPy scalar."""
    # Tensors of their own: the arrays are changed in place between calls.
    tensors = [tree.map(lambda x: wrap(x.copy()) if isinstance(x, np.ndarray) else x, v) for v in values]
    result = np.asarray(function(*tensors))
    if result.shape != ():
        raise GradientError(f"numerical differences need a scalar function, not one that returns shape {result.shape}")
    return result[()]
