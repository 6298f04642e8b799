"""dot_general, the one contraction: every matrix product is a case of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.op import Case
from .batching import from_axis
from .families import contraction
from .linear import inverse, permute_dims

Pairs = tuple[shapes.Axes, shapes.Axes]


def _pairs(name: str, value: Any, left: Aval, right: Aval) -> Pairs:
    first, second = value
    axes = (
        tuple(shapes.normalize_axis(a, len(left.shape)) for a in first),
        tuple(shapes.normalize_axis(a, len(right.shape)) for a in second),
    )
    if len(axes[0]) != len(axes[1]):
        raise Mismatch(f"{name} names {len(axes[0])} axes on the left and {len(axes[1])} on the right")
    return axes


def _normalize(left: Aval, right: Aval, *, contract: Any, batch: Any = ((), ())) -> dict[str, Any]:
    pairs = _pairs("contract", contract, left, right), _pairs("batch", batch, left, right)
    for side in (0, 1):
        used = pairs[0][side] + pairs[1][side]
        if len(set(used)) != len(used):
            raise Mismatch(f"an axis of the {('left', 'right')[side]} operand is named twice")
    return {"contract": pairs[0], "batch": pairs[1]}


def _infer(left: Aval, right: Aval, *, contract: Pairs, batch: Pairs) -> Aval:
    return Aval(shapes.dot(left.shape, right.shape, contract, batch), left.dtype, left.weak and right.weak)


def free_axes(ndim: int, contract: shapes.Axes, batch: shapes.Axes) -> shapes.Axes:
    """The axes of an operand that are neither contracted nor batched."""
    return tuple(a for a in range(ndim) if a not in contract and a not in batch)


def _vjp(g: Any, y: Any, left: Any, right: Any, *, contract: Pairs, batch: Pairs) -> Sequence[Any]:
    free_left = free_axes(left.ndim, contract[0], batch[0])
    free_right = free_axes(right.ndim, contract[1], batch[1])
    batched = tuple(range(len(batch[0])))
    at_left = tuple(range(len(batched), len(batched) + len(free_left)))
    at_right = tuple(range(len(batched) + len(free_left), g.ndim))

    # d left: contract g with right over right's free axes; what is left of right are its contracted axes, in order.
    dl = dot_general(g, right, contract=(at_right, free_right), batch=(batched, batch[1]))
    order = sorted(range(len(contract[1])), key=contract[1].__getitem__)
    dl_axes = (*batch[0], *free_left, *[contract[0][i] for i in order])
    # d right: likewise, with left first, so that a plain matrix product needs no transposition of the result.
    dr = dot_general(left, g, contract=(free_left, at_left), batch=(batch[0], batched))
    order = sorted(range(len(contract[0])), key=contract[0].__getitem__)
    dr_axes = (*batch[1], *[contract[1][i] for i in order], *free_right)
    return _arrange(dl, dl_axes), _arrange(dr, dr_axes)


def _arrange(x: Any, axes: shapes.Axes) -> Any:
    return x if axes == tuple(range(x.ndim)) else permute_dims(x, axes=inverse(axes))


def _batch(batched: Sequence[bool], left: Any, right: Any, *, contract: Pairs, batch: Pairs) -> Any:
    """Two batched operands have one more batch axis; a single one has one more free axis, which is moved to the front
    of the result: one product, as large as all of them."""
    of_left, of_right = batched
    (c0, c1), (b0, b1) = [
        (tuple(a + of_left for a in pair[0]), tuple(a + of_right for a in pair[1])) for pair in (contract, batch)
    ]
    if of_left and of_right:
        return dot_general(left, right, contract=(c0, c1), batch=((0, *b0), (0, *b1)))
    product = dot_general(left, right, contract=(c0, c1), batch=(b0, b1))
    return from_axis(product, len(b0) if of_left else left.ndim - len(c0))


def _two(first: tuple[int, ...], second: tuple[int, ...]) -> Any:
    return lambda rng, dtype: [rng.standard_normal(first).astype(dtype), rng.standard_normal(second).astype(dtype)]


@contraction(
    normalize=_normalize,
    infer=_infer,
    vjp=_vjp,
    batch=_batch,
    cases=[
        Case(_two((2, 3), (3, 4)), {"contract": ((1,), (0,))}),
        Case(_two((3, 2), (4, 3)), {"contract": ((0,), (1,))}),
        Case(_two((3,), (3,)), {"contract": ((0,), (0,))}),
        Case(_two((2,), (3,)), {"contract": ((), ())}),
        Case(_two((5, 2, 3), (5, 3, 4)), {"contract": ((2,), (1,)), "batch": ((0,), (0,))}),
        Case(_two((2, 3, 5), (4, 5, 3)), {"contract": ((1, 2), (2, 1))}),
        Case(_two((2, 5, 3), (3, 4, 5)), {"contract": ((2,), (0,)), "batch": ((1,), (2,))}),
        Case(_two((2, 0), (0, 3)), {"contract": ((1,), (0,))}),
    ],
)
def dot_general(left, right, /, *, contract, batch=((), ())):
    """Products summed over ``contract`` axes, side by side over ``batch`` axes.

    Both are pairs of axis tuples (left's, right's). The result has the batch axes, then the left's free axes, then the
    right's. ``matmul``, ``tensordot``, ``vecdot`` and ``dot`` are made of it.

    >>> import defnpy as dp
    >>> dp.dot_general(dp.ones((2, 3)), dp.ones((4, 3)), contract=((1,), (1,)))
    Tensor([[3., 3., 3., 3.],
            [3., 3., 3., 3.]], dtype=float32)
    """
    a, b = matrices(np.asarray(left), np.asarray(right), contract, batch)
    shape = shapes.dot(np.shape(left), np.shape(right), contract, batch)
    return np.matmul(a, b).reshape(shape)


def matrices(left: Any, right: Any, contract: Pairs, batch: Pairs) -> tuple[Any, Any]:
    """Both operands as stacks of matrices for ``np.matmul``: (batch, rows, inner) and (batch, inner, columns).

    Views where NumPy can make them; without batch axes the stack axis is left out, so a plain product is one BLAS call
    on the operands as they lie in memory, transposed or not.
    """
    rows = free_axes(left.ndim, contract[0], batch[0])
    columns = free_axes(right.ndim, contract[1], batch[1])
    stack = tuple(left.shape[a] for a in batch[0])
    inner = shapes.size(tuple(left.shape[a] for a in contract[0]))
    m = shapes.size(tuple(left.shape[a] for a in rows))
    n = shapes.size(tuple(right.shape[a] for a in columns))
    a = np.transpose(left, batch[0] + rows + contract[0]).reshape((*stack, m, inner))
    b = np.transpose(right, batch[1] + contract[1] + columns).reshape((*stack, inner, n))
    return a, b
