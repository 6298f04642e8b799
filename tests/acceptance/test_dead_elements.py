"""A condition by element goes through every op: dead elements never meet the gradient, in any order of derivative.

The oracle computes the same function of arguments in which the dead elements are tame: what is read of the result does
not depend on them, so nor do its derivatives with respect to the others.
"""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.ops.cumulative import cumulative_max


def draw(*shape):
    return np.random.default_rng(3).uniform(0.5, 2.0, shape)


ROWS = np.array([True, False, True, False])  # rows of the argument that are alive
COMPANION = draw(3, 3)
KERNEL = draw(2, 2, 2)


def system(x):
    return dp.linalg.solve(COMPANION + 3 * dp.eye(3), x.mT).mT


def gram(x):
    return x[:, :, None] * x[:, None, :] + dp.eye(3)


def until(row):
    """Two iterations for some rows, three for others."""
    first = dp.where(row[0] > 1, 0, 1)
    return dp.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, dp.sqrt(c[1]) * row), (first, row))[1]


def branch(row):
    return dp.cond(row[0] > 1, lambda row: dp.log(row) @ COMPANION, dp.sqrt, row)


def body(c, t):
    c = dp.sqrt(c) + t @ COMPANION
    return c, dp.log(c)


# Each maps the rows of an argument of shape (4, 3) by themselves, along the first axis.
OPS = {
    "elementwise": dp.tanh,
    "product": lambda x: x @ COMPANION,
    "product with itself": lambda x: dp.einsum("ij,ik->ijk", dp.cos(x) / x, x @ COMPANION),
    "chain of products": lambda x: dp.sqrt(x @ COMPANION) @ COMPANION,
    "einsum": lambda x: dp.einsum("ij,kj->ik", x, COMPANION),
    "convolution": lambda x: dp.conv(dp.stack([x, x * x], axis=1), KERNEL, padding=1),
    "transposed convolution": lambda x: dp.conv_transpose(dp.stack([x, x * x], axis=1), KERNEL),
    "sum": lambda x: dp.sum(x, axis=1, keepdims=True) * x,
    "product of elements": lambda x: dp.prod(x, axis=1),
    "maximum": lambda x: dp.max(x, axis=1) + dp.min(dp.log(x), axis=1),
    "softmax": lambda x: dp.softmax(x, axis=1),
    "logsumexp": lambda x: dp.logsumexp(x, axis=1),
    "variance": lambda x: dp.std(x, axis=1),
    "norm": lambda x: x / dp.linalg.vector_norm(x, axis=1, keepdims=True),
    "cumulative sum": lambda x: dp.cumulative_sum(x, axis=1),
    "cumulative product": lambda x: dp.cumulative_prod(x, axis=1),
    "cumulative maximum": lambda x: cumulative_max(x, axis=1),
    "sort": lambda x: dp.sort(x, axis=1) * np.arange(1.0, 4.0),
    "top": lambda x: dp.top_k(x, 2)[0],
    "median": lambda x: dp.median(x, axis=1),
    "gather": lambda x: x[dp.asarray([0, 1, 2, 3])][:, dp.asarray([2, 0])],
    "scatter": lambda x: dp.zeros((4, 5), dtype="float64").at[:, dp.asarray([0, 2, 2])].add(x),
    "scattered": lambda x: x.at[:, dp.asarray([0])].set(x[:, 1:2] ** 2),
    "pooling": lambda x: dp.max_pool(x[:, None], 2, strides=1),
    "mean of windows": lambda x: dp.mean_pool(x[:, None], 2, strides=1),
    "windows": lambda x: dp.sum(dp.windows(x, 2), axis=-1) ** 2,
    "system": system,
    "systems": lambda x: dp.linalg.solve(gram(x), x[:, :, None]),
    "inverse": lambda x: dp.linalg.inv(gram(x)),
    "determinant": lambda x: dp.linalg.det(gram(x)),
    "eigenvalues": lambda x: dp.linalg.eigvalsh(gram(x) * np.array([1.0, 2.0, 3.0])),
    "associative scan": lambda x: dp.associative_scan(lambda a, b: a * b, x, axis=1),
    "map": lambda x: dp.map(lambda row: dp.log(row) @ COMPANION, x),
    "mapped loop": lambda x: dp.vmap(lambda row: dp.fori_loop(0, 3, lambda i, c: dp.sqrt(c @ COMPANION), row))(x),
    "loop": lambda x: dp.fori_loop(0, 3, lambda i, c: dp.sqrt(c) * (x @ COMPANION), x),
    "until": lambda x: dp.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, dp.sqrt(c[1]) * x), (0, x))[1],
    "mapped until": lambda x: dp.vmap(until)(x),
    "scan over columns": lambda x: dp.scan(lambda c, t: (dp.sqrt(c) * t, dp.log(c) + t), x[:, 0], x.T)[1].T,
    "scan": lambda x: dp.vmap(lambda row: dp.scan(body, row, dp.stack([row, row]))[1])(x),
    "branch": lambda x: dp.cond(dp.sum(KERNEL) > 0, lambda x: dp.log(x) @ COMPANION, lambda x: x, x),
    "mapped branch": lambda x: dp.vmap(branch)(x),
    "checkpoint": lambda x: dp.checkpoint(lambda x: dp.sqrt(x @ COMPANION) @ COMPANION)(x),
    "mark": lambda x: dp.scale_grad(x @ COMPANION, factor=2.0),
}
# What makes the dead elements infinite or NaN, in value or derivative: the inner function and what it is called with.
POISONS = {
    "root of 0": (dp.sqrt, 0.0),
    "logarithm of 0": (lambda x: dp.log(x) + 3.0, 0.0),
    "nan": (lambda x: x, np.nan),
    "inf": (lambda x: x * 1.5, np.inf),
}
LAPACK = {"system", "systems", "inverse", "eigenvalues", "determinant"}  # which refuses what is not finite


def arguments(poison):
    """An argument with dead rows, one with tame ones in their place, and where the rows are alive."""
    tame = draw(4, 3)
    return np.where(ROWS[:, None], tame, poison), tame


def selected(function, weights):
    """Of the rows that are alive, a number that is not linear in them."""

    def loss(x, alive):
        y = function(x)
        y = dp.where(alive.reshape(4, *(1,) * (y.ndim - 1)), y, 0)
        return dp.sum(y**2 * weights[: y.size].reshape(y.shape)) + dp.sum(dp.sin(y))

    return loss


CASES = [
    (name, poison)
    for name in OPS
    for poison, (inner, value) in POISONS.items()
    if name not in LAPACK or np.isfinite(inner(dp.asarray(value)).item())
]


@pytest.mark.parametrize(("name", "poison"), CASES)
def test_dead_rows(name, poison, way):
    inner, value = POISONS[poison]
    loss = selected(lambda x: OPS[name](inner(x)), draw(400))
    dead, tame = arguments(value)
    gradient = dp.grad(way(loss))
    expected = np.where(ROWS[:, None], dp.grad(loss)(tame, ROWS), 0)
    np.testing.assert_allclose(gradient(dead, ROWS), expected, rtol=1e-10, atol=1e-12)
    direction = draw(4, 3)
    # Forward over reverse, reverse over reverse, and forward alone: with respect to what is alive.
    along = np.where(ROWS[:, None], direction, 0)
    forwards = lambda f, x: dp.jvp(lambda x: f(x, ROWS), (x,), (along,))[1]  # noqa: E731
    np.testing.assert_allclose(forwards(way(loss), dead), forwards(loss, tame), rtol=1e-10)
    expected = np.where(ROWS[:, None], forwards(dp.grad(loss), tame), 0)
    np.testing.assert_allclose(forwards(gradient, dead), expected, rtol=1e-9, atol=1e-11)
    again = dp.grad(lambda x: dp.sum(gradient(x, ROWS) * along))
    np.testing.assert_allclose(again(dead), expected, rtol=1e-9, atol=1e-11)


# -- dead columns, places and times: a function of x (4, 3) and w (3, 4), what of them is spoilt, what is read ---------

ROW_2 = np.array([[1], [1], [0], [1]], bool)
FROM_SECOND = np.array([[True, False, False]])
PARTS = {
    "roots in a product": (lambda x, w: dp.sqrt(x) @ w, ..., np.s_[2, :], None, np.array([[1], [1], [0], [1]], bool)),
    "columns of a product": (lambda x, w: x @ dp.log(w), ..., None, np.s_[:, 1], np.array([1, 0, 1, 1], bool)),
    "rows of a product": (lambda x, w: dp.log(x) @ w, ..., np.s_[2, :], None, np.array([[1], [1], [0], [1]], bool)),
    "arguments": (lambda x, w: x @ w, np.nan, np.s_[2, :], None, ROW_2),
    "arguments on both sides": (
        lambda x, w: x @ w,
        np.inf,
        np.s_[2, :],
        np.s_[:, 1],
        ROW_2 & np.array([True, False, True, True]),
    ),
    "behind what is tame": (lambda x, w: dp.tanh(dp.tanh(x) @ w) @ w.T, np.nan, np.s_[2, :], None, ROW_2),
    "rows of a softmax": (lambda x, w: dp.softmax(x, axis=1) @ w, -np.inf, np.s_[2, :], None, ROW_2),
    "overflow": (lambda x, w: dp.exp(x) @ w, 1e3, np.s_[2, :], None, ROW_2),
    "rows in a loop": (
        lambda x, w: dp.scan(lambda c, t: (c + w[:, 0] * dp.tanh(c), dp.tanh(t * c) @ w), w[:, 1], x)[1],
        np.nan,
        np.s_[2, :],
        None,
        ROW_2,
    ),
    "rows of the carry": (
        lambda x, w: dp.fori_loop(0, 3, lambda i, c: dp.tanh(c @ w[:, :3]), x),
        np.nan,
        np.s_[2, :],
        None,
        ROW_2,
    ),
    "rows in a branch": (
        lambda x, w: dp.cond(w[0, 0] > -9, lambda: x @ w, lambda: x @ dp.sin(w)),
        np.nan,
        np.s_[2, :],
        None,
        ROW_2,
    ),
    "rows behind a checkpoint": (
        lambda x, w: dp.checkpoint(lambda x: dp.tanh(x @ w) @ w.T)(x),
        np.nan,
        np.s_[2, :],
        None,
        ROW_2,
    ),
    "a layer of many": (lambda x, w: dp.vmap(lambda x: x @ w)(x), np.nan, np.s_[2, :], None, ROW_2),
    "channels": (
        lambda x, w: dp.conv(x[:, None], dp.log(w.T)[:, None], padding=2)[:, :, 0],
        ...,
        None,
        np.s_[:, 3],
        np.array([1, 1, 1, 0], bool),
    ),
    "products so far": (lambda x, w: dp.cumulative_prod(dp.log(x), axis=1), ..., np.s_[:, 1], None, FROM_SECOND),
    "sums so far": (lambda x, w: dp.cumulative_sum(dp.log(x), axis=1), ..., np.s_[:, 1], None, FROM_SECOND),
    "largest so far": (lambda x, w: cumulative_max(dp.log(x), axis=1), np.nan, np.s_[:, 1], None, FROM_SECOND),
    "order": (lambda x, w: dp.sort(dp.sqrt(x), axis=1), np.nan, np.s_[:, 1], None, np.array([[1, 1, 0]], bool)),
    "columns of systems": (
        lambda x, w: dp.linalg.solve(x.T @ x, dp.log(w)),
        ...,
        None,
        np.s_[:, 2],
        np.array([[1, 1, 0, 1]], bool),
    ),
    "triangular systems": (
        lambda x, w: dp.linalg.solve(dp.linalg.cholesky(x.T @ x + dp.eye(3)), dp.log(w)),
        np.nan,
        None,
        np.s_[:, 2],
        np.array([[1, 1, 0, 1]], bool),
    ),
    "times": (
        lambda x, w: dp.scan(lambda c, t: (dp.tanh(c @ COMPANION) * dp.log(t), c * c), w[:, 0], x)[1],
        ...,
        np.s_[1, :],
        None,
        np.array([[1], [1], [0], [0]], bool),
    ),
    "many": (
        lambda x, w: dp.vmap(lambda x: dp.fori_loop(0, 2, lambda i, c: dp.sqrt(c) @ w[:, :3], x))(x),
        ...,
        np.s_[1, :],
        None,
        np.array([[1], [0], [1], [1]], bool),
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_dead_parts(name, way):
    function, poison, spoilt_x, spoilt_w, alive = PARTS[name]
    tame = [draw(4, 3), draw(3, 4) + 0.1]
    if name == "order":
        tame[0][:, 1] = 9.0  # the largest, as NaN is
    dead = [value.copy() for value in tame]
    for value, place in zip(dead, (spoilt_x, spoilt_w), strict=True):
        if place is not None:
            value[place] = 0.0 if poison is ... else poison

    def loss(x, w):
        y = dp.where(alive, function(x, w), 0)
        return dp.sum(y**2 * draw(*y.shape)) + dp.sum(dp.sin(y))

    expected = dp.grad(loss, (0, 1))(*tame)
    found = dp.grad(way(loss), (0, 1))(*dead)
    places = [spoilt_x, spoilt_w]
    for got, wanted, place in zip(found, expected, places, strict=True):
        wanted = np.array(wanted)
        if place is not None:
            wanted[place] = 0
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12, err_msg=name)
    along = [draw(*value.shape) for value in tame]
    for value, place in zip(along, (spoilt_x, spoilt_w), strict=True):
        if place is not None:
            value[place] = 0

    def again(loss, point):
        def directional(*p):
            return sum(dp.sum(g * a) for g, a in zip(dp.grad(loss, (0, 1))(*p), along, strict=True))

        return dp.grad(directional, (0, 1))(*point)

    for got, wanted, place in zip(again(way(loss), dead), again(loss, tame), places, strict=True):
        wanted = np.array(wanted)
        if place is not None:
            wanted[place] = 0
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-10, err_msg=name)


def test_an_infinity_that_is_alive_spoils_its_own_row_only(way):
    """1 / (x @ w) with an infinite w[0, 1]: read in row 1, where it is 0 and its derivative NaN; dead in row 0."""
    x, w = draw(2, 3), draw(3, 2)
    infinite = w.copy()
    infinite[0, 1] = np.inf
    alive = np.array([[True, False], [True, True]])

    def loss(x, v):
        return dp.sum(dp.where(alive, 1 / (x @ dp.exp(v)), 0))

    with np.errstate(all="ignore"):
        found = np.asarray(dp.grad(way(loss))(x, np.log(infinite)))
    first = dp.grad(lambda x: dp.sum(1 / (x @ w[:, 0])))(x)
    np.testing.assert_allclose(found[0], np.asarray(first)[0], rtol=1e-12)
    np.testing.assert_allclose(found[1, 1:], np.asarray(first)[1, 1:], rtol=1e-12)
    assert np.isnan(found[1, 0])


def test_not_a_number_is_not_positive(way):
    """A relu written with where gives 0 for NaN, and so its gradient is 0."""

    def loss(x, w):
        z = x @ w
        return dp.sum(dp.where(z > 0, z, 0) ** 2)

    x, w = draw(4, 3), draw(3, 4)
    dead = x.copy()
    dead[1, 2] = np.nan
    alive = np.delete(x, 1, axis=0)
    gradient, expected = dp.grad(way(loss), (0, 1)), dp.grad(loss, (0, 1))(alive, w)
    np.testing.assert_allclose(gradient(dead, w)[0], np.insert(expected[0], 1, 0, axis=0), rtol=1e-12)
    np.testing.assert_allclose(gradient(dead, w)[1], expected[1], rtol=1e-12)


def test_what_is_dead_costs_a_look():
    """Nothing that is computed for a product below a where depends on what is dead, unless that is not finite."""

    def loss(w, v, x):
        z = dp.tanh(x @ w) @ v
        return dp.sum(dp.where(z > 0, z, 0))

    specs = [dp.spec(s) for s in ((3, 40), (40, 3), (20, 3))]
    steps = dp.defn(dp.grad(loss, (0, 1)), backend="cpu").explain(*specs).steps
    assert [step.kind for step in steps].count("guard") == 2
    assert "call" not in [step.kind for step in steps]
    assert [step.kind for step in steps].count("product") == 5  # as many as without a where


def test_the_test_would_see_a_product_that_is_not_guarded(monkeypatch):
    monkeypatch.setattr("defnpy.transforms.grad.is_product", lambda op: False)
    with pytest.raises(AssertionError):
        test_dead_parts("columns of a product", lambda f: f)


def test_the_test_would_see_a_mask_that_is_lost(monkeypatch):
    monkeypatch.setattr("defnpy.transforms.masks._pulled", lambda node, alive, i: dp.logical_or(alive, True))
    with pytest.raises(AssertionError):
        test_dead_rows("sort", "root of 0", lambda f: f)


# -- selections inside what runs graphs, and what stands before them ---------------------------------------------------

DATA, MATRIX, VECTOR = draw(3, 5), draw(5, 4) / 5, draw(4)
KEPT = np.array([True, False, True])[:, None]
INSIDE = {
    "where": lambda h: dp.where(KEPT, h, 0) ** 2,
    "branch": lambda h: dp.cond(dp.sum(VECTOR) > 0, lambda h: dp.where(KEPT, h, 0) ** 2, lambda h: h, h),
    "one of two branches": lambda h: dp.cond(
        dp.sum(MATRIX) > 0, lambda h: dp.where(KEPT, h, 0) ** 2, lambda h: 0 * h, h
    ),
    "scan": lambda h: dp.scan(lambda c, w: (c + dp.where(KEPT, w * h, 0) ** 2, c), dp.zeros_like(h), VECTOR)[0],
    "loop": lambda h: dp.fori_loop(0, 2, lambda i, h: dp.where(KEPT, dp.sin(h), 0), h),
    "until": lambda h: dp.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, dp.where(KEPT, c[1] ** 2, 0)), (0, h))[1],
    "checkpoint": dp.checkpoint(lambda h: dp.where(KEPT, h, 0) ** 2),
    "rule": dp.custom_vjp(lambda g, y, h: (dp.where(KEPT, 2 * g * h, 0),))(lambda h: dp.where(KEPT, h, 0) ** 2),
    "branch in a scan": lambda h: dp.scan(lambda c, w: (c + INSIDE["branch"](w * h), None), dp.zeros_like(h), VECTOR)[
        0
    ],
}


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("name", INSIDE)
def test_a_selection_reaches_what_stands_before_the_graph_that_makes_it(name, poison, way):
    """A row of data is NaN, and left out in a branch, a loop, a checkpoint, a rule: after two products, of which both
    other operands are parameters. First order, and second order both ways."""

    def loss(parameters, data):
        w, v = parameters
        return dp.sum(dp.sin(INSIDE[name](data @ w) @ v))

    parameters, directions = (MATRIX, VECTOR), (draw(5, 4), draw(4))
    poisoned = np.where(KEPT, DATA, poison)
    along = lambda data, p: sum(dp.sum(g * d) for g, d in zip(dp.grad(loss)(p, data), directions, strict=True))  # noqa: E731
    derivatives = [
        lambda data: dp.grad(way(loss))(parameters, data),
        lambda data: dp.jvp(lambda p: dp.grad(loss)(p, data), (parameters,), (directions,))[1],
        lambda data: dp.grad(way(lambda p: along(data, p)))(parameters),
    ]
    for derivative in derivatives:
        for found, expected in zip(derivative(poisoned), derivative(DATA), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
