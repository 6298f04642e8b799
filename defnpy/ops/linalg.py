"""Systems of linear equations, inverses and determinants, of stacks of matrices: the last two axes are the matrix.

Their values are NumPy's, that is LAPACK's, and those of lapack.py for what NumPy lacks. The rules are those of Giles,
"An extended collection of matrix derivative results for forward and reverse mode AD" (2008), where nothing else is
named. Each one is written in ops of this file, so that derivatives of all orders come from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LinAlgError, Mismatch
from ..ir.aval import Aval
from ..ir.op import Case, Op
from .batching import everywhere
from .contract import dot_general
from .convert import one_dtype
from .elementwise import where
from .families import Body, special
from .lapack import trsm
from .linear import iota, permute_dims, reshape, sum_
from .logic import equal, less_equal

Array = np.ndarray[Any, Any]


def matrix_op(**declaration: Any) -> Callable[[Body], Op]:
    """An op on stacks of matrices: floats only, computed by a library; a batch of examples is a larger stack."""

    def declare(body: Body) -> Op:
        op = special(family="matrices", convert=one_dtype, kinds="f", **declaration)(body)
        op.batch = lambda batched, *x, **params: op(*everywhere(batched, x), **params)
        return op

    return declare


def transposed(x: Any) -> Any:
    """The last two axes swapped."""
    return permute_dims(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def product(*factors: Any) -> Any:
    """The product of stacks of matrices, from left to right; all have the same leading axes."""
    x, *others = factors
    for y in others:
        stack = tuple(range(x.ndim - 2))
        x = dot_general(x, y, contract=((x.ndim - 1,), (x.ndim - 2,)), batch=(stack, stack))
    return x


def _places(x: Any) -> tuple[Any, Any]:
    """The row and the column of each element."""
    return iota(shape=x.shape, axis=x.ndim - 2), iota(shape=x.shape, axis=x.ndim - 1)


def lower_part(x: Any, below: int = 0) -> Any:
    """``x`` with zeros above the diagonal that lies ``below`` places under the main one."""
    row, column = _places(x)
    return where(less_equal(column + below, row), x, 0)


def upper_part(x: Any) -> Any:
    """``x`` with zeros below the main diagonal."""
    row, column = _places(x)
    return where(less_equal(row, column), x, 0)


def unit_lower_part(x: Any) -> Any:
    """``x`` with ones on the diagonal and zeros above it."""
    return where(equal(*_places(x)), 1, lower_part(x, 1))


def matrices(x: Aval) -> tuple[int, int]:
    """The rows and columns of the matrices in ``x``."""
    if len(x.shape) < 2:
        raise Mismatch(
            f"a matrix has two axes, and the shape is {x.shape}", hint="x[:, None] is a matrix of one column"
        )
    return x.shape[-2], x.shape[-1]


def square(x: Aval) -> int:
    """The size of the square matrices in ``x``."""
    rows, columns = matrices(x)
    if rows != columns:
        hint = "dp.linalg.lstsq and dp.linalg.pinv take matrices of any shape"
        raise Mismatch(f"the matrix is {rows} x {columns}, not square", hint=hint)
    return rows


def computed(function: Callable[..., Any], *operands: Any, what: str, hint: str, **options: Any) -> Any:
    """What a function of numpy.linalg gives; its refusal in our words."""
    try:
        return function(*operands, **options)
    except np.linalg.LinAlgError:
        raise Mismatch(what, hint=hint, error=LinAlgError) from None


def iterated(function: Callable[..., Any], x: Any, **options: Any) -> Any:
    """What a function of numpy.linalg gives that iterates. LAPACK may never come back from a matrix with an infinity,
    so it is handed none."""
    what, hint = "the iteration does not converge: the matrix holds NaN or infinity", "dp.isfinite(x) tells where"
    if not np.isfinite(x).all():
        raise Mismatch(what, hint=hint, error=LinAlgError)
    return computed(function, x, what=what, hint=hint, **options)


SINGULAR = {
    "what": "the matrix is singular",
    "hint": "dp.linalg.lstsq and dp.linalg.pinv take singular ones; or add to the diagonal: x + 1e-6 * dp.eye(n)",
}


def regular(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    """Matrices far from singular, whose singular values are far from each other."""
    x = 0.2 * rng.standard_normal(shape)
    n = min(shape[-2:])
    x[..., range(n), range(n)] += 1.0 + np.arange(n)
    return x.astype(dtype)


def drawn(*matrix_shapes: tuple[int, ...]) -> Any:
    """A case's operands: matrices far from singular first, anything after it."""
    first, *others = matrix_shapes
    return lambda rng, dtype: [
        regular(rng, dtype, *first),
        *[rng.standard_normal(shape).astype(dtype) for shape in others],
    ]


def _solve_infer(a: Aval, b: Aval, **params: Any) -> Aval:
    n, (rows, _) = square(a), matrices(b)
    if rows != n or a.shape[:-2] != b.shape[:-2]:
        raise Mismatch(f"{a.shape} and {b.shape} are no systems of equations: the right side needs {n} rows for each")
    return Aval(b.shape, b.dtype)


def _solve_vjp(g: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    gb = solve(transposed(a), g)
    return -product(gb, transposed(y)), gb


_SYSTEMS = [
    ((3, 3), (3, 2)),
    ((2, 2, 3, 3), (2, 2, 3, 1)),
    ((1, 1), (1, 2)),
    ((2, 0, 0), (2, 0, 3)),
    ((0, 2, 2), (0, 2, 1)),
]


@matrix_op(infer=_solve_infer, vjp=_solve_vjp, cases=[Case(drawn(*shapes)) for shapes in _SYSTEMS])
def solve(a, b, /):
    """The x of a @ x = b: (..., n, n) and (..., n, k) give (..., n, k). A singular ``a`` is an error.

    >>> import defnpy as dp
    >>> dp.linalg.solve(dp.asarray([[2.0, 0.0], [0.0, 4.0]]), dp.asarray([[2.0], [2.0]]))
    Tensor([[1. ],
            [0.5]], dtype=float32)
    """
    return computed(np.linalg.solve, a, b, **SINGULAR)


def _triangular_vjp(g: Any, y: Any, a: Any, b: Any, *, lower: bool) -> tuple[Any, Any]:
    gb = triangular_solve(transposed(a), g, lower=not lower)
    ga = -product(gb, transposed(y))
    return triangle(ga, lower), gb


def triangle(x: Any, below: bool) -> Any:
    """The lower triangle of ``x``, or the upper one."""
    return lower_part(x) if below else upper_part(x)


@matrix_op(
    normalize=lambda a, b, *, lower: {"lower": bool(lower)},
    infer=_solve_infer,
    vjp=_triangular_vjp,
    cases=[Case(drawn(*shapes), {"lower": below}) for shapes in _SYSTEMS for below in (True, False)],
)
def triangular_solve(a, b, /, *, lower):
    """The x of a @ x = b for a triangular ``a``, of which only that triangle is read.

    (..., n, n) and (..., n, k) give (..., n, k). A zero on the diagonal is an error.

    >>> import defnpy as dp
    >>> a = dp.asarray([[2.0, 9.0], [1.0, 1.0]])
    >>> dp.linalg.triangular_solve(a, dp.asarray([[2.0], [2.0]]), lower=True)
    Tensor([[1.],
            [1.]], dtype=float32)
    """
    a, b = np.asarray(a), np.asarray(b)
    if np.any(np.diagonal(a, axis1=-2, axis2=-1) == 0):
        raise Mismatch(**SINGULAR, error=LinAlgError)
    return trsm(a, b, lower)


def square_infer(x: Aval) -> Aval:
    """The shape and dtype of x, whose matrices must be square."""
    square(x)
    return Aval(x.shape, x.dtype)


SQUARES = [(3, 3), (2, 2, 3, 3), (1, 1), (0, 0), (0, 2, 2)]


def _inverse_vjp(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (-product(transposed(y), g, transposed(y)),)


@matrix_op(infer=square_infer, vjp=_inverse_vjp, cases=[Case(drawn(shape)) for shape in SQUARES])
def inv(x, /):
    """The inverse: (..., n, n). A singular matrix is an error. ``solve`` is faster and more exact where it will do.

    >>> import defnpy as dp
    >>> dp.linalg.inv(dp.asarray([[2.0, 0.0], [0.0, 4.0]]))
    Tensor([[0.5 , 0.  ],
            [0.  , 0.25]], dtype=float32)
    """
    return computed(np.linalg.inv, x, **SINGULAR)


def _each(x: Any, y: Any) -> Any:
    """A number per matrix of ``y``, with two axes more."""
    return reshape(x, shape=(*x.shape, 1, 1))


def _number_infer(x: Aval) -> Aval:
    square(x)
    return Aval(x.shape[:-2], x.dtype)


@matrix_op(
    infer=_number_infer,
    vjp=lambda g, y, x: (_each(g, x) * cofactor(x),),
    cases=[Case(drawn(shape)) for shape in SQUARES],
)
def det(x, /):
    """The determinant: (..., n, n) gives (...). Its gradient, the matrix of cofactors, is right for singular ones too.

    >>> import defnpy as dp
    >>> dp.linalg.det(dp.asarray([[2.0, 0.0], [0.0, 4.0]]))
    Tensor(8., dtype=float32)
    """
    return np.linalg.det(x)


def _cofactor_vjp(g: Any, y: Any, x: Any) -> tuple[Any]:
    # y = det(x) inv(x).T, differentiated (Jacobi's formula), with y / det(x) for the inverses.
    inner = sum_(g * y, axis=(-2, -1))
    return ((_each(inner, x) * y - product(y, transposed(g), y)) / _each(det(x), x),)


@matrix_op(infer=square_infer, vjp=_cofactor_vjp, cases=[Case(drawn(shape)) for shape in SQUARES])
def cofactor(x, /):
    """The derivatives of the determinant by each element: det(x) inv(x).T, of singular matrices too.

    From x = u diag(s) v, of which the cofactors are det(u) u diag(the product of the other s) v det(v). The derivative
    of the cofactors themselves needs a matrix that is not singular. NaN for a matrix that holds NaN or infinity.

    >>> import defnpy as dp
    >>> from defnpy.ops.linalg import cofactor
    >>> dp.round(cofactor(dp.asarray([[1.0, 0.0], [0.0, 0.0]])))
    Tensor([[0., 0.],
            [0., 1.]], dtype=float32)
    """
    x = np.asarray(x)
    finite = np.isfinite(x).all((-2, -1), keepdims=True)  # as the determinant of others is no error, nor is this
    u, s, v = np.linalg.svd(np.where(finite, x, 0))
    before = np.cumprod(np.concatenate([np.ones_like(s[..., :1]), s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([np.ones_like(s[..., :1]), s[..., :0:-1]], -1), -1)[..., ::-1]
    sign = (np.linalg.det(u) * np.linalg.det(v))[..., None]
    return np.where(finite, (u * (sign * before * after)[..., None, :]) @ v, np.nan).astype(x.dtype)


def _slogdet_infer(x: Aval) -> tuple[Aval, Aval]:
    number = _number_infer(x)
    return number, number


def _slogdet_vjp(g: tuple[Any, Any], y: Any, x: Any) -> tuple[Any]:
    return (None if g[1] is None else _each(g[1], x) * transposed(inv(x)),)


@matrix_op(infer=_slogdet_infer, vjp=_slogdet_vjp, cases=[Case(drawn(shape)) for shape in SQUARES])
def slogdet(x, /):
    """The sign of the determinant and the logarithm of its size, which stays finite where ``det`` would not.

    (..., n, n) gives twice (...). Of a singular matrix they are 0 and -inf, and there is no gradient: an error.

    >>> import defnpy as dp
    >>> sign, size = dp.linalg.slogdet(dp.asarray([[0.0, 1.0], [1.0, 0.0]]))
    >>> sign, size
    (Tensor(-1., dtype=float32), Tensor(0., dtype=float32))
    """
    return tuple(np.linalg.slogdet(x))


def _pinv_infer(x: Aval, *, rtol: float) -> Aval:
    rows, columns = matrices(x)
    return Aval((*x.shape[:-2], columns, rows), x.dtype)


def _pinv_normalize(x: Aval, *, rtol: float | None = None) -> dict[str, Any]:
    return {"rtol": float(max(matrices(x)) * np.finfo(x.dtype).eps if rtol is None else rtol)}


def _pinv_vjp(g: Any, y: Any, x: Any, *, rtol: float) -> tuple[Any]:
    # Golub and Pereyra (1973), transposed; the rank does not change.
    yt, gt = transposed(y), transposed(g)
    inside = product(yt, g, yt)
    rows = product(gt, y, yt)
    columns = product(yt, y, gt)
    return (rows - product(x, y, rows) + columns - product(columns, y, x) - inside,)


def _rank_one(rng: np.random.Generator, dtype: Any) -> list[Any]:
    return [(rng.standard_normal((2, 3, 1)) @ rng.standard_normal((2, 1, 4))).astype(dtype)]


@matrix_op(
    normalize=_pinv_normalize,
    infer=_pinv_infer,
    vjp=_pinv_vjp,
    cases=[
        *[Case(drawn(shape)) for shape in ((3, 3), (4, 2), (2, 3), (2, 3, 2), (0, 2))],
        Case(_rank_one, smooth=False),
    ],
)
def pinv(x, /, *, rtol=None):
    """The Moore-Penrose inverse: (..., m, n) gives (..., n, m), for matrices of any shape and rank.

    rtol: singular values below rtol times the largest count as 0; by default the larger side times the dtype's epsilon.
    The gradient holds where the rank stays the same.

    >>> import defnpy as dp
    >>> dp.linalg.pinv(dp.asarray([[2.0, 0.0], [0.0, 0.0]]))
    Tensor([[0.5, 0. ],
            [0. , 0. ]], dtype=float32)
    """
    x = np.asarray(x)
    if rtol is None:
        rtol = max(x.shape[-2:]) * np.finfo(x.dtype).eps
    return iterated(np.linalg.pinv, x, rtol=rtol)
