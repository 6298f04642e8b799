"""How much of a difference is rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..backends.reference import evaluate
from ..defn import Defn
from ..dtypes import DType
from ..ir.aval import Avals
from ..ir.expr import Graph
from ..transforms.stage import is_tensor, stage
from .arguments import size_of, tensors

__all__ = ["rounding", "rounding_inside"]

DIFFERENCES = np.array([1, -6, 15, -20, 15, -6, 1])  # of order 6: what is smooth has hardly any


def rounding(above: Any, below: Any, width: Any, dtype: DType) -> Any:
    """A bound on what the rounding of the two values does to their quotient."""
    return 4 * np.finfo(dtype).eps * (np.abs(above) + np.abs(below)) / width


def rounding_inside(function: Callable[..., Any], args: Sequence[Any], h: float, dtype: DType) -> float:
    """A bound on the rounding error of the value of a scalar function, from what happens inside.

    The value of ``(x + 1e4) - 1e4`` has lost digits that its size does not tell of. The differences of order 6 of a
    row of values tell it: those of a smooth function all but vanish (R. W. Hamming, Numerical Methods for Scientists
    and Engineers, 1973, chapter 10). A kink or a jump would be seen as well, and is none of it: so it is at most what
    some roundings of the largest number inside can make. And at least so much that the automatic derivative, along a
    direction of the size of the arguments, may be a sum of such numbers: differences of ``f(x) - f(x)`` have no error.
    """
    rng = np.random.default_rng(0)

    def value(k: int, step: float, signs: Any) -> float:
        def near(x: Any, sign: Any) -> Any:
            return x + (k * step * size_of(x) * sign).astype(x.dtype)

        return float(np.asarray(function(*tensors(tree.map(near, list(args), signs)))))

    def change(step: float) -> float:
        signs = tree.map(lambda x: rng.choice([-1.0, 1.0], np.shape(x)) if _moves(x) else None, list(args))
        row = np.array([value(k, step, signs) for k in range(-3, 4)])
        return abs(float(DIFFERENCES @ row)) / math.sqrt(DIFFERENCES @ DIFFERENCES)

    noise = max(change(h), change(h))
    if not math.isfinite(noise):  # the row leaves the domain of the function: look well within
        inside = next((k for k in range(1, 18) if math.isfinite(change(h / 8**k))), 18)
        noise = change(h / 8 ** (inside + 3))
        noise = noise if math.isfinite(noise) else 0.0
    bound = float(np.finfo(dtype).eps) * _largest_inside(function, args)
    return max(min(4 * noise, 64 * bound), 4 * h * bound)


def _moves(x: Any) -> bool:
    return is_tensor(x) and x.dtype.kind == "f"


def _largest_inside(function: Callable[..., Any], args: Sequence[Any]) -> float:
    """The largest finite number that the function computes on the way."""
    inner = function.function if isinstance(function, Defn) else function
    staged = stage(inner, tensors(list(args)), {})
    graph = staged.graph
    floats = [node for node in graph.nodes() if not isinstance(node.aval, Avals) and node.dtype.kind == "f"]
    leaves = [np.asarray(x) for x in tree.leaves(tuple(args)) if is_tensor(x)]
    values = evaluate(Graph(graph.inputs, floats), [*leaves, *map(np.asarray, staged.captured)])
    return max([float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in values], default=0.0)
