"""The driver: rules are tried until none fires, the first one first; looping and wrong rules are named."""

from __future__ import annotations

import functools
import gc
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.ir.aval import Aval
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.trace import Trace, tracing
from defnpy.ops.elementwise import add, exp, maximum, multiply, negative, subtract
from defnpy.passes import pipeline
from defnpy.passes.pipeline import optimize
from defnpy.passes.rewrite import LoopingRules, WrongRule, rewrite, rule
from defnpy.passes.simplify import simplify
from defnpy.passes.stabilize import stabilize

X = dp.ones(3)


def shown(function: Any, *rules: Any) -> str:
    return dp.debug.show(rewrite(dp.defn(function).expr(X), rules))


def test_rules_that_undo_each_other_are_named() -> None:
    @rule("add")
    def there(trace: Trace, node: Expr) -> Any:
        return subtract(*node.args)

    @rule("subtract")
    def back(trace: Trace, node: Expr) -> Any:
        return add(*node.args)

    with pytest.raises(
        LoopingRules,
        match=r"there, back, there.* fire in turn on",
    ):
        shown(lambda x: x + 2.0, there, back)


def test_a_rule_that_goes_on_for_ever_is_named() -> None:
    @rule("exp")
    def outwards(trace: Trace, node: Expr) -> Any:
        return maximum(node, negative(node))  # it reads what it replaces

    @rule("negative")
    def inwards(trace: Trace, node: Expr) -> Any:
        return negative(add(node.args[0], node.args[0]))

    with pytest.raises(LoopingRules, match="outwards, outwards"):
        shown(dp.exp, outwards)
    with pytest.raises(LoopingRules, match="inwards, inwards"):
        shown(dp.negative, inwards)


def test_a_rule_that_changes_shape_or_dtype_is_named() -> None:
    @rule("exp")
    def shape(trace: Trace, node: Expr) -> Any:
        return dp.sum(node.args[0])

    @rule("exp")
    def dtype(trace: Trace, node: Expr) -> Any:
        return node.args[0].astype("float64")

    with pytest.raises(WrongRule, match=r"shape makes f32\[\] of exp f32\[3\]"):
        shown(dp.exp, shape)
    with pytest.raises(WrongRule, match=r"dtype makes f64\[3\] of exp f32\[3\]"):
        shown(dp.exp, dtype)


def test_the_earlier_rule_comes_first_and_what_it_makes_is_rewritten_too() -> None:
    @rule("exp")
    def first(trace: Trace, node: Expr) -> Any:
        return dp.tanh(dp.tanh(node.args[0]))

    @rule("exp")
    def second(trace: Trace, node: Expr) -> Any:
        raise AssertionError("the first one fires")

    @rule("elementwise")
    def inner(trace: Trace, node: Expr) -> Any:
        return dp.sin(node.args[0]) if node.op.name == "tanh" else None

    assert "sin a" in shown(dp.exp, first, second, inner)
    assert "tanh" not in shown(dp.exp, first, second, inner)


def test_a_rule_meets_the_ops_that_it_names_and_one_without_names_meets_all() -> None:
    met: list[tuple[str, str]] = []

    @rule("exp", "reduction")
    def some(trace: Trace, node: Expr) -> Any:
        met.append(("some", node.op.name))

    def every(trace: Trace, node: Expr) -> Any:
        met.append(("every", node.op.name))

    shown(lambda x: dp.sum(dp.exp(x) + x), some, every)
    assert met == [("some", "exp"), ("every", "exp"), ("every", "add"), ("some", "sum"), ("every", "sum")]
    with tracing() as trace:
        node = trace.lift(exp(trace.parameter(Aval((), np.dtype("float32")), "x")))
        assert some(trace, trace.lift(negative(node))) is None
    assert len(met) == 5
    assert some.__name__ == "some"


def test_what_nobody_needs_is_gone_and_equal_nodes_are_one() -> None:
    graph = dp.defn(lambda x: (dp.sin(x) * 2.0, dp.exp(x))[1]).expr(X)
    assert [node.op.name for node in rewrite(graph, ()).nodes()] == ["parameter", "exp"]

    @rule("cos")
    def same(trace: Trace, node: Expr) -> Any:
        return dp.sin(node.args[0])

    assert shown(lambda x: dp.sin(x) - dp.cos(x), same).count("sin") == 1


def test_new_nodes_stand_at_the_place_of_what_they_replace() -> None:
    better = stabilize(dp.defn(lambda x: dp.log(1 + dp.exp(x))).expr(X))
    places = {node.loc.position.line for node in better.nodes() if node.loc is not None}
    assert len(places) == 1


def test_the_passes_are_checked_where_the_options_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph) -> Graph:
        return Graph((), graph.outputs)

    graph = dp.defn(dp.exp).expr(X)
    for name, run in (("PASSES", pipeline.optimize), ("PREPARATION", pipeline.prepare)):
        monkeypatch.setattr(pipeline, name, (broken,))
        with dp.config(verify=True), pytest.raises(AssertionError, match="not closed"):
            run(graph)
        with dp.config(verify=False):
            assert run(graph).inputs == ()


def test_collections_are_put_off_and_go_on_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def failing(graph: Graph) -> Graph:
        seen.append(gc.isenabled())
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "PASSES", (failing,))
    with pytest.raises(ZeroDivisionError):
        optimize(dp.defn(dp.exp).expr(X))
    assert seen == [False] and gc.isenabled()


def deep(count: int) -> Graph:
    """A chain of ``count`` nodes, some of which the rules concern."""
    with tracing() as trace:
        x = trace.parameter(Aval((8,), np.dtype("float32")), "x")
        y: Any = x
        for _ in range(count // 5):
            y = negative(exp(multiply(y, 1.0) + x)) + x  # four operations and one that goes
        return trace.graph([trace.lift(y)])


def test_depth_is_not_limited() -> None:
    better = optimize(deep(20_000))
    assert len(better.nodes()) < 14_000
    assert evaluate(better, [np.zeros(8, np.float32)])[0].shape == (8,)


def test_the_work_grows_with_the_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Per node the passes call the same number of rules in a graph of any size."""

    def calls(count: int) -> float:
        counted = 0

        def counting(rule: Any) -> Any:
            @functools.wraps(rule.body)
            def body(trace: Trace, node: Expr) -> Any:
                nonlocal counted
                counted += 1
                return rule.body(trace, node)

            return type(rule)(body, rule.heads)

        for run in (simplify, stabilize):
            module = __import__(run.__module__, fromlist=["RULES"])
            monkeypatch.setattr(module, "RULES", tuple(map(counting, module.RULES)))
        graph = deep(count)
        optimize(graph)
        monkeypatch.undo()
        return counted / len(graph.nodes())

    assert calls(5_000) == pytest.approx(calls(500), rel=0.05)
