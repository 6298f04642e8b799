"""NumPy-style indexing, and the functional updates ``x.at[i].set(v)`` and ``x.at[i].add(v)``."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .. import shapes
from ..errors import DTypeError, IndexingError, Mismatch
from ..ir.expr import Expr, Value
from ..ir.trace import aval_of, function
from ..ops import linear
from ..ops.convert import cast
from ..ops.gather import gather, scatter_add, scatter_set
from ..ops.sort import along

__all__ = ["At", "getitem", "take", "take_along_axis"]


def getitem(x: Any, index: Any) -> Any:
    """``x[index]``: integers, slices, ``...``, None, integer tensors and lists, in NumPy's meaning.

    Boolean masks work on concrete tensors; in traced code the number of elements would depend on values.
    """
    entries = _expand(index, x.ndim)
    axis = 0
    starts, stops, steps, reverse = [], [], [], []
    # What each axis of the result is: "new", "index" (all index tensors), or an axis of x; and where "..." stands.
    layout: list[str | int] = []
    advanced: list[tuple[int, Any]] = []
    has_tensor = any(not (isinstance(e, (int, slice)) or e is None or e is Ellipsis) for e in entries)
    for entry in entries:
        if entry is None or entry is Ellipsis:
            layout.append("new" if entry is None else "...")
            continue
        n = x.shape[axis]
        start, stop, step = 0, n, 1
        if isinstance(entry, slice):
            start, stop, step, backwards = _slice(entry, n)
            if backwards:
                reverse.append(axis)
            layout.append(axis)
        elif isinstance(entry, int) and not has_tensor:
            start = shapes.check_bounds(entry, n, axis)
            stop = start + 1
        else:
            advanced.append((axis, _positions(entry, n, axis)))
            layout.append("index")
        starts.append(start)
        stops.append(stop)
        steps.append(step)
        axis += 1
    if (starts, stops, steps) != ([0] * x.ndim, list(x.shape), [1] * x.ndim):
        x = linear.slice_(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
    if reverse:
        x = linear.flip(x, axis=tuple(reverse))
    if not advanced:
        shape = tuple(1 if entry == "new" else x.shape[entry] for entry in layout if entry != "...")
        return x if shape == x.shape else linear.reshape(x, shape=shape)
    return _gather(x, advanced, layout)


def _gather(x: Any, advanced: list[tuple[int, Any]], layout: list[str | int]) -> Any:
    indices, axes = _indices(advanced)
    picked = gather(x, *indices, axes=axes)
    permutation, final = _arrangement(x.shape, aval_of(indices[0]).shape, axes, layout)
    if permutation != list(range(picked.ndim)):
        picked = linear.permute_dims(picked, axes=tuple(permutation))
    return picked if final == picked.shape else linear.reshape(picked, shape=final)


def _indices(advanced: list[tuple[int, Any]]) -> tuple[list[Any], shapes.Axes]:
    """Index tensors of one shape, and the axes that they index."""
    shape = shapes.broadcast(*[aval_of(i).shape for _, i in advanced])
    return [_in_shape(i, shape) for _, i in advanced], tuple(a for a, _ in advanced)


def _positions(entry: Any, n: int, axis: int) -> Any:
    """What an entry that is no slice chooses along an axis of n elements."""
    if isinstance(entry, _Places):
        return entry.along(axis, n)
    return np.int64(shapes.check_bounds(entry, n, axis)) if isinstance(entry, int) else entry


def _arrangement(
    x: shapes.Shape, index: shapes.Shape, axes: shapes.Axes, layout: list[str | int]
) -> tuple[list[int], shapes.Shape]:
    """How the axes of what was gathered of an ``x``, those of the indices first, are permuted, and the final shape."""
    # NumPy puts the axes of the index tensors where they stand when they stand together, else in front. A "..." sets
    # them apart even where it stands for no axis.
    places = [i for i, entry in enumerate(layout) if entry == "index"]
    together = places[-1] - places[0] == len(places) - 1
    order: list[str | int] = [entry for entry in layout if entry != "index"]
    order.insert(places[0] if together else 0, "index")
    order = [entry for entry in order if entry != "..."]
    rest = [a for a in range(len(x)) if a not in axes]
    permutation: list[int] = []
    final: list[int] = []
    for entry in order:
        if entry == "index":
            permutation += range(len(index))
            final += index
        elif entry == "new":
            final.append(1)
        else:
            permutation.append(len(index) + rest.index(int(entry)))
            final.append(x[int(entry)])
    return permutation, tuple(final)


def _in_shape(index: Any, shape: shapes.Shape) -> Any:
    return index if aval_of(index).shape == shape else linear.broadcast_to(index, shape=shape)


def _expand(index: Any, ndim: int) -> list[Any]:
    """One entry per axis of x, the Nones, and the ``...``."""
    entries: list[Any] = []
    for entry in index if isinstance(index, tuple) else (index,):
        entries += _entry(entry)
    used = sum(e is not None and e is not Ellipsis for e in entries)
    if used > ndim:
        raise Mismatch(f"{used} indices for {ndim} {'axis' if ndim == 1 else 'axes'}", error=IndexingError)
    dots = [i for i, e in enumerate(entries) if e is Ellipsis]
    if len(dots) > 1:
        raise Mismatch("an index has at most one '...'", error=IndexingError)
    at = dots[0] + 1 if dots else len(entries)
    return entries[:at] + [slice(None)] * (ndim - used) + entries[at:]


def _entry(entry: Any) -> list[Any]:
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return [entry]
    if isinstance(entry, (bool, np.bool_)):
        raise Mismatch("a bool is no index", hint="use dp.where(condition, x, y)", error=IndexingError)
    if isinstance(entry, Expr):
        if entry.dtype.kind == "b":
            raise Mismatch(
                "a traced mask cannot index: how many elements it keeps depends on values",
                hint="keep the shape and blend instead: dp.where(mask, x, 0)",
                error=IndexingError,
            )
        return [entry]
    if isinstance(entry, (Value, np.ndarray, list)):
        if isinstance(entry, Value) and entry.dtype.kind in "iu":
            return [entry]
        array = np.asarray(entry)
        if array.size == 0 and isinstance(entry, list):
            array = array.astype(np.int64)
        if array.dtype.kind == "b":
            return [_Places(places, n) for places, n in zip(np.nonzero(array), array.shape, strict=True)]
        if array.dtype.kind not in "iu":
            raise Mismatch(f"an index is an integer, not {array.dtype}", "convert it: i.astype(int)", IndexingError)
        return [entry if isinstance(entry, Value) else array]
    try:
        return [operator.index(entry)]
    except TypeError:
        hint = "convert it with int(...)" if isinstance(entry, float) else ""
        raise Mismatch(f"{type(entry).__name__} {entry!r} is no index", hint, IndexingError) from None


class _Places:
    """Where a mask holds along one of its axes, of ``size``."""

    def __init__(self, places: np.ndarray[Any, Any], size: int) -> None:
        self._places = places
        self._size = size

    def along(self, axis: int, n: int) -> np.ndarray[Any, Any]:
        """The places, as indices of an axis that must have the mask's size."""
        if n != self._size:
            raise Mismatch(f"a mask of size {self._size} stands for axis {axis} of size {n}", error=IndexingError)
        return self._places


def _slice(entry: slice, n: int) -> tuple[int, int, int, bool]:
    for bound in (entry.start, entry.stop, entry.step):
        if isinstance(bound, Expr):
            raise Mismatch(
                "the bounds of a slice must be known while tracing",
                hint="pass them as keyword-only arguments, or gather: x[start + dp.arange(length)]",
                error=IndexingError,
            )
    try:
        start, stop, step = entry.indices(n)
    except (TypeError, ValueError) as problem:
        raise Mismatch(str(problem), error=IndexingError) from None
    length = shapes.slice_length(start, stop, step)
    if length == 0:
        return 0, 0, 1, False
    last = start + (length - 1) * step
    first = min(start, last)
    return first, max(start, last) + 1, abs(step), step < 0


@function
def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Any:
    """Elements of ``x`` at ``indices`` along ``axis``, whose place in the shape the indices' shape takes.

    Negative indices count from the end; one out of bounds is an error.

    >>> import defnpy as dp
    >>> dp.take(dp.asarray([[1, 2, 3], [4, 5, 6]]), dp.asarray([2, 0]), axis=1)
    Tensor([[3, 1],
            [6, 4]], dtype=int64)
    """
    if axis is None:
        if x.ndim != 1:
            raise Mismatch("say along which axis", hint="dp.take(x, indices, axis=0)")
        axis = 0
    axis = shapes.normalize_axis(axis, x.ndim)
    return getitem(x, (slice(None),) * axis + (indices,))


@function
def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    """One element per index along ``axis``; outside that axis the shapes agree.

    >>> import defnpy as dp
    >>> dp.take_along_axis(dp.asarray([[1, 2, 3], [4, 5, 6]]), dp.asarray([[2], [0]]), axis=1)
    Tensor([[3],
            [4]], dtype=int64)
    """
    axis = shapes.normalize_axis(axis, x.ndim)
    shape = aval_of(indices).shape
    if len(shape) != x.ndim or any(a != axis and n != x.shape[a] for a, n in enumerate(shape)):
        raise Mismatch(f"the indices have shape {shape}, the tensor {x.shape}: they may differ in axis {axis} only")
    return along(x, indices, axis)


class At:
    """``x.at[index]``: the place of a functional update. See ``set`` and ``add``."""

    __slots__ = ("_index", "_x")

    def __init__(self, x: Any) -> None:
        self._x = x
        self._index: Any = Ellipsis

    def __getitem__(self, index: Any) -> At:
        result = At(self._x)
        result._index = index
        return result

    def set(self, values: Any) -> Any:
        """A copy of x with ``values`` (broadcast) at the place; where an element is named twice the last one stays.

        >>> import defnpy as dp
        >>> dp.zeros((2, 3)).at[:, 1].set(dp.asarray([1.0, 2.0]))
        Tensor([[0., 1., 0.],
                [0., 2., 0.]], dtype=float32)
        """
        return set_at(self._x, self._index, values)

    def add(self, values: Any) -> Any:
        """A copy of x with ``values`` (broadcast) added at the place; an element named twice gets both.

        >>> import defnpy as dp
        >>> dp.zeros((3,)).at[dp.asarray([0, 2, 0])].add(1.0)
        Tensor([2., 0., 1.], dtype=float32)
        """
        return add_at(self._x, self._index, values)

    def get(self) -> Any:
        """``x[index]``."""
        return self._x[self._index]


@function
def set_at(x: Any, index: Any, values: Any, /) -> Any:
    """``x.at[index].set(values)``."""
    return _update(scatter_set, x, index, values)


@function
def add_at(x: Any, index: Any, values: Any, /) -> Any:
    """``x.at[index].add(values)``."""
    return _update(scatter_add, x, index, values)


def _update(scatter: Any, x: Any, index: Any, values: Any) -> Any:
    aval = aval_of(values)
    if aval.dtype.kind == "f" and x.dtype.kind != "f":
        wanted = "float32" if aval.weak else aval.dtype
        raise Mismatch(
            f"{aval} values do not fit into {x.aval}", hint=f"convert first: x.astype('{wanted}')", error=DTypeError
        )
    values = cast(values, x.dtype)
    advanced, layout = _integers(x.shape, _expand(index, x.ndim))
    if advanced:
        indices, axes = _indices(advanced)
        permutation, place = _arrangement(x.shape, aval_of(indices[0]).shape, axes, layout)
        values = linear.permute_dims(_spread(values, place), axes=tuple(np.argsort(permutation).tolist()))
        return scatter(x, values, *indices, axes=axes)
    # Index the positions instead of the elements: any index at all becomes a list of places in the flat tensor.
    positions = getitem(linear.reshape(linear.iota(shape=(x.size,)), shape=x.shape), index)
    values = _spread(values, positions.shape)
    return linear.reshape(scatter(linear.reshape(x, shape=(-1,)), values, positions, axes=(0,)), shape=x.shape)


def _integers(shape: shapes.Shape, entries: list[Any]) -> tuple[list[tuple[int, Any]], list[str | int]]:
    """The axes that integers index, with these, and the layout as in :func:`getitem`; nothing where an index does
    more than to choose along whole axes."""
    if any(entry is None for entry in entries):
        return [], []
    advanced: list[tuple[int, Any]] = []
    layout: list[str | int] = []
    axis = -1
    for entry in entries:
        if entry is Ellipsis:
            layout.append("...")
            continue
        axis += 1
        n = shape[axis]
        if isinstance(entry, slice):
            if _slice(entry, n) != (0, n, 1, False):
                return [], []
            layout.append(axis)
            continue
        advanced.append((axis, _positions(entry, n, axis)))
        layout.append("index")
    return advanced, layout


def _spread(values: Any, place: shapes.Shape) -> Any:
    shape = aval_of(values).shape
    if shapes.broadcast(shape, place) != place:
        raise Mismatch(f"values of shape {shape} do not fit the indexed place of shape {place}")
    return linear.broadcast_to(values, shape=place)
