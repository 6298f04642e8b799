"""Derivatives that do not exist or were asked for wrongly."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError, TreeError

X = dp.asarray([1.0, 2.0, 3.0])


def vector(x):
    return x * 2


def boolean(x):
    return dp.sum(x) > 0


def pair(x):
    return dp.sum(x), x


def scalar(x):
    return dp.sum(x)


def nothing(x):
    dp.sum(x)


def mapping(x):
    return {"loss": dp.sum(x)}


WAYS = {
    "grad": lambda f: dp.grad(f),
    "value_and_grad": lambda f: dp.value_and_grad(f),
    "grad of defn": lambda f: dp.grad(dp.defn(f, backend="reference")),
    "defn of grad": lambda f: dp.defn(dp.grad(f), backend="reference"),
    "grad of grad": lambda f: dp.grad(lambda x: dp.sum(dp.grad(f)(x))),
}


@pytest.mark.parametrize("way", WAYS)
def test_of_a_vector(way, place):
    with pytest.raises(GradientError) as caught:
        WAYS[way](vector)(X)
    assert str(caught.value) == (
        "grad: vector must return a scalar, not f32[3]\n"
        + place(vector, "return x * 2", "x * 2")
        + "\nHint: reduce it, with dp.sum(...) or dp.mean(...); dp.jacobian has the derivatives of every element"
    )


@pytest.mark.parametrize("way", WAYS)
def test_of_a_boolean(way, place):
    with pytest.raises(GradientError) as caught:
        WAYS[way](boolean)(X)
    assert str(caught.value) == (
        "grad: boolean returns a bool, which has no derivative\n"
        + place(boolean, "return dp.sum(x) > 0", "dp.sum(x) > 0")
        + "\nHint: return a float: a loss, not a decision"
    )


@pytest.mark.parametrize(("function", "kind"), [(pair, "tuple"), (mapping, "dict"), (nothing, "NoneType")])
def test_of_something_that_is_no_tensor(function, kind, place):
    def call():
        dp.grad(function)(X)

    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        f"grad: {function.__name__} must return one scalar, not {kind}\n"
        + place(call, "dp.grad(function)(X)", "dp.grad(function)(X)")
        + "\nHint: return the loss alone, or (loss, everything_else) with has_aux=True"
    )


@pytest.mark.parametrize("constant", [np.ones(2), dp.ones(2)])
def test_of_a_constant_vector(constant):
    with pytest.raises(GradientError):
        dp.grad(lambda x: constant)(X)


def test_a_scalar_that_does_not_depend_on_the_argument_has_gradient_zero():
    for constant in (3.0, 3, dp.asarray(3.0), np.float32(3.0)):
        g = dp.grad(lambda x, constant=constant: constant)(X)
        assert g.tolist() == [0.0, 0.0, 0.0] and g.dtype == "float32"


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), 5])
def test_an_argument_that_is_not_there(argnums, place):
    def call():
        dp.grad(scalar, argnums)(X)

    number = argnums[1] if isinstance(argnums, tuple) else argnums
    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        f"grad: there is no argument {number} to differentiate: the call has 1 positional argument\n"
        + place(call, "dp.grad(scalar, argnums)(X)", "dp.grad(scalar, argnums)(X)")
        + "\nHint: count from 0"
    )


def test_a_call_without_an_argument_to_differentiate():
    with pytest.raises(GradientError, match="no argument 0 to differentiate: the call has 0 positional arguments"):
        dp.grad(lambda *, x: dp.sum(x))(x=X)


@pytest.mark.parametrize("argnums", ["x", None, 0.5, ("x",)])
def test_argnums_that_are_no_numbers(argnums):
    with pytest.raises(GradientError):
        dp.grad(scalar, argnums)(X)


def test_argnums_that_name_one_argument_twice():
    with pytest.raises(GradientError) as caught:
        dp.grad(lambda x, y: dp.sum(x * y), (1, -1, 0))(X, X)
    assert caught.value.what == "grad: argnums (1, -1, 0) names an argument twice"
    assert caught.value.hint == "name each once: argnums=(1, 0)"


@dataclasses.dataclass
class Affine:
    weight: Any


class Plain:
    def __init__(self, weight):
        self.weight = weight


REGISTER = "make its class a container: @dp.tree.register_dataclass above @dataclasses.dataclass"


@pytest.mark.parametrize("kind", [Affine, Plain])
def test_an_object_that_hides_its_tensors_has_no_gradient_of_none(kind, place):
    def call():
        dp.grad(lambda layers: dp.sum(layers[0].weight))([kind(X)])

    with pytest.raises(GradientError) as caught:
        call()
    line = "dp.grad(lambda layers: dp.sum(layers[0].weight))([kind(X)])"
    assert str(caught.value) == (
        f"grad: argument 0 holds a {kind.__name__} with tensors in it, which is no container\n"
        + place(call, line, line)
        + f"\nHint: {REGISTER}"
    )
    with pytest.raises(TreeError, match=f"the result holds a {kind.__name__} with traced values in it") as caught:
        dp.defn(lambda x: kind(x + 1))(X)
    assert caught.value.hint == REGISTER


def test_has_aux_with_a_result_that_is_no_pair(place):
    def triple(x):
        return dp.sum(x), 1, 2

    def call():
        dp.grad(triple, has_aux=True)(X)

    with pytest.raises(GradientError) as caught:
        call()
    assert str(caught.value) == (
        "grad: with has_aux=True triple must return (value, aux), not tuple\n"
        + place(call, "dp.grad(triple, has_aux=True)(X)", "dp.grad(triple, has_aux=True)(X)")
        + "\nHint: return (loss, everything_else)"
    )


def test_has_aux_with_a_lone_scalar_names_no_internal_class():
    with pytest.raises(GradientError) as caught:
        dp.grad(scalar, has_aux=True)(X)
    assert "Expr" not in str(caught.value)


def test_has_aux_with_a_vector_loss(place):
    def loss(x):
        return x * 2, x

    with pytest.raises(GradientError) as caught:
        dp.grad(loss, has_aux=True)(X)
    assert caught.value.what == "grad: loss must return a scalar, not f32[3]"
    assert caught.value.where == place(loss, "return x * 2, x", "x * 2")


def test_flux_style_implicit_parameters_are_refused():
    """Seed G7: gradient of a function of no arguments with respect to implicit parameters; there are none here."""
    W = dp.asarray(2.0)
    with pytest.raises(GradientError, match="there is no argument 0 to differentiate"):
        dp.grad(lambda: W * 4.0)()


def test_a_function_that_is_none():
    for transform in (dp.grad, dp.value_and_grad):
        with pytest.raises(TypeError):
            transform(3)(X)
    with pytest.raises(TypeError):
        dp.defn(3)
