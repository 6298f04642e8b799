"""Elements at integer positions: taken (gather), added and written. gather and scatter_add are each other's gradients:
the second half of the mathematical room whose first is linear.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..errors import DTypeError, IndexingError, Mismatch
from ..ir.aval import Aval
from ..ir.op import Case, Op
from ..ir.trace import aval_of
from .batching import everywhere, from_axis, to_axis
from .convert import cast
from .families import movement, special
from .linear import broadcast_to, iota, reshape, zeros_like


def _check_indices(x: Aval, indices: Sequence[Aval], axes: shapes.Axes) -> shapes.Shape:
    if len(indices) != len(axes):
        raise Mismatch(f"{len(indices)} index tensors for {len(axes)} axes", error=IndexingError)
    for index in indices:
        if index.dtype.kind not in "iu":
            raise Mismatch(f"an index is an integer tensor, not {index}", error=DTypeError)
        if index.shape != indices[0].shape:
            raise Mismatch("index tensors must have one shape")
    if any(x.shape[a] == 0 for a in axes) and shapes.size(indices[0].shape):
        raise Mismatch("there is nothing to index: the axis has size 0", error=IndexingError)
    return indices[0].shape


def _gather_infer(x: Aval, *indices: Aval, axes: shapes.Axes) -> Aval:
    return Aval(_check_indices(x, indices, axes) + shapes.reduce(x.shape, axes), x.dtype, x.weak)


def _indexed(x: Any, axes: shapes.Axes) -> Any:
    """A view of ``x`` with the indexed axes in front."""
    return np.moveaxis(x, axes, range(len(axes)))


def _bounded(x: Any, indices: Sequence[Any], axes: shapes.Axes) -> tuple[Any, ...]:
    for index, axis in zip(indices, axes, strict=True):
        index = np.asarray(index)
        if index.size and not (-x.shape[axis] <= int(index.min()) and int(index.max()) < x.shape[axis]):
            bad = index[(index < -x.shape[axis]) | (index >= x.shape[axis])].flat[0]
            raise shapes.out_of_bounds(int(bad), x.shape[axis], axis)
    return tuple(indices)


_index = np.array([[0, 2, -1], [2, 2, 1]])


def _own(batched: Sequence[bool], indices: Sequence[Any], axes: shapes.Axes) -> tuple[list[Any], shapes.Axes]:
    """Indices, and axes, into arrays that are batched too: along the first axis each example takes its own entry."""
    indices = everywhere(batched, indices)
    return [iota(shape=indices[0].shape), *indices], (0, *[a + 1 for a in axes])


def _gather_batch(batched: Sequence[bool], x: Any, *indices: Any, axes: shapes.Axes) -> Any:
    if not batched[0]:
        return gather(x, *everywhere(batched[1:], indices), axes=axes)
    if any(batched[1:]):
        own, axes = _own(batched[1:], indices, axes)
        return gather(x, *own, axes=axes)
    return from_axis(gather(x, *indices, axes=tuple(a + 1 for a in axes)), indices[0].ndim)


def _scatter_batch(op: Op, batched: Sequence[bool], x: Any, updates: Any, *indices: Any, axes: shapes.Axes) -> Any:
    if any(batched[2:]):
        own, axes = _own(batched[2:], indices, axes)
        x, updates = everywhere((*batched[:2], True), (x, updates, own[0]))[:2]
        return op(x, updates, *own, axes=axes)
    x, updates = everywhere(batched[:2], (x, updates))
    return op(x, to_axis(updates, indices[0].ndim), *indices, axes=tuple(a + 1 for a in axes))


@movement(
    infer=_gather_infer,
    vjp=lambda g, y, x, *indices, axes: (
        scatter_add(zeros_like(g, x.shape), g, *indices, axes=axes),
        *[None] * len(indices),
    ),
    batch=_gather_batch,
    cases=[
        Case(lambda rng, dtype: [rng.standard_normal((3, 4)).astype(dtype), _index], {"axes": (0,)}),
        Case(lambda rng, dtype: [rng.standard_normal((4, 3)).astype(dtype), _index], {"axes": (1,)}),
        Case(lambda rng, dtype: [rng.standard_normal((3, 2, 3)).astype(dtype), _index, _index], {"axes": (0, 2)}),
        Case(lambda rng, dtype: [rng.standard_normal((3,)).astype(dtype), np.zeros((0,), int)], {"axes": (0,)}),
    ],
)
def gather(x, /, *indices, axes):
    """Elements at integer positions along ``axes``: the shape of the indices, then the axes that are not indexed.

    Negative indices count from the end; one out of bounds is an error. What ``x[i]`` and :func:`take` are made of.

    >>> import defnpy as dp
    >>> dp.asarray([10, 20, 30])[dp.asarray([2, 0, -1])]
    Tensor([30, 10, 30], dtype=int64)
    """
    x = np.asarray(x)
    return _indexed(x, axes)[_bounded(x, indices, axes)]


def _scatter_infer(x: Aval, updates: Aval, *indices: Aval, axes: shapes.Axes) -> Aval:
    expected = _check_indices(x, indices, axes) + shapes.reduce(x.shape, axes)
    if updates.shape != expected:
        raise Mismatch(f"the updates have shape {updates.shape}, the indexed place {expected}")
    return Aval(x.shape, x.dtype, x.weak)


def _values_in_one_dtype(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    x, updates, *indices = args
    return [x, cast(updates, aval_of(x).dtype), *indices]


def _scatter_arrays(rng: np.random.Generator, dtype: Any) -> list[Any]:
    return [rng.standard_normal((3, 4)).astype(dtype), rng.standard_normal((2, 3, 4)).astype(dtype), _index]


@special(
    family="library",
    infer=_scatter_infer,
    vjp=lambda g, y, x, updates, *indices, axes: (g, gather(g, *indices, axes=axes), *[None] * len(indices)),
    batch=lambda *operands, axes: _scatter_batch(scatter_add, *operands, axes=axes),
    convert=_values_in_one_dtype,
    cases=[Case(_scatter_arrays, {"axes": (0,)})],
)
def scatter_add(x, updates, /, *indices, axes):
    """``x`` with ``updates`` added at integer positions; a position named twice gets both. See ``x.at[i].add``.

    >>> import defnpy as dp
    >>> dp.zeros((3,)).at[dp.asarray([0, 2, 0])].add(1.0)
    Tensor([2., 0., 1.], dtype=float32)
    """
    result = np.array(x)
    np.add.at(_indexed(result, axes), _bounded(result, indices, axes), updates)
    return result


def _scatter_set_vjp(g: Any, y: Any, x: Any, updates: Any, *indices: Any, axes: shapes.Axes) -> Sequence[Any]:
    # Where a position is written twice the last write wins, and only that one has a gradient: number the updates,
    # write the numbers, and see whose number stayed.
    from_updates = broadcast_to(np.zeros((), g.dtype)[()], shape=updates.shape)
    kept = scatter_set(g, from_updates, *indices, axes=axes)
    count = shapes.size(updates.shape)
    numbers = reshape(iota(shape=(count,)), shape=updates.shape)
    places = broadcast_to(np.int64(-1), shape=x.shape)
    winners = gather(scatter_set(places, numbers, *indices, axes=axes), *indices, axes=axes)
    mine = cast(winners == numbers, g.dtype)
    return (kept, gather(g, *indices, axes=axes) * mine, *[None] * len(indices))


@special(
    family="library",
    infer=_scatter_infer,
    vjp=_scatter_set_vjp,
    batch=lambda *operands, axes: _scatter_batch(scatter_set, *operands, axes=axes),
    convert=_values_in_one_dtype,
    cases=[Case(_scatter_arrays, {"axes": (0,)})],
)
def scatter_set(x, updates, /, *indices, axes):
    """``x`` with ``updates`` written at integer positions; of a position named twice the last one stays.

    >>> import defnpy as dp
    >>> dp.zeros((3,)).at[1].set(5.0)
    Tensor([0., 5., 0.], dtype=float32)
    """
    result = np.array(x)
    _indexed(result, axes)[_bounded(result, indices, axes)] = updates
    return result
