"""Every operation with every special number on either side: simplified, it gives the same bits on every special number.

Rules are written by people who think of ordinary numbers. Here all pairs are tried: -0.0, infinities, NaN, the ends of
the integers, in every dtype, as a number in the program and as an array of one repeated number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.ir.expr import Graph
from defnpy.passes import patterns
from defnpy.passes import simplify as module
from defnpy.passes.simplify import RULES, simplify

NUMBERS = {
    "float32": [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, np.inf, -np.inf, np.nan, 1e-45, 3e38],
    "float64": [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, np.inf, -np.inf, np.nan, 5e-324, 1e308],
    "int32": [0, 1, -1, 2, 3, 2**31 - 1, -(2**31)],
    "int64": [0, 1, -1, 2, 3, 2**63 - 1, -(2**63)],
    "uint8": [0, 1, 2, 3, 255],
    "bool": [False, True],
}
BINARY = {
    "fiu": [dp.add, dp.subtract, dp.multiply, dp.divide, dp.maximum, dp.minimum, dp.floor_divide, dp.remainder],
    "biuf": [dp.equal, dp.not_equal, dp.less, dp.less_equal, dp.greater, dp.greater_equal],
    "b": [dp.logical_and, dp.logical_or, dp.logical_xor],
    "biu": [dp.bitwise_and, dp.bitwise_or, dp.bitwise_xor],
    "iuf": [dp.pow],
}
UNARY = {
    "fiu": [dp.negative, dp.abs, dp.sign, dp.relu],
    "f": [dp.exp, dp.log, dp.sqrt, dp.tanh, dp.sigmoid, dp.floor, dp.round, dp.isnan, dp.isinf],
    "b": [dp.logical_not],
}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def same(graph: Graph, inputs: list[np.ndarray]) -> None:
    """The graph and its simplified form give equal bits, but for which NaN it is."""
    before, after = evaluate(graph, inputs), evaluate(simplify(graph), inputs)
    for b, a in zip(before, after, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            numbers = ~np.isnan(b)
            np.testing.assert_array_equal(np.signbit(a)[numbers], np.signbit(b)[numbers])


def operations(table: dict[str, list[Any]], dtype: str) -> list[Any]:
    return [op for kinds, ops in table.items() for op in ops if np.dtype(dtype).kind in kinds]


def allowed(op: Any, dtype: str, number: Any, values: np.ndarray, left: bool) -> bool:
    """Whether the reference takes them: an integer to a negative power is an error."""
    if op is not dp.pow or np.dtype(dtype).kind != "i":
        return True
    return bool(np.all(values >= 0)) if left else number >= 0


def binary(dtype: str) -> list[tuple[str, Callable[[Any], Any]]]:
    """Every operation with every number, on the right and on the left, as a number and as an array of it."""
    values = np.array(NUMBERS[dtype], dtype)
    count = len(values)
    result = []
    for op in operations(BINARY, dtype):
        for number in values:
            for repeated in (False, True):
                # Made while tracing, so that it is a part of the program; an array from outside would be an input.
                operand = (lambda n=number: dp.full((count,), n)) if repeated else (lambda n=number: n)
                if allowed(op, dtype, number, values, left=False):
                    result.append((f"{op} x {number}", lambda x, op=op, y=operand: op(x, y())))
                if allowed(op, dtype, number, values, left=True):
                    result.append((f"{op} {number} x", lambda x, op=op, y=operand: op(y(), x)))
    return result


@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_number_on_either_side(dtype: str) -> None:
    x = np.array(NUMBERS[dtype], dtype)
    for name, function in binary(dtype):
        graph = dp.defn(function).expr(x)
        try:
            same(graph, [x])
        except AssertionError as error:
            raise AssertionError(
                f"{name}:\n{dp.debug.show(graph)}\n{dp.debug.show(simplify(graph))}\n{error}"
            ) from None


@pytest.mark.parametrize("dtype", NUMBERS)
def test_operations_on_numbers_alone(dtype: str) -> None:
    """What the compiler computes itself is what the program would have computed."""
    values = np.array(NUMBERS[dtype], dtype)
    for op in operations(UNARY, dtype):
        for number in values:
            graph = dp.defn(lambda op=op, n=number: op(n)).expr()
            same(graph, [])
            assert not simplify(graph).nodes()[0].args
    for op in operations(BINARY, dtype):
        for a in values:
            for b in values:
                if allowed(op, dtype, b, values, left=False):
                    same(dp.defn(lambda op=op, a=a, b=b: op(a, b)).expr(), [])


@pytest.mark.parametrize("dtype", NUMBERS)
def test_two_in_a_row(dtype: str) -> None:
    """Signs, casts and movements, one upon the other."""
    x = np.array(NUMBERS[dtype], dtype)
    steps: list[Callable[[Any], Any]] = [
        lambda x: dp.pad(x, low=0),
        lambda x: dp.concat([x[:0], x]),
        lambda x: dp.max(x[None], axis=0) if x.dtype != "bool" else x,
        lambda x: dp.reshape(x, (x.size, 1)) if x.ndim == 1 else dp.reshape(x, (x.size,)),
        lambda x: dp.broadcast_to(x, (3, *x.shape))[1],
        lambda x: dp.flip(x, axis=0),
        lambda x: dp.permute_dims(x, tuple(reversed(range(x.ndim)))),
        lambda x: x[0 : x.shape[0] : 2],
        lambda x: dp.concat([x, x], axis=0),
        lambda x: x[: x.shape[0] - 1],
        lambda x: dp.astype(x, "float64"),
        lambda x: dp.astype(x, "int32"),
        lambda x: dp.astype(x, dtype),
        lambda x: dp.stop_grad(x),
        lambda x: dp.where(True, x, x[::-1]),
        lambda x: dp.max(x, axis=(), keepdims=True) if x.dtype != "bool" else x,
        lambda x: dp.sum(x, axis=()),
    ]
    if dtype != "bool":
        steps += [lambda x: x / 4, lambda x: x[::-1] + -x, lambda x: -x * -x[::-1]]
        steps += [lambda x: x * -1] if dtype != "uint8" else []
        steps += [lambda x: dp.negative(x), lambda x: x * 1, lambda x: x + 0, lambda x: x - 0, lambda x: x**1]
    finite = x[np.isfinite(x) & (np.abs(x.astype(float)) < 2**31)] if x.dtype.kind == "f" else x
    for first in steps:
        for second in steps:
            same(dp.defn(lambda x, f=first, g=second: g(f(x))).expr(finite), [finite])


def test_a_rule_that_forgets_minus_zero_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(trace: Any, node: Any) -> Any:
        zero = node.op.name == "add" and patterns.number(node.args[1]) == 0
        return node.args[0] if zero and node.args[0].aval == node.aval else None

    test_a_number_on_either_side("float32")
    monkeypatch.setattr(module, "RULES", (*RULES, forgetful))
    with pytest.raises(AssertionError, match=r"add x 0\.0"):
        test_a_number_on_either_side("float32")


def test_a_rule_that_forgets_nan_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(trace: Any, node: Any) -> Any:
        zero = node.op.name == "multiply" and patterns.number(node.args[1]) == 0
        return patterns.fitted(node.args[1], node) if zero else None

    monkeypatch.setattr(module, "RULES", (*RULES, forgetful))
    with pytest.raises(AssertionError, match=r"multiply x"):
        test_a_number_on_either_side("float64")


def test_effects_are_kept_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    def function(x: Any) -> Any:
        dp.print_value(x * 1, label="first")
        dp.print_value(x + 0.0, label="second")
        return dp.negative(dp.negative(dp.print_value(x, label="third")))

    graph = simplify(dp.defn(function).expr(dp.ones(2)))
    assert [dict(node.params)["label"] for node in graph.effects] == ["first", "second", "third"]
    evaluate(graph, [np.ones(2, np.float32)])
    assert [line.split(" =")[0] for line in capsys.readouterr().out.splitlines()] == ["first", "second", "third"]


def test_the_inputs_stay_though_nobody_reads_them() -> None:
    graph = simplify(dp.defn(lambda x, y: x * 1).expr(dp.ones(2), dp.ones(3)))
    assert [node.shape for node in graph.inputs] == [(2,), (3,)]
    assert graph.names == ("x", "y")
    assert graph.outputs == graph.inputs[:1]
