"""Control flow: values and derivatives of any order, eager and compiled, nested, with captured values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.testing import check_grads

F64 = "float64"


def double(x: Any) -> Any:
    return dp.asarray(x, dtype=F64)


def both_ways(function: Callable[..., Any], *args: Any) -> Any:
    """The result, equal when run at once and compiled by each backend."""
    expected = function(*args)
    for backend in ("reference", "cpu"):
        found = dp.defn(lambda *xs: function(*xs), backend=backend)(*args)
        for a, b in zip(dp.tree.leaves(found), dp.tree.leaves(expected), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-13 if a.dtype == F64 else 2e-6)
    return expected


# -- cond -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pred", [True, False, 1, 0, 2.5, np.bool_(True), double(0.0), dp.asarray(3)])
def test_cond_takes_booleans_and_numbers(pred):
    found = both_ways(lambda p: dp.cond(p, lambda: 1.5, lambda: -1.5), pred)
    assert found == (1.5 if float(pred) else -1.5)


def test_cond_over_containers_and_captured_values():
    scale = double(3.0)

    def f(x, p):
        offset = x["a"] + 1.0  # a traced value of the surroundings
        return dp.cond(
            p, lambda x: {"y": x["a"] * scale, "z": (x["b"], offset)}, lambda x: {"y": offset, "z": (-x["b"], scale)}, x
        )

    x = {"a": double(2.0), "b": dp.asarray([1, 2])}
    found = both_ways(f, x, True)
    assert float(found["y"]) == 6.0 and float(found["z"][1]) == 3.0
    found = both_ways(f, x, False)
    assert float(found["y"]) == 3.0 and found["z"][0].tolist() == [-1, -2]


def test_cond_of_several_predicates_takes_the_first_true_one():
    def f(x):
        return dp.cond([(x < 0, lambda x: -x), (x < 1, lambda x: x * 10), (x < 2, lambda x: x * 100)], lambda x: x, x)

    assert [float(both_ways(f, double(x))) for x in (-2.0, 0.5, 1.5, 7.0)] == [2.0, 5.0, 150.0, 7.0]


def test_switch_clamps():
    branches = [lambda x: x, lambda x: 2 * x, lambda x: 3 * x]
    assert [float(both_ways(lambda i: dp.switch(i, branches, double(1.0)), i)) for i in (-3, 0, 1, 2, 9)] == [
        1,
        1,
        2,
        3,
        3,
    ]


def test_the_other_branch_does_not_spoil_the_gradient():
    """The double-where trick of other libraries: 0 * inf."""

    def f(x):
        return dp.cond(x > 0, lambda x: dp.sqrt(x) + dp.log(x), lambda x: 2.0 * x, x)

    for x, slope in ((0.0, 2.0), (-1.0, 2.0), (4.0, 0.5)):
        assert float(dp.grad(f)(double(x))) == slope
        assert float(dp.grad(dp.defn(f))(double(x))) == slope
    x = np.array([0.0, -1.0, 4.0])
    np.testing.assert_array_equal(dp.vmap(dp.grad(f))(x), [2.0, 2.0, 0.5])
    np.testing.assert_array_equal(dp.grad(lambda x: dp.sum(dp.vmap(f)(x)))(x), [2.0, 2.0, 0.5])


def test_only_one_branch_is_computed(capsys):
    f = dp.defn(lambda p: dp.cond(p, lambda: dp.print_value(1.0, label="yes"), lambda: dp.print_value(0.0, label="no")))
    f(True), f(False)
    assert capsys.readouterr().out == "yes = 1.\nno = 0.\n"


def test_gradients_with_respect_to_captured_values():
    def f(w, x):
        return dp.cond(dp.sum(x) > 0, lambda: dp.sum(w * x), lambda: dp.sum(w * w))

    w = double([1.0, 2.0])
    check_grads(f, [w, double([1.0, 3.0])])
    check_grads(lambda w: f(w, double([-1.0, -3.0])), [w])
    np.testing.assert_array_equal(dp.grad(f)(w, double([1.0, 3.0])), [1.0, 3.0])


# -- loops ------------------------------------------------------------------------------------------------------------


def test_loops_of_no_iterations():
    x = double([1.0, 2.0])
    assert both_ways(lambda x: dp.while_loop(lambda c: dp.sum(c) < 0, lambda c: c * 2, x), x).tolist() == [1.0, 2.0]
    assert both_ways(lambda x: dp.fori_loop(3, 3, lambda i, c: c * 2, x), x).tolist() == [1.0, 2.0]
    assert both_ways(lambda x: dp.fori_loop(5, 3, lambda i, c: c * 2, x), x).tolist() == [1.0, 2.0]
    carry, ys = both_ways(lambda x: dp.scan(lambda c, r: (c + r, c * r), x, dp.zeros((0, 2), dtype=F64)), x)
    assert carry.tolist() == [1.0, 2.0] and ys.shape == (0, 2)
    for f in (
        lambda x: dp.sum(dp.while_loop(lambda c: dp.sum(c) < 0, lambda c: c * c, x)),
        lambda x: dp.sum(dp.fori_loop(3, 3, lambda i, c: c * c, x)),
        lambda x: dp.sum(dp.scan(lambda c, r: (c * r, c), x, dp.zeros((0, 2), dtype=F64))[0]),
    ):
        np.testing.assert_array_equal(both_ways(dp.grad(f), x), [1.0, 1.0])


def test_python_numbers_take_the_dtype_that_the_body_gives():
    xs = double([1.0, 2.0])
    assert both_ways(lambda xs: dp.scan(lambda c, x: (c + x, None), 0, xs)[0], xs).dtype == F64
    assert both_ways(lambda: dp.fori_loop(0, 4, lambda i, c: c + 0.5, 0)).dtype == "float32"
    assert both_ways(lambda: dp.fori_loop(0, 4, lambda i, c: c + i, 0)).dtype == "int64"
    assert both_ways(lambda: dp.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2, c[1] + 1), (1.0, 0)))[0] == 8.0
    ints = dp.asarray([1, 2], dtype="int32")
    assert both_ways(lambda c: dp.fori_loop(0, 3, lambda i, c: c + i, c), ints).dtype == "int32"
    assert both_ways(lambda c: dp.fori_loop(0, 3, lambda i, c: (c[1], 2 * c[0]), (c, 1)), ints[0])[1].dtype == "int32"


def test_a_carry_keeps_what_is_no_tensor():
    def body(i, carry):
        return {"name": carry["name"], "x": carry["x"] + i, "none": None}

    found = dp.fori_loop(0, 3, body, {"name": "total", "x": 0, "none": None})
    assert found == {"name": "total", "x": 3, "none": None}


def test_repeat_until_the_loss_is_small():
    """A trip count that only the data decide, as in F7 of the seeds."""

    def loss(w, x, t):
        return dp.mean((x * w - t) ** 2)

    @dp.defn
    def train(w, x, t):
        def step(state):
            w, steps = state
            return w - 0.1 * dp.grad(loss)(w, x, t), steps + 1

        return dp.while_loop(lambda state: loss(state[0], x, t) >= 1e-6, step, (w, 0))

    x, t = double([1.0, 2.0]), double([3.0, 6.0])
    w, steps = train(double(0.0), x, t)
    expected, count = 0.0, 0
    while np.mean((np.asarray(x) * expected - np.asarray(t)) ** 2) >= 1e-6:
        expected -= 0.1 * np.mean(2 * np.asarray(x) * (np.asarray(x) * expected - np.asarray(t)))
        count += 1
    assert int(steps) == count > 5
    np.testing.assert_allclose(w, expected, rtol=1e-14)
    assert train.cache_info().misses == 1 and int(train(double(2.9), x, t)[1]) < count


@pytest.mark.parametrize("steps", [100, 101])
def test_n7_gradient_descent_in_a_loop(steps):
    """The sign of a wrong update shows after an odd number of steps only."""

    def descend(f, x0):
        return dp.fori_loop(0, steps, lambda i, x: x - 0.1 * dp.grad(f)(x), x0)

    x0 = double([-3.0, 4.0])
    found = both_ways(lambda x: descend(lambda x: dp.sum(x**2), x), x0)
    np.testing.assert_allclose(found, np.asarray(x0) * 0.8**steps, rtol=1e-12)
    assert abs(float(both_ways(lambda x: descend(lambda x: (x - 1.0) ** 2, x), double(0.0))) - 1.0) < 1e-9


def test_nested_loops_capture_outer_variables():
    """Elixir Nx #1235: a loop in a loop that reads values of both surroundings."""
    table = double([[1.0, 2.0], [3.0, 4.0]])

    def f(x, n):
        factor = x * 2.0

        def outer(i, total):
            here = total + factor

            def inner(j, t):
                return t * 0.5 + table[0, 0] * here + factor * i + table[i % 2, j % 2]

            return dp.fori_loop(0, n, inner, total)

        return dp.fori_loop(0, 3, outer, x)

    def python(x, n):
        total, rows = x, np.asarray(table)
        for i in range(3):
            here, t = total + 2 * x, total
            for j in range(n):
                t = t * 0.5 + rows[0, 0] * here + 2 * x * i + rows[i % 2, j % 2]
            total = t
        return total

    for n in (0, 1, 4):
        np.testing.assert_allclose(both_ways(f, double(1.5), n), python(1.5, n), rtol=1e-14)
        slope = (python(1.5 + 1e-6, n) - python(1.5 - 1e-6, n)) / 2e-6
        np.testing.assert_allclose(both_ways(dp.grad(lambda x, n=n: f(x, n)), double(1.5)), slope, rtol=1e-7)


# -- derivatives ------------------------------------------------------------------------------------------------------


def power_by_fori(x: Any) -> Any:
    return dp.fori_loop(0, 32, lambda i, y: y * x, 1.0)


def power_by_while(x: Any) -> Any:
    return dp.while_loop(lambda c: c[0] < 32, lambda c: (c[0] + 1, c[1] * x), (0, 1.0))[1]


def power_by_scan(x: Any) -> Any:
    return dp.scan(lambda y, _: (y * x, y), 1.0, length=32)[0]


def power_backwards(x: Any) -> Any:
    return dp.scan(lambda y, f: (y * f * x, None), 1.0, dp.ones(32, dtype=F64), reverse=True)[0]


@pytest.mark.parametrize("power", [power_by_fori, power_by_while, power_by_scan, power_backwards])
def test_pytensor_1772_high_derivatives_through_a_loop(power):
    """The third derivative of x ** 32 through a scan was three times too large: at 0.95 it is 6723.84."""
    x, derivative = double(0.95), power
    for order in range(4):
        expected = math.factorial(32) // math.factorial(32 - order) * 0.95 ** (32 - order)
        np.testing.assert_allclose(both_ways(derivative, x), expected, rtol=1e-12)
        np.testing.assert_allclose(dp.vmap(derivative)(x[None])[0], expected, rtol=1e-12)
        derivative = dp.grad(derivative)
    assert round(expected, 2) == 6723.84


def test_nx_1747_a_body_whose_slope_depends_on_the_variable():
    """The gradient of x * x by a loop that multiplies by x was 1.25 at 0.5; and products whose factors change."""
    product = lambda x: dp.while_loop(lambda c: c[1] < 1, lambda c: (c[0] * x, c[1] + 1), (x, 0))[0]  # noqa: E731
    counted = lambda x: dp.fori_loop(0, 1, lambda i, y: y * x, x)  # noqa: E731
    for square in (product, counted):
        assert float(both_ways(dp.grad(square), double(0.5))) == 1.0
        assert float(both_ways(dp.grad(dp.grad(square)), double(0.5))) == 2.0
    squared = lambda x: dp.while_loop(lambda c: c[1] < 2, lambda c: (c[0] * c[0], c[1] + 1), (x, 0))[0]  # noqa: E731
    assert float(both_ways(dp.grad(squared), double(0.5))) == 4 * 0.5**3
    assert float(both_ways(dp.grad(dp.grad(squared)), double(0.5))) == 12 * 0.5**2

    def by_sums(x):
        return dp.while_loop(lambda c: c[0] < x, lambda c: (c[0] + 1, c[1] + x), (0.0, 0.0))[1]

    assert float(both_ways(dp.grad(by_sums), double(5.0))) == 5.0  # the number of iterations is flat


@pytest.mark.parametrize("order", [1, 2])
def test_loops_against_differences(order):
    rng = np.random.default_rng(3)
    w, x, xs = rng.standard_normal((3, 3)) * 0.5, rng.standard_normal(3), rng.standard_normal((4, 3))

    def recurrent(w, x, xs):
        carry, ys = dp.scan(lambda h, x: ((t := dp.tanh(w @ h + x)), t * h), x, xs)
        return dp.concat([carry, dp.ravel(ys)])

    def until(w, x):
        return dp.while_loop(lambda c: c[1] < 3, lambda c: (dp.sin(w @ c[0]) + x, c[1] + 1), (x, 0))[0]

    def backwards(w, x, xs):
        return dp.scan(lambda h, x: (dp.sin(w @ h) * x, h), x, xs, reverse=True)[1]

    check_grads(recurrent, [w, x, xs], order=order)
    check_grads(until, [w, x], order=order)
    check_grads(backwards, [w, x, xs], order=order)


def test_integer_carries_count_as_numbers():
    """A gradient with respect to an integer is a float, through a loop as elsewhere."""

    def f(n, x):
        return dp.fori_loop(0, 3, lambda i, c: (c[0] + 1, c[1] + c[0] * x), (n, 0.0))[1]

    assert float(dp.grad(f, 0)(2, double(5.0))) == 15.0
    assert float(dp.grad(f, 1)(2, double(5.0))) == 2.0 + 3.0 + 4.0


def test_examples_of_their_own_lengths():
    """vmap over a loop whose number of iterations differs from example to example."""

    def f(x, w):
        return dp.while_loop(lambda c: c[0] < 3.0, lambda c: (c[0] * w + 0.5, c[1] * c[0]), (x, w))[1]

    xs, w = np.array([0.1, 0.9, 2.9, 3.5]), double(1.3)
    for g in (f, dp.grad(f, 1), dp.grad(dp.grad(f, 1), 1)):
        expected = [float(g(double(x), w)) for x in xs]
        np.testing.assert_allclose(dp.vmap(g, in_axes=(0, None))(xs, w), expected, rtol=1e-13)
        np.testing.assert_allclose(dp.defn(dp.vmap(g, in_axes=(0, None)))(xs, w), expected, rtol=1e-13)
    through = dp.grad(lambda w: dp.sum(dp.vmap(f, in_axes=(0, None))(xs, w)))
    np.testing.assert_allclose(through(w), sum(float(dp.grad(f, 1)(double(x), w)) for x in xs), rtol=1e-13)


def root(x):
    """Its slope is infinite at 1, where the loops below stop."""
    return dp.sqrt(x - 1.0)


SINGULAR = {
    "elementwise": lambda x, w: root(x) * w[0],
    "dot": lambda x, w: dp.dot(root(x) * dp.ones(2, dtype=F64), w),
    "prod": lambda x, w: dp.prod(root(x) * w),
    "scan": lambda x, w: dp.scan(lambda c, row: (c + root(x) * row, c), 0.0 * x, w)[0],
    "cond": lambda x, w: dp.cond(x > 3.0, lambda x: root(x) * w[0], lambda x: root(x) * w[1], x),
}


@pytest.mark.parametrize("backend", [None, "reference", "cpu"])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("body", SINGULAR)
def test_examples_that_stopped_do_not_spoil_gradients(body, counted, backend):
    """0 times the infinite slope of the body at 1 is not a number; examples that stopped there have no part in it."""

    def one(x, n, w):
        step = SINGULAR[body]
        if counted:
            return dp.fori_loop(0, n, lambda i, x: step(x, w), x)
        return dp.while_loop(lambda x: x > 1.0, lambda x: step(x, w), x)

    xs, counts, w = np.array([5.0, 1.0, 1.0]), np.array([1, 0, 0]), np.array([0.7, 0.9])
    rows = [(double(x), n, w) for x, n in zip(xs, counts, strict=True)]

    def batched(x, w):
        return dp.sum(dp.vmap(one, in_axes=(0, 0, None))(x, counts, w))

    def slopes(x, w):
        return dp.sum(dp.sin(dp.grad(batched)(x, w)))

    def slope(x, n, w):
        return dp.sin(dp.grad(one)(x, n, w))

    cases = [
        (dp.grad(batched), [dp.grad(one)(*row) for row in rows]),
        (dp.grad(batched, 1), sum(dp.grad(one, 2)(*row) for row in rows)),
        (dp.grad(slopes), [dp.grad(slope)(*row) for row in rows]),
        (dp.grad(slopes, 1), sum(dp.grad(slope, 2)(*row) for row in rows)),
    ]
    for function, expected in cases:
        compiled = function if backend is None else dp.defn(lambda x, w, f=function: f(x, w), backend=backend)
        np.testing.assert_allclose(compiled(xs, w), np.asarray(expected), rtol=1e-12)


def test_an_example_that_stopped_at_once_has_the_slope_one():
    def one(x, w):
        return dp.while_loop(lambda x: x > 1.0, lambda x: dp.dot(dp.sqrt(x * dp.ones(2, dtype=F64) - 1.0), w), x)

    found = dp.grad(lambda x: dp.sum(dp.vmap(one, in_axes=(0, None))(x, np.array([0.2, 0.3]))))(np.array([5.0, 1.0]))
    np.testing.assert_allclose(found, [0.125, 1.0], rtol=1e-14)


# -- scan and what is made of it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [1, 2, 3, 7, 50])
def test_unrolling_changes_nothing(reverse, unroll):
    xs = {"a": double(np.arange(7.0)), "b": double(np.ones((7, 2)))}
    f = lambda c, x: (c * 0.5 + x["a"], {"c": c, "b": x["b"] * c})  # noqa: E731
    expected = dp.scan(f, 1.0, xs, reverse=reverse)
    found = both_ways(lambda xs: dp.scan(f, 1.0, xs, reverse=reverse, unroll=unroll), xs)
    for a, b in zip(dp.tree.leaves(found), dp.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_scan_stacks_what_it_makes_in_the_order_of_the_rows():
    xs = double([1.0, 2.0, 3.0])
    assert both_ways(lambda xs: dp.scan(lambda c, x: (c + x, c), 0.0, xs), xs)[1].tolist() == [0.0, 1.0, 3.0]
    found = both_ways(lambda xs: dp.scan(lambda c, x: (c + x, c), 0.0, xs, reverse=True), xs)
    assert float(found[0]) == 6.0 and found[1].tolist() == [5.0, 3.0, 0.0]
    assert both_ways(lambda: dp.scan(lambda c, x: (c + 1, (c, None)), 0, length=3))[1][0].tolist() == [0, 1, 2]


def test_map_is_row_by_row():
    xs = double([[1.0, 2.0], [3.0, 4.0]])
    assert both_ways(lambda xs: dp.map(lambda x: {"s": dp.sum(x), "d": x * 2}, xs), xs)["s"].tolist() == [3.0, 7.0]


# -- associative_scan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_all_partial_results_of_an_operation_that_does_not_commute(n, reverse):
    rng = np.random.default_rng(n)
    ms = rng.standard_normal((2, n, 3, 3))
    found = both_ways(lambda ms: dp.associative_scan(dp.matmul, ms, reverse=reverse, axis=1), double(ms))
    for k in range(2):
        total = np.eye(3)
        for i in reversed(range(n)) if reverse else range(n):
            total = total @ ms[k, i]
            np.testing.assert_allclose(found[k, i], total, rtol=1e-11, atol=1e-12)


def test_a_linear_recurrence_by_an_associative_scan():
    a, b = np.random.default_rng(0).standard_normal((2, 20))

    def recurrence(a, b):
        return dp.associative_scan(lambda f, g: (f[0] * g[0], f[1] * g[0] + g[1]), (a, b))[1]

    by_scan = lambda a, b: dp.scan(lambda x, ab: ((y := ab[0] * x + ab[1]), y), 0.0, (a, b))[1]  # noqa: E731
    np.testing.assert_allclose(recurrence(double(a), double(b)), by_scan(double(a), double(b)), rtol=1e-10, atol=1e-12)
    loss = lambda f: lambda a, b: dp.sum(dp.sin(f(a, b)))  # noqa: E731
    ours, theirs = (dp.grad(loss(f), (0, 1))(double(a), double(b)) for f in (recurrence, by_scan))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


def test_forward_over_reverse_and_back():
    def f(x, n):
        return dp.while_loop(lambda c: c[1] < n, lambda c: (dp.sin(c[0]) * x + c[0], c[1] + 1), (x, 0))[0]

    x = double(0.7)
    first, second = dp.grad(f)(x, 4), dp.grad(dp.grad(f))(x, 4)
    g = lambda x: f(x, 4)  # noqa: E731
    for h in (g, dp.defn(g)):
        np.testing.assert_allclose(dp.jvp(h, (x,), (1.0,))[1], first, rtol=1e-13)
        np.testing.assert_allclose(dp.vjp(h, x)[1](1.0)[0], first, rtol=1e-13)
        np.testing.assert_allclose(dp.linearize(h, x)[1](1.0), first, rtol=1e-13)
        np.testing.assert_allclose(dp.hessian(h)(x), second, rtol=1e-13)
        np.testing.assert_allclose(dp.grad(dp.jacfwd(h))(x), second, rtol=1e-13)
        np.testing.assert_allclose(dp.jacfwd(dp.grad(h))(x), second, rtol=1e-13)
