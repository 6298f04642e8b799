"""The linear primitives. Each is linear in its array operands and the gradient of each is another of them
(sum with broadcast_to, slice with pad), so this file closes on itself. gather and scatter_add are in gather.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import as_dtype
from ..errors import IndexingError, Mismatch
from ..ir.aval import Aval
from ..ir.op import Case, Literal
from .batching import batch_size, everywhere
from .convert import one_dtype
from .families import movement, reduction, special, uniform, widened


def _normal(*shape: int) -> Any:
    return lambda rng, dtype: [rng.standard_normal(shape).astype(dtype)]


def zeros_like(x: Any, shape: shapes.Shape | None = None) -> Any:
    """Zeros of the dtype of ``x``, in its shape or another one."""
    return broadcast_to(np.zeros((), x.dtype)[()], shape=x.shape if shape is None else shape)


def _reshape_normalize(x: Aval, *, shape: Any) -> dict[str, Any]:
    target = (shape,) if isinstance(shape, int) else tuple(shape)
    return {"shape": shapes.reshape(x.shape, target)}


@movement(
    normalize=_reshape_normalize,
    infer=lambda x, *, shape: Aval(shapes.reshape(x.shape, shape), x.dtype, x.weak),
    vjp=lambda g, y, x, *, shape: (reshape(g, shape=x.shape),),
    batch=lambda batched, x, *, shape: reshape(x, shape=(x.shape[0], *shape)),
    cases=[
        Case(_normal(2, 6), {"shape": (3, 4)}),
        Case(_normal(2, 3), {"shape": (-1,)}),
        Case(_normal(3), {"shape": (1, 3, 1)}),
        Case(_normal(1, 1), {"shape": ()}),
        Case(_normal(0, 3), {"shape": (3, 0, 2)}),
    ],
)
def reshape(x, /, *, shape):
    """The same elements in row-major order under another shape; one size may be -1.

    >>> import defnpy as dp
    >>> dp.reshape(dp.arange(6), (2, -1))
    Tensor([[0, 1, 2],
            [3, 4, 5]], dtype=int64)
    """
    return np.reshape(x, shape)


def _permute_normalize(x: Aval, *, axes: Any) -> dict[str, Any]:
    order = tuple(shapes.normalize_axis(a, len(x.shape)) for a in axes)
    if sorted(order) != list(range(len(x.shape))):
        raise Mismatch(f"axes {tuple(axes)} are no permutation of the {len(x.shape)} axes")
    return {"axes": order}


def inverse(axes: shapes.Axes) -> shapes.Axes:
    """The permutation that undoes ``axes``."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


@movement(
    normalize=_permute_normalize,
    infer=lambda x, *, axes: Aval(tuple(x.shape[a] for a in axes), x.dtype, x.weak),
    vjp=lambda g, y, x, *, axes: (permute_dims(g, axes=inverse(axes)),),
    batch=lambda batched, x, *, axes: permute_dims(x, axes=(0, *[a + 1 for a in axes])),
    cases=[
        Case(_normal(2, 3), {"axes": (1, 0)}),
        Case(_normal(2, 3, 4), {"axes": (2, 0, 1)}),
        Case(_normal(), {"axes": ()}),
    ],
)
def permute_dims(x, /, *, axes):
    """The axes in another order: axis ``i`` of the result is axis ``axes[i]`` of ``x``.

    >>> import defnpy as dp
    >>> dp.permute_dims(dp.asarray([[1, 2, 3]]), (1, 0))
    Tensor([[1],
            [2],
            [3]], dtype=int64)
    """
    return np.transpose(x, axes)


def _broadcast_infer(x: Aval, *, shape: shapes.Shape) -> Aval:
    if shapes.broadcast(x.shape, shape) != shape:
        raise Mismatch(f"{x.shape} does not broadcast to {shape}")
    return Aval(shape, x.dtype, x.weak)


def _unbroadcast(g: Any, y: Any, x: Any, *, shape: shapes.Shape) -> tuple[Any]:
    return (reshape(sum_(g, axis=shapes.broadcast_axes(x.shape, shape)), shape=x.shape),)


def _broadcast_batch(batched: Any, x: Any, *, shape: shapes.Shape) -> Any:
    size, *rest = x.shape
    return broadcast_to(reshape(x, shape=(size, *(1,) * (len(shape) - len(rest)), *rest)), shape=(size, *shape))


@movement(
    normalize=lambda x, *, shape: {"shape": shapes.as_shape(shape)},
    infer=_broadcast_infer,
    vjp=_unbroadcast,
    batch=_broadcast_batch,
    cases=[
        Case(_normal(3), {"shape": (2, 3)}),
        Case(_normal(2, 1), {"shape": (4, 2, 3)}),
        Case(_normal(), {"shape": (0, 2)}),
    ],
)
def broadcast_to(x, /, *, shape):
    """``x`` repeated along new axes and along axes of size 1.

    >>> import defnpy as dp
    >>> dp.broadcast_to(dp.asarray([1, 2]), (2, 2))
    Tensor([[1, 2],
            [1, 2]], dtype=int64)
    """
    return np.broadcast_to(x, shape)


@reduction(
    vjp=lambda g, y, x, *, axis, keepdims: (broadcast_to(restore(g, x, axis), shape=x.shape),),
    jvp=lambda tangents, y, x, **params: sum_(tangents[0], **params),
    domains=[uniform(-3, 3), uniform(-5, 6, "i"), uniform(0, 2, "b")],
    kinds="biuf",
    out=widened,
)
def sum_(x, /, *, axis=None, keepdims=False):
    """Sum over ``axis`` (int, tuple, None for all). Booleans and small integers are summed in the default integer.

    float32 is summed in float32, in an order that is not fixed between backends. The sum of nothing is 0.

    >>> import defnpy as dp
    >>> dp.sum(dp.asarray([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([4., 6.], dtype=float32)
    """
    return np.sum(x, axis=axis, keepdims=keepdims, dtype=widened(np.asarray(x).dtype))


def restore(g: Any, x: Any, axis: shapes.Axes) -> Any:
    """A reduced value with its reduced axes back, at size 1."""
    shape = tuple(1 if a in axis else n for a, n in enumerate(x.shape))
    return g if g.shape == shape else reshape(g, shape=shape)


def _ints(value: Any, ndim: int) -> tuple[int, ...]:
    return (int(value),) * ndim if isinstance(value, int) else tuple(int(v) for v in value)


def _pad_normalize(x: Aval, *, low: Any = 0, high: Any = 0, interior: Any = 0, value: Any = 0) -> dict[str, Any]:
    ndim = len(x.shape)
    literal = value if isinstance(value, Literal) else Literal(x.dtype.type(value))
    return {"low": _ints(low, ndim), "high": _ints(high, ndim), "interior": _ints(interior, ndim), "value": literal}


def _pad_vjp(g: Any, y: Any, x: Any, *, low: Any, high: Any, interior: Any, value: Any) -> tuple[Any]:
    stops = tuple(n - h for n, h in zip(g.shape, high, strict=True))
    if 0 in x.shape:
        return (zeros_like(g, x.shape),)
    return (slice_(g, starts=low, stops=stops, steps=tuple(i + 1 for i in interior)),)


@movement(
    normalize=_pad_normalize,
    infer=lambda x, *, low, high, interior, value: Aval(shapes.pad(x.shape, low, high, interior), x.dtype, x.weak),
    vjp=_pad_vjp,
    jvp=lambda tangents, y, x, *, low, high, interior, value: pad(tangents[0], low=low, high=high, interior=interior),
    batch=lambda batched, x, *, low, high, interior, value: pad(
        x, low=(0, *low), high=(0, *high), interior=(0, *interior), value=value
    ),
    cases=[
        Case(_normal(3), {"low": 1, "high": 2}),
        Case(_normal(2, 3), {"low": (0, 1), "high": (1, 0), "interior": (2, 1)}),
        Case(_normal(2), {"low": 1, "value": -1.5}),
        Case(_normal(0, 2), {"low": (1, 0), "high": (1, 0), "interior": 0}),
    ],
)
def pad(x, /, *, low=0, high=0, interior=0, value=0):
    """``low`` and ``high`` elements of ``value`` around each axis and ``interior`` ones between its elements.

    Each is an int for all axes or a tuple with one entry per axis; the shape grows accordingly.

    >>> import defnpy as dp
    >>> dp.pad(dp.asarray([1, 2]), low=1, high=2, interior=1)
    Tensor([0, 1, 0, 2, 0, 0], dtype=int64)
    """
    x = np.asarray(x)
    low, high, interior = (_ints(v, x.ndim) for v in (low, high, interior))
    fill = value.value if isinstance(value, Literal) else value
    result = np.full(shapes.pad(x.shape, low, high, interior), fill, x.dtype)
    result[tuple(slice(lo, n - hi, i + 1) for lo, hi, i, n in zip(low, high, interior, result.shape, strict=True))] = x
    return result


def _place_normalize(*parts: Aval, shape: Any, starts: Any, steps: Any, value: Any = 0) -> dict[str, Any]:
    if not len(parts) == len(starts) == len(steps) > 0:
        raise Mismatch("a start and a step per axis are needed for each of the parts, one at least")
    literal = value if isinstance(value, Literal) else Literal(parts[0].dtype.type(value))
    places = {"starts": tuple(map(tuple, starts)), "steps": tuple(map(tuple, steps))}
    return {"shape": shapes.as_shape(shape), **places, "value": literal}


def _places(parts: Sequence[Any], starts: Any, steps: Any) -> list[tuple[slice, ...]]:
    """For each part the index of its place."""
    return [
        tuple(slice(a, a + max(n - 1, 0) * s + min(n, 1), s) for n, a, s in zip(x.shape, first, step, strict=True))
        for x, first, step in zip(parts, starts, steps, strict=True)
    ]


def _place_vjp(g: Any, y: Any, *parts: Any, shape: Any, starts: Any, steps: Any, value: Any) -> Sequence[Any]:
    return [
        slice_(g, starts=tuple(i.start for i in at), stops=tuple(i.stop for i in at), steps=tuple(i.step for i in at))
        for at in _places(parts, starts, steps)
    ]


def _place_batch(batched: Any, *parts: Any, shape: Any, starts: Any, steps: Any, value: Any) -> Any:
    return place(
        *everywhere(batched, parts),
        shape=(batch_size(batched, parts), *shape),
        starts=tuple((0, *start) for start in starts),
        steps=tuple((1, *step) for step in steps),
        value=value,
    )


@special(
    family="parts",
    normalize=_place_normalize,
    infer=lambda *parts, shape, **places: Aval(shape, parts[0].dtype, parts[0].weak),
    vjp=_place_vjp,
    batch=_place_batch,
    convert=one_dtype,
    cases=[
        Case(_normal(3), {"shape": (8,), "starts": ((1,),), "steps": ((2,),)}),
        Case(
            lambda rng, dtype: [rng.standard_normal((2, n)).astype(dtype) for n in (2, 3)],
            {"shape": (3, 6), "starts": ((0, 1), (1, 0)), "steps": ((1, 2), (1, 2)), "value": -1.5},
        ),
        Case(_normal(0, 2), {"shape": (1, 2), "starts": ((0, 0),), "steps": ((1, 1),)}),
    ],
)
def place(*parts, shape, starts, steps, value=0):
    """An array put together of parts: part i at ``starts[i]`` in ``steps[i]``, and ``value`` where none lies.

    starts, steps: for each part an int per axis. No two parts may meet. ``pad`` and ``concat`` are cases of it.

    >>> import defnpy as dp
    >>> place(dp.ones((2,)), dp.zeros((2,)), shape=(5,), starts=((0,), (1,)), steps=((3,), (1,)), value=7)
    Tensor([1., 0., 0., 1., 7.], dtype=float32)
    """
    arrays = [np.asarray(x) for x in parts]
    fill = value.value if isinstance(value, Literal) else value
    result = np.full(shape, fill, arrays[0].dtype)
    for x, at in zip(arrays, _places(arrays, starts, steps), strict=True):
        result[at] = x
    return result


def _slice_infer(x: Aval, *, starts: Any, stops: Any, steps: Any) -> Aval:
    if not len(starts) == len(stops) == len(steps) == len(x.shape):
        raise Mismatch("a slice needs one start, stop and step per axis")
    for n, a, b, s in zip(x.shape, starts, stops, steps, strict=True):
        if not (0 <= a <= n and 0 <= b <= n and s > 0):
            raise Mismatch(f"slice {a}:{b}:{s} leaves an axis of size {n}", error=IndexingError)
    lengths = tuple(shapes.slice_length(a, b, s) for a, b, s in zip(starts, stops, steps, strict=True))
    return Aval(lengths, x.dtype, x.weak)


def _slice_vjp(g: Any, y: Any, x: Any, *, starts: Any, stops: Any, steps: Any) -> tuple[Any]:
    if 0 in g.shape:
        return (zeros_like(g, x.shape),)
    high = tuple(n - (a + (k - 1) * s + 1) for n, a, k, s in zip(x.shape, starts, g.shape, steps, strict=True))
    return (pad(g, low=starts, high=high, interior=tuple(s - 1 for s in steps)),)


@movement(
    normalize=lambda x, *, starts, stops, steps: {
        "starts": tuple(starts),
        "stops": tuple(stops),
        "steps": tuple(steps),
    },
    infer=_slice_infer,
    vjp=_slice_vjp,
    batch=lambda batched, x, *, starts, stops, steps: slice_(
        x, starts=(0, *starts), stops=(x.shape[0], *stops), steps=(1, *steps)
    ),
    cases=[
        Case(_normal(5), {"starts": (1,), "stops": (5,), "steps": (2,)}),
        Case(_normal(3, 4), {"starts": (0, 1), "stops": (2, 3), "steps": (1, 1)}),
        Case(_normal(3), {"starts": (2,), "stops": (1,), "steps": (1,)}),
    ],
)
def slice_(x, /, *, starts, stops, steps):
    """``x[a:b:s, ...]`` with one start, stop and positive step per axis; what basic indexing is made of.

    >>> import defnpy as dp
    >>> dp.arange(6)[1:6:2]
    Tensor([1, 3, 5], dtype=int64)
    """
    return np.asarray(x)[tuple(slice(a, b, s) for a, b, s in zip(starts, stops, steps, strict=True))]


@movement(
    normalize=lambda x, *, axis=None: {"axis": shapes.normalize_axes(axis, len(x.shape))},
    infer=lambda x, *, axis: x,
    vjp=lambda g, y, x, *, axis: (flip(g, axis=axis),),
    batch=lambda batched, x, *, axis: flip(x, axis=tuple(a + 1 for a in axis)),
    cases=[Case(_normal(2, 3), {}), Case(_normal(2, 3), {"axis": 1})],
)
def flip(x, /, *, axis=None):
    """The elements in reverse order along ``axis`` (int, tuple, None for all).

    >>> import defnpy as dp
    >>> dp.flip(dp.asarray([1, 2, 3]))
    Tensor([3, 2, 1], dtype=int64)
    """
    return np.flip(x, axis)


def _concat_normalize(*xs: Aval, axis: int = 0) -> dict[str, Any]:
    if not xs:
        raise Mismatch("needs at least one tensor")
    return {"axis": shapes.normalize_axis(axis, len(xs[0].shape))}


def _concat_vjp(g: Any, y: Any, *xs: Any, axis: int) -> Sequence[Any]:
    ends = np.cumsum([x.shape[axis] for x in xs]).tolist()
    parts = []
    for x, end in zip(xs, ends, strict=True):
        starts = tuple(end - x.shape[axis] if a == axis else 0 for a in range(g.ndim))
        stops = tuple(end if a == axis else n for a, n in enumerate(g.shape))
        parts.append(slice_(g, starts=starts, stops=stops, steps=(1,) * g.ndim))
    return parts


@movement(
    normalize=_concat_normalize,
    infer=lambda *xs, axis: Aval(shapes.concat([x.shape for x in xs], axis), xs[0].dtype, xs[0].weak),
    vjp=_concat_vjp,
    jvp=lambda tangents, y, *xs, axis: concat_(
        *[zeros_like(y, x.shape) if t is None else t for t, x in zip(tangents, xs, strict=True)], axis=axis
    ),
    batch=lambda batched, *xs, axis: concat_(*everywhere(batched, xs), axis=axis + 1),
    convert=one_dtype,
    cases=[
        Case(lambda rng, dtype: [rng.standard_normal((2, n)).astype(dtype) for n in (1, 0, 3)], {"axis": 1}),
        Case(lambda rng, dtype: [rng.standard_normal((n,)).astype(dtype) for n in (2, 3)], {}),
    ],
)
def concat_(*xs, axis=0):
    """Tensors joined along an existing axis. ``dp.concat`` takes them as a list.

    >>> import defnpy as dp
    >>> dp.concat([dp.asarray([1, 2]), dp.asarray([3])])
    Tensor([1, 2, 3], dtype=int64)
    """
    return np.concatenate(xs, axis=axis)


def _counted(shape: shapes.Shape, axis: int | None) -> int | None:
    """The axis along which an iota counts; of a vector there is but one."""
    return None if axis is None and len(shape) != 1 else shapes.normalize_axis(axis or 0, len(shape))


@special(
    family="iota",
    normalize=lambda *, shape, axis=0, dtype=None: {
        "shape": shapes.as_shape(shape),
        "axis": _counted(shapes.as_shape(shape), axis),
        "dtype": np.dtype("int64") if dtype is None else as_dtype(dtype),
    },
    infer=lambda *, shape, axis, dtype: Aval(shape, dtype),
    vjp=None,
    not_differentiable="it has no operands",
    batch=lambda *operands, **params: iota(**params),
    cases=[
        Case(lambda rng, dtype: [], {"shape": (2, 3), "axis": 1, "dtype": "float32"}),
        Case(lambda rng, dtype: [], {"shape": (2, 3), "axis": None, "dtype": "int32"}),
    ],
)
def iota(*, shape, axis=0, dtype=None):
    """Each element is its own position along ``axis``; with None, among all elements in row-major order.

    >>> import defnpy as dp
    >>> dp.iota(shape=(2, 3), axis=1)
    Tensor([[0, 1, 2],
            [0, 1, 2]], dtype=int64)
    >>> dp.iota(shape=(2, 3), axis=None)
    Tensor([[0, 1, 2],
            [3, 4, 5]], dtype=int64)
    """
    shape, dtype = shapes.as_shape(shape), np.dtype("int64") if dtype is None else dtype
    if axis is None:
        return np.arange(shapes.size(shape), dtype=as_dtype(dtype)).reshape(shape)
    along = np.arange(shape[axis], dtype=as_dtype(dtype)).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(along, shape)
