"""astype, the cast that every other op may insert before its operands, and the conversions built on it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ..dtypes import DEFAULT_FLOAT, DEFAULT_INT, DType, as_dtype, cotangent_dtype, promote_weak
from ..errors import DTypeError, Mismatch
from ..ir.aval import Aval
from ..ir.expr import Expr
from ..ir.op import Case, Op
from ..ir.trace import aval_of, call

__all__ = ["astype", "cast", "one_dtype"]


def _normalize(x: Aval, *, dtype: object, weak: bool = False) -> dict[str, Hashable]:
    return {"dtype": as_dtype(dtype), "weak": weak}


def _infer(x: Aval, *, dtype: DType, weak: bool) -> Aval:
    return Aval(x.shape, dtype, weak)


def _vjp(g: Any, y: Any, x: Any, *, dtype: DType, weak: bool) -> tuple[Any]:
    # Truncation to integers is flat; between numbers a cast is the identity.
    flat = dtype.kind == "b" or (x.dtype.kind == "f" and dtype.kind != "f") or cotangent_dtype(x.dtype) is None
    return (None if flat else g,)


def _arrays(rng: np.random.Generator, dtype: np.dtype[Any]) -> tuple[np.ndarray[Any, Any]]:
    return (rng.uniform(-3, 3, (2, 3)).astype(dtype),)


def _astype(x: Any, /, *, dtype: object, weak: bool = False) -> Any:
    """Convert to another dtype, element by element; shape unchanged.

    Float to integer truncates towards zero; to bool it tells whether the element is not zero. The gradient of a cast
    between floats, or from integer to float, is the identity; of a truncation it is zero.

    >>> import defnpy as dp
    >>> dp.astype(dp.asarray([1.7, -1.7]), "int64")
    Tensor([ 1, -1], dtype=int64)
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(x).astype(as_dtype(dtype))


_astype.__name__ = "astype"
astype = Op(
    _astype,
    "elementwise",
    _infer,
    call,
    lambda op, args: args,
    _normalize,
    _vjp,
    scalar="cast({x})",
    tame=True,
    jvp=lambda tangents, y, x, **params: _vjp(tangents[0], y, x, **params)[0],
    cases=[
        Case(_arrays, {"dtype": "float64"}),
        Case(_arrays, {"dtype": "float32"}, smooth=False),  # differences cannot see through its rounding
        Case(_arrays, {"dtype": "int64"}),
        Case(_arrays, {"dtype": "bool"}),
        Case(lambda rng, dtype: (rng.integers(-5, 5, (3,), dtype=np.int32),), {"dtype": "float32"}),
        Case(lambda rng, dtype: (rng.integers(0, 2, (3,)).astype(bool),), {"dtype": "int8"}),
    ],
    batch=lambda batched, x, **params: astype(x, **params),
)


def cast(value: Any, dtype: DType, weak: bool = False) -> Any:
    """An operand in ``dtype``: a NumPy scalar for a Python number, a cast node where one is needed."""
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        number = _number(value, dtype)
        return astype(number, dtype=dtype, weak=True) if weak else number
    aval = aval_of(value)
    if aval.dtype == dtype and aval.weak == weak:
        return value
    return astype(value, dtype=dtype, weak=weak)


def _number(value: bool | int | float, dtype: DType) -> Any:
    try:
        with np.errstate(over="ignore"):  # a float out of range is inf, as in NumPy
            return dtype.type(value)
    except OverflowError:
        fits = -(2**63) <= value < 2**64
        hint = f"convert the tensor first: x.astype({np.min_scalar_type(value)})" if fits else "write it as a float"
        raise Mismatch(f"{value} does not fit {dtype}", hint=hint, error=DTypeError) from None


def one_dtype(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    """All operands in the common dtype of the promotion table, raised to a kind that ``op`` computes in."""
    avals = [aval_of(x) for x in args]
    strong = [a.dtype for a in avals if not a.weak]
    dtype, weak = promote_weak(strong, [a.dtype for a in avals if a.weak])
    if weak and not any(isinstance(x, Expr) for x in args):
        # Only Python numbers: they take the default dtypes.
        dtype, weak = (DEFAULT_FLOAT if dtype.kind == "f" else dtype), False
    if dtype.kind not in op.kinds:
        dtype = _raised(op, dtype, weak)
    return [cast(x, dtype, weak) for x in args]


def _raised(op: Op, dtype: DType, weak: bool) -> DType:
    if dtype.kind in "biu" and "f" in op.kinds and "i" not in op.kinds:
        return np.dtype("float64") if weak else DEFAULT_FLOAT
    if dtype.kind == "b" and "i" in op.kinds:
        return DEFAULT_INT
    allowed = {"b": "bool", "biu": "integers or bool", "iu": "integers", "f": "floats"}[op.kinds]
    hint = "compare with zero first: x != 0" if op.kinds == "b" else "convert with x.astype(...)"
    raise Mismatch(f"takes {allowed}, not {dtype}", hint=hint, error=DTypeError)
