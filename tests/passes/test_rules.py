"""Every rule of the simplifier, by name: what it makes of a graph, and that the numbers stay the same, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.passes import simplify as module
from defnpy.passes.rewrite import rewrite
from defnpy.passes.simplify import RULES, simplify
from defnpy.transforms.stage import strengthen

SPECIAL = np.array([-0.0, 0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 3.0], np.float32)
X = dp.asarray(SPECIAL)
M = dp.asarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))


def places(x):
    """Positions that only the running program knows."""
    return (x > 0).astype("int64")


# rule, function, argument, the ops that remain (inputs and numbers left out)
CASES = [
    ("fold_constants", lambda x: x * (dp.exp(dp.asarray(0.0)) * 0 + dp.sqrt(4.0)), X, None),
    ("number_before_broadcast", lambda x: x * dp.exp(dp.zeros((8,))) * 2.0, X, ["multiply"]),
    ("number_before_broadcast", lambda x: -dp.broadcast_to(x.sum(), (8,)), X, ["sum", "negative", "broadcast_to"]),
    ("multiply_by_one", lambda x: (x * 1.0) / 1.0, X, []),
    ("multiply_by_one", lambda x: 1.0 * x, X, []),
    ("multiply_by_minus_one", lambda x: (x * -1.0) / dp.full((8,), -1.0), X, []),
    ("multiply_by_minus_one", lambda x: -1 * x, X, ["negative"]),
    ("add_zero", lambda x: x - 0.0, X, []),
    ("add_zero", lambda x: x + -0.0, X, []),
    ("add_zero", lambda x: x + 0.0, X, ["add"]),
    ("add_negative", lambda x: x[::-1] + dp.negative(x), X, ["flip", "subtract"]),
    ("add_negative", lambda x: dp.negative(x) + x[::-1], X, ["flip", "subtract"]),
    ("add_negative", lambda x: x - dp.negative(x), X, ["add"]),
    ("product_of_negatives", lambda x: dp.negative(x) * dp.negative(x[::-1]), X, ["flip", "multiply"]),
    ("product_of_negatives", lambda x: dp.negative(x) / dp.negative(x[::-1]), X, ["flip", "divide"]),
    ("small_powers", lambda x: x**1, X, []),
    ("small_powers", lambda x: x**2, X, ["multiply"]),
    ("small_powers", lambda x: x**0, X, ["broadcast_to"]),
    ("double_negation", lambda x: dp.negative(dp.negative(x)), X, []),
    ("double_negation", lambda x: dp.logical_not(dp.logical_not(x > 0)), X, ["greater"]),
    ("choose_known", lambda x: dp.where(dp.ones((8,), dtype=bool), x, 7.0), X, []),
    ("choose_known", lambda x: dp.where(x > 0, x, x), X, []),
    ("idle_movement", lambda x: x.reshape(8)[0:8], X, []),
    ("idle_movement", lambda x: dp.permute_dims(x, (0, 1, 2)), M, []),
    ("idle_movement", lambda x: dp.pad(x, low=0, high=0), X, []),
    ("moved_number", lambda x: x + dp.reshape(dp.full((2, 4), 3.0), (8,)), X, ["add"]),
    ("moved_number", lambda x: x + dp.full((9,), 3.0)[1:], X, ["add"]),
    ("idle_concat", lambda x: dp.concat([x[:0], x]), X, []),
    ("idle_concat", lambda x: dp.concat([x, x[:0], -x]), X, ["concat", "negative"]),
    ("idle_cast", lambda x: dp.astype(x, "float32"), X, []),
    ("chained_casts", lambda x: x.astype("float64").astype("float32"), X, []),
    ("chained_casts", lambda x: (x > 0).astype("int32").astype("float64"), X, ["astype", "greater"]),
    ("reduce_nothing", lambda x: dp.max(x, axis=()), X, []),
    ("reduce_nothing", lambda x: dp.min(x[:, None], axis=1), X, []),
    ("reduce_nothing", lambda x: dp.prod(x[None], axis=0, keepdims=True), X, ["reshape"]),
    ("reduce_nothing", lambda x: dp.sum(x, axis=()), X, ["add"]),
    ("reduce_nothing", lambda x: dp.sum(x[:, None], axis=1), X, ["reshape", "add", "reshape"]),
    ("chained_movement", lambda x: x.reshape(6, 4).reshape(4, 6), M, ["reshape"]),
    ("chained_movement", lambda x: dp.permute_dims(dp.permute_dims(x, (1, 2, 0)), (2, 0, 1)), M, []),
    ("chained_movement", lambda x: dp.broadcast_to(dp.broadcast_to(x, (3, 8)), (2, 3, 8)), X, ["broadcast_to"]),
    ("chained_movement", lambda x: dp.flip(dp.flip(x, axis=(0, 1)), axis=(1, 2)), M, ["flip"]),
    ("permuted_unit_axes", lambda x: dp.permute_dims(x[:, None], (1, 0)), X, ["reshape"]),
    ("permuted_operand", lambda x: x.reshape(6, 4).T @ x.reshape(6, 4), M, ["reshape", "dot_general"]),
    ("permuted_operand", lambda x: dp.matmul(x, x.mT), M, ["dot_general"]),
    ("repeated_operand", lambda x: x @ dp.broadcast_to(dp.ones((4, 5)) * x[0, 0, 0], (2, 4, 5)), M, None),
    ("repeated_operand", lambda x: dp.broadcast_to(dp.exp(x[0] * 0), (2, 3, 4)) @ x.mT, M, None),
    ("product_of_elements", lambda x: dp.tensordot(x, x, axes=0), M, ["reshape", "reshape", "multiply"]),
    (
        "product_of_elements",
        lambda x: dp.dot_general(x, x, contract=((), ()), batch=((1, 0), (1, 0))),
        M,
        ["permute_dims", "reshape", "reshape", "multiply"],
    ),
    ("product_of_elements", lambda x: dp.vecdot(x, x + 1.0), M, ["add", "multiply", "sum"]),
    ("implicit_broadcast", lambda x: x + dp.broadcast_to(dp.sum(x), (8,)), X, ["sum", "add"]),
    ("slice_of_view", lambda x: x[1:7][1:5:2], X, ["slice"]),
    ("slice_of_view", lambda x: x[:, None][2:4], X, ["slice", "reshape"]),
    ("slice_of_concat", lambda x: dp.concat([x, -x])[9:12], X, ["slice", "negative"]),
    ("one_element", lambda x: dp.arange(8)[3] * dp.exp(dp.arange(3.0))[0], X, None),
    (
        "moved_iota",
        lambda x: dp.broadcast_to(dp.arange(4)[:, None], (4, 2)).T.astype("int8") + x.size,
        X,
        ["iota", "add"],
    ),
    ("moved_iota", lambda x: (x, dp.arange(8)[:5]), X, ["iota"]),
    ("known_positions", lambda x: x[:, dp.arange(3), 1], M, ["slice", "permute_dims", "reshape", "permute_dims"]),
    ("known_positions", lambda x: x.T[dp.arange(3)[:, None], -1, dp.arange(2)], M, None),
    ("take_first", lambda x: dp.exp(x)[places(x[:1])], X, ["slice", "greater", "astype", "gather", "exp"]),
    ("update_in_order", lambda x: x.at[dp.arange(8)].add(x), X, ["add"]),
    (
        "update_in_order",
        lambda x: x.reshape(4, 6).at[dp.arange(4), 2].set(0.0),
        M,
        ["iota", "broadcast_to", "equal", "reshape", "where"],
    ),
]

# rule, function, argument: where the rule would be wrong, or of no use
REFUSED = [
    ("fold_constants", lambda x: dp.exp(x), dp.asarray(1.0)),
    ("number_before_broadcast", lambda x: dp.exp(x), dp.asarray([1.0, 2.0])),
    ("multiply_by_one", lambda x: 1.0 / x, X),
    ("multiply_by_minus_one", lambda x: -1.0 / x, X),
    ("add_zero", lambda x: x + 0.0, X),
    ("add_zero", lambda x: x - -0.0, X),
    ("add_zero", lambda x: 0.0 - x, X),
    ("add_negative", lambda x: dp.negative(x) - x[::-1], X),
    ("product_of_negatives", lambda x: dp.negative(x) * x, X),
    ("small_powers", lambda x: x**3, X),
    ("small_powers", lambda x: x**0.5, X),  # -0.0 and -inf
    ("double_negation", lambda x: dp.negative(dp.abs(dp.negative(x))), X),
    ("choose_known", lambda x: dp.where(x > 0, x, 7.0), X),
    ("idle_movement", lambda x: dp.permute_dims(x.reshape(4, 2)[:2], (1, 0)), X),
    ("idle_movement", lambda x: dp.flip(x), X),
    ("idle_movement", lambda x: dp.pad(x, low=1, high=0), X),
    ("moved_number", lambda x: dp.pad(dp.full((2,), 3.0), low=1), X),
    ("idle_concat", lambda x: dp.concat([x, x]), X),
    ("idle_cast", lambda x: x.astype("float64"), X),
    ("chained_casts", lambda x: x.astype("int64").astype("float32"), X[:4]),
    ("chained_casts", lambda x: x.astype("bool").astype("float32"), X),
    ("chained_casts", lambda x: x.astype("float64").astype("float32"), dp.arange(3)),  # int64 does not fit float64
    ("reduce_nothing", lambda x: dp.max(x), X),
    ("reduce_nothing", lambda x: dp.sum(x, axis=()), dp.asarray([True])),
    ("chained_movement", lambda x: dp.permute_dims(x.reshape(4, 3, 2), (1, 0, 2)), M),
    ("permuted_unit_axes", lambda x: dp.permute_dims(x, (0, 2, 1)), M),
    # the result would come out with its axes in another order
    ("permuted_operand", lambda x: dp.tensordot(dp.permute_dims(x, (1, 0, 2)), x, axes=([2], [2])), M),
    ("repeated_operand", lambda x: x @ dp.broadcast_to(x[:1].mT, (2, 4, 3)), M),
    ("product_of_elements", lambda x: x @ x[0, 0], M),
    ("product_of_elements", lambda x: dp.vecdot(x[0, 0], x[0, 1]), M),  # one number is BLAS's
    ("product_of_elements", lambda x: dp.vecdot(x, x), dp.arange(3)),  # int64 is not a float: its sum is its own matter
    ("implicit_broadcast", lambda x: dp.broadcast_to(x, (2, 8)) + 1.0, X),
    ("slice_of_view", lambda x: x.reshape(4, 6)[1:3], M),
    ("slice_of_concat", lambda x: dp.concat([x, -x])[7:9], X),
    ("one_element", lambda x: dp.exp(x)[2:4], X),
    ("one_element", lambda x: dp.flip(x)[2], X),
    ("moved_iota", lambda x: x * dp.broadcast_to(dp.arange(1), (8,)), X),
    ("moved_iota", lambda x: x * dp.arange(8).astype("float32"), X),
    ("moved_iota", lambda x: x[0] + dp.iota(shape=(2, 3), axis=None).T, X),
    ("moved_iota", lambda x: x[0] + dp.arange(300).astype("int8"), X),
    ("known_positions", lambda x: x[places(x)], X),
    ("known_positions", lambda x: x.reshape(6, 4)[dp.arange(4), dp.arange(4)], M),  # a diagonal is no view
    ("take_first", lambda x: (x * 2)[places(x)], X),  # as many as there were
    ("take_first", lambda x: (x * 2)[places(x[:5])], X),  # more than half
    ("take_first", lambda x: dp.exp(x)[places(x[:2])], X),  # a fourth, of what is dear
    ("take_first", lambda x: dp.flip(x)[places(x[:1])], X),
    ("update_in_order", lambda x: x.at[places(x)].add(x), X),  # updates meet
    (
        "update_in_order",
        lambda x: x.reshape(6, 4).at[dp.arange(6)[:, None], places(x[0, :1])].add(1.0),
        M,
    ),  # so they do
    ("update_in_order", lambda x: x.at[dp.arange(7)].set(0.0), X),  # the last one is not written
    ("update_in_order", lambda x: (x > 0).at[dp.arange(8)].add(x < 1), X),
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
            numbers = ~np.isnan(before)  # which NaN it is may change
            np.testing.assert_array_equal(np.signbit(before)[numbers], np.signbit(after)[numbers])
    if left is not None:
        assert sorted(ops(better)) == sorted(left)
    else:
        assert len(ops(better)) <= len(ops(graph))


def test_every_rule_has_cases_and_a_docstring():
    names = {rule.__name__ for rule in RULES}
    assert names == {case[0] for case in CASES} == {case[0] for case in REFUSED}
    assert all(rule.__doc__ for rule in RULES)
    assert len(names) == len(RULES)


@pytest.mark.parametrize(("rule", "function", "x"), REFUSED, ids=[f"{c[0]}-{i}" for i, c in enumerate(REFUSED)])
def test_a_rule_stays_away(rule, function, x):
    graph = dp.defn(function).expr(x)
    alone = tuple(r for r in RULES if r.__name__ == rule)
    assert dp.debug.show(rewrite(graph, alone)) == dp.debug.show(rewrite(graph, ()))


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
