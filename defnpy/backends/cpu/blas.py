"""Matrix products as native steps: by panels of our own (``panels``), or by OpenBLAS, called by address.

The library runs on one thread (see ``openblas.py``): the program's own threads share a product.
"""

from __future__ import annotations

import ctypes
import functools

from ...config import current as options
from ...dtypes import DType
from ...lower.products import Product
from ...lower.threads import crew
from ...openblas import library as openblas
from . import panels
from .compile import Source, machine_code
from .machine import words

__all__ = ["gemm", "sources", "split"]

PARTS = 8  # of a product by BLAS, where results must not depend on the number of threads

_C_NAMES = {"float32": "scipy_cblas_sgemm", "float64": "scipy_cblas_dgemm"}
_TYPES = {"float32": "float", "float64": "double"}

# sizes: transpose a, transpose b, m, n, k, leading a, b, c, offset a, b, outer and inner pairs, a's, b's and c's step
# from an outer pair to the next, then from an inner one (for c 0 where they are summed), what is shared (0 rows,
# 1 columns, 2 outer pairs), the address of what multiplies a pair.
_SIZES = 20
_GRID = """
define i32 @gemm(ptr %buffers, ptr %sizes, i64 %first, i64 %last, i64 %thread) {{
entry:
{buffers}
{loads}
  %multiply = inttoptr i64 %n19 to ptr
  %count = sub i64 %last, %first
  %rows = icmp eq i64 %n18, 0
  %columns = icmp eq i64 %n18, 1
  %pairs = icmp eq i64 %n18, 2
  %summed = icmp eq i64 %n17, 0
  %row = select i1 %rows, i64 %first, i64 0
  %m = select i1 %rows, i64 %count, i64 %n2
  %column = select i1 %columns, i64 %first, i64 0
  %n = select i1 %columns, i64 %count, i64 %n3
  %pair = select i1 %pairs, i64 %first, i64 0
  %end = select i1 %pairs, i64 %last, i64 %n10
  %ta = icmp ne i64 %n0, 0
  %tb = icmp ne i64 %n1, 0
  %row_step = select i1 %ta, i64 1, i64 %n5
  %column_step = select i1 %tb, i64 %n6, i64 1
  %a_row = mul i64 %row, %row_step
  %a_from = add i64 %n8, %a_row
  %b_column = mul i64 %column, %column_step
  %b_from = add i64 %n9, %b_column
  %c_row = mul i64 %row, %n7
  %c_from = add i64 %c_row, %column
  %mode_a = select i1 %ta, i32 112, i32 111
  %mode_b = select i1 %tb, i32 112, i32 111
  %m32 = trunc i64 %m to i32
  %n32 = trunc i64 %n to i32
  %k32 = trunc i64 %n4 to i32
  %lda = trunc i64 %n5 to i32
  %ldb = trunc i64 %n6 to i32
  %ldc = trunc i64 %n7 to i32
  br label %loop
loop:
  %i = phi i64 [ %pair, %entry ], [ %i1, %next ]
  %a_outer = mul i64 %i, %n12
  %a_place = add i64 %a_from, %a_outer
  %b_outer = mul i64 %i, %n13
  %b_place = add i64 %b_from, %b_outer
  %c_outer = mul i64 %i, %n14
  %c_place = add i64 %c_from, %c_outer
  br label %inner
inner:
  %j = phi i64 [ 0, %loop ], [ %j1, %inner ]
  %a_inner = mul i64 %j, %n15
  %a_this = add i64 %a_place, %a_inner
  %a_pointer = getelementptr {t}, ptr %a, i64 %a_this
  %b_inner = mul i64 %j, %n16
  %b_this = add i64 %b_place, %b_inner
  %b_pointer = getelementptr {t}, ptr %b, i64 %b_this
  %c_inner = mul i64 %j, %n17
  %c_this = add i64 %c_place, %c_inner
  %c_pointer = getelementptr {t}, ptr %c, i64 %c_this
  %later = icmp ne i64 %j, 0
  %onto = and i1 %later, %summed
  %beta = select i1 %onto, {t} 1.0, {t} 0.0
  call void %multiply(i32 101, i32 %mode_a, i32 %mode_b, i32 %m32, i32 %n32, i32 %k32,
      {t} 1.0, ptr %a_pointer, i32 %lda, ptr %b_pointer, i32 %ldb, {t} %beta, ptr %c_pointer, i32 %ldc)
  %j1 = add i64 %j, 1
  %again = icmp slt i64 %j1, %n11
  br i1 %again, label %inner, label %next
next:
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %end
  br i1 %more, label %loop, label %done
done:
  ret i32 0
}}
"""


def sources(product: Product) -> list[Source]:
    """The modules that a product needs."""
    dtype = product.node.dtype
    return [_grid(dtype)] + ([_panels(dtype, panels.shape_of(product))] if panels.suits(product) else [])


@functools.cache
def _grid(dtype: DType) -> Source:
    buffers = words("buffers", dict.fromkeys("abc", "ptr"))
    loads = words("sizes", {f"n{i}": "i64" for i in range(_SIZES)})
    return Source(_GRID.format(t=_TYPES[str(dtype)], loads=loads, buffers=buffers), ("gemm",))


@functools.cache
def _panels(dtype: DType, shape: panels.Shape) -> Source:
    return Source(panels.text("multiply", dtype, shape), ("multiply",))


def gemm(dtype: DType) -> int:
    """The address of the step function of products of ``dtype``, of the kernels' common signature."""
    return machine_code(_grid(dtype))[0]


@functools.cache
def _blas(dtype: DType) -> int:
    function = getattr(openblas(), _C_NAMES[str(dtype)])
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def split(product: Product, threads: int) -> tuple[list[int], int, int, int]:
    """The size arguments of a product, the extent of what threads share of it, the grain and the number of parts.

    BLAS sums the edges of a block by other loops, so that the last bits depend on where a product is cut. It is cut
    into one part for every thread; where results must be reproducible, into parts that sizes alone decide.
    """
    left, right, dtype = product.left, product.right, product.node.dtype
    ours = panels.suits(product)
    multiply = machine_code(_panels(dtype, panels.shape_of(product)))[0] if ours else _blas(dtype)
    extents = (product.m, product.n, product.outer)
    grains = (4, panels.columns(dtype), 1)
    shared = 2 if product.outer > 1 else int(product.n > product.m and product.n >= 8 * grains[1])
    each = product.m * product.n
    sizes = [
        int(left.transposed), int(right.transposed), product.m, product.n, product.k,
        left.leading, right.leading, product.n, left.offset, right.offset, product.outer, product.inner,
        left.stack, right.stack, each if product.summed else product.inner * each,
        left.inner, right.inner, 0 if product.summed else each, shared, multiply,
    ]  # fmt: skip
    fixed = options().reproducible and not ours and shared != 2
    return sizes, extents[shared], grains[shared], crew(product, PARTS) if fixed else threads
