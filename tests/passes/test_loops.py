"""Loops and branches compute what is read of them, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

import defnpy as dp
from defnpy.ir.expr import Expr, Graph

F64 = "float64"
X = dp.asarray([1.0, 2.0], dtype=F64)


def optimized(function: Any, *args: Any) -> Graph:
    return dp.defn(function, backend="reference").compile(*args).graph


def loops(graph: Graph) -> list[Expr]:
    return [node for node in graph.nodes() if node.op.graphs]


def test_value_and_gradient_share_the_loop_forwards():
    def f(x):
        return dp.sum(dp.fori_loop(0, 5, lambda i, y: dp.sin(y) * x, x))

    forwards, backwards = loops(optimized(dp.value_and_grad(f), X))
    assert forwards.kwargs["record"] == (0,) and not forwards.kwargs["reverse"]
    assert backwards.kwargs["reverse"]
    # The counter has left: nobody reads it.
    assert (forwards.kwargs["carries"], backwards.kwargs["carries"]) == (1, 2)


def test_second_derivatives_share_what_the_first_have():
    def f(x):
        return dp.sum(dp.while_loop(lambda c: c[1] < 3, lambda c: (dp.sin(c[0]), c[1] + 1), (x, 0))[0])

    graph = optimized(dp.grad(lambda x: dp.sum(dp.grad(f)(x) ** 2)), X)
    assert [node.op.name for node in loops(graph)].count("while_loop") == 1


def test_unread_results_are_not_computed():
    def f(xs):
        return dp.scan(lambda c, x: ((c[0] + x, c[1] * x), (c[0], dp.exp(x))), (0.0, 1.0), xs)[0][0]

    (loop,) = loops(optimized(f, X))
    assert loop.kwargs["carries"] == 1 and len(loop.kwargs["body"].outputs) == 1
    assert "exp" not in [node.op.name for node in loop.kwargs["body"].nodes()]
    assert float(dp.defn(f)(X)) == 3.0


def test_inner_loops_are_pruned_too():
    def f(x):
        def inner(j, c):
            return c[0] + x, dp.exp(c[1])

        return dp.fori_loop(0, 2, lambda i, c: dp.fori_loop(0, 2, inner, c), (x, x))[0]

    (outer,) = loops(optimized(f, X))
    (inner,) = loops(outer.kwargs["body"])
    assert inner.kwargs["carries"] == outer.kwargs["carries"] == 1
    np.testing.assert_array_equal(dp.defn(f)(X), 5 * np.asarray(X))


def test_a_carry_that_never_changes_is_an_operand():
    def f(x, w):
        return dp.fori_loop(0, 3, lambda i, c: (c[0] * c[1], c[1]), (x, w))

    graph = optimized(f, X, X)
    (loop,) = loops(graph)
    assert loop.kwargs["carries"] == 1 and graph.outputs[1] is graph.inputs[1]
    assert dp.defn(f)(X, X)[0].tolist() == [1.0, 16.0]


def test_what_only_a_dead_carry_read_is_gone():
    def f(x, w):
        return dp.while_loop(lambda c: c[1] < 3, lambda c: (c[0] @ w, c[1] + 1), (x, 0))[1]

    graph = optimized(f, X, dp.ones((2, 2), dtype=F64))
    assert "dot_general" not in [node.op.name for loop in loops(graph) for node in loop.kwargs["body"].nodes()]
    assert int(dp.defn(f)(X, dp.ones((2, 2), dtype=F64))) == 3


def test_effects_stay_and_stay_apart(capsys):
    def f(x):
        for _ in range(2):
            dp.fori_loop(0, 2, lambda i, y: dp.print_value(y + 1, label="y"), x)
        return x

    for backend in ("reference", "cpu"):
        dp.defn(f, backend=backend)(dp.asarray(0.0))
        assert capsys.readouterr().out == "y = 1.\ny = 2.\n" * 2


def test_a_derivative_prints_nothing_twice(capsys):
    def f(x):
        return dp.fori_loop(0, 2, lambda i, y: dp.print_value(y * x, label="y"), x)

    for derivative in (dp.grad(f), dp.grad(dp.defn(f)), dp.grad(dp.grad(f))):
        derivative(2.0)
        assert capsys.readouterr().out == "y = 4.\ny = 8.\n"


# -- branches ---------------------------------------------------------------------------------------------------------


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes()]


def test_a_known_branch_is_taken():
    def f(x):
        return dp.cond(True, lambda: dp.sum(x), lambda: dp.prod(x)), dp.switch(7, [dp.exp, dp.sin], x)

    found = names(optimized(f, X))
    assert "sum" in found and "sin" in found and not {"cond", "prod", "exp"} & set(found)


def test_small_branches_are_computed_and_one_result_chosen():
    def f(x):
        return dp.cond([(x > 2, lambda x: (x * 2, x)), (x > 1, lambda x: (-x, x + 1))], lambda x: (x, 0.0 * x), x)

    graph = optimized(f, X[0])
    assert "cond" not in names(graph) and "where" in names(graph)
    for value in (0.5, 1.5, 2.5):
        x = dp.asarray(value, dtype=F64)
        for backend in ("reference", "cpu"):
            found = dp.defn(lambda x: f(x), backend=backend)(x)
            assert [float(y) for y in found] == [float(y) for y in f(x)]


def test_large_branches_and_those_that_can_fail_stay_functions():
    large = dp.ones(1000)
    assert "cond" in names(optimized(lambda p, x: dp.cond(p, dp.exp, dp.sin, x), True, large))
    assert "cond" in names(optimized(lambda p, x, i: dp.cond(p, lambda: x[i], lambda: x[0]), True, large, 5))
    assert "cond" in names(optimized(lambda p, n: dp.cond(p, lambda: n**n, lambda: n), True, 5))
    f = dp.defn(lambda p, x, i: dp.cond(p, lambda: x[i], lambda: x[0]))
    assert float(f(False, large, 5000)) == 1.0  # the index of the other branch is never looked at


def test_branches_of_examples_are_compiled():
    f = dp.vmap(lambda x: dp.cond(dp.sum(x) > 0, lambda x: x @ x, lambda x: dp.sum(dp.sin(x)), x))
    xs = dp.asarray(np.random.default_rng(0).standard_normal((6, 4)))
    assert "cond" not in names(optimized(f, xs))
    np.testing.assert_allclose(dp.defn(f)(xs), f(xs), rtol=1e-12)


def test_a_choice_of_values_does_not_spoil_the_gradient():
    """The gradient is taken of the functions, before a choice of values is made of them."""

    def f(x):
        return dp.cond(x > 0, lambda x: dp.sqrt(x), lambda x: 2.0 * x, x)

    zero = dp.asarray(0.0, dtype=F64)
    for order in (dp.grad(dp.defn(f)), dp.defn(dp.grad(f)), dp.grad(f)):
        assert float(order(zero)) == 2.0
    assert float(dp.defn(dp.grad(dp.grad(f)))(zero)) == 0.0
