"""Windows, convolution and pooling against plain loops, against JAX, and against each other as transposes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import defnpy as dp
from defnpy import shapes
from defnpy.errors import ShapeError
from defnpy.ops.conv import conv_weight
from defnpy.ops.window import max_select, max_unpool
from defnpy.testing import check_grads

try:
    import jax
except ImportError:  # it comes with the extra defnpy[bench]
    jax = None

with_jax = pytest.mark.skipif(jax is None, reason="JAX is the oracle; it comes with the extra defnpy[bench]")


@contextmanager
def double_precision() -> Iterator[None]:
    """float64 in JAX, for the length of a block."""
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        yield


def draw(shape, seed=0, dtype=np.float64):
    """Small whole numbers: sums of products are exact in any order, and ties are common."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(dtype)


def assert_same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)


# -- the loops ------------------------------------------------------------------------------------------------------


def pad_naive(x, pairs, value):
    lead = ((0, 0),) * (x.ndim - len(pairs))
    return np.pad(x, (*lead, *pairs), constant_values=value)


def places(count, strides, dilation, window):
    """(place of a window, place in it, place in the padded array), for every element of every window."""
    for at in np.ndindex(*count):
        for inside in np.ndindex(*window):
            spot = zip(at, strides, inside, dilation, strict=True)
            yield at, inside, tuple(a * s + i * d for a, s, i, d in spot)


def conv_naive(x, w, strides, padding, dilation, groups):
    x = pad_naive(x, padding, 0)
    window = w.shape[2:]
    count = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], window, strides, dilation, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *count), x.dtype)
    per_group, out_per_group = x.shape[1] // groups, w.shape[0] // groups
    for at, inside, spot in places(count, strides, dilation, window):
        for o, i in itertools.product(range(w.shape[0]), range(per_group)):
            channel = o // out_per_group * per_group + i
            y[(slice(None), o, *at)] += x[(slice(None), channel, *spot)] * w[(o, i, *inside)]
    return y


def pool_naive(x, window, strides, padding, dilation):
    """The maxima, and the gradient of their sum weighted by ``1, 2, 3 ...``, given to the first of equal ones."""
    n = x.shape[2:]
    whole = [a + low + high for a, (low, high) in zip(n, padding, strict=True)]
    count = [(a - (k - 1) * d - 1) // s + 1 for a, k, s, d in zip(whole, window, strides, dilation, strict=True)]
    y, gradient = np.empty((*x.shape[:2], *count), x.dtype), np.zeros(x.shape)
    weights = np.arange(1.0, y.size + 1).reshape(y.shape)
    for lead in np.ndindex(*x.shape[:2]):
        for at in np.ndindex(*count):
            best = None
            for a, _, spot in places(count, strides, dilation, window):
                real = tuple(p - low for p, (low, _) in zip(spot, padding, strict=True))
                if a != at or not all(0 <= p < m for p, m in zip(real, n, strict=True)):
                    continue
                value = x[lead + real]
                if best is None or value > x[lead + best] or (np.isnan(value) and not np.isnan(x[lead + best])):
                    best = real
            y[lead + at] = x[lead + best]
            gradient[lead + best] += weights[lead + at]
    return y, gradient, weights


# -- convolution ----------------------------------------------------------------------------------------------------

# x, w, strides, padding, dilation, groups
CONVOLUTIONS = [
    ((2, 3, 7), (4, 3, 3), (1,), ((0, 0),), (1,), 1),
    ((2, 3, 7), (4, 3, 3), (2,), ((1, 1),), (1,), 1),
    ((1, 2, 9), (3, 2, 3), (3,), ((0, 2),), (2,), 1),
    ((2, 1, 5, 6), (3, 1, 2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 3, 6, 6), (2, 3, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 2, 6, 5), (2, 2, 2, 2), (2, 1), ((1, 0), (0, 2)), (1, 1), 1),
    ((1, 2, 8, 7), (3, 2, 3, 2), (1, 2), ((2, 2), (1, 0)), (2, 3), 1),
    ((2, 4, 5, 5), (6, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    ((2, 3, 5, 4), (3, 1, 2, 2), (2, 2), ((0, 1), (1, 0)), (1, 1), 3),
    ((1, 4, 7, 7), (8, 1, 3, 3), (2, 3), ((2, 1), (0, 3)), (2, 1), 4),
    ((1, 2, 4, 4), (2, 2, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 2, 4, 4), (2, 2, 1, 1), (2, 2), ((2, 1), (1, 2)), (1, 1), 1),  # more padding than kernel
    ((1, 1, 5, 5), (1, 1, 2, 2), (4, 4), ((0, 0), (0, 0)), (1, 1), 1),  # strides that leave elements out
    ((2, 2, 3, 4, 3), (4, 1, 2, 3, 2), (1, 2, 1), ((0, 0), (1, 1), (1, 0)), (1, 1, 2), 2),
    ((0, 2, 4, 4), (3, 2, 2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 0, 4), (3, 0, 2), (1,), ((0, 0),), (1,), 1),
    ((2, 2, 4), (0, 2, 2), (1,), ((0, 0),), (1,), 1),
]
NAMES = ("strides", "padding", "dilation", "groups")


def parameters(case):
    return dict(zip(NAMES, case[2:], strict=True))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv_is_what_the_loops_say(case, backend):
    x, w = draw(case[0]), draw(case[1], 1)
    for dtype in ("float32", "float64", "int64"):
        a, b = x.astype(dtype), w.astype(dtype)
        found = dp.defn(lambda x, w: dp.conv(x, w, **parameters(case)), backend=backend)(a, b)
        assert_same(found, conv_naive(a, b, *case[2:]))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_the_three_convolutions_are_derivatives_of_one_form(case):
    """<g, conv(x, w)> = <conv_transpose(g, w), x> = <conv_weight(x, g), w>."""
    x, w = draw(case[0]), draw(case[1], 1)
    y = np.asarray(dp.conv(x, w, **parameters(case)))
    g = draw(y.shape, 2)
    to_x = np.asarray(dp.conv_transpose(g, w, size=x.shape[2:], **parameters(case)))
    to_w = np.asarray(conv_weight(x, g, size=w.shape[2:], **parameters(case)))
    assert to_x.shape == x.shape and to_w.shape == w.shape
    assert np.sum(g * y) == np.sum(to_x * x) == np.sum(to_w * w)


@pytest.mark.filterwarnings("ignore::defnpy.testing.VacuousCheckWarning")  # of the cases without elements
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_gradients_of_conv(case):
    x, w = draw(case[0]), draw(case[1], 1)
    check_grads(lambda x, w: dp.conv(x, w, **parameters(case)), [x, w])


def jax_conv(x, w, case):
    names = "DHW"[-(x.ndim - 2) :]
    strides, padding, dilation, groups = case[2:]
    layout = (f"NC{names}", f"OI{names}", f"NC{names}")
    return jax.lax.conv_general_dilated(
        x, w, strides, padding, rhs_dilation=dilation, feature_group_count=groups, dimension_numbers=layout
    )


@with_jax
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [case for case in CONVOLUTIONS if 0 not in case[0] + case[1]], ids=str)
def test_conv_and_its_gradients_are_jaxs(case, dtype, backend):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(case[0]).astype(dtype), rng.standard_normal(case[1]).astype(dtype)
    with double_precision():
        expected, pull_back = jax.vjp(lambda x, w: jax_conv(x, w, case), x, w)
        g = rng.standard_normal(expected.shape).astype(dtype)
        gradients = [np.asarray(part) for part in pull_back(g)]

    def projected(x, w, g):
        y = dp.conv(x, w, **parameters(case))
        return dp.sum(y * g), y

    found, value = dp.grad(dp.defn(projected, backend=backend), (0, 1), has_aux=True)(x, w, g)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(value, expected, **close)
    for ours, theirs in zip(found, gradients, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, **close)


@with_jax
def test_second_derivatives_of_conv_are_jaxs():
    """The gradient of the squared gradient of a cubed convolution: every product of the three appears."""
    case = ((2, 2, 5, 5), (4, 1, 3, 2), (2, 1), ((1, 0), (0, 1)), (1, 2), 2)
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal(case[0]), rng.standard_normal(case[1])

    def ours(x, w):
        gx, gw = dp.grad(lambda x, w: dp.sum(dp.conv(x, w, **parameters(case)) ** 3), (0, 1))(x, w)
        return dp.sum(gx * gx) + dp.sum(gw * gw)

    def theirs(x, w):
        gx, gw = jax.grad(lambda x, w: (jax_conv(x, w, case) ** 3).sum(), (0, 1))(x, w)
        return (gx * gx).sum() + (gw * gw).sum()

    with double_precision():
        expected = [np.asarray(part) for part in jax.grad(theirs, (0, 1))(x, w)]
    for found, part in zip(dp.grad(dp.defn(ours), (0, 1))(x, w), expected, strict=True):
        np.testing.assert_allclose(found, part, rtol=1e-10, atol=1e-9)


def test_conv_transpose_adds_kernels():
    """Strided kernels side by side, overlapping, and with a size that leaves a rest."""
    y, w = dp.asarray([[[1.0, 2.0]]]), dp.asarray([[[3.0, 4.0]]])
    assert dp.conv_transpose(y, w, strides=2).tolist() == [[[3, 4, 6, 8]]]
    assert dp.conv_transpose(y, w).tolist() == [[[3, 10, 8]]]
    assert dp.conv_transpose(y, w, strides=2, size=5).tolist() == [[[3, 4, 6, 8, 0]]]
    assert dp.conv_transpose(y, w, strides=2, padding=((1, 0),)).tolist() == [[[4, 6, 8]]]
    assert dp.conv_transpose(y, w, strides=3, padding="same").shape == (1, 1, 6)
    check_grads(lambda y, w: dp.conv_transpose(y, w, strides=2, size=5), [y, w])


def test_a_conv_of_one_position_is_a_matrix_product():
    x, w = draw((5, 3, 4, 4)), draw((6, 3, 4, 4), 1)
    assert_same(dp.conv(x, w), (x.reshape(5, -1) @ w.reshape(6, -1).T)[:, :, None, None])


def test_mixed_and_small_dtypes():
    x, w = draw((1, 2, 4)), draw((3, 2, 2), 1)
    for left, right, result in [
        ("float32", "float64", "float64"),
        ("int32", "float32", "float32"),
        ("int8", "int32", "int32"),
        ("bool", "bool", "int64"),
        ("bool", "float32", "float32"),
    ]:
        found = dp.conv(x.astype(left), w.astype(right))
        assert found.dtype == result
        expected = conv_naive(x.astype(left).astype(result), w.astype(right).astype(result), (1,), ((0, 0),), (1,), 1)
        assert_same(found, expected)


def test_nan_stays_in_the_windows_that_see_it():
    x = np.zeros((1, 1, 6))
    x[0, 0, 2] = np.nan
    assert np.isnan(dp.conv(x, np.ones((1, 1, 2)))).tolist() == [[[False, True, True, False, False]]]
    assert np.isnan(dp.max_pool(x, 2)).tolist() == [[[False, True, False]]]
    assert np.isnan(dp.mean_pool(x, 2)).tolist() == [[[False, True, False]]]


# -- max pooling ----------------------------------------------------------------------------------------------------

# x, window, strides, padding, dilation
POOLS = [
    ((2, 3, 4, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 1, 5, 5), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((1, 2, 6, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 2, 6, 5), (3, 2), (2, 1), ((2, 0), (0, 1)), (1, 1)),
    ((2, 2, 7), (3,), (2,), ((1, 1),), (1,)),
    ((1, 1, 9), (3,), (1,), ((2, 2),), (2,)),
    ((1, 1, 4, 4, 4), (2, 2, 2), (2, 1, 2), ((0, 0), (1, 0), (0, 0)), (1, 1, 1)),
    ((1, 1, 5), (1,), (3,), ((0, 0),), (1,)),
    ((0, 2, 4), (2,), (2,), ((0, 0),), (1,)),
]
POOL_NAMES = ("window", "strides", "padding", "dilation")


def pooled(x, case):
    _, window, strides, padding, dilation = case
    return dp.max_pool(x, window, strides=strides, padding=padding, dilation=dilation)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool", "uint8"])
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_max_pool_and_its_gradient_are_what_the_loops_say(case, dtype, backend):
    """Whole numbers, so that most windows hold ties."""
    x = np.abs(draw(case[0])).astype(dtype) if dtype in ("bool", "uint8") else draw(case[0]).astype(dtype)
    value, gradient, weights = pool_naive(x, *case[1:])

    def projected(x, g):
        y = pooled(x, case)
        return dp.sum(y * g), y

    f = dp.defn(projected, backend=backend)
    assert_same(f(x, weights)[1], value)
    if dtype != "bool":
        assert_same(dp.grad(f, has_aux=True)(x, weights)[0], gradient.astype(np.float64 if x.itemsize == 8 else "f4"))


@pytest.mark.parametrize("case", [case for case in POOLS if 0 not in case[0]], ids=str)
def test_second_order_of_max_pool(case):
    x = np.random.default_rng(5).permutation(shapes.size(case[0])).reshape(case[0]).astype(float)
    check_grads(lambda x: pooled(x, case) ** 3 / x.size**2, [x])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_extremes_in_a_padded_pool(special):
    """The first NaN takes the gradient; padding never does, though it is no larger than -inf."""
    for seed in range(20):
        x = np.where(np.random.default_rng(seed).random((1, 1, 4, 5)) < 0.5, special, draw((1, 1, 4, 5), seed))
        case = ((), (2, 3), (1, 2), ((1, 0), (1, 1)), (1, 1))
        value, gradient, weights = pool_naive(x, *case[1:])
        assert_same(pooled(x, case), value)
        found = max_unpool(weights, x, **dict(zip(POOL_NAMES, case[1:], strict=True)))
        assert_same(found, gradient)


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_unpool_and_select_are_transposes(case):
    x, v = draw(case[0]), draw(case[0], 1)
    geometry = dict(zip(POOL_NAMES, case[1:], strict=True))
    selected = np.asarray(max_select(v, x, **geometry))
    y = draw(selected.shape, 2)
    assert np.sum(selected * y) == np.sum(np.asarray(max_unpool(y, x, **geometry)) * v)
    assert_same(max_select(x, x, **geometry), pooled(x, case))


@with_jax
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("case", [case for case in POOLS if 0 not in case[0]], ids=str)
def test_max_pool_is_jaxs(case, backend):
    """Its gradient too, ties included; JAX has none for dilated windows."""
    x = draw(case[0])
    window, strides, padding, dilation = case[1:]

    def theirs(x):
        lead = ((0, 0), (0, 0))
        return jax.lax.reduce_window(
            x, -np.inf, jax.lax.max, (1, 1, *window), (1, 1, *strides), (*lead, *padding), None, (1, 1, *dilation)
        )

    f = dp.defn(lambda x: pooled(x, case), backend=backend)
    with double_precision():
        assert_same(f(x), np.asarray(theirs(x)))
        if set(dilation) == {1}:
            g = np.random.default_rng(6).standard_normal(f(x).shape)
            (expected,) = jax.vjp(theirs, x)[1](g)
            found = dp.grad(dp.defn(lambda x, g: dp.sum(pooled(x, case) * g), backend=backend))(x, g)
            np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-13, atol=1e-13)


# -- any parameters -------------------------------------------------------------------------------------------------


@st.composite
def geometries(draw):
    """Spatial size, window, strides, padding and dilation of one to three axes, so that a window fits."""
    count = draw(st.integers(1, 3))
    axes = []
    for _ in range(count):
        window, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        low, high = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        extent = (window - 1) * dilation + 1
        size = draw(st.integers(max(extent - low - high, 1), 6 if count < 3 else 4)) if extent <= 4 else extent
        axes.append((size, window, draw(st.integers(1, 4)), (low, high), dilation))
    return tuple(zip(*axes, strict=True))


@given(geometries(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(0, 2))
def test_any_conv(geometry, groups, inputs, outputs, batch):
    """The value by loops; the gradients by what they are the transposes of."""
    size, window, strides, padding, dilation = geometry
    x, w = draw((batch, groups * inputs, *size)), draw((groups * outputs, inputs, *window), 1)
    case = (x.shape, w.shape, strides, padding, dilation, groups)
    assert_same(dp.conv(x, w, **parameters(case)), conv_naive(x, w, *case[2:]))
    test_the_three_convolutions_are_derivatives_of_one_form(case)


@given(geometries(), st.integers(0, 2))
def test_any_max_pool(geometry, batch):
    size, window, strides, padding, dilation = geometry
    x = draw((batch, 1, *size))
    case = (x.shape, window, strides, padding, dilation)
    try:
        found = pooled(x, case)
    except ShapeError as error:
        assert "lies in the padding alone" in error.what
        with pytest.raises(TypeError):  # the loops find no element
            pool_naive(draw((1, 1, *size)), *case[1:])
        return
    value, gradient, weights = pool_naive(x, *case[1:])
    assert_same(found, value)
    assert_same(max_unpool(weights, x, **dict(zip(POOL_NAMES, case[1:], strict=True))), gradient)
