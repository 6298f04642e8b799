"""Linear algebra, and what statistics and engineering make of it."""

from __future__ import annotations

import math

from .table import Entry, definite, positive, reals, regular, together

S, B, V = (3, 3), (3, 2), (3,)
SIGN = "the sign of a vector is open: only what does not depend on it can be compared"


def gaussian(np, x, mean, covariance):
    """The logarithm of a normal density."""
    low = np.linalg.cholesky(covariance)
    z = np.linalg.triangular_solve(low, x - mean, lower=True)
    return -0.5 * np.sum(z**2) - np.sum(np.log(np.linalg.diagonal(low))) - 1.5 * math.log(2 * math.pi)


def gaussian_process(np, x, y, scale, noise):
    """The negative logarithm of the evidence of a Gaussian process with a squared exponential kernel."""
    k = np.exp(-0.5 * (x[:, None] - x[None, :]) ** 2 / scale**2) + noise**2 * np.eye(4)
    low = np.linalg.cholesky(k)
    alpha = np.linalg.triangular_solve(low.T, np.linalg.triangular_solve(low, y, lower=True), lower=False)
    return 0.5 * y @ alpha + np.sum(np.log(np.diag(low)))


def kalman(np, x, p, z, f, q):
    """One step of a Kalman filter."""
    x, p = f @ x, f @ p @ f.T + q
    gain = np.linalg.solve(p + np.eye(3), p).T
    return x + gain @ (z - x), (np.eye(3) - gain) @ p


def ridge(np, a, b, strength):
    return np.linalg.solve(a.T @ a + strength**2 * np.eye(3), a.T @ b)


def matrix_exponential(np, x):
    """By its series, scaled and squared."""
    small, result, term = x / 8, np.eye(3) + x / 8, x / 8
    for k in range(2, 10):
        term = term @ small / k
        result = result + term
    return np.linalg.matrix_power(result, 8)


def whitened(np, x):
    """The inverse square root of a covariance, which does not depend on the signs of the eigenvectors."""
    w, v = np.linalg.eigh(x)
    return (v / np.sqrt(w)) @ v.T


def low_rank(np, x):
    u, s, v = np.linalg.svd(x, full_matrices=False)
    return (u[:, :2] * s[:2]) @ v[:2]


def procrustes(np, x):
    """The nearest rotation."""
    u, _, v = np.linalg.svd(x)
    return u @ v


def projection(np, x):
    q, _ = np.linalg.qr(x)
    return q @ q.T


def power_iteration(np, x):
    v = np.asarray([1.0, 1.0, 1.0])
    for _ in range(6):
        v = x @ v
        v = v / np.linalg.vector_norm(v)
    return v @ x @ v


def mahalanobis(np, x, y, p):
    return np.sqrt((x - y) @ np.linalg.inv(p) @ (x - y) + 0.1)


def divergence(np, p, q):
    """Between two normal distributions of mean 0."""
    return np.linalg.trace(np.linalg.solve(q, p)) - np.linalg.slogdet(p)[1] + np.linalg.slogdet(q)[1]


def newton_schulz(np, x):
    """An inverse by iteration."""
    y = x.T / (np.linalg.matrix_norm(x, ord=1) * np.linalg.matrix_norm(x, ord=math.inf))
    for _ in range(4):
        y = y @ (2 * np.eye(3) - x @ y)
    return y


def by_qr(np, a, b):
    q, r = np.linalg.qr(a)
    return np.linalg.triangular_solve(r, q.T @ b, lower=False)


def weights_of_lu(np, x):
    p, low, up = np.linalg.lu(x)
    return low**2, up**2, p


def principal(np, x):
    """The first principal component, squared, and the spread along it."""
    centred = x - np.mean(x, axis=0)
    w, v = np.linalg.eigh(centred.T @ centred)
    return v[:, -1] ** 2, w[-1]


def conjugate_gradients(np, a, b):
    x, r = np.zeros((3,), dtype="float64"), b
    p = r
    for _ in range(2):
        step = (r @ r) / (p @ a @ p)
        x, new = x + step * p, r - step * (a @ p)
        p = new + (new @ new) / (r @ r) * p
        r = new
    return x


ENTRIES = [
    Entry("solve", lambda np, a, b: np.linalg.solve(a, b), together(regular(*S), reals(B))),
    Entry("solve for a vector", lambda np, a, b: np.linalg.solve(a, b) ** 2, together(regular(*S), reals(V))),
    Entry("solve a stack", lambda np, a, b: np.linalg.solve(a, b), together(regular(2, 3, 3), reals((2, 3, 1)))),
    Entry(
        "a lower triangle",
        lambda np, a, b: np.linalg.triangular_solve(a, b, lower=True),
        together(regular(*S), reals(B)),
    ),
    Entry(
        "an upper triangle",
        lambda np, a, b: np.linalg.triangular_solve(a, b, lower=False) ** 2,
        together(regular(*S), reals(V)),
    ),
    Entry("inv", lambda np, x: np.linalg.inv(x), regular(*S)),
    Entry("inv of a stack", lambda np, x: np.linalg.inv(x) @ x.mT, regular(2, 2, 2)),
    Entry("det", lambda np, x: np.linalg.det(x), regular(*S)),
    Entry("det of larger ones", lambda np, x: np.linalg.det(x), regular(4, 4)),
    Entry("det of a stack", lambda np, x: np.linalg.det(x) ** 2, regular(2, 2, 2)),
    Entry("slogdet", lambda np, x: np.linalg.slogdet(-x)[1], regular(*S)),
    Entry("cholesky", lambda np, x: np.linalg.cholesky(x), definite(*S)),
    Entry("cholesky of a stack", lambda np, x: np.linalg.cholesky(x), definite(2, 2, 2)),
    Entry("qr", lambda np, x: tuple(part**2 for part in np.linalg.qr(x)), regular(*S)),
    Entry("qr of a tall one", lambda np, x: tuple(part**2 for part in np.linalg.qr(x)), regular(4, 2)),
    Entry("lu", weights_of_lu, regular(*S)),
    Entry("lu of a wide one", weights_of_lu, regular(2, 4)),
    Entry("lu of a tall one", weights_of_lu, regular(4, 2)),
    Entry("eigvalsh", lambda np, x: np.linalg.eigvalsh(x), definite(*S)),
    Entry("eigenvectors", lambda np, x: np.linalg.eigh(x)[1] ** 2, definite(*S)),
    Entry("eigh of a stack", lambda np, x: np.linalg.eigh(x)[0] ** 2, definite(2, 2, 2)),
    Entry("singular values", lambda np, x: np.linalg.svdvals(x) ** 3, regular(3, 2)),
    Entry("left singular vectors", lambda np, x: np.linalg.svd(x, full_matrices=False)[0] ** 2, regular(3, 2)),
    Entry("right singular vectors", lambda np, x: np.linalg.svd(x, full_matrices=False)[2] ** 2, regular(2, 3)),
    Entry("pinv", lambda np, x: np.linalg.pinv(x), regular(3, 2)),
    Entry("pinv of a wide one", lambda np, x: np.linalg.pinv(x), regular(2, 3)),
    Entry("lstsq", lambda np, a, b: np.linalg.lstsq(a, b).x, together(regular(4, 2), reals((4,)))),
    Entry("matrix_power", lambda np, x: np.linalg.matrix_power(x, 5), reals(S, low=-1, high=1)),
    Entry("matrix_power of the inverse", lambda np, x: np.linalg.matrix_power(x, -2), regular(*S)),
    Entry("multi_dot", lambda np, x, y, z: np.linalg.multi_dot([x, y, z]), reals((2, 3), (3, 4), (4, 2))),
    Entry("trace", lambda np, x: np.linalg.trace(x @ x @ x), reals(S)),
    Entry("cross", lambda np, x, y: np.linalg.cross(x, y), reals((2, 3), (2, 3))),
    Entry("the Frobenius norm", lambda np, x: np.linalg.matrix_norm(x), reals(S)),
    Entry("the nuclear norm", lambda np, x: np.linalg.matrix_norm(x, ord="nuc"), regular(*S)),
    Entry("the spectral norm", lambda np, x: np.linalg.matrix_norm(x, ord=2), regular(*S)),
    Entry("the largest sum of a column", lambda np, x: np.linalg.matrix_norm(x, ord=1) ** 2, reals(S)),
    Entry("the condition number", lambda np, x: np.linalg.cond(x), regular(*S)),
    Entry("a normal density", gaussian, together(reals(V, V), definite(*S))),
    Entry("a Gaussian process", gaussian_process, together(reals((4,), (4,)), positive((), ()))),
    Entry("a Kalman filter", kalman, together(reals(V), definite(*S), reals(V), reals(S), definite(*S))),
    Entry("ridge regression", ridge, together(reals((4, 3), (4,)), positive(()))),
    Entry("least squares by qr", by_qr, together(regular(4, 2), reals((4,)))),
    Entry("the matrix exponential", matrix_exponential, reals(S)),
    Entry("whitening", whitened, definite(*S)),
    Entry("a low rank approximation", low_rank, regular(4, 3)),
    Entry("the nearest rotation", procrustes, regular(*S)),
    Entry("a projection", projection, regular(4, 2)),
    Entry("power iteration", power_iteration, definite(*S)),
    Entry("the Mahalanobis distance", mahalanobis, together(reals(V, V), definite(*S))),
    Entry("divergence of normal distributions", divergence, together(definite(*S), definite(*S))),
    Entry("an inverse by iteration", newton_schulz, regular(*S)),
    Entry("the first principal component", principal, reals((5, 3))),
    Entry("conjugate gradients", conjugate_gradients, together(definite(*S), reals(V))),
    Entry("a quadratic form", lambda np, x, a: x @ a @ x, together(reals(V), reals(S))),
    Entry("the Rayleigh quotient", lambda np, x, a: (x @ a @ x) / (x @ x), together(reals(V), definite(*S))),
]
