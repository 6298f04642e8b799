"""Aval: what is known of a value while tracing, its shape and dtype; prints as ``f32[4,3]``."""

from __future__ import annotations

from ..dtypes import DType, short_name
from ..shapes import Shape

__all__ = ["Aval"]


class Aval:
    """An abstract value; immutable, compared by value, with its hash at hand (it is in the key of every call).

    weak: the value came from a Python scalar. It is kept in the widest dtype of its kind (float64, int64) and takes
    the dtype of the first strong operand that it meets.
    """

    __slots__ = ("_hash", "dtype", "shape", "weak")

    shape: Shape
    dtype: DType
    weak: bool
    _hash: int

    def __init__(self, shape: Shape, dtype: DType, weak: bool = False) -> None:
        put = object.__setattr__
        put(self, "shape", shape)
        put(self, "dtype", dtype)
        put(self, "weak", weak)
        put(self, "_hash", hash((shape, dtype.char, weak)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Aval is immutable; cannot set {name!r}")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Aval) or self._hash != other._hash:
            return False
        return self.shape == other.shape and self.dtype == other.dtype and self.weak == other.weak

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        dims = ",".join(map(str, self.shape))
        return f"{short_name(self.dtype)}{'~' if self.weak else ''}[{dims}]"

    def __repr__(self) -> str:
        return f"Aval({self})"
