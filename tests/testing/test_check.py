"""The gradient check: silent where all is well, and every planted fault is found."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import GradientError
from defnpy.ops import elementwise, linear
from defnpy.testing import GradientCheckError, VacuousCheckWarning, check_grads

X = dp.asarray([0.5, -1.0, 2.0])

# Some functions here do not depend on X, some rules give nothing. Two tests below catch the warning.
pytestmark = pytest.mark.filterwarnings("ignore::defnpy.testing.VacuousCheckWarning")


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
    from defnpy.transforms import cotangent as driver

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


# -- what is refused, said aloud or forgiven ------------------------------------------------------------------------


def test_a_function_that_draws_anew_is_refused():
    with pytest.raises(GradientError, match="<lambda> gives different values for equal arguments, "):
        check_grads(lambda x: x * np.random.default_rng().random(3), [X])


def test_float32_inside_is_refused_and_judged_by_its_own_bound_on_request():
    def narrow(x):
        return dp.tanh(x.astype("float32")) ** 2

    with pytest.raises(GradientError, match="narrow computes astype in float32 although its arguments are float64"):
        check_grads(narrow, [X])
    check_grads(narrow, [X], dtype="float32")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault is not a_little_wrong], ids=lambda f: f.__name__)
def test_a_wrong_rule_is_found_in_float32(fault, monkeypatch):
    check_grads(dp.tanh, [X], dtype="float32")
    monkeypatch.setattr(elementwise.tanh, "vjp", fault)
    with pytest.raises(GradientCheckError):
        check_grads(dp.tanh, [X], dtype="float32")


def test_a_kink_at_the_point_is_named():
    with pytest.raises(GradientCheckError) as caught:
        check_grads(lambda x: dp.sum(dp.relu(x)), [dp.asarray([0.0, 1.0])])
    slopes, way_out = str(caught.value).split(": the point is at a kink. ")
    assert ". The slopes to the left and to the right are " in slopes
    assert way_out == "Check elsewhere, or see gradient_report, which tells kinks from errors"


def test_a_jump_of_the_derivative_is_named():
    """The central difference of abs at 0 is right by symmetry; its derivative jumps there."""
    check_grads(lambda x: dp.abs(x) + x, [dp.asarray([0.0])], order=1)
    with pytest.raises(GradientCheckError, match="or its derivative, jumps at the point"):
        check_grads(lambda x: dp.abs(x) + x, [dp.asarray([0.0])], order=2)


def test_a_wrong_rule_is_not_called_a_kink(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", twice_too_large)
    with pytest.raises(GradientCheckError) as caught:
        check_grads(dp.tanh, [X])
    assert "kink" not in str(caught.value) and "jump" not in str(caught.value)


def test_a_kink_near_the_point_is_stepped_over():
    check_grads(lambda x: dp.relu(x), [dp.asarray([3e-7, 1.0])], order=1, h=1e-6)


def test_a_gradient_of_zeros_is_said_aloud():
    with pytest.warns(VacuousCheckWarning, match=r"<lambda>: the gradient of args\[0\], args\[1\]\['b'\] is zero"):
        check_grads(lambda a, p: dp.sign(a) + p["w"], [X, {"w": X, "b": X}], order=1)


@pytest.mark.parametrize("args", [[], [dp.asarray([1, 2])], [dp.asarray([True])], [dp.zeros((2, 0))]])
def test_a_check_with_nothing_to_move_is_said_aloud(args):
    with pytest.warns(VacuousCheckWarning, match="there is no float among the arguments to move"):
        check_grads(lambda *xs: dp.ones(2), args)


def test_order_zero_is_refused():
    with pytest.raises(GradientError, match="order 0 checks nothing"):
        check_grads(dp.tanh, [X], order=0)


def test_a_small_wrong_gradient_is_found():
    """One part in 200 of a gradient of size 0.01."""
    slightly = dp.custom_vjp(lambda g, y, x: (1.005 * g * (1 - y * y),))(lambda x: dp.tanh(x))
    check_grads(lambda x: 0.01 * dp.tanh(x), [X])
    with pytest.raises(GradientCheckError):
        check_grads(lambda x: 0.01 * slightly(x), [X])


def test_the_warning_is_at_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_grads(lambda x: dp.sign(x), [X])
    assert [w.filename for w in caught] == [__file__]


# -- forward mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "cpu"])
def test_a_wrong_forward_rule_is_found(backend, monkeypatch):
    function = dp.defn(lambda x: x * dp.sin(x), backend=backend) if backend else (lambda x: x * dp.sin(x))
    check_grads(function, [X])
    monkeypatch.setattr(elementwise.multiply, "jvp", lambda t, y, a, b: None if t[0] is None else t[0] * b)
    check_grads(function, [X], modes=("rev",), order=1)
    with pytest.raises(GradientCheckError, match=r"order 1 along a random direction is \S+ by jvp, \S+ by differences"):
        check_grads(function, [X], order=1)


def test_a_wrong_reverse_rule_is_found_by_its_own_mode(monkeypatch):
    """multiply has a rule forwards, so the wrong one backwards does not touch that mode."""
    monkeypatch.setattr(elementwise.multiply, "vjp", lambda g, y, a, b: (g * b, g * b))
    function = lambda x: x * dp.sin(x)  # noqa: E731
    check_grads(function, [X], modes=("fwd",))
    with pytest.raises(GradientCheckError, match="by the gradient, "):
        check_grads(function, [X], modes=("rev",), order=1)


def test_unknown_modes_are_refused():
    with pytest.raises(GradientError, match=r"check_grads: modes are 'fwd' and 'rev', not \('sideways',\)"):
        check_grads(dp.sin, [X], modes=("sideways",))


# -- scales -----------------------------------------------------------------------------------------------------------

SCALES = [1e-8, 1e-3, 1e8]
WRONG = dp.custom_vjp(lambda g, y, x: g * 1.01)(lambda x: x * 1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", SCALES)
def test_neither_small_nor_large_arguments_and_values_deceive_the_check(scale, dtype):
    """A function of a small or large argument, or value, is right or wrong as any other."""
    in_units = lambda x: dp.tanh(x / scale) ** 2  # noqa: E731
    small_or_large = lambda x: scale * dp.sum(dp.tanh(x) ** 2)  # noqa: E731
    check_grads(in_units, [X * scale], dtype=dtype)
    check_grads(small_or_large, [X], dtype=dtype)
    if dtype == "float64":
        for function, x in ((in_units, X * scale), (small_or_large, X)):
            with pytest.raises(GradientCheckError, match="the derivative of order 1 "):
                check_grads(lambda x, function=function: function(WRONG(x)), [x])


def test_an_argument_is_not_drowned_by_another():
    """The gradient of the first argument is 1e-16 times that of the second."""
    function = lambda a, b: dp.sum(dp.sin(a / 1e8)) + dp.sum(dp.sin(b * 1e8))  # noqa: E731
    args = [X * 1e8, X / 1e8]
    check_grads(function, args)
    with pytest.raises(GradientCheckError):
        check_grads(lambda a, b: function(WRONG(a), b), args)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (dp.log, [1e-8, 1.0, 1e8]),  # a step that suits the largest leaves the domain of the smallest
        (dp.prod, [0.0, 0.0, 2.0]),  # value, slope and the differences are small of second order
        (lambda x: x**3, [0.0]),
        (lambda x: dp.sum(x - dp.mean(x)), [0.3, 1e4, -2.0]),  # a value of rounding errors alone
        (lambda x: (x + 1e4) - 1e4, [0.5]),
        (lambda x: dp.where(dp.asarray([True, False]), x, -1e9), [0.5, 1.0]),
        (lambda x: dp.sin(1e7 * x), [0.3]),
        (
            lambda x: dp.sum(x * dp.cos(dp.arange(3.0))) - dp.sum(dp.cos(dp.arange(3.0)) * x[::-1][::-1]),
            [0.3, 1.7, 2.0],
        ),
        (lambda x: dp.sum((x - x[::-1]) * dp.cos(dp.arange(3.0))), [0.3, 1.7, 0.3]),
    ],
)
@pytest.mark.filterwarnings("ignore::defnpy.testing.VacuousCheckWarning")
def test_no_right_gradient_is_refused(function, x):
    check_grads(function, [dp.asarray(x, dtype="float64")])


def test_a_derivative_below_the_rounding_of_the_value_is_said_aloud():
    with pytest.warns(VacuousCheckWarning, match="the derivative is lost in the rounding of the value"):
        check_grads(lambda x: 1e8 + 1e-4 * dp.sum(dp.sin(x)), [X], order=1)


def test_a_kink_is_no_rounding():
    """Nor is a wrong rule beside a large constant that has no part in the value."""
    masked = lambda x: dp.sum(dp.softmax(dp.where(dp.asarray([True, True, False]), x, -1e9)) * dp.arange(3.0))  # noqa: E731
    check_grads(masked, [X])
    with pytest.raises(GradientCheckError):
        check_grads(lambda x: masked(WRONG(x)), [X])
    with pytest.raises(GradientCheckError, match="kink"):
        check_grads(lambda x: dp.sum(dp.relu(x)), [dp.asarray([0.0, 1.0])])
    with pytest.raises(GradientCheckError, match="jumps at the point"):
        check_grads(lambda x: dp.floor(x) + x, [dp.asarray([1.0])])


# -- mistakes in the call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [check_grads, dp.testing.gradient_report, dp.testing.step_sweep])
def test_mistakes_in_the_call_are_told(check):
    function = lambda x: dp.sum(dp.sin(x))  # noqa: E731
    with pytest.raises(GradientError, match="gradients are checked in float64 or float32, not in int32"):
        check(function, [X], dtype="int32")
    for argument in (X, np.ones(2), {"x": X}):
        with pytest.raises(GradientError, match="args holds the arguments of the function") as caught:
            check(function, argument)
        assert caught.value.hint == "put it into a list: [x]"
    with pytest.raises(GradientError, match="gives different values for equal arguments"):
        check(lambda x: dp.sum(x * np.random.default_rng().random(3)), [X])


def test_complex_steps_of_a_function_that_draws_anew_are_refused():
    with pytest.raises(GradientError, match="gives different values for equal arguments"):
        dp.testing.complex_step_gradient(lambda x: dp.sum(x * np.random.default_rng().random(3)), X)


def test_a_wrong_rule_is_told_with_a_way_on(monkeypatch):
    monkeypatch.setattr(elementwise.tanh, "vjp", twice_too_large)
    with pytest.raises(GradientCheckError, match="gradient_report shows which elements are wrong"):
        check_grads(dp.tanh, [X])
