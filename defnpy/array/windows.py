"""Pooling, and sliding windows with padding (im2col and col2im, for one)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import shapes
from ..ir.trace import aval_of, function
from ..ops import window as w
from ..ops.linear import pad, slice_
from .statistics import mean

__all__ = ["max_pool", "mean_pool", "overlap_add", "windows"]

PerAxis = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]


def _pad(x: Any, pairs: shapes.Pairs) -> Any:
    if not any(low or high for low, high in pairs):
        return x
    lead = (0,) * (len(aval_of(x).shape) - len(pairs))
    return pad(x, low=(*lead, *[low for low, _ in pairs]), high=(*lead, *[high for _, high in pairs]))


@function
def windows(x: Any, window: PerAxis, /, *, strides: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1) -> Any:
    """Windows that slide over the last axes: first the place of a window, then the place in it.

    window: how many elements along each of the last axes; an int is a window over the last axis alone.
    strides: from one window to the next. dilation: from one element of a window to the next. Both an int, or one per
    axis of the window.
    padding: zeros around x: an int; an int or a pair (low, high) per axis; "valid", none; or "same", as many as give
    ceil(size / stride) windows.

    >>> import defnpy as dp
    >>> dp.windows(dp.arange(6), 3, strides=2, padding=(1,))
    Tensor([[0, 0, 1],
            [1, 2, 3],
            [3, 4, 5]], dtype=int64)

    The matrix that the books call im2col, a row for each window of an image over all its channels:

    >>> images = dp.ones((10, 3, 7, 7))
    >>> rows = dp.permute_dims(dp.windows(images, (5, 5)), (0, 2, 3, 1, 4, 5))
    >>> dp.reshape(rows, (10 * 3 * 3, 3 * 5 * 5)).shape
    (90, 75)
    """
    shape = aval_of(x).shape
    geometry = w.slide(len(shape), window, strides, dilation)
    pairs = shapes.padding(padding, shape[len(shape) - len(geometry["window"]) :], **geometry)
    return w.windows(_pad(x, pairs), **geometry)


@function
def overlap_add(x: Any, size: PerAxis, /, *, strides: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1) -> Any:
    """Windows added back to where :func:`windows` took them, with the same parameters: its transpose, and its gradient.

    (..., *counts, *window) becomes (..., *size); ``size`` is an int for one axis, or one per axis. With x made into
    that shape from a matrix it is what the books call col2im.

    >>> import defnpy as dp
    >>> dp.overlap_add(dp.ones((3, 3)), 6, strides=2, padding=(1,))
    Tensor([1., 2., 1., 2., 1., 1.], dtype=float32)
    """
    shape = aval_of(x).shape
    size = w.spread(len(shape), size)
    geometry = w.slide(len(shape), shape[len(shape) - len(size) :], strides, dilation)
    pairs = shapes.padding(padding, size, **geometry)
    del geometry["window"]
    whole = tuple(low + n + high for n, (low, high) in zip(size, pairs, strict=True))
    result = w.overlap_add(x, size=whole, **geometry)
    if whole == size:
        return result
    lead = aval_of(result).shape[: -len(size)]
    starts = (*[0] * len(lead), *[low for low, _ in pairs])
    stops = (*lead, *[low + n for n, (low, _) in zip(size, pairs, strict=True)])
    return slice_(result, starts=starts, stops=stops, steps=(1,) * len(starts))


@function
def max_pool(
    x: Any, window: PerAxis, /, *, strides: PerAxis | None = None, padding: Padding = 0, dilation: PerAxis = 1
) -> Any:
    """The largest element of each window of (N, C, *spatial): (N, C, *counts). NaN if one is NaN.

    window: an int, or one per spatial axis; the other parameters are those of :func:`conv`, but windows lie side by
    side unless ``strides`` says otherwise. Padding is never the largest, whatever the numbers, and a window of padding
    alone is an error. The gradient goes to the first of equal largest elements, in row-major order.

    >>> import defnpy as dp
    >>> x = dp.reshape(dp.arange(16), (1, 1, 4, 4))
    >>> dp.max_pool(x, 2)
    Tensor([[[[ 5,  7],
              [13, 15]]]], dtype=int64)
    """
    return w.max_pool(x, window=window, strides=strides, padding=padding, dilation=dilation)


@function
def mean_pool(
    x: Any, window: PerAxis, /, *, strides: PerAxis | None = None, padding: Padding = 0, dilation: PerAxis = 1
) -> Any:
    """The average of each window of (N, C, *spatial): (N, C, *counts). Padding counts as zeros; integers become floats.

    window: an int, or one per spatial axis; the other parameters are those of :func:`conv`, but windows lie side by
    side unless ``strides`` says otherwise.

    >>> import defnpy as dp
    >>> dp.mean_pool(dp.asarray([[[1.0, 3.0, 5.0, 7.0]]]), 2)
    Tensor([[[2., 6.]]], dtype=float32)
    """
    geometry = w.pool(aval_of(x).shape, window, strides, padding, dilation)
    pairs = geometry.pop("padding")
    taken = w.windows(_pad(x, pairs), **geometry)
    return mean(taken, axis=tuple(range(-len(pairs), 0)))
