"""Sliding windows: taken, added back, and reduced to their largest element.

Windows slide over the last axes of an array, the spatial ones. Four static parameters say which: ``window``, how many
elements they have along each axis; ``strides``, from one window to the next; ``dilation``, from one element of a window
to the next; ``padding``, how many elements are thought around the array. In the parameters of a node each has an entry
for every spatial axis.

Derivatives of any order stay in this file: ``windows`` and ``overlap_add`` are each other's transpose, and ``max_pool``
sends its gradient through ``max_unpool``, whose transpose is ``max_select``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DEFAULT_INT
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.op import Case, Op
from .batching import batch_size, everywhere
from .convert import cast, one_dtype
from .families import special
from .linear import reshape

Array = np.ndarray[Any, Any]


def normal(*of: shapes.Shape) -> Any:
    return lambda rng, dtype: [rng.standard_normal(shape).astype(dtype) for shape in of]


def numbers(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    """One dtype for all operands, and one that can be summed: bool becomes int64."""
    operands = one_dtype(op, args)
    return [cast(x, DEFAULT_INT) if x.dtype.kind == "b" else x for x in operands]


# -- what the bodies share --------------------------------------------------------------------------------------------


def padded(x: Array, padding: shapes.Pairs, value: Any = 0) -> Array:
    if not any(low or high for low, high in padding):
        return x
    return np.pad(x, [(0, 0)] * (x.ndim - len(padding)) + list(padding), constant_values=value)


def cropped(x: Array, padding: shapes.Pairs) -> Array:
    ends = x.shape[x.ndim - len(padding) :]
    kept = [slice(low, n - high) for n, (low, high) in zip(ends, padding, strict=True)]
    return x[(slice(None),) * (x.ndim - len(kept)) + tuple(kept)]


def taps(
    window: shapes.Shape, counts: shapes.Shape, strides: shapes.Shape, dilation: shapes.Shape
) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Every element of a window, in row-major order: its place in the window, and an index that gives it in the padded
    array for all windows at once."""
    for place in np.ndindex(*window):
        starts = [p * d for p, d in zip(place, dilation, strict=True)]
        yield place, (..., *[slice(a, a + (m - 1) * s + 1, s) for a, m, s in zip(starts, counts, strides, strict=True)])


# -- windows, and their sum -------------------------------------------------------------------------------------------


def _no_padding(count: int) -> shapes.Pairs:
    return ((0, 0),) * count


def slide(ndim: int, window: Any, strides: Any, dilation: Any) -> dict[str, Any]:
    """The parameters of windows over the last of ``ndim`` axes, an entry for each of those."""
    count = len(window) if isinstance(window, (tuple, list)) else 1
    if not 0 < count <= ndim:
        raise Mismatch(f"a window with {count} axes does not slide over {ndim}")
    return {
        "window": shapes.per_axis("window", window, count),
        "strides": shapes.per_axis("strides", strides, count),
        "dilation": shapes.per_axis("dilation", dilation, count),
    }


def _windows_infer(x: Aval, *, window: Any, strides: Any, dilation: Any) -> Aval:
    lead = len(x.shape) - len(window)
    counts = shapes.windows(x.shape[lead:], window, strides, _no_padding(len(window)), dilation)
    return Aval(x.shape[:lead] + counts + window, x.dtype, x.weak)


@special(
    family="window",
    normalize=lambda x, *, window, strides=1, dilation=1: slide(len(x.shape), window, strides, dilation),
    infer=_windows_infer,
    vjp=lambda g, y, x, *, window, strides, dilation: (
        overlap_add(g, size=x.shape[x.ndim - len(window) :], strides=strides, dilation=dilation),
    ),
    jvp=lambda tangents, y, x, **params: windows(tangents[0], **params),
    batch=lambda batched, x, **geometry: windows(x, **geometry),
    cases=[
        Case(normal((2, 7)), {"window": 3}),
        Case(normal((5, 6)), {"window": (2, 3), "strides": (2, 1)}),
        Case(normal((2, 1, 6, 7)), {"window": (2, 3), "strides": 2, "dilation": (3, 2)}),
        Case(normal((0, 4)), {"window": 2}),
    ],
)
def windows(x, /, *, window, strides=1, dilation=1):
    """Windows that slide over the last axes: first the place of a window, then the place in it. See ``dp.windows``.

    (..., *spatial) becomes (..., *counts, *window), without a copy.

    >>> import defnpy as dp
    >>> windows(dp.arange(5), window=3)
    Tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]], dtype=int64)
    """
    x = np.asarray(x)
    spatial = tuple(range(x.ndim - len(window), x.ndim))
    dense = np.lib.stride_tricks.sliding_window_view(x, shapes.extents(window, dilation), axis=spatial)
    steps: Any = (..., *[slice(None, None, step) for step in strides + dilation])
    return dense[steps]


def spread(ndim: int, size: Any) -> shapes.Shape:
    """The size of what ``ndim`` axes of windows are added up to, an entry for each of its axes."""
    count = len(size) if isinstance(size, (tuple, list)) else 1
    if not 0 < 2 * count <= ndim:
        raise Mismatch(f"windows over {count} take {2 * count} axes, their places and what is in them, not {ndim}")
    return shapes.per_axis("size", size, count)


def _overlap_normalize(x: Aval, *, size: Any, strides: Any = 1, dilation: Any = 1) -> dict[str, Any]:
    size = spread(len(x.shape), size)
    return {
        "size": size,
        "strides": shapes.per_axis("strides", strides, len(size)),
        "dilation": shapes.per_axis("dilation", dilation, len(size)),
    }


def _overlap_infer(x: Aval, *, size: Any, strides: Any, dilation: Any) -> Aval:
    lead = len(x.shape) - 2 * len(size)
    found, window = x.shape[lead : lead + len(size)], x.shape[lead + len(size) :]
    counts = shapes.windows(size, window, strides, _no_padding(len(size)), dilation)
    if found != counts:
        raise Mismatch(f"an array of size {size} has {counts} windows of {window}, not {found}")
    return Aval(x.shape[:lead] + size, x.dtype, x.weak)


@special(
    family="window",
    normalize=_overlap_normalize,
    infer=_overlap_infer,
    vjp=lambda g, y, x, *, size, strides, dilation: (
        windows(g, window=x.shape[x.ndim - len(size) :], strides=strides, dilation=dilation),
    ),
    batch=lambda batched, x, **geometry: overlap_add(x, **geometry),
    convert=numbers,
    jvp=lambda tangents, y, x, **params: overlap_add(tangents[0], **params),
    cases=[
        Case(normal((2, 5, 3)), {"size": 7}),
        Case(normal((2, 4, 2, 3)), {"size": (5, 6), "strides": (2, 1)}),
        Case(normal((2, 1, 2, 2, 2, 3)), {"size": (6, 7), "strides": 2, "dilation": (3, 2)}),
        Case(normal((0, 3, 2)), {"size": 4}),
    ],
)
def overlap_add(x, /, *, size, strides=1, dilation=1):
    """Windows added back to where they were taken: the transpose of ``windows``. See ``dp.overlap_add``.

    (..., *counts, *window) becomes (..., *size); what no window covers is 0.

    >>> import defnpy as dp
    >>> overlap_add(dp.ones((3, 3)), size=5)
    Tensor([1., 2., 3., 2., 1.], dtype=float32)
    """
    x = np.asarray(x)
    lead = x.ndim - 2 * len(size)
    counts, window = x.shape[lead : lead + len(size)], x.shape[lead + len(size) :]
    result = np.zeros(x.shape[:lead] + size, x.dtype)
    for place, tap in taps(window, counts, strides, dilation):
        result[tap] += x[(..., *place)]
    return result


# -- the largest element of each window --------------------------------------------------------------------------------


def pool(shape: shapes.Shape, window: Any, strides: Any, padding: Any, dilation: Any) -> dict[str, Any]:
    """The parameters of pooling over (N, C, *spatial), an entry for every spatial axis; windows are side by side by
    default."""
    if len(shape) < 3:
        raise Mismatch(
            f"pooling takes (batch, channels, *spatial), and the shape is {shape}",
            hint="add the axes that are missing: x[None]",
        )
    count = len(shape) - 2
    window = shapes.per_axis("window", window, count)
    strides = window if strides is None else shapes.per_axis("strides", strides, count)
    dilation = shapes.per_axis("dilation", dilation, count)
    pairs = shapes.padding(padding, shape[2:], window, strides, dilation)
    shapes.windows(shape[2:], window, strides, pairs, dilation)  # a window fits
    return {"window": window, "strides": strides, "padding": pairs, "dilation": dilation}


def _pool_normalize(
    *operands: Aval, window: Any, strides: Any = None, padding: Any = 0, dilation: Any = 1
) -> dict[str, Any]:
    spatial = operands[-1].shape[2:]
    geometry = pool(operands[-1].shape, window, strides, padding, dilation)
    window, strides, pairs, dilation = geometry.values()
    counts = shapes.windows(spatial, window, strides, pairs, dilation)
    for n, count, size, stride, (low, high), gap in zip(spatial, counts, window, strides, pairs, dilation, strict=True):
        for start in range(-low, count * stride - low, stride) if low or high else ():
            if not any(0 <= at < n for at in range(start, start + size * gap, gap)):
                raise Mismatch(
                    "a window lies in the padding alone, and nothing has no maximum", hint="pad by less than a window"
                )
    return geometry


def _pool_batch(op: Op, batched: Sequence[bool], *x: Any, **geometry: Any) -> Any:
    """The examples' own axis N takes the batch as well: pooling treats its entries alike."""
    size, operands = batch_size(batched, x), everywhere(batched, x)
    result = op(*[reshape(v, shape=(size * v.shape[1], *v.shape[2:])) for v in operands], **geometry)
    return reshape(result, shape=(*operands[0].shape[:2], *result.shape[1:]))


def _pooled(x: Aval, geometry: dict[str, Any]) -> shapes.Shape:
    return x.shape[:2] + shapes.windows(x.shape[2:], **geometry)


def lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind in "iu" else False


def _first_largest(x: Array, *, window: Any, strides: Any, padding: Any, dilation: Any) -> Iterator[tuple[Any, Array]]:
    """For every element of a window, in row-major order: its index in the padded array, and for which windows it is the
    first of the largest (the first NaN where there is one)."""
    largest = max_pool.body(x, window=window, strides=strides, padding=padding, dilation=dilation)
    inside, x = padded(np.ones(x.shape[2:], bool), padding), padded(x, padding)
    found = np.zeros(largest.shape, bool)
    for _, tap in taps(window, largest.shape[2:], strides, dilation):
        key = x[tap]
        first = inside[tap] & ((key == largest) | (key != key)) & ~found
        found |= first
        yield tap, first


# Whole numbers in random order: no two are so close that a numerical difference could swap them.
def _distinct(shape: shapes.Shape, rng: np.random.Generator, dtype: Any) -> Array:
    return rng.permutation(shapes.size(shape)).reshape(shape).astype(dtype)


_POOLS: list[tuple[shapes.Shape, shapes.Shape, dict[str, Any]]] = [  # the shape of x, that of the result, parameters
    ((2, 1, 4, 6), (2, 1, 2, 3), {"window": 2}),
    ((1, 2, 5, 4), (1, 2, 3, 4), {"window": (3, 2), "strides": 1, "padding": ((0, 0), (1, 0))}),
    ((1, 1, 7), (1, 1, 4), {"window": 3, "strides": 2, "padding": "same"}),
    ((1, 2, 7, 5), (1, 2, 2, 3), {"window": (3, 2), "strides": 2, "padding": (0, 1), "dilation": (2, 1)}),
    ((0, 1, 4), (0, 1, 2), {"window": 2}),
]


def _pool_cases(*operands: str) -> list[Case]:
    """x is the array that is pooled, v another one of its shape, y one of the shape of the result."""

    def arrays(x: shapes.Shape, y: shapes.Shape) -> Any:
        def draw(rng: np.random.Generator, dtype: Any) -> list[Array]:
            made = {"x": _distinct(x, rng, dtype), "v": rng.standard_normal(x), "y": rng.standard_normal(y)}
            return [made[name].astype(dtype) for name in operands]

        return draw

    return [Case(arrays(x, y), parameters) for x, y, parameters in _POOLS]


@special(
    family="window",
    normalize=_pool_normalize,
    infer=lambda x, **geometry: Aval(_pooled(x, geometry), x.dtype, x.weak),
    vjp=lambda g, y, x, **geometry: (max_unpool(g, x, **geometry),),
    batch=lambda *operands, **geometry: _pool_batch(max_pool, *operands, **geometry),
    cases=_pool_cases("x"),
)
def max_pool(x, /, *, window, strides=None, padding=0, dilation=1):
    """The largest element of each window; NaN if one is NaN. See ``dp.max_pool``.

    (N, C, *spatial) becomes (N, C, *counts).

    >>> import defnpy as dp
    >>> max_pool(dp.asarray([[[1.0, 5.0, 2.0, 3.0]]]), window=2)
    Tensor([[[5., 3.]]], dtype=float32)
    """
    x = np.asarray(x)
    counts = shapes.windows(x.shape[2:], window, strides, padding, dilation)
    x = padded(x, padding, lowest(x.dtype))
    return functools.reduce(np.maximum, [x[tap] for _, tap in taps(window, counts, strides, dilation)])


def _unpool_infer(y: Aval, x: Aval, **geometry: Any) -> Aval:
    if y.shape != _pooled(x, geometry):
        raise Mismatch(f"the pooled x has the shape {_pooled(x, geometry)}, and y has {y.shape}")
    return Aval(x.shape, y.dtype, y.weak)


@special(
    family="window",
    normalize=_pool_normalize,
    infer=_unpool_infer,
    vjp=lambda g, z, y, x, **geometry: (max_select(g, x, **geometry), None),
    batch=lambda *operands, **geometry: _pool_batch(max_unpool, *operands, **geometry),
    cases=_pool_cases("y", "x"),
)
def max_unpool(y, x, /, *, window, strides=None, padding=0, dilation=1):
    """Each number of y at the place of the largest element of its window of x, the first one in row-major order.

    Numbers that meet at one place are added; everywhere else is 0. Linear in y and flat in x: the gradient of
    ``max_pool``, and the transpose of ``max_select``.

    >>> import defnpy as dp
    >>> max_unpool(dp.asarray([[[7.0, 8.0]]]), dp.asarray([[[1.0, 5.0, 3.0, 3.0]]]), window=2)
    Tensor([[[0., 7., 8., 0.]]], dtype=float32)
    """
    x, y = np.asarray(x), np.asarray(y)
    whole = tuple(low + n + high for n, (low, high) in zip(x.shape[2:], padding, strict=True))
    result = np.zeros(x.shape[:2] + whole, y.dtype)
    for tap, first in _first_largest(x, window=window, strides=strides, padding=padding, dilation=dilation):
        result[tap] += np.where(first, y, y.dtype.type(0))
    return cropped(result, padding)


def _select_infer(v: Aval, x: Aval, **geometry: Any) -> Aval:
    if v.shape != x.shape:
        raise Mismatch(f"v has the shape {v.shape}, and x {x.shape}")
    return Aval(_pooled(x, geometry), v.dtype, v.weak)


@special(
    family="window",
    normalize=_pool_normalize,
    infer=_select_infer,
    vjp=lambda g, y, v, x, **geometry: (max_unpool(g, x, **geometry), None),
    batch=lambda *operands, **geometry: _pool_batch(max_select, *operands, **geometry),
    cases=_pool_cases("v", "x"),
)
def max_select(v, x, /, *, window, strides=None, padding=0, dilation=1):
    """From each window the number of v that stands where x has its first largest element: max_select(x, x) is max_pool.

    Linear in v and flat in x: the gradient of ``max_unpool``.

    >>> import defnpy as dp
    >>> x = dp.asarray([[[1.0, 5.0, 3.0, 3.0]]])
    >>> max_select(dp.asarray([[[10.0, 20.0, 30.0, 40.0]]]), x, window=2)
    Tensor([[[20., 30.]]], dtype=float32)
    """
    x, v = np.asarray(x), padded(np.asarray(v), padding)
    result = np.zeros(x.shape[:2] + shapes.windows(x.shape[2:], window, strides, padding, dilation), v.dtype)
    for tap, first in _first_largest(x, window=window, strides=strides, padding=padding, dilation=dilation):
        result = np.where(first, v[tap], result)
    return result
