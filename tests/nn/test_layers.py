"""Layers against NumPy's formulas, their gradients, their state, and what they say when shapes do not fit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy import nn

KEY = dp.random.key(3)


def drawn(*shape: int, seed: int = 0, dtype: str = "float64") -> dp.Tensor:
    return dp.asarray(np.random.default_rng(seed).normal(size=shape), dtype=dtype)


# -- one by one -----------------------------------------------------------------------------------------------------


def test_dense() -> None:
    layer = nn.Dense(4, 3, dp.tanh, bias=nn.normal(1.0), dtype="float64")
    params, state = layer.init(KEY)
    assert {name: p.shape for name, p in params.items()} == {"weight": (4, 3), "bias": (3,)} and state == ()
    for shape in ((4,), (2, 4), (5, 2, 4)):
        x = drawn(*shape)
        y, after = layer.apply(params, state, x)
        wanted = np.tanh(np.asarray(x) @ np.asarray(params["weight"]) + np.asarray(params["bias"]))
        np.testing.assert_allclose(y, wanted, rtol=1e-12)
        assert after == () and y.dtype == "float64"
    dp.testing.check_grads(lambda p, x: layer.apply(p, (), x)[0], [params, drawn(2, 4)])


def test_dense_without_bias() -> None:
    layer = nn.Dense(4, 3, bias=None)
    params, _ = layer.init(KEY)
    assert list(params) == ["weight"]
    assert layer.apply(params, (), dp.zeros((2, 4)))[0].tolist() == [[0.0] * 3] * 2
    assert repr(layer) == "Dense(4, 3, bias=None)"


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 6, 4, 3)),
        ({"strides": 2, "padding": 1}, (2, 6, 3, 3)),
        ({"padding": "same", "groups": 2}, (2, 6, 6, 5)),
        ({"padding": ((1, 0), (0, 2)), "dilation": (2, 1)}, (2, 6, 3, 5)),
    ],
)
def test_conv(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer = nn.Conv(4, 6, [3, 3], dp.relu, bias=nn.ones, dtype="float64", **options)
    params, state = layer.init(KEY)
    assert params["weight"].shape == (6, 4 // options.get("groups", 1), 3, 3)
    x = drawn(2, 4, 6, 5)
    y, _ = layer.apply(params, state, x)
    assert y.shape == shape
    wanted = np.maximum(np.asarray(dp.conv(x, params["weight"], **options)) + 1, 0)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


def test_conv_along_one_axis_and_its_gradient() -> None:
    layer = nn.Conv(2, 3, (3,), dp.sigmoid, dtype="float64")
    params, _ = layer.init(KEY)
    dp.testing.check_grads(lambda p, x: layer.apply(p, (), x)[0], [params, drawn(2, 2, 6)])


@pytest.mark.parametrize(("shape", "axis"), [((8, 3), 1), ((4, 3, 5, 2), 1), ((4, 5, 3), -1)])
def test_batch_norm(shape: tuple[int, ...], axis: int) -> None:
    layer = nn.BatchNorm(3, axis=axis, eps=1e-3, momentum=0.8, dtype="float64")
    params, state = layer.init(KEY)
    params = {"gamma": dp.asarray([1.0, -2.0, 0.5], dtype="float64"), "beta": dp.asarray([0.0, 1.0, -1.0])}
    x = 3 + 2 * drawn(*shape)
    y, after = layer.apply(params, state, x, train=True)
    feature = np.moveaxis(np.asarray(x), axis, 0).reshape(3, -1)
    mean, var = feature.mean(axis=1), feature.var(axis=1)
    normal = (feature - mean[:, None]) / np.sqrt(var[:, None] + 1e-3)
    wanted = normal * np.asarray(params["gamma"])[:, None] + np.asarray(params["beta"])[:, None]
    np.testing.assert_allclose(np.moveaxis(np.asarray(y), axis, 0).reshape(3, -1), wanted, rtol=1e-10)
    np.testing.assert_allclose(after["mean"], 0.2 * mean, rtol=1e-12)
    np.testing.assert_allclose(after["var"], 0.8 + 0.2 * var, rtol=1e-12)
    # The state of training is what evaluation uses, and evaluation changes nothing.
    z, same = layer.apply(params, {"mean": dp.asarray(mean), "var": dp.asarray(var)}, x)
    np.testing.assert_allclose(z, y, rtol=1e-10)
    np.testing.assert_array_equal(same["mean"], mean)
    one, _ = layer.apply(params, after, x[:1])
    assert one.shape == (1, *shape[1:])


def test_batch_norm_gives_mean_0_and_variance_1_and_the_right_gradient() -> None:
    layer = nn.BatchNorm(4, eps=0.0, dtype="float64")
    params, state = layer.init(KEY)
    y, _ = layer.apply(params, state, 5 + 7 * drawn(50, 4), train=True)
    np.testing.assert_allclose(np.mean(y, axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(np.var(y, axis=0), 1, rtol=1e-12)
    dp.testing.check_grads(lambda p, x: layer.apply(p, state, x, train=True)[0], [params, drawn(8, 4)])


def test_dropout() -> None:
    layer, x = nn.Dropout(0.25), dp.ones((100, 100))
    y, state = layer.apply((), (), x, key=KEY, train=True)
    values, counts = np.unique(y, return_counts=True)
    np.testing.assert_allclose(values, [0, 4 / 3], rtol=1e-6)
    assert 0.24 < counts[0] / 10_000 < 0.26 and state == ()
    again, _ = layer.apply((), (), x, key=KEY, train=True)
    other, _ = layer.apply((), (), x, key=dp.random.key(4), train=True)
    np.testing.assert_array_equal(y, again)
    assert (np.asarray(y) != np.asarray(other)).any()
    for same in (layer.apply((), (), x)[0], layer(x), nn.Dropout(0).apply((), (), x, train=True)[0]):
        assert same is x
    # With a key the function is one function, so that its numerical gradient exists.
    dp.testing.check_grads(lambda x: layer.apply((), (), x, key=KEY, train=True)[0], [drawn(3, 4)])


def test_pools_and_flatten() -> None:
    x = drawn(2, 3, 4, 6)
    np.testing.assert_array_equal(nn.MaxPool(2)(x), dp.max_pool(x, 2))
    np.testing.assert_array_equal(nn.MeanPool((2, 3))(x), dp.mean_pool(x, (2, 3)))
    np.testing.assert_array_equal(nn.MaxPool(3, strides=2, padding=1)(x), dp.max_pool(x, 3, strides=2, padding=1))
    np.testing.assert_allclose(nn.GlobalMeanPool()(x), np.asarray(x).mean(axis=(2, 3), keepdims=True), rtol=1e-12)
    assert nn.Flatten()(x).shape == (2, 72) and nn.Flatten()(dp.ones(3)).shape == (3, 1)
    assert nn.Flatten()(dp.zeros((0, 3, 2))).shape == (0, 6)


# -- together -------------------------------------------------------------------------------------------------------


def test_a_chain_passes_parameters_state_and_keys_on() -> None:
    net = nn.Chain(nn.Dense(5, 4), nn.BatchNorm(4), dp.relu, nn.Dropout(0.5), nn.Chain(nn.Dense(4, 3), dp.softmax))
    params, state = net.init(KEY)
    assert [sorted(p) if isinstance(p, dict) else p for p in params[:4]] == [
        ["bias", "weight"], ["beta", "gamma"], (), ()
    ]  # fmt: skip
    assert params[4][0]["weight"].shape == (4, 3) and state[4] == ((), ())
    x = drawn(6, 5, dtype="float32")
    y, after = net.apply(params, state, x, key=KEY, train=True)
    assert y.shape == (6, 3) and not dp.tree.difference(after, state)
    assert (np.asarray(after[1]["mean"]) != 0).all()
    again, _ = net.apply(params, state, x, key=KEY, train=True)
    other, _ = net.apply(params, state, x, key=dp.random.key(9), train=True)
    np.testing.assert_array_equal(y, again)
    assert (np.asarray(y) != np.asarray(other)).any()
    quiet, untouched = net.apply(params, after, x)
    np.testing.assert_array_equal(untouched[1]["mean"], after[1]["mean"])
    np.testing.assert_array_equal(net.bind(params, after)(x), quiet)


def test_compiled_and_eager_agree_and_layers_may_be_static() -> None:
    net = nn.Chain(nn.Conv(1, 3, 3, dp.relu), nn.MaxPool(2), nn.Flatten(), nn.Dense(12, 4))
    params, state = net.init(KEY)
    run = dp.defn(lambda params, state, x, *, net: net.apply(params, state, x))
    x = drawn(2, 1, 6, 6, dtype="float32")
    np.testing.assert_allclose(run(params, state, x, net=net)[0], net.apply(params, state, x)[0], rtol=1e-5, atol=1e-6)
    same = nn.Chain(nn.Conv(1, 3, 3, dp.relu), nn.MaxPool(2), nn.Flatten(), nn.Dense(12, 4))
    run(params, state, x, net=same)
    assert run.cache_info().misses == 1 and same == net and net[:2] != net and net[0] == same[0]


@dp.tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class Affine:
    weight: Any
    bias: Any
    activation: Callable[[Any], Any] = dp.tree.static(default=dp.relu)  # noqa: RUF009 (it makes a field)

    def __call__(self, x: Any) -> Any:
        return self.activation(x @ self.weight + self.bias)


def test_a_callable_container_is_its_own_parameters() -> None:
    own = Affine(drawn(3, 2), drawn(2))
    net = nn.Chain(own, nn.Dense(2, 1, dtype="float64"))
    params, state = net.init(KEY)
    assert isinstance(params[0], Affine)
    x = drawn(5, 3)
    grads = dp.grad(lambda p: dp.sum(net.apply(p, state, x)[0]))(params)
    assert isinstance(grads[0], Affine) and grads[0].weight.shape == (3, 2)
    optimizer = dp.optim.SGD(lr=0.1)
    moved, _ = optimizer.update(params, grads, optimizer.init(params))
    assert (np.asarray(moved[0].weight) != np.asarray(own.weight)).any()
    assert net.apply(moved, state, x)[0].tolist() != net.apply(params, state, x)[0].tolist()


def test_a_bound_layer_is_a_container_and_a_layer() -> None:
    inner = nn.Dense(3, 2)
    model = inner.bind(*inner.init(KEY))
    x = drawn(4, 3, dtype="float32")
    assert dp.tree.paths(model) == [".params['bias']", ".params['weight']"]
    grads = dp.grad(dp.defn(lambda model, x: dp.sum(model(x))))(model, x)
    assert isinstance(grads, nn.Bound) and grads.params["bias"].tolist() == [4.0, 4.0]
    outer = nn.Chain(model, dp.tanh)
    params, state = outer.init(KEY)
    np.testing.assert_array_equal(outer.apply(params, state, x)[0], dp.tanh(model(x)))
    np.testing.assert_array_equal(functools.reduce(lambda v, f: f(v), [model, dp.tanh], x), outer(x))


def test_any_callable_is_a_layer_and_integers_stay_integers() -> None:
    y = nn.Chain(lambda x: x**2, lambda x: x + 1)(5)
    assert y == 26 and type(y) is int
    z = nn.Chain(lambda x: x**2, lambda x: x + 1)(dp.asarray(5))
    assert z.item() == 26 and z.dtype == "int64"
    assert nn.Chain()(7) == 7 and nn.Chain().apply((), (), 7) == (7, ())


# -- what does not fit ----------------------------------------------------------------------------------------------


def prepared(layer: nn.Layer, x: Any, **options: Any) -> Callable[[], Any]:
    params, state = layer.init(KEY)
    return lambda: layer.apply(params, state, x, **options)


CONV = "Conv(3, 8, 5, padding=2): x has the shape (batch, 3, size, size), and is"
FAULTS = [
    (prepared(nn.Dense(4, 3), dp.ones(5)), "Dense(4, 3): the last axis of x has 4 elements, and x is f32[5]", ""),
    (
        prepared(nn.Dense(12, 3, dp.relu), dp.ones((2, 3, 4))),
        "Dense(12, 3, relu): the last axis of x has 12 elements, and x is f32[2,3,4]",
        "put dp.nn.Flatten() before it",
    ),
    (
        prepared(nn.Conv(3, 8, 5, padding=2), dp.ones((3, 9, 9))),
        f"{CONV} f32[3,9,9]",
        "add the axis of the batch: x[None]",
    ),
    (
        prepared(nn.Conv(3, 8, 5, padding=2), dp.ones((2, 9, 9))),
        f"{CONV} f32[2,9,9]",
        "add the axis of channels: x[:, None]",
    ),
    (
        prepared(nn.Conv(3, 8, 5, padding=2), dp.ones((2, 243))),
        f"{CONV} f32[2,243]",
        "give the rows their form: dp.reshape(x, (-1, 3, size, size))",
    ),
    (
        prepared(nn.BatchNorm(4), dp.ones((2, 3))),
        "BatchNorm(4): axis 1 of x has 4 elements, and x is f32[2,3]",
        "",
    ),
    (
        prepared(nn.BatchNorm(3), dp.ones((1, 3)), train=True),
        "BatchNorm(3): one value per feature has no variance, and x is f32[1,3]",
        "train on batches of several examples; train=False for a single one",
    ),
    (
        prepared(nn.Dropout(0.5), dp.ones(3), train=True),
        "Dropout(0.5): no key to draw from",
        "give apply a key: apply(params, state, x, key=key, train=True)",
    ),
    (lambda: nn.Dropout(1.0), "Dropout(1.0): the ratio is from 0 to below 1", ""),
    (
        lambda: nn.Conv(3, 8, 5, groups=2),
        "Conv(3, 8, 5, groups=2): 2 groups share neither 3 nor 8 channels evenly",
        "",
    ),
    (
        prepared(nn.Chain(dp.relu, nn.Chain(dp.tanh, nn.Dense(4, 3))), dp.ones(5)),
        "layer 1: layer 1: Dense(4, 3): the last axis of x has 4 elements, and x is f32[5]",
        "",
    ),
    (
        prepared(nn.Chain(nn.Flatten(), lambda x: x @ dp.ones((3, 3))), dp.ones((2, 2))),
        "layer 1: matmul(f32[2,2], f32[3,3]): the inner sizes differ: 2 and 3",
        "",
    ),
    (lambda: nn.Chain(dp.relu, 3), "Chain: layer 1 is no layer: 3", ""),
    (
        lambda: nn.Chain(dp.relu).apply((), (), 3),
        "params is no container of the 1 layers of this chain",
        "params, state = chain.init(key)",
    ),
    (
        lambda: nn.Chain(nn.Dense(4, 3))(dp.ones(4)),
        "Dense(4, 3) is called without its parameters",
        "y, state = layer.apply(params, state, x), or layer.bind(params, state)(x)",
    ),
    (
        lambda: nn.GlobalMeanPool()(dp.ones((2, 3))),
        "GlobalMeanPool(): x has the shape (batch, channels, *spatial), and is f32[2,3]",
        "",
    ),
    (lambda: nn.Flatten()(dp.asarray(1.0)), "Flatten(): x has no axis of examples: it is f32[]", ""),
]  # fmt: skip


@pytest.mark.parametrize(("call", "what", "hint"), FAULTS, ids=[what.split(":")[0] for _, what, _ in FAULTS])
def test_what_does_not_fit_is_named(call: Callable[[], Any], what: str, hint: str) -> None:
    with pytest.raises(dp.errors.DefnpyError) as caught:
        call()
    assert (caught.value.what, caught.value.hint) == (what, hint)
    assert "test_layers.py" in caught.value.where


# -- tables ---------------------------------------------------------------------------------------------------------


def test_the_summary_of_nested_chains_computes_nothing() -> None:
    net = nn.Chain(nn.Chain(nn.Dense(50_000, 50_000), nn.BatchNorm(50_000)), lambda x: x[:, :3])
    table = nn.summary(net, dp.spec((2, 50_000)))
    assert [row.place for row in table.rows] == ["0.0", "0.1", "1"]
    assert [row.shape for row in table.rows] == [(2, 50_000), (2, 50_000), (2, 3)]
    assert table.parameters == 50_000**2 + 3 * 50_000 and table.bytes == 4 * table.parameters
    assert str(table).splitlines()[-1].split() == ["total", "2,500,150,000", "10,000,600,000"]


def test_the_summary_names_the_layer_that_does_not_fit() -> None:
    with pytest.raises(dp.errors.ShapeError, match=r"Dense\(4, 3\): the last axis of x"):
        nn.summary(nn.Chain(nn.Flatten(), nn.Dense(4, 3)), (2, 5))


def test_gradients_of_every_example_at_once() -> None:
    net = nn.Chain(nn.Dense(4, 3, dp.tanh), nn.Dense(3, 2))
    params, state = net.init(KEY)
    x, t = drawn(5, 4, dtype="float32"), dp.asarray([0, 1, 0, 1, 1])

    def loss(params: Any, x: Any, t: Any) -> Any:
        return nn.cross_entropy(net.apply(params, state, x)[0], t)

    every = dp.vmap(dp.grad(loss), (None, 0, 0))(params, x, t)
    for i in range(5):
        one = dp.grad(loss)(params, x[i], t[i])
        for a, b in zip(dp.tree.leaves(every), dp.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-7)


def test_layers_are_hashable_however_they_are_written() -> None:
    for one, two in (
        (nn.Conv(1, 2, [3, 3], padding=[(1, 0), [0, 2]]), nn.Conv(1, 2, (3, 3), padding=((1, 0), (0, 2)))),
        (nn.MaxPool([2, 2], strides=[1, 2]), nn.MaxPool((2, 2), strides=(1, 2))),
        (nn.MeanPool([2, 2]), nn.MeanPool((2, 2))),
    ):
        assert one == two and hash(one) == hash(two) and repr(one) == repr(two)
