"""Functions that rearrange elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DType, as_dtype, promote_weak
from ..errors import Mismatch
from ..ir.expr import Value
from ..ir.trace import aval_of, function
from ..ops import linear
from ..ops.convert import astype as _astype
from ..ops.gather import gather


@function
def astype(x: Any, dtype: Any, /) -> Any:
    """Convert to another dtype, element by element.

    Float to integer truncates towards zero and has gradient 0; casts between floats have the identity.

    >>> import defnpy as dp
    >>> dp.astype(dp.asarray([1.7, -1.7]), "int64")
    Tensor([ 1, -1], dtype=int64)
    """
    return _astype(x, dtype=dtype)


@function
def result_type(*operands: Any) -> DType:
    """The dtype that tensors, dtypes and Python numbers have together; numbers never widen.

    >>> import defnpy as dp
    >>> dp.result_type(dp.float32, dp.ones(2, dtype="float64"), 1.5)
    dtype('float64')
    """
    strong: list[DType] = []
    weak: list[DType] = []
    for operand in operands:
        if isinstance(operand, (Value, np.ndarray, np.generic, bool, int, float)):
            aval = aval_of(operand)
            (weak if aval.weak else strong).append(aval.dtype)
        else:
            strong.append(as_dtype(operand))
    if not strong:
        raise Mismatch("needs a tensor or a dtype", hint="Python numbers take the dtype of what they meet")
    return promote_weak(strong, weak)[0]


@function
def reshape(x: Any, /, shape: int | Sequence[int]) -> Any:
    """The same elements in row-major order under another shape; one size may be -1.

    >>> import defnpy as dp
    >>> dp.reshape(dp.arange(6), (2, -1))
    Tensor([[0, 1, 2],
            [3, 4, 5]], dtype=int64)
    """
    return linear.reshape(x, shape=shape)


@function
def ravel(x: Any, /) -> Any:
    """All elements in one axis, row by row.

    >>> import defnpy as dp
    >>> dp.ravel(dp.ones((2, 3))).shape
    (6,)
    """
    return linear.reshape(x, shape=(-1,))


@function
def permute_dims(x: Any, /, axes: Sequence[int]) -> Any:
    """The axes in another order: axis ``i`` of the result is axis ``axes[i]`` of ``x``.

    >>> import defnpy as dp
    >>> dp.permute_dims(dp.ones((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return linear.permute_dims(x, axes=tuple(axes))


@function
def transpose(x: Any, /, axes: Sequence[int] | None = None) -> Any:
    """:func:`permute_dims`, by default with the axes in reverse order.

    >>> import defnpy as dp
    >>> dp.transpose(dp.ones((2, 3, 4))).shape
    (4, 3, 2)
    """
    ndim = len(aval_of(x).shape)
    return linear.permute_dims(x, axes=tuple(range(ndim))[::-1] if axes is None else tuple(axes))


@function
def matrix_transpose(x: Any, /) -> Any:
    """The last two axes swapped.

    >>> import defnpy as dp
    >>> dp.matrix_transpose(dp.ones((5, 2, 3))).shape
    (5, 3, 2)
    """
    ndim = len(aval_of(x).shape)
    if ndim < 2:
        raise Mismatch("a matrix has two axes")
    return linear.permute_dims(x, axes=(*range(ndim - 2), ndim - 1, ndim - 2))


@function
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int], /) -> Any:
    """Axes moved to other places; the others keep their order.

    >>> import defnpy as dp
    >>> dp.moveaxis(dp.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    ndim = len(aval_of(x).shape)
    sources = [shapes.normalize_axis(a, ndim) for a in ((source,) if isinstance(source, int) else source)]
    targets = [
        shapes.normalize_axis(a, ndim) for a in ((destination,) if isinstance(destination, int) else destination)
    ]
    if len(sources) != len(targets):
        raise Mismatch(f"{len(sources)} axes cannot move to {len(targets)} places")
    order = [a for a in range(ndim) if a not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return linear.permute_dims(x, axes=tuple(order))


@function
def broadcast_to(x: Any, /, shape: int | Sequence[int]) -> Any:
    """``x`` repeated along new axes and along axes of size 1.

    >>> import defnpy as dp
    >>> dp.broadcast_to(dp.asarray([1, 2]), (2, 2))
    Tensor([[1, 2],
            [1, 2]], dtype=int64)
    """
    return linear.broadcast_to(x, shape=shape)


@function
def broadcast_arrays(*xs: Any) -> list[Any]:
    """All tensors in their common shape.

    >>> import defnpy as dp
    >>> [x.shape for x in dp.broadcast_arrays(dp.ones((2, 1)), dp.ones(3))]
    [(2, 3), (2, 3)]
    """
    shape = shapes.broadcast(*[aval_of(x).shape for x in xs])
    return [linear.broadcast_to(x, shape=shape) for x in xs]


@function
def expand_dims(x: Any, /, axis: int | Sequence[int] = 0) -> Any:
    """New axes of size 1 at the places ``axis`` of the result.

    >>> import defnpy as dp
    >>> dp.expand_dims(dp.ones((2, 3)), 1).shape
    (2, 1, 3)
    """
    shape = aval_of(x).shape
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    places = shapes.normalize_axes(axes, len(shape) + len(axes))
    sizes = iter(shape)
    return linear.reshape(x, shape=tuple(1 if a in places else next(sizes) for a in range(len(shape) + len(axes))))


@function
def squeeze(x: Any, /, axis: int | Sequence[int] | None = None) -> Any:
    """Without axes of size 1: those named, or all of them.

    >>> import defnpy as dp
    >>> dp.squeeze(dp.ones((1, 2, 1)), 0).shape
    (2, 1)
    """
    shape = aval_of(x).shape
    if axis is None:
        axes = tuple(a for a, n in enumerate(shape) if n == 1)
    else:
        axes = shapes.normalize_axes(axis, len(shape))
    for a in axes:
        if shape[a] != 1:
            raise Mismatch(f"axis {a} has size {shape[a]}, not 1")
    return linear.reshape(x, shape=shapes.reduce(shape, axes))


@function
def flip(x: Any, /, *, axis: int | Sequence[int] | None = None) -> Any:
    """The elements in reverse order along ``axis`` (int, tuple, None for all).

    >>> import defnpy as dp
    >>> dp.flip(dp.asarray([1, 2, 3]))
    Tensor([3, 2, 1], dtype=int64)
    """
    return linear.flip(x, axis=axis)


@function
def concat(xs: Sequence[Any], /, *, axis: int | None = 0) -> Any:
    """Tensors joined along an existing axis; with ``axis=None`` they are flattened first.

    >>> import defnpy as dp
    >>> dp.concat([dp.asarray([1, 2]), dp.asarray([3])])
    Tensor([1, 2, 3], dtype=int64)
    """
    if not xs:
        raise Mismatch("needs at least one tensor")
    if axis is None:
        return linear.concat_(*[ravel(x) for x in xs], axis=0)
    return linear.concat_(*xs, axis=axis)


@function
def stack(xs: Sequence[Any], /, *, axis: int = 0) -> Any:
    """Tensors of one shape joined along a new axis; numbers count as 0-d tensors.

    >>> import defnpy as dp
    >>> dp.stack([dp.asarray([1, 2]), dp.asarray([3, 4])], axis=1)
    Tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    if not xs:
        raise Mismatch("needs at least one tensor")
    avals = [aval_of(x) for x in xs]
    if any(a.shape != avals[0].shape for a in avals):
        raise Mismatch(f"shapes differ: {', '.join(str(a.shape) for a in avals)}")
    place = shapes.normalize_axis(axis, len(avals[0].shape) + 1)
    return linear.concat_(*[expand_dims(x, place) for x in xs], axis=place)


@function
def roll(x: Any, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Any:
    """Elements moved ``shift`` places along ``axis``; those that fall off the end come back at the front.

    Several axes have a shift each, or one for all. ``axis=None`` rolls the elements in row-major order.

    >>> import defnpy as dp
    >>> dp.roll(dp.arange(4), 1)
    Tensor([3, 0, 1, 2], dtype=int64)
    """
    shape = aval_of(x).shape
    if axis is None:
        return linear.reshape(roll(ravel(x), shift, axis=0), shape=shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    if len(axes) == 1:
        shifts = (sum(shifts),)
    if len(shifts) != len(axes):
        raise Mismatch(f"{len(shifts)} shifts for {len(axes)} axes")
    for places, along in zip(shifts, axes, strict=True):
        along = shapes.normalize_axis(along, len(shape))
        cut = (-places) % shape[along] if shape[along] else 0
        if cut:
            front, back = _halves(x, cut, along)
            x = linear.concat_(back, front, axis=along)
    return x


def _halves(x: Any, cut: int, axis: int) -> tuple[Any, Any]:
    """The first ``cut`` elements along the axis, and the others."""
    shape = aval_of(x).shape
    none, steps = (0,) * len(shape), (1,) * len(shape)
    middle = tuple(cut if a == axis else 0 for a in range(len(shape)))
    end = tuple(cut if a == axis else n for a, n in enumerate(shape))
    return linear.slice_(x, starts=none, stops=end, steps=steps), linear.slice_(
        x, starts=middle, stops=shape, steps=steps
    )


@function
def swapaxes(x: Any, /, first: int, second: int) -> Any:
    """Two axes in each other's place.

    >>> import defnpy as dp
    >>> dp.swapaxes(dp.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    ndim = len(aval_of(x).shape)
    order = list(range(ndim))
    a, b = shapes.normalize_axis(first, ndim), shapes.normalize_axis(second, ndim)
    order[a], order[b] = b, a
    return linear.permute_dims(x, axes=tuple(order))


@function
def tile(x: Any, /, repetitions: int | Sequence[int]) -> Any:
    """``x`` laid side by side, so many times along each of the last axes; new axes in front where there are more.

    >>> import defnpy as dp
    >>> dp.tile(dp.asarray([1, 2]), (2, 2))
    Tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]], dtype=int64)
    """
    shape = aval_of(x).shape
    counts = (repetitions,) if isinstance(repetitions, int) else tuple(repetitions)
    ndim = max(len(shape), len(counts))
    shape, counts = (1,) * (ndim - len(shape)) + shape, (1,) * (ndim - len(counts)) + counts
    apart = tuple(n for size in shape for n in (1, size))
    whole = tuple(n for pair in zip(counts, shape, strict=True) for n in pair)
    copies = linear.broadcast_to(linear.reshape(x, shape=apart), shape=whole)
    return linear.reshape(copies, shape=tuple(c * n for c, n in zip(counts, shape, strict=True)))


@function
def repeat(x: Any, repeats: int | Sequence[int], /, *, axis: int | None = None) -> Any:
    """Each element ``repeats`` times in a row along ``axis``; ``axis=None`` repeats the elements in row-major order.

    repeats: one int for all, or one for each element of the axis; known while tracing, as the shape depends on it.

    >>> import defnpy as dp
    >>> dp.repeat(dp.asarray([1, 2]), 2)
    Tensor([1, 1, 2, 2], dtype=int64)
    """
    if axis is None:
        return repeat(ravel(x), repeats, axis=0)
    shape = aval_of(x).shape
    axis = shapes.normalize_axis(axis, len(shape))
    if isinstance(repeats, int):
        if repeats < 0:
            raise Mismatch(f"an element cannot be repeated {repeats} times")
        copies = linear.broadcast_to(expand_dims(x, axis + 1), shape=(*shape[: axis + 1], repeats, *shape[axis + 1 :]))
        return linear.reshape(copies, shape=(*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))
    if len(repeats) != shape[axis]:
        raise Mismatch(f"{len(repeats)} repeats for an axis of size {shape[axis]}")
    places = np.repeat(np.arange(shape[axis]), repeats)
    picked = gather(x, places, axes=(axis,))
    return moveaxis(picked, 0, axis)


@function
def split(x: Any, /, sections: int | Sequence[int], *, axis: int = 0) -> list[Any]:
    """Parts of ``x`` along ``axis``: so many of equal size, or cut at the given places.

    >>> import defnpy as dp
    >>> dp.split(dp.arange(5), [2, 3])
    [Tensor([0, 1], dtype=int64), Tensor([2], dtype=int64), Tensor([3, 4], dtype=int64)]
    """
    shape = aval_of(x).shape
    axis = shapes.normalize_axis(axis, len(shape))
    n = shape[axis]
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise Mismatch(f"an axis of size {n} does not split into {sections} equal parts")
        sections = [n // sections * i for i in range(1, sections)]
    parts = []
    for cut in zip((0, *sections), (*sections, n), strict=True):
        start, stop, _ = slice(*cut).indices(n)
        starts = tuple(start if a == axis else 0 for a in range(len(shape)))
        stops = tuple(max(start, stop) if a == axis else size for a, size in enumerate(shape))
        parts.append(linear.slice_(x, starts=starts, stops=stops, steps=(1,) * len(shape)))
    return parts


@function
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The parts of ``x`` along ``axis``, without that axis: what :func:`stack` joins.

    >>> import defnpy as dp
    >>> dp.unstack(dp.asarray([[1, 2], [3, 4]]))
    (Tensor([1, 2], dtype=int64), Tensor([3, 4], dtype=int64))
    """
    axis = shapes.normalize_axis(axis, len(aval_of(x).shape))
    return tuple(squeeze(part, axis) for part in split(x, x.shape[axis], axis=axis)) if x.shape[axis] else ()


@function
def pad(x: Any, /, *, low: Any = 0, high: Any = 0, interior: Any = 0, value: Any = 0) -> Any:
    """``low`` and ``high`` elements of ``value`` around each axis and ``interior`` ones between its elements.

    Each is an int for all axes or a tuple with one entry per axis; the shape grows accordingly.

    >>> import defnpy as dp
    >>> dp.pad(dp.asarray([1, 2]), low=1, high=2, interior=1)
    Tensor([0, 1, 0, 2, 0, 0], dtype=int64)
    """
    return linear.pad(x, low=low, high=high, interior=interior, value=value)
