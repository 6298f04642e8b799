"""dtypes, the promotion table, weak Python scalars, finfo and iinfo.

A dtype is a NumPy ``dtype`` object, so ``x.dtype == "float32"`` and ``x.dtype == np.float32`` both work. The
integer and the float tables are those of the Python Array API standard 2024.12. Where the standard leaves mixed
kinds open, integers and booleans take the float's dtype: an integer never widens a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import DTypeError, Mismatch
from .source import capture, quote

__all__ = [
    "ALL",
    "DEFAULT_FLOAT",
    "DEFAULT_INT",
    "DType",
    "as_dtype",
    "bool_",
    "can_cast",
    "cotangent_dtype",
    "finfo",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "promote",
    "promote_weak",
    "scalar_kind",
    "short_name",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

DType = np.dtype[Any]

bool_: DType = np.dtype("bool")
int8: DType = np.dtype("int8")
int16: DType = np.dtype("int16")
int32: DType = np.dtype("int32")
int64: DType = np.dtype("int64")
uint8: DType = np.dtype("uint8")
uint16: DType = np.dtype("uint16")
uint32: DType = np.dtype("uint32")
uint64: DType = np.dtype("uint64")
float32: DType = np.dtype("float32")
float64: DType = np.dtype("float64")

ALL: tuple[DType, ...] = (bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64)
DEFAULT_INT: DType = int64
DEFAULT_FLOAT: DType = float32

_SHORT = {bool_: "bool"} | {dtype: f"{dtype.kind}{8 * dtype.itemsize}" for dtype in ALL[1:]}
_KIND_ORDER = "biuf"


def as_dtype(value: object) -> DType:
    """The dtype named by a dtype, a NumPy scalar type, a name, or the Python types bool, int and float.

    >>> as_dtype("float64"), as_dtype(float), as_dtype(int)
    (dtype('float64'), dtype('float32'), dtype('int64'))
    """
    if value is bool:
        return bool_
    if value is int:
        return DEFAULT_INT
    if value is float:
        return DEFAULT_FLOAT
    try:
        dtype = np.dtype(value).newbyteorder("=")  # type: ignore[call-overload]
    except TypeError:
        dtype = None
    if dtype is None or dtype not in _SHORT:
        raise DTypeError(
            f"{value!r} is not a dtype of defnpy",
            where=quote(capture()),
            hint=f"use one of {', '.join(str(d) for d in ALL)}",
        )
    result: DType = dtype
    return result


def short_name(dtype: DType) -> str:
    """``f32`` for float32, ``i64`` for int64, ``u8``, ``bool``: the names that graphs print."""
    return _SHORT[dtype]


def scalar_kind(value: bool | int | float) -> DType:
    """The widest dtype of a Python scalar's kind; a weak value is kept in it until it meets a strong one."""
    if isinstance(value, bool):
        return bool_
    return int64 if isinstance(value, int) else float64


def promote(dtypes: Sequence[DType]) -> DType:
    """The common dtype of strong operands.

    >>> promote([int8, uint8]), promote([int64, float32]), promote([float32, float64])
    (dtype('int16'), dtype('float32'), dtype('float64'))
    """
    floats = [d for d in dtypes if d.kind == "f"]
    result = floats[0] if floats else dtypes[0]
    for dtype in floats or dtypes:
        if dtype is result:
            continue
        promoted = np.promote_types(result, dtype)
        if promoted.kind == "f" and not floats:
            raise Mismatch(
                f"{result} and {dtype} have no common integer dtype",
                hint=f"convert one operand: x.astype(dp.{int64})",
                error=DTypeError,
            )
        result = promoted
    return result


def promote_weak(strong: Sequence[DType], weak: Sequence[DType]) -> tuple[DType, bool]:
    """The common dtype of strong operands and Python scalars, and whether the result is itself weak.

    A Python scalar never widens: with a float32 tensor a Python float is a float32. It changes the kind only
    (an int tensor times 0.5 is a float tensor, of the default float).

    >>> promote_weak([float32], [float64]), promote_weak([int8], [float64]), promote_weak([], [int64])
    ((dtype('float32'), False), (dtype('float32'), False), (dtype('int64'), True))
    """
    if not strong:
        return max(weak, key=lambda d: _KIND_ORDER.index(d.kind)), True
    result = promote(strong)
    for dtype in weak:
        if dtype.kind == "f" and result.kind != "f":
            result = DEFAULT_FLOAT
        elif dtype.kind == "i" and result.kind == "b":
            result = DEFAULT_INT
    return result, False


def cotangent_dtype(dtype: DType) -> DType | None:
    """The dtype of a gradient with respect to a value of ``dtype``: its own, the default float for integers
    (as in Flux, an integer counts as a real number), None for booleans."""
    if dtype.kind == "f":
        return dtype
    return None if dtype.kind == "b" else DEFAULT_FLOAT


def can_cast(source: object, target: object) -> bool:
    """Whether ``source``, a dtype or a tensor, promotes to ``target`` in the table (the Array API's ``can_cast``).

    >>> can_cast(int8, int32), can_cast("float64", "float32")
    (True, False)
    """
    source, target = as_dtype(getattr(source, "dtype", source)), as_dtype(target)
    try:
        return promote([source, target]) == target
    except Mismatch:
        return False


def isdtype(dtype: object, kind: object) -> bool:
    """Whether ``dtype`` is of ``kind``: a dtype, a kind name of the Array API, or a tuple of those.

    >>> isdtype(float32, "real floating"), isdtype(int8, ("bool", "unsigned integer"))
    (True, False)
    """
    dtype = as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return dtype.kind in _KINDS[kind]
    return dtype == as_dtype(kind)


_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iuf",
}


def finfo(dtype: object) -> np.finfo[Any]:
    """Machine limits of a float dtype (``eps``, ``max``, ``min``, ``smallest_normal``, ``bits``).

    >>> float(finfo(float64).eps)
    2.220446049250313e-16
    """
    return np.finfo(as_dtype(getattr(dtype, "dtype", dtype)))


def iinfo(dtype: object) -> np.iinfo[Any]:
    """Machine limits of an integer dtype (``max``, ``min``, ``bits``).

    >>> int(iinfo(int8).max)
    127
    """
    return np.iinfo(as_dtype(getattr(dtype, "dtype", dtype)))
