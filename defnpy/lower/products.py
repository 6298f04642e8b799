"""Matrix products over strided memory: what a BLAS call needs to know, behind every view that BLAS can follow."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import shapes
from ..ir.expr import Expr
from ..ops.contract import free_axes
from .views import FLAT_VIEWS, VIEWS, viewed

__all__ = ["Arrangement", "Matrix", "Product", "arrange", "product", "strided"]

_FLOATS = ("float32", "float64")
DEEP = 32  # numbers in a sum that is worth a matrix product of its own
IN_PLACE, COPIED, ORDERED = 0, 1, 2  # an operand as it lies, its view copied (below reshapes), or copied in our order
_LOOSE = (*VIEWS, "constant", "iota")  # what need not lie in memory

Groups = tuple[shapes.Axes, ...]  # the axes of an operand: outer pairs, inner pairs, then those of the matrix


@dataclass(frozen=True)
class Matrix:
    """An operand in memory: element (p, q, i, j) lies at ``offset + p * stack + q * inner + i * leading + j`` of the
    buffer of ``base``, i and j exchanged when ``transposed``; all counted in elements."""

    base: Expr
    offset: int
    stack: int
    inner: int
    leading: int
    transposed: bool


@dataclass(frozen=True)
class Product:
    """``node[p, q] = left[p, q] @ right[p, q]`` for a grid of (m, k) and (k, n) matrices; the result is contiguous.

    summed: ``node[p]`` is the sum over q of the products.
    """

    node: Expr
    left: Matrix
    right: Matrix
    outer: int
    inner: int
    summed: bool
    m: int
    n: int
    k: int

    @property
    def batch(self) -> int:
        """How many pairs of matrices there are."""
        return self.outer * self.inner

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.n * self.k


@dataclass(frozen=True)
class Arrangement:
    """How a contraction becomes products of matrices.

    left: outer pairs, inner pairs, rows, contracted axes. right: outer and inner pairs, contracted axes, columns.
    summed: the inner pairs are contracted axes too. copies: what must be done to each operand (``IN_PLACE`` ...).
    """

    left: Groups
    right: Groups
    summed: bool
    copies: tuple[int, int] = (IN_PLACE, IN_PLACE)


def product(node: Expr, place: Collection[Expr]) -> Product | None:
    """The BLAS call of a contraction, or None where BLAS cannot do it: integers, empty or scattered operands."""
    left, right = node.args
    for plan in _arrangements(node):
        a, b = _matrix(left, plan.left, place), _matrix(right, plan.right, place)
        if a and b:
            (outer, inner, m, k), n = _extents(left, plan.left), _extents(right, plan.right)[3]
            if max(m, n, k, a.leading, b.leading) < 2**31:  # what BLAS can count
                return Product(node, a, b, outer, inner, plan.summed, m, n, k)
    return None


def arrange(node: Expr) -> Arrangement | None:
    """The way to compute a contraction by BLAS that copies least; None where there is no way."""
    left, right = node.args
    if all(x.ndim <= 2 and x.op.name not in _LOOSE for x in node.args) and len(node.kwargs["contract"][0]) < 2:
        return next(_arrangements(node), None)  # matrices in memory of their own

    def cost(plan: Arrangement) -> tuple[int, int]:
        pairs = zip(node.args, plan.copies, strict=True)
        return sum(x.size for x, copy in pairs if copy), sum(copy == ORDERED for copy in plan.copies)

    found = [
        Arrangement(p.left, p.right, p.summed, (_copy(left, p.left), _copy(right, p.right)))
        for p in _arrangements(node)
    ]
    return min(found, key=cost, default=None)


def _arrangements(node: Expr) -> Iterator[Arrangement]:
    """All batch axes, or all but the first ones, as inner pairs; or the first contracted ones, summed."""
    left, right = node.args
    contract, batch = node.kwargs["contract"], node.kwargs["batch"]
    rows = free_axes(left.ndim, contract[0], batch[0])
    columns = free_axes(right.ndim, contract[1], batch[1])
    if str(node.dtype) not in _FLOATS or 0 in (left.size, right.size):
        return
    for s in range(len(batch[0]), -1, -1):
        yield Arrangement(
            (batch[0][:s], batch[0][s:], rows, contract[0]), (batch[1][:s], batch[1][s:], contract[1], columns), False
        )
    for s in range(1, len(contract[0])):
        if _extents(left, (contract[0][s:],))[0] >= DEEP:
            first = (batch[0], contract[0][:s], rows, contract[0][s:])
            yield Arrangement(first, (batch[1], contract[1][:s], contract[1][s:], columns), True)


def _extents(operand: Expr, groups: Groups) -> tuple[int, ...]:
    return tuple(shapes.size(tuple(operand.shape[a] for a in axes)) for axes in groups)


def _copy(operand: Expr, groups: Groups) -> int:
    """What must be done to an operand before BLAS can read it."""
    if _matrix(operand, groups, set()):
        return IN_PLACE
    base = viewed(operand, FLAT_VIEWS)
    copied = base.op.name in _LOOSE and _matrix(operand, groups, {base})
    return COPIED if copied else ORDERED


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
        if step.op.name != "reshape":
            seen = step.op.body(seen, **step.kwargs)
            continue
        try:
            seen = np.reshape(seen, step.kwargs["shape"], copy=False)
        except ValueError:
            return None
    return node, seen, start.__array_interface__["data"][0]


def _matrix(operand: Expr, groups: Groups, place: Collection[Expr]) -> Matrix | None:
    found = strided(operand, place)
    if found is None or (found[0].op.name in ("constant", "iota") and found[0] not in place):
        return None
    base, seen, origin = found
    try:
        stacked = np.reshape(seen.transpose(sum(groups, ())), _extents(operand, groups), copy=False)
    except ValueError:
        return None
    offset = stacked.__array_interface__["data"][0] - origin
    outer, inner, down, along = stacked.strides
    rows, columns = stacked.shape[2:]
    for transposed, leading, step, width, lines in (
        (False, down, along, columns, rows),
        (True, along, down, rows, columns),
    ):
        if step != 1 and width != 1:
            continue
        leading = max(width, 1) if lines == 1 else leading
        if leading >= width:
            return Matrix(base, offset, outer, inner, leading, transposed)
    return None
