"""A branch that is mostly not taken costs a look at its index: no call, no copy, and no compilation."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.lower.program import CallStep, GuardStep, lower

X, W = np.arange(12.0).reshape(3, 4) / 10, np.cos(np.arange(16.0)).reshape(4, 4)


def mended(x, w, flag):
    y = dp.cond(flag > 0, lambda y: y, lambda y: dp.sin(y) @ w @ w, x @ w)
    return y * 2, dp.sum(y)


def steps(function, *args):
    return [type(step) for step in lower(dp.defn(function, backend="cpu").compile(*args).graph).steps]


def test_a_guard_is_a_step():
    assert GuardStep in steps(mended, X, W, 1.0) and CallStep not in steps(mended, X, W, 1.0)


def test_operands_that_are_read_elsewhere_are_not_written_over():
    def twice(x, w, flag):
        y = x @ w
        return dp.cond(flag > 0, lambda y: y, lambda y: dp.sin(y) @ w @ w, y), y

    def given(x, w, flag):
        return dp.cond(flag > 0, lambda x: x, lambda x: dp.sin(x) @ w @ w, x)

    for function in (twice, given):
        assert GuardStep not in steps(function, X, W, 1.0)
        for flag in (1.0, -1.0):
            x = X.copy()
            compare(dp.defn(function, backend="cpu")(x, W, flag), function(dp.asarray(x), W, flag))
            np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("flag", [1.0, -1.0])
def test_an_operand_returned_twice_gives_two_results(flag):
    """One branch returns the same array twice, the other one two: they cannot lie in the same memory."""

    def function(x, w, flag):
        return dp.cond(flag > 0, lambda y: (y, y), lambda y: (dp.sin(y) @ w @ w, dp.cos(y) @ w @ w), x @ w)

    assert GuardStep not in steps(function, X, W, flag)
    compare(dp.defn(function, backend="cpu")(X, W, flag), function(dp.asarray(X), W, flag))


@pytest.mark.parametrize("flag", [1.0, -1.0])
def test_both_branches_again_and_again(flag):
    compiled = dp.defn(mended, backend="cpu")
    for sign in (1, -1, -1, 1):
        compare(compiled(X, W, sign * flag), mended(dp.asarray(X), W, sign * flag))


def test_a_view_is_stored_first():
    def function(x, w, flag):
        y = (x @ w).T[::-1]
        return dp.cond(flag > 0, lambda y: y, lambda y: dp.sin(y) @ dp.exp(y.T) @ y, y)

    assert GuardStep in steps(function, X, W, 1.0)
    for flag in (1.0, -1.0):
        compare(dp.defn(function, backend="cpu")(X, W, flag), function(dp.asarray(X), W, flag))


def test_several_guards_behind_each_other():
    def function(x, w, flags):
        y = x @ w
        for i in range(4):
            y = dp.cond(flags[i] > 0, lambda y: y, lambda y: dp.sin(y) @ w, y)
        return y

    compiled = dp.defn(function, backend="cpu")
    assert steps(function, X, W, np.ones(4)).count(GuardStep) == 4
    for flags in ([1, 1, 1, 1], [-1, 1, -1, 1], [1, -1, -1, -1]):
        flags = np.array(flags, np.float64)
        compare(compiled(X, W, flags), function(dp.asarray(X), W, flags))


@pytest.mark.parametrize("loop", ["scan", "while", "vmap"])
def test_in_the_middle_of_a_loop(loop):
    flags = np.array([1.0, -1, 1, 1, -1, -1, 1])

    def step(y, w, flag):
        return dp.cond(flag > 0, lambda y: y, lambda y: dp.sin(y) @ w, dp.tanh(y @ w))

    def function(x, w, flags):
        if loop == "scan":
            return dp.scan(lambda y, flag: (step(y, w, flag), dp.sum(y)), x, flags)
        if loop == "vmap":
            return dp.vmap(lambda flag: step(x, w * flag, flag))(flags)
        return dp.while_loop(lambda c: c[0] < 7, lambda c: (c[0] + 1, step(c[1], w, dp.asarray(flags)[c[0]])), (0, x))

    compare(dp.defn(function, backend="cpu")(X, W, flags), function(dp.asarray(X), W, flags))

    def loss(x, w):
        return sum(dp.sum(y * y) for y in dp.tree.leaves(function(x, w, flags)) if y.ndim > 1)

    gradient = dp.grad(loss, (0, 1))
    compare(dp.defn(gradient, backend="cpu")(X, W), gradient(dp.asarray(X), W))


def test_the_branch_is_compiled_when_it_is_taken(monkeypatch):
    built = []
    compiled = dp.defn(mended, backend="cpu").compile(X, W, 1.0)
    linked = compiled._executable._linked
    build = linked._build
    monkeypatch.setattr(linked, "_build", lambda graph: built.append(graph) or build(graph))
    for flag, expected in ((1.0, 0), (-1.0, 1), (1.0, 1), (-1.0, 1)):
        compiled(X, W, flag)
        assert len(built) == expected


def test_of_many_examples_only_branches_that_one_chooses_are_computed():
    def function(x, w, number, i):
        branches = [lambda y: y, lambda y: dp.sin(y) @ w @ w, lambda y: dp.sort(y) * y[i]]
        return dp.vmap(lambda row, number: dp.switch(number, branches, row @ w))(x, number)

    compiled = dp.defn(function, backend="cpu")
    assert GuardStep in steps(function, X, W, np.arange(3), 0)
    for number in ([0, 0, 0], [1, 0, -5], [0, 1, 1]):
        compare(compiled(X, W, np.array(number), 9), function(dp.asarray(X), W, np.array(number), dp.asarray(9)))
    compare(compiled(X, W, np.array([7, 1, 0]), 3), function(dp.asarray(X), W, np.array([7, 1, 0]), dp.asarray(3)))
    with pytest.raises(dp.errors.IndexingError, match="index 9 is out of bounds for axis 1 of size 4"):
        compiled(X, W, np.array([0, 1, 2]), 9)


def test_an_error_in_the_branch_names_the_line():
    def function(x, w, flag, i):
        return dp.cond(flag > 0, lambda y: y, lambda y: dp.sin(y)[i] @ w, x @ w)

    compiled = dp.defn(function, backend="cpu")
    good, bad = np.array([2, 1, 0]), np.array([0, 1, 5])
    compiled(X, W, 1.0, bad)
    with pytest.raises(
        dp.errors.IndexingError, match=r"index 5 is out of bounds for axis 0 of size 3[^H]*sin\(y\)\[i\]"
    ):
        compiled(X, W, -1.0, bad)
    compare(compiled(X, W, -1.0, good), function(dp.asarray(X), W, -1.0, good))


def compare(found, expected):
    for y, z in zip(dp.tree.leaves(found), dp.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-14)
