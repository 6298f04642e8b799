"""The checkers of gradients must find what is wrong: planted faults of every kind, and silence where all is well."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError
from defnpy.ops import elementwise, linear
from defnpy.testing import (
    GradientCheckError,
    GradientReport,
    check_grads,
    gradient_report,
    numerical_diff,
    numerical_gradient,
)

X = dp.asarray([0.5, -1.0, 2.0])


# -- numerical differences ------------------------------------------------------------------------------------------


def test_numerical_diff_is_the_central_difference():
    def f(x):
        return 0.01 * x**2 + 0.1 * x

    for x, h in ((5.0, 1e-4), (10.0, 1e-4), (2.0, 0.5)):
        assert numerical_diff(f, x, h=h) == (f(x + h) - f(x - h)) / (2 * h)
    assert numerical_diff(f, 5.0) == 0.1999999999990898


def test_its_error_falls_with_the_square_of_the_step():
    errors = [abs(numerical_diff(math.exp, 1.0, h=h) - math.e) for h in (1e-1, 1e-2, 1e-3)]
    assert 95 < errors[0] / errors[1] < 105 and 95 < errors[1] / errors[2] < 105


@pytest.mark.parametrize("function", [dp.sin, dp.defn(lambda x: dp.sin(x), backend="reference")])
def test_numerical_diff_of_a_defnpy_function_is_taken_in_float64(function):
    assert abs(numerical_diff(function, 1.0) - math.cos(1.0)) < 1e-8


def test_numerical_diff_needs_a_scalar():
    with pytest.raises(GradientError, match=r"need a scalar function, not one that returns shape \(2,\)"):
        numerical_diff(lambda x: np.ones(2) * x, 1.0)


def test_numerical_gradient_over_containers():
    def f(p, x):
        return dp.sum(p["w"] * x) + p["b"][0] ** 2

    p = {"w": X, "b": [3.0, None], "f": dp.tanh, "s": "text", "flag": True}
    got = numerical_gradient(f, p, X)
    np.testing.assert_allclose(got["w"], [0.5, -1.0, 2.0], rtol=1e-8)
    assert got["w"].dtype == np.float64 and got["w"].shape == (3,)
    np.testing.assert_allclose(got["b"][0], 6.0, rtol=1e-8)
    assert got["b"][1] is None and got["f"] is None and got["s"] is None and got["flag"] is None


def test_numerical_gradient_for_several_arguments():
    def f(a, b):
        return a**2 * b

    first, second = numerical_gradient(f, 3.0, 2.0, argnums=(0, 1))
    np.testing.assert_allclose([first, second], [12.0, 9.0], rtol=1e-8)
    np.testing.assert_allclose(numerical_gradient(f, 3.0, 2.0, argnums=1), 9.0, rtol=1e-8)


def test_numerical_gradient_of_integers_and_indices():
    np.testing.assert_allclose(numerical_gradient(lambda x: dp.sum(x**2), dp.asarray([1, 2])), [2.0, 4.0], rtol=1e-8)
    picked = numerical_gradient(lambda x, i: dp.sum(x[i]), X, np.array([1, 1]))  # an index stays an integer
    np.testing.assert_allclose(picked, [0.0, 2.0, 0.0], atol=1e-8)


def test_numerical_gradient_of_compiled_and_of_numpy_functions():
    wanted = [1.0, -2.0, 4.0]
    for f in (dp.defn(lambda x: dp.sum(x**2), backend="cpu"), lambda x: np.sum(np.asarray(x) ** 2)):
        np.testing.assert_allclose(numerical_gradient(f, X), wanted, rtol=1e-8)


def test_numerical_gradient_leaves_its_arguments_alone():
    x = np.array([1.0, 2.0])
    kept = []
    numerical_gradient(lambda t: kept.append(t) or dp.sum(t * t), x)
    assert x.tolist() == [1.0, 2.0]
    assert len(kept) == 4 and len({tuple(t.tolist()) for t in kept}) == 4  # no tensor changed after the call


def test_numerical_gradient_in_float32_is_poor():
    got = numerical_gradient(lambda x: dp.sum(x**2), dp.asarray([3.0, 4.0]), dtype="float32")
    assert got.dtype == np.float32 and got.tolist() == [5.98907470703125, 8.001327514648438]


def test_numerical_gradient_needs_a_scalar():
    with pytest.raises(GradientError, match=r"need a scalar function, not one that returns shape \(3,\)"):
        numerical_gradient(lambda x: x, X)


# -- check_grads: silence where all is well -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda x: dp.tanh(x) * dp.exp(-(x**2)), [X]),
        (lambda x, y: x @ y, [dp.ones((2, 3)) * X, dp.ones((3, 2))]),
        (lambda p: {"a": p["w"] * 2, "b": [dp.softmax(p["w"]), "text", None]}, [{"w": X, "f": dp.tanh}]),
        (lambda x: dp.argmax(x), [X]),
        (lambda x, m: dp.where(m, x, 0) * x, [X, np.array([True, False, True])]),
        (lambda x, n: x * n, [X, 3.0]),
        (lambda x: dp.sum(x) * 1e8, [X]),
        (lambda x: dp.sum(x) * 1e-8, [X]),
        (lambda x: dp.zeros(2) + 0 * dp.sum(x), [X]),
    ],
)
def test_right_gradients_pass(function, args):
    check_grads(function, args)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_compiled_functions_are_checked_on_their_own_backend(backend, monkeypatch):
    module, used = sys.modules["defnpy.defn"], []
    load = module.load_backend
    monkeypatch.setattr(module, "load_backend", lambda name: used.append(name) or load(name))
    check_grads(dp.defn(lambda x: dp.tanh(x) ** 2, backend=backend), [X])
    assert backend in used and (backend == "cpu" or "cpu" not in used)


@pytest.mark.parametrize(
    ("function", "args"), [(lambda x, i: x[i] ** 2, [X, np.array([0, 2])]), (lambda x, n: x * n, [X, 3])]
)
def test_integer_arguments_are_left_alone(function, args):
    check_grads(function, args)


# -- check_grads: planted faults ------------------------------------------------------------------------------------


def twice_too_large(g, y, x):
    return (2 * g * (1 - y * y),)


def wrong_sign(g, y, x):
    return (-g * (1 - y * y),)


def square_of_the_cotangent(g, y, x):
    """Right for a cotangent of ones, as Nx's clip was."""
    return (g * g * (1 - y * y),)


def mean_of_the_cotangent(g, y, x):
    """Right for every constant cotangent."""
    return (dp.mean(g) * (1 - y * y) + 0 * x,)


def a_little_wrong(g, y, x):
    return (g * (1 - y * y) * 1.001,)


def nothing(g, y, x):
    return (None,)


def not_a_number(g, y, x):
    return (g * float("nan"),)


def right_at_first_order_only(g, y, x):
    """The value of the derivative is right, its dependence on x is cut: the second derivative is 0."""
    return (g * dp.stop_grad(1 - y * y),)


FAULTS = [
    twice_too_large,
    wrong_sign,
    square_of_the_cotangent,
    mean_of_the_cotangent,
    a_little_wrong,
    nothing,
    not_a_number,
    right_at_first_order_only,
]
FIRST_ORDER = FAULTS[:-1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_wrong_rule_is_found(fault, monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", fault)
    with pytest.raises(GradientCheckError):
        check_grads(dp.tanh, [X])
    with pytest.raises(GradientCheckError):  # inside a larger function too
        check_grads(lambda p: {"y": dp.exp(dp.tanh(p["x"])) + p["x"]}, [{"x": X}])


@pytest.mark.parametrize("fault", FIRST_ORDER, ids=lambda f: f.__name__)
def test_a_wrong_rule_is_found_at_first_order(fault, monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", fault)
    with pytest.raises(GradientCheckError, match="the derivative of order 1 "):
        check_grads(dp.tanh, [X], order=1)


def test_a_rule_that_is_wrong_at_second_order_only(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", right_at_first_order_only)
    check_grads(dp.tanh, [X], order=1)
    with pytest.raises(GradientCheckError, match="tanh: the derivative of order 2 "):
        check_grads(dp.tanh, [X], order=2)


def test_a_wrong_rule_is_found_in_a_compiled_function(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", twice_too_large)
    with pytest.raises(GradientCheckError):
        check_grads(dp.defn(lambda x: dp.tanh(x), backend="cpu"), [X], order=1)


def test_a_wrong_rule_of_a_reduction_and_of_a_movement(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(linear.sum_, "vjp", lambda g, y, x, **params: (dp.ones_like(x),))  # ignores the cotangent
        with pytest.raises(GradientCheckError):
            check_grads(lambda x: dp.sum(x * x, axis=0), [dp.ones((2, 3)) * X])
    with monkeypatch.context() as patch:
        patch.setattr(linear.permute_dims, "vjp", lambda g, y, x, *, axes: (dp.reshape(g, x.shape),))
        with pytest.raises(GradientCheckError):
            check_grads(lambda x: x.T * 1.0, [dp.ones((2, 3)) * X])
    check_grads(lambda x: dp.sum(x.T * x.T, axis=0), [dp.ones((2, 3)) * X])  # and without the faults all is well


def test_a_wrong_rule_for_one_of_two_operands(monkeypatch):
    monkeypatch.setattr(elementwise.multiply, "vjp", lambda g, z, x, y: (g * y, g * y))
    with pytest.raises(GradientCheckError):
        check_grads(dp.multiply, [X, X + 1])


def test_a_forgotten_sum_over_broadcast_axes_is_found(monkeypatch):
    """The driver sums repeated axes once for all rules; without that the shapes betray it."""
    from defnpy.transforms import grad as driver

    monkeypatch.setattr(driver, "unbroadcast", lambda part, arg: part[0] if part.shape != arg.shape else part)
    with pytest.raises(GradientCheckError):
        check_grads(lambda x, y: x * y, [dp.ones((2, 3)) * X, X])


def test_the_message_has_both_numbers(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", twice_too_large)
    with pytest.raises(GradientCheckError) as caught:
        check_grads(dp.tanh, [X], order=1)
    head, numbers = str(caught.value).split(" by differences")[0].split(" is ")
    assert head == "tanh: the derivative of order 1 along a random direction"
    ours, theirs = numbers.split(" by the gradient, ")
    assert float(ours) == pytest.approx(2 * float(theirs), rel=1e-6)
    assert isinstance(caught.value, AssertionError)


def test_the_check_is_the_same_on_every_run(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", twice_too_large)
    texts = set()
    for seed in (0, 0, 1):
        with pytest.raises(GradientCheckError) as caught:
            check_grads(dp.tanh, [X], order=1, seed=seed)
        texts.add(str(caught.value))
    assert len(texts) == 2


def test_the_tolerance_decides(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", a_little_wrong)
    check_grads(dp.tanh, [X], order=1, tolerance=1e-2)
    with pytest.raises(GradientCheckError):
        check_grads(dp.tanh, [X], order=1, tolerance=1e-5)


# -- the report -----------------------------------------------------------------------------------------------------


def loss(p, x):
    return dp.sum(dp.sin(p["W"]) * x) + p["b"] ** 2


PARAMETERS = {"W": dp.asarray([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), "b": dp.asarray(3.0)}


def test_the_report_of_a_right_gradient():
    report = gradient_report(loss, [PARAMETERS, X])
    assert isinstance(report, GradientReport) and report.h == 1e-6
    assert [(p.name, p.shape, p.vacuous) for p in report.parameters] == [("['W']", (2, 3), False), ("['b']", (), False)]
    assert report.max_absolute == max(p.max_absolute for p in report.parameters) < 1e-8
    for p in report.parameters:
        assert 0 <= p.mean_absolute <= p.max_absolute and 0 <= p.mean_relative <= p.max_relative < 1e-8


def test_the_report_finds_the_worst_element(monkeypatch):
    """A rule that is wrong for elements above 0.55 only: one element of W, at [1, 2]."""
    right = elementwise.sin.vjp
    monkeypatch.setattr(elementwise.sin, "vjp", lambda g, y, x: (right(g, y, x)[0] + dp.where(x > 0.55, 0.25, 0),))
    W, b = gradient_report(loss, [PARAMETERS, X]).parameters
    assert W.worst == (1, 2) and b.max_absolute < 1e-8
    true = math.cos(0.6) * 2
    np.testing.assert_allclose(
        [W.max_absolute, W.mean_absolute, W.numerical, W.automatic, W.max_relative, W.mean_relative],
        [0.25, 0.25 / 6, true, true + 0.25, 0.25 / (true + 0.25), 0.25 / (true + 0.25) / 6],
        rtol=1e-6,
    )


def normalized(p, x):
    distance = x - dp.mean(x, axis=0)
    return dp.sum((p["gamma"] * distance / dp.sqrt(dp.mean(distance**2, axis=0) + 1e-6) + p["beta"]) ** 3)


def test_the_report_calls_a_check_of_zeros_vacuous():
    """The book checks its batch normalization with a batch of one: gamma's gradient is 0 on both sides in any case."""
    p = {"gamma": dp.ones(3), "beta": dp.ones(3)}
    x = dp.asarray([[1.0, 2.0, 3.0], [4.0, 0.0, 5.0], [2.0, 6.0, 1.0], [0.0, 1.0, 7.0]])
    one, four = gradient_report(normalized, [p, x[:1]]), gradient_report(normalized, [p, x])
    assert {r.name: r.vacuous for r in one.parameters} == {"['beta']": False, "['gamma']": True}
    assert {r.name: r.vacuous for r in four.parameters} == {"['beta']": False, "['gamma']": False}
    assert one.parameters[1].max_absolute == 0.0 and four.max_absolute < 1e-7
    marked = [line for line in str(one).splitlines() if line.endswith("all zero: checks nothing")]
    assert len(marked) == 1 and "gamma" in marked[0] and "checks nothing" not in str(four)


def test_a_gradient_that_is_zero_on_one_side_only_is_not_vacuous(monkeypatch):
    monkeypatch.setattr(elementwise.sin, "vjp", nothing)
    W = gradient_report(loss, [PARAMETERS, X]).parameters[0]
    assert not W.vacuous and W.automatic == 0.0 and W.max_relative == 1.0


def test_a_nan_in_a_gradient_is_the_worst_there_is(monkeypatch):
    monkeypatch.setattr(elementwise.sin, "vjp", not_a_number)
    W = gradient_report(loss, [PARAMETERS, X]).parameters[0]
    assert W.max_absolute == math.inf and math.isnan(W.automatic) and not W.vacuous


def test_the_report_of_several_arguments():
    report = gradient_report(lambda a, b: dp.sum(a * b["x"]), [X, {"x": X}], argnums=(0, 1))
    assert [p.name for p in report.parameters] == ["arg0", "arg1['x']"]
    alone = gradient_report(lambda a: dp.sum(a**2), [X])
    assert [p.name for p in alone.parameters] == ["argument"]


def test_the_report_of_nothing():
    (empty,) = gradient_report(lambda x: dp.sum(x), [dp.zeros((0, 2))]).parameters
    assert empty.vacuous and empty.shape == (0, 2) and empty.worst == ()


def test_the_report_as_a_dictionary_is_plain():
    import json

    report = gradient_report(loss, [PARAMETERS, X])
    data = report.to_dict()
    assert list(data) == ["['W']", "['b']"]
    assert set(data["['W']"]) == {
        "shape",
        "mean_absolute",
        "max_absolute",
        "mean_relative",
        "max_relative",
        "worst",
        "numerical",
        "automatic",
        "vacuous",
    }
    assert json.loads(json.dumps(data))["['b']"]["automatic"] == 6.0


def test_the_report_prints_as_a_table():
    lines = str(gradient_report(loss, [PARAMETERS, X])).splitlines()
    assert lines[0] == "numerical (central differences, float64, h = 1e-06) against automatic gradient"
    assert lines[1].split("  ")[0] == "parameter" and lines[1].endswith("automatic")
    assert [line.split()[0] for line in lines[2:]] == ["['W']", "['b']"]
    column = lines[1].index("worst at")
    assert all(line[column] == "(" for line in lines[2:])


def test_the_report_of_a_compiled_function():
    report = gradient_report(dp.defn(loss, backend="cpu"), [PARAMETERS, X])
    assert report.max_absolute < 1e-8 and report.parameters[1].automatic == 6.0
