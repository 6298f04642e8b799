"""Matrix products over strided memory: what a BLAS call needs to know, with every view that BLAS can follow followed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import shapes
from ..ir.expr import Expr
from ..ops.contract import free_axes
from .fuse import VIEWS

__all__ = ["Matrix", "Product", "product", "strided"]

_FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Matrix:
    """An operand in memory: element (b, i, j) lies at ``offset + b * stack + i * leading + j`` of the buffer of ``base``,
    i and j exchanged when ``transposed``; all counted in elements."""

    base: Expr
    offset: int
    stack: int
    leading: int
    transposed: bool


@dataclass(frozen=True)
class Product:
    """``node[b] = left[b] @ right[b]`` for ``batch`` pairs of (m, k) and (k, n) matrices; the result is contiguous."""

    node: Expr
    left: Matrix
    right: Matrix
    batch: int
    m: int
    n: int
    k: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.n * self.k


def product(node: Expr, place: Collection[Expr]) -> Product | None:
    """The BLAS call of a contraction, or None where BLAS cannot do it: integers, empty or scattered operands."""
    left, right = node.args
    if str(node.dtype) not in _FLOATS:
        return None
    contract, batch = node.kwargs["contract"], node.kwargs["batch"]
    rows = free_axes(left.ndim, contract[0], batch[0])
    columns = free_axes(right.ndim, contract[1], batch[1])
    count = shapes.size(tuple(left.shape[a] for a in batch[0]))
    m = shapes.size(tuple(left.shape[a] for a in rows))
    n = shapes.size(tuple(right.shape[a] for a in columns))
    k = shapes.size(tuple(left.shape[a] for a in contract[0]))
    if 0 in (count, m, n, k) or max(m, n, k) >= 2**31:
        return None
    a = _matrix(left, batch[0] + rows + contract[0], (count, m, k), place)
    b = _matrix(right, batch[1] + contract[1] + columns, (count, k, n), place)
    return Product(node, a, b, count, m, n, k) if a and b else None


def strided(node: Expr, place: Collection[Expr]) -> tuple[Expr, Any, int] | None:
    """The node whose memory is read, ``node`` as a strided array in it, and the address of the memory's first element.

    The array is never read: its bytes stand for elements, and it carries shape, strides and place only. None where a
    reshape mixes what a view took apart.
    """
    chain = []
    while node.op.name in VIEWS and node not in place:
        chain.append(node)
        node = node.args[0]
    start = np.empty(1, np.uint8)
    strides = [shapes.size(node.shape[a + 1 :]) for a in range(node.ndim)]
    seen = np.lib.stride_tricks.as_strided(start, node.shape, strides)
    for step in reversed(chain):
        params = step.kwargs
        if step.op.name == "permute_dims":
            seen = seen.transpose(params["axes"])
        elif step.op.name == "broadcast_to":
            seen = np.broadcast_to(seen, params["shape"])
        elif step.op.name == "slice":
            parts = zip(params["starts"], params["stops"], params["steps"], strict=True)
            seen = seen[tuple(slice(*part) for part in parts)]
        elif step.op.name == "flip":
            seen = np.flip(seen, params["axis"])
        elif step.op.name == "reshape":
            try:
                seen = np.reshape(seen, params["shape"], copy=False)
            except ValueError:
                return None
    return node, seen, start.__array_interface__["data"][0]


def _matrix(operand: Expr, order: shapes.Axes, shape: tuple[int, int, int], place: Collection[Expr]) -> Matrix | None:
    found = strided(operand, place)
    if found is None or found[0].op.name in ("constant", "iota"):
        return None
    base, seen, origin = found
    try:
        stacked = np.reshape(seen.transpose(order), shape, copy=False)
    except ValueError:
        return None
    offset = stacked.__array_interface__["data"][0] - origin
    stack, down, along = stacked.strides
    _, rows, columns = shape
    for transposed, leading, inner, width, lines in (
        (False, down, along, columns, rows),
        (True, along, down, rows, columns),
    ):
        if inner != 1 and width != 1:
            continue
        leading = max(width, 1) if lines == 1 else leading
        if leading >= width:
            return Matrix(base, offset, stack, leading, transposed)
    return None
