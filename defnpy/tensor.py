"""Tensor: an immutable n-dimensional array. Eager operations on tensors run on the NumPy reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtypes import as_dtype
from .errors import DonatedError, TraceError
from .ir.aval import Aval
from .ir.expr import Value
from .ir.trace import note_read
from .source import capture, quote

__all__ = ["Tensor", "adopt", "wrap"]


class Tensor(Value):
    """An immutable array of one dtype, made by :func:`asarray` and by every function of the library.

    It offers NumPy's operators, indexing and common methods; ``np.asarray(x)`` shows its memory without a copy,
    read-only. ``x.at[i].set(v)`` and ``x.at[i].add(v)`` give changed copies.

    >>> import defnpy as dp
    >>> x = dp.asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> x.shape, x.dtype, x.sum().item()
    ((2, 2), dtype('float32'), 10.0)
    >>> x.T @ x
    Tensor([[10., 14.],
            [14., 20.]], dtype=float32)
    """

    __slots__ = ("__weakref__", "_array", "_donee", "_ready", "aval")

    _array: np.ndarray[Any, Any]
    _ready: np.ndarray[Any, Any]  # the same array, there only when its elements lie in order, as programs take it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("make a tensor with dp.asarray(values), not with Tensor(...)")

    def __getattr__(self, name: str) -> Any:
        if name == "_array":
            raise DonatedError(
                f"this tensor ({self.aval}) was donated to {self._donee}, which has used its memory for its results",
                where=quote(capture()),
                hint="go on with what the call returned, or leave the argument out of donate=",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _donate(self, donee: str) -> None:
        """Give the memory away; from now on only ``aval`` is left."""
        self._donee = donee
        del self._array
        if hasattr(self, "_ready"):
            del self._ready

    # -- to Python and NumPy ------------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        note_read(self)
        if copy:
            return np.array(self._array, dtype=dtype)
        if dtype is None or np.dtype(dtype) == self._array.dtype:
            return self._array
        if copy is False:
            raise ValueError(f"a {self.dtype} tensor cannot become {np.dtype(dtype)} without a copy")
        return self._array.astype(dtype)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*_plain(args), **_plain(kwargs))

    def item(self) -> bool | int | float:
        """The only element, as a Python number; raises ValueError when there is not exactly one."""
        note_read(self)
        return self._array.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers (a number for a 0-d tensor)."""
        note_read(self)
        return self._array.tolist()

    def __bool__(self) -> bool:
        note_read(self)
        return bool(self._array)

    def __int__(self) -> int:
        note_read(self)
        return int(self._array)

    def __float__(self) -> float:
        note_read(self)
        return float(self._array)

    def __complex__(self) -> complex:
        note_read(self)
        return complex(self._array)

    def __index__(self) -> int:
        note_read(self)
        return self._array.__index__()

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has nothing to iterate over")
        return (wrap(row) for row in self._array)

    def __format__(self, specification: str) -> str:
        return format(self._array.item() if self.ndim == 0 else self._array, specification)

    # -- to other libraries -------------------------------------------------------------------------------------

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        """For ``from_dlpack`` of other libraries. Memory is shared, and marked as read-only, with those that know that
        mark (DLPack 1.0); one that does not heed it, PyTorch for one, must not write before it has cloned.
        """
        readonly_is_known = max_version is not None and max_version[0] >= 1
        array = self._array
        if not readonly_is_known:
            array, copy = array.copy(), None  # an old consumer could write into it
        return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    @property
    def device(self) -> str:
        """Where the elements are: ``"cpu"``."""
        return "cpu"

    def to_device(self, device: str, /, *, stream: Any = None) -> Tensor:
        """The tensor on another device; the only one is ``"cpu"``."""
        if device != "cpu":
            raise ValueError(f"unknown device {device!r}: the only one is 'cpu'")
        return self

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return self._array.nbytes

    # -- as an object -------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if self._array.size == 0:
            return f"Tensor([], shape={self.shape}, dtype={self.dtype})"
        text = np.array2string(self._array, separator=", ", prefix="Tensor(")
        if self._array.size > np.get_printoptions()["threshold"]:
            text += f", shape={self.shape}"
        return f"Tensor({text})" if self.dtype.kind == "b" else f"Tensor({text}, dtype={self.dtype})"

    def __str__(self) -> str:
        return str(self._array)

    def __reduce__(self) -> tuple[Any, ...]:
        return (wrap, (self._array,))

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self


def _plain(value: Any) -> Any:
    """NumPy's own arrays in place of the tensors in the arguments of a NumPy function."""
    if isinstance(value, Tensor):
        return value._array
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, Value):
        raise TraceError("a NumPy function cannot take a traced value")
    return value


def wrap(array: Any) -> Tensor:
    """A tensor over ``array``, which nobody may write to afterwards; it is marked read-only."""
    array = np.asarray(array)
    dtype = as_dtype(array.dtype)
    if array.dtype != dtype or not array.dtype.isnative:
        array = array.astype(dtype)
    tensor = adopt(array, Aval(array.shape, dtype))
    if not array.flags.c_contiguous:
        del tensor._ready
    return tensor


def adopt(array: np.ndarray[Any, Any], aval: Aval) -> Tensor:
    """:func:`wrap` for a contiguous array of known aval that nobody else holds: what compiled programs return."""
    tensor: Tensor = _new(Tensor)
    array.setflags(False)  # type: ignore[call-arg]  # by keyword it takes twice the time
    tensor._array = tensor._ready = array
    tensor.aval = aval
    return tensor


_new: Any = object.__new__
