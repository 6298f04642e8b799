"""What must hold before differences mean anything: equal arguments give equal values; nothing is rounded coarsely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..defn import Defn
from ..dtypes import DType, as_dtype
from ..errors import GradientError
from ..ir.aval import Avals
from ..ir.expr import Expr
from ..source import quote
from ..transforms.stage import is_tensor, stage

__all__ = ["float_dtype", "name_of", "refuse_narrow", "refuse_random", "refuse_single"]


def float_dtype(dtype: Any) -> DType:
    """The dtype that a check computes in; an error where that is none of the two that there are tolerances for."""
    kind = as_dtype(dtype)
    if kind.kind != "f":
        raise GradientError(f"gradients are checked in float64 or float32, not in {kind}", hint='leave dtype="float64"')
    return kind


def refuse_single(args: Any) -> None:
    """Raise where the one argument of a function was given in place of the list of its arguments."""
    if is_tensor(args) or isinstance(args, dict):
        raise GradientError(
            "args holds the arguments of the function, one after the other; it is one of them",
            hint="put it into a list: [x]",
        )


def refuse_random(function: Any, first: Any, second: Any) -> None:
    """Raise where two results of one function for equal arguments differ: its differences would be noise."""
    for a, b in zip(tree.leaves(first), tree.leaves(second), strict=True):
        if not is_tensor(a):
            continue
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape or not np.allclose(x, y, rtol=1e-9, atol=0, equal_nan=True):
            raise GradientError(
                f"{name_of(function)} gives different values for equal arguments, {_text(x)} and {_text(y)}, so that "
                "differences would measure its randomness",
                hint="draw from a key that is an argument: dp.random.uniform(key, shape) in place of np.random",
            )


def _text(x: np.ndarray[Any, Any]) -> str:
    return f"{x[()]!s}" if x.shape == () else f"an array of sum {x.sum()}"


def refuse_narrow(function: Callable[..., Any], args: Sequence[Any], dtype: DType) -> None:
    """Raise where a function rounds what depends on its float arguments to fewer digits than ``dtype`` has."""
    inner = function.function if isinstance(function, Defn) else function
    graph = stage(inner, args, {}).graph
    active: set[Expr] = {node for node in graph.inputs[: _count(args)] if node.dtype.kind == "f"}
    for node in graph.nodes():
        if active.isdisjoint(node.args) or (node.op.vjp is None and node.op.name != "item"):
            continue
        if isinstance(node.aval, Avals):
            active.add(node)  # what it gives is read through items, nodes of their own
            continue
        if node.dtype.kind != "f":
            continue
        active.add(node)
        if node.dtype.itemsize < dtype.itemsize:
            raise GradientError(
                f"{name_of(function)} computes {node.op.name} in {node.dtype} although its arguments are {dtype}: "
                "a difference quotient divides that rounding by the step",
                where=quote(node.loc),
                hint='leave the dtype to the arguments, or pass dtype="float32" to be judged by the bound of float32',
            )


def _count(args: Sequence[Any]) -> int:
    return sum(map(is_tensor, tree.leaves(tuple(args))))


def name_of(function: Any) -> str:
    """What to call a function in a message."""
    return getattr(function, "__name__", "the function")
