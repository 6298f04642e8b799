"""Aval: what is known of a value while tracing, its shape and dtype; prints as ``f32[4,3]``. Avals: of several."""

from __future__ import annotations

from ..dtypes import DType, short_name
from ..shapes import DYNAMIC, Shape

__all__ = ["Aval", "Avals"]


class Aval:
    """An abstract value; immutable, and interned: there is one object of each kind, so that a key of avals is compared
    and hashed by identity on every call.

    weak: the value came from a Python scalar. It is kept in the widest dtype of its kind (float64, int64) and takes
    the dtype of the first strong operand that it meets.
    """

    __slots__ = ("dtype", "shape", "weak")

    shape: Shape
    dtype: DType
    weak: bool

    def __new__(cls, shape: Shape, dtype: DType, weak: bool = False) -> Aval:
        key = (shape, dtype.char, weak)
        found = _interned.get(key)
        if found is not None:
            return found
        aval = object.__new__(cls)
        put = object.__setattr__
        put(aval, "shape", shape)
        put(aval, "dtype", dtype)
        put(aval, "weak", weak)
        return _interned.setdefault(key, aval)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Aval is immutable; cannot set {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return Aval, (self.shape, self.dtype, self.weak)

    def __str__(self) -> str:
        dims = ",".join("?" if n == DYNAMIC else str(n) for n in self.shape)
        return f"{short_name(self.dtype)}{'~' if self.weak else ''}[{dims}]"

    def __repr__(self) -> str:
        return f"Aval({self})"


_interned: dict[tuple[Shape, str, bool], Aval] = {}


class Avals(Aval):
    """Of a node that gives several values. It has ``parts``, one Aval for each, and no shape or dtype of its own: such
    a node is read through ``item`` nodes alone. Interned like an Aval."""

    __slots__ = ("parts",)

    parts: tuple[Aval, ...]

    def __new__(cls, parts: tuple[Aval, ...]) -> Avals:
        found = _several.get(parts)
        if found is not None:
            return found
        aval = object.__new__(cls)
        object.__setattr__(aval, "parts", parts)
        return _several.setdefault(parts, aval)

    def __reduce__(self) -> tuple[object, ...]:
        return Avals, (self.parts,)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.parts))})"


_several: dict[tuple[Aval, ...], Avals] = {}
