"""``x[index]`` means what NumPy means by it, eager and traced."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import defnpy as dp
from defnpy.errors import IndexingError

A = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
I1 = np.array([0, 1, 1])
I2 = np.array([[0], [1]])

INDICES = [
    0,
    -1,
    (1, -2),
    (1, 2, 3),
    (),
    ...,
    None,
    slice(None),
    slice(1, None),
    slice(None, -1),
    slice(-2, None),
    slice(None, None, 2),
    slice(None, None, -1),
    slice(5, 0, -2),
    slice(3, 1),
    slice(-100, 100),
    (..., 1),
    (..., slice(None, None, -3)),
    (0, ..., -1),
    (slice(None), 1),
    (slice(1), slice(1, 3), slice(0, 4, 3)),
    (slice(None, None, -1), slice(None, None, -1), slice(None, None, -1)),
    (None, ..., None),
    (0, None, slice(None), None, 2),
    (..., None),
    (slice(None), I1, ..., -1),  # a "..." sets index tensors apart even where it stands for no axis
    (slice(None), 0, ..., I1),
    (None, None),
    np.int64(1),
    np.array(1),
    [0, 1, 0],
    [],
    I1,
    -I1,
    I2,
    (I1,),
    (slice(None), I1),
    (slice(None), slice(None), I1),
    (I1, I1),
    (I2, I1),
    (I1, slice(None), I1),
    (slice(None), I1, I2),
    (slice(None), [[1], [2]], [0, 3]),
    (0, slice(None), I1),
    (0, I1),
    (I1, 0),
    (I1, 0, slice(None)),
    (I1, slice(None), 0),
    (slice(None), 0, I1),
    (..., I1),
    (I1, ...),
    (I1, ..., 0),
    (None, I1),
    (I1, None),
    (I1, None, I1),
    (slice(None), None, I1),
    (slice(None), I1, None, I1),
    (slice(None), 0, None, I1),
    (slice(None, None, -1), I1, slice(1, None, 2)),
    (I2, None, slice(None), I1),
    np.array([True, False]),
    (slice(None), np.array([True, False, True])),
    (np.array([True, True]), slice(None), I1[:2]),
    A > 11,
    (..., A[0, 0] > 1),
    np.zeros((2, 3), bool),
    np.int8([1, 0]),
    np.uint8([1, 0]),
]


def show(index):
    return repr(index).replace("slice", "").replace("array", "").replace("\n", "").replace(" ", "")


def assert_same(got, wanted):
    got = np.asarray(got)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("index", INDICES, ids=show)
def test_eager(index):
    assert_same(dp.asarray(A)[index], A[index])


@pytest.mark.parametrize("index", INDICES, ids=show)
def test_traced(index):
    assert_same(dp.defn(lambda x: x[index], backend="reference")(A), A[index])


@pytest.mark.parametrize("index", [1, (..., slice(None, None, -2)), (None, slice(1, None), -1), (I1, slice(None), I1)])
def test_compiled(index):
    assert_same(dp.defn(lambda x: x[index], backend="cpu")(A), A[index])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_traced_index_tensors(backend):
    f = dp.defn(lambda x, i, j: (x[i], x[:, j], x[i, :, j], x[i, j]), backend=backend)
    for i, j in ((np.array([1, -2]), np.array([0, 2])), (np.array([0, 0]), np.array([-1, 1]))):
        for got, wanted in zip(f(A, i, j), (A[i], A[:, j], A[i, :, j], A[i, j]), strict=True):
            assert_same(got, wanted)
    assert f.cache_info().misses == 1  # other indices are other values, not another program


def test_tensors_index_like_arrays():
    x, i = dp.asarray(A), dp.asarray(I2)
    assert_same(x[i], A[I2])
    assert_same(x[:, i, dp.asarray(I1)], A[:, I2, I1])
    assert_same(x[dp.asarray(A) > 11], A[A > 11])
    assert A.tolist()[dp.asarray(1)] == A.tolist()[1]  # a 0-d integer tensor indexes a list


@pytest.mark.parametrize("index", [2, -3, (0, 3), (0, 0, 0, 0), (..., 4), (slice(None), [0, 3]), (I1, I1 + 2, I1)])
def test_out_of_bounds_where_numpy_is(index):
    with pytest.raises(IndexError):
        A[index]
    with pytest.raises(IndexingError):
        dp.asarray(A)[index]


def test_index_arrays_that_do_not_broadcast():
    with pytest.raises(IndexError):
        A[[0, 1], [0, 1, 2]]
    with pytest.raises(ValueError):
        dp.asarray(A)[[0, 1], [0, 1, 2]]


@pytest.mark.parametrize("mask", [[True], [True, False, False]])
def test_a_mask_of_another_shape_is_refused(mask):
    mask = np.array(mask)
    with pytest.raises(IndexError):
        A[mask]
    with pytest.raises(IndexError):
        dp.asarray(A)[mask]


# -- properties -----------------------------------------------------------------------------------------------------

shapes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)
bounds = st.one_of(st.none(), st.integers(-6, 6))
steps = st.one_of(st.none(), st.integers(-3, 3).filter(bool))


@st.composite
def indexed(draw, arrays=True):
    """A shape and an index that NumPy accepts for it: ints, slices, None, ``...``, and index arrays that broadcast."""
    shape = draw(shapes)
    used = draw(st.integers(0, len(shape)))
    head = draw(st.integers(0, used))  # so many parts stand before the dots, the others index the last axes
    dots = [...] if head < used or draw(st.booleans()) else []
    common = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 1), (2, 3), (0,)]))

    def part(n):
        kind = draw(st.sampled_from(["slice", *(["int"] if n else []), *(["array"] if arrays and n else [])]))
        if kind == "slice":
            return slice(draw(bounds), draw(bounds), draw(steps))
        if kind == "int":
            return draw(st.integers(-n, n - 1))
        place = common[draw(st.integers(0, len(common))) :]
        size = math.prod(place)
        return np.array(draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size)), np.int64).reshape(place)

    last = shape[len(shape) - (used - head) :] if used > head else ()
    parts = [*map(part, shape[:head]), *dots, *map(part, last)]
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    return shape, tuple(parts)


def sample(shape):
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


@settings(max_examples=400)
@given(indexed())
def test_any_index_is_numpys(case):
    shape, index = case
    x = sample(shape)
    wanted = x[index]
    assert_same(dp.asarray(x)[index], wanted)
    graph = dp.defn(lambda t: t[index], backend="reference").compile(dp.spec(shape, "int64"))
    assert_same(graph(x), wanted)


@settings(max_examples=200)
@given(indexed(), st.integers(-9, 9))
def test_any_update_is_numpys(case, value):
    shape, index = case
    x = sample(shape)
    place = np.shape(x[index])
    values = np.arange(math.prod(place), dtype=np.int64).reshape(place) * value
    for operand in (value, values):
        wanted, added = x.copy(), x.copy()
        wanted[index] = operand
        np.add.at(added, index, operand)
        assert_same(dp.asarray(x).at[index].set(operand), wanted)
        assert_same(dp.asarray(x).at[index].add(operand), added)


@given(indexed(arrays=False))
def test_the_gradient_of_a_slice_puts_the_cotangent_back(case):
    shape, index = case
    x = sample(shape).astype(np.float64)
    c = np.random.default_rng(1).standard_normal(np.shape(x[index]))
    wanted = np.zeros(shape)
    wanted[index] = c
    np.testing.assert_array_equal(dp.grad(lambda t: dp.sum(t[index] * c))(x), wanted)


@given(indexed())
def test_the_gradient_of_a_gather_adds_the_cotangents_up(case):
    shape, index = case
    x = sample(shape).astype(np.float64)
    c = np.random.default_rng(1).standard_normal(np.shape(x[index]))
    wanted = np.zeros(shape)
    np.add.at(wanted, index, c)
    np.testing.assert_allclose(dp.grad(lambda t: dp.sum(t[index] * c))(x), wanted, rtol=1e-12, atol=1e-12)


# -- updates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", INDICES, ids=show)
def test_set_and_add(index):
    place = np.shape(A[index])
    values = -np.arange(math.prod(place), dtype=np.float32).reshape(place)
    for operand in (np.float32(0.5), values):
        wanted, added = A.copy(), A.copy()
        wanted[index] = operand
        np.add.at(added, index, operand)
        x = dp.asarray(A)
        assert_same(x.at[index].set(operand), wanted)
        assert_same(x.at[index].add(operand), added)
        assert_same(x.at[index].get(), A[index])
        assert_same(x, A)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_duplicates(backend):
    f = dp.defn(lambda x, i, v: (x.at[i].set(v), x.at[i].add(v)), backend=backend)
    x = np.zeros(3, np.float32)
    last, total = f(x, np.array([0, 2, 0, 0]), np.array([1, 2, 3, 4], np.float32))
    assert last.tolist() == [4.0, 0.0, 2.0]
    assert total.tolist() == [8.0, 0.0, 2.0]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_gradient_of_an_update(backend):
    """What was overwritten gets nothing; of duplicates only the last value counts."""
    index = np.array([0, 2, 0])

    def set_(x, v, c):
        return dp.sum(c * x.at[index].set(v))

    def add(x, v, c):
        return dp.sum(c * x.at[index].add(v))

    x, v, c = np.zeros(4), np.ones(3), np.array([2.0, 3.0, 5.0, 7.0])
    to_x, to_v = dp.grad(dp.defn(set_, backend=backend), (0, 1))(x, v, c)
    assert to_x.tolist() == [0.0, 3.0, 0.0, 7.0] and to_v.tolist() == [0.0, 5.0, 2.0]
    to_x, to_v = dp.grad(dp.defn(add, backend=backend), (0, 1))(x, v, c)
    assert to_x.tolist() == [2.0, 3.0, 5.0, 7.0] and to_v.tolist() == [2.0, 5.0, 2.0]


def test_values_of_another_dtype_take_the_tensors():
    x = dp.zeros(3)
    assert x.at[0].set(1).dtype == x.at[0].set(dp.asarray(1.5, dtype="float64")).dtype == "float32"
    assert dp.arange(3).at[0].add(True).dtype == "int64"


def test_take():
    x = dp.asarray(A)
    for axis, i in itertools.product((0, 1, 2, -1), (I1, I2, np.array(1), -1)):
        assert_same(dp.take(x, i, axis=axis), np.take(A, i, axis=axis))
    assert_same(dp.take(x[0, 0], I1), np.take(A[0, 0], I1))
    with pytest.raises(ValueError, match="say along which axis"):
        dp.take(x, I1)


def test_take_along_axis():
    x = dp.asarray(A)
    for axis in (0, 1, 2, -1):
        i = np.argsort(A * -1, axis=axis)
        assert_same(dp.take_along_axis(x, i, axis=axis), np.take_along_axis(A, i, axis=axis))
    picked = dp.take_along_axis(x, np.argmax(A, axis=2, keepdims=True), axis=2)
    assert_same(picked, A.max(axis=2, keepdims=True))
    with pytest.raises(ValueError, match="they may differ in axis 0 only"):
        dp.take_along_axis(x, I2, axis=0)
