"""What rules look for in a graph, and how they put things back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.expr import Expr
from ..ops.convert import astype
from ..ops.linear import broadcast_to

__all__ = ["fitted", "is_count", "is_number", "number"]


def number(node: Expr) -> Any:
    """The number that a node is, or repeats in every element, as a NumPy scalar; else None."""
    if node.op.name == "broadcast_to":
        node = node.args[0]
    if node.op.name == "astype" and node.dtype == node.args[0].dtype:
        node = node.args[0]  # a Python number: a constant, marked as weak
    return node.kwargs["value"].value if node.op.name == "constant" else None


def is_number(node: Expr, wanted: float, *, negative_zero: bool = False) -> bool:
    """Whether a node is that number; zero has a sign."""
    value = number(node)
    return value is not None and value == wanted and bool(np.signbit(value)) == (wanted < 0 or negative_zero)


def is_count(value: Any) -> bool:
    """Whether a number could be that of the elements of a mean."""
    return value is not None and value.dtype.kind == "f" and value >= 3 and bool(np.isfinite(value)) and value % 1 == 0


def fitted(kept: Any, node: Expr) -> Any:
    """``kept`` in the shape of ``node``, which it is to replace, and as weak as that; None where its dtype differs."""
    if kept.dtype != node.dtype:
        return None
    if kept.shape != node.shape:
        kept = broadcast_to(kept, shape=node.shape)
    return kept if kept.aval.weak == node.aval.weak else astype(kept, dtype=node.dtype, weak=node.aval.weak)
