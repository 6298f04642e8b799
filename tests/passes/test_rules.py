"""Every rule of the simplifier, by name: what it makes of a graph, and that the numbers stay the same, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.passes import simplify as module
from defnpy.passes.simplify import RULES, LoopingRules, simplify
from defnpy.transforms.stage import strengthen

SPECIAL = np.array([-0.0, 0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 3.0], np.float32)
X = dp.asarray(SPECIAL)
M = dp.asarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))

# rule, function, argument, the ops that remain (inputs and numbers left out)
CASES = [
    ("fold_constants", lambda x: x * (dp.exp(dp.asarray(0.0)) * 0 + dp.sqrt(4.0)), X, None),
    ("number_before_broadcast", lambda x: x * dp.exp(dp.zeros((8,))) * 2.0, X, ["multiply"]),
    ("multiply_by_one", lambda x: (x * 1.0) / 1.0, X, []),
    ("multiply_by_one", lambda x: 1.0 * x, X, []),
    ("add_zero", lambda x: x - 0.0, X, []),
    ("add_zero", lambda x: x + -0.0, X, []),
    ("add_zero", lambda x: x + 0.0, X, ["add"]),
    ("small_powers", lambda x: x**1, X, []),
    ("small_powers", lambda x: x**2, X, ["multiply"]),
    ("small_powers", lambda x: x**0, X, ["broadcast_to"]),
    ("double_negation", lambda x: dp.negative(dp.negative(x)), X, []),
    ("choose_known", lambda x: dp.where(dp.ones((8,), dtype=bool), x, 7.0), X, []),
    ("idle_movement", lambda x: x.reshape(8)[0:8], X, []),
    ("idle_movement", lambda x: dp.permute_dims(x, (0, 1, 2)), M, []),
    ("idle_cast", lambda x: x.astype("float64").astype("float64"), X, ["astype"]),
    ("reduce_nothing", lambda x: dp.max(x, axis=()), X, []),
    ("reduce_nothing", lambda x: dp.sum(x, axis=()), X, ["sum"]),
    ("chained_movement", lambda x: x.reshape(6, 4).reshape(4, 6), M, ["reshape"]),
    ("chained_movement", lambda x: dp.permute_dims(dp.permute_dims(x, (1, 2, 0)), (2, 0, 1)), M, []),
    ("chained_movement", lambda x: dp.broadcast_to(dp.broadcast_to(x, (3, 8)), (2, 3, 8)), X, ["broadcast_to"]),
    ("implicit_broadcast", lambda x: x + dp.broadcast_to(dp.sum(x), (8,)), X, ["sum", "add"]),
    ("slice_of_view", lambda x: x[1:7][1:5:2], X, ["slice"]),
    ("slice_of_view", lambda x: x[:, None][2:4], X, ["slice", "reshape"]),
    ("slice_of_concat", lambda x: dp.concat([x, -x])[9:12], X, ["slice", "negative"]),
    ("one_element", lambda x: dp.arange(8)[3] * dp.exp(dp.arange(3.0))[0], X, None),
]


def ops(graph):
    return [node.op.name for node in graph.nodes() if node.op.family != "leaf"]


@pytest.mark.parametrize(("rule", "function", "x", "left"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_a_rule(rule, function, x, left):
    graph = strengthen(dp.defn(function).expr(x))
    better = simplify(graph)
    dp.debug.verify(better)
    captured = [np.asarray(x)] * len(graph.inputs)
    if len(graph.inputs) == 1:
        for before, after in zip(evaluate(graph, captured), evaluate(better, captured), strict=True):
            assert before.dtype == after.dtype
            np.testing.assert_array_equal(before, after)
            np.testing.assert_array_equal(np.signbit(before), np.signbit(after))
    if left is not None:
        assert sorted(ops(better)) == sorted(left)
    else:
        assert len(ops(better)) <= len(ops(graph))


def test_every_rule_has_a_case_and_a_docstring():
    assert {rule.__name__ for rule in RULES} == {case[0] for case in CASES}
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(("rule", "function", "x", "left"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_a_case_needs_its_rule(rule, function, x, left, monkeypatch):
    """Without the rule that a case names the result is another: no case passes for another rule's sake."""
    graph = strengthen(dp.defn(function).expr(x))
    with_rule = dp.debug.show(simplify(graph))
    monkeypatch.setattr(module, "RULES", tuple(r for r in RULES if r.__name__ != rule))
    without = dp.debug.show(simplify(graph))
    may_not_fire = left is not None and sorted(ops(graph)) == sorted(left)
    several_do_it = rule == "chained_movement" or (rule == "small_powers" and left == ["broadcast_to"])
    assert with_rule != without or may_not_fire or several_do_it


def test_times_zero_is_not_zero():
    graph = dp.defn(lambda x: (x * 0.0, x - x)).expr(X)
    zero, difference = evaluate(simplify(graph), [SPECIAL])
    assert np.isnan(zero).sum() == 3 and np.isnan(difference).sum() == 3


def test_rules_that_undo_each_other_are_named(monkeypatch):
    def there(trace, node):
        return dp.subtract(*node.args) if node.op.name == "add" else None

    def back(trace, node):
        return dp.add(*node.args) if node.op.name == "subtract" else None

    monkeypatch.setattr(module, "RULES", (there, back))
    graph = dp.defn(lambda x: x + 2.0).expr(dp.ones(3))
    with pytest.raises(LoopingRules, match="there, back"):
        simplify(graph)
