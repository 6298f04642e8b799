"""Convolution: three matrix products, each one's gradients the other two.

A convolution is the product Y = W X of matrices, where X holds the windows of x as its columns. The sum of
g · conv(x, w) is linear in each of x, w and g. Its three derivatives are ``conv`` (W X), ``conv_transpose`` (Wᵀ Y, its
columns added back to where the windows were taken) and ``conv_weight`` (Y Xᵀ), all with the same parameters: so the
rules are one line each, and derivatives of any order stay in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.op import Case, Op
from .batching import from_axis, to_axis
from .families import bilinear, special
from .linear import reshape
from .window import Array, cropped, normal, numbers, overlap_add, padded, windows


def _columns(
    x: Array, window: shapes.Shape, strides: shapes.Shape, padding: shapes.Pairs, dilation: shapes.Shape, groups: int
) -> Array:
    """X: for each group a matrix of (input channels × elements of a window) by (batch × windows)."""
    taken: Array = windows.body(padded(x, padding), window=window, strides=strides, dilation=dilation)
    n, channels, count = taken.shape[0], taken.shape[1], len(window)
    counts, inside = range(2, 2 + count), range(2 + count, 2 + 2 * count)
    rows = channels // groups * shapes.size(window)
    return taken.transpose(1, *inside, 0, *counts).reshape(groups, rows, n * shapes.size(taken.shape[2 : 2 + count]))


def _outputs(y: Array, groups: int) -> Array:
    """Y: for each group a matrix of (output channels) by (batch × windows)."""
    columns = y.shape[0] * shapes.size(y.shape[2:])
    return np.moveaxis(y, 1, 0).reshape(groups, y.shape[1] // groups, columns)


def _kernels(w: Array, groups: int) -> Array:
    """W: for each group a matrix of (output channels) by (input channels × elements of a window)."""
    return w.reshape(groups, w.shape[0] // groups, shapes.size(w.shape[1:]))


def _geometry(
    shape: shapes.Shape, window: shapes.Shape, strides: Any, padding: Any, dilation: Any, groups: Any
) -> dict[str, Any]:
    strides = shapes.per_axis("strides", strides, len(window))
    dilation = shapes.per_axis("dilation", dilation, len(window))
    return {
        "strides": strides,
        "padding": shapes.padding(padding, shape, window, strides, dilation),
        "dilation": dilation,
        "groups": shapes.positive("groups", groups),
    }


def _joined(x: Any, axis: int, groups: int = 1) -> Any:
    """The batch axis, the first, within another one (counted without it), inside of each of its ``groups``."""
    size, *shape = x.shape
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    inside = to_axis(reshape(x, shape=(size, *split)), axis + 1)
    return reshape(inside, shape=(*shape[:axis], size * shape[axis], *shape[axis + 1 :]))


def _parted(y: Any, axis: int, size: int, groups: int = 1) -> Any:
    """The inverse of :func:`_joined`."""
    shape = (*y.shape[:axis], y.shape[axis] // size, *y.shape[axis + 1 :])
    split = (*shape[:axis], groups, size, shape[axis] // groups, *shape[axis + 1 :])
    return reshape(from_axis(reshape(y, shape=split), axis + 1), shape=(size, *shape))


# Where the batch goes when the left operand is batched, when the right one is, and when both are, with the axis of the
# left, of the right and of the result that takes it. An axis of channels that other channels see by groups (True) takes
# the batch inside of each group; where both operands are batched, every example is a group of its own.
_Place = tuple[int, bool]
_Places = tuple[tuple[_Place, _Place], tuple[_Place, _Place], tuple[int, int, int]]
_CONV: _Places = (((0, False), (0, False)), ((0, True), (1, True)), (1, 0, 1))
_TRANSPOSE: _Places = (((0, False), (0, False)), ((1, False), (1, True)), (1, 0, 1))
_WEIGHT: _Places = (((1, True), (1, False)), ((1, True), (0, True)), (1, 1, 0))


def _batch(
    op: Op, places: _Places, batched: Sequence[bool], left: Any, right: Any, *, groups: int, **geometry: Any
) -> Any:
    if all(batched):
        size, (of_left, of_right, of_result) = left.shape[0], places[2]
        y = op(_joined(left, of_left), _joined(right, of_right), groups=size * groups, **geometry)
        return _parted(y, of_result, size)
    (axis, grouped), (target, result_grouped) = places[1] if batched[1] else places[0]
    operands, one = [left, right], int(batched[1])
    size = operands[one].shape[0]
    operands[one] = _joined(operands[one], axis, groups if grouped else 1)
    return _parted(op(*operands, groups=groups, **geometry), target, size, groups if result_grouped else 1)


def _conv_normalize(
    x: Aval, w: Aval, *, strides: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> dict[str, Any]:
    shapes.conv_axes(x.shape, w.shape)
    return _geometry(x.shape[2:], w.shape[2:], strides, padding, dilation, groups)


@special(
    family="convolution",
    normalize=_conv_normalize,
    infer=lambda x, w, **geometry: Aval(shapes.conv(x.shape, w.shape, **geometry), x.dtype, x.weak and w.weak),
    vjp=lambda g, y, x, w, **geometry: (
        conv_transpose(g, w, size=x.shape[2:], **geometry),
        conv_weight(x, g, size=w.shape[2:], **geometry),
    ),
    jvp=lambda tangents, y, *x, **params: bilinear(conv, tangents, x, params),
    convert=numbers,
    batch=lambda *operands, **params: _batch(conv, _CONV, *operands, **params),
    cases=[
        Case(normal((2, 3, 5, 4), (4, 3, 3, 2))),
        Case(normal((2, 2, 7), (3, 2, 3)), {"strides": 2, "padding": 1}),
        Case(normal((1, 2, 6, 5), (2, 2, 2, 3)), {"strides": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (2, 1)}),
        Case(normal((2, 4, 4, 4), (6, 2, 3, 3)), {"groups": 2, "padding": "same"}),
        Case(normal((1, 2, 3, 4, 3), (2, 1, 2, 2, 2)), {"groups": 2}),
        Case(normal((0, 2, 4), (3, 2, 2))),
    ],
)
def conv(x, w, /, *, strides=1, padding=0, dilation=1, groups=1):
    """The convolution of the neural networks: the kernel slides over ``x`` and is not turned around.

    x: (N, I, *spatial), a batch of N examples with I channels. w: (O, I / groups, *kernel). The result is
    (N, O, *counts), where along each axis there are (size + padding - extent) // stride + 1 positions, and the kernel's
    extent is (kernel - 1) * dilation + 1. One spatial axis or more.

    strides, dilation: an int, or one per spatial axis.
    padding: zeros around x: an int; an int or a pair (low, high) per spatial axis; "valid", none; or "same", as many as
    give ceil(size / stride) positions.
    groups: the channels, of the input and of the output, are split into so many groups that do not see each other.

    >>> import defnpy as dp
    >>> x = dp.asarray([[[1.0, 2.0, 4.0, 8.0]]])
    >>> dp.conv(x, dp.asarray([[[-1.0, 1.0]]]))
    Tensor([[[1., 2., 4.]]], dtype=float32)
    >>> dp.conv(dp.ones((10, 3, 28, 28)), dp.ones((8, 3, 5, 5)), strides=2, padding="same").shape
    (10, 8, 14, 14)
    """
    x, w = np.asarray(x), np.asarray(w)
    counts = shapes.windows(x.shape[2:], w.shape[2:], strides, padding, dilation)
    product = np.matmul(_kernels(w, groups), _columns(x, w.shape[2:], strides, padding, dilation, groups))
    return np.moveaxis(product.reshape(w.shape[0], x.shape[0], *counts), 0, 1)


def _transpose_normalize(
    y: Aval, w: Aval, *, strides: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1, size: Any = None
) -> dict[str, Any]:
    count = shapes.conv_axes(y.shape, w.shape, "y")
    counts, kernel = y.shape[2:], w.shape[2:]
    if size is not None:
        size = shapes.per_axis("size", size, count)
        return {"size": size, **_geometry(size, kernel, strides, padding, dilation, groups)}
    same = tuple(n * s for n, s in zip(counts, shapes.per_axis("strides", strides, count), strict=True))
    geometry = _geometry(same, kernel, strides, padding, dilation, groups)
    covers = shapes.extents(kernel, geometry["dilation"])
    least = tuple(
        (n - 1) * s + extent - low - high
        for n, s, extent, (low, high) in zip(counts, geometry["strides"], covers, geometry["padding"], strict=True)
    )
    return {"size": shapes.per_axis("size", same if padding == "same" else least, count), **geometry}


def _transpose_infer(y: Aval, w: Aval, *, size: Any, groups: int, **geometry: Any) -> Aval:
    if y.shape[1] != w.shape[0]:
        raise Mismatch(
            f"y has {y.shape[1]} channels, and w takes {w.shape[0]}",
            hint="w has the shape (channels of y, channels of the result / groups, *kernel)",
        )
    shape = (y.shape[0], w.shape[1] * groups, *size)
    counts = shapes.conv(shape, w.shape, groups=groups, **geometry)[2:]
    if y.shape[2:] != counts:
        raise Mismatch(
            f"a result of size {size} has {counts} windows, and y has {y.shape[2:]}",
            hint="without size it is the smallest that fits",
        )
    return Aval(shape, y.dtype, y.weak and w.weak)


@special(
    family="convolution",
    normalize=_transpose_normalize,
    infer=_transpose_infer,
    vjp=lambda g, x, y, w, *, size, **geometry: (
        conv(g, w, **geometry),
        conv_weight(g, y, size=w.shape[2:], **geometry),
    ),
    jvp=lambda tangents, y, *x, **params: bilinear(conv_transpose, tangents, x, params),
    convert=numbers,
    batch=lambda *operands, **params: _batch(conv_transpose, _TRANSPOSE, *operands, **params),
    cases=[
        Case(normal((2, 4, 3, 2), (4, 3, 3, 2))),
        Case(normal((2, 3, 4), (3, 2, 3)), {"strides": 2, "padding": 1, "size": 8}),
        Case(normal((1, 2, 3, 3), (2, 2, 2, 3)), {"strides": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (2, 1)}),
        Case(normal((2, 6, 2, 2), (6, 2, 3, 3)), {"groups": 2, "padding": "same", "strides": 2}),
        Case(normal((0, 3, 3), (3, 2, 2))),
    ],
)
def conv_transpose(y, w, /, *, strides=1, padding=0, dilation=1, groups=1, size=None):
    """The transpose of :func:`conv`, which is its gradient with respect to x; also known as a deconvolution.

    y: (N, O, *counts), w: (O, I / groups, *kernel), and the result (N, I, *size): what ``conv`` with the same
    parameters would turn into the shape of y. Every number of y adds its multiple of the kernel.

    size: the spatial size of the result, an int or one per axis. With strides several sizes have the same number of
    windows; by default it is the smallest of them, and counts * strides if the padding is "same". The other parameters
    are those of ``conv``, and speak of the result.

    >>> import defnpy as dp
    >>> dp.conv_transpose(dp.asarray([[[1.0, 2.0]]]), dp.asarray([[[3.0, 4.0, 5.0]]]), strides=2)
    Tensor([[[ 3.,  4., 11.,  8., 10.]]], dtype=float32)
    """
    y, w = np.asarray(y), np.asarray(w)
    n, counts, kernel = y.shape[0], y.shape[2:], w.shape[2:]
    channels, count = w.shape[1] * groups, len(kernel)
    product = np.matmul(_kernels(w, groups).swapaxes(1, 2), _outputs(y, groups))
    taken = product.reshape(channels, *kernel, n, *counts)
    taken = taken.transpose(1 + count, 0, *range(2 + count, 2 + 2 * count), *range(1, 1 + count))
    whole = tuple(low + s + high for s, (low, high) in zip(size, padding, strict=True))
    return cropped(overlap_add.body(taken, size=whole, strides=strides, dilation=dilation), padding)


def _weight_normalize(
    x: Aval, y: Aval, *, size: Any, strides: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> dict[str, Any]:
    size = shapes.per_axis("size", size, len(x.shape) - 2)
    return {"size": size, **_geometry(x.shape[2:], size, strides, padding, dilation, groups)}


def _weight_infer(x: Aval, y: Aval, *, size: Any, groups: int, **geometry: Any) -> Aval:
    shape = (y.shape[1], x.shape[1] // groups, *size)
    expected = shapes.conv(x.shape, shape, groups=groups, **geometry)
    if y.shape != expected:
        raise Mismatch(f"a kernel of size {size} gives {expected}, and y has the shape {y.shape}")
    return Aval(shape, x.dtype, x.weak and y.weak)


@special(
    family="convolution",
    normalize=_weight_normalize,
    infer=_weight_infer,
    vjp=lambda g, w, x, y, *, size, **geometry: (
        conv_transpose(y, g, size=x.shape[2:], **geometry),
        conv(x, g, **geometry),
    ),
    jvp=lambda tangents, y, *x, **params: bilinear(conv_weight, tangents, x, params),
    convert=numbers,
    batch=lambda *operands, **params: _batch(conv_weight, _WEIGHT, *operands, **params),
    cases=[
        Case(normal((2, 3, 5, 4), (2, 4, 3, 3)), {"size": (3, 2)}),
        Case(normal((2, 2, 7), (2, 3, 4)), {"size": 3, "strides": 2, "padding": 1}),
        Case(normal((2, 4, 5, 5), (2, 6, 3, 5)), {"size": 3, "groups": 2, "dilation": (1, 2), "padding": (0, 2)}),
        Case(normal((0, 2, 4), (0, 3, 3)), {"size": 2}),
    ],
)
def conv_weight(x, y, /, *, size, strides=1, padding=0, dilation=1, groups=1):
    """The gradient of :func:`conv` with respect to w: each window of x times the number of y that stands for it.

    x: (N, I, *spatial), y: (N, O, *counts), and the result (O, I / groups, *size).

    >>> import defnpy as dp
    >>> conv_weight(dp.asarray([[[1.0, 2.0, 4.0]]]), dp.asarray([[[1.0, 10.0]]]), size=2)
    Tensor([[[21., 42.]]], dtype=float32)
    """
    x, y = np.asarray(x), np.asarray(y)
    columns = _columns(x, size, strides, padding, dilation, groups)
    product = np.matmul(_outputs(y, groups), columns.swapaxes(1, 2))
    return product.reshape(y.shape[1], x.shape[1] // groups, *size)
