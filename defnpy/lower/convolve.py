"""Convolution and its two gradients in terms of simpler ops, by the way that is fastest for the shape.

* A matrix product, whose columns, the windows of the padded image, are a view that the scheduler has copied once for
  all products that read it. Where they would leave the caches, only those of a kernel of one row are copied, and the
  product is a sum over the rows of the kernel.
* Where a group of channels has few outputs, and a sum few terms, as for channels with a kernel each: the sum itself, in
  straight-line code over slices of the image.
* The transpose is a convolution with the kernel turned around; where that would take too many columns, or windows move
  by more than one, a product whose columns are added up.

``benchmarks/core/convolutions.py`` measures what the numbers below decide.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import shapes
from ..ops.contract import dot_general
from ..ops.elementwise import add
from ..ops.linear import broadcast_to, flip, permute_dims, place, reshape, sum_
from ..ops.window import overlap_add, windows
from .products import DEEP, ORDERED, arrange
from .taps import Taps, around, copied, sliced, within

__all__ = ["conv", "conv_transpose", "conv_weight", "product"]

WIDER = 4  # so many times as many channels may be convolved back into few, before their columns take too much memory
TERMS = 36  # of a sum that needs no matrix product, where a group of channels has few outputs:
OUTPUTS = 8  # from twice as many on a product is faster (benchmarks/core/convolutions.py)
LARGE = 2**23  # bytes of columns, in no cache any more when they have been copied
FEWER = 4  # so many times fewer kernels than there are windows in an image
PARTS = 16  # a sum over a batch is taken in at most so many parts, whatever the number of threads


def product(left: Any, right: Any, *, contract: Any, batch: Any) -> Any:
    """A product whose operands lie in an order that BLAS can read, once they are copied."""
    node = dot_general(left, right, contract=contract, batch=batch)
    plan = arrange(node)
    if plan is None or ORDERED not in plan.copies:
        return node
    operands, axes = [], []
    for x, groups, copy, contracted, batched in zip(
        (left, right), (plan.left, plan.right), plan.copies, contract, batch, strict=True
    ):
        order = sum(groups, ()) if copy == ORDERED else tuple(range(x.ndim))
        operands.append(permute_dims(x, axes=order))
        axes.append((tuple(map(order.index, contracted)), tuple(map(order.index, batched))))
    (left_contract, left_batch), (right_contract, right_batch) = axes
    return dot_general(*operands, contract=(left_contract, right_contract), batch=(left_batch, right_batch))


def _columns(x: Any, window: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The windows of x: (N, [G,] I / G, *kernel, *counts)."""
    taken = windows(around(x, padding), window=window, strides=strides, dilation=dilation)
    return _grouped(permute_dims(taken, axes=_exchanged(len(window))), 1, groups)


def _exchanged(count: int) -> shapes.Axes:
    """The permutation by which the places of windows and what is in them change sides, ``count`` axes each."""
    return (0, 1, *range(2 + count, 2 + 2 * count), *range(2, 2 + count))


def _grouped(x: Any, axis: int, groups: int) -> Any:
    """``x`` with an axis of channels as one of groups and one of the channels in each; one group needs no axis."""
    if groups == 1:
        return x
    return reshape(x, shape=(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]))


def _for_each(w: Any, batch: int, groups: int) -> Any:
    """The kernel of every example: (N, [G,] O / G, I / G, *kernel)."""
    w = _grouped(w, 0, groups)
    return broadcast_to(w, shape=(batch, *w.shape))


def _stack(groups: int) -> tuple[shapes.Axes, shapes.Axes]:
    """The axes of examples and groups, of both operands of a product."""
    axes = (0,) if groups == 1 else (0, 1)
    return axes, axes


def _shaped(x: Any, shape: shapes.Shape) -> Any:
    return x if x.shape == shape else reshape(x, shape=shape)


def conv(x: Any, w: Any, *, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    if w.dtype.kind != "f":
        return None
    of = Taps(x.shape, w.shape[2:], strides, padding, dilation)
    if _direct(w, groups):
        return _conv_by_taps(x, w, of, groups)
    if groups == 1 and _by_rows(of, w.shape[0], x.dtype.itemsize):
        return _conv_by_rows(x, w, of)
    columns = _columns(x, w.shape[2:], strides, padding, dilation, groups)
    stack = _stack(groups)
    inner = tuple(range(len(stack[0]), len(stack[0]) + w.ndim - 1))
    contract = (tuple(a + 1 for a in inner), inner)
    found = product(_for_each(w, x.shape[0], groups), columns, contract=contract, batch=stack)
    return _shaped(found, (x.shape[0], w.shape[0], *columns.shape[inner[-1] + 1 :]))


def _by_rows(of: Taps, outputs: int, itemsize: int) -> bool:
    """Whether columns are so many that they are better copied for one row of the kernel, and read for all.

    It pays where images are large beside the kernels: sums are kept for each image, or read again for each row.
    """
    columns = of.shape[0] * of.shape[1] * shapes.size(of.window) * shapes.size(of.counts) * itemsize
    deep = of.shape[1] * shapes.size(of.window[1:]) >= DEEP
    slides = of.strides[0] == 1 and of.window[0] > 1
    return slides and deep and columns > LARGE and FEWER * outputs <= shapes.size(of.counts)


def _row_columns(x: Any, of: Taps) -> Any:
    """The columns of a kernel of one row, (N, I, *kernel[1:], *counts, kernel[0]): those of each further row are the
    same, one row of pixels further on. So they are copied once, not once for each row."""
    count = len(of.window)
    one, inside = (1,) * (count - 1), tuple(range(3 + count, 2 + 2 * count))
    window, dilation = (1, *of.window[1:]), (1, *of.dilation[1:])
    taken = windows(around(x, of.padding), window=window, strides=of.strides, dilation=dilation)
    taken = permute_dims(taken, axes=(0, 1, 2 + count, *inside, *range(2, 2 + count)))
    taken = copied(reshape(taken, shape=(*taken.shape[:2], *taken.shape[3:])))
    seen = windows(taken, window=(of.window[0], *one), strides=(1,) * count, dilation=(of.dilation[0], *one))
    return reshape(seen, shape=seen.shape[: seen.ndim - len(one)])


def _conv_by_rows(x: Any, w: Any, of: Taps) -> Any:
    """A sum of products, one for each row of the kernel."""
    columns, count = _row_columns(x, of), len(of.window)
    kernel = copied(permute_dims(w, axes=(2, 0, 1, *range(3, w.ndim))))  # (rows, O, I, *the others)
    contract = ((1, *range(3, 3 + count)), (columns.ndim - 1, *range(1, 1 + count)))
    return product(_for_each(kernel, x.shape[0], 1), columns, contract=contract, batch=((0,), (0,)))


def _weight_by_rows(x: Any, y: Any, of: Taps) -> Any:
    """A product for each image and row of the kernel; the images' are added up."""
    columns, count = _row_columns(x, of), len(of.window)
    outputs = broadcast_to(
        reshape(y, shape=(y.shape[0], 1, *y.shape[1:])), shape=(y.shape[0], of.window[0], *y.shape[1:])
    )
    last = columns.ndim - 1
    contract = (tuple(range(3, 3 + count)), tuple(range(last - count, last)))
    found = product(outputs, columns, contract=contract, batch=((0, 1), (0, last)))  # (N, rows, O, I, *the others)
    return permute_dims(sum_(found, axis=(0,)), axes=(1, 2, 0, *range(3, 2 + count)))


def conv_transpose(y: Any, w: Any, *, strides: Any, padding: Any, dilation: Any, groups: int, size: Any) -> Any:
    if w.dtype.kind != "f":
        return None
    reach = tuple(extent - 1 for extent in shapes.extents(w.shape[2:], dilation))
    whole = tuple((n - 1) * s + 1 for n, s in zip(y.shape[2:], strides, strict=True))
    lows = tuple(r - low for r, (low, _) in zip(reach, padding, strict=True))
    highs = tuple(n + r - low - m for n, r, low, m in zip(size, reach, lows, whole, strict=True))
    turned = _turned(w, groups)
    few = w.shape[0] <= WIDER * w.shape[1] * groups and set(strides) == {1}
    if (few or _direct(turned, groups)) and min(*lows, *highs) >= 0:
        # Every pixel sees the outputs around it, with zeros between those of windows that move by more than one,
        # through the kernel turned around. That is a convolution, whose columns are copied; columns that are added
        # back take several times as long.
        shape = (*y.shape[:2], *[low + m + high for low, m, high in zip(lows, whole, highs, strict=True)])
        if shape != y.shape:
            y = place(y, shape=shape, starts=((0, 0, *lows),), steps=((1, 1, *strides),), value=0)
        one = (1,) * len(size)
        return conv(y, turned, strides=one, padding=((0, 0),) * len(size), dilation=dilation, groups=groups)
    n, stack = y.shape[0], _stack(groups)
    channels = ((len(stack[0]),), (len(stack[0]),))
    found = product(_for_each(w, n, groups), _grouped(y, 1, groups), contract=channels, batch=stack)
    taken = _shaped(found, (n, w.shape[1] * groups, *w.shape[2:], *y.shape[2:]))
    taken = permute_dims(taken, axes=_exchanged(len(size)))
    padded = tuple(low + s + high for s, (low, high) in zip(size, padding, strict=True))
    return within(overlap_add(taken, size=padded, strides=strides, dilation=dilation), size, padding)


def _turned(w: Any, groups: int) -> Any:
    """A copy of the kernel turned around, its inputs and outputs exchanged: (I, O / G, *kernel)."""
    grouped = _grouped(w, 0, groups)
    lead = grouped.ndim - w.ndim
    turned = flip(grouped, axis=tuple(range(lead + 2, grouped.ndim)))
    turned = permute_dims(turned, axes=(*range(lead), lead + 1, lead, *range(lead + 2, grouped.ndim)))
    return _shaped(copied(turned), (w.shape[1] * groups, w.shape[0] // groups, *w.shape[2:]))


def conv_weight(x: Any, y: Any, *, size: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The batch in P parts: sums of (P, N / P, [G,] O / G, *counts) times (P, N / P, [G,] I / G, *kernel, *counts)."""
    if y.dtype.kind != "f":
        return None
    shape = (y.shape[1], x.shape[1] // groups, *size)
    of = Taps(x.shape, size, strides, padding, dilation)
    if groups == x.shape[1] and of.few:
        return _weight_by_taps(of, x, y, shape)
    if groups == 1 and _by_rows(of, y.shape[1], x.dtype.itemsize):
        return _weight_by_rows(x, y, of)
    parts = _even_parts(x.shape[0])

    def cut(z: Any) -> Any:
        return reshape(z, shape=(parts, z.shape[0] // parts, *z.shape[1:]))

    columns = cut(_columns(x, size, strides, padding, dilation, groups))
    outputs = cut(_grouped(y, 1, groups))
    stack = (0,) if groups == 1 else (0, 2)
    channels, count = len(stack) + 1, len(size)
    contract = (
        (1, *range(channels + 1, channels + 1 + count)),
        (1, *range(channels + 1 + count, channels + 1 + 2 * count)),
    )
    found = product(outputs, columns, contract=contract, batch=(stack, stack))
    return _shaped(found if parts == 1 else sum_(found, axis=(0,)), shape)


# -- convolution without a product, where each channel has a kernel of its own -----------------------------------------


def _direct(w: Any, groups: int) -> bool:
    """Whether the sums have so few terms, for so few outputs, that a product would do little but read its columns."""
    return groups > 1 and shapes.size(w.shape[1:]) <= TERMS and w.shape[0] <= OUTPUTS * groups


def _conv_by_taps(x: Any, w: Any, of: Taps, groups: int) -> Any:
    """A sum over the input channels of a group and the elements of a window, in straight-line code."""
    n, count, each, outputs = x.shape[0], len(of.window), x.shape[1] // groups, w.shape[0] // groups
    w = reshape(w, shape=(groups, outputs, *w.shape[1:]))
    several = (1,) * (outputs > 1)  # an axis of outputs in a group, if there is more than one
    terms = []
    for tap, at in zip(of.contiguous(x), np.ndindex(*of.window), strict=True):
        for channel in range(each):
            seen = sliced(tap, (0, channel, *(0,) * count), (1, each, *(1,) * count), (n, groups, *of.counts))
            weight = sliced(w, (0, 0, channel, *at), (1,) * w.ndim, (groups, outputs, *(1,) * (1 + count)))
            weight = reshape(weight, shape=(groups, *[outputs for _ in several], *(1,) * count))
            terms.append(reshape(seen, shape=(n, groups, *several, *of.counts)) * weight)
    return _shaped(functools.reduce(add, terms), (n, groups * outputs, *of.counts))


def _weight_by_taps(of: Taps, x: Any, y: Any, shape: shapes.Shape) -> Any:
    """One sum over the batch and all windows for every element of a window; each channel is a row of its own."""
    n, groups, count = x.shape[0], x.shape[1], len(of.window)
    order = (1, 2, 0, *range(3, 3 + count))  # (G, O / G, N, *counts)
    outputs = permute_dims(reshape(y, shape=(n, groups, y.shape[1] // groups, *of.counts)), axes=order)
    parts = []
    for tap in of.contiguous(x):
        seen = permute_dims(reshape(tap, shape=(n, groups, 1, *of.counts)), axes=order)
        parts.append(
            reshape(sum_(seen * outputs, axis=tuple(range(2, 3 + count))), shape=(shape[0], *(1,) * (1 + count)))
        )
    starts = tuple([(0, 0, *at) for at in np.ndindex(*of.window)])
    return place(*parts, shape=shape, starts=starts, steps=((1,) * len(shape),) * len(parts), value=0)


def _even_parts(n: int) -> int:
    """Into how many equal parts a batch is cut: an even number where there is one, for threads to share."""
    found = [p for p in range(1, PARTS + 1) if n % p == 0]
    return max([p for p in found if p % 2 == 0], default=max(found))
