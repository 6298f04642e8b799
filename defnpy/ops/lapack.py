"""What NumPy lacks of LAPACK and BLAS: triangular systems and LU, of stacks of matrices, by OpenBLAS on one thread."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import DType
from ..openblas import library

__all__ = ["getrf", "trsm"]

Array = np.ndarray[Any, Any]

_ROW_MAJOR, _LEFT, _PLAIN, _ANY_DIAGONAL = 101, 141, 111, 131
_UPPER, _LOWER = 121, 122
_REAL = {"float32": ctypes.c_float, "float64": ctypes.c_double}
_INT, _ADDRESS, _INT_AT = ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)


@functools.cache
def _routine(pattern: str, dtype: DType, *arguments: Any) -> Any:
    """A function of the library, for a dtype, with the types of its arguments."""
    name = pattern.format({"float32": "s", "float64": "d"}[str(dtype)])
    routine = getattr(library(), name)
    routine.argtypes, routine.restype = arguments, None
    return routine


def _addresses(stack: Array) -> Sequence[int]:
    """Where each matrix of a contiguous stack lies."""
    step = stack.shape[-2] * stack.shape[-1] * stack.itemsize
    return range(stack.ctypes.data, stack.ctypes.data + stack.nbytes, step) if step else ()


def trsm(a: Array, b: Array, lower: bool) -> Array:
    """The x of a @ x = b, reading one triangle of ``a``: (..., n, n) and (..., n, k) give (..., n, k)."""
    a, x = np.ascontiguousarray(a), np.array(b, order="C")
    real = _REAL[str(x.dtype)]
    modes, sizes = [_INT] * 5, [_INT] * 2
    solve = _routine("scipy_cblas_{}trsm", x.dtype, *modes, *sizes, real, _ADDRESS, _INT, _ADDRESS, _INT)
    n, k = x.shape[-2:]
    side = _LOWER if lower else _UPPER
    if x.size:
        for left, right in zip(_addresses(a), _addresses(x), strict=True):
            solve(_ROW_MAJOR, _LEFT, side, _PLAIN, _ANY_DIAGONAL, n, k, 1.0, left, n, right, k)
    return x


def getrf(x: Array) -> tuple[Array, Array]:
    """LU of each matrix, both triangles in one, and the order of the rows: x[order] = l @ u."""
    rows, columns = x.shape[-2:]
    packed = np.array(np.swapaxes(x, -1, -2), order="C")  # LAPACK takes the columns of a matrix one after the other
    order = np.empty((*x.shape[:-2], rows), np.int64)
    eliminate = _routine("scipy_{}getrf_", x.dtype, _INT_AT, _INT_AT, _ADDRESS, _INT_AT, _ADDRESS, _INT_AT)
    m, n, status = _INT(rows), _INT(columns), _INT()
    swaps = np.empty(min(rows, columns), np.intc)
    orders = order.reshape(-1, rows) if order.size else order
    orders[...] = np.arange(rows)
    for i, matrix in enumerate(_addresses(packed)):
        eliminate(m, n, matrix, m, swaps.ctypes.data, status)
        places = list(range(rows))
        for j, other in enumerate((swaps - 1).tolist()):
            places[j], places[other] = places[other], places[j]
        orders[i] = places
    return np.swapaxes(packed, -1, -2), order
