"""checkpoint, rules of the user's, and the marks on gradients: eagerly, compiled, in each other."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError, ShapeError, TreeError
from defnpy.ops.call import POLICIES
from defnpy.testing import GradientCheckError, check_grads

WAYS = {
    "eager": lambda f: f,
    "reference": lambda f: dp.defn(f, backend="reference"),
    "cpu": lambda f: dp.defn(f, backend="cpu"),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


X, W = np.array([0.5, -1.0, 2.0]), np.arange(9.0).reshape(3, 3) / 10


# -- checkpoint -----------------------------------------------------------------------------------------------------


def block(p, x):
    h = dp.tanh(p["w"] @ x)
    return {"h": h * dp.exp(-h * x), "positive": x > 0, "name": p["name"]}


def through(block):
    def loss(p, x):
        y = block(p, x)
        return dp.sum(block(p, y["h"])["h"] ** 2) + dp.sum(dp.where(y["positive"], y["h"], 0))

    return loss


@pytest.mark.parametrize("policy", POLICIES)
def test_a_checkpoint_changes_no_number(policy, way):
    args = {"w": W, "name": "block"}, X
    plain, again = through(block), through(dp.checkpoint(block, policy=policy))
    assert dp.checkpoint(block, policy=policy)(*args)["name"] == "block"
    np.testing.assert_allclose(way(again)(*args), plain(*args), rtol=1e-14)
    for derivative in (lambda f: dp.grad(f, 1), lambda f: dp.hessian(f, 1), lambda f: dp.jacfwd(f, 1)):
        np.testing.assert_allclose(derivative(way(again))(*args), derivative(plain)(*args), rtol=1e-12)
    third = lambda f: dp.grad(lambda x: dp.sum(dp.hessian(lambda x: f(args[0], x))(x)))(dp.asarray(X))  # noqa: E731
    np.testing.assert_allclose(third(again), third(plain), rtol=1e-11)


def test_a_checkpoint_in_a_checkpoint_and_in_a_batch(way):
    inner = dp.checkpoint(lambda x: dp.sin(dp.exp(x)))
    outer = dp.checkpoint(lambda x: dp.sum(inner(x) * dp.tanh(x)))
    plain = lambda x: dp.sum(dp.sin(dp.exp(x)) * dp.tanh(x))  # noqa: E731
    x = dp.asarray(W)
    np.testing.assert_allclose(dp.grad(way(outer))(x), dp.grad(plain)(x), rtol=1e-13)
    np.testing.assert_allclose(dp.vmap(dp.grad(way(outer)))(x), dp.grad(plain)(x), rtol=1e-13)
    np.testing.assert_allclose(dp.grad(way(lambda x: dp.sum(dp.vmap(outer)(x))))(x), dp.grad(plain)(x), rtol=1e-13)


def deep(policy, layers=8):
    def layer(w, x):
        z = x @ w
        return dp.tanh(z) * dp.sigmoid(z + 1) + dp.exp(-x * x)

    step = layer if policy is None else dp.checkpoint(layer, policy=policy)

    def loss(ws, x):
        for w in ws:
            x = step(w, x)
        return dp.sum(x * x)

    return dp.grad(dp.defn(loss, backend="cpu")), [dp.spec((16, 16))] * layers, dp.spec((512, 16))


def test_a_checkpoint_lowers_the_memory_that_explain_reports():
    """Eight layers: without, some four arrays of each are kept until the way back; with, its input alone."""
    size = 512 * 16 * 4

    def kept(policy):
        gradient, *args = deep(policy)
        return gradient.explain(*args).memory.temporaries / size

    assert abs(kept("everything") - kept(None)) <= 1 and kept(None) > 3.5 * 8
    assert 2 * 8 <= kept("dots") < 3 * 8 and kept("nothing") < 2 * 8


def test_recomputation_is_not_merged_with_what_was_computed_before():
    def counts(policy):
        gradient, *args = deep(policy, layers=3)
        names = [node.op.name for node in gradient.compile(*args).graph.nodes()]
        return names.count("dot_general"), names.count("tanh")

    assert counts("everything") == (3 + 5, 3)
    assert counts("dots") == (3 + 5, 6)
    assert counts("nothing") == (6 + 5, 6)


def test_an_effect_happens_once(capsys):
    f = dp.checkpoint(lambda x: dp.print_value(x * 2, label="twice") * x)
    assert dp.grad(dp.defn(f, backend="cpu"))(3.0).item() == 12.0
    assert capsys.readouterr().out == "twice = 6.\n"


def test_an_unknown_policy():
    with pytest.raises(GradientError, match="checkpoint: there is no policy 'all'"):
        dp.checkpoint(dp.sin, policy="all")


# -- custom_vjp -------------------------------------------------------------------------------------------------------


def pull(g, y, p, x, *, n=1):
    return {"w": dp.outer(g["y"], x) * n if hasattr(dp, "outer") else g["y"][:, None] * x * n, "k": None}, p["w"].T @ g[
        "y"
    ] * n


def linear(p, x, *, n=1):
    return {"y": p["w"] @ x * n, "sign": x > 0}


ruled = dp.custom_vjp(pull)(linear)


def test_a_rule_backwards_over_containers(way):
    p = {"w": W, "k": "text"}
    f = way(lambda p, x: dp.sum(dp.sin(ruled(p, x, n=2)["y"])))
    plain = lambda p, x: dp.sum(dp.sin(linear(p, x, n=2)["y"]))  # noqa: E731
    found, expected = dp.grad(f, (0, 1))(p, X), dp.grad(plain, (0, 1))(p, X)
    np.testing.assert_allclose(found[0]["w"], expected[0]["w"], rtol=1e-13)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-13)
    np.testing.assert_allclose(dp.hessian(f, 1)(p, X), dp.hessian(plain, 1)(p, X), rtol=1e-13)
    np.testing.assert_allclose(dp.jacfwd(f, 1)(p, X), expected[1], rtol=1e-13)
    batch = dp.asarray(np.stack([X, 2 * X]))
    np.testing.assert_allclose(
        dp.vmap(dp.grad(f, 1), in_axes=(None, 0))(p, batch), dp.vmap(dp.grad(plain, 1), in_axes=(None, 0))(p, batch)
    )


def test_the_rule_and_nothing_else_is_followed(way):
    f = dp.custom_vjp(lambda g, y, x: 10 * g * y)(lambda x: x * x)
    assert float(f(3.0)) == 9.0
    assert dp.grad(way(lambda x: f(x)))(3.0).item() == 90.0
    assert dp.grad(dp.grad(way(lambda x: f(x))))(3.0).item() == 10 * 90.0  # y has the rule's derivative, too
    assert dp.jvp(way(lambda x: f(x)), (3.0,), (1.0,))[1].item() == 90.0


def test_what_rule_and_function_share_is_computed_once():
    f = dp.custom_vjp(lambda g, y, x: g * dp.cos(dp.exp(x)) * dp.exp(x))(lambda x: dp.sin(dp.exp(x)))
    graph = dp.value_and_grad(dp.defn(lambda x: f(x), backend="cpu")).compile(1.0).graph
    assert [node.op.name for node in graph.nodes()].count("exp") == 1


def test_arguments_without_a_derivative(way):
    def scaled(g, y, function, x, times):
        return g * dp.grad(lambda v: dp.sum(function(v)))(x) * times

    f = dp.custom_vjp(scaled, nondiff_argnums=(0, 2), verify_with=[dp.sin, dp.asarray(X), 3])(
        lambda function, x, times: function(x) * times
    )
    np.testing.assert_allclose(
        dp.grad(way(lambda x: dp.sum(f(dp.sin, x, 3))))(dp.asarray(X)), 3 * np.cos(X), rtol=1e-14
    )
    index = dp.asarray([2, 0])
    take = dp.custom_vjp(lambda g, y, x, i: dp.zeros(3).at[i].add(g), nondiff_argnums=-1)(lambda x, i: x[i])
    assert dp.grad(way(lambda x, i: dp.sum(take(x, i))))(dp.ones(3), index).tolist() == [1.0, 0.0, 1.0]


# -- custom_jvp -------------------------------------------------------------------------------------------------------


def push(tangents, y, p, x):
    dp_, dx = tangents
    return {"y": dp_["w"] @ x + p["w"] @ dx, "sign": None}


def test_a_rule_forwards_and_its_transpose(way):
    f = dp.custom_jvp(push)(lambda p, x: {"y": p["w"] @ x, "sign": x > 0})
    p = {"w": W}
    loss = way(lambda p, x: dp.sum(dp.sin(f(p, x)["y"])))
    plain = lambda p, x: dp.sum(dp.sin(p["w"] @ x))  # noqa: E731
    np.testing.assert_allclose(dp.grad(loss)(p, X)["w"], dp.grad(plain)(p, X)["w"], rtol=1e-13)
    np.testing.assert_allclose(dp.hessian(loss, 1)(p, X), dp.hessian(plain, 1)(p, X), rtol=1e-13)
    np.testing.assert_allclose(dp.jvp(loss, (p, X), ({"w": W}, None))[1], dp.jvp(plain, (p, X), ({"w": W}, None))[1])
    batch = dp.asarray(np.stack([X, 2 * X]))
    per = dp.vmap(dp.grad(loss, 1), in_axes=(None, 0))(p, batch)
    np.testing.assert_allclose(per, dp.vmap(dp.grad(plain, 1), in_axes=(None, 0))(p, batch), rtol=1e-13)


def test_a_rule_forwards_that_is_not_linear_cannot_go_backwards():
    f = dp.custom_jvp(lambda tangents, y, x: tangents[0] ** 2)(lambda x: x)
    assert dp.jvp(f, (1.0,), (3.0,))[1].item() == 9.0
    with pytest.raises(GradientError, match="custom_jvp: the rule is not linear in the tangents"):
        dp.grad(f)(1.0)


# -- verification and errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("register", "rule"),
    [
        (dp.custom_vjp, lambda g, y, x: g * dp.sin(x)),
        (dp.custom_vjp, lambda g, y, x: dp.cos(x)),
        (dp.custom_vjp, lambda g, y, x: g * dp.stop_grad(dp.cos(x))),
        (dp.custom_jvp, lambda t, y, x: t[0] * dp.sin(x)),
        (dp.custom_jvp, lambda t, y, x: t[0] * dp.stop_grad(dp.cos(x))),
    ],
)
def test_a_wrong_rule_is_refused_where_it_is_registered(register, rule):
    with pytest.raises(GradientCheckError, match=r"(?s)the derivative of order .* numerical .* automatic"):
        register(rule, verify_with=[dp.asarray(X)])(lambda x: dp.sin(x))
    check_grads(register(lambda g, y, x: (g[0] if isinstance(g, tuple) else g) * dp.cos(x))(dp.sin), [dp.asarray(X)])


def test_a_rule_that_is_not_linear_is_refused_as_well():
    with pytest.raises(
        (GradientCheckError, GradientError), match=r"the derivative of order 1|not linear in the cotangent"
    ):
        dp.custom_vjp(lambda g, y, x: g * g * dp.cos(x), verify_with=[dp.asarray(X)])(dp.sin)


def test_a_rule_that_returns_another_container():
    f = dp.custom_vjp(lambda g, y, p: {"a": g})(lambda p: p["a"] * p["b"])
    with pytest.raises(TreeError, match="custom_vjp: the rule of <lambda> returns another structure"):
        dp.grad(f)({"a": 1.0, "b": 2.0})


def test_a_rule_that_returns_something_else():
    cases = [
        (lambda g, y, x: (g, g), GradientError, "the rule of f gives 2 cotangents for 1 arguments"),
        (lambda g, y, x: g[:1], GradientError, r"the rule of f returns f64\[1\], where f64\[3\] is wanted"),
        (lambda g, y, x: [g, g], GradientError, r"the rule of f returns list, where f64\[3\] is wanted"),
        (lambda g, y, x: (), GradientError, "the rule of f gives 0 cotangents for 1 arguments"),
    ]
    for rule, error, message in cases:

        @dp.custom_vjp(rule)
        def f(x):
            return x * 2

        assert f(X).tolist() == (2 * X).tolist()
        with pytest.raises(error, match=message):
            dp.grad(lambda x, f=f: dp.sum(f(x)))(dp.asarray(X))


def test_a_traced_value_from_around_is_refused(way):
    def f(x):
        scale = x * 2
        inner = dp.custom_vjp(lambda g, y, v: g)(lambda v: v * scale)
        return inner(x)

    with pytest.raises(GradientError, match="reads the traced value"):
        dp.grad(way(f))(1.0)


# -- marks ------------------------------------------------------------------------------------------------------------


def test_gradients_are_scaled_and_clipped(way):
    x = dp.asarray(X)
    assert dp.grad(way(lambda x: dp.sum(dp.scale_grad(x, factor=-2) ** 2)))(x).tolist() == (-4 * X).tolist()
    clipped = dp.grad(way(lambda x: dp.sum(dp.clip_grad(x, low=-1, high=0.5) ** 2)))(x)
    assert clipped.tolist() == np.clip(2 * X, -1, 0.5).tolist()
    assert way(lambda x: dp.clip_grad(dp.scale_grad(x, factor=3), low=0, high=0))(x).tolist() == X.tolist()
    assert dp.jvp(way(lambda x: dp.scale_grad(x, factor=3)), (x,), (x,))[1].tolist() == (3 * X).tolist()
    assert dp.jvp(way(lambda x: dp.clip_grad(x, low=0, high=0)), (x,), (x,))[1].tolist() == X.tolist()
    second = dp.grad(lambda x: dp.sum(dp.grad(way(lambda x: dp.sum(dp.clip_grad(x, low=-1, high=2) ** 3)))(x)))(x)
    assert second.tolist() == [2.0, 0.0, 0.0]  # 6 * 0.5, limited on its way back as well


def test_nothing_lies_between_wrong_bounds():
    with pytest.raises(ShapeError, match="there is nothing between low = 1 and high = 0"):
        dp.clip_grad(dp.ones(2), low=1, high=0)


# -- static arguments -------------------------------------------------------------------------------------------------


@dp.custom_vjp(lambda g, y, x, n: g * n * x ** (n - 1), nondiff_argnums=1)
def repeated(x, n):
    y = x
    for _ in range(n - 1):
        y = y * x
    return y


def test_numbers_among_arguments_without_a_derivative_are_static(way):
    np.testing.assert_allclose(dp.grad(way(lambda x: dp.sum(repeated(x, 3))))(X), 3 * X**2, rtol=1e-15)
    np.testing.assert_allclose(dp.vmap(dp.grad(way(lambda x: repeated(x, 3))))(X), 3 * X**2, rtol=1e-15)
    np.testing.assert_allclose(dp.hessian(way(lambda x: dp.sum(repeated(x, n=3))))(X), np.diag(6 * X), rtol=1e-15)
    value, tangent = dp.jvp(way(lambda x: repeated(n=3, x=x)), (X,), (X,))
    np.testing.assert_allclose(value, X**3, rtol=1e-15)
    np.testing.assert_allclose(tangent, 3 * X**3, rtol=1e-15)
    looped = way(lambda x: dp.scan(lambda c, _: (repeated(c, 2), None), x, None, 3)[0])
    np.testing.assert_allclose(dp.grad(looped)(1.1), 8 * 1.1**7, rtol=1e-6)


def test_a_tensor_without_a_derivative_is_traced_all_the_same(way):
    masked = dp.custom_vjp(lambda g, y, x, m: g * m, nondiff_argnums=1)(lambda x, m: x * m)
    found = dp.grad(way(lambda x, m: dp.sum(masked(x, m))), argnums=(0, 1))(X, X + 1)
    np.testing.assert_array_equal(found[0], X + 1)
    assert not np.any(found[1])


@pytest.mark.parametrize("decorator", [dp.custom_vjp, dp.custom_jvp])
def test_a_rule_used_as_a_function_is_refused(decorator):
    with pytest.raises(GradientError, match=f"is a float, not a function(.|\n)*@dp.{decorator.__name__}\\(rule\\)"):
        decorator(lambda x: x)(2.0)
    with pytest.raises(GradientError, match="nondiff_argnums names arguments by number, not by 'n'"):
        decorator(lambda g, y, x, n: g, nondiff_argnums="n")


def test_checkpoint_with_a_policy_is_a_decorator(way):
    @dp.checkpoint(policy="dots")
    def wave(x):
        return dp.sum(dp.sin(W @ x))

    np.testing.assert_allclose(dp.grad(way(wave))(X), W.T @ np.cos(W @ X), rtol=1e-14)


def test_marks_of_containers(way):
    p = {"x": X, "f": dp.sin, "n": None}
    loss = lambda mark: way(lambda p: dp.sum(mark(p)["x"] * p["x"]))  # noqa: E731
    np.testing.assert_array_equal(dp.grad(loss(dp.stop_grad))(p)["x"], X)
    np.testing.assert_array_equal(dp.grad(loss(lambda p: dp.scale_grad(p, factor=-3.0)))(p)["x"], -2 * X)
    np.testing.assert_array_equal(dp.grad(loss(lambda p: dp.clip_grad(p, low=0, high=1)))(p)["x"], X + np.clip(X, 0, 1))
    assert dp.stop_grad(p)["f"] is dp.sin
