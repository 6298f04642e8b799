"""Arguments of a function under test: widened to float64, moved along a direction, as tensors again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import tree
from ..ir.trace import aval_of
from ..tensor import wrap
from ..transforms.stage import is_tensor

__all__ = ["NOTHING", "beside", "converted", "inner_product", "moved", "norm", "random_like", "tensors"]


NOTHING = "no derivative"  # in a direction or a cotangent, at the place of a leaf that has none


def random_like(rng: np.random.Generator, value: Any) -> Any:
    if not is_tensor(value) or aval_of(value).dtype.kind != "f":
        return NOTHING
    return rng.standard_normal(aval_of(value).shape)


def tensors(args: list[Any]) -> list[Any]:
    return [tree.map(lambda x: wrap(np.array(x)) if is_tensor(x) else x, arg) for arg in args]


def moved(args: list[Any], direction: list[Any], step: float) -> list[Any]:
    return tree.map(lambda x, d: x if d is NOTHING else x + step * d, args, direction)


def beside(values: Any, gradients: Any) -> list[tuple[Any, Any]]:
    """Each leaf beside its gradient."""
    leaves, structure = tree.flatten(tuple(values))
    whole: Any = structure
    return list(zip(leaves, whole.flatten_up_to(tuple(gradients)), strict=True))


def inner_product(gradient: Any, direction: Any) -> float:
    moved = [(g, d) for d, g in beside(direction, gradient) if d is not NOTHING]
    return float(sum(float(np.sum(np.asarray(g) * d)) for g, d in moved))


def norm(values: Any) -> float:
    floats = [np.asarray(x) for x in tree.leaves(values) if is_tensor(x) and aval_of(x).dtype.kind == "f"]
    return math.sqrt(sum(float(np.sum(x * x)) for x in floats))


def converted(arg: Any, dtype: np.dtype[Any], *, integers: bool) -> Any:
    """An argument with writeable arrays: floats (and integers that are differentiated) in ``dtype``."""

    def convert(leaf: Any) -> Any:
        if not is_tensor(leaf):
            return leaf
        array = np.array(leaf)
        return array.astype(dtype) if array.dtype.kind == "f" or (integers and array.dtype.kind in "iu") else array

    return tree.map(convert, arg)
