"""The programs that this project was started from, with the numbers their authors printed.

F: a Flux tutorial of 2019. G: the Flux guide (the cases with layers, F8 to F12, G7 to G10 and H, are in
``tests/book/test_flux.py``). N: chapter 4 of "Deep Learning from Scratch" ported to Elixir's Nx.
B: toy values of the book itself (chapters 3 and 4). Where a document has a bug, the test states the correct behaviour
and its docstring names the bug. Every function runs three ways: eagerly, compiled for the CPU, and on the reference
backend.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import defnpy as dp
from defnpy.testing import gradient_report, numerical_diff, numerical_gradient

WAYS = {
    "eager": lambda f: f,
    "cpu": lambda f: dp.defn(f, backend="cpu"),
    "reference": lambda f: dp.defn(f, backend="reference"),
}


@pytest.fixture(params=WAYS)
def way(request):
    """A function as it is, or compiled."""
    return WAYS[request.param]


def f64(values):
    return dp.asarray(values, dtype="float64")


def same(got, wanted, rtol=1e-12, atol=0.0):
    """Equal numbers in equal shapes; NaN is never equal."""
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=rtol, atol=atol, equal_nan=False)
    assert np.shape(got) == np.shape(wanted)


# -- F: Flux tutorial -----------------------------------------------------------------------------------------------


def polynomial(x):
    return 3 * x**2 + 2 * x + 1


def line(W, b, x):
    return W * x + b


@pytest.mark.parametrize("number", [float, int])
def test_f1_first_and_second_derivative(way, number):
    """An integer literal works like a float one: JAX refuses it."""
    f = way(polynomial)
    first, second = dp.grad(f)(number(2)), dp.grad(dp.grad(f))(number(1))
    assert (first.item(), second.item()) == (14.0, 6.0)
    assert first.dtype == second.dtype == "float32"
    assert first.shape == second.shape == ()


def test_f2_gradient_for_several_arguments(way):
    got = dp.grad(way(line), argnums=(0, 1, 2))(2, 3, 4)
    assert isinstance(got, tuple)
    assert [g.item() for g in got] == [4.0, 1.0, 2.0]


def test_f3_explicit_parameters(way):
    """The document's ``Params`` are implicit and mutable, and a comment calls b ``W=3``; here they are an argument."""

    def f(p):
        return p["W"] * 4 + p["b"]

    got = dp.grad(way(f))({"W": 2.0, "b": 3.0})
    assert {name: g.item() for name, g in got.items()} == {"W": 4.0, "b": 1.0}


# The document prints dL/dW, the loss before and after, and the first row of W after the step. These x, W[0] and
# residuals W x + b - y follow from that; the second row of W and b are free, y absorbs them.
FLUX_X = f64([0.984560091, 0.672200497, 0.629100592, 0.497996152, 0.513053526])
FLUX_Y = f64([0.544269854, 0.460252124])
FLUX = {
    "W": f64([[0.930514, 0.3962666, 0.787115, 0.682746, 0.781531], [0.25, 0.5, 0.125, 0.75, 0.375]]),
    "b": f64([0.75, 0.25]),
}
FLUX_DW = [[5.16775, 3.52824, 3.30202, 2.61388, 2.69291], [2.00165, 1.36661, 1.27898, 1.01244, 1.04306]]


def squared_error(p, x, y):
    return dp.sum((p["W"] @ x + p["b"] - y) ** 2)


def test_f4_loss_of_a_linear_model(way):
    same(way(squared_error)(FLUX, FLUX_X, FLUX_Y), 7.9207555, rtol=1e-6)


def test_f5_gradient_of_the_loss(way):
    value, g = dp.value_and_grad(way(squared_error))(FLUX, FLUX_X, FLUX_Y)
    same(value, 7.9207555, rtol=1e-6)
    same(g["W"], FLUX_DW, rtol=0, atol=1e-5)  # all digits that are printed
    same(g["b"], [2 * 2.62439433, 2 * 1.01651791], rtol=1e-7)
    assert list(g) == ["W", "b"] and g["W"].dtype == "float64"


def test_f6_one_step_on_the_weights_alone(way):
    """The document updates W and forgets b; updating both gives 0.8855095."""
    g = dp.grad(way(squared_error))(FLUX, FLUX_X, FLUX_Y)
    W = FLUX["W"] - 0.1 * g["W"]
    same(W[0], [0.413739, 0.0434426, 0.456913, 0.421358, 0.51224], rtol=0, atol=1e-6)
    loss = way(squared_error)
    same(loss({**FLUX, "W": W}, FLUX_X, FLUX_Y), 2.2616927, rtol=1e-6)
    both = dp.tree.map(lambda p, d: p - 0.1 * d, FLUX, g)
    same(loss(both, FLUX_X, FLUX_Y), 0.8855095, rtol=1e-6)
    same(FLUX["W"][0, 0], 0.930514)  # the old parameters are still there


def test_f7_repeat_until_the_loss_is_small(way):
    """The document leaves the loop to the reader; 13 steps on W alone are needed. The step is compiled once."""

    def step(W):
        value, g = dp.value_and_grad(lambda w: squared_error({"W": w, "b": FLUX["b"]}, FLUX_X, FLUX_Y))(W)
        return W - 0.1 * g, value

    step = way(step) if way is not WAYS["eager"] else step
    W, losses = FLUX["W"], []
    while not losses or losses[-1] >= 1e-6:
        W, _ = step(W)
        losses.append(squared_error({"W": W, "b": FLUX["b"]}, FLUX_X, FLUX_Y).item())
        assert len(losses) < 100
    assert len(losses) == 13
    same(losses[0], 2.2616927, rtol=1e-6)
    if isinstance(step, dp.Defn):
        assert step.cache_info()[:3] == (12, 1, 1)


def test_f7_in_one_loop_whose_length_the_values_decide():
    """As one compiled program: the same thirteen steps."""

    def loss_of(w):
        return squared_error({"W": w, "b": FLUX["b"]}, FLUX_X, FLUX_Y)

    @dp.defn
    def train(W):
        def step(state):
            W, steps = state
            return W - 0.1 * dp.grad(loss_of)(W), steps + 1

        return dp.while_loop(lambda state: loss_of(state[0]) >= 1e-6, step, (W, 0))

    W, steps = train(FLUX["W"])
    assert steps.item() == 13 and loss_of(W).item() < 1e-6
    assert train(W)[1].item() == 0 and train.cache_info().misses == 1


# -- G: Flux guide --------------------------------------------------------------------------------------------------


class Bundle(NamedTuple):
    a: Any
    b: Any
    c: Any


BUNDLE = Bundle(dp.asarray([2, 1]), dp.asarray([2, 0]), dp.tanh)


def distance(x, y):
    return dp.sum((x - y) ** 2)


def bundle_distance(nt):
    return dp.sum(dp.abs(nt.a - nt.b) ** 2)


def bundle_ratio(x, y):
    return dp.sum((x.a / y - x.b) ** 2)


def signs(x):
    return np.signbit(np.asarray(x)).tolist()


def test_g1_derivatives(way):
    f = way(lambda x: 3 * x**2 + 2 * x + 1)
    df = dp.grad(f)
    assert (df(2.0).item(), dp.grad(df)(2.0).item()) == (14.0, 6.0)


def test_g2_integer_arrays_and_the_sign_of_zero(way):
    """Flux prints [-0.0, -2.0] for the second; JAX refuses integer arguments."""
    first, second = dp.grad(way(distance), (0, 1))(dp.asarray([2, 1]), dp.asarray([2, 0]))
    assert first.tolist() == [0.0, 2.0] and second.tolist() == [0.0, -2.0]
    assert signs(first) == [False, False] and signs(second) == [True, True]
    assert first.dtype == second.dtype == "float32"


def test_g3_the_value_of_integers_is_an_integer(way):
    value = way(bundle_distance)(BUNDLE)
    assert value.item() == 1 and value.dtype == "int64"


def test_g4_a_function_among_the_leaves_has_gradient_none(way):
    got = dp.grad(way(bundle_distance))(BUNDLE)
    assert isinstance(got, Bundle)
    assert got.a.tolist() == [0.0, 2.0] and got.b.tolist() == [0.0, -2.0] and got.c is None
    assert signs(got.b) == [True, True]


def test_g5_two_containers(way):
    got, y = dp.grad(way(bundle_ratio), (0, 1))(BUNDLE, dp.asarray([1, 2]))
    assert got.a.tolist() == [0.0, 0.5] and got.b.tolist() == [0.0, -1.0] and got.c is None
    assert y.tolist() == [0.0, -0.25]
    assert signs(got.b) == [True, True] and signs(y) == [True, True]


def test_g6_value_and_gradient_have_names(way):
    got = dp.value_and_grad(way(bundle_ratio), (0, 1))(BUNDLE, dp.asarray([1, 2]))
    assert got.value.item() == 0.25
    assert got.grad[0].a.tolist() == [0.0, 0.5] and got.grad[1].tolist() == [0.0, -0.25]
    value, g = dp.value_and_grad(way(bundle_distance))(BUNDLE)
    assert value.item() == 1 and value.dtype == "int64"
    assert g.a.tolist() == [0.0, 2.0]


# -- N: the Nx port of the book's chapter 4 -------------------------------------------------------------------------

Y = f64([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
Y_WRONG = f64([0.1, 0.05, 0.1, 0.0, 0.05, 0.1, 0.0, 0.6, 0.0, 0.0])
T = dp.asarray([0, 0, 1, 0, 0, 0, 0, 0, 0, 0])


def half_squared_error(y, t):
    return 0.5 * dp.sum((y - t) ** 2)


def cross_entropy(y, t, *, batch_size=1):
    return -dp.sum(t * dp.log(y + 1e-7)) / batch_size


def test_n1_mean_squared_error(way):
    loss = way(half_squared_error)
    same(loss(Y, T), 0.09750000000000003)
    same(loss(Y_WRONG, T), 0.5975)
    assert loss(Y, T).dtype == "float64"  # float64 and an integer: nothing is narrowed


def test_n2_cross_entropy_error(way):
    loss = way(cross_entropy)
    same(loss(Y, T), 0.510825457099338)
    same(loss(Y_WRONG, T), 2.302584092994546)
    same(loss(Y, T, batch_size=4), 0.510825457099338 / 4)


def test_n3_one_hot_and_mini_batch(way):
    """The document takes as many classes as the largest label *present*, and divides images by the batch's maximum.

    A batch without the last label then has another width; here the number of classes is an argument.
    """
    labels = dp.asarray([5, 0, 4, 1, 8])  # no 9
    images = dp.asarray(np.arange(15, dtype=np.uint8).reshape(5, 3) * 12)

    def batch(images, labels, chosen):
        return dp.take(images, chosen, axis=0) / 255, dp.one_hot(dp.take(labels, chosen, axis=0), 10)

    x, t = way(batch)(images, labels, dp.asarray([4, 0]))
    assert t.shape == (2, 10) and t.dtype == "float32"
    np.testing.assert_array_equal(t, np.eye(10)[[8, 5]])
    np.testing.assert_allclose(x, np.array([[144, 156, 168], [0, 12, 24]]) / 255, rtol=1e-6)
    assert way(lambda x: dp.one_hot(x, 10))(labels).shape == (5, 10)


def test_n4_numerical_differentiation():
    f = lambda x: 0.01 * x**2 + 0.1 * x  # noqa: E731
    assert numerical_diff(f, 5.0) == 0.1999999999990898
    assert numerical_diff(f, 10.0) == 0.2999999999986347


def test_n4_automatic_differentiation_of_the_same_function(way):
    g = dp.grad(way(lambda x: 0.01 * x**2 + 0.1 * x))
    same(g(f64(5.0)), 0.2)
    same(g(f64(10.0)), 0.3)


def test_n5_partial_derivatives(way):
    assert numerical_diff(lambda x: x * x + 4.0**2.0, 3.0) == 6.00000000000378
    assert numerical_diff(lambda x: 3.0**2.0 + x * x, 4.0) == 7.999999999999119
    x0, x1 = dp.grad(way(lambda a, b: a**2 + b**2), (0, 1))(3.0, 4.0)
    assert (x0.item(), x1.item()) == (6.0, 8.0)


def sum_of_squares(x):
    return x[0] ** 2 + x[1] ** 2


def test_n6_numerical_gradient_in_float32_is_what_the_document_prints():
    """Bit for bit: the quotient divides float32 rounding by 2e-4, so two digits are lost. Hence float64 by default."""
    got = numerical_gradient(sum_of_squares, dp.asarray([3.0, 4.0]), h=1e-4, dtype="float32")
    assert got.dtype == np.float32
    assert got.tolist() == [5.98907470703125, 8.001327514648438]


@pytest.mark.parametrize(("at", "wanted"), [([3.0, 4.0], [6, 8]), ([0.0, 2.0], [0, 4]), ([3.0, 0.0], [6, 0])])
def test_n6_numerical_gradient_in_float64(at, wanted, way):
    same(numerical_gradient(sum_of_squares, f64(at)), wanted, rtol=0, atol=2e-11)
    same(dp.grad(way(sum_of_squares))(f64(at)), wanted)


def descend(way, f, x, *, rate, steps):
    step = way(lambda x, rate: x - rate * dp.grad(f)(x))
    for _ in range(steps):
        x = step(x, rate)
    return x


@pytest.mark.parametrize(
    ("rate", "steps", "wanted"),
    [
        (0.1, 100, [-6.1111079e-10, 8.1481439e-10]),
        (0.1, 101, [-6.1111079e-10 * 0.8, 8.1481439e-10 * 0.8]),
        (0.1, 20, [-0.0345876451, 0.0461168602]),
        (1e-10, 100, [-2.99999994, 3.99999992]),
    ],
)
def test_n7_gradient_descent(way, rate, steps, wanted):
    """The document computes ``rate * g - x``: x turns into -0.8 x, and every even number of steps looks right."""
    got = descend(way, sum_of_squares, f64([-3.0, 4.0]), rate=rate, steps=steps)
    same(got, wanted, rtol=2e-8 if steps != 20 else 1e-8)


def test_n7_gradient_descent_in_one_loop(way):
    """After 101 steps the signs of the document's answer are the wrong ones."""

    def descend(x, steps):
        return dp.fori_loop(0, steps, lambda i, x: x - 0.1 * dp.grad(sum_of_squares)(x), x)

    f = way(descend)
    for steps, wanted in ((100, [-6.1111079e-10, 8.1481439e-10]), (101, [-4.8888863e-10, 6.5185151e-10])):
        same(f(f64([-3.0, 4.0]), steps), wanted, rtol=2e-8)


def test_n7_gradient_descent_reaches_a_minimum_off_the_origin(way):
    """With the document's sign the minimum of (x - 1)**2 comes out as -1/9."""
    same(descend(way, lambda x: (x - 1) ** 2, f64(5.0), rate=0.1, steps=150), 1.0, rtol=1e-9)
    x = f64(5.0)
    for _ in range(150):
        x = 0.1 * dp.grad(lambda x: (x - 1) ** 2)(x) - x
    same(x, -1 / 9, rtol=1e-9)


def test_n7_gradient_descent_with_a_rate_that_is_too_large():
    """The book prints [-2.58983747e13, -1.29524862e12]: amplified rounding, of which only the size is sure."""
    x = f64([-3.0, 4.0])
    for _ in range(100):
        x = x - 10.0 * dp.asarray(numerical_gradient(sum_of_squares, x))
    assert np.isfinite(np.asarray(x)).all() and 1e12 < np.abs(np.asarray(x)).max() < 1e15


SIMPLE_W = f64([[0.47355232, 0.9977393, 0.84668094], [0.85557411, 0.03563661, 0.69422093]])
SIMPLE_X, SIMPLE_T = f64([0.6, 0.9]), dp.asarray([0, 0, 1])
SIMPLE_GRADIENT = [[0.2192475712, 0.1435624298, -0.362810001], [0.3288713569, 0.2153436448, -0.5442150015]]


def simple_loss(W, x, t):
    return cross_entropy(dp.softmax(x @ W), t)


def test_n8_simple_net(way):
    same(way(lambda W, x: x @ W)(SIMPLE_W, SIMPLE_X), [1.054148091, 0.630716529, 1.132807401], rtol=1e-9)
    assert way(lambda W, x: dp.argmax(x @ W))(SIMPLE_W, SIMPLE_X).item() == 2
    same(way(simple_loss)(SIMPLE_W, SIMPLE_X, SIMPLE_T), 0.9280682857864075, rtol=1e-12)


def test_n9_gradient_of_the_simple_net(way):
    """The document prints a float32 difference quotient, wrong by up to 8e-4; these are the exact digits."""
    g = dp.grad(way(simple_loss))(SIMPLE_W, SIMPLE_X, SIMPLE_T)
    same(g, SIMPLE_GRADIENT, rtol=0, atol=1e-9)
    document = [[0.21934, 0.14394, -0.36269], [0.32902, 0.21547, -0.54449]]
    np.testing.assert_allclose(g, document, atol=8e-4)


def test_n9_numerical_against_automatic():
    same(numerical_gradient(simple_loss, SIMPLE_W, SIMPLE_X, SIMPLE_T), SIMPLE_GRADIENT, rtol=0, atol=1e-8)
    report = gradient_report(simple_loss, [SIMPLE_W, SIMPLE_X, SIMPLE_T])
    assert report.max_absolute < 1e-8
    assert not report.parameters[0].vacuous


def two_layer_parameters(inputs, hidden, outputs):
    """The document defines ``init_params`` and calls ``params_init`` with one argument too few."""
    first, second = dp.random.split(dp.random.key(0))
    return {
        "W1": 0.01 * dp.random.normal(first, (inputs, hidden)),
        "b1": dp.zeros(hidden),
        "W2": 0.01 * dp.random.normal(second, (hidden, outputs)),
        "b2": dp.zeros(outputs),
    }


def two_layer_predict(p, x):
    return dp.softmax(dp.sigmoid(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"])


def two_layer_loss(p, x, t):
    return cross_entropy(two_layer_predict(p, x), t, batch_size=x.shape[0])


def accuracy(p, x, t):
    return dp.mean(dp.argmax(two_layer_predict(p, x), axis=1) == dp.argmax(t, axis=1))


def test_n10_two_layer_net(way):
    """The document's ``numerical_gradient`` is automatic, and its zeros are float64 beside float32 weights."""
    p = two_layer_parameters(784, 100, 10)
    keys = dp.random.split(dp.random.key(1))
    x, t = dp.random.uniform(keys[0], (8, 784)), dp.one_hot(dp.random.randint(keys[1], (8,), 0, 10), 10)
    assert [p[name].shape for name in ("W1", "b1", "W2", "b2")] == [(784, 100), (100,), (100, 10), (10,)]
    y = way(two_layer_predict)(p, x)
    assert y.shape == (8, 10) and y.dtype == "float32"
    np.testing.assert_allclose(np.sum(y, axis=1), np.ones(8), rtol=1e-5)
    value, g = dp.value_and_grad(way(two_layer_loss))(p, x, t)
    assert abs(value.item() - np.log(10)) < 0.2
    assert {name: d.shape for name, d in g.items()} == {name: w.shape for name, w in p.items()}
    assert {d.dtype.name for d in g.values()} == {"float32"}
    # A softmax with cross-entropy sends back (y - t) / N, which reaches b2 summed over the batch.
    np.testing.assert_allclose(g["b2"], np.sum(np.asarray(y) - np.asarray(t), axis=0) / 8, atol=1e-5)
    assert 0.0 <= way(accuracy)(p, x, t).item() <= 1.0


def test_n10_numerical_gradients_of_the_two_layer_net():
    p = two_layer_parameters(5, 4, 3)
    keys = dp.random.split(dp.random.key(1))
    x, t = dp.random.normal(keys[0], (6, 5)), dp.one_hot(dp.random.randint(keys[1], (6,), 0, 3), 3)
    report = gradient_report(two_layer_loss, [p, x, t])
    assert [r.name for r in report.parameters] == ["['W1']", "['W2']", "['b1']", "['b2']"]
    assert report.max_absolute < 1e-8
    assert not any(r.vacuous for r in report.parameters)


def test_n11_training_lowers_the_loss(way):
    """The document logs the loss of the old parameters after a second forward pass; the step has it already."""
    centres = np.eye(3, 4, dtype=np.float32)
    labels = np.arange(30) % 3
    x = dp.asarray(centres[labels] + 0.1 * np.sin(np.arange(120, dtype=np.float32)).reshape(30, 4))
    t = dp.one_hot(dp.asarray(labels), 3)

    def train_step(p, x, t, *, lr):
        value, g = dp.value_and_grad(two_layer_loss)(p, x, t)
        return dp.tree.map(lambda w, d: w - lr * d, p, g), value

    step = way(train_step)
    p, losses = two_layer_parameters(4, 8, 3), []
    for _ in range(60):
        p, value = step(p, x, t, lr=5.0)
        losses.append(value.item())
    assert abs(losses[0] - np.log(3)) < 0.01  # of the parameters before the step
    assert losses[-1] < 0.1 * losses[0]
    assert accuracy(p, x, t).item() == 1.0


# -- B: toy values of the book --------------------------------------------------------------------------------------

NETWORK = {
    "W1": f64([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]]),
    "b1": f64([0.1, 0.2, 0.3]),
    "W2": f64([[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]]),
    "b2": f64([0.1, 0.2]),
    "W3": f64([[0.1, 0.3], [0.2, 0.4]]),
    "b3": f64([0.1, 0.2]),
}


def three_layers(p, x):
    z1 = dp.sigmoid(x @ p["W1"] + p["b1"])
    z2 = dp.sigmoid(z1 @ p["W2"] + p["b2"])
    return z2 @ p["W3"] + p["b3"]


def test_b_three_layer_network(way):
    same(way(three_layers)(NETWORK, f64([1.0, 0.5])), [0.3168270764, 0.6962790899], rtol=1e-9)


def test_b_step_sigmoid_and_relu(way):
    x = f64([-1.0, 1.0, 2.0])
    step, sigmoid, relu = way(lambda x: ((x > 0).astype("int64"), dp.sigmoid(x), dp.maximum(0, x)))(x)
    assert step.tolist() == [0, 1, 1] and step.dtype == "int64"
    same(sigmoid, [0.2689414214, 0.7310585786, 0.880797078], rtol=1e-9)
    assert relu.tolist() == [0.0, 1.0, 2.0]
    same(way(lambda x: 1 / (1 + dp.exp(-x)))(x), [0.2689414214, 0.7310585786, 0.880797078], rtol=1e-9)


def test_b_softmax(way):
    f = way(dp.softmax) if way is WAYS["eager"] else way(lambda x: dp.softmax(x))
    same(f(f64([0.3, 2.9, 4.0])), [0.0182112733, 0.2451918129, 0.7365969138], rtol=1e-8)
    same(f(f64([1010.0, 1000.0, 990.0])), [0.99995460, 4.5397869e-05, 2.0610600e-09], rtol=5e-9, atol=5e-9)


def test_b_softmax_of_a_batch_is_taken_row_by_row(way):
    """N13: the Nx port shares one normaliser among the whole batch."""
    rows = f64([[0.3, 2.9, 4.0], [1010.0, 1000.0, 990.0], [0.0, 0.0, 0.0]])
    got = way(lambda x: dp.softmax(x, axis=-1))(rows)
    same(np.sum(got, axis=1), np.ones(3))
    same(got[0], dp.softmax(rows[0]))
    same(got[2], np.full(3, 1 / 3))


def test_b_buying_apples_and_oranges(way):
    """The book's computational graph: price 715, and what each input is worth."""

    def price(apple, apples, orange, oranges, tax):
        return (apple * apples + orange * oranges) * tax

    value, g = dp.value_and_grad(way(price), (0, 1, 2, 3, 4))(*[f64(v) for v in (100.0, 2.0, 150.0, 3.0, 1.1)])
    same(value, 715.0)
    same([d.item() for d in g], [2.2, 110.0, 3.3, 165.0, 650.0])
