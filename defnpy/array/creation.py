"""Tensors from Python and NumPy values, and from a rule."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DEFAULT_FLOAT, DEFAULT_INT, DType, as_dtype
from ..errors import DTypeError, Mismatch
from ..ir.expr import Expr, Value
from ..ir.trace import function
from ..ops import linear
from ..ops.convert import astype as _astype
from ..ops.convert import cast
from ..ops.elementwise import add, multiply, where
from ..ops.logic import equal, greater_equal
from ..source import capture, quote
from ..tensor import Tensor, wrap


def placed(body: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the standard's argument ``device``, of which there is one: ``"cpu"``."""

    @functools.wraps(body)
    def wrapper(*args: Any, device: str | None = None, **kwargs: Any) -> Any:
        if device not in (None, "cpu"):
            raise ValueError(f"unknown device {device!r}: the only one is 'cpu'")
        return body(*args, **kwargs)

    own = inspect.signature(body)
    device = inspect.signature(wrapper, follow_wrapped=False).parameters["device"]
    wrapper.__signature__ = own.replace(parameters=[*own.parameters.values(), device])  # type: ignore[attr-defined]
    return wrapper


@placed
@function
def asarray(obj: Any, /, *, dtype: Any = None, copy: bool | None = None) -> Any:
    """A tensor of ``obj``: a tensor, a NumPy array, a number, nested lists of numbers, or anything with ``__array__``.

    Python floats become float32, ints int64; arrays keep their dtype. Memory is shared only with an array that is
    read-only, because a tensor never changes; ``copy=False`` refuses to copy, ``copy=True`` always does.

    >>> import defnpy as dp
    >>> dp.asarray([[1, 2], [3, 4]])
    Tensor([[1, 2],
            [3, 4]], dtype=int64)
    >>> dp.asarray(0.5, dtype="float64")
    Tensor(0.5, dtype=float64)
    """
    target = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, Value):
        same = target is None or obj.dtype == target
        if copy is False and not same:
            raise ValueError(f"a {obj.dtype} tensor cannot become {target} without a copy")
        if copy and isinstance(obj, Tensor):
            return wrap(np.array(obj, dtype=target))
        return obj if same else _astype(obj, dtype=target)
    if isinstance(obj, (np.ndarray, np.generic)):
        array = np.asarray(obj)
        as_dtype(array.dtype)
    else:
        if any(isinstance(leaf, Expr) for leaf in _flat(obj)):
            raise Mismatch("a list holds traced values", hint="join them with dp.stack([...])", error=DTypeError)
        try:
            array = np.asarray(obj)
        except ValueError as problem:
            hint = "make the rows equally long, or keep a list of tensors"
            raise Mismatch(f"the nested lists are ragged: {problem}", hint) from None
        if array.dtype == object and any(isinstance(leaf, int) and abs(leaf) >= 2**63 for leaf in _flat(obj)):
            large = next(leaf for leaf in _flat(obj) if isinstance(leaf, int) and abs(leaf) >= 2**63)
            raise Mismatch(f"{large} fits no integer dtype", hint="write it as a float", error=DTypeError)
        if array.dtype == object or array.dtype.kind not in "biuf":
            what = f"{type(obj).__name__} of {array.dtype} holds no numbers"
            raise Mismatch(what, hint="tensors hold numbers and booleans", error=DTypeError)
        integers = target is not None and target.kind in "iu" and array.dtype.kind in "iu"
        if target is not None and integers and array.size and not np.can_cast(array.dtype, target):
            info = np.iinfo(target)
            for value in (int(array.min()), int(array.max())):
                if not info.min <= value <= info.max:
                    raise Mismatch(
                        f"{value} does not fit {target}",
                        hint=f"{target} holds {info.min} to {info.max}; np.asarray(x).astype('{target}') wraps around",
                        error=DTypeError,
                    )
        if target is None and not hasattr(obj, "__array__") and not hasattr(obj, "__array_interface__"):
            holds_numpy = any(isinstance(leaf, (np.ndarray, np.generic, Tensor)) for leaf in _flat(obj))
            if array.dtype.kind == "f" and not holds_numpy:
                target = DEFAULT_FLOAT
    native = as_dtype(array.dtype) if target is None else target
    if copy is False and (array.dtype != native or array.flags.writeable):
        raise ValueError("this value cannot become a tensor without a copy: mark the array read-only first")
    if copy or array.dtype != native or array.flags.writeable or (array.base is not None and _writeable_base(array)):
        array = np.array(array, dtype=native)
    return wrap(array)


def _flat(obj: Any) -> Any:
    if isinstance(obj, (list, tuple)):
        for item in obj:
            yield from _flat(item)
    else:
        yield obj


def _writeable_base(array: np.ndarray[Any, Any]) -> bool:
    base = array.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return True
        base = base.base
    return False


@placed
@function
def from_dlpack(x: Any, /, *, copy: bool | None = None) -> Tensor:
    """A tensor of any CPU array that speaks DLPack (NumPy, JAX, PyTorch ...). The elements are copied unless the
    source is read-only, because a tensor never changes.

    >>> import defnpy as dp, numpy as np
    >>> dp.from_dlpack(np.arange(3))
    Tensor([0, 1, 2], dtype=int64)
    """
    if not hasattr(x, "__dlpack__"):
        raise DTypeError(
            f"from_dlpack: a {type(x).__name__} does not speak DLPack",
            where=quote(capture()),
            hint="make a tensor of it with dp.asarray(...)",
        )
    result: Tensor = asarray(np.from_dlpack(x), copy=copy)
    return result


@placed
@function
def full(shape: Any, fill_value: Any, *, dtype: Any = None) -> Any:
    """A tensor of ``shape`` with every element ``fill_value``; the dtype defaults to the value's.

    >>> import defnpy as dp
    >>> dp.full((2,), 7)
    Tensor([7, 7], dtype=int64)
    """
    shape = shapes.as_shape(shape)
    if isinstance(fill_value, Value):
        return linear.broadcast_to(fill_value if dtype is None else _astype(fill_value, dtype=dtype), shape=shape)
    target = as_dtype(
        type(fill_value) if dtype is None and not isinstance(fill_value, np.generic) else dtype or fill_value.dtype
    )
    return linear.broadcast_to(target.type(fill_value), shape=shape)


@placed
@function
def zeros(shape: Any, *, dtype: Any = None) -> Any:
    """Zeros, float32 by default.

    >>> import defnpy as dp
    >>> dp.zeros((2, 2))
    Tensor([[0., 0.],
            [0., 0.]], dtype=float32)
    """
    return full(shape, 0, dtype=DEFAULT_FLOAT if dtype is None else dtype)


@placed
@function
def ones(shape: Any, *, dtype: Any = None) -> Any:
    """Ones, float32 by default.

    >>> import defnpy as dp
    >>> dp.ones(3)
    Tensor([1., 1., 1.], dtype=float32)
    """
    return full(shape, 1, dtype=DEFAULT_FLOAT if dtype is None else dtype)


@placed
@function
def empty(shape: Any, *, dtype: Any = None) -> Any:
    """A tensor whose elements mean nothing; since nobody can write into it, they are zeros.

    >>> import defnpy as dp
    >>> dp.empty((2, 0)).shape
    (2, 0)
    """
    return zeros(shape, dtype=dtype)


@placed
@function
def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None) -> Any:
    """:func:`full` in the shape and dtype of ``x``.

    >>> import defnpy as dp
    >>> dp.full_like(dp.asarray([1, 2]), 9)
    Tensor([9, 9], dtype=int64)
    """
    return full(x.shape, fill_value, dtype=x.dtype if dtype is None else dtype)


@placed
@function
def empty_like(x: Any, /, *, dtype: Any = None) -> Any:
    """:func:`empty` in the shape and dtype of ``x``: zeros, as a tensor cannot be filled later.

    >>> import defnpy as dp
    >>> dp.empty_like(dp.asarray([1, 2])).shape
    (2,)
    """
    return full_like(x, 0, dtype=dtype)


@placed
@function
def zeros_like(x: Any, /, *, dtype: Any = None) -> Any:
    """Zeros in the shape and dtype of ``x``.

    >>> import defnpy as dp
    >>> dp.zeros_like(dp.asarray([1, 2]))
    Tensor([0, 0], dtype=int64)
    """
    return full_like(x, 0, dtype=dtype)


@placed
@function
def ones_like(x: Any, /, *, dtype: Any = None) -> Any:
    """Ones in the shape and dtype of ``x``.

    >>> import defnpy as dp
    >>> dp.ones_like(dp.asarray([1.5, 2.5]))
    Tensor([1., 1.], dtype=float32)
    """
    return full_like(x, 1, dtype=dtype)


@placed
@function
def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None) -> Any:
    """Evenly spaced numbers from ``start`` (0 when only one is given) up to but without ``stop``; Python numbers only.

    int64 when all are ints, else float32.

    >>> import defnpy as dp
    >>> dp.arange(4), dp.arange(1.0, 2.0, 0.5)
    (Tensor([0, 1, 2, 3], dtype=int64), Tensor([1. , 1.5], dtype=float32))
    """
    if stop is None:
        start, stop = 0, start
    for value in (start, stop, step):
        if isinstance(value, Expr):
            raise Mismatch(
                "the length of a range must be known while tracing",
                hint="pass it as a keyword-only argument",
                error=DTypeError,
            )
    if step == 0:
        raise Mismatch("the step is 0")
    length = max(math.ceil((stop - start) / step), 0)
    target = as_dtype(dtype) if dtype is not None else _number_dtype(start, stop, step)
    wide: DType = target if target.kind in "iu" else np.dtype("float64")
    counted = linear.iota(shape=(length,), axis=0, dtype=wide)
    return cast(_affine(counted, start, step), target)


def _number_dtype(*values: Any) -> DType:
    return DEFAULT_INT if all(isinstance(v, (int, np.integer)) for v in values) else DEFAULT_FLOAT


def _affine(counted: Any, start: Any, step: Any) -> Any:
    if step != 1:
        counted = multiply(counted, step)
    return add(counted, start) if start != 0 else counted


@placed
@function
def linspace(start: Any, stop: Any, /, num: int, *, dtype: Any = None, endpoint: bool = True) -> Any:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, with or without the latter; float32 by default.

    >>> import defnpy as dp
    >>> dp.linspace(0, 1, 5)
    Tensor([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    if num < 0:
        raise Mismatch(f"the number of points is {num}")
    gaps = max(num - 1 if endpoint else num, 1)
    position = linear.iota(shape=(num,), axis=0, dtype="float64")
    return cast((position * (stop - start)) / float(gaps) + start, DEFAULT_FLOAT if dtype is None else as_dtype(dtype))


@placed
@function
def eye(rows: int, columns: int | None = None, /, *, k: int = 0, dtype: Any = None) -> Any:
    """Ones on the ``k``-th diagonal, zeros elsewhere; float32 by default.

    >>> import defnpy as dp
    >>> dp.eye(2, 3, k=1)
    Tensor([[0., 1., 0.],
            [0., 0., 1.]], dtype=float32)
    """
    shape = (rows, rows if columns is None else columns)
    hit = equal(add(linear.iota(shape=shape, axis=0), k), linear.iota(shape=shape, axis=1))
    return cast(hit, DEFAULT_FLOAT if dtype is None else as_dtype(dtype))


@function
def tril(x: Any, /, *, k: int = 0) -> Any:
    """``x`` with zeros above the ``k``-th diagonal of its last two axes.

    >>> import defnpy as dp
    >>> dp.tril(dp.ones((2, 2)))
    Tensor([[1., 0.],
            [1., 1.]], dtype=float32)
    """
    row, column = _places(x)
    return where(greater_equal(add(row, k), column), x, linear.zeros_like(x))


@function
def triu(x: Any, /, *, k: int = 0) -> Any:
    """``x`` with zeros below the ``k``-th diagonal of its last two axes.

    >>> import defnpy as dp
    >>> dp.triu(dp.ones((2, 2)))
    Tensor([[1., 1.],
            [0., 1.]], dtype=float32)
    """
    row, column = _places(x)
    return where(greater_equal(column, add(row, k)), x, linear.zeros_like(x))


def _places(x: Any) -> tuple[Any, Any]:
    """The row and the column of each element of the matrices in ``x``."""
    if x.ndim < 2:
        raise Mismatch("a matrix has two axes")
    return linear.iota(shape=x.shape, axis=x.ndim - 2), linear.iota(shape=x.shape, axis=x.ndim - 1)


@function
def diag(x: Any, /, *, k: int = 0) -> Any:
    """A matrix with the vector ``x`` on its ``k``-th diagonal; of a matrix, the vector that stands there.

    >>> import defnpy as dp
    >>> dp.diag(dp.asarray([1, 2]))
    Tensor([[1, 0],
            [0, 2]], dtype=int64)
    >>> dp.diag(dp.asarray([[1, 2], [3, 4]]))
    Tensor([1, 4], dtype=int64)
    """
    if x.ndim == 2:
        return diagonal(x, offset=k)
    if x.ndim != 1:
        raise Mismatch(f"x has one axis or two, not {x.ndim}", hint="of stacks of matrices: dp.linalg.diagonal(x)")
    n = x.shape[0] + abs(k)
    column = linear.pad(x, low=max(k, 0), high=max(-k, 0))
    row, place = linear.iota(shape=(n, n), axis=0), linear.iota(shape=(n, n), axis=1)
    return where(equal(add(row, k), place), column, linear.zeros_like(x, (n, n)))


@function
def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonal of the last two axes, ``offset`` places above the main one (below, where it is negative).

    >>> import defnpy as dp
    >>> dp.linalg.diagonal(dp.asarray([[1, 2, 3], [4, 5, 6]]), offset=1)
    Tensor([2, 6], dtype=int64)
    """
    row, column = _places(x)
    length = max(min(x.shape[-2] + min(offset, 0), x.shape[-1] - max(offset, 0)), 0)
    first = max(-offset, 0) if length else 0
    # One element of each row is on it: a sum finds that, and its gradient is a mask again.
    on = where(equal(add(row, offset), column), x, linear.zeros_like(x))
    starts = (0,) * (x.ndim - 2) + (first, 0)
    stops = x.shape[:-2] + (first + length, x.shape[-1])
    rows = linear.slice_(on, starts=starts, stops=stops, steps=(1,) * x.ndim)
    return cast(linear.sum_(rows, axis=-1), x.dtype)


@function
def meshgrid(*xs: Any, indexing: str = "xy") -> list[Any]:
    """The coordinates of a grid from those along its axes: one tensor of the grid's shape for each.

    indexing: ``"ij"`` has the axes in the order of the operands; ``"xy"``, as in NumPy, swaps the first two.

    >>> import defnpy as dp
    >>> [x.tolist() for x in dp.meshgrid(dp.asarray([1, 2]), dp.asarray([3, 4]))]
    [[[1, 2], [1, 2]], [[3, 3], [4, 4]]]
    """
    if indexing not in ("xy", "ij"):
        raise Mismatch(f"indexing is 'xy' or 'ij', not {indexing!r}")
    vectors = [linear.reshape(asarray(x), shape=(-1,)) for x in xs]
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(vectors)
    for x, place in zip(vectors, places, strict=True):
        shape[place] = x.shape[0]
    apart = [
        linear.reshape(x, shape=tuple(-1 if a == place else 1 for a in range(len(vectors))))
        for x, place in zip(vectors, places, strict=True)
    ]
    return [linear.broadcast_to(x, shape=tuple(shape)) for x in apart]


@function
def one_hot(labels: Any, classes: int, /, *, dtype: Any = None) -> Any:
    """1 at each label's position along a new last axis of size ``classes``, 0 elsewhere; float32 by default.

    A label outside ``range(classes)`` gives a row of zeros.

    >>> import defnpy as dp
    >>> dp.one_hot(dp.asarray([2, 0]), 3)
    Tensor([[0., 0., 1.],
            [1., 0., 0.]], dtype=float32)
    """
    labels = asarray(labels)
    if labels.dtype.kind not in "iu":
        raise Mismatch(
            f"labels are integers, not {labels.aval}", hint="convert with labels.astype(int)", error=DTypeError
        )
    column = linear.reshape(labels, shape=(*labels.shape, 1))
    positions = linear.iota(shape=(classes,), axis=0, dtype=labels.dtype)
    return cast(equal(column, positions), DEFAULT_FLOAT if dtype is None else as_dtype(dtype))
