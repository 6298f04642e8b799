"""Ops with several results, and ops that run graphs: what every walk over a graph makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.debug import InvalidGraph, show, verify
from defnpy.ir.aval import Aval, Avals
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.op import REGISTRY, Case, Op
from defnpy.ops.families import special
from defnpy.testing import check_grads

BACKENDS = ("cpu", "reference")


def _rule(g: Any, y: Any, x: Any) -> tuple[Any]:
    parts = [a * b for a, b in zip(g, (y[1], -y[0]), strict=True) if a is not None]
    return (sum(parts[1:], parts[0]),)


@pytest.fixture
def circular() -> Iterator[Op]:
    """sin and cos of x, and which of them is larger: three results of two dtypes."""

    def sine_and_cosine(x, /):
        return np.sin(x), np.cos(x), np.sin(x) > np.cos(x)

    op = special(
        family="library",
        infer=lambda x: (x, x, Aval(x.shape, np.dtype(bool))),
        vjp=_rule_with_flat,
        cases=[Case(lambda rng, dtype: [rng.standard_normal((2, 3)).astype(dtype)])],
    )(sine_and_cosine)
    yield op
    del REGISTRY[op.name]


def _rule_with_flat(g: Any, y: Any, x: Any) -> tuple[Any]:
    assert g[2] is None  # booleans have no cotangent
    return _rule(g[:2], y[:2], x)


@pytest.fixture
def runs() -> Iterator[Op]:
    """An op that runs a graph of one input and one output."""

    def runs_graph(x, /, *, body):
        from defnpy.backends.reference import evaluate

        return evaluate(body, [x])[0]

    op = special(
        family="library",
        infer=lambda x, *, body: body.outputs[0].aval,
        vjp=None,
        not_differentiable="not asked",
        graphs=("body",),
        cases=[],
    )(runs_graph)
    yield op
    del REGISTRY[op.name]


X = dp.asarray([0.1, 0.5, 2.0], dtype="float64")


def test_a_call_gives_a_tuple_everywhere(circular: Op) -> None:
    s, c, larger = circular(X)
    np.testing.assert_array_equal(s, np.sin(X))
    for backend in BACKENDS:
        found = dp.defn(lambda x: circular(x), backend=backend)(X)
        assert isinstance(found, tuple)
        for a, b in zip(found, (s, c, larger), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_results_that_nobody_uses_are_not_returned(circular: Op) -> None:
    for backend in BACKENDS:
        f = dp.defn(lambda x: 2 * circular(x)[1] + x, backend=backend)
        np.testing.assert_allclose(f(X), 2 * np.cos(X) + np.asarray(X), rtol=1e-15)


def test_equal_calls_are_one_node_and_print_with_all_their_avals(circular: Op) -> None:
    def f(x):
        return circular(x)[0] * circular(x)[1]

    assert show(dp.defn(f).expr(X)) == "\n".join(
        [
            "inputs:",
            "  x                      f64[3]",
            "let:",
            "  a = sine_and_cosine x  (f64[3], f64[3], bool[3])",
            "  b = item a index=0     f64[3]",
            "  c = item a index=1     f64[3]",
            "  d = multiply b c       f64[3]",
            "return d",
        ]
    )


def test_results_feed_kernels_and_calls(circular: Op) -> None:
    """A kernel before, two calls in a row, a kernel behind that reads both."""

    def f(x):
        s, c, _ = circular(x * 2.0)
        t, d, larger = circular(c + s)
        return dp.where(larger, t, d) * s

    expected = dp.defn(f, backend="reference")(X)
    np.testing.assert_allclose(dp.defn(f, backend="cpu")(X), expected, rtol=1e-14)


def test_cotangents_of_the_results_meet_at_the_node(circular: Op) -> None:
    for f in (
        lambda x: circular(x)[0],
        lambda x: circular(x)[1],
        lambda x: circular(x)[0] * dp.exp(circular(x)[1]),
        lambda x: dp.where(circular(x)[2], x, x * circular(x)[1]),
    ):
        check_grads(f, [X], order=2)
        eager = dp.grad(lambda x, f=f: dp.sum(f(x)))(X)
        compiled = dp.grad(dp.defn(lambda x, f=f: dp.sum(f(x)), backend="cpu"))(X)
        np.testing.assert_allclose(compiled, eager, rtol=1e-14)


def test_avals_are_interned_and_have_no_shape() -> None:
    part = Aval((2,), np.dtype("float32"))
    assert Avals((part, part)) is Avals((part, part)) and str(Avals((part, part))) == "(f32[2], f32[2])"
    with pytest.raises(AttributeError):
        _ = Avals((part,)).shape


def test_verify_refuses_a_node_of_several_results_as_one(circular: Op) -> None:
    graph = dp.defn(lambda x: circular(x)[0]).expr(X)
    (item,) = graph.outputs
    node = item.args[0]
    with pytest.raises(InvalidGraph, match="the graph returns sine_and_cosine, which has several results"):
        verify(Graph(graph.inputs, [node]))
    reader = Expr(REGISTRY["exp"], (node,), (), item.aval, None, item.trace)
    with pytest.raises(InvalidGraph, match="exp reads sine_and_cosine, which has several results"):
        verify(Graph(graph.inputs, [reader]))


def test_graphs_in_nodes_are_printed_verified_and_rewritten(runs: Op) -> None:
    body = dp.defn(lambda x: dp.exp(x) * 1.0).expr(X)
    f = dp.defn(lambda x: runs(x, body=body))
    assert show(f.expr(X)).split("\n") == [
        "inputs:",
        "  x                         f64[3]",
        "let:",
        "  a = runs_graph x          f64[3]",
        "    body:",
        "      inputs:",
        "        x                   f64[3]",
        "      let:",
        "        a = exp x           f64[3]",
        "        b = multiply a 1.0  f64[3]",
        "      return b",
        "return a",
    ]
    optimized = f.compile(X).graph
    (inner,) = [graph for node in optimized.nodes() for name, graph in node.params if name == "body"]
    assert [node.op.name for node in inner.nodes()] == ["parameter", "exp"]
    np.testing.assert_allclose(f(X), np.exp(X), rtol=1e-15)
    broken = Graph((), body.outputs)
    node = Expr(
        runs, (f.expr(X).inputs[0],), (("body", broken),), body.outputs[0].aval, None, f.expr(X).outputs[0].trace
    )
    with pytest.raises(InvalidGraph, match="in body of runs_graph: the graph is not closed"):
        verify(Graph(node.args, [node]))


def test_a_node_has_the_effects_of_the_graph_that_it_runs(runs: Op, capsys: pytest.CaptureFixture[str]) -> None:
    body = dp.defn(lambda x: dp.print_value(x, label="seen")).expr(1.0)
    f = dp.defn(lambda x: (runs(x, body=body), runs(x, body=body), x)[2])
    assert len(f.expr(1.0).effects) == 2
    f(1.0)
    assert capsys.readouterr().out == "seen = 1.\nseen = 1.\n"
