"""The gradient report: the right figures, the worst element, and checks that check nothing called so."""

from __future__ import annotations

import math

import numpy as np

import defnpy as dp
from defnpy.ops import elementwise
from defnpy.testing import GradientReport, gradient_report

X = dp.asarray([0.5, -1.0, 2.0])


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
    monkeypatch.setattr(elementwise.sin, "vjp", lambda g, y, x: (None,))
    W = gradient_report(loss, [PARAMETERS, X]).parameters[0]
    assert not W.vacuous and W.automatic == 0.0 and W.max_relative == 1.0


def test_a_nan_in_a_gradient_is_the_worst_there_is(monkeypatch):
    monkeypatch.setattr(elementwise.sin, "vjp", lambda g, y, x: (g * float("nan"),))
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
