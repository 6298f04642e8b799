"""Views: nodes that are never computed on their own, because their readers index through them.

The scheduler follows a :data:`Space`, which loop indexes which axis; the emitter follows the indices themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Collection

from .. import shapes
from ..ir.expr import Expr
from ..shapes import Shape
from .kernel import Index, affine

__all__ = [
    "ELSEWHERE", "FLAT_VIEWS", "VIEWS", "ZERO", "Space", "fold_kind", "folded_index", "folded_shape", "indexed",
    "mixes", "operand_axes", "operand_space", "plain", "through_one", "viewed",
]  # fmt: skip

ZERO = -1  # an index that is always 0
ELSEWHERE = -2  # an index that is no plain loop variable

Space = tuple[int, ...]  # for every axis of a value: the loop axis that indexes it, ZERO or ELSEWHERE

VIEWS = (
    "reshape",
    "permute_dims",
    "broadcast_to",
    "slice",
    "flip",
    "windows",
    "stop_grad",
    "scale_grad",
    "clip_grad",
    "after",
)
FLAT_VIEWS = ("reshape", "stop_grad", "after")  # the elements stay in their row-major places


def viewed(arg: Expr, views: tuple[str, ...], place: Collection[Expr] = frozenset()) -> Expr:
    """The node whose memory a reader sees: NumPy follows all views for library calls, a flat index only reshapes.

    A view that was computed (is in ``place``) has memory of its own.
    """
    while arg.op.name in views and arg not in place:
        arg = arg.args[0]
    return arg


# -- which loops index a value ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def plain(shape: Shape) -> Space:
    """Every axis indexed by the loop axis of its own number; axes of size 1 need no index."""
    return tuple(ZERO if n == 1 else a for a, n in enumerate(shape))


@functools.lru_cache(maxsize=4096)
def operand_space(arg: Shape, result: Shape, space: Space) -> Space:
    """How an elementwise node indexed by ``space`` indexes an operand that broadcasts to it."""
    lead = len(result) - len(arg)
    return tuple(ZERO if n == 1 else space[a + lead] for a, n in enumerate(arg))


def through_one(node: Expr, space: Space) -> tuple[Expr, Space]:
    """The operand of a view, and how it is indexed when the view is indexed by ``space``."""
    inner = node.args[0]
    if node.op.name == "permute_dims":
        return inner, tuple(space[i] for i in _inverse(node.kwargs["axes"]))
    if node.op.name == "broadcast_to":
        return inner, operand_space(inner.shape, node.shape, space)
    if node.op.name == "reshape":
        return inner, _reshaped(inner.shape, node.shape, space)
    if node.op.name == "slice":
        sizes = zip(inner.shape, node.shape, space, strict=True)
        return inner, tuple(ZERO if n == 1 else s if n == m else ELSEWHERE for n, m, s in sizes)
    if node.op.name == "flip":
        flipped = node.kwargs["axis"]
        return inner, tuple(ELSEWHERE if a in flipped and s != ZERO else s for a, s in enumerate(space))
    if node.op.name == "windows":
        lead = inner.ndim - len(node.kwargs["window"])
        slid = tuple(ZERO if n == 1 else ELSEWHERE for n in inner.shape[lead:])
        return inner, space[:lead] + slid
    return inner, space


def _inverse(axes: shapes.Axes) -> shapes.Axes:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def _reshaped(inner: Shape, outer: Shape, space: Space) -> Space:
    """Only axes of size 1 come or go in a reshape that keeps the indices apart; otherwise they mix."""
    if [n for n in inner if n != 1] != [n for n in outer if n != 1]:
        return tuple(ZERO if n == 1 else ELSEWHERE for n in inner)
    kept = iter(s for s, n in zip(space, outer, strict=True) if n != 1)
    return tuple(ZERO if n == 1 else next(kept) for n in inner)


def mixes(node: Expr) -> bool:
    """Whether a reshape mixes the indices of its operand: that must lie in memory then."""
    return ELSEWHERE in _reshaped(node.args[0].shape, node.shape, plain(node.shape))


# -- the index itself -------------------------------------------------------------------------------------------------


def indexed(node: Expr, index: tuple[Index, ...]) -> tuple[Index, ...] | None:
    """How the operand of a view is indexed when the view is indexed by ``index``; None where a reshape mixes axes."""
    inner = node.args[0]
    name, params = node.op.name, node.kwargs
    if name == "permute_dims":
        return tuple(index[i] for i in _inverse(params["axes"]))
    if name == "broadcast_to":
        lead = node.ndim - inner.ndim
        return tuple(() if n == 1 else index[a + lead] for a, n in enumerate(inner.shape))
    if name == "slice":
        moved = zip(inner.shape, index, params["starts"], params["steps"], strict=True)
        return tuple(() if n == 1 else affine(i, step, start) for n, i, start, step in moved)
    if name == "flip":
        axes = params["axis"]
        return tuple(
            affine(i, -1, n - 1) if a in axes and n != 1 else i
            for a, (n, i) in enumerate(zip(inner.shape, index, strict=True))
        )
    if name == "windows":
        slid = _slid(index, inner.ndim, params["strides"], params["dilation"])
        return tuple(() if n == 1 else i for n, i in zip(inner.shape, slid, strict=True))
    if name == "reshape":
        if [n for n in inner.shape if n != 1] != [n for n in node.shape if n != 1]:
            return None
        kept = iter(i for i, n in zip(index, node.shape, strict=True) if n != 1)
        return tuple(() if n == 1 else next(kept) for n in inner.shape)
    return index


def _slid(index: tuple[Index, ...], ndim: int, strides: shapes.Shape, dilation: shapes.Shape) -> tuple[Index, ...]:
    """The index of an array of ``ndim`` axes, from that of its windows: their places, then the place in one."""
    count = len(strides)
    lead = ndim - count
    places, inside = index[lead : lead + count], index[lead + count :]
    parts = zip(places, inside, strides, dilation, strict=True)
    return index[:lead] + tuple((*affine(at, s, 0), *affine(k, d, 0)) for at, k, s, d in parts)


# -- what a reduction folds -------------------------------------------------------------------------------------------


def fold_kind(fold: Expr) -> str:
    """What a reduction does with two numbers."""
    return "sum" if fold.op.name == "overlap_add" else fold.op.name


def operand_axes(fold: Expr) -> shapes.Axes:
    """For every axis of a reduction's operand the loop over it: in order, but windows that are added up have the loops
    over what is in a window outside, so that the innermost loop runs along an axis of the result."""
    count = fold.args[0].ndim
    if fold.op.name != "overlap_add":
        return tuple(range(count))
    spatial = len(fold.kwargs["size"])
    lead = count - 2 * spatial
    return (*range(lead), *range(lead + spatial, count), *range(lead, lead + spatial))


def folded_shape(fold: Expr) -> Shape:
    """The sizes of the loops over a reduction's operand."""
    shape = fold.args[0].shape
    return tuple(shape[a] for a in _inverse(operand_axes(fold)))


def folded_index(fold: Expr, operand: tuple[Index, ...]) -> tuple[Index, ...]:
    """Where an element of a reduction's operand goes in its result."""
    params = fold.kwargs
    if fold.op.name == "overlap_add":
        slid = _slid(operand, fold.ndim, params["strides"], params["dilation"])
        return tuple(() if n == 1 else i for n, i in zip(fold.shape, slid, strict=True))
    if params["keepdims"]:
        return tuple(() if a in params["axis"] else index for a, index in enumerate(operand))
    return tuple(index for a, index in enumerate(operand) if a not in params["axis"])
