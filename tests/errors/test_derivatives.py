"""Derivatives asked for wrongly, and rules that do not fit: exact texts."""

from __future__ import annotations

import pytest

import defnpy as dp
from defnpy.errors import GradientError, TreeError

X = dp.asarray([1.0, 2.0])


def double(x):
    return x * 2


def test_primals_that_are_no_tuple(place):
    def call():
        dp.jvp(double, X, (X,))

    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        "jvp: the primals are a tuple with one entry for each argument, not Tensor\n"
        + place(call, "dp.jvp(double, X, (X,))", "dp.jvp(double, X, (X,))")
        + "\nHint: write (primal,) for a single one"
    )


def test_a_tangent_of_another_shape(place):
    def call():
        dp.jvp(double, (X,), (dp.ones(3),))

    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        "jvp: the tangent of x is f32[3], not f32[2]\n"
        + place(call, "dp.jvp(double, (X,), (dp.ones(3),))", "dp.jvp(double, (X,), (dp.ones(3),))")
        + "\nHint: a tangent has the shape of what it belongs to; None stands for zero"
    )


def test_a_cotangent_of_another_structure(place):
    def call():
        _, pullback = dp.vjp(lambda x: {"a": x, "b": x}, X)
        pullback({"a": X})

    with pytest.raises(TreeError) as caught:
        call()
    assert str(caught.value) == (
        "vjp: the cotangents do not have the structure of what they belong to: "
        "cotangent['b'] is only in what they belong to\n"
        + place(call, 'pullback({"a": X})', 'pullback({"a": X})')
        + "\nHint: one container with a tensor or None for each of result['a'], result['b']"
    )


def test_too_many_tangents(place):
    _, derivative = dp.linearize(double, X)

    def call():
        derivative(X, X)

    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        "linearize: the linear map takes 1 tangent, got 2\n" + place(call, "derivative(X, X)", "derivative(X, X)")
    )


def test_the_hessian_of_a_vector(place):
    with pytest.raises(GradientError, match=r"^hvp: double must return a scalar"):
        dp.hvp(double, (X,), (X,))
    with pytest.raises(GradientError) as caught:
        dp.hessian(double)(X)
    assert str(caught.value) == (
        "hessian: double must return a scalar, not f32[2]\n"
        + place(double, "return x * 2", "x * 2")
        + "\nHint: reduce it, with dp.sum(...) or dp.mean(...); dp.jacobian has the derivatives of every element"
    )


def test_a_rule_of_another_shape(place):
    def rule(g, y, x):
        return g[:1] * 2

    ruled = dp.custom_vjp(rule)(double)
    with pytest.raises(GradientError) as caught:
        dp.grad(lambda x: dp.sum(ruled(x)))(X)
    assert str(caught.value) == (
        "custom_vjp: the rule of double returns f32[1], where f32[2] is wanted\n"
        + place(rule, "return g[:1] * 2", "g[:1] * 2")
    )


def test_a_value_from_around(place):
    def outer(x):
        scale = x * 3
        return dp.sum(dp.custom_vjp(lambda g, y, v: g)(lambda v: v * scale)(x))

    with pytest.raises(GradientError) as caught:
        dp.grad(outer)(X)
    assert str(caught.value) == (
        "custom_vjp: <lambda> reads the traced value f32[2] from around it, for which its rule gives no derivative\n"
        + place(outer, "scale = x * 3", "x * 3")
        + "\nHint: pass it as an argument"
    )


def test_a_policy_that_is_none(place):
    def call():
        dp.checkpoint(double, policy="all")

    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        "checkpoint: there is no policy 'all'\n"
        + place(call, 'dp.checkpoint(double, policy="all")', 'dp.checkpoint(double, policy="all")')
        + "\nHint: one of nothing, dots, everything"
    )
