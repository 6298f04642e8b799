"""What a step does: the bytes that it must move and the operations that it carries out, counted from its loops."""

from __future__ import annotations

from ..ir.expr import Expr
from ..shapes import size
from .emit import Emitted
from .kernel import Compute, Fold, FoldStore, Load, Store, executions
from .products import Product

__all__ = ["kernel_work", "product_work"]


def kernel_work(emitted: Emitted) -> tuple[int, int]:
    """Bytes and operations of a kernel.

    A buffer counts once however often it is read, as caches make it, and a gather only what it can have read.
    Operations are those on floats, a transcendental function being one.
    """
    accesses: dict[str, int] = {}
    operations = 0
    for s, times in executions(emitted.kernel.body, emitted.lengths):
        if isinstance(s, (Compute, Fold, FoldStore)):
            operations += times * (s.dtype.kind == "f")
        if isinstance(s, (Load, Store, FoldStore)):
            accesses[s.buffer] = accesses.get(s.buffer, 0) + times
    moved = 0
    for buffer, source in zip(emitted.kernel.buffers, emitted.buffers, strict=True):
        if buffer.role == "scratch" or buffer.name not in accesses:
            continue
        elements = accesses[buffer.name]
        if isinstance(source, Expr):
            elements = min(elements, size(source.shape))
        moved += elements * buffer.dtype.itemsize
    return moved, operations


def product_work(product: Product) -> tuple[int, int]:
    """Bytes and operations of a matrix product."""
    elements = product.batch * (product.m * product.k + product.k * product.n + product.m * product.n)
    return elements * product.node.dtype.itemsize, product.flops
