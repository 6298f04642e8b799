"""Stabilization: each rule by name, held against 60 decimal digits where the formula as written overflows or cancels.

Where it does not, value and derivatives are those of the formula as written.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.ir.expr import Graph
from defnpy.ir.trace import tracing
from defnpy.passes.rewrite import rewrite
from defnpy.passes.simplify import simplify
from defnpy.passes.stabilize import RULES, stabilize
from defnpy.transforms.grad import backward
from defnpy.transforms.stage import strengthen

try:
    import jax
except ImportError:
    jax = None

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

V = dp.asarray([0.3, -1.2, 0.0, 2.5], dtype="float64")
M = dp.asarray([[0.3, -1.2, 0.0], [2.5, 2.5, -3.0]], dtype="float64")
SMALL = dp.asarray([0.3, -0.2, 0.0, 0.9], dtype="float64")


def spelled_softmax(x: Any, axis: int = -1) -> Any:
    e = dp.exp(x - dp.max(x, axis=axis, keepdims=True))
    return e / dp.sum(e, axis=axis, keepdims=True)


# rule, function, argument, an op that must be there afterwards, one that must not
CASES: list[tuple[str, Callable[..., Any], Any, str, str]] = [
    ("log_of_exp", lambda x: dp.log(dp.exp(x)), V, "parameter", "exp"),
    ("log_of_softmax", lambda x: dp.log(dp.softmax(x)), M, "log", "divide"),
    ("log_of_softmax", lambda x: dp.log(dp.softmax(x, axis=0)), M, "log", "divide"),
    ("log_of_softmax", lambda x: dp.log(spelled_softmax(x)), M, "log", "divide"),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x), axis=1, keepdims=True)), M, "max", "divide"),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x), axis=1)[:, None]), M, "max", "divide"),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x), axis=0)), M, "max", "divide"),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x))), M, "max", "divide"),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.broadcast_to(dp.sum(dp.exp(x)), (2, 3))), M, "max", "divide"),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x))), M, "max", "divide"),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x), axis=0)), M, "max", "divide"),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(-x), axis=1, keepdims=True)), M, "max", "divide"),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x), axis=())), M, "parameter", "exp"),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x - dp.max(x)), axis=1)), M, "log", "divide"),
    ("log_of_one_plus_exp", lambda x: dp.log(1 + dp.exp(x)), V, "relu", "log"),
    ("log_of_one_plus_exp", lambda x: dp.log(dp.exp(-x) + 1.0), V, "relu", "log"),
    ("log_of_one_plus_exp", lambda x: dp.log(dp.ones((2, 4), dtype="float64") + dp.exp(x)), V, "relu", "log"),
    ("log_of_one_plus_exp", lambda x: dp.log1p(dp.exp(2 * x)), V, "relu", "log"),
    ("log_of_sigmoid", lambda x: dp.log(dp.sigmoid(x)), V, "relu", "sigmoid"),
    ("log_of_sigmoid", lambda x: dp.log(1 - dp.sigmoid(x)), V, "relu", "sigmoid"),
    ("log_of_sigmoid", lambda x: dp.log1p(-dp.sigmoid(x)), V, "relu", "sigmoid"),
    ("log_of_one_plus", lambda x: dp.log(1 + x), SMALL, "log1p", "log"),
    ("log_of_one_plus", lambda x: dp.log(x + np.float64(1)), SMALL, "log1p", "log"),
    ("log_of_one_plus", lambda x: dp.log(1.0 - x), SMALL, "log1p", "log"),
    ("log_of_view", lambda x: dp.log(dp.softmax(x)[dp.arange(2), dp.asarray([2, 0])]), M, "gather", "divide"),
    ("log_of_view", lambda x: dp.log(dp.softmax(x).T[1:].reshape(4)), M, "permute_dims", "divide"),
    ("log_of_view", lambda x: dp.log(dp.sigmoid(x)[::-1]), V, "flip", "sigmoid"),
    ("one_over_one_plus_exp", lambda x: 1 / (1 + dp.exp(-x)), V, "sigmoid", "divide"),
    ("one_over_one_plus_exp", lambda x: 1 / (dp.exp(x) + 1), V, "sigmoid", "divide"),
    ("one_over_one_plus_exp", lambda x: x / (1 + dp.exp(-x)), V, "sigmoid", "divide"),
    ("one_over_one_plus_exp", lambda x: dp.exp(x) / (1 + dp.exp(x)), V, "sigmoid", "divide"),
    ("one_over_one_plus_exp", lambda x: dp.ones((2, 1), dtype="float64") / (1 + dp.exp(x)), V, "sigmoid", "divide"),
    ("exp_minus_one", lambda x: dp.exp(x) - 1, V, "expm1", "exp"),
    ("exp_minus_one", lambda x: -1 + dp.exp(x), V, "expm1", "exp"),
    ("exp_minus_one", lambda x: 1 - dp.exp(x), V, "expm1", "exp"),
]

# rule, function, argument: formulas that look alike and are others, or are stable as they are
REFUSED: list[tuple[str, Callable[..., Any], Any]] = [
    ("log_of_exp", lambda x: dp.log(dp.stop_grad(dp.exp(x))), V),
    ("log_of_exp", lambda x: dp.log(dp.print_value(dp.exp(x))), V),
    ("log_of_softmax", lambda x: dp.log(dp.stop_grad(dp.softmax(x))), M),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.stop_grad(dp.sum(dp.exp(x)))), M),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(2 * x))), M),
    ("log_of_softmax", lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x), axis=1)), M[:, :2]),  # along the other axis
    ("log_of_softmax", lambda x: dp.log(dp.sum(dp.exp(x)) / dp.exp(x)), M),
    ("log_of_softmax", lambda x: dp.log_softmax(x), M),
    ("log_of_sum_of_exp", lambda x: dp.logsumexp(x), M),
    ("log_of_sum_of_exp", lambda x: dp.logsumexp(x, axis=(0, 1), keepdims=True), M),
    ("log_of_sum_of_exp", lambda x: dp.log_softmax(x), M),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x - dp.max(x, axis=1)[:, None]), axis=1)), M),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x))), M[:0]),  # nothing has no maximum
    ("log_of_sum_of_exp", lambda x: dp.log(dp.sum(dp.exp(x) * 2)), M),
    ("log_of_sum_of_exp", lambda x: dp.log(dp.prod(dp.exp(x))), M),
    ("log_of_one_plus_exp", lambda x: dp.softplus(x), V),
    ("log_of_one_plus_exp", lambda x: dp.log(1 + dp.exp(-dp.abs(x))), V),
    ("log_of_one_plus_exp", lambda x: dp.log(2 + dp.exp(x)), V),
    ("log_of_one_plus_exp", lambda x: dp.log(1 - dp.exp(x)), V),
    ("log_of_one_plus_exp", lambda x: dp.log(dp.asarray([1.0, 1.0, 1.0, 2.0], dtype="float64") + dp.exp(x)), V),
    ("log_of_sigmoid", lambda x: dp.log(2 - dp.sigmoid(x)), V),
    ("log_of_sigmoid", lambda x: dp.log1p(dp.sigmoid(x)), V),
    ("log_of_sigmoid", lambda x: dp.log(dp.sigmoid(x) - 1), V),
    ("log_of_one_plus", lambda x: dp.log(x + 2), SMALL),
    ("log_of_one_plus", lambda x: dp.log(x - 1), SMALL),
    ("log_of_one_plus", lambda x: dp.log(1 + x), dp.arange(3)),  # integers are added exactly
    ("log_of_view", lambda x: dp.log(x[1:]), V),
    ("log_of_view", lambda x: dp.log(dp.stop_grad(dp.softmax(x))[1:]), V),
    ("one_over_one_plus_exp", lambda x: 1 / (2 + dp.exp(-x)), V),
    ("one_over_one_plus_exp", lambda x: (1 + dp.exp(-x)) / 3, V),
    ("one_over_one_plus_exp", lambda x: 1 / (1 - dp.exp(-x)), V),
    ("exp_minus_one", lambda x: dp.exp(x) - 2, V),
    ("exp_minus_one", lambda x: dp.exp(x) + 1, V),
    ("exp_minus_one", lambda x: 2 - dp.exp(x), V),
]


def names(cases: Any) -> list[str]:
    return [f"{case[0]}-{i}" for i, case in enumerate(cases)]


def traced(function: Callable[..., Any], *args: Any) -> Graph:
    return strengthen(dp.defn(function).expr(*args))


def only(rule: str) -> tuple[Any, ...]:
    return tuple(r for r in RULES if r.__name__ == rule)


def differentiated(graph: Graph) -> Graph:
    """The derivative of the sum of a graph's output with respect to its first input."""
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        total = trace.lift(dp.sum(trace.inline(graph, inputs)[0]))
        (found,) = backward(trace, [total], [trace.constant(total.dtype.type(1))], inputs[:1])
        return trace.graph([trace.lift(dp.zeros(inputs[0].shape, dtype=total.dtype) if found is None else found)])


def run(function: Callable[..., Any], *args: Any, derivative: bool = False) -> np.ndarray:
    """The function in its stabilized form, or the derivative of its sum by the first argument, on the reference."""
    arrays = [np.asarray(x) for x in args]
    graph = stabilize(traced(function, *arrays))
    return evaluate(differentiated(graph) if derivative else graph, arrays)[0]


def test_every_rule_has_cases_and_a_docstring() -> None:
    rules = {rule.__name__ for rule in RULES}
    assert rules == {case[0] for case in CASES} == {case[0] for case in REFUSED}
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(("rule", "function", "x", "there", "gone"), CASES, ids=names(CASES))
def test_a_rule(rule: str, function: Any, x: Any, there: str, gone: str) -> None:
    graph = traced(function, x)
    assert dp.debug.show(rewrite(graph, only(rule))) != dp.debug.show(rewrite(graph, ()))
    better = dp.debug.verify(stabilize(graph))
    ops = {node.op.name for node in better.nodes()}
    assert there in ops and gone not in ops
    assert (better.outputs[0].shape, better.outputs[0].dtype) == (graph.outputs[0].shape, graph.outputs[0].dtype)


@pytest.mark.parametrize(("rule", "function", "x", "there", "gone"), CASES, ids=names(CASES))
def test_value_and_derivatives_stay(rule: str, function: Any, x: Any, there: str, gone: str) -> None:
    """Up to the third order, where the formula as written is accurate; 0 is among the arguments."""
    graph = traced(function, x)
    better = stabilize(graph)
    inputs = [np.asarray(x)] + [np.asarray([2, 0])] * (len(graph.inputs) - 1)
    for _ in range(4):
        (expected,), (found,) = evaluate(graph, inputs), evaluate(better, inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
        graph, better = differentiated(graph), differentiated(better)


@pytest.mark.parametrize(("rule", "function", "x"), REFUSED, ids=names(REFUSED))
def test_a_rule_stays_away(rule: str, function: Any, x: Any) -> None:
    graph = traced(function, x)
    assert dp.debug.show(rewrite(graph, only(rule))) == dp.debug.show(rewrite(graph, ()))


@pytest.mark.parametrize(("rule", "function", "x", "there", "gone"), CASES, ids=names(CASES))
def test_a_stable_graph_stays_as_it_is(rule: str, function: Any, x: Any, there: str, gone: str) -> None:
    once = stabilize(traced(function, x))
    assert dp.debug.show(stabilize(once)) == dp.debug.show(once)
    simple = simplify(once)
    assert dp.debug.show(simplify(stabilize(simple))) == dp.debug.show(simple)


# -- far out, against 60 decimal digits -----------------------------------------------------------------------------


def exact(function: Callable[[Decimal], Decimal], x: np.ndarray) -> np.ndarray:
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, -(10**9), 10**9
        return np.array([float(function(Decimal(float(v)))) for v in x])


def softplus_(v: Decimal) -> Decimal:
    return (1 + v.exp()).ln()


def sigmoid_(v: Decimal) -> Decimal:
    return 1 / (1 + (-v).exp())


# function, its value, its derivative
OUTSIDE: dict[str, tuple[Callable[[Any], Any], Callable[[Decimal], Decimal], Callable[[Decimal], Decimal]]] = {
    "log exp": (lambda x: dp.log(dp.exp(x)), lambda v: v, lambda v: Decimal(1)),
    "softplus": (lambda x: dp.log(1 + dp.exp(x)), softplus_, sigmoid_),
    "softplus by log1p": (lambda x: dp.log1p(dp.exp(x)), softplus_, sigmoid_),
    "log sigmoid": (lambda x: dp.log(dp.sigmoid(x)), lambda v: -softplus_(-v), lambda v: sigmoid_(-v)),
    "log 1 - sigmoid": (lambda x: dp.log(1 - dp.sigmoid(x)), lambda v: -softplus_(v), lambda v: -sigmoid_(v)),
    "log spelled sigmoid": (lambda x: dp.log(1 / (1 + dp.exp(-x))), lambda v: -softplus_(-v), lambda v: sigmoid_(-v)),
    "sigmoid": (lambda x: 1 / (1 + dp.exp(-x)), sigmoid_, lambda v: sigmoid_(v) * sigmoid_(-v)),
    "sigmoid of exp": (lambda x: dp.exp(x) / (1 + dp.exp(x)), sigmoid_, lambda v: sigmoid_(v) * sigmoid_(-v)),
    "silu": (
        lambda x: x / (1 + dp.exp(-x)),
        lambda v: v * sigmoid_(v),
        lambda v: sigmoid_(v) * (1 + v * sigmoid_(-v)),
    ),
}
FAR = np.array([-1e4, -1000, -720, -104, -90, -40, -1e-3, -1e-30, 0, 1e-30, 1e-3, 40, 90, 104, 720, 1000, 1e4])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_far_out(name: str, dtype: str) -> None:
    function, value, derivative = OUTSIDE[name]
    x = FAR.astype(dtype)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).smallest_normal
    np.testing.assert_allclose(run(function, x), exact(value, x), rtol=4 * eps, atol=4 * tiny)
    # The derivative of sigmoid is y (1 - y): its error is one of 1, not of itself.
    found = run(function, x, derivative=True)
    np.testing.assert_allclose(found, exact(derivative, x), rtol=8 * eps, atol=8 * tiny if "silu" in name else 2 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_near_zero(dtype: str) -> None:
    """Nothing cancels: the error is one of the result, however small that is."""
    x = np.array([-0.3, -1e-3, -1e-12, -1e-30, 1e-30, 1e-12, 1e-3, 0.3], dtype)
    eps = np.finfo(dtype).eps
    for function, value in [
        (lambda x: dp.log(1 + x), lambda v: (1 + v).ln()),
        (lambda x: dp.log(1 - x), lambda v: (1 - v).ln()),
        (lambda x: dp.exp(x) - 1, lambda v: v.exp() - 1),
        (lambda x: 1 - dp.exp(-x), lambda v: 1 - (-v).exp()),
    ]:
        np.testing.assert_allclose(run(function, x), exact(value, x), rtol=4 * eps, atol=0)


ROWS = np.array([[1000, 0, -1000], [-1000, -1001, -1003], [1e4, 1e4, 1e4], [0, -104, -1e4], [0.1, 0.2, 0.3]])


def exact_rows(row: np.ndarray) -> tuple[list[float], list[float], float]:
    """log_softmax, softmax and logsumexp of a row."""
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, -(10**9), 10**9
        values = [Decimal(float(v)) for v in row]
        total = sum(v.exp() for v in values).ln()
        return [float(v - total) for v in values], [float((v - total).exp()) for v in values], float(total)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_far_apart(dtype: str) -> None:
    x = ROWS.astype(dtype)
    logs, softmax, total = (np.array(part) for part in zip(*map(exact_rows, x), strict=True))
    eps = np.finfo(dtype).eps
    for function in (
        lambda x: dp.log(dp.softmax(x)),
        lambda x: dp.log(spelled_softmax(x)),
        lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x), axis=1, keepdims=True)),
    ):
        np.testing.assert_allclose(run(function, x), logs, rtol=4 * eps, atol=4 * eps)
        weight = np.array([0.2, 0.5, -0.1], dtype)
        found = run(lambda x, w, f=function: f(x) * w, x, weight, derivative=True)
        np.testing.assert_allclose(found, weight - weight.sum() * softmax, rtol=8 * eps, atol=8 * eps)
    np.testing.assert_allclose(run(lambda x: dp.log(dp.sum(dp.exp(x), axis=1)), x), total, rtol=4 * eps, atol=eps)
    found = run(lambda x: dp.log(dp.sum(dp.exp(x), axis=1)), x, derivative=True)
    np.testing.assert_allclose(found, softmax, rtol=8 * eps, atol=np.finfo(dtype).smallest_normal)


def test_infinite_rows_are_those_of_the_public_functions() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, -inf], [inf, 1.0], [inf, -inf], [-inf, 3.0], [nan, 0.0], [inf, inf], [1.0, nan]], np.float32)
    for spelled, public in [
        (lambda x: dp.log(dp.softmax(x)), dp.log_softmax),
        (lambda x: dp.log(dp.exp(x) / dp.sum(dp.exp(x), axis=1)[:, None]), dp.log_softmax),
        (lambda x: dp.log(dp.sum(dp.exp(x), axis=1)), lambda x: dp.logsumexp(x, axis=1)),
        (lambda x: dp.log(1 + dp.exp(x)), dp.softplus),
        (lambda x: 1 / (1 + dp.exp(-x)), dp.sigmoid),
        (lambda x: dp.exp(x) - 1, dp.expm1),
        (lambda x: dp.log(1 + x), dp.log1p),
    ]:
        expected = np.asarray(public(dp.asarray(x)))
        np.testing.assert_array_equal(run(spelled, x), expected)
        written = evaluate(traced(spelled, x), [x])[0]
        known = np.isfinite(written)
        np.testing.assert_allclose(expected[known], written[known], rtol=1e-6)


# -- what is around a formula ---------------------------------------------------------------------------------------


def test_numbers_stay_as_weak_as_they_were() -> None:
    for function in (
        lambda x: dp.log(1 + dp.exp(x)),
        lambda x: 1 / (1 + dp.exp(-x)),
        lambda x: dp.exp(x) - 1,
        lambda x: dp.log(1 + x),
        lambda x: dp.log(dp.sigmoid(x)),
        lambda x: dp.log(dp.exp(x)),
        lambda x: dp.log(dp.sum(dp.exp(x))),
        lambda x: dp.log(dp.softmax(x, axis=())),
    ):
        with tracing() as trace:
            x = trace.parameter(traced(dp.exp, 2.0).inputs[0].aval, "x")
            graph = trace.graph([trace.lift(function(x))])
        better = stabilize(graph)
        assert x.aval.weak and better.outputs[0].aval == graph.outputs[0].aval
        assert dp.debug.show(better) != dp.debug.show(graph)


def test_an_intermediate_that_somebody_else_reads_stays() -> None:
    def function(x: Any) -> Any:
        p = dp.softmax(x)
        return dp.log(p), p

    logs, softmax = evaluate(stabilize(traced(function, ROWS)), [ROWS])
    np.testing.assert_array_equal(softmax, np.asarray(dp.softmax(dp.asarray(ROWS))))
    assert np.isfinite(logs).all()


def test_a_printed_intermediate_is_printed_and_not_looked_through(capsys: pytest.CaptureFixture[str]) -> None:
    def function(x: Any) -> Any:
        return dp.log(dp.print_value(dp.softmax(x), label="p")) + dp.log(dp.softmax(x))

    evaluate(stabilize(traced(function, M)), [np.asarray(M)])
    assert capsys.readouterr().out.startswith("p = ")


def test_stop_grad_stops() -> None:
    """A derivative that was stopped does not come back, and one that was not is not lost."""
    stopped = run(lambda x: x * dp.log(1 + dp.exp(dp.stop_grad(x))), [100.0, 1000.0], derivative=True)
    np.testing.assert_allclose(stopped, [100, 1000])
    outer = run(lambda x: x * dp.stop_grad(dp.log(1 + dp.exp(x))), [100.0, 1000.0], derivative=True)
    np.testing.assert_allclose(outer, [100, 1000])


def test_formulas_in_formulas() -> None:
    x = np.array([-1000.0, -1.0, 0.0, 1000.0])
    twice = run(lambda x: dp.log(1 + dp.exp(dp.log(1 + dp.exp(x)))), x)
    np.testing.assert_allclose(twice, np.logaddexp(0, np.logaddexp(0, x)), rtol=1e-15)
    entropy = run(lambda x: -dp.sum(dp.softmax(x) * dp.log(dp.softmax(x)), axis=1), ROWS)
    assert np.isfinite(entropy).all()


@pytest.mark.skipif(jax is None, reason="JAX is the oracle; it comes with the extra defnpy[bench]")
def test_as_jax_has_it() -> None:
    x = np.array([1000.0, 0.0, -1000.0], np.float32)
    weight = np.array([0.3, 0.5, 0.2], np.float32)

    def theirs(x: Any) -> Any:
        return (jax.nn.log_softmax(x) * weight).sum()

    for softmax in (dp.softmax, spelled_softmax, lambda x: dp.exp(x) / dp.sum(dp.exp(x))):
        ours = run(lambda x, w, f=softmax: dp.log(f(x)) * w, x, weight, derivative=True)
        np.testing.assert_allclose(ours, jax.grad(theirs)(x), rtol=1e-6)
    far = FAR.astype(np.float32)
    for function, peer in [
        (lambda x: dp.log(1 + dp.exp(x)), jax.nn.softplus),
        (lambda x: dp.log(1 / (1 + dp.exp(-x))), jax.nn.log_sigmoid),
        (lambda x: 1 / (1 + dp.exp(-x)), jax.nn.sigmoid),
        (lambda x: x / (1 + dp.exp(-x)), jax.nn.silu),
    ]:
        np.testing.assert_allclose(run(function, far), peer(far), rtol=1e-5, atol=1e-37)
        theirs_slope = jax.vmap(jax.grad(peer))(far)
        np.testing.assert_allclose(run(function, far, derivative=True), theirs_slope, rtol=1e-5, atol=1e-6)
