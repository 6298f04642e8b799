"""The elements of a window one by one, as slices of the array that windows slide over: what pooling compares in
straight-line code, and convolution multiplies where there are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import shapes
from ..ops.elementwise import where
from ..ops.linear import broadcast_to, iota, place, reshape, slice_
from ..ops.logic import equal, greater_equal, less, logical_and, logical_not, logical_or
from ..ops.window import lowest, taps

__all__ = ["Taps", "around", "copied", "sliced", "sliced_operand", "within"]

TAPS = 16  # elements of a window that are taken one by one
BELOW = 5  # elementwise ops in a row below which a slice is taken


@dataclass(frozen=True)
class Taps:
    """The elements of a window one by one, where windows slide over an array of ``shape``."""

    shape: shapes.Shape
    window: Any
    strides: Any
    padding: Any
    dilation: Any

    @property
    def counts(self) -> shapes.Shape:
        return shapes.windows(self.shape[2:], self.window, self.strides, self.padding, self.dilation)

    @property
    def few(self) -> bool:
        return shapes.size(self.window) <= TAPS

    @property
    def apart(self) -> bool:
        """Whether no two windows meet."""
        covers = shapes.extents(self.window, self.dilation)
        return all(extent <= stride for extent, stride in zip(covers, self.strides, strict=True))

    @property
    def whole(self) -> shapes.Shape:
        """The shape with the padding."""
        return self.shape[:2] + tuple(lo + n + hi for n, (lo, hi) in zip(self.shape[2:], self.padding, strict=True))

    def places(self) -> list[tuple[shapes.Shape, shapes.Shape]]:
        """For each element of a window its place in the padded array, as starts and steps."""
        found = taps(self.window, self.counts, self.strides, self.dilation)
        return [((0, 0, *[i.start for i in at]), (1, 1, *[i.step for i in at])) for _, (_, *at) in found]

    def of(self, x: Any, value: Any = 0) -> list[Any]:
        """Each element of a window of ``x``, for all windows."""
        x = around(x, self.padding, value)
        return [sliced(x, starts, steps, self.shape[:2] + self.counts) for starts, steps in self.places()]

    def contiguous(self, x: Any) -> list[Any]:
        """Like :meth:`of`; where windows move by more than one, of a copy in which what they see at once lies together:
        the numbers at even places apart from those at odd ones, and so on."""
        if set(self.strides) == {1}:
            return self.of(x)
        count, lows = len(self.window), [low for low, _ in self.padding]
        parts, starts = [], []
        for phase in np.ndindex(*self.strides):
            first = tuple([(p - low) % s for p, low, s in zip(phase, lows, self.strides, strict=True)])
            sizes = tuple([-(-(n - f) // s) for n, f, s in zip(x.shape[2:], first, self.strides, strict=True)])
            if min(sizes) > 0:
                parts.append(sliced(x, (0, 0, *first), (1, 1, *self.strides), (*x.shape[:2], *sizes)))
                parts[-1] = reshape(parts[-1], shape=(*x.shape[:2], *(1,) * count, *sizes))
                at = [(f + low) // s for f, low, s in zip(first, lows, self.strides, strict=True)]
                starts.append((0, 0, *phase, *at))
        planes = [-(-n // s) for n, s in zip(self.whole[2:], self.strides, strict=True)]
        shape = (*x.shape[:2], *self.strides, *planes)
        apart = place(*parts, shape=shape, starts=tuple(starts), steps=((1,) * len(shape),) * len(parts), value=0)
        taken = []
        for tap in np.ndindex(*self.window):
            offsets = [k * d for k, d in zip(tap, self.dilation, strict=True)]
            phase = tuple([o % s for o, s in zip(offsets, self.strides, strict=True)])
            begin = tuple([o // s for o, s in zip(offsets, self.strides, strict=True)])
            shape = (*x.shape[:2], *(1,) * count, *self.counts)
            seen = sliced(apart, (0, 0, *phase, *begin), (1,) * apart.ndim, shape)
            taken.append(reshape(seen, shape=(*x.shape[:2], *self.counts)))
        return taken

    def inside(self) -> list[Any]:
        """For each element of a window whether it lies in the array; None where that is so in all windows."""
        result = []
        for starts, steps in self.places():
            held = None
            for axis in range(2, len(self.shape)):
                low, n, m = self.padding[axis - 2][0], self.shape[axis], self.counts[axis - 2]
                first, last = starts[axis] - low, starts[axis] - low + (m - 1) * steps[axis]
                shape = tuple(m if a == axis else 1 for a in range(len(self.shape)))
                at = iota(shape=shape, axis=axis, dtype="int64") * np.int64(steps[axis]) + np.int64(first)
                for holds in [greater_equal(at, np.int64(0))] * (first < 0) + [less(at, np.int64(n))] * (last >= n):
                    held = holds if held is None else logical_and(held, holds)
            result.append(held)
        return result

    def contest(self, x: Any) -> list[Any]:
        """For each element of a window but the first: whether it is larger than all before it.

        The last one of which that is true is the first of the largest. A NaN is larger than any number, and what lies
        outside never is.
        """
        first, *others = self.of(x, lowest(x.dtype))
        inside = self.inside()
        best, found, result = first, inside[0], []
        for tap, held in zip(others, inside[1:], strict=True):
            larger = logical_not(greater_equal(best, tap))
            if x.dtype.kind == "f":
                larger = logical_and(larger, equal(best, best))
            if found is not None:
                larger = logical_or(larger, logical_not(found))
                found = None if held is None else logical_or(found, held)
            larger = larger if held is None else logical_and(larger, held)
            best = where(larger, tap, best)
            result.append(larger)
        return result


def sliced(x: Any, starts: Any, steps: Any, shape: Any, below: int = BELOW) -> Any:
    """A slice of ``x``, taken below the cheap elementwise ops that made it: they need not be computed on their own."""
    if (shape, starts) == (x.shape, (0,) * x.ndim):
        return x
    if below and x.op.family == "elementwise" and x.op.cheap:
        made = x.op(*[sliced_operand(arg, starts, steps, shape, below - 1) for arg in x.args], **x.kwargs)
        return made if made.shape == shape else broadcast_to(made, shape=shape)
    stops = tuple(a + (n - 1) * s + 1 for a, s, n in zip(starts, steps, shape, strict=True))
    return slice_(x, starts=starts, stops=stops, steps=steps)


def sliced_operand(x: Any, starts: Any, steps: Any, shape: Any, below: int = BELOW) -> Any:
    """What an elementwise op needs of an operand, which broadcasts, for a slice of its result."""
    lead, one = len(shape) - x.ndim, [n == 1 for n in x.shape]
    starts = tuple(0 if only else a for only, a in zip(one, starts[lead:], strict=True))
    steps, shape = [tuple(1 if only else n for only, n in zip(one, of[lead:], strict=True)) for of in (steps, shape)]
    return sliced(x, starts, steps, shape, below)


def around(x: Any, padding: shapes.Pairs, value: Any = 0) -> Any:
    """``x`` with padding along its last axes."""
    if not any(low or high for low, high in padding):
        return x
    lead = x.ndim - len(padding)
    shape = x.shape[:lead] + tuple(lo + n + hi for n, (lo, hi) in zip(x.shape[lead:], padding, strict=True))
    starts = (0,) * lead + tuple(low for low, _ in padding)
    return place(x, shape=shape, starts=(starts,), steps=((1,) * x.ndim,), value=value)


def within(x: Any, size: shapes.Shape, padding: shapes.Pairs) -> Any:
    """``x`` without the padding along its last axes, which have ``size`` elements then."""
    lead = x.ndim - len(size)
    starts = (0,) * lead + tuple(low for low, _ in padding)
    stops = tuple(a + n for a, n in zip(starts, x.shape[:lead] + size, strict=True))
    return x if x.shape[lead:] == size else slice_(x, starts=starts, stops=stops, steps=(1,) * x.ndim)


def copied(x: Any) -> Any:
    """``x`` as an array of its own and no view: to be copied once here, not once for each of its readers."""
    return place(x, shape=x.shape, starts=((0,) * x.ndim,), steps=((1,) * x.ndim,), value=0)
