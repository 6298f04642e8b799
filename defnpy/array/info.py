"""What the Array API standard lets libraries ask of a namespace: its dtypes, its devices, what it can do."""

from __future__ import annotations

from typing import Any

from ..dtypes import ALL, DEFAULT_FLOAT, DEFAULT_INT, DType, isdtype

__all__ = ["__array_api_version__", "__array_namespace_info__"]

__array_api_version__ = "2024.12"


class Info:
    """The standard's inspection functions; see :func:`__array_namespace_info__`."""

    def capabilities(self) -> dict[str, Any]:
        """What concrete tensors can do; of traced ones no shape depends on values."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """``"cpu"``."""
        return "cpu"

    def devices(self) -> list[str]:
        """``["cpu"]``."""
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        """The dtypes of what is made of Python numbers; complex ones there are none."""
        return {"real floating": DEFAULT_FLOAT, "integral": DEFAULT_INT, "indexing": DEFAULT_INT}

    def dtypes(self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None) -> dict[str, DType]:
        """All dtypes by name, or those of a kind, in the names of :func:`isdtype`."""
        return {str(d): d for d in ALL if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> Info:
    """What this namespace has: dtypes, devices, capabilities, as the Array API standard asks.

    >>> import defnpy as dp
    >>> list(dp.__array_namespace_info__().dtypes(kind="real floating"))
    ['float32', 'float64']
    """
    return Info()
