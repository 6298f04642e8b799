"""The parts of the IR one by one: avals, numbers, orders, names, traces; and graphs of any depth."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.debug import InvalidGraph, difference, dot, show, verify
from defnpy.errors import LeakError
from defnpy.ir.aval import Aval
from defnpy.ir.expr import Expr, Graph, topological
from defnpy.ir.op import REGISTRY, Literal
from defnpy.ir.show import letters, names
from defnpy.ir.trace import current, tracing
from defnpy.passes import pipeline
from defnpy.passes.simplify import simplify

F32 = np.dtype("float32")


# -- avals and numbers ----------------------------------------------------------------------------------------------


def test_avals_are_values() -> None:
    a, b = Aval((2, 3), F32), Aval((2, 3), np.dtype("<f4"))
    assert a == b and hash(a) == hash(b)
    others = [Aval((3, 2), F32), Aval((2, 3), np.dtype("float64")), Aval((2, 3), F32, weak=True), Aval((), F32)]
    assert all(a != other for other in others)
    assert a != "f32[2,3]"
    assert [str(x) for x in (a, others[2], others[3])] == ["f32[2,3]", "f32~[2,3]", "f32[]"]


@pytest.mark.parametrize("name", ["shape", "dtype", "weak", "_hash", "anything"])
def test_avals_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError, match=f"cannot set '{name}'"):
        setattr(Aval((), F32), name, 0)


@pytest.mark.parametrize("name", ["op", "args", "params", "aval", "loc", "trace", "anything"])
def test_nodes_cannot_be_changed(name: str) -> None:
    node = dp.defn(lambda x: -x).expr(1.0).outputs[0]
    with pytest.raises(AttributeError):
        setattr(node, name, None)
    with pytest.raises(TypeError):
        node.args[0] = node


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_told_apart_by_their_bits(dtype: str) -> None:
    kind = np.dtype(dtype).type
    assert Literal(kind(0.0)) != Literal(kind(-0.0))
    assert Literal(kind("nan")) == Literal(kind("nan"))
    assert hash(Literal(kind("nan"))) == hash(Literal(kind("nan")))
    assert Literal(np.float32(1)) != Literal(np.float64(1)) != Literal(np.int64(1))
    assert Literal(kind(1)) != 1


def test_a_hidden_nan_payload_is_a_number_of_its_own() -> None:
    quiet, other = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    assert Literal(quiet) != Literal(other)


# -- interning ------------------------------------------------------------------------------------------------------


def test_interning_looks_at_op_operands_and_parameters() -> None:
    def function(x: Any) -> Any:
        return (
            dp.sum(x, axis=0),
            dp.sum(x, axis=(0,)),
            dp.sum(x, axis=1),
            dp.sum(x, axis=0, keepdims=True),
            dp.max(x, axis=0),
        )

    a, b, c, d, e = dp.defn(function).expr(dp.ones((2, 2))).outputs
    assert a is b
    assert len({a, c, d, e}) == 4


def test_equal_computations_of_different_lines_are_one() -> None:
    def function(x: Any) -> Any:
        y = dp.exp(x)
        z = dp.exp(x)
        return y, z

    y, z = dp.defn(function).expr(dp.ones(2)).outputs
    assert y is z


def test_equal_inputs_are_two() -> None:
    graph = dp.defn(lambda x, y: x + y).expr(dp.ones(2), dp.ones(2))
    assert graph.inputs[0] is not graph.inputs[1]


def test_nodes_of_two_traces_are_two() -> None:
    one, two = (dp.defn(lambda x: -x).expr(1.0).outputs[0] for _ in range(2))
    assert one is not two and one.trace is not two.trace


def test_a_value_from_outside_is_one_input_however_often_it_is_used() -> None:
    outside = dp.asarray([1.0, 2.0])
    graph = dp.defn(lambda x: x * outside + outside).expr(dp.ones(2))
    assert graph.names == ("x", "captured0")


# -- traces ---------------------------------------------------------------------------------------------------------


def test_traces_are_the_threads_own() -> None:
    seen: list[Any] = []
    with tracing() as trace:
        assert current() is trace
        thread = threading.Thread(target=lambda: seen.append((current(), dp.add(1.0, 2.0))))
        thread.start()
        thread.join()
    assert current() is None
    ((other, total),) = seen
    assert other is None
    assert isinstance(total, dp.Tensor) and total.item() == 3.0


def test_an_inner_trace_takes_nodes_of_the_outer_one_as_inputs() -> None:
    with tracing() as outer:
        x = outer.parameter(Aval((2,), F32), "x")
        with tracing() as inner:
            y = dp.exp(x)
            assert y.trace is inner
            graph = inner.graph([y])
        z = outer.inline(graph, [x])[0]
        assert z.trace is outer and z.args == (x,)
    assert graph.inputs[0] is not x and graph.names == ("captured0",)


def test_a_node_of_a_closed_trace_is_refused() -> None:
    with tracing() as trace:
        x = trace.parameter(Aval((), F32), "x")
        y = dp.exp(x)
    with pytest.raises(LeakError, match="used after the function that made it has returned"):
        dp.add(y, 1.0)
    with tracing(), pytest.raises(LeakError):
        dp.add(y, 1.0)


def test_an_error_closes_the_trace() -> None:
    with pytest.raises(ZeroDivisionError), tracing() as trace:
        raise ZeroDivisionError
    assert current() is None and not trace.open


# -- orders ---------------------------------------------------------------------------------------------------------


def diamond() -> Graph:
    return dp.defn(lambda x: dp.exp(x) * dp.sin(x) + dp.exp(x)).expr(dp.ones(2))


def test_operands_stand_before_their_users_and_every_node_once() -> None:
    graph = diamond()
    nodes = graph.nodes()
    place = {node: i for i, node in enumerate(nodes)}
    assert len(place) == len(nodes) == 5
    assert all(place[arg] < place[node] for node in nodes for arg in node.args)
    assert [node.op.name for node in nodes] == ["parameter", "exp", "sin", "multiply", "add"]
    assert topological([]) == []


def test_users() -> None:
    graph = diamond()
    x, exp, sin, product, total = graph.nodes()
    assert graph.users() == {x: [exp, sin], exp: [product, total], sin: [product], product: [total], total: []}


def test_an_operand_used_twice_has_one_user() -> None:
    graph = dp.defn(lambda x: x * x).expr(dp.ones(2))
    assert graph.users()[graph.inputs[0]] == [graph.outputs[0]]


def test_unused_inputs_are_no_nodes_but_stay_inputs() -> None:
    graph = dp.defn(lambda x, y: -y).expr(1.0, 2.0)
    assert graph.inputs[0] not in set(graph.nodes()) and len(graph.inputs) == 2
    assert verify(graph) is graph
    assert len(graph.rebuild(graph.inputs, lambda node, args: node)) == 1


# -- prints ---------------------------------------------------------------------------------------------------------


def test_letters_go_on_after_z() -> None:
    found = letters()
    first = [next(found) for _ in range(27 * 26 + 1)]
    assert first[:3] == ["a", "b", "c"] and first[25:28] == ["z", "aa", "ab"] and first[-1] == "aaa"
    assert len(set(first)) == len(first)


def test_names_do_not_collide_with_those_of_inputs() -> None:
    graph = dp.defn(lambda a, c: dp.exp(a) + dp.sin(c) * 2.0).expr(dp.ones(2), dp.ones(2))
    found = names(graph)
    assert [found[node] for node in graph.nodes() if node.op.family != "leaf"] == ["b", "d", "e", "f"]
    assert "2.0" in found.values()


def test_the_listing_of_nothing_to_compute() -> None:
    assert show(dp.defn(lambda x: x).expr(dp.ones(2))).split("\n")[-1] == "return x"
    assert show(dp.defn(lambda: 2.5).expr()).startswith("let:")
    assert show(dp.defn(lambda x: ()).expr(1.0)).endswith("return ")


def test_the_difference_shows_the_lines_that_changed_and_no_others() -> None:
    before = dp.defn(lambda x: dp.exp(x) * 2.0).expr(dp.ones(2))
    after = dp.defn(lambda x: dp.exp(x) * 3.0).expr(dp.ones(2))
    changed = [
        line for line in difference(before, after).split("\n") if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert [" ".join(line.split()) for line in changed] == [
        "- b = multiply a 2.0 f32[2]",
        "+ b = multiply a 3.0 f32[2]",
    ]


def test_the_drawing_has_every_node_and_every_edge() -> None:
    graph = diamond()
    text = dot(graph)
    edges = sum(len(node.args) for node in graph.nodes()) + len(graph.outputs)
    assert text.count(" -> ") == edges and text.count("label=") == len(graph.nodes()) + len(graph.outputs)
    assert text.startswith("digraph {\n") and text.endswith("\n}")


# -- planted faults -------------------------------------------------------------------------------------------------


def remade(node: Expr, **changes: Any) -> Expr:
    parts = {name: getattr(node, name) for name in ("op", "args", "params", "aval", "loc", "trace")}
    return Expr(**{**parts, **changes})


def sound() -> tuple[Graph, Expr]:
    graph = dp.defn(lambda x, y: x + y).expr(dp.ones((2, 3)), dp.ones(3))
    return verify(graph), graph.outputs[0]


PRODUCT = (("batch", ((), ())), ("contract", ((0,), (0,))))  # of axes of unlike size


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda g, n: Graph(g.inputs, [remade(n, aval=Aval((3,), F32))]), r"add is marked f32\[3\]"),
        (lambda g, n: Graph(g.inputs, [remade(n, aval=Aval((2, 3), np.dtype("float64")))]), r"marked f64\[2,3\]"),
        (lambda g, n: Graph(g.inputs[1:], [n]), "not closed"),
        (lambda g, n: Graph((), [n]), "not closed"),
        (lambda g, n: Graph((*g.inputs, g.inputs[0]), [n]), "an input stands twice"),
        (lambda g, n: Graph(g.inputs, [n], (), ["x"]), "1 names for 2 inputs"),
        (lambda g, n: Graph(g.inputs, [n], [n]), "add is listed as an effect"),
        (lambda g, n: Graph(g.inputs, [remade(n, op=REGISTRY["dot_general"], params=PRODUCT)]), "dot_general: "),
    ],
    ids=["shape", "dtype", "open", "no inputs", "doubled input", "names", "effect", "operands that do not fit"],
)  # fmt: skip
def test_verify_names_the_fault(fault: Any, message: str) -> None:
    graph, node = sound()
    with pytest.raises(InvalidGraph, match=message):
        verify(fault(graph, node))


def test_verify_finds_a_cycle_of_two() -> None:
    _, node = sound()
    first = remade(node)
    second = remade(node, args=(first, node.args[1]))
    object.__setattr__(first, "args", (second, node.args[1]))
    with pytest.raises(InvalidGraph, match="cycle"):
        verify(Graph(node.args, [first]))


def test_a_pass_that_breaks_the_graph_is_named_by_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph) -> Graph:
        return Graph(graph.inputs[:1], graph.outputs)

    monkeypatch.setattr(pipeline, "PASSES", (broken,))
    with dp.config(verify=True), pytest.raises(InvalidGraph, match="not closed"):
        pipeline.optimize(sound()[0])
    with dp.config(verify=False):
        assert len(pipeline.optimize(sound()[0]).inputs) == 1


# -- depth ----------------------------------------------------------------------------------------------------------

DEEP, STEPS = 100_000, 17_000


def test_no_walk_over_a_graph_is_recursive() -> None:
    """Tracing, verifying, printing, drawing, differentiating, simplifying, running."""

    def function(x: Any) -> Any:
        for i in range(2 * STEPS):
            x = (x + 1.0) * (-1.0 if i % 2 else 1.0)
        return x

    graph = dp.defn(lambda x: dp.value_and_grad(function)(x)).expr(dp.asarray(2.0, dtype="float64"))
    assert len(verify(graph).nodes()) > DEEP
    assert show(graph).count("\n") > DEEP and dot(graph).count("\n") > DEEP
    assert set(graph.users()) == set(graph.nodes())
    expected = function(2.0), (-1.0) ** STEPS
    assert tuple(evaluate(graph, [np.asarray(2.0)])) == expected
    simple = simplify(graph)
    assert len(simple.nodes()) < len(graph.nodes())
    assert tuple(evaluate(simple, [np.asarray(2.0)])) == expected
