"""Linear algebra, ``dp.linalg``: the names and results of the Array API's extension, on stacks of matrices.

A stack has its matrices on the last two axes. Integers are taken as float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import shapes
from ..errors import Mismatch
from ..ir.expr import Value
from ..ir.trace import aval_of, function
from ..ops import elementwise as e
from ..ops import factor, linalg, linear
from ..ops.factor import eigvalsh, svdvals
from ..ops.linalg import det, inv, pinv
from ..ops.logic import equal, greater
from ..ops.reduce import max_, min_
from .creation import diagonal, eye
from .indexing import getitem
from .manipulation import matrix_transpose, moveaxis
from .products import matmul, outer, tensordot, vecdot
from .statistics import _float

__all__ = [
    "EighResult",
    "LUResult",
    "LstsqResult",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "lu",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "triangular_solve",
    "vecdot",
    "vector_norm",
]


class EighResult(NamedTuple):
    """What :func:`eigh` returns.

    >>> import defnpy as dp
    >>> dp.linalg.eigh(dp.eye(2))._fields
    ('eigenvalues', 'eigenvectors')
    """

    eigenvalues: Any
    eigenvectors: Any


class LUResult(NamedTuple):
    """What :func:`lu` returns.

    >>> import defnpy as dp
    >>> dp.linalg.lu(dp.eye(2))._fields
    ('P', 'L', 'U')
    """

    P: Any
    L: Any
    U: Any


class LstsqResult(NamedTuple):
    """What :func:`lstsq` returns.

    >>> import defnpy as dp
    >>> dp.linalg.lstsq(dp.eye(2), dp.ones(2))._fields
    ('x', 'residuals', 'rank', 'singular_values')
    """

    x: Any
    residuals: Any
    rank: Any
    singular_values: Any


class QRResult(NamedTuple):
    """What :func:`qr` returns.

    >>> import defnpy as dp
    >>> dp.linalg.qr(dp.eye(2))._fields
    ('Q', 'R')
    """

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """What :func:`svd` returns.

    >>> import defnpy as dp
    >>> dp.linalg.svd(dp.eye(2))._fields
    ('U', 'S', 'Vh')
    """

    U: Any
    S: Any
    Vh: Any


class SlogdetResult(NamedTuple):
    """What :func:`slogdet` returns.

    >>> import defnpy as dp
    >>> dp.linalg.slogdet(dp.eye(2))._fields
    ('sign', 'logabsdet')
    """

    sign: Any
    logabsdet: Any


# -- systems of equations ---------------------------------------------------------------------------------------------


@function
def solve(a: Any, b: Any, /) -> Any:
    """The x of a @ x = b, for square ``a`` of full rank: (..., n, n) and (..., n, k), or a vector (n,), give b's shape.

    Leading axes broadcast. A singular ``a`` is an error; :func:`lstsq` takes it.

    >>> import defnpy as dp
    >>> dp.linalg.solve(dp.asarray([[2.0, 0.0], [0.0, 4.0]]), dp.asarray([2.0, 2.0]))
    Tensor([1. , 0.5], dtype=float32)
    """
    return _solved(linalg.solve, a, b)


@function
def triangular_solve(a: Any, b: Any, /, *, lower: bool) -> Any:
    """The x of a @ x = b, for a triangular ``a``, of which only the lower or the upper triangle is read.

    (..., n, n) and (..., n, k), or a vector (n,), give b's shape; leading axes broadcast. A zero on the diagonal is an
    error.

    >>> import defnpy as dp
    >>> dp.linalg.triangular_solve(dp.asarray([[2.0, 9.0], [1.0, 1.0]]), dp.asarray([2.0, 2.0]), lower=True)
    Tensor([1., 1.], dtype=float32)
    """
    return _solved(functools.partial(linalg.triangular_solve, lower=lower), a, b)


def _solved(op: Any, a: Any, b: Any) -> Any:
    linalg.square(aval_of(a))
    left, right = aval_of(a).shape, aval_of(b).shape
    if len(right) == 1:
        column = linear.reshape(b, shape=(*right, 1))
        column = linear.broadcast_to(column, shape=(*left[:-2], *column.shape))
        result = op(a, column)
        return linear.reshape(result, shape=result.shape[:-1])
    linalg.matrices(aval_of(b))
    stack = shapes.broadcast(left[:-2], right[:-2])
    return op(*[linear.broadcast_to(x, shape=(*stack, *s[-2:])) for x, s in ((a, left), (b, right))])


@function
def lstsq(a: Any, b: Any, /, *, rtol: float | None = None) -> LstsqResult:
    """The shortest x that makes a @ x - b smallest, for an ``a`` of any shape and rank.

    (m, n) and (m,) or (m, k) give x as (n,) or (n, k). With it come the residuals, the sums of squares of what remains
    of each column (whatever the rank: NumPy leaves them out at times), the rank of a, and its singular values.
    rtol: singular values below rtol times the largest count as 0.

    >>> import defnpy as dp
    >>> line = dp.asarray([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> [round(c, 4) for c in dp.linalg.lstsq(line, dp.asarray([1.0, 3.0, 5.0])).x.tolist()]
    [2.0, 1.0]
    """
    linalg.matrices(aval_of(a))
    x = matmul(pinv(a, rtol=rtol), b)
    rest = b - matmul(a, x)
    s = svdvals(a)
    return LstsqResult(x, linear.sum_(rest * rest, axis=0), _rank(s, a, rtol), s)


@function
def slogdet(x: Any, /) -> SlogdetResult:
    """The sign of the determinant and the logarithm of its size, which stays finite where ``det`` would not.

    (..., n, n) gives twice (...). Of a singular matrix they are 0 and -inf, and there is no gradient: an error.

    >>> import defnpy as dp
    >>> dp.linalg.slogdet(dp.asarray([[0.0, 1.0], [1.0, 0.0]])).sign
    Tensor(-1., dtype=float32)
    """
    return SlogdetResult(*linalg.slogdet(x))


# -- factorizations ---------------------------------------------------------------------------------------------------


@function
def cholesky(x: Any, /, *, upper: bool = False) -> Any:
    """The lower triangular y of y @ y.mT = x for a symmetric positive definite x, or the upper one of y.mT @ y = x.

    What is factored is (x + x.mT) / 2, so that the derivative by each element is what it seems. A matrix that is not
    positive definite is an error.

    >>> import defnpy as dp
    >>> dp.linalg.cholesky(dp.asarray([[4.0, 2.0], [2.0, 5.0]]))
    Tensor([[2., 0.],
            [1., 2.]], dtype=float32)
    """
    y = factor.cholesky(x)
    return matrix_transpose(y) if upper else y


@function
def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """Q with orthonormal columns and R upper triangular, Q @ R = x.

    (..., m, n) gives (..., m, k) and (..., k, n) with k = min(m, n); with ``mode="complete"`` k is m, and there is a
    derivative only where m <= n. The first k columns of x must be independent for it.

    >>> import defnpy as dp
    >>> q, r = dp.linalg.qr(dp.asarray([[0.0, 2.0], [1.0, 3.0]]))
    >>> dp.abs(r)
    Tensor([[1., 3.],
            [0., 2.]], dtype=float32)
    """
    return QRResult(*factor.qr(x, mode=mode))


@function
def lu(x: Any, /) -> LUResult:
    """P, L and U with x = P @ L @ U: a permutation, a lower triangle with ones on its diagonal, an upper triangle.

    (..., m, n) gives (..., m, m), (..., m, k) and (..., k, n) with k = min(m, n).

    >>> import defnpy as dp
    >>> p, l, u = dp.linalg.lu(dp.asarray([[1.0, 3.0], [2.0, 2.0]]))
    >>> u
    Tensor([[2., 2.],
            [0., 2.]], dtype=float32)
    """
    packed, order = factor.lu_packed(x)
    rows, columns = packed.shape[-2:]
    k = min(rows, columns)
    lower = linalg.lower_part(getitem(packed, (..., slice(k))), 1) + eye(rows, k, dtype=packed.dtype)
    upper = linalg.upper_part(getitem(packed, (..., slice(k), slice(None))))
    row = linear.iota(shape=(rows, rows), axis=0)
    places = equal(row, linear.reshape(order, shape=(*order.shape[:-1], 1, rows)))
    return LUResult(places.astype(packed.dtype), lower, upper)


@function
def eigh(x: Any, /) -> EighResult:
    """Eigenvalues, in ascending order, and the eigenvectors, as columns, of a symmetric x.

    (..., n, n) gives (..., n) and (..., n, n). What is decomposed is (x + x.mT) / 2. An eigenvector's sign is open.
    So are the eigenvectors of equal eigenvalues; they have no derivative, and a gradient through them is not finite.

    >>> import defnpy as dp
    >>> dp.linalg.eigh(dp.asarray([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    Tensor([1., 2.], dtype=float32)
    """
    return EighResult(*factor.eigh(x))


@function
def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """U, S and Vh with x = U @ diag(S) @ Vh, S in descending order and never negative.

    (..., m, n) gives (..., m, m), (..., k) and (..., n, n) with k = min(m, n), or with ``full_matrices=False``
    (..., m, k), (..., k) and (..., k, n); only those have a derivative, but for square matrices. Signs are open. So are
    the vectors of equal singular values; they have no derivative, and a gradient through them is not finite.

    >>> import defnpy as dp
    >>> dp.linalg.svd(dp.asarray([[0.0, 2.0], [1.0, 0.0]])).S
    Tensor([2., 1.], dtype=float32)
    """
    return SVDResult(*factor.svd(x, full_matrices=full_matrices))


# -- numbers of a matrix ----------------------------------------------------------------------------------------------


@function
def trace(x: Any, /, *, offset: int = 0) -> Any:
    """The sum of the diagonal of the last two axes, or of the one ``offset`` places above it.

    >>> import defnpy as dp
    >>> dp.linalg.trace(dp.asarray([[1, 2], [3, 4]]))
    Tensor(5, dtype=int64)
    """
    return linear.sum_(diagonal(x, offset=offset), axis=-1)


@function
def matrix_rank(x: Any, /, *, rtol: float | None = None) -> Any:
    """How many singular values are larger than ``rtol`` times the largest: (..., m, n) gives int64 (...).

    rtol: by default the larger side times the dtype's epsilon.

    >>> import defnpy as dp
    >>> dp.linalg.matrix_rank(dp.ones((3, 3)))
    Tensor(1, dtype=int64)
    """
    return _rank(svdvals(x), x, rtol)


def _rank(s: Any, x: Any, rtol: float | None) -> Any:
    if rtol is None:
        rtol = max(linalg.matrices(aval_of(x))) * float(np.finfo(s.dtype).eps)
    if s.shape[-1] == 0:
        return linear.sum_(greater(s, 0), axis=-1)
    return linear.sum_(greater(s, getitem(s, (..., slice(1))) * rtol), axis=-1)


@function
def cond(x: Any, /) -> Any:
    """The ratio of the largest singular value to the smallest: how much a solution magnifies an error.

    >>> import defnpy as dp
    >>> dp.linalg.cond(dp.asarray([[4.0, 0.0], [0.0, 2.0]]))
    Tensor(2., dtype=float32)
    """
    s = svdvals(x)
    return getitem(s, (..., 0)) / getitem(s, (..., -1))


@function
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
    """The norm of the vectors along ``axis`` (int, tuple, None for all): (sum of abs(x)**ord)**(1 / ord).

    ord: any number; ``math.inf`` and ``-math.inf`` give the largest and the smallest element, 0 how many are not 0.
    The gradient of the norm of a vector of zeros is 0.

    >>> import defnpy as dp
    >>> dp.linalg.vector_norm(dp.asarray([3.0, 4.0]))
    Tensor(5., dtype=float32)
    >>> dp.grad(dp.linalg.vector_norm)(dp.zeros(2))
    Tensor([0., 0.], dtype=float32)
    """
    x = _float(x)
    axes = shapes.normalize_axes(axis, x.ndim)
    options: dict[str, Any] = {"axis": axes, "keepdims": keepdims}
    if ord == 2:
        return _root(linear.sum_(x * x, **options), 2)
    if ord == 0:
        return linear.sum_(e.abs_(e.sign(x)), **options)
    size = e.abs_(x)
    if ord in (math.inf, -math.inf):
        return (max_ if ord > 0 else min_)(size, **options)
    if ord == 1:
        return linear.sum_(size, **options)
    return _root(linear.sum_(size**ord, **options), ord)


def _root(x: Any, degree: float) -> Any:
    """The root, with the derivative 0 at 0, where it has none."""
    if degree < 0:
        return x ** (1 / degree)
    zero = equal(x, 0)
    inside = e.where(zero, 1, x)
    return e.where(zero, 0, e.sqrt(inside) if degree == 2 else inside ** (1 / degree))


@function
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: float | str = "fro") -> Any:
    """The norm of each matrix: (..., m, n) gives (...).

    ord: ``"fro"`` for the root of the sum of squares, ``"nuc"`` for the sum of the singular values; 2 and -2 for the
    largest and the smallest of them; 1 and -1 for the largest and the smallest sum of a column's sizes, ``math.inf``
    and ``-math.inf`` of a row's.

    >>> import defnpy as dp
    >>> dp.linalg.matrix_norm(dp.asarray([[3.0, 0.0], [0.0, -4.0]]), ord="nuc")
    Tensor(7., dtype=float32)
    """
    linalg.matrices(aval_of(x))
    x = _float(x)
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    extremum = min_ if isinstance(ord, (int, float)) and ord < 0 else max_
    if ord in (1, -1, math.inf, -math.inf):
        sums = linear.sum_(e.abs_(x), axis=-2 if abs(float(ord)) == 1 else -1)
        result = extremum(sums, axis=-1)
    elif ord in (2, -2):
        result = extremum(svdvals(x), axis=-1)
    elif ord == "nuc":
        result = linear.sum_(svdvals(x), axis=-1)
    else:
        raise Mismatch(f"there is no matrix norm {ord!r}", hint="'fro', 'nuc', 1, -1, 2, -2, math.inf or -math.inf")
    return linear.reshape(result, shape=(*result.shape, 1, 1)) if keepdims else result


# -- products ---------------------------------------------------------------------------------------------------------


@function
def matrix_power(x: Any, n: int, /) -> Any:
    """``n`` factors of x multiplied, of its inverse where n is negative; for 0 the identity. In about log2(n) products.

    >>> import defnpy as dp
    >>> dp.linalg.matrix_power(dp.asarray([[1, 1], [1, 0]]), 10)
    Tensor([[89, 55],
            [55, 34]], dtype=int64)
    """
    size = linalg.square(aval_of(x))
    if n < 0:
        x, n = inv(x), -n
    result = None
    while n:
        if n % 2:
            result = x if result is None else matmul(result, x)
        n //= 2
        x = matmul(x, x) if n else x
    return linear.broadcast_to(eye(size, dtype=x.dtype), shape=x.shape) if result is None else result


@function
def multi_dot(xs: Sequence[Any], /) -> Any:
    """The product of several matrices, in the order that takes the fewest multiplications; the ends may be vectors.

    >>> import defnpy as dp
    >>> dp.linalg.multi_dot([dp.ones((2, 3)), dp.ones((3, 4)), dp.ones(4)])
    Tensor([12., 12.], dtype=float32)
    """
    if len(xs) < 2:
        raise Mismatch("needs at least two matrices")
    dims = [aval_of(x).shape for x in xs]
    for i, shape in enumerate(dims):
        if len(shape) != 2 and not (len(shape) == 1 and i in (0, len(xs) - 1)):
            raise Mismatch(f"operand {i} has the shape {shape}: matrices are multiplied, with a vector at either end")
    first = (1, *dims[0]) if len(dims[0]) == 1 else dims[0]
    last = (*dims[-1], 1) if len(dims[-1]) == 1 else dims[-1]
    sizes = [first[0], *[shape[0] for shape in [first, *dims[1:-1], last][1:]], last[1]]
    split = _chain(sizes)

    def multiplied(i: int, j: int) -> Any:
        return xs[i] if i == j else matmul(multiplied(i, split[i, j]), multiplied(split[i, j] + 1, j))

    return multiplied(0, len(xs) - 1)


def _chain(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """After which factor to split a chain of matrices, for every part of it (Godbole 1973)."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            choices = [(cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
            cost[i, j], split[i, j] = min(choices)
    return split


@function
def cross(x: Any, y: Any, /, *, axis: int = -1) -> Any:
    """The cross product of vectors of three elements along ``axis``; the other axes broadcast.

    >>> import defnpy as dp
    >>> dp.linalg.cross(dp.asarray([1.0, 0.0, 0.0]), dp.asarray([0.0, 1.0, 0.0]))
    Tensor([0., 0., 1.], dtype=float32)
    """
    parts = []
    for v in (x, y):
        shape = aval_of(v).shape
        place = shapes.normalize_axis(axis, len(shape))
        if shape[place] != 3:
            raise Mismatch(f"a cross product is of vectors of 3 elements, and axis {axis} has {shape[place]}")
        parts.append(moveaxis(v, place, -1) if isinstance(v, Value) else np.moveaxis(np.asarray(v), place, -1))
    ndim = max(part.ndim for part in parts)
    (x0, x1, x2), (y0, y1, y2) = (tuple(part[..., i : i + 1] for i in range(3)) for part in parts)
    result = linear.concat_(x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0, axis=ndim - 1)
    return moveaxis(result, -1, axis)
