"""Along an axis, against NumPy: cumulative ops, differences, sorting, order statistics."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import IndexingError, ShapeError
from defnpy.testing import check_grads

A = np.random.default_rng(0).standard_normal((3, 4, 5))
TIES = np.random.default_rng(1).integers(0, 3, (4, 6)).astype("float64")
BACKENDS = ["reference", "cpu"]


def close(got, wanted, rtol=1e-13):
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumulative_ops(axis):
    close(dp.cumulative_sum(A, axis=axis), np.cumsum(A, axis))
    close(dp.cumulative_prod(A, axis=axis), np.cumprod(A, axis))
    close(dp.cumulative_max(A, axis=axis), np.maximum.accumulate(A, axis))
    close(dp.cumulative_min(A, axis=axis), np.minimum.accumulate(A, axis))


@pytest.mark.parametrize("reverse", [False, True])
def test_the_fold_of_nothing_may_come_first(reverse):
    x = np.array([[1.0, 2.0, 3.0]])
    sums = dp.cumulative_sum(x, axis=1, include_initial=True, reverse=reverse)
    products = dp.cumulative_prod(x, axis=-1, include_initial=True, reverse=reverse)
    assert sums.tolist() == ([[6, 5, 3, 0]] if reverse else [[0, 1, 3, 6]])
    assert products.tolist() == ([[6, 6, 3, 1]] if reverse else [[1, 1, 2, 6]])


def test_cumulative_sums_choose_their_dtype():
    x = np.full(300, 100, "int8")
    assert dp.cumulative_sum(x).dtype == "int64" and dp.cumulative_sum(x)[-1].item() == 30000
    assert dp.cumulative_sum(x, dtype="float32").dtype == "float32"
    assert dp.cumulative_sum(x, dtype="int8").tolist() == np.cumsum(x, dtype="int8").tolist()
    assert dp.cumulative_sum(np.array([True, True])).tolist() == [1, 2]


def test_a_product_is_differentiated_at_zeros():
    """The product of the others where one element is 0, nothing where two are."""
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    gradient = dp.grad(lambda x: dp.sum(dp.cumulative_prod(x)))(x)
    assert gradient.tolist() == [1.0, 2.0 + 6.0, 0.0, 0.0, 0.0]
    check_grads(lambda x: dp.cumulative_prod(x), [x], order=2)


def test_an_extremum_belongs_to_the_element_reached_first():
    x = np.array([1.0, 3.0, 3.0, np.nan, 5.0])
    weights = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
    gradient = dp.grad(lambda x: dp.sum(dp.cumulative_max(x) * weights))(x)
    assert gradient.tolist() == [1.0, 110.0, 0.0, 11000.0, 0.0]
    gradient = dp.grad(lambda x: dp.sum(dp.cumulative_min(x, reverse=True) * weights[:3]))(-x[:3])
    assert gradient.tolist() == [0.0, 0.0, 111.0]


def test_which_axis_must_be_said():
    with pytest.raises(ShapeError, match="say along which of the 3 axes"):
        dp.cumulative_sum(A)


@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_diff(n):
    close(dp.diff(A, n=n, axis=1), np.diff(A, n=n, axis=1))
    assert dp.diff(np.array([True, False, False])).tolist() == [True, False]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("descending", [False, True])
def test_sorting_is_stable_in_both_directions(descending, backend):
    keys = -TIES if descending else TIES
    order = np.argsort(keys, axis=0, kind="stable")
    wanted = (np.take_along_axis(TIES, order, 0), order)
    got = dp.defn(
        lambda x: (dp.sort(x, axis=0, descending=descending), dp.argsort(x, axis=0, descending=descending)),
        backend=backend,
    )(TIES)
    for g, w in zip(got, wanted, strict=True):
        close(g, w)


def test_not_a_number_is_the_largest():
    x = np.array([2.0, np.nan, -np.inf, np.inf])
    close(dp.sort(x), [-np.inf, 2.0, np.inf, np.nan])
    close(dp.sort(x, descending=True), [np.nan, np.inf, 2.0, -np.inf])
    assert dp.top_k(x, 2).indices.tolist() == [1, 3]


def test_equal_elements_each_have_a_cotangent():
    weights = np.array([1.0, 10.0, 100.0])
    gradient = dp.grad(lambda x: dp.sum(dp.sort(x, descending=True) * weights))(np.array([2.0, 2.0, 7.0]))
    assert gradient.tolist() == [10.0, 100.0, 1.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_top_k(backend):
    def f(x):
        return dp.top_k(x, 2, axis=1)

    values, indices = dp.defn(f, backend=backend)(A)
    order = np.argsort(-A, axis=1)[:, :2]
    close(values, np.take_along_axis(A, order, 1))
    close(indices, order)
    check_grads(lambda x: f(x).values, [A[:2]], order=2)
    with pytest.raises(ShapeError, match="there are no 9 largest of the 5 elements of axis 2"):
        dp.top_k(A, 9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_order_statistics(axis, keepdims, backend):
    def f(x, q):
        options = {"axis": axis, "keepdims": keepdims}
        return dp.median(x, **options), dp.quantile(x, 0.3, **options), dp.quantile(x, q, **options)

    q = np.array([[0.0, 0.25], [0.6, 1.0]])
    got = dp.defn(f, backend=backend)(A, q)
    wanted = [np.quantile(A, each, axis=axis, keepdims=keepdims) for each in (0.5, 0.3, q)]
    for g, w in zip(got, wanted, strict=True):
        close(g, w, rtol=1e-12)


def test_quantiles_are_differentiated_in_both_arguments():
    check_grads(lambda x, q: dp.quantile(x, q, axis=1), [A[0], np.array([0.3, 0.85])], order=2)
    assert np.isnan(dp.median(np.array([1.0, np.nan])).item())
    assert dp.quantile(np.array([7.0], "float32"), 1.0).dtype == "float32"
    with pytest.raises(ShapeError, match="q is a fraction between 0 and 1, not 2"):
        dp.quantile(A, 2)


def test_searching():
    x, v = np.array([1.0, 2.0, 2.0, 5.0]), np.array([[0.0, 2.0], [3.0, 9.0]])
    for side in ("left", "right"):
        close(dp.searchsorted(x, v, side=side), np.searchsorted(x, v, side=side))
    with pytest.raises(ShapeError, match="what is searched has one axis"):
        dp.searchsorted(v, v)
    with pytest.raises(IndexingError):
        x = dp.asarray(x)
        x[dp.searchsorted(x, dp.asarray(9.0))]
