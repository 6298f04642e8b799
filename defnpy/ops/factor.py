"""Factorizations of stacks of matrices: the last two axes are the matrix.

Their values are NumPy's, that is LAPACK's, and those of lapack.py for what NumPy lacks. The rules give the cotangent of
the matrix from those of its factors, in ops of this file and of linalg.py, so that derivatives of all orders come from
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GradientError, Mismatch
from ..ir.aval import Aval
from ..ir.op import Case
from ..ir.trace import current
from ..source import quote
from .elementwise import where
from .lapack import getrf
from .linalg import (
    SQUARES,
    Array,
    computed,
    drawn,
    iterated,
    lower_part,
    matrices,
    matrix_op,
    product,
    regular,
    square,
    square_infer,
    transposed,
    triangular_solve,
    unit_lower_part,
    upper_part,
)
from .linear import broadcast_to, concat_, iota, reshape, slice_, zeros_like
from .logic import equal
from .sort import along, argsort


def _symmetric(x: Any) -> Any:
    return (x + transposed(x)) * 0.5


def _diagonal_matrix(x: Any) -> Any:
    """Matrices with the vectors of ``x`` on their diagonals."""
    n = x.shape[-1]
    row, column = iota(shape=(n, n), axis=0), iota(shape=(n, n), axis=1)
    return where(equal(row, column), reshape(x, shape=(*x.shape[:-1], 1, n)), 0)


def _columns(x: Any) -> Any:
    """The vectors of ``x`` as matrices of one row, to scale the columns of others with."""
    return reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))


def _zeros_if_none(g: Any, y: Any) -> Any:
    return zeros_like(y) if g is None else g


def _block(x: Any, rows: slice, columns: slice) -> Any:
    """``x[..., rows, columns]``."""
    spans = [s.indices(n) for s, n in zip((rows, columns), x.shape[-2:], strict=True)]
    starts = (*(0,) * (x.ndim - 2), *[start for start, _, _ in spans])
    stops = (*x.shape[:-2], *[max(start, stop) for start, stop, _ in spans])
    return slice_(x, starts=starts, stops=stops, steps=(1,) * x.ndim)


# -- Cholesky ---------------------------------------------------------------------------------------------------------


def _cholesky_vjp(g: Any, y: Any, x: Any) -> tuple[Any]:
    # Murray, "Differentiation of the Cholesky decomposition" (2016), equation 10.
    inner = product(transposed(y), g)
    halved = (lower_part(inner) + lower_part(inner, 1)) * 0.5  # the lower triangle, half of its diagonal
    left = triangular_solve(transposed(y), halved, lower=False)
    both = transposed(triangular_solve(transposed(y), transposed(left), lower=False))
    return (_symmetric(both),)


def _definite(*shape: int) -> Any:
    def draw(rng: np.random.Generator, dtype: Any) -> list[Array]:
        x = regular(rng, dtype, *shape)
        return [x @ np.swapaxes(x, -1, -2)]

    return draw


@matrix_op(infer=square_infer, vjp=_cholesky_vjp, cases=[Case(_definite(*shape)) for shape in SQUARES])
def cholesky(x, /):
    """The lower triangular y of y @ y.mT = x, for a symmetric positive definite x: (..., n, n).

    What is factored is (x + x.mT) / 2, so that the derivative by each element is what it seems. A matrix that is not
    positive definite is an error.

    >>> import defnpy as dp
    >>> dp.linalg.cholesky(dp.asarray([[4.0, 2.0], [2.0, 5.0]]))
    Tensor([[2., 0.],
            [1., 2.]], dtype=float32)
    """
    x = np.asarray(x)
    hint = "is it symmetric? rounding is covered by a larger diagonal: x + 1e-6 * dp.eye(n)"
    x = (x + np.swapaxes(x, -1, -2)) * x.dtype.type(0.5)
    return computed(np.linalg.cholesky, x, what="the matrix is not positive definite", hint=hint)


# -- QR ---------------------------------------------------------------------------------------------------------------


def _qr_infer(x: Aval, *, mode: str) -> tuple[Aval, Aval]:
    rows, columns = matrices(x)
    inner = rows if mode == "complete" else min(rows, columns)
    return Aval((*x.shape[:-1], inner), x.dtype), Aval((*x.shape[:-2], inner, columns), x.dtype)


def _qr_normalize(x: Aval, *, mode: str = "reduced") -> dict[str, Any]:
    if mode not in ("reduced", "complete"):
        raise Mismatch(f"mode is 'reduced' or 'complete', not {mode!r}")
    return {"mode": mode}


def refused(what: str, hint: str) -> GradientError:
    """The error of a rule that has no answer, at the line of the op that is differentiated."""
    trace = current()
    return GradientError(what, where=quote(trace.place) if trace is not None and trace.place else "", hint=hint)


def _qr_vjp(g: tuple[Any, Any], y: tuple[Any, Any], x: Any, *, mode: str) -> tuple[Any]:
    # Walter and Lehmann, "Algorithmic differentiation of linear algebra functions" (2018); for wide matrices Roberts
    # and Roberts, "QR and LQ decomposition matrix backpropagation algorithms" (2020).
    q, r = y
    gq, gr = _zeros_if_none(g[0], q), _zeros_if_none(g[1], r)
    rows, columns = x.shape[-2:]
    if rows > columns and mode == "complete":
        raise refused(
            "qr: the additional columns of a complete q have no derivative",
            "differentiate dp.linalg.qr(x), whose mode is 'reduced'",
        )
    if rows < columns:
        rest, grest = _block(x, slice(None), slice(rows, None)), _block(gr, slice(None), slice(rows, None))
        first, gfirst = _block(r, slice(None), slice(rows)), _block(gr, slice(None), slice(rows))
        left = _qr_square(gq + product(rest, transposed(grest)), gfirst, q, first)
        return (concat_(left, product(q, grest), axis=-1),)
    return (_qr_square(gq, gr, q, r),)


def _qr_square(gq: Any, gr: Any, q: Any, r: Any) -> Any:
    inner = product(r, transposed(gr)) - product(transposed(gq), q)
    symmetric = lower_part(inner) + transposed(lower_part(inner, 1))
    # What is asked for times the transposed r is known: solve with r for the transpose.
    return transposed(triangular_solve(r, transposed(gq + product(q, symmetric)), lower=False))


_SHAPES = [(3, 3), (4, 2), (2, 4), (2, 3, 2), (2, 2, 1, 2), (0, 3, 2)]


@matrix_op(
    normalize=_qr_normalize,
    infer=_qr_infer,
    vjp=_qr_vjp,
    cases=[
        *[Case(drawn(shape)) for shape in _SHAPES],
        Case(drawn((2, 3)), {"mode": "complete"}),
    ],
)
def qr(x, /, *, mode="reduced"):
    """q with orthonormal columns and r upper triangular, q @ r = x.

    (..., m, n) gives (..., m, k) and (..., k, n) with k = min(m, n); with ``mode="complete"`` k is m, and there is a
    derivative only where m <= n. The first k columns of x must be independent for it.

    >>> import defnpy as dp
    >>> q, r = dp.linalg.qr(dp.asarray([[0.0, 2.0], [1.0, 3.0]]))
    >>> dp.abs(r)
    Tensor([[1., 3.],
            [0., 2.]], dtype=float32)
    """
    return tuple(np.linalg.qr(x, mode=mode))


# -- LU ---------------------------------------------------------------------------------------------------------------


def _lu_infer(x: Aval) -> tuple[Aval, Aval]:
    rows, _ = matrices(x)
    return Aval(x.shape, x.dtype), Aval((*x.shape[:-2], rows), np.dtype("int64"))


def _lu_vjp(g: tuple[Any, Any], y: tuple[Any, Any], x: Any) -> tuple[Any]:
    # x[order] = l @ u, with a square first part of size k, below or beside which there may be more rows or columns:
    # [[a, b], [c, .]] = [[l], [l2]] @ [[u, u2]]. What c = l2 @ u and b = l @ u2 ask of u and l is added to a = l @ u.
    packed, order = y
    gp = g[0]
    if gp is None:
        return (None,)
    rows, columns = x.shape[-2:]
    head, tail = slice(min(rows, columns)), slice(min(rows, columns), None)
    first, gfirst = _block(packed, head, head), _block(gp, head, head)
    low, up = unit_lower_part(first), upper_part(first)
    glow, gup = lower_part(gfirst, 1), upper_part(gfirst)
    if rows > columns:
        gc = transposed(triangular_solve(up, transposed(_block(gp, tail, head)), lower=False))
        gup = gup - upper_part(product(transposed(_block(packed, tail, head)), gc))
    elif columns > rows:
        gb = triangular_solve(transposed(low), _block(gp, head, tail), lower=False)
        glow = glow - lower_part(product(gb, transposed(_block(packed, head, tail))), 1)
    inner = lower_part(product(transposed(low), glow), 1) + upper_part(product(gup, transposed(up)))
    right = transposed(triangular_solve(up, transposed(inner), lower=False))
    gx = triangular_solve(transposed(low), right, lower=False)
    if rows > columns:
        gx = concat_(gx, gc, axis=-2)
    elif columns > rows:
        gx = concat_(gx, gb, axis=-1)
    back = argsort(order, axis=-1)
    places = broadcast_to(reshape(back, shape=(*back.shape, 1)), shape=gx.shape)
    return (along(gx, places, gx.ndim - 2),)


@matrix_op(infer=_lu_infer, vjp=_lu_vjp, cases=[Case(drawn(shape)) for shape in (*_SHAPES, (2, 0, 0))])
def lu_packed(x, /):
    """x[order] = l @ u: both triangles in one matrix, without the ones on the diagonal of l, and the order of the rows.

    (..., m, n) gives (..., m, n) and (..., m), int64. ``dp.linalg.lu`` has them apart.

    >>> import defnpy as dp
    >>> from defnpy.ops.factor import lu_packed
    >>> lu_packed(dp.asarray([[1.0, 3.0], [2.0, 2.0]]))
    (Tensor([[2. , 2. ],
            [0.5, 2. ]], dtype=float32), Tensor([1, 0], dtype=int64))
    """
    return getrf(np.asarray(x))


# -- eigenvalues and singular values -----------------------------------------------------------------------------------


def _reciprocal(x: Any) -> Any:
    """1 / x but on the diagonal, where it is 0."""
    row, column = iota(shape=x.shape, axis=x.ndim - 2), iota(shape=x.shape, axis=x.ndim - 1)
    diagonal = equal(row, column)
    return where(diagonal, 0, 1 / where(diagonal, 1, x))


def _rows(x: Any) -> Any:
    """The vectors of ``x`` as matrices of one column, to scale the rows of others with."""
    return reshape(x, shape=(*x.shape, 1))


def _skew(x: Any, g: Any) -> Any:
    """x.mT @ g, less its transpose."""
    inner = product(transposed(x), g)
    return inner - transposed(inner)


def _symmetric_case(*shape: int) -> Any:
    def draw(rng: np.random.Generator, dtype: Any) -> list[Array]:
        x = regular(rng, dtype, *shape)
        return [x + np.swapaxes(x, -1, -2)]

    return draw


def _eigh_infer(x: Aval) -> tuple[Aval, Aval]:
    square(x)
    return Aval(x.shape[:-1], x.dtype), Aval(x.shape, x.dtype)


def _eigh_vjp(g: tuple[Any, Any], y: tuple[Any, Any], x: Any) -> tuple[Any]:
    # Giles (2008), 3.1, its symmetric part: where the same matrix is meant, the same derivative.
    w, v = y
    gw, gv = g
    inner = _diagonal_matrix(_zeros_if_none(gw, w))
    if gv is not None:
        inner = inner + _reciprocal(_columns(w) - _rows(w)) * _skew(v, gv) * 0.5
    return (product(v, inner, transposed(v)),)


@matrix_op(infer=_eigh_infer, vjp=_eigh_vjp, cases=[Case(_symmetric_case(*shape)) for shape in SQUARES])
def eigh(x, /):
    """Eigenvalues, in ascending order, and the eigenvectors, as columns, of a symmetric x.

    (..., n, n) gives (..., n) and (..., n, n). What is decomposed is (x + x.mT) / 2. An eigenvector's sign is open.
    So are the eigenvectors of equal eigenvalues; they have no derivative, and a gradient through them is not finite.

    >>> import defnpy as dp
    >>> w, v = dp.linalg.eigh(dp.asarray([[2.0, 0.0], [0.0, 1.0]]))
    >>> w
    Tensor([1., 2.], dtype=float32)
    """
    x = np.asarray(x)
    return tuple(iterated(np.linalg.eigh, (x + np.swapaxes(x, -1, -2)) * x.dtype.type(0.5)))


def _eigvalsh_vjp(g: Any, y: Any, x: Any) -> tuple[Any]:
    _, v = eigh(x)
    return (product(v * _columns(g), transposed(v)),)


@matrix_op(
    infer=lambda x: _eigh_infer(x)[0],
    vjp=_eigvalsh_vjp,
    cases=[Case(_symmetric_case(*shape)) for shape in SQUARES],
)
def eigvalsh(x, /):
    """The eigenvalues of a symmetric x, in ascending order: (..., n, n) gives (..., n). See :func:`eigh`.

    >>> import defnpy as dp
    >>> dp.linalg.eigvalsh(dp.asarray([[2.0, 0.0], [0.0, 1.0]]))
    Tensor([1., 2.], dtype=float32)
    """
    x = np.asarray(x)
    return iterated(np.linalg.eigvalsh, (x + np.swapaxes(x, -1, -2)) * x.dtype.type(0.5))


def _svd_infer(x: Aval, *, full_matrices: bool) -> tuple[Aval, Aval, Aval]:
    rows, columns = matrices(x)
    stack, inner = x.shape[:-2], min(rows, columns)
    left, right = (rows, columns) if full_matrices else (inner, inner)
    avals = (*stack, rows, left), (*stack, inner), (*stack, right, columns)
    u, s, v = (Aval(shape, x.dtype) for shape in avals)
    return u, s, v


def _svd_vjp(g: tuple[Any, Any, Any], y: tuple[Any, Any, Any], x: Any, *, full_matrices: bool) -> tuple[Any]:
    # Townsend, "Differentiating the singular value decomposition" (2016), with 1 / (t**2 - s**2) taken apart into
    # 1 / (t - s) and 1 / (t + s).
    u, s, vt = y
    gu, gs, gvt = g
    if full_matrices and x.shape[-2] != x.shape[-1] and not (gu is None and gvt is None):
        raise refused(
            "svd: the additional columns of a full u or v have no derivative",
            "differentiate dp.linalg.svd(x, full_matrices=False)",
        )
    k = s.shape[-1]
    if full_matrices:
        u, vt = _block(u, slice(None), slice(k)), _block(vt, slice(k), slice(None))
    inner = _diagonal_matrix(_zeros_if_none(gs, s))
    left = None if gu is None else _skew(u, gu)
    right = None if gvt is None else _skew(transposed(vt), transposed(gvt))
    if left is not None or right is not None:
        left, right = _zeros_if_none(left, inner), _zeros_if_none(right, inner)
        gaps, sums = _reciprocal(_columns(s) - _rows(s)), _reciprocal(_columns(s) + _rows(s))
        inner = inner + ((left + right) * gaps + (left - right) * sums) * 0.5
    result = product(u, inner, vt)
    # What leaves the space of the columns of u, or of the rows of vt.
    if gu is not None and x.shape[-2] > k:
        away = gu / _columns(s)
        result = result + product(away - product(u, transposed(u), away), vt)
    if gvt is not None and x.shape[-1] > k:
        away = gvt / _rows(s)
        result = result + product(u, away - product(away, transposed(vt), vt))
    return (result,)


@matrix_op(
    normalize=lambda x, *, full_matrices=True: {"full_matrices": bool(full_matrices)},
    infer=_svd_infer,
    vjp=_svd_vjp,
    cases=[
        *[Case(drawn(shape), {"full_matrices": False}) for shape in _SHAPES],
        Case(drawn((2, 3, 3))),
    ],
)
def svd(x, /, *, full_matrices=True):
    """u, s and vt with x = u @ diag(s) @ vt, s in descending order and never negative.

    (..., m, n) gives (..., m, m), (..., k) and (..., n, n) with k = min(m, n), or with ``full_matrices=False``
    (..., m, k), (..., k) and (..., k, n); only those have a derivative, but for square matrices. Signs are open. So are
    the vectors of equal singular values; they have no derivative, and a gradient through them is not finite.

    >>> import defnpy as dp
    >>> u, s, vt = dp.linalg.svd(dp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    >>> s
    Tensor([2., 1.], dtype=float32)
    """
    return tuple(iterated(np.linalg.svd, x, full_matrices=full_matrices))


def _svdvals_vjp(g: Any, y: Any, x: Any) -> tuple[Any]:
    u, _, vt = svd(x, full_matrices=False)
    return (product(u * _columns(g), vt),)


@matrix_op(
    infer=lambda x: _svd_infer(x, full_matrices=False)[1],
    vjp=_svdvals_vjp,
    cases=[Case(drawn(shape)) for shape in _SHAPES],
)
def svdvals(x, /):
    """The singular values, in descending order: (..., m, n) gives (..., min(m, n)). See :func:`svd`.

    >>> import defnpy as dp
    >>> dp.linalg.svdvals(dp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    Tensor([2., 1.], dtype=float32)
    """
    return iterated(np.linalg.svd, x, compute_uv=False)
