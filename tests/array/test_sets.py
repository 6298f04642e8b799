"""Functions whose result is as long as the values decide, against NumPy; and the small ones of the standard."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ShapeError, TraceError

X = np.array([[3, 1, 3], [0, 1, 0]])
REALS = np.array([2.0, np.nan, -0.0, 0.0, np.nan, 2.0])


@pytest.mark.parametrize("x", [X, X[0], X[:0], REALS, X > 0], ids=str)
def test_unique(x):
    wanted = np.unique_all(x)
    got = dp.unique_all(x)
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(g, w)
    np.testing.assert_array_equal(dp.unique_values(x), wanted.values)
    np.testing.assert_array_equal(dp.unique_counts(x).counts, wanted.counts)
    np.testing.assert_array_equal(dp.unique_inverse(x).inverse_indices, wanted.inverse_indices)


def test_nonzero():
    for x in (X, REALS, X > 1):
        for got, wanted in zip(dp.nonzero(x), np.nonzero(x), strict=True):
            np.testing.assert_array_equal(got, wanted)
    with pytest.raises(ShapeError, match="a number has no positions"):
        dp.nonzero(1.0)


@pytest.mark.parametrize("name", ["nonzero", "unique_values", "unique_counts", "unique_inverse", "unique_all"])
def test_a_trace_does_not_know_how_many(name):
    with pytest.raises(TraceError, match="how many elements the result has depends on values") as caught:
        dp.defn(lambda x: getattr(dp, name)(x))(X)
    assert caught.value.hint


def test_counts():
    for axis in (None, 0, 1):
        np.testing.assert_array_equal(dp.count_nonzero(X, axis=axis), np.count_nonzero(X, axis=axis))
    assert dp.count_nonzero(X > 1).item() == 2
    assert dp.count_nonzero(REALS).item() == 4


def test_result_types():
    assert dp.result_type(dp.int8, dp.uint8) == "int16"
    assert dp.result_type(np.ones(2, "float32"), 1) == "float32"
    assert dp.result_type(dp.int8, 1.5) == "float32"
    assert dp.result_type("bool", 2) == "int64"
    with pytest.raises(ShapeError, match="needs a tensor or a dtype"):
        dp.result_type(1.0)


def test_small_ones():
    assert dp.positive(dp.asarray([1, -2])).tolist() == [1, -2]
    assert dp.empty_like(dp.ones((2, 3), dtype="int8")).aval == dp.zeros((2, 3), dtype="int8").aval
