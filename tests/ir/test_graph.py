"""Nodes, graphs, traces and their prints."""

from __future__ import annotations

import pytest

import defnpy as dp
from defnpy.debug import InvalidGraph, difference, dot, show, verify
from defnpy.ir.aval import Aval
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.trace import tracing


def graph_of(function, *args):
    return dp.defn(function).expr(*args)


def test_a_node_is_immutable():
    node = graph_of(lambda x: dp.exp(x), dp.ones(3)).outputs[0]
    with pytest.raises(AttributeError, match="immutable"):
        node.aval = Aval((), node.dtype)
    with pytest.raises(AttributeError, match="immutable"):
        node.aval.shape = (1,)


def test_equal_nodes_are_one_node():
    graph = graph_of(lambda x, y: (x + y, x + y, y + x, dp.exp(x), dp.exp(x)), dp.ones(3), dp.ones(3))
    a, b, c, d, e = graph.outputs
    assert a is b and d is e and c is not a


def test_zero_and_minus_zero_are_two_numbers():
    graph = graph_of(lambda x: (x * 0.0, x * -0.0, x * float("nan"), x * float("nan")), dp.ones(3))
    a, b, c, d = graph.outputs
    assert a is not b and c is d


def test_prints_are_neither_merged_nor_dropped(capsys):
    f = dp.defn(lambda x: (dp.print_value(x, label="a"), dp.print_value(x, label="a"), x)[2])
    assert len(f.expr(1.0).effects) == 2
    f(1.0)
    assert capsys.readouterr().out == "a = 1.\na = 1.\n"


def test_prints_come_in_the_order_of_the_program(capsys):
    def f(x):
        y = dp.exp(x)
        dp.print_value(y, label="second")
        dp.print_value(x, label="first used, printed later")
        return dp.print_value(x @ x, label="last")

    for backend in ("cpu", "reference"):
        dp.defn(f, backend=backend)(dp.zeros(2))
        assert [line.split(" =")[0] for line in capsys.readouterr().out.splitlines()] == [
            "second",
            "first used, printed later",
            "last",
        ]


def test_the_gradient_of_a_very_deep_function():
    def deep(x):
        for _ in range(20_000):
            x = x + 1.0
        return x

    assert dp.grad(deep)(2.0).item() == 1.0


def test_verify_finds_an_open_graph():
    graph = graph_of(lambda x, y: x + y, 1.0, 2.0)
    with pytest.raises(InvalidGraph, match="not closed"):
        verify(Graph(graph.inputs[:1], graph.outputs))


def test_verify_finds_a_wrong_aval():
    graph = graph_of(lambda x: dp.exp(x), dp.ones(3))
    node = graph.outputs[0]
    wrong = Expr(node.op, node.args, node.params, Aval((4,), node.dtype), node.loc, node.trace)
    with pytest.raises(InvalidGraph, match=r"marked f32\[4\], but its operands give f32\[3\]"):
        verify(Graph(graph.inputs, [wrong]))


def test_verify_finds_a_cycle():
    graph = graph_of(lambda x: dp.exp(x), dp.ones(3))
    node = graph.outputs[0]
    loop = Expr(node.op, node.args, node.params, node.aval, node.loc, node.trace)
    object.__setattr__(loop, "args", (loop,))
    with pytest.raises(InvalidGraph, match="cycle"):
        verify(Graph(graph.inputs, [loop]))


def test_verify_finds_an_input_that_stands_twice():
    graph = graph_of(lambda x: dp.exp(x), dp.ones(3))
    with pytest.raises(InvalidGraph, match="twice"):
        verify(Graph(graph.inputs * 2, graph.outputs))


def test_the_listing():
    def f(params, x):
        return dp.tanh(x @ params["w"]) + params["b"]

    graph = graph_of(f, {"w": dp.ones((3, 2)), "b": dp.ones(2)}, dp.ones((4, 3)))
    assert show(graph).splitlines() == [
        "inputs:",
        "  params_b                                                       f32[2]",
        "  params_w                                                       f32[3,2]",
        "  x                                                              f32[4,3]",
        "let:",
        "  a = dot_general x params_w batch=((),()) contract=((1,),(0,))  f32[4,2]",
        "  b = tanh a                                                     f32[4,2]",
        "  c = add b params_b                                             f32[4,2]",
        "return c",
    ]
    assert repr(graph) == show(graph)


def test_the_users_line_on_request():
    graph = graph_of(lambda x: dp.exp(x) + 1, dp.ones(3))
    listing = show(graph, source=True)
    assert "test_graph.py" in listing and "dp.exp(x) + 1" in listing


def test_the_difference_of_two_graphs():
    one, two = graph_of(lambda x: dp.exp(x), dp.ones(3)), graph_of(lambda x: dp.log(x), dp.ones(3))
    assert difference(one, one) == ""
    assert "-  a = exp x" in difference(one, two) and "+  a = log x" in difference(one, two)


def test_the_drawing():
    text = dot(graph_of(lambda x: (dp.exp(x), x), dp.ones(3)))
    assert text.startswith("digraph {") and text.count("->") == 3 and text.endswith("}")


def test_inlining_copies_a_closed_graph():
    graph = graph_of(lambda x, y: dp.exp(x) * y, dp.ones(3), dp.ones(3))
    with tracing() as trace:
        a = trace.parameter(Aval((3,), dp.float32), "a")
        (out,) = trace.inline(graph, [a, a])
        closed = trace.graph([out])
    verify(closed)
    assert [n.op.name for n in closed.nodes()] == ["parameter", "exp", "multiply"]
