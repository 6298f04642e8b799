"""Wrong gradients and stale values that other systems shipped, each as a test: both sides of every kink and tie.

Those of control flow are in ``tests/transforms/test_control.py`` too, of stacked matrices in
``tests/array/test_linalg.py``, of branches not taken in ``test_dead_branches.py``.
"""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.testing import check_grads

WAYS = {
    "eager": lambda f: f,
    "cpu": lambda f: dp.defn(f, backend="cpu"),
    "reference": lambda f: dp.defn(f, backend="reference"),
}


def random(*shape):
    """Numbers of both signs, none of them 1: a rule that is right for a cotangent of ones only shows."""
    return np.random.default_rng(20).standard_normal(shape) * 3


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def gradient_of(way, function, *args, argnums=0):
    """The gradient of the sum of an elementwise function."""
    return dp.grad(way(lambda *xs: dp.sum(function(*xs))), argnums)(*[dp.asarray(x) for x in args])


def pulled(way, function, cotangent, *args, argnums=0):
    """The cotangents of the arguments, given that of the result."""

    def projected(c, *xs):
        return dp.sum(c * function(*xs))

    numbers = (argnums,) if isinstance(argnums, int) else argnums
    got = dp.grad(way(projected), tuple(n + 1 for n in numbers))(*[dp.asarray(x) for x in (cotangent, *args)])
    return got[0] if isinstance(argnums, int) else got


# -- clip: Nx sent back the square of the cotangent until 0.13, which a cotangent of ones cannot show ----------------


def test_clip_sends_back_the_cotangent_itself(way):
    x = np.array([-3.0, -1.0, -0.5, 0.0, 0.7, 1.0, 2.0, 9.0])
    c = random(8)
    got = pulled(way, lambda x: dp.clip(x, -1.0, 1.0), c, x)
    inside = np.abs(x) <= 1  # the closed interval: a value on a bound still moves
    np.testing.assert_array_equal(got, np.where(inside, c, 0))


def test_clip_gives_the_bound_what_it_takes_from_the_value(way):
    x, low, high = np.array([-3.0, 0.5, 2.0, 9.0]), np.full(4, -1.0), np.full(4, 1.0)
    c = random(4)
    to_x, to_low, to_high = pulled(way, lambda *a: dp.clip(*a), c, x, low, high, argnums=(0, 1, 2))
    np.testing.assert_array_equal(to_x, c * [0, 1, 0, 0])
    np.testing.assert_array_equal(to_low, c * [1, 0, 0, 0])
    np.testing.assert_array_equal(to_high, c * [0, 0, 1, 1])


def test_clip_with_bounds_in_the_wrong_order_is_the_upper_one(way):
    c = np.array([2.0, 3.0, 5.0])
    x = np.array([-9.0, 0.0, 9.0])
    assert way(lambda x: dp.clip(x, 1.0, -1.0))(dp.asarray(x)).tolist() == [-1.0, -1.0, -1.0]
    to_x, to_high = pulled(way, lambda x, high: dp.clip(x, 1.0, high), c, x, np.full(3, -1.0), argnums=(0, 1))
    assert to_x.tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(to_high, c)


def test_clip_agrees_with_differences():
    check_grads(lambda x: dp.clip(x, -1.0, 1.0) ** 3, [dp.asarray([-2.0, -0.5, 0.3, 0.9, 1.5])])


# -- remainder: a rule for the truncating remainder on the flooring one is wrong where the signs differ -------------


def test_remainder_with_mixed_signs(way):
    x, y = np.array([-7.0, 7.0, -7.0, 7.0]), np.array([3.0, -3.0, -3.0, 3.0])
    f = way(lambda x, y: x % y)
    np.testing.assert_array_equal(f(dp.asarray(x), dp.asarray(y)), np.mod(x, y))
    c = random(4)
    to_x, to_y = pulled(way, lambda x, y: x % y, c, x, y, argnums=(0, 1))
    np.testing.assert_array_equal(to_x, c)
    np.testing.assert_allclose(to_y, -c * np.floor(x / y), rtol=1e-15)  # not -trunc(x / y): at (-7, 3) it is 3, not 2


@pytest.mark.parametrize(("x", "y"), [(-7.0, 3.0), (7.0, -3.0), (-7.0, -3.0), (7.0, 3.0), (0.5, -2.0), (-0.5, 2.0)])
def test_remainder_agrees_with_differences(x, y):
    check_grads(lambda x, y: x % y, [dp.asarray(x), dp.asarray(y)])


# -- sigmoid in float32: exp(-x) s s is inf at -90 and NaN at -110 ---------------------------------------------------


def test_sigmoid_gradient_far_from_zero(way):
    g = np.asarray(gradient_of(way, dp.sigmoid, [-90.0, -110.0, -1e30, 90.0, 110.0, 0.0]))
    assert g.dtype == np.float32
    assert np.isfinite(g).all()
    np.testing.assert_allclose(g[0], 8.194e-40, rtol=1e-3)  # subnormal, and not flushed to 0
    assert g[1:].tolist() == [0.0, 0.0, 0.0, 0.0, 0.25]


def test_sigmoid_far_from_zero(way):
    y = way(lambda x: dp.sigmoid(x))(dp.asarray([-np.inf, -1e30, -80.0, 0.0, 80.0, np.inf, np.nan]))
    np.testing.assert_allclose(y, [0, 0, 1.8048513e-35, 0.5, 1, 1, np.nan], rtol=1e-5)


def test_second_derivative_of_sigmoid_is_finite(way):
    second = dp.grad(lambda x: dp.sum(dp.grad(lambda x: dp.sum(dp.sigmoid(x)))(x)))
    g = way(second)(dp.asarray([-90.0, -110.0, 0.0, 110.0]))
    assert np.isfinite(g).all() and g[2].item() == 0.0


def book_sigmoid(x):
    return 1 / (1 + dp.exp(-x))


def test_the_books_sigmoid_has_a_derivative_everywhere(way):
    """1 / (1 + exp(-x)): as written its derivative would be inf / inf where exp(-x) overflows float32, as in JAX; it is
    differentiated in its stable form."""
    x = [-110.0, -90.0, -40.0, -1.0, 0.0, 3.0, 110.0]
    with np.errstate(over="ignore"):
        s = 1 / (1 + np.exp(-np.array(x)))
    np.testing.assert_allclose(way(book_sigmoid)(dp.asarray(x)), s, rtol=1e-5, atol=1e-38)
    np.testing.assert_allclose(gradient_of(way, book_sigmoid, x), np.exp(-np.array(x)) * s * s, rtol=1e-4, atol=1e-38)


# -- kinks and ties -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "left", "at", "right"),
    [
        (dp.abs, -1.0, 0.0, 1.0),
        (dp.relu, 0.0, 0.0, 1.0),
        (lambda x: dp.maximum(x, 0), 0.0, 0.5, 1.0),
        (lambda x: dp.minimum(x, 0), 1.0, 0.5, 0.0),
        (lambda x: dp.clip(x, 0.0, None), 0.0, 1.0, 1.0),
        (lambda x: dp.maximum(x, -x), -1.0, 0.0, 1.0),
        (lambda x: dp.where(x > 0, x, 0), 0.0, 0.0, 1.0),
        (lambda x: dp.sqrt(x * x), -1.0, np.nan, 1.0),
        (dp.sign, 0.0, 0.0, 0.0),
        (dp.floor, 0.0, 0.0, 0.0),
    ],
    ids=["abs", "relu", "maximum", "minimum", "clip", "max(x,-x)", "where", "sqrt(x*x)", "sign", "floor"],
)
def test_the_conventions_at_kinks(function, left, at, right, way):
    got = np.asarray(gradient_of(way, function, [-2.0, 0.0, 2.0]))
    np.testing.assert_array_equal(got, np.array([left, at, right], np.float32))


def test_softplus_has_slope_one_half_at_zero(way):
    """max(0, x) + log1p(exp(-|x|)): with abs'(0) = 1 it would be 0 there, with maximum'(0) = 0 as well."""
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    c = random(5)
    got = pulled(way, dp.softplus, c, x)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(got, c / (1 + np.exp(-x)), rtol=1e-12, atol=1e-300)
    assert gradient_of(way, dp.softplus, [0.0]).tolist() == [0.5]


@pytest.mark.parametrize(
    "written",
    [
        lambda x: dp.maximum(0, x) + dp.log1p(dp.exp(-dp.abs(x))),
        lambda x: dp.maximum(x, 0) + dp.log1p(dp.exp(-dp.abs(x))),
        lambda x: dp.log(1 + dp.exp(x)),
        lambda x: -dp.log(dp.sigmoid(-x)),
        lambda x: dp.logaddexp(x, 0.0),
    ],
)
def test_softplus_as_people_write_it(written, way):
    """JAX and Axon have slope 0 at 0 for the first; the third overflows at 1000 unless it is rewritten."""
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    c = random(5)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(pulled(way, written, c, x), c / (1 + np.exp(-x)), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("reduce", [dp.max, dp.min])
def test_ties_of_a_reduction_share_evenly(reduce, way):
    sign = 1.0 if reduce is dp.max else -1.0
    x = sign * np.array([[1.0, 3.0, 3.0, 2.0, 3.0], [4.0, 4.0, 0.0, 4.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    c = random(3)
    got = pulled(way, lambda x: reduce(x, axis=1), c, x)
    hit = x == getattr(np, reduce.name)(x, axis=1, keepdims=True)
    np.testing.assert_allclose(got, c[:, None] * hit / hit.sum(axis=1, keepdims=True), rtol=1e-15)


def test_ties_over_several_axes_share_evenly(way):
    got = pulled(way, lambda x: dp.max(x, axis=(0, 2)), np.array([6.0, 2.0]), np.ones((3, 2, 2)))
    np.testing.assert_allclose(got, np.broadcast_to(np.array([6.0, 2.0])[None, :, None] / 6, (3, 2, 2)))


@pytest.mark.parametrize("choose", [dp.maximum, dp.minimum])
def test_ties_of_two_operands_share_evenly(choose, way):
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    c = random(3)
    to_x, to_y = pulled(way, choose, c, x, y, argnums=(0, 1))
    share = np.array([0.5, 0.0, 1.0]) if choose is dp.maximum else np.array([0.5, 1.0, 0.0])
    np.testing.assert_array_equal(to_x, c * share)
    np.testing.assert_array_equal(to_y, c * (1 - share))


def test_nan_passes_through_maxima(way):
    x = dp.asarray([1.0, np.nan, -1.0])
    for function in (lambda x: dp.maximum(x, 0), lambda x: dp.minimum(0, x), dp.relu, lambda x: dp.clip(x, -2, 2)):
        got = np.asarray(way(lambda x, function=function: function(x))(x))
        assert np.isnan(got).tolist() == [False, True, False]
    assert np.isnan(way(lambda x: dp.max(x))(x).item()) and np.isnan(way(lambda x: dp.min(x))(x).item())
    assert way(lambda x: dp.argmax(x))(x).item() == 1


# -- where ----------------------------------------------------------------------------------------------------------


def test_where_does_not_poison_the_gradient_when_the_input_is_masked_too(way):
    """The double where: without the inner one 0 * inf = NaN comes back from log at 0."""

    def safe(x):
        positive = x > 0
        return dp.where(positive, dp.log(dp.where(positive, x, 1)), 0)

    x = np.array([-1.0, 0.0, 0.5, 2.0])
    c = random(4)
    got = pulled(way, safe, c, x)
    np.testing.assert_allclose(got, [0, 0, c[2] / 0.5, c[3] / 2], rtol=1e-15)


def test_where_sends_exactly_zero_to_the_branch_that_is_not_taken(way):
    condition = dp.asarray([True, False, True])
    c = random(3)
    to_x, to_y = pulled(
        way, lambda x, y: dp.where(condition, x, y), c, np.full(3, np.inf), np.full(3, np.nan), argnums=(0, 1)
    )
    np.testing.assert_array_equal(to_x, [c[0], 0, c[2]])
    np.testing.assert_array_equal(to_y, [0, c[1], 0])


# -- windows with gaps: Nx's gradient of window_max drops the dilation ----------------------------------------------


@pytest.mark.parametrize("dilation", [1, 2, (2, 3)])
def test_the_gradient_of_max_pool_goes_where_the_maximum_was(dilation, way):
    def pool(x):
        return dp.max_pool(x, 2, strides=1, dilation=dilation)

    x = random(2, 3, 7, 8)
    c = random(*pool(dp.asarray(x)).shape)
    wanted = np.zeros_like(x)
    gaps = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    for n, k, i, j in np.ndindex(c.shape):
        places = [(i + a * gaps[0], j + b * gaps[1]) for a in (0, 1) for b in (0, 1)]
        wanted[n, k][max(places, key=lambda p: x[n, k][p])] += c[n, k, i, j]
    np.testing.assert_allclose(pulled(way, pool, c, x), wanted, rtol=1e-14)


# -- loops: Nx's while was wrong where the slope depends on the variable, and its repair runs from the start each step -


@pytest.mark.parametrize("steps", [7, 60])
def test_reverse_mode_runs_a_loop_once(steps, capsys):
    """x ** n by a loop of products: d/dx = n x ** (n - 1), and every body is computed exactly once."""

    def power(x, n):
        return dp.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, dp.print_value(s[1] * x)), (0, 1.0))[1]

    g = dp.grad(power)(dp.asarray(1.01, dtype="float64"), steps)
    np.testing.assert_allclose(g, steps * 1.01 ** (steps - 1), rtol=1e-12)
    assert len(capsys.readouterr().out.splitlines()) == steps


# -- powers and products at zero ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponent", "wanted"), [(0, 0.0), (1, 1.0), (2, 0.0), (3, 0.0), (1.0, 1.0), (2.0, 0.0), (0.5, np.inf)]
)
def test_power_with_base_zero(exponent, wanted, way):
    assert gradient_of(way, lambda x: x**exponent, [0.0]).tolist() == [wanted]


def test_powers_of_negative_numbers(way):
    x = [-2.0, -0.5]
    assert gradient_of(way, lambda x: x**2, x).tolist() == [-4.0, -1.0]
    assert gradient_of(way, lambda x: x**3.0, x).tolist() == [12.0, 0.75]


def test_zero_to_a_power_that_is_differentiated(way):
    to_x, to_y = gradient_of(way, lambda x, y: x**y, [0.0, 2.0], [2.0, 3.0], argnums=(0, 1))
    assert to_x.tolist() == [0.0, 12.0]
    np.testing.assert_allclose(to_y, [0.0, 8 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_product_gradient_at_zeros(zeros, way):
    """Dividing the product by the element gives NaN where an element is 0."""
    x = np.array([2.0, 3.0, 5.0, 7.0])
    x[:zeros] = 0
    wanted = [np.prod(np.delete(x, i)) for i in range(4)]
    np.testing.assert_allclose(gradient_of(way, dp.prod, x), wanted)


# -- stable losses --------------------------------------------------------------------------------------------------


def test_cross_entropy_from_logits_far_apart(way):
    """The gradient is softmax - target, whatever the size of the logits."""
    z = np.array([[1000.0, 0.0, -1000.0], [-1e4, 1e4, 0.0]], np.float32)
    t = np.array([[0, 0, 1], [0, 1, 0]], np.float32)
    got = gradient_of(way, lambda z: -dp.sum(dp.asarray(t) * dp.log_softmax(z)), z)
    np.testing.assert_array_equal(got, [[1, 0, -1], [0, 0, 0]])


def test_log_of_a_sum_of_exponentials_with_minus_infinity(way):
    x = np.array([-np.inf, 0.0, np.log(3.0)])
    np.testing.assert_allclose(way(lambda x: dp.logsumexp(x))(dp.asarray(x)), np.log(4.0), rtol=1e-15)
    np.testing.assert_allclose(gradient_of(way, dp.logsumexp, x), [0, 0.25, 0.75], rtol=1e-12)
    all_gone = way(lambda x: dp.logsumexp(x))(dp.asarray([-np.inf, -np.inf]))
    assert all_gone.item() == -np.inf


# -- dtypes: nothing is narrowed or widened in silence --------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_keep_the_dtype_that_was_given(dtype, way):
    x = dp.asarray([0.25, 0.5], dtype=dtype)

    def loss(x):
        return dp.mean(2 * dp.tanh(x) ** 2 + 1.5 * dp.exp(-x) / (1 + dp.softplus(x)) - 0.1)

    value, g = dp.value_and_grad(way(loss))(x)
    assert value.dtype == g.dtype == dtype


def test_float64_is_computed_in_float64(way):
    x = dp.asarray(1.0, dtype="float64")
    assert way(lambda x: (x + 1e-12) - 1)(x).item() == (1.0 + 1e-12) - 1


# -- zeros and None -------------------------------------------------------------------------------------------------


def test_a_float_that_is_not_used_has_zeros_and_what_is_no_number_has_none(way):
    """Zygote gives ``nothing`` for both."""
    params = {"used": dp.ones(2), "unused": dp.ones((2, 3)), "name": "net", "act": dp.tanh, "none": None, "on": True}
    got = dp.grad(way(lambda p: dp.sum(p["used"] ** 2)))(params)
    assert got["unused"].tolist() == [[0.0] * 3] * 2 and got["used"].tolist() == [2.0, 2.0]
    assert got["name"] is got["act"] is got["none"] is got["on"] is None


# -- captured values are hidden inputs: never stale, never part of the cache key ------------------------------------

SCALE = dp.asarray(2.0)


def test_a_captured_tensor_is_not_baked_in():
    global SCALE
    f = dp.defn(lambda x: x * SCALE, backend="reference")
    g = dp.grad(dp.defn(lambda x: x * SCALE, backend="reference"))
    try:
        for value in (2.0, 5.0, -1.0):
            SCALE = dp.asarray(value)
            assert f(3.0).item() == 3 * value
            assert g(3.0).item() == value
        assert f.cache_info()[:3] == (2, 1, 1)
        assert g.cache_info()[:3] == (2, 1, 1)
    finally:
        SCALE = dp.asarray(2.0)


def test_a_captured_matrix_and_a_captured_right_side():
    """Nx.LinAlg.solve crashed under its compiler when one of the two was a constant."""
    a, b = dp.asarray([[2.0, 1.0], [1.0, 3.0]]), dp.asarray([1.0, 2.0])
    np.testing.assert_allclose(dp.defn(lambda x: dp.linalg.solve(x, b))(a), dp.linalg.solve(a, b), rtol=1e-6)
    np.testing.assert_allclose(dp.defn(lambda x: dp.linalg.solve(a, x))(b), dp.linalg.solve(a, b), rtol=1e-6)


def test_a_thousand_captured_values_compile_once():
    """Baked-in constants would compile a program for each."""
    table = [dp.asarray(float(n)) for n in range(1000)]
    current = table[0]
    f = dp.defn(lambda x: x + current, backend="reference")
    for current in table:
        assert f(1.0).item() == current.item() + 1
    assert f.cache_info()[:3] == (999, 1, 1)


def test_the_backward_pass_does_not_write_into_its_arguments(way):
    """The book's Relu zeroes its argument in place."""
    x, c = np.array([-1.0, 2.0]), np.array([3.0, 4.0])
    before = x.copy(), c.copy()
    pulled(way, dp.relu, c, x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(c, before[1])


def test_common_subexpressions_are_one_node():
    graph = dp.defn(lambda x: dp.exp(x) * dp.exp(x) + dp.exp(x)).expr(dp.spec(3))
    assert [n.op.name for n in graph.nodes()].count("exp") == 1


def test_a_gradient_costs_one_forward_pass():
    """value_and_grad shares the forward nodes: one exp in all, since exp is its own derivative."""
    graph = dp.defn(dp.value_and_grad(lambda x: dp.sum(dp.exp(x)))).expr(dp.spec(3))
    assert [n.op.name for n in graph.nodes()].count("exp") == 1
