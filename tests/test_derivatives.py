"""jvp, vjp, linearize, hvp and the Jacobians: eagerly, compiled, inlined, in each other, and against JAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError, TreeError

WAYS = {
    "eager": lambda f: f,
    "reference": lambda f: dp.defn(f, backend="reference"),
    "cpu": lambda f: dp.defn(f, backend="cpu"),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def model(p, x):
    """Containers in and out, an integer, a boolean, a function and a string among their leaves."""
    h = p["act"](x @ p["w"] + p["b"])
    return {"h": h, "loss": dp.sum(h * h) * p["scale"], "positive": x > 0, "count": p["n"] * 2, "name": "model"}


def example() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    p = {
        "w": rng.standard_normal((3, 2)),
        "b": rng.standard_normal(2),
        "scale": 0.5,
        "n": np.array([1, 2]),
        "act": dp.tanh,
    }
    return p, rng.standard_normal((4, 3))


def direction() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    d = {"w": rng.standard_normal((3, 2)), "b": None, "scale": 2.0, "n": None, "act": None}
    return d, rng.standard_normal((4, 3))


def inner(a: Any, b: Any) -> float:
    """The sum of products over two containers, what has None left out."""
    pairs = []
    dp.tree.map(lambda x, y: pairs.append((x, y)), a, b)
    return float(sum(np.sum(np.asarray(x) * np.asarray(y)) for x, y in pairs))


# -- jvp ------------------------------------------------------------------------------------------------------------


def test_value_and_jvp_names_what_jvp_returns():
    args, tangents = (dp.ones(3), 2.0), (dp.asarray([1.0, 0.0, -1.0]), None)
    for f in (lambda x, y: dp.sum(x**3) * y, dp.defn(lambda x, y: dp.sum(x**3) * y)):
        both = dp.value_and_jvp(f)(args, tangents)
        value, tangent = dp.jvp(f, args, tangents)
        assert both.value == value and both.tangent == tangent
    nested = dp.value_and_jvp(dp.grad(lambda x: x**3))((2.0,), (1.0,))
    assert (float(nested.value), float(nested.tangent)) == (12.0, 12.0)


def test_jvp_over_containers(way):
    args, tangents = example(), direction()
    value, tangent = dp.jvp(way(model), args, tangents)
    expected = model(*[dp.tree.map(lambda x: x if callable(x) else dp.asarray(x), a) for a in args])
    np.testing.assert_allclose(value["h"], expected["h"], rtol=1e-14)
    assert value["name"] == "model" and tangent["name"] is tangent["positive"] is tangent["count"] is None
    (p, x), (dp_, dx) = args, tangents

    def moved(h):
        p_h = {**p, "w": p["w"] + h * dp_["w"], "scale": p["scale"] + h * 2.0}
        return model(p_h, dp.asarray(x + h * dx))

    for name in ("h", "loss"):
        expected = (np.asarray(moved(1e-6)[name]) - np.asarray(moved(-1e-6)[name])) / 2e-6
        np.testing.assert_allclose(tangent[name], expected, rtol=1e-7, atol=1e-8)


def test_what_does_not_move_has_the_tangent_zero(way):
    _, tangent = dp.jvp(way(lambda x, y: (x, y, dp.floor(x), 3.0)), (1.5, dp.ones(2)), (1.0, None))
    assert [np.asarray(t).tolist() for t in tangent] == [1.0, [0.0, 0.0], 0.0, 0.0]
    assert [t.dtype for t in tangent] == ["float32"] * 4


def test_an_integer_moves_only_if_it_is_told_to(way):
    f = way(lambda n: n * n)
    assert dp.jvp(f, (3,), (None,)) == (9, None)
    _, tangent = dp.jvp(f, (3,), (1.0,))
    assert tangent.item() == 6.0 and tangent.dtype == "float32"


def test_one_argument_twice_and_one_result_twice(way):
    x = dp.asarray([2.0, 3.0])
    _, tangent = dp.jvp(way(lambda x, y: (x * y, x * y)), (x, x), (dp.ones(2), None))
    assert tangent[0].tolist() == tangent[1].tolist() == [2.0, 3.0]
    _, pullback = dp.vjp(way(lambda x, y: (x * y, x * y)), x, x)
    left, right = pullback((dp.ones(2), 10 * dp.ones(2)))
    assert left.tolist() == right.tolist() == [22.0, 33.0]


# -- vjp and linearize ----------------------------------------------------------------------------------------------


def test_pulling_back_is_the_transpose_of_pushing_forwards(way):
    args, tangents = example(), direction()
    f = way(model)
    _, pullback = dp.vjp(f, *args)
    rng = np.random.default_rng(2)
    cotangent = {"h": rng.standard_normal((4, 2)), "loss": rng.standard_normal(()), "positive": None, "count": None}
    cotangent["name"] = None
    gradient = pullback(cotangent)
    assert gradient[0]["act"] is None and gradient[0]["scale"].dtype == "float32"
    _, tangent = dp.jvp(f, args, tangents)
    np.testing.assert_allclose(inner(tangent, cotangent), inner(gradient, tangents), rtol=1e-5)


def test_linearize_is_jvp_again_and_again(way):
    args, tangents = example(), direction()
    f = way(model)
    value, derivative = dp.linearize(f, *args)
    for scale in (1.0, -2.0):
        scaled = dp.tree.map(lambda t, scale=scale: t * scale, tangents)
        found, expected = derivative(*scaled), dp.jvp(f, args, scaled)[1]
        np.testing.assert_allclose(found["h"], expected["h"], rtol=1e-13)
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
        assert found["name"] is found["positive"] is None
    assert value["loss"].item() == f(*args)["loss"].item()


def test_a_pullback_computes_nothing_of_the_way_forward_again():
    calls = []

    def f(x):
        calls.append(1)
        return dp.exp(dp.sin(x))

    f = dp.defn(f, backend="reference")
    for n in range(3):
        _, pullback = dp.vjp(f, dp.asarray([float(n), 2.0]))
        pullback(dp.ones(2)), pullback(dp.zeros(2))
    assert len(calls) == 1
    assert [node.op.name for node in pullback._inner.graph.nodes() if node.op.name in ("exp", "sin")] == []


def test_a_print_happens_once_and_forwards(capsys):
    def f(x):
        dp.print_value(x, label="x")
        return x * x

    _, pullback = dp.vjp(f, 3.0)
    pullback(1.0), pullback(2.0)
    assert capsys.readouterr().out == "x = 3.\n"


def test_a_weak_float_is_kept_whole(way):
    """0.1 as a Python float times float64: narrowed to float32 on the way from forwards to backwards it shows."""
    x = dp.asarray([1.0], dtype="float64")
    _, pullback = dp.vjp(way(lambda s, x: x * s), 0.1, x)
    assert pullback(dp.asarray([1.0], dtype="float64"))[1].item() == 0.1


# -- composition ----------------------------------------------------------------------------------------------------


def cubes(x):
    return dp.sum(dp.sin(x) * x**3)


X, V = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.3, -0.2])
FIRST = 3 * X**2 * np.sin(X) + X**3 * np.cos(X)
SECOND = 6 * X * np.sin(X) + 6 * X**2 * np.cos(X) - X**3 * np.sin(X)
THIRD = 6 * np.sin(X) + 18 * X * np.cos(X) - 9 * X**2 * np.sin(X) - X**3 * np.cos(X)

HESSIANS_TIMES_V = {
    "hvp": lambda f, x, v: dp.hvp(f, (x,), (v,))[0],
    "jvp of grad": lambda f, x, v: dp.jvp(dp.grad(f), (x,), (v,))[1],
    "grad of jvp": lambda f, x, v: dp.grad(lambda x: dp.jvp(f, (x,), (v,))[1])(x),
    "vjp of grad": lambda f, x, v: dp.vjp(dp.grad(f), x)[1](v)[0],
    "jvp of vjp": lambda f, x, v: dp.jvp(lambda x: dp.vjp(f, x)[1](1.0)[0], (x,), (v,))[1],
    "linearize of grad": lambda f, x, v: dp.linearize(dp.grad(f), x)[1](v),
    "linearize of vjp": lambda f, x, v: dp.linearize(lambda x: dp.vjp(f, x)[1](1.0)[0], x)[1](v),
    "grad of grad times v": lambda f, x, v: dp.grad(lambda x: dp.sum(dp.grad(f)(x) * v))(x),
    "hessian": lambda f, x, v: dp.hessian(f)(x) @ v,
    "jacrev of jacfwd": lambda f, x, v: dp.jacrev(dp.jacfwd(f))(x) @ v,
    "jacrev of jacrev": lambda f, x, v: dp.jacrev(dp.jacrev(f))(x) @ v,
    "jacfwd of jacfwd": lambda f, x, v: dp.jacfwd(dp.jacfwd(f))(x) @ v,
}


@pytest.mark.parametrize("name", HESSIANS_TIMES_V)
def test_second_derivatives_agree(name, way):
    x, v = dp.asarray(X), dp.asarray(V)
    product = HESSIANS_TIMES_V[name]
    np.testing.assert_allclose(product(way(cubes), x, v), SECOND * V, rtol=1e-12)
    np.testing.assert_allclose(way(lambda x, v: product(cubes, x, v))(x, v), SECOND * V, rtol=1e-12)
    third = dp.grad(lambda x: dp.sum(product(cubes, x, v)))  # and through all of it once more
    np.testing.assert_allclose(third(x), THIRD * V, rtol=1e-11)


def test_a_pullback_made_outside_is_used_inside(way):
    _, pullback = dp.vjp(way(cubes), dp.asarray(X))
    np.testing.assert_allclose(way(lambda c: pullback(c)[0] * 2)(3.0), 6 * FIRST, rtol=1e-12)


def test_a_defn_compiles_its_derivatives_once():
    f = dp.defn(cubes, backend="reference")
    for n in range(4):
        x = dp.asarray(X + n)
        dp.jvp(f, (x,), (x,)), dp.hvp(f, (x,), (x,)), dp.vjp(f, x)[1](1.0), dp.linearize(f, x)[1](x)
    assert {name: made.cache_info()[:3] for name, made in f.derived.items() if name != "gradient 1"} == {
        "jvp": (3, 1, 1),
        "vjp": (3, 1, 1),
        "linearize": (3, 1, 1),
    }
    assert f.derived["gradient 1"].derived["jvp"].cache_info()[:3] == (3, 1, 1)


# -- Jacobians --------------------------------------------------------------------------------------------------------

MODES = {"jacfwd": dp.jacfwd, "jacrev": dp.jacrev, "jacobian": dp.jacobian}


@pytest.mark.parametrize("mode", MODES)
def test_the_jacobian_over_containers(mode, way):
    p = {"w": np.arange(6.0).reshape(3, 2) / 10, "b": np.array(0.5), "name": "p"}
    x = np.array([[1.0, 2.0, -1.0]])

    def f(p, x):
        return dp.tanh(x @ p["w"]) * p["b"], {"s": dp.sum(x), "flag": x > 0}

    first, second = MODES[mode](way(f), (0, 1))(p, x)
    assert first[0]["name"] is None and second["flag"][0] == {"w": None, "b": None, "name": None}
    y = np.tanh(x @ p["w"])
    by_x = 0.5 * (1 - y**2)[:, :, None, None] * p["w"].T[None, :, None, :]
    np.testing.assert_allclose(first[1], by_x, rtol=1e-13)
    by_w = np.einsum("ij,ik,jl->ijkl", 0.5 * (1 - y**2), x, np.eye(2))
    np.testing.assert_allclose(first[0]["w"], by_w, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(first[0]["b"], y, rtol=1e-14)
    assert first[0]["b"].shape == (1, 2) and second["s"][0]["w"].tolist() == [[0.0, 0.0]] * 3
    assert second["s"][1].tolist() == [[1.0, 1.0, 1.0]]
    alone = MODES[mode](way(f))(p, x)
    np.testing.assert_array_equal(alone[0]["w"], first[0]["w"])


@pytest.mark.parametrize("mode", MODES)
def test_jacobians_of_numbers_and_of_nothing(mode, way):
    jac = MODES[mode]
    assert jac(way(lambda x: x**3))(2.0).item() == 12.0 and jac(way(lambda n: n * n))(3).item() == 6.0
    empty = jac(way(lambda x: x * 2))(dp.zeros((0, 2)))
    assert empty.shape == (0, 2, 0, 2)
    assert jac(way(lambda x: dp.sum(x)))(dp.zeros(0)).shape == (0,)
    assert jac(way(lambda x: "no tensor"))(1.0) is None
    assert jac(way(lambda x: x > 0))(1.0) is None


def test_the_cheaper_side_is_chosen():
    def rows(function, n, m):
        graph = dp.defn(dp.jacobian(lambda x: function(x))).expr(dp.spec((n,)))
        return sum(node.op.name == "iota" and node.shape == (min(n, m), min(n, m)) for node in graph.nodes())

    assert rows(lambda x: dp.concat([dp.sin(x)] * 5), 3, 15) == 2  # forwards: 3 directions
    assert rows(lambda x: dp.sin(x)[:2], 7, 2) == 2  # backwards: 2 cotangents


def test_the_hessian_of_containers_is_symmetric(way):
    p = {"a": np.array([1.0, 2.0]), "b": np.array([[0.5], [1.5]]), "k": None}
    h = dp.hessian(way(lambda p: dp.sum(dp.sin(p["a"]) @ (p["a"] * p["b"]) ** 2)))(p)
    assert h["a"]["a"].shape == (2, 2) and h["a"]["b"].shape == (2, 2, 1) and h["b"]["a"].shape == (2, 1, 2)
    np.testing.assert_allclose(h["a"]["b"], np.transpose(h["b"]["a"], (2, 0, 1)), rtol=1e-13)
    np.testing.assert_allclose(h["a"]["a"], np.transpose(h["a"]["a"]), rtol=1e-13)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dp.jvp(dp.sin, 1.0, 1.0), "jvp: the primals are a tuple with one entry for each argument, not float"),
        (lambda: dp.jvp(dp.sin, (1.0,), 1.0), "jvp: the tangents are a tuple with one entry for each argument"),
        (lambda: dp.jvp(dp.add, (1.0, 2.0), (1.0,)), "jvp: there are 2 primals and 1 tangents"),
        (lambda: dp.jvp(cubes, (dp.ones(2),), (dp.ones(3),)), r"jvp: the tangent of x is f32\[3\], not f32\[2\]"),
        (lambda: dp.jvp(cubes, (1.0,), (True,)), r"jvp: the tangent of x is bool~\[\], not f64~\[\]"),
        (lambda: dp.vjp(dp.sin, 1.0)[1](dp.ones(2)), r"vjp: the cotangent of result is f32\[2\], not f64~\[\]"),
        (lambda: dp.vjp(dp.sin, 1.0)[1](), "vjp: the linear map takes 1 cotangent, got 0"),
        (lambda: dp.linearize(dp.add, 1.0, 2.0)[1](1.0), "linearize: the linear map takes 2 tangents, got 1"),
        (lambda: dp.jacfwd(dp.sin, 1)(1.0), "jacfwd: there is no argument 1 to differentiate"),
        (lambda: dp.jacobian(dp.sin, "x")(1.0), "jacobian: argnums names arguments by number, not by 'x'"),
        (lambda: dp.hessian(lambda x: x * 2)(dp.ones(2)), r"hessian: <lambda> must return a scalar, not f32\[2\]"),
        (lambda: dp.hvp(lambda x: x * 2, (dp.ones(2),), (dp.ones(2),)), r"must return a scalar, not f32\[2\]"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(GradientError, match=message):
        call()


def test_another_structure():
    with pytest.raises(TreeError, match="jvp: the tangents do not have the structure of what they belong to"):
        dp.jvp(lambda p: p["a"], ({"a": 1.0},), ({"b": 1.0},))
    with pytest.raises(TreeError, match="vjp: the cotangents do not have the structure"):
        dp.vjp(lambda p: (p, p), 1.0)[1]([1.0, 2.0])


# -- how arguments are written ----------------------------------------------------------------------------------------


def power(x, y=2.0, *, n):
    return dp.sum(x**n * y)


def test_keyword_only_arguments_are_static_for_every_derivative(way):
    f, x, d = way(power), dp.asarray([1.0, 2.0]), dp.asarray([1.0, -1.0])
    for n in (2, 3):
        slope = n * np.asarray(x) ** (n - 1) * 2
        np.testing.assert_allclose(dp.jvp(f, (x,), (d,), n=n)[1], slope @ d, rtol=1e-6)
        np.testing.assert_allclose(dp.value_and_jvp(f)((x,), (d,), n=n).tangent, slope @ d, rtol=1e-6)
        np.testing.assert_allclose(dp.vjp(f, x, n=n)[1](1.0)[0], slope, rtol=1e-6)
        np.testing.assert_allclose(dp.linearize(f, x, n=n)[1](d), slope @ d, rtol=1e-6)
        curved = n * (n - 1) * np.asarray(x) ** (n - 2) * 2
        np.testing.assert_allclose(dp.hvp(f, (x,), (d,), n=n)[0], curved * d, rtol=1e-6)


def test_an_argument_given_by_name_stands_at_its_position(way):
    f, x = way(power), dp.asarray([1.0, 2.0])
    np.testing.assert_array_equal(dp.grad(f, argnums=1)(x, y=3.0, n=2), 5.0)
    np.testing.assert_array_equal(dp.grad(f)(n=2, y=3.0, x=x), [6.0, 12.0])
    np.testing.assert_array_equal(dp.jacrev(f, argnums=1)(x=x, y=3.0, n=2), 5.0)
    pulled = dp.vjp(f, x, y=3.0, n=2)[1](1.0)
    assert len(pulled) == 2 and pulled[1] == 5.0


# -- the basis of a Jacobian ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [dp.jacfwd, dp.jacrev])
def test_no_product_is_computed_to_pick_columns(kind):
    rng = np.random.default_rng(3)
    a, b, x = rng.standard_normal((4, 3)), rng.standard_normal((4, 5)), rng.standard_normal(3)

    def layers(x):
        return dp.tanh(dp.tanh(a @ x) @ b) * x[0]

    jacobian = dp.defn(kind(layers), backend="cpu")
    h, y = np.tanh(a @ x), np.tanh(np.tanh(a @ x) @ b)
    expected = ((1 - y**2)[:, None] * (b.T * (1 - h**2)) @ a) * x[0] + y[:, None] * np.eye(3)[0]
    np.testing.assert_allclose(jacobian(x), expected, rtol=1e-12)
    np.testing.assert_allclose(kind(layers)(x), expected, rtol=1e-12)
    np.testing.assert_allclose(dp.vmap(jacobian)(x[None])[0], expected, rtol=1e-12)
    matrices = [n for n in jacobian.compile(x).graph.nodes() if n.op.name == "dot_general" and n.ndim == 2]
    assert len(matrices) == 1


def test_columns_that_are_picked_are_scaled_on_the_way(way):
    a, x = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, -3.0])
    f = way(lambda x: a @ (x * x * 0.5) + dp.sum(dp.sin(x) * x) + a @ dp.sin(x))
    expected = a * x + np.sin(x) + x * np.cos(x) + a * np.cos(x)
    np.testing.assert_allclose(dp.jacfwd(f)(x), expected, rtol=1e-12)
    np.testing.assert_allclose(dp.jacrev(f)(x), expected, rtol=1e-12)


def test_a_column_that_is_infinite_spoils_no_other(way):
    a = np.array([[1.0, np.inf], [2.0, 3.0]])
    np.testing.assert_array_equal(dp.jacfwd(way(lambda x: a @ x))(np.ones(2)), a)
