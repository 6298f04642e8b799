"""The gradient report: the right figures, the worst element, and checks that check nothing called so."""

from __future__ import annotations

import io
import json
import math
import sys

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError
from defnpy.ops import elementwise
from defnpy.testing import GradientReport, gradient_report

X = dp.asarray([0.5, -1.0, 2.0])


def loss(p, x):
    return dp.sum(dp.sin(p["W"]) * x) + p["b"] ** 2


PARAMETERS = {"W": dp.asarray([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), "b": dp.asarray(3.0)}


def test_the_report_of_a_right_gradient():
    report = gradient_report(loss, [PARAMETERS, X])
    assert isinstance(report, GradientReport) and report.h == 6e-6
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
    report = gradient_report(loss, [PARAMETERS, X])
    data = report.to_dict()
    assert list(data) == ["['W']", "['b']"]
    assert " ".join(data["['W']"]) == (
        "shape checked mean_absolute max_absolute mean_relative max_relative worst numerical automatic noise errors "
        "kinks vacuous histogram"
    )
    assert json.loads(json.dumps(data))["['b']"]["automatic"] == 6.0


def test_the_report_prints_as_a_table():
    lines = str(gradient_report(loss, [PARAMETERS, X])).splitlines()
    assert lines[0] == "numerical (central differences, float64, h = 6e-06) against automatic gradient"
    assert lines[1].split("  ")[0] == "parameter" and lines[1].endswith("automatic")
    assert [line.split()[0] for line in lines[2:]] == ["['W']", "['b']"]
    column = lines[1].index("worst at")
    assert all(line[column] == "(" for line in lines[2:])


def test_the_report_of_a_compiled_function():
    report = gradient_report(dp.defn(loss, backend="cpu"), [PARAMETERS, X])
    assert report.max_absolute < 1e-8 and report.parameters[1].automatic == 6.0


def test_the_report_is_a_rich_table_too():
    console = pytest.importorskip("rich.console").Console(width=200, record=True, file=io.StringIO())
    console.print(gradient_report(lambda p: dp.sum(dp.relu(p["w"])) + 0 * p["b"], [{"w": dp.zeros(2), "b": 1.0}]))
    text = console.export_text()
    assert "['w']" in text and "2 kinks" in text and "all zero: checks nothing" in text
    assert "0:2" in text  # two differences that are exactly zero


def test_the_histogram_counts_every_element():
    for p in gradient_report(loss, [PARAMETERS, X]).parameters:
        assert sum(p.histogram.values()) == p.checked == math.prod(p.shape)
        assert all(key == "0" or 1e-17 < float(key) < 1e-8 for key in p.histogram)


def test_a_sample_of_the_elements():
    """A wrong element is found when it is among the samples; the count says what was looked at."""
    x = dp.asarray(np.linspace(0.1, 1.0, 50))
    whole, part = (gradient_report(lambda x: dp.sum(x**3), [x], samples=n).parameters[0] for n in (None, 7))
    assert (whole.checked, part.checked) == (50, 7)
    assert part.max_absolute <= whole.max_absolute
    again = gradient_report(lambda x: dp.sum(x**3), [x], samples=7).parameters[0]
    other = gradient_report(lambda x: dp.sum(x**3), [x], samples=7, seed=1).parameters[0]
    assert again == part and other.worst != part.worst
    assert "7 of 50 elements" in str(gradient_report(lambda x: dp.sum(x**3), [x], samples=7))


# -- kinks ----------------------------------------------------------------------------------------------------------


def kinks_of(function, x, **options):
    report = gradient_report(function, [x], **options).parameters[0]
    return [kink.index for kink in report.kinks], report


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (dp.relu, [0.0, 1.0, -1.0], [(0,)]),
        (dp.abs, [0.0, 1.0, 0.0], [(0,), (2,)]),
        (lambda x: dp.maximum(x, 1.0), [1.0, 2.0], [(0,)]),
        (lambda x: dp.max(x), [2.0, 1.0, 2.0], [(0,), (2,)]),
        (lambda x: dp.max_pool(dp.reshape(x, (1, 1, 2, 2)), (2, 2)), [3.0, 3.0, 1.0, 2.0], [(0,), (1,)]),
        (lambda x: dp.clip(x, 0.0, 1.0), [0.0, 0.5, 1.0], [(0,), (2,)]),
    ],
)
def test_a_kink_is_listed_and_is_no_error(function, x, expected):
    found, report = kinks_of(lambda x: dp.sum(function(x)), dp.asarray(x))
    assert found == expected and report.errors == 0
    assert report.max_absolute < 1e-8
    for kink in report.kinks:
        low, high = sorted((kink.left, kink.right))
        assert high - low > 0.9 and low - 1e-6 <= kink.automatic <= high + 1e-6


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: x**2, [0.0, 1.0]),  # an extremum, where the slopes to both sides have other signs
        (lambda x: dp.cos(x), [0.0, math.pi]),
        (lambda x: dp.exp(30 * x), [0.0, 0.1]),  # strongly curved
        (lambda x: x**3, [0.0, -0.0]),
        (lambda x: 1e6 * dp.sin(x), [0.3, 2.0]),
        (lambda x: dp.sin(x) + 1e6, [0.3, 2.0]),  # rounding of a large value
        (lambda x: 0 * x, [1.0, 2.0]),
    ],
)
def test_curvature_and_rounding_are_no_kinks(function, x):
    found, report = kinks_of(lambda x: dp.sum(function(x)), dp.asarray(x))
    assert found == [] and report.errors == 0


@pytest.mark.parametrize("distance", [7e-5, -8e-5, 3e-8])
def test_a_kink_within_the_step_is_avoided(distance):
    """The quotient across a kink near the point is wrong by half the jump; a smaller step does not reach it."""
    found, report = kinks_of(lambda x: dp.sum(dp.relu(x)), dp.asarray([distance, 0.5]), h=1e-4)
    assert report.errors == 0 and report.max_absolute < 1e-8
    assert found == ([] if abs(distance) > 1e-5 else [(0,)])  # too near to be told from a kink at the point


def test_a_value_that_lies_not_between_the_slopes_is_an_error_at_a_kink_too(monkeypatch):
    right = elementwise.relu.vjp
    monkeypatch.setattr(elementwise.relu, "vjp", lambda g, y, x: (right(g, y, x)[0] + 1.5 * g,))
    found, report = kinks_of(lambda x: dp.sum(dp.relu(x)), dp.asarray([0.0, 1.0]))
    assert found == [(0,)] and report.errors == 2
    assert "2 WRONG, 1 kink" in str(gradient_report(lambda x: dp.sum(dp.relu(x)), [dp.asarray([0.0, 1.0])]))


def test_a_wrong_rule_is_not_taken_for_a_kink(monkeypatch):
    monkeypatch.setattr(elementwise.sin, "vjp", lambda g, y, x: (g * dp.cos(x) * 1.01,))
    found, report = kinks_of(lambda x: dp.sum(dp.sin(x)), dp.asarray([0.3, 1.0, 2.0]))
    assert found == [] and report.errors == 3
    assert not gradient_report(lambda x: dp.sum(dp.sin(x)), [dp.asarray([0.3])]).ok


# -- the book's own checks --------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
NET = {"W1": RNG.normal(0, 0.1, (6, 5)), "b1": np.zeros(5), "W2": RNG.normal(0, 0.1, (5, 4)), "b2": np.zeros(4)}
IMAGES, LABELS = RNG.uniform(0, 1, (3, 6)), np.array([0, 2, 3])


def scores(p):
    return dp.relu(IMAGES @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]


def with_eps(p):
    """The book's cross entropy: a small number inside the logarithm."""
    y = dp.softmax(scores(p))
    return -dp.mean(dp.log(dp.sum(y * dp.one_hot(LABELS, 4, dtype="float64"), axis=-1) + 1e-7))


def without_eps(p):
    z = scores(p)
    return dp.mean(dp.logsumexp(z, axis=-1) - dp.sum(z * dp.one_hot(LABELS, 4, dtype="float64"), axis=-1))


def test_the_loss_as_written_agrees_to_the_rounding_floor():
    for loss in (with_eps, without_eps):
        report = gradient_report(loss, [NET])
        assert report.ok and all(p.max_absolute < p.noise < 1e-7 for p in report.parameters)


def test_the_eps_inside_the_log_is_seen(monkeypatch):
    """The book's backward pass leaves the eps out, y - t: its famous error of 1e-7 is that, and no rounding."""
    module = sys.modules["defnpy.testing.report"]
    right = module.value_and_grad
    monkeypatch.setattr(module, "value_and_grad", lambda function, numbers: right(without_eps, numbers))
    report = gradient_report(with_eps, [NET])
    b2 = {p.name: p for p in report.parameters}["['b2']"]
    assert 5e-8 < b2.max_absolute < 5e-7 and b2.noise < 1e-8
    assert report.ok  # within the usual tolerance
    assert not gradient_report(with_eps, [NET], tolerance=1e-8).ok


def test_ties_of_a_net_at_zero():
    """A layer of zeros sits at the kink of every ReLU: counted, not taken for an error."""
    net = {**NET, "W1": np.zeros((6, 5))}
    W1 = {p.name: p for p in gradient_report(without_eps, [net]).parameters}["['W1']"]
    assert len(W1.kinks) > 10 and W1.errors == 0


# -- refused, or judged by another bound ------------------------------------------------------------------------------


def test_float32_is_judged_by_its_own_bound(monkeypatch):
    function = lambda x: dp.sum(dp.sin(x) * x)  # noqa: E731
    report = gradient_report(function, [X], dtype="float32")
    assert report.ok and report.h == 5e-3 and report.dtype == "float32"
    assert 1e-6 < report.max_absolute < 1e-3
    monkeypatch.setattr(elementwise.sin, "vjp", lambda g, y, x: (g * dp.cos(x) * 1.2,))
    assert not gradient_report(function, [X], dtype="float32").ok


def rounding(x):
    return dp.sum(dp.sin(x.astype("float32")))


def test_float32_inside_is_refused():
    with pytest.raises(GradientError) as caught:
        gradient_report(rounding, [X])
    assert caught.value.what == (
        "rounding computes astype in float32 although its arguments are float64: a difference quotient divides that "
        "rounding by the step"
    )
    assert 'return dp.sum(dp.sin(x.astype("float32")))' in caught.value.where
    assert caught.value.hint == (
        'leave the dtype to the arguments, or pass dtype="float32" to be judged by the bound of float32'
    )
    assert gradient_report(rounding, [X], dtype="float32").ok


def test_float32_that_the_arguments_do_not_reach_is_allowed():
    mask = dp.asarray([1.0, 0.0, 1.0])  # float32, captured
    assert gradient_report(lambda x: dp.sum(x * (mask * 2)), [X]).ok


def dropout(x):
    return dp.sum(x * (np.random.default_rng().random(3) > 0.5))


def test_a_random_function_is_refused_and_shown_the_way_out():
    with pytest.raises(GradientError) as caught:
        for _ in range(20):  # two masks are equal in one case of eight
            gradient_report(dropout, [X])
    assert caught.value.what.startswith("dropout gives different values for equal arguments, ")
    assert caught.value.what.endswith(", so that differences would measure its randomness")
    assert (
        caught.value.hint == "draw from a key that is an argument: dp.random.uniform(key, shape) in place of np.random"
    )

    def with_key(x, key):
        return dp.sum(x * (dp.random.uniform(key, x.shape, dtype=x.dtype) > 0.5))

    report = gradient_report(with_key, [X, dp.random.key(3)])
    assert report.ok and not report.parameters[0].vacuous


# -- scales -----------------------------------------------------------------------------------------------------------

WRONG = dp.custom_vjp(lambda g, y, x: g * 1.01)(lambda x: x * 1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e8])
def test_neither_small_nor_large_arguments_and_values_deceive_the_report(scale, dtype):
    in_units = lambda x: dp.sum(dp.tanh(x / scale) ** 2)  # noqa: E731
    small_or_large = lambda x: scale * dp.sum(dp.tanh(x) ** 2)  # noqa: E731
    for function, x in ((in_units, X * scale), (small_or_large, X)):
        report = gradient_report(function, [x], dtype=dtype)
        assert report.ok and report.parameters[0].kinks == (), report
        if dtype == "float64":
            assert gradient_report(lambda x, function=function: function(WRONG(x)), [x]).parameters[0].errors == 3


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: dp.sum(dp.log(x)), [1e-8, 1.0, 1e8]),
        (lambda x: dp.sum(1 / x), [1e-8, 1.0, 1e8]),
        (dp.prod, [0.0, 0.0, 2.0]),
        (lambda x: dp.sum(x - dp.mean(x)), [0.3, 1e4, -2.0]),
        (lambda x: dp.sum(dp.sin(1e7 * x)), [0.3, 1.0]),
    ],
)
def test_every_element_is_moved_by_a_step_that_suits_it(function, x):
    report = gradient_report(function, [dp.asarray(x, dtype="float64")])
    assert report.ok and report.parameters[0].kinks == (), report


def test_one_wrong_element_among_others_of_any_size():
    """The smallest gradient of the row is wrong."""
    x = dp.asarray([1e-8, 1.0, 1e8], dtype="float64")
    wrong = dp.custom_vjp(lambda g, y, x: g * dp.asarray([1.0, 1.0, 1.01], dtype="float64") / x)(dp.log)
    (parameter,) = gradient_report(lambda x: dp.sum(wrong(x)), [x]).parameters
    assert parameter.errors == 1 and not parameter.kinks


def test_rounding_that_could_hide_a_fault_is_noted():
    text = str(gradient_report(lambda x: 1e8 + 1e-4 * dp.sum(dp.sin(x)), [X]))
    assert "rounding hides" in text
    assert "rounding hides" not in str(gradient_report(lambda x: dp.sum(dp.sin(x)), [X]))


def test_integers_that_must_be_integers_are_not_moved():
    """An index, or a key, in the same container as the parameters; a number of steps that is no index is moved."""
    p = {"w": X, "i": np.array([0, 2]), "key": dp.random.key(1)}
    report = gradient_report(lambda p: dp.sum(p["w"][p["i"]] ** 2 * dp.random.uniform(p["key"], dtype="float64")), [p])
    assert [r.name for r in report.parameters] == ["['w']"] and report.ok
    found = dp.testing.numerical_gradient(lambda p: dp.sum(p["w"][p["i"]] ** 2), p)
    assert found["i"] is None and np.allclose(found["w"], [1.0, 0.0, 4.0])
    assert gradient_report(lambda n: n * n, [3]).parameters[0].automatic == 6.0
