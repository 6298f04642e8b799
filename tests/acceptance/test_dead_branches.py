"""A branch that was not taken does not poison the gradient: there is no 0 * inf and no 0 * NaN in it."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.testing import check_grads
from defnpy.transforms.cotangent import Cotangent

X = np.array([0.0, -1.0, 4.0, 0.25])
ON = X > 0


def unit(v):
    length = dp.sqrt(dp.sum(v * v))
    return dp.where(length > 0, v / length, 0)


# The function, and its derivative where x is positive; it is 0 elsewhere.
POSITIVE = {
    "sqrt": (lambda x: dp.where(x > 0, dp.sqrt(x), 0), lambda x: 0.5 / np.sqrt(x)),
    "other branch": (lambda x: dp.where(x <= 0, 0, dp.sqrt(x)), lambda x: 0.5 / np.sqrt(x)),
    "log": (lambda x: dp.where(x > 0, dp.log(x), -1), lambda x: 1 / x),
    "division": (lambda x: dp.where(x > 0, 1 / x, 0), lambda x: -1 / x**2),
    "reciprocal": (lambda x: dp.where(x > 0, dp.reciprocal(x), 0), lambda x: -1 / x**2),
    "power": (lambda x: dp.where(x > 0, x**0.5, 0), lambda x: 0.5 / np.sqrt(x)),
    "product with inf": (lambda x: dp.where(x > 0, x * x * (1 / x), 0), lambda x: np.ones_like(x)),
    "chain": (lambda x: dp.where(x > 0, dp.tanh(dp.log(x)) * 3, 0), lambda x: 3 / np.cosh(np.log(x)) ** 2 / x),
    "two uses": (lambda x: dp.where(x > 0, dp.sqrt(x) + dp.log(x), 0), lambda x: 0.5 / np.sqrt(x) + 1 / x),
    "one in the other": (
        lambda x: dp.where(x > -5, dp.where(x > 0, dp.log(x), 0) * 2, x),
        lambda x: 2 / x,
    ),
    "reshape and flip": (
        lambda x: dp.where(x > 0, dp.flip(dp.flip(dp.sqrt(x).reshape(2, 2)).reshape(4)), 0),
        lambda x: 0.5 / np.sqrt(x),
    ),
    "concat and slice": (
        lambda x: dp.where(x > 0, dp.concat([dp.ones(1), dp.sqrt(x), x])[1:5], 0),
        lambda x: 0.5 / np.sqrt(x),
    ),
    "gather": (lambda x: dp.where(x > 0, dp.sqrt(x)[dp.asarray([0, 1, 2, 3])], 0), lambda x: 0.5 / np.sqrt(x)),
    "broadcast": (lambda x: dp.where(x[:, None] > 0, dp.log(x)[:, None] * dp.ones((4, 2)), 0), lambda x: 2 / x),
    "maximum": (lambda x: dp.maximum(dp.log(x), -9.0), lambda x: 1 / x),
    "clip": (lambda x: dp.clip(dp.log(x), -9.0, 9.0), lambda x: 1 / x),
    "relu": (lambda x: dp.relu(dp.log(x) + 9.0), lambda x: 1 / x),
    "checkpoint": (lambda x: dp.where(x > 0, dp.checkpoint(lambda x: dp.tanh(dp.log(x)))(x), 0), None),
    "marks": (lambda x: dp.where(x > 0, dp.clip_grad(dp.scale_grad(dp.log(x), factor=2), low=-9, high=9), 0), None),
    "nested where": (lambda x: dp.where(x > 1, 3 * dp.log(x), dp.where(x > 0, dp.log(x), 0)), None),
}


ELSE = {
    "checkpoint": lambda x: 1 / np.cosh(np.log(x)) ** 2 / x,
    "marks": lambda x: 2 / x,
    "nested where": lambda x: np.where(x > 1, 3, 1) / x,
}


@pytest.mark.parametrize("name", POSITIVE)
def test_the_dead_branch_gives_nothing(name, way):
    function, derivative = POSITIVE[name]
    derivative = derivative or ELSE[name]
    x = np.where(X < 0, 0.0, X) if name in ("maximum", "clip", "relu") else X  # log of -1 is NaN, and so are those
    found = dp.grad(way(lambda x: dp.sum(function(x))))(dp.asarray(x))
    np.testing.assert_allclose(np.asarray(found)[ON], derivative(X[ON]), rtol=1e-14)
    np.testing.assert_array_equal(np.asarray(found)[~ON], 0)


@pytest.mark.parametrize("name", [name for name in POSITIVE if name != "marks"])  # they change derivatives
def test_derivatives_of_second_order_are_no_worse(name):
    """The mask is the condition, not whether the cotangent is zero: 0 times something has a derivative."""
    function, _ = POSITIVE[name]
    x = dp.asarray(np.where(X < 0, 0.0, X))
    weights = dp.asarray(np.array([3.0, -1.0, 0.5, 2.0]))
    weighted = lambda x: dp.sum(dp.sum(function(x).reshape(4, -1), axis=1) ** 2 * weights)  # noqa: E731
    for hessian in (dp.hessian(weighted), dp.jacrev(dp.grad(weighted)), dp.jacrev(dp.jacfwd(weighted))):
        found = np.asarray(hessian(x))
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[~ON], 0)
    check_grads(lambda x: weighted(x), [dp.asarray([0.3, 1.5, 2.0, 0.7])], order=2)


def test_a_cotangent_of_zero_is_no_dead_branch(way):
    """(log(x))² at x = 1: the cotangent of the logarithm is 0, the second derivative 2."""
    f = way(lambda x: dp.sum(dp.where(x > 0, dp.log(x), 0) ** 2))
    np.testing.assert_allclose(dp.hessian(f)(dp.asarray([1.0, 0.0])), [[2, 0], [0, 0]])


def test_the_unit_vector_of_nothing(way):
    assert dp.jacobian(way(unit))(dp.zeros(3)).tolist() == np.zeros((3, 3)).tolist()
    assert dp.jacrev(way(unit))(dp.zeros(3)).tolist() == np.zeros((3, 3)).tolist()
    np.testing.assert_allclose(
        dp.jacrev(way(unit))(dp.asarray([3.0, 4.0])), [[0.128, -0.096], [-0.096, 0.072]], rtol=1e-6
    )


def test_missing_labels_spoil_no_weight(way):
    """Labels that are NaN are masked out of the loss: so they are out of every gradient, too."""
    x, labels = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([1.0, np.nan, 2.0])

    def loss(w, x, labels):
        return dp.sum(dp.where(dp.isnan(labels), 0, dp.tanh(x @ w - labels) ** 2 * w[0]))

    w, keep = np.array([0.2, -0.1]), [0, 2]
    found = dp.grad(way(loss))(dp.asarray(w), dp.asarray(x), dp.asarray(labels))
    expected = dp.grad(loss)(dp.asarray(w), dp.asarray(x[keep]), dp.asarray(labels[keep]))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_overflow_in_the_dead_branch(way):
    f = way(lambda x: dp.sum(dp.where(x < 80, dp.exp(x), x)))
    assert dp.grad(f)(dp.asarray([1000.0, 0.0], dtype="float64")).tolist() == [1.0, 1.0]


def test_forwards_there_is_no_poison_either(way):
    for function, _ in POSITIVE.values():
        _, tangent = dp.jvp(way(function), (dp.asarray(np.abs(X)),), (dp.ones(4),))
        assert np.isfinite(np.asarray(tangent)).all()


def test_what_is_alive_keeps_its_infinity(way):
    """The true derivative of a square root at 0 is inf, and it is not hidden."""
    assert dp.grad(way(lambda x: dp.sum(dp.where(x >= 0, dp.sqrt(x), 0))))(dp.zeros(1)).tolist() == [np.inf]


def test_a_network_pays_nothing_for_it():
    """Below a relu, products, sums, and quotients by what is surely positive need no mask."""

    def layer(z, w, scale, shift):
        z = z @ w
        z = z - dp.mean(z, axis=0)
        return dp.relu(z / dp.sqrt(dp.mean(z * z, axis=0) + 1e-5) * scale + shift)

    args = [dp.spec(s) for s in ((8, 4), (4, 3), (3,), (3,))]
    graph = dp.grad(dp.defn(lambda *a: dp.sum(layer(*a))), (1, 2, 3)).expr(*args)
    assert [node.op.name for node in graph.nodes()].count("where") == 1


def test_the_test_would_see_a_mask_that_is_left_out(monkeypatch):
    monkeypatch.setattr(Cotangent, "masked", property(lambda self: False))
    with pytest.raises(AssertionError):
        test_the_dead_branch_gives_nothing("sqrt", lambda f: f)


# -- one boolean for all elements -------------------------------------------------------------------------------------

COMPANION = np.array([[2.0, 1.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
scaled = dp.custom_vjp(lambda g, y, x: g * 3 / x)(lambda x: 3 * dp.log(x))

# Each has an infinite derivative, or makes NaN, where an element of x is 0.
WHOLE = {
    "product": lambda x: dp.sum(COMPANION @ dp.log(x)),
    "product of elements": lambda x: dp.prod(dp.sqrt(x)),
    "maximum": lambda x: dp.max(dp.log(x)),
    "cumulative sum": lambda x: dp.sum(dp.cumulative_sum(dp.log(x)) ** 2),
    "cumulative product": lambda x: dp.sum(dp.cumulative_prod(dp.sqrt(x))),
    "sorted": lambda x: dp.sum(dp.sort(dp.sqrt(x)) * np.arange(4.0)),
    "eigenvalues": lambda x: dp.sum(dp.linalg.eigvalsh(dp.sqrt(x)[:, None] * dp.eye(4))),
    "branch": lambda x: dp.cond(x[1] < 5, lambda x: dp.sum(dp.log(x)), dp.sum, x),
    "loop": lambda x: dp.sum(dp.fori_loop(0, 3, lambda i, c: dp.sqrt(c), x)),
    "until": lambda x: dp.sum(dp.while_loop(lambda c: c[0] < 9.0, lambda c: (c[0] + 4.0, dp.sqrt(c[1])), (0.0, x))[1]),
    "scan": lambda x: dp.scan(lambda c, t: (c + dp.log(t), c * dp.sqrt(t)), 1.0, x)[0],
    "rule": lambda x: dp.sum(scaled(x)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_condition_of_one_boolean_goes_through_every_op(way, name):
    def f(x, limit):
        return dp.where(x[0] > limit, WHOLE[name](x), 0.0) + dp.sum(x * x)

    dead, alive = np.array([0.0, 1.0, 0.0, 2.0]), np.array([1.0, 2.0, 4.0, 3.0])
    gradient, plain = dp.grad(way(f)), dp.grad(way(WHOLE[name]))
    np.testing.assert_array_equal(gradient(dead, 0.5), 2 * dead)
    np.testing.assert_allclose(gradient(alive, 0.5), plain(alive) + 2 * alive, rtol=1e-12)
    np.testing.assert_array_equal(dp.hessian(way(f))(dead, 0.5), 2 * np.eye(4))
    np.testing.assert_allclose(
        dp.hessian(way(f))(alive, 0.5), dp.hessian(WHOLE[name])(alive) + 2 * np.eye(4), rtol=1e-10, atol=1e-12
    )
    both = dp.vmap(gradient, in_axes=(0, None))(np.stack([dead, alive]), 0.5)
    np.testing.assert_allclose(both, [2 * dead, plain(alive) + 2 * alive], rtol=1e-12)


def test_two_conditions_of_one_boolean_each(way):
    def f(x):
        y = dp.log(x)
        a = dp.where(x[1] > 5, dp.prod(y), 0.0)
        return a + dp.sum(dp.where(x[1] > 6, dp.where(x[3] > 7, COMPANION @ y, 1.0), 0.0)) + dp.sum(x)

    np.testing.assert_array_equal(dp.grad(way(f))(np.array([0.0, 1.0, 0.0, 2.0])), np.ones(4))
