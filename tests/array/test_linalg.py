"""``dp.linalg`` against NumPy: values, stacks, dtypes, the derivatives where they are delicate, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError, LinAlgError, ShapeError
from defnpy.testing import check_grads

RNG = np.random.default_rng(0)
BACKENDS = ["reference", "cpu"]


def matrix(*shape):
    """Far from singular, and with singular values far from each other."""
    x = 0.3 * RNG.standard_normal(shape)
    n = min(shape[-2:])
    x[..., range(n), range(n)] += 1.0 + np.arange(n)
    return x


S, STACK, TALL, WIDE = matrix(3, 3), matrix(2, 4, 3, 3), matrix(2, 4, 3), matrix(2, 3, 4)
SPD = STACK @ np.swapaxes(STACK, -1, -2)
B, V = RNG.standard_normal((3, 2)), RNG.standard_normal(3)


def close(got, wanted, rtol=1e-11, atol=1e-12):
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


PAIRS = {
    "solve": (lambda: dp.linalg.solve(S, B), lambda: np.linalg.solve(S, B)),
    "solve of a vector": (lambda: dp.linalg.solve(S, V), lambda: np.linalg.solve(S, V)),
    "solve of stacks": (
        lambda: dp.linalg.solve(STACK, np.broadcast_to(B, (4, 3, 2))),
        lambda: np.linalg.solve(STACK, np.broadcast_to(B, (4, 3, 2))),
    ),
    "solve of a stack for a vector": (lambda: dp.linalg.solve(STACK, V), lambda: np.linalg.inv(STACK) @ V),
    "triangular_solve, lower": (
        lambda: dp.linalg.triangular_solve(S, B, lower=True),
        lambda: np.linalg.inv(np.tril(S)) @ B,
    ),
    "triangular_solve, upper": (
        lambda: dp.linalg.triangular_solve(STACK, V, lower=False),
        lambda: np.linalg.inv(np.triu(STACK)) @ V,
    ),
    "inv": (lambda: dp.linalg.inv(STACK), lambda: np.linalg.inv(STACK)),
    "pinv": (lambda: dp.linalg.pinv(WIDE), lambda: np.linalg.pinv(WIDE)),
    "det": (lambda: dp.linalg.det(STACK), lambda: np.linalg.det(STACK)),
    "slogdet": (lambda: dp.linalg.slogdet(STACK).logabsdet, lambda: np.linalg.slogdet(STACK)[1]),
    "cholesky": (lambda: dp.linalg.cholesky(SPD), lambda: np.linalg.cholesky(SPD)),
    "cholesky, upper": (
        lambda: dp.linalg.cholesky(SPD, upper=True),
        lambda: np.swapaxes(np.linalg.cholesky(SPD), -1, -2),
    ),
    "eigvalsh": (lambda: dp.linalg.eigvalsh(SPD), lambda: np.linalg.eigvalsh(SPD)),
    "svdvals": (lambda: dp.linalg.svdvals(TALL), lambda: np.linalg.svd(TALL, compute_uv=False)),
    "matrix_rank": (lambda: dp.linalg.matrix_rank(TALL), lambda: np.linalg.matrix_rank(TALL)),
    "matrix_rank of ones": (lambda: dp.linalg.matrix_rank(np.ones((2, 3))), lambda: np.int64(1)),
    "trace": (lambda: dp.linalg.trace(STACK, offset=1), lambda: np.trace(STACK, 1, -2, -1)),
    "diagonal": (lambda: dp.linalg.diagonal(WIDE, offset=-1), lambda: np.diagonal(WIDE, -1, -2, -1)),
    "cond": (lambda: dp.linalg.cond(STACK), lambda: np.linalg.cond(STACK)),
    "cross": (
        lambda: dp.linalg.cross(np.broadcast_to(V, (2, 3)), B[None, :, 0]),
        lambda: np.cross(np.broadcast_to(V, (2, 3)), B[None, :, 0]),
    ),
    "cross along an axis": (lambda: dp.linalg.cross(B, S[:, :2], axis=0), lambda: np.cross(B, S[:, :2], axis=0)),
    "multi_dot": (
        lambda: dp.linalg.multi_dot([V, S, B, B.T, S, V]),
        lambda: np.linalg.multi_dot([V, S, B, B.T, S, V]),
    ),
    "multi_dot of two": (lambda: dp.linalg.multi_dot([S, B]), lambda: S @ B),
    "lstsq": (lambda: dp.linalg.lstsq(TALL[0], RNG_B).x, lambda: np.linalg.lstsq(TALL[0], RNG_B)[0]),
    "lstsq's residuals": (
        lambda: dp.linalg.lstsq(TALL[0], RNG_B).residuals,
        lambda: np.linalg.lstsq(TALL[0], RNG_B)[1],
    ),
    "lstsq of a wide matrix": (lambda: dp.linalg.lstsq(WIDE[0], V).x, lambda: np.linalg.lstsq(WIDE[0], V)[0]),
    **{
        f"matrix_power {n}": (
            lambda n=n: dp.linalg.matrix_power(STACK, n),
            lambda n=n: np.linalg.matrix_power(STACK, n),
        )
        for n in (-3, -1, 0, 1, 2, 7)
    },
    **{
        f"matrix_norm {p}": (
            lambda p=p: dp.linalg.matrix_norm(WIDE, ord=p, keepdims=True),
            lambda p=p: np.linalg.norm(WIDE, ord=p, axis=(-2, -1), keepdims=True),
        )
        for p in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
    },
    **{
        f"vector_norm {p}": (
            lambda p=p: dp.linalg.vector_norm(WIDE, axis=1, ord=p),
            lambda p=p: np.linalg.norm(WIDE, axis=1, ord=p),
        )
        for p in (0, 1, 2, 3, 1.5, -2, math.inf, -math.inf)
    },
    "vector_norm of all": (lambda: dp.linalg.vector_norm(WIDE), lambda: np.linalg.norm(WIDE.ravel())),
}
RNG_B = RNG.standard_normal((4, 2))


@pytest.mark.parametrize("name", PAIRS)
def test_values(name):
    ours, theirs = PAIRS[name]
    close(ours(), theirs())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("x", [S, STACK, TALL, WIDE, STACK[:0]], ids=lambda x: str(x.shape))
def test_factors_multiply_to_the_matrix(x, dtype, backend):
    x = x.astype(dtype)

    def parts(x):
        q, r = dp.linalg.qr(x)
        p, low, up = dp.linalg.lu(x)
        u, s, v = dp.linalg.svd(x, full_matrices=False)
        return q @ r, p @ low @ up, (u * dp.expand_dims(s, -2)) @ v, (q, r, low, up, u, v)

    *products, (q, r, low, up, u, v) = dp.defn(parts, backend=backend)(x)
    small = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-13, "atol": 1e-13}
    for product in products:
        close(product, x, **small)
    one = np.eye(min(x.shape[-2:]), dtype=dtype)
    for orthonormal in (q, u, np.swapaxes(v, -1, -2)):
        columns = np.asarray(orthonormal)
        close(
            dp.asarray(np.swapaxes(columns, -1, -2) @ columns),
            np.broadcast_to(one, (*x.shape[:-2], *one.shape)),
            **small,
        )
    assert np.array_equal(r, np.triu(r)) and np.array_equal(up, np.triu(up)) and np.array_equal(low, np.tril(low))
    assert np.all(np.abs(np.asarray(low)) <= 1)  # the rows were chosen by size


def test_whole_bases():
    u, s, v = dp.linalg.svd(TALL)
    assert (u.shape, s.shape, v.shape) == ((2, 4, 4), (2, 3), (2, 3, 3))
    q, r = dp.linalg.qr(TALL, mode="complete")
    assert (q.shape, r.shape) == ((2, 4, 4), (2, 4, 3))
    close(q @ r, TALL)
    w, vectors = dp.linalg.eigh(SPD)
    close(vectors * dp.expand_dims(w, -2) @ vectors.mT, SPD)


def test_a_large_lu_swaps_as_many_rows_as_it_takes():
    x = np.random.default_rng(5).standard_normal((60, 60))
    p, low, up = dp.linalg.lu(x)
    close(p @ low @ up, x)
    assert np.asarray(p).sum(axis=0).tolist() == [1.0] * 60


def test_integers_are_taken_as_floats():
    assert dp.linalg.inv(dp.asarray([[2, 0], [0, 4]])).dtype == "float32"
    assert dp.linalg.matrix_power(dp.asarray([[1, 1], [1, 0]]), 30).tolist()[0][1] == 832040


# -- derivatives ------------------------------------------------------------------------------------------------------

# What Nx differentiated wrongly for stacks of matrices until its version 0.13 (issues 1740, 1746, 1748).
STACKED = {
    "inv": (dp.linalg.inv, STACK),
    "det": (dp.linalg.det, STACK),
    "slogdet": (lambda x: dp.linalg.slogdet(x).logabsdet, STACK),
    "solve": (lambda x: dp.linalg.solve(x, B), STACK),
    "triangular_solve": (lambda x: dp.linalg.triangular_solve(x, B, lower=True), STACK),
    "cholesky": (dp.linalg.cholesky, SPD),
    "lu": (lambda x: dp.concat(dp.linalg.lu(x)[1:], axis=-1), STACK),
    "lu of tall ones": (lambda x: dp.ravel(dp.linalg.lu(x).L) if x.ndim == 2 else dp.linalg.lu(x).L, TALL),
    "lu of wide ones": (lambda x: dp.linalg.lu(x).U, WIDE),
    "qr": (lambda x: dp.concat(dp.linalg.qr(x), axis=-2), TALL),
    "qr of wide ones": (lambda x: dp.concat(dp.linalg.qr(x), axis=-1), WIDE),
    "eigh": (lambda x: dp.concat([dp.linalg.eigh(x)[1], dp.expand_dims(dp.linalg.eigh(x)[0], -1)], axis=-1), SPD),
    "svd": (lambda x: dp.linalg.svd(x, full_matrices=False).U, TALL),
    "pinv": (dp.linalg.pinv, WIDE),
}


@pytest.mark.parametrize("name", STACKED)
def test_the_gradient_of_a_stack_is_the_stack_of_gradients(name):
    f, x = STACKED[name]
    y = f(dp.asarray(x))
    g = np.random.default_rng(1).standard_normal(y.shape)
    whole = dp.grad(lambda x: dp.sum(f(x) * g))(x)
    for index in np.ndindex(x.shape[:-2]):
        part = dp.grad(lambda x, g=g[index]: dp.sum(dp.ravel(f(x)) * g.ravel()))(x[index])
        close(part, np.asarray(whole)[index], rtol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_composites_of_several_factorizations(order):
    def f(x):
        w, v = dp.linalg.eigh(x @ x.mT)
        q, r = dp.linalg.qr(x)
        return dp.sum(dp.exp(-w) * dp.vecdot(v, q, axis=0) ** 2) + dp.linalg.slogdet(r).logabsdet

    check_grads(f, [matrix(2, 2)], order=order)


def test_norms_are_flat_at_zero():
    """Where JAX and autograd give NaN."""
    for norm in (dp.linalg.vector_norm, dp.linalg.matrix_norm, lambda x: dp.linalg.vector_norm(x, ord=3)):
        gradient = dp.grad(norm)(np.zeros((2, 3)))
        assert gradient.tolist() == [[0.0] * 3] * 2
        assert dp.grad(lambda x, norm=norm: dp.sum(dp.grad(norm)(x)))(np.zeros((2, 3))).tolist() == [[0.0] * 3] * 2
    rows = dp.grad(lambda x: dp.sum(dp.linalg.vector_norm(x, axis=1)))(np.array([[3.0, 4.0], [0.0, 0.0]]))
    close(rows, [[0.6, 0.8], [0.0, 0.0]])


def test_the_determinant_of_a_singular_matrix_has_a_gradient():
    x = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
    cofactors = [
        [np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) * (-1) ** (i + j) for j in range(3)] for i in range(3)
    ]
    close(dp.grad(dp.linalg.det)(x), cofactors)
    assert not np.any(dp.grad(dp.linalg.det)(np.zeros((3, 3))))  # of rank 0, all cofactors vanish


def test_a_determinant_that_is_nan_has_a_gradient_that_is():
    """Found by the fuzz program: seed 103, number 8372."""
    x = np.stack([np.full((2, 2), np.nan), np.diag([2.0, 3.0])])
    found = dp.grad(lambda x: dp.sum(dp.linalg.det(x)))(x)
    assert np.isnan(found[0]).all()
    close(found[1], np.diag([3.0, 2.0]))


def test_equal_eigenvalues_spoil_the_gradient_of_their_vectors_only():
    """No number could be right there for all functions: it is not finite, as in JAX. Eigenvalues have theirs."""
    x = 2.0 * np.eye(3)
    close(dp.grad(lambda x: dp.sum(dp.exp(dp.linalg.eigh(x).eigenvalues)))(x), np.exp(2.0) * np.eye(3))
    close(dp.grad(lambda x: dp.sum(dp.linalg.svd(x).S ** 3))(x), 12.0 * np.eye(3))
    for vectors in (lambda x: dp.linalg.eigh(x).eigenvectors, lambda x: dp.linalg.svd(x).U):
        assert not np.all(np.isfinite(dp.grad(lambda x, vectors=vectors: dp.sum(vectors(x) ** 3))(x)))


def test_one_of_the_bases_suffices():
    """A tall matrix with a column of zeros: no derivative of u, but one of vt."""
    x = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    gradient = dp.grad(lambda x: dp.sum(dp.linalg.svd(x, full_matrices=False).Vh ** 3))(x)
    assert np.all(np.isfinite(gradient))


def test_vectors_at_the_ends_of_a_product():
    check_grads(lambda a, b: dp.linalg.multi_dot([b, a, a, b]), [S, V], order=2)
    check_grads(lambda a: dp.linalg.matrix_power(a, -3), [S], order=2)
    check_grads(lambda a, b: dp.linalg.lstsq(a, b).x, [TALL[0], RNG_B], order=2)
    check_grads(lambda x: dp.linalg.matrix_norm(x, ord="nuc"), [WIDE[0]], order=2)
    check_grads(lambda x, y: dp.linalg.cross(x, y), [V, V[::-1].copy() * 2], order=2)


# -- what is refused --------------------------------------------------------------------------------------------------


def text_of(kind, call):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ValueError) or kind is GradientError
    return caught.value.what, caught.value.hint


LESS = "dp.linalg.lstsq and dp.linalg.pinv take "
SINGULAR = LESS + "singular ones; or add to the diagonal: x + 1e-6 * dp.eye(n)"


@pytest.mark.parametrize(
    ("kind", "call", "what", "hint"),
    [
        (LinAlgError, lambda: dp.linalg.inv(np.ones((2, 2))), "inv(f64[2,2]): the matrix is singular", SINGULAR),
        (
            LinAlgError,
            lambda: dp.linalg.solve(np.ones((2, 2)), np.ones(2)),
            "solve(f64[2,2], f64[2,1]): the matrix is singular",
            SINGULAR,
        ),
        (
            LinAlgError,
            lambda: dp.linalg.triangular_solve(np.tri(2, k=-1), np.ones(2), lower=True),
            "triangular_solve(f64[2,2], f64[2,1]): the matrix is singular",
            SINGULAR,
        ),
        (
            LinAlgError,
            lambda: dp.linalg.cholesky(-np.eye(2)),
            "cholesky(f64[2,2]): the matrix is not positive definite",
            "is it symmetric? rounding is covered by a larger diagonal: x + 1e-6 * dp.eye(n)",
        ),
        (
            LinAlgError,
            lambda: dp.linalg.svd(np.full((2, 2), np.nan)),
            "svd(f64[2,2]): the iteration does not converge: the matrix holds NaN or infinity",
            "dp.isfinite(x) tells where",
        ),
        (
            ShapeError,
            lambda: dp.linalg.det(np.ones((2, 3))),
            "det(f64[2,3]): the matrix is 2 x 3, not square",
            LESS + "matrices of any shape",
        ),
        (
            ShapeError,
            lambda: dp.linalg.qr(np.ones(3)),
            "qr(f64[3]): a matrix has two axes, and the shape is (3,)",
            "x[:, None] is a matrix of one column",
        ),
        (
            ShapeError,
            lambda: dp.linalg.solve(S, np.ones((2, 2))),
            "solve(f64[3,3], f64[2,2]): (3, 3) and (2, 2) are no systems of equations: "
            "the right side needs 3 rows for each",
            "",
        ),
        (
            ShapeError,
            lambda: dp.linalg.matrix_norm(S, ord=3),
            "matrix_norm(f64[3,3]): there is no matrix norm 3",
            "'fro', 'nuc', 1, -1, 2, -2, math.inf or -math.inf",
        ),
        (
            GradientError,
            lambda: dp.grad(lambda x: dp.sum(dp.linalg.svd(x).U))(TALL[0]),
            "svd: the additional columns of a full u or v have no derivative",
            "differentiate dp.linalg.svd(x, full_matrices=False)",
        ),
        (
            GradientError,
            lambda: dp.grad(lambda x: dp.sum(dp.linalg.qr(x, mode="complete").Q))(TALL[0]),
            "qr: the additional columns of a complete q have no derivative",
            "differentiate dp.linalg.qr(x), whose mode is 'reduced'",
        ),
    ],
)
def test_refused(kind, call, what, hint):
    assert text_of(kind, call) == (what, hint)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_singular_matrix_is_noticed_while_running(backend):
    """And the message shows the line; it is NumPy's exception as well."""
    f = dp.defn(lambda x: dp.sum(dp.linalg.inv(x)), backend=backend)
    with pytest.raises(np.linalg.LinAlgError, match="the matrix is singular") as caught:
        f(np.ones((2, 2)))
    assert "dp.linalg.inv(x)" in caught.value.where


@pytest.mark.parametrize("name", ["svd", "svdvals", "eigh", "eigvalsh", "pinv"])
def test_an_infinity_is_refused(name):
    """Found by tests.fuzz: LAPACK iterates for ever on the singular values of this matrix."""
    matrix = np.array([[-np.inf, 1.3, 0.8], [-np.inf, -0.3, 1.5], [2.0, 1.8, 1.3]])
    for way in (lambda f: f, dp.defn):
        with pytest.raises(LinAlgError, match="the matrix holds NaN or infinity"):
            way(getattr(dp.linalg, name))(np.stack([np.eye(3), matrix]))
