"""vmap: axes of arguments and results, containers, nesting, other transformations, keys, ops of several results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.aval import Aval
from defnpy.ir.expr import Graph
from defnpy.ir.op import REGISTRY, Op
from defnpy.ops.families import special
from defnpy.transforms.vmap import batched_graph

RNG = np.random.default_rng(5)
X = dp.asarray(RNG.standard_normal((4, 3)))
W = dp.asarray(RNG.standard_normal((3, 2)))
WAYS = {
    "eager": lambda f: f,
    "of a defn": lambda f: dp.defn(f, backend="cpu"),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param]


def close(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def layer(p: Any, x: Any) -> Any:
    return {"h": dp.tanh(x @ p["W"] + p["b"]), "norm": dp.sum(p["W"] ** 2)}


P = {"W": W, "b": dp.asarray(RNG.standard_normal(2))}


def test_axes_of_containers_and_results(way: Any) -> None:
    found = dp.vmap(way(layer), in_axes=(None, 0))(P, X)
    close(found["h"], np.stack([layer(P, x)["h"] for x in X]))
    close(found["norm"], np.full(4, np.asarray(dp.sum(W**2))))  # the same for all, and repeated

    many = {"W": dp.stack([W, 2 * W]), "b": P["b"]}
    found = dp.vmap(way(layer), in_axes=({"W": 0, "b": None}, None), out_axes={"h": -1, "norm": 0})(many, X)
    expected = [layer({"W": w, "b": P["b"]}, X) for w in many["W"]]
    close(found["h"], np.stack([e["h"] for e in expected], axis=-1))
    close(found["norm"], np.stack([e["norm"] for e in expected]))

    found = dp.vmap(way(layer), in_axes=(None, -1), out_axes={"h": 1, "norm": None})(P, X.T)
    close(found["h"], np.stack([layer(P, x)["h"] for x in X], axis=1))
    close(found["norm"], dp.sum(W**2))


def test_of_a_function_inside_of_a_defn_and_around_one() -> None:
    expected = np.stack([np.asarray(dp.sum(layer(P, x)["h"])) for x in X])

    def total(p, x):
        return dp.sum(layer(p, x)["h"])

    inside = dp.defn(lambda p, xs: dp.vmap(total, in_axes=(None, 0))(p, xs), backend="cpu")
    captured = dp.defn(lambda xs: dp.vmap(lambda x: total(P, x))(xs), backend="cpu")
    close(inside(P, X), expected)
    close(captured(X), expected)
    around = dp.vmap(dp.defn(total, backend="cpu"), in_axes=(None, 0))
    close(around(P, X), expected)
    close(around(P, X), expected)
    assert around.cache_info()[:2] == (1, 1)


def test_leaves_that_are_no_tensors_and_static_options_are_handed_through(way: Any) -> None:
    def f(p, *, scale=1.0):
        return {"y": p["act"](p["x"]) * scale, "name": p["name"], "none": None}

    found = dp.vmap(way(f))({"act": dp.exp, "x": X, "name": "a"}, scale=2.0)
    close(found["y"], 2 * np.exp(X))
    assert found["name"] == "a" and found["none"] is None


def test_nested_it_maps_over_two_axes(way: Any) -> None:
    table = dp.vmap(dp.vmap(way(lambda a, b: a * b + dp.sum(b)), (None, 0)), (0, None))
    a, b = dp.asarray([1.0, 2.0]), dp.asarray([[1.0, 3.0], [5.0, 7.0], [2.0, 4.0]])
    close(table(a, b), np.asarray(a)[:, None, None] * np.asarray(b) + np.sum(b, axis=1)[:, None])
    close(dp.vmap(dp.vmap(way(dp.sin), in_axes=1, out_axes=1))(dp.stack([X, X])), np.sin(np.stack([X, X])))


def test_with_grad_in_any_order(way: Any) -> None:
    def loss(w, x):
        return dp.sum(dp.tanh(x @ w) ** 2)

    one = dp.grad(loss)
    close(dp.vmap(dp.grad(way(loss)), (None, 0))(W, X), np.stack([one(W, x) for x in X]))
    whole = dp.grad(way(lambda w: dp.sum(dp.vmap(loss, (None, 0))(w, X))))
    close(whole(W), np.sum([np.asarray(one(W, x)) for x in X], axis=0))

    def curvature(w, x, d):  # a derivative of a batch of derivatives, along the batch d
        return dp.sum(dp.vmap(lambda v: dp.sum(dp.grad(loss)(w, x) * v))(d))

    directions = dp.asarray(RNG.standard_normal((5, 3, 2)))
    x = X[0]
    found = dp.vmap(dp.grad(way(curvature)), (None, None, 0))(W, x, directions[:, None])
    by_hand = [dp.grad(lambda w, v=v: dp.sum(dp.grad(loss)(w, x) * v))(W) for v in directions]
    close(found, np.stack(by_hand))


def test_with_every_other_transformation(way: Any) -> None:
    """Each of them of one example, in a loop and under vmap; and of the whole batch."""

    def f(x):
        return dp.tanh(x @ W) * dp.sum(x**2)

    def scalar(x):
        return dp.sum(f(x) ** 2)

    v, c = dp.asarray(RNG.standard_normal(3)), dp.asarray(RNG.standard_normal(2))
    one: dict[str, Any] = {
        "jvp": lambda g: lambda x: dp.jvp(g(f), (x,), (v,))[1],
        "vjp": lambda g: lambda x: dp.vjp(g(f), x)[1](c)[0],
        "jacfwd": lambda g: dp.jacfwd(g(f)),
        "jacrev": lambda g: dp.jacrev(g(f)),
        "hessian": lambda g: dp.hessian(g(scalar)),
        "hvp": lambda g: lambda x: dp.hvp(g(scalar), (x,), (v,))[0],
    }
    for name, make in one.items():
        expected = np.stack([np.asarray(make(lambda g: g)(x)) for x in X])
        np.testing.assert_allclose(dp.vmap(make(way))(X), expected, rtol=1e-11, atol=1e-12, err_msg=name)

    batch = dp.vmap(way(f))
    tangents = dp.asarray(RNG.standard_normal(X.shape))
    close(
        dp.jvp(batch, (X,), (tangents,))[1],
        np.stack([dp.jvp(f, (x,), (t,))[1] for x, t in zip(X, tangents, strict=True)]),
    )
    block = np.asarray(dp.jacobian(batch)(X))  # examples do not meet: blocks on the diagonal
    for i, x in enumerate(X):
        close(block[i, :, i], dp.jacobian(f)(x))
        assert not np.delete(block[i], i, axis=1).any()


def test_every_key_has_its_own_stream(way: Any) -> None:
    keys = dp.random.split(dp.random.key(3), 5)

    def draw(key):
        first, second = dp.random.split(key)[0], dp.random.fold_in(key, 7)
        return dp.random.bits(first, (3,)), dp.random.normal(second, (2,)), dp.random.randint(key, (2,), 0, 9)

    found = dp.vmap(way(draw))(keys)
    for column, expected in zip(found, zip(*[way(draw)(k) for k in keys], strict=True), strict=True):
        np.testing.assert_array_equal(column, np.stack([np.asarray(e) for e in expected]))


def test_no_examples_and_one(way: Any) -> None:
    assert dp.vmap(way(layer), (None, 0))(P, X[:0])["h"].shape == (0, 2)
    close(dp.vmap(way(layer), (None, 0))(P, X[:1])["h"], np.asarray(layer(P, X[0])["h"])[None])


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: dp.while_loop(lambda x: x < 5.0, lambda x: x * x + 1.0, x), ()),
        (lambda x: dp.fori_loop(0, dp.asarray(x, dtype="int64"), lambda i, x: x * x, x), ()),
        (lambda x: dp.sum(dp.conv(x, np.ones((1, 1, 2))) ** 2), (1, 1, 4)),
        (lambda w: dp.sum(dp.conv(np.ones((1, 1, 4)), w) ** 2), (1, 1, 2)),
        (lambda x: dp.sum(dp.conv(x, x) ** 2), (1, 1, 4)),
    ],
    ids=["while", "fori", "conv", "kernel", "both"],
)
def test_gradients_of_no_examples(way: Any, function: Any, shape: tuple[int, ...]) -> None:
    none = np.zeros((0, *shape))
    assert dp.vmap(way(dp.grad(function)))(none).shape == none.shape
    assert way(dp.grad(lambda x: dp.sum(dp.vmap(function)(x))))(none).shape == none.shape


def test_axis_size_without_a_mapped_argument(way: Any) -> None:
    close(dp.vmap(way(lambda x: x + 1), in_axes=None, axis_size=3)(W), np.stack([np.asarray(W) + 1] * 3))


def test_what_no_example_enters_is_computed_once() -> None:
    graph = dp.defn(dp.vmap(lambda x: x + dp.exp(W))).expr(dp.ones((5, 3, 2)))
    (exp,) = [node for node in graph.nodes() if node.op.name == "exp"]
    assert exp.shape == W.shape


def test_prints_show_the_whole_batch(capsys: pytest.CaptureFixture[str]) -> None:
    dp.vmap(lambda x: dp.print_value(x, label="x"))(dp.asarray([1.0, 2.0]))
    assert capsys.readouterr().out == "x = [1., 2.]\n"


# -- ops of several results, and ops that run graphs ------------------------------------------------------------------


@pytest.fixture
def split_in_two() -> Iterator[Op]:
    def halves(x, /):
        return x[: len(x) // 2], x[len(x) // 2 :]

    op = special(
        family="library",
        infer=lambda x: (Aval((x.shape[0] // 2,), x.dtype), Aval((x.shape[0] - x.shape[0] // 2,), x.dtype)),
        vjp=None,
        not_differentiable="not asked",
        loops="a test of the loop",
        cases=[],
    )(halves)
    yield op
    del REGISTRY[op.name]


def test_several_results_one_example_after_the_other(split_in_two: Op) -> None:
    for size in (0, 4):
        first, second = dp.vmap(lambda x: split_in_two(2 * x))(X[:size])
        close(first, 2 * np.asarray(X)[:size, :1])
        close(second, 2 * np.asarray(X)[:size, 1:])


def test_a_rule_asks_its_driver_to_batch_a_graph() -> None:
    def rule(batched: Any, x: Any, *, body: Graph, ctx: Any) -> Any:
        inner, (given,) = ctx.batch_of(body, batched, x.shape[0])
        assert given
        return runs_graph_too(x, body=inner)

    def body_of_the_op(x, /, *, body):
        from defnpy.backends.reference import evaluate

        return evaluate(body, [x])[0]

    body_of_the_op.__name__ = "runs_graph_too"
    runs_graph_too = special(
        family="library",
        infer=lambda x, *, body: body.outputs[0].aval,
        vjp=None,
        not_differentiable="not asked",
        graphs=("body",),
        batch=rule,
        cases=[],
    )(body_of_the_op)
    try:
        body = dp.defn(lambda x: dp.sum(x) * x).expr(X[0])
        found = dp.vmap(lambda x: runs_graph_too(x, body=body) + 1)(X)
        close(found, np.asarray(X) * np.sum(X, axis=1, keepdims=True) + 1)
    finally:
        del REGISTRY["runs_graph_too"]


def test_outputs_that_have_to_be_batched_are_repeated() -> None:
    graph = dp.defn(lambda x, y: (x + 1, y * 2)).expr(X[0], W)
    made, given = batched_graph(graph, (True, False), 4)
    assert given == [True, False] and [str(n.aval) for n in made.outputs] == ["f64[4,3]", "f64[3,2]"]
    made, given = batched_graph(graph, (True, False), 4, outputs=(False, True))
    assert given == [True, True] and [str(n.aval) for n in made.outputs] == ["f64[4,3]", "f64[4,3,2]"]


def test_an_argument_given_by_name_is_mapped_like_any_other(way: Any) -> None:
    f = way(lambda x, y: dp.sum(x * y))
    close(dp.vmap(f)(X, y=X), np.sum(np.asarray(X) ** 2, axis=1))
    close(dp.vmap(f, in_axes=(0, None))(y=X[0], x=X), np.asarray(X) @ np.asarray(X[0]))
