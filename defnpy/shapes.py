"""Pure functions on tuples of ints: what shape an operation gives, or a bare :class:`Mismatch`."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

from .errors import IndexingError, Mismatch

__all__ = [
    "DYNAMIC",
    "Axes",
    "Pairs",
    "Shape",
    "as_shape",
    "broadcast",
    "broadcast_axes",
    "concat",
    "conv",
    "conv_axes",
    "dot",
    "extents",
    "matmul_axes",
    "normalize_axes",
    "normalize_axis",
    "out_of_bounds",
    "pad",
    "padding",
    "per_axis",
    "positive",
    "reduce",
    "reshape",
    "size",
    "slice_length",
    "strides",
    "windows",
]

Shape = tuple[int, ...]
DYNAMIC = -1  # the size of an axis that is known only when a loop has ended; only control flow makes such values
Axes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]  # for every spatial axis: how much is padded below and above


MOST = 2**63 - 1  # elements of an array: their number is an int64


def as_shape(value: int | Iterable[int]) -> Shape:
    """A shape from an int or a sequence of ints.

    >>> as_shape(3), as_shape([2, 3])
    ((3,), (2, 3))
    """
    try:
        dims: Shape = (operator.index(value),)  # type: ignore[arg-type]
    except TypeError:
        try:
            dims = tuple(operator.index(n) for n in value)  # type: ignore[union-attr]
        except TypeError:
            hint = "divide sizes with //" if isinstance(value, float) else ""
            raise Mismatch(f"a shape is an int or a sequence of ints, not {value!r}", hint) from None
    if any(n < 0 for n in dims):
        hint = "only in reshape does -1 stand for the size that is left" if min(dims) == -1 else ""
        raise Mismatch(f"a shape has no negative sizes: {dims}", hint)
    if math.prod(dims) > MOST:
        raise Mismatch(f"an array of shape {dims} has more elements than memory can hold")
    return dims


def size(shape: Shape) -> int:
    """The number of elements."""
    return math.prod(shape)


def strides(shape: Shape) -> Shape:
    """Row-major strides, counted in elements.

    >>> strides((2, 3, 4))
    (12, 4, 1)
    """
    result = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        result[axis] = result[axis + 1] * shape[axis + 1]
    return tuple(result)


def broadcast(*shapes: Shape) -> Shape:
    """The common shape under NumPy's rule: align at the right, sizes equal or 1.

    >>> broadcast((4, 1), (3,))
    (4, 3)
    """
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    ndim = max(map(len, shapes))
    result = [1] * ndim
    for shape in shapes:
        for axis, n in enumerate(shape, ndim - len(shape)):
            if n != 1 and result[axis] != n:
                if result[axis] != 1:
                    raise Mismatch(
                        f"shapes {_and(shapes)} do not broadcast: {result[axis]} and {n} in axis {axis - ndim}",
                        _with_axes(*sorted(shapes, key=len)) if len(shapes) == 2 else "",
                    )
                result[axis] = n
    return tuple(result)


def _with_axes(short: Shape, long: Shape) -> str:
    """How axes of size 1 make a shape broadcast with a longer one of whose sizes it has some; empty where none do."""
    sizes = list(short)
    index = [":" if sizes and sizes[0] == n and sizes.pop(0) == n else "None" for n in long]
    if sizes or len(short) in (0, len(long)):
        return ""
    first = index.index(":")
    fitting = tuple(n if place == ":" else 1 for n, place in zip(long, index, strict=True))[first:]
    return f"give {short} the shape {fitting}: x[{', '.join(index[first:])}]"


def broadcast_axes(shape: Shape, target: Shape) -> Axes:
    """The axes of ``target`` along which an operand of ``shape`` was repeated.

    >>> broadcast_axes((4, 1), (2, 4, 3))
    (0, 2)
    """
    lead = len(target) - len(shape)
    return tuple(a for a, n in enumerate(target) if a < lead or (shape[a - lead] == 1 and n != 1))


def normalize_axis(axis: int, ndim: int) -> int:
    """An axis counted from the front."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise Mismatch(f"an axis is an int, not {axis!r}") from None
    if not -ndim <= index < ndim:
        count = f"{ndim} {'axis' if ndim == 1 else 'axes'}"
        hint = f"axes run from 0 to {ndim - 1}, or from -{ndim} to -1" if ndim > 1 else ""
        raise Mismatch(f"axis {index} does not exist: the tensor has {count}", hint)
    return index % ndim


def normalize_axes(axis: int | Sequence[int] | None, ndim: int) -> Axes:
    """Sorted axes counted from the front; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    result = tuple(sorted(normalize_axis(a, ndim) for a in axes))
    if len(set(result)) != len(result):
        raise Mismatch(f"axes {axes} name one axis twice", hint=f"axis={tuple(dict.fromkeys(result))} names each once")
    return result


def reduce(shape: Shape, axes: Axes) -> Shape:
    """The shape without ``axes``."""
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def reshape(shape: Shape, target: Sequence[int]) -> Shape:
    """``target`` with its one -1 resolved.

    >>> reshape((2, 6), (3, -1))
    (3, 4)
    """
    total = size(shape)
    unknown = [a for a, n in enumerate(target) if n == -1]
    if len(unknown) > 1:
        raise Mismatch(f"only one size may be -1 in {tuple(target)}")
    result = list(target)
    if unknown:
        known = size(tuple(n for n in target if n != -1))
        if known == 0 or total % known:
            hint = "0 elements do not tell which size -1 stands for: write it" if known == total == 0 else ""
            raise Mismatch(f"{shape} with {total} elements cannot become {tuple(target)}", hint)
        result[unknown[0]] = total // known
    if any(n < 0 for n in result) or size(tuple(result)) != total:
        raise Mismatch(
            f"{shape} with {total} elements cannot become {tuple(target)} with {size(tuple(result))}",
            _with_one_open(total, target),
        )
    return tuple(result)


def _with_one_open(total: int, target: Sequence[int]) -> str:
    """The target with the first of its sizes replaced that -1 makes fit; empty when there is none."""
    for axis in range(len(target)):
        others = size((*target[:axis], *target[axis + 1 :]))
        if min(target) >= 0 and others and total % others == 0:
            return f"-1 stands for the size that fits: {(*target[:axis], -1, *target[axis + 1 :])}"
    return ""


def concat(shapes: Sequence[Shape], axis: int) -> Shape:
    """The shape of tensors joined along ``axis``."""
    first = shapes[0]
    if not _joinable(shapes, axis):
        others = [a for a in range(len(first)) if _joinable(shapes, a)]
        hint = f"join them along axis={others[0]}" if others else ""
        raise Mismatch(f"shapes {_and(shapes)} differ outside axis {axis}", hint)
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _joinable(shapes: Sequence[Shape], axis: int) -> bool:
    rest = {(len(shape), *shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    return len(rest) == 1


def slice_length(start: int, stop: int, step: int) -> int:
    """The number of elements of ``range(start, stop, step)``."""
    return len(range(start, stop, step))


def pad(shape: Shape, low: Shape, high: Shape, interior: Shape) -> Shape:
    """The shape after ``interior`` gaps between elements and ``low`` and ``high`` around them."""
    if not len(shape) == len(low) == len(high) == len(interior):
        raise Mismatch(f"padding needs one entry per axis of {shape}")
    if min((*low, *high, *interior), default=0) < 0:
        raise Mismatch("padding is not negative", hint="crop with a slice: x[1:-1]")
    return tuple(lo + n + max(n - 1, 0) * gap + hi for n, lo, hi, gap in zip(shape, low, high, interior, strict=True))


def dot(left: Shape, right: Shape, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes]) -> Shape:
    """Batch axes, then the left's free axes, then the right's.

    >>> dot((5, 2, 3), (5, 3, 4), ((2,), (1,)), ((0,), (0,)))
    (5, 2, 4)
    """
    for a, b in (*zip(*contract, strict=True), *zip(*batch, strict=True)):
        if left[a] != right[b]:
            raise Mismatch(f"axis {a} of the left operand has size {left[a]}, axis {b} of the right one {right[b]}")
    free_left = tuple(n for a, n in enumerate(left) if a not in contract[0] + batch[0])
    free_right = tuple(n for a, n in enumerate(right) if a not in contract[1] + batch[1])
    return tuple(left[a] for a in batch[0]) + free_left + free_right


def matmul_axes(left: Shape, right: Shape) -> tuple[int, int]:
    """The contracted axes of a matrix product: the left's last, the right's second last (or only) one."""
    if not left or not right:
        raise Mismatch("a matrix product needs at least one axis on both sides", hint="multiply by a number with *")
    a, b = len(left) - 1, max(len(right) - 2, 0)
    if left[a] != right[b]:
        hint = ""
        if len(right) > 1 and left[-1] == right[-1]:
            hint = "transpose the right operand: a @ b.T"
        elif len(left) > 1 and left[-2] == right[b]:
            hint = "transpose the left operand: a.T @ b"
        raise Mismatch(f"the inner sizes differ: {left[a]} and {right[b]}", hint=hint)
    return a, b


def positive(name: str, value: object) -> int:
    """An int of at least 1."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise Mismatch(f"{name} must be an int, or ints, not {value!r}") from None
    if number < 1:
        raise Mismatch(f"{name} must be at least 1, not {number}")
    return number


def per_axis(name: str, value: object, count: int) -> Shape:
    """One int of at least 1 for each of ``count`` axes, from an int for all of them or a sequence.

    >>> per_axis("strides", 2, 3)
    (2, 2, 2)
    """
    if not isinstance(value, (tuple, list)):
        return (positive(name, value),) * count
    if len(value) != count:
        raise Mismatch(f"{name} has {len(value)} entries for {count} spatial {'axis' if count == 1 else 'axes'}")
    return tuple(positive(name, n) for n in value)


def extents(window: Shape, dilation: Shape) -> Shape:
    """How many elements a window covers, the gaps that dilation leaves included.

    >>> extents((3, 3), (1, 2))
    (3, 5)
    """
    return tuple((n - 1) * d + 1 for n, d in zip(window, dilation, strict=True))


def padding(value: object, shape: Shape, window: Shape, strides: Shape, dilation: Shape) -> Pairs:
    """The padding of each axis as (low, high): from an int, one int or pair per axis, "valid" (none) or "same".

    "same" gives ceil(size / stride) windows; of an odd number of elements the larger half is at the end, as in
    TensorFlow and JAX.

    >>> padding("same", (5, 4), (3, 2), (1, 1), (1, 1))
    ((1, 1), (0, 1))
    """
    if value == "same":
        total = [
            max((-(-n // s) - 1) * s + extent - n, 0)
            for n, extent, s in zip(shape, extents(window, dilation), strides, strict=True)
        ]
        return tuple((n // 2, n - n // 2) for n in total)
    if isinstance(value, str):
        if value != "valid":
            raise Mismatch(f"padding {value!r} is not known", hint='say "same", "valid", or how many elements')
        value = 0
    entries = value if isinstance(value, (tuple, list)) else (value,) * len(shape)
    if len(entries) != len(shape):
        count = f"{len(shape)} spatial {'axis' if len(shape) == 1 else 'axes'}"
        raise Mismatch(f"padding has {len(entries)} entries for {count}", hint="give an int or a pair per axis")
    return tuple(_pair(entry) for entry in entries)


def _pair(entry: object) -> tuple[int, int]:
    try:
        low, high = entry if isinstance(entry, (tuple, list)) else (entry, entry)
        low, high = operator.index(low), operator.index(high)
    except (TypeError, ValueError):
        raise Mismatch(f"the padding of an axis is an int or a pair of ints, not {entry!r}") from None
    if low < 0 or high < 0:
        raise Mismatch(f"padding is not negative: {entry}", hint="crop with a slice: x[..., 1:-1]")
    return low, high


def windows(shape: Shape, window: Shape, strides: Shape, padding: Pairs, dilation: Shape) -> Shape:
    """How many windows there are along each of the last axes, which ``shape`` lists.

    >>> windows((28, 28), (5, 5), (1, 2), ((0, 0), (2, 2)), (1, 1))
    (24, 14)
    """
    result = []
    for axis, (n, (low, high), extent) in enumerate(zip(shape, padding, extents(window, dilation), strict=True)):
        length = low + n + high
        if window[axis] < 1:
            raise Mismatch(f"a window without elements: {window}")
        if extent > length:
            padded = " with its padding" if low or high else ""
            gaps = f" ({window[axis]} with dilation {dilation[axis]})" if dilation[axis] > 1 else ""
            raise Mismatch(
                f"a window of {extent}{gaps} does not fit axis {axis - len(shape)}, which has size {length}{padded}",
                hint='pad the input, or say padding="same"',
            )
        result.append((length - extent) // strides[axis] + 1)
    return tuple(result)


def conv_axes(x: Shape, w: Shape, first: str = "x") -> int:
    """The number of spatial axes of a convolution: those after batch (or output) and channel."""
    if len(x) < 3 or len(x) != len(w):
        missing = len(x) == len(w) - 1
        raise Mismatch(
            f"{first} has {len(x)} axes and w has {len(w)}: {first} is (batch, channels, *spatial), and w is "
            "(output channels, input channels / groups, *kernel)",
            hint=f"add the batch axis of a single example: {first}[None]" if missing else "",
        )
    return len(x) - 2


def conv(x: Shape, w: Shape, strides: Shape, padding: Pairs, dilation: Shape, groups: int) -> Shape:
    """(N, I, *spatial) convolved with (O, I / groups, *kernel) is (N, O, *positions).

    >>> conv((10, 3, 28, 28), (8, 3, 5, 5), (1, 1), ((0, 0), (2, 2)), (1, 1), 1)
    (10, 8, 24, 28)
    """
    if x[1] != w[1] * groups:
        takes = f"{w[1]} × {groups} groups = {w[1] * groups}" if groups > 1 else f"{w[1]}"
        raise Mismatch(
            f"x has {x[1]} channels, and w takes {takes}",
            hint="w has the shape (output channels, input channels / groups, *kernel)",
        )
    if w[0] % groups:
        raise Mismatch(
            f"{w[0]} output channels do not split into {groups} groups", hint="w.shape[0] is a multiple of groups"
        )
    return (x[0], w[0], *windows(x[2:], w[2:], strides, padding, dilation))


def check_bounds(index: int, length: int, axis: int) -> int:
    """An index counted from the front."""
    if not -length <= index < length:
        raise out_of_bounds(index, length, axis)
    return index % length


def out_of_bounds(index: int, length: int, axis: int) -> Mismatch:
    """What is said of an index that an axis of this length does not have."""
    hint = f"indices run from 0 to {length - 1}, or from -{length} to -1" if length else "the axis has no elements"
    return Mismatch(f"index {index} is out of bounds for axis {axis} of size {length}", hint, IndexingError)


def _and(shapes: Sequence[Shape]) -> str:
    names = [str(shape) for shape in shapes]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
