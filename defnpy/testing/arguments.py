"""Arguments of a function under test: widened to float64, moved along a direction, as tensors again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import DTypeError, IndexingError
from ..ir.trace import aval_of
from ..tensor import wrap
from ..transforms.stage import is_tensor

__all__ = [
    "NOTHING",
    "STEPS",
    "TOLERANCES",
    "beside",
    "converted",
    "inner_product",
    "movable",
    "moved",
    "random_like",
    "sampled",
    "size_of",
    "tensors",
]


# The step that balances truncation against rounding, the cube root of eps, relative to the size of an argument, and
# what is left of both, relative to the derivative.
STEPS = {"float64": 6e-6, "float32": 5e-3}
TOLERANCES = {"float64": 1e-5, "float32": 2e-2}

NOTHING = "no derivative"  # in a direction or a cotangent, at the place of a leaf that has none


def random_like(rng: np.random.Generator, value: Any) -> Any:
    """Normal numbers in the shape and dtype of a float tensor; NOTHING for any other leaf."""
    if not is_tensor(value) or aval_of(value).dtype.kind != "f":
        return NOTHING
    return rng.standard_normal(aval_of(value).shape).astype(aval_of(value).dtype)


def tensors(args: list[Any]) -> list[Any]:
    """The arguments with tensors in place of arrays."""
    return [tree.map(lambda x: wrap(np.array(x)) if is_tensor(x) else x, arg) for arg in args]


def moved(args: list[Any], direction: list[Any], step: float) -> list[Any]:
    """The arguments a step further in a direction, in their own dtypes."""
    return tree.map(lambda x, d: x if d is NOTHING else x + x.dtype.type(step) * d, args, direction)


def beside(values: Any, gradients: Any) -> list[tuple[Any, Any]]:
    """Each leaf beside its gradient."""
    leaves, structure = tree.flatten(tuple(values))
    whole: Any = structure
    return list(zip(leaves, whole.flatten_up_to(tuple(gradients)), strict=True))


def inner_product(gradient: Any, direction: Any) -> float:
    """The derivative along a direction, from a gradient."""
    moved = [(g, d) for d, g in beside(direction, gradient) if d is not NOTHING]
    return float(sum(float(np.sum(np.asarray(g) * d)) for g, d in moved))


def size_of(value: Any) -> Any:
    """In proportion to what each element is moved: their root mean square (1 where all are zero), or its own magnitude
    where that is far smaller, unless it is a rounding error beside the others."""
    x = np.abs(np.asarray(value, np.float64))
    finite = x[np.isfinite(x)]
    largest = float(finite.max(initial=0.0))
    if not largest:
        return np.ones(x.shape)
    typical = largest * math.sqrt(float(np.mean((finite / largest) ** 2)))
    return np.where((x > 1e-12 * typical) & (x < 1e-3 * typical), x, typical)


def converted(arg: Any, dtype: np.dtype[Any], *, integers: bool) -> Any:
    """An argument with writeable arrays: floats (and integers that are differentiated) in ``dtype``."""

    def convert(leaf: Any) -> Any:
        if not is_tensor(leaf):
            return leaf
        array = np.array(leaf)
        return array.astype(dtype) if array.dtype.kind == "f" or (integers and array.dtype.kind in "iu") else array

    return tree.map(convert, arg)


def movable(
    function: Callable[..., Any], args: Sequence[Any], numbers: Sequence[int], dtype: np.dtype[Any]
) -> list[Any]:
    """The arguments with floats in ``dtype``, and with integers in it, too, among those that are differentiated, unless
    the function needs them as integers: as indices, as a random key."""
    plain = [converted(arg, dtype, integers=False) for arg in args]
    if not any(is_tensor(x) and x.dtype.kind in "iu" for n in numbers for x in tree.leaves(plain[n])):
        return plain
    moving = [converted(arg, dtype, integers=i in numbers) for i, arg in enumerate(args)]
    try:
        function(*tensors(moving))
    except (DTypeError, IndexingError):
        return plain
    return moving


def sampled(rng: np.random.Generator, size: int, samples: int | None) -> np.ndarray[Any, Any]:
    """So many of the flat indices of ``size`` elements, in order; all where ``samples`` is None or enough for them."""
    if samples is None or samples >= size:
        return np.arange(size)
    return np.sort(rng.choice(size, samples, replace=False))
