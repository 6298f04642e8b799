"""Reductions, averages and the stable exponentials, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ShapeError
from defnpy.testing import check_grads

A = np.random.default_rng(0).standard_normal((2, 3, 4))
AXES = [None, 0, 1, -1, (0,), (0, 2), (2, 1), (0, 1, 2), ()]
REDUCTIONS = ["sum", "prod", "max", "min", "mean", "var", "std"]


def close(got, wanted, rtol=1e-12):
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=0)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_eager(name, axis, keepdims):
    wanted = getattr(np, name)(A, axis=axis, keepdims=keepdims)
    close(getattr(dp, name)(A, axis=axis, keepdims=keepdims), wanted)
    close(getattr(dp.asarray(A), name)(axis=axis, keepdims=keepdims), wanted)
    close(getattr(dp.asarray(A), name)(axis, keepdims=keepdims), wanted)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_compiled(backend):
    """All reductions over all axes, of a computed operand, in one program."""

    def f(np, x):
        y = x * 2 + 1
        return {f"{n} {a}": getattr(np, n)(y, axis=a) for n in REDUCTIONS for a in AXES if a != ()}

    results, wanted = dp.defn(lambda x: f(dp, x), backend=backend)(A), f(np, A)
    for key, value in wanted.items():
        close(results[key], value, rtol=1e-11)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_gradient(name, axis):
    check_grads(lambda x: getattr(dp, name)(x, axis=axis), [A])


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"])
def test_sums_of_small_integers_are_wide(dtype):
    x = np.ones(300).astype(dtype)
    wide = "uint64" if dtype.startswith("u") else "int64"
    for got in (dp.sum(dp.asarray(x)), dp.prod(dp.asarray(x))):
        assert got.dtype == wide
    assert dp.sum(dp.asarray(x)).item() == 300
    assert dp.mean(dp.asarray(x)).dtype == "float32" and dp.mean(dp.asarray(x)).item() == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "int64"])
def test_extrema_keep_the_dtype(dtype):
    x = np.array([[3, 1], [2, 7]], dtype)
    for name in ("max", "min"):
        close(getattr(dp, name)(dp.asarray(x), axis=0), getattr(x, name)(axis=0))


def test_variance_with_a_correction():
    close(dp.var(A, correction=1), A.var(ddof=1))
    close(dp.std(A, axis=1, correction=1.0), A.std(axis=1, ddof=1))


def test_nothing():
    empty = dp.zeros((0, 3))
    assert dp.sum(empty).item() == 0.0 and dp.prod(empty).item() == 1.0
    assert dp.sum(empty, axis=0).tolist() == [0.0] * 3 and dp.sum(empty, axis=1).shape == (0,)
    assert np.isnan(dp.mean(empty, axis=0)).all()
    assert dp.max(empty, axis=1).shape == (0,)
    assert dp.all(dp.zeros(0, dtype=bool)).item() is True and dp.any(dp.zeros(0, dtype=bool)).item() is False
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ShapeError, match="nothing has no extremum"):
            getattr(dp, name)(empty, axis=0)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), (0, 2)])
@pytest.mark.parametrize("name", ["any", "all"])
def test_any_and_all(name, axis):
    x = A > 0.3
    got = getattr(dp, name)(dp.asarray(x), axis=axis)
    assert got.dtype == "bool"
    np.testing.assert_array_equal(got, getattr(np, name)(x, axis=axis))
    np.testing.assert_array_equal(getattr(dp.asarray(x), name)(axis=axis), getattr(np, name)(x, axis=axis))
    numbers = np.array([[0.0, -0.0, np.nan], [1e-300, -np.inf, 0.0], [0.0, 0.0, 0.0], [2.0, 3.0, 4.0]])
    for dtype in ("float64", "float32", "int8", "uint64"):
        with np.errstate(invalid="ignore"):
            x = numbers.astype(dtype)
        for way in (lambda f: f, dp.defn):
            got = way(lambda x: getattr(dp, name)(x, axis=1))(dp.asarray(x))
            np.testing.assert_array_equal(got, getattr(np, name)(x, axis=1))


@pytest.mark.parametrize("backend", ["eager", "reference", "cpu"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name, backend):
    x = np.round(A * 2)  # with ties: the first counts
    for axis in (None, 0, 1, -1):

        def f(x, axis=axis):
            return getattr(dp, name)(x, axis=axis), getattr(dp, name)(x, axis=axis, keepdims=True)

        got, kept = (f if backend == "eager" else dp.defn(f, backend=backend))(dp.asarray(x))
        assert got.dtype == kept.dtype == "int64"
        np.testing.assert_array_equal(got, getattr(np, name)(x, axis=axis))
        np.testing.assert_array_equal(kept, getattr(np, name)(x, axis=axis, keepdims=True))
    over_two = getattr(dp, name)(dp.asarray(x), axis=(0, 2))
    wanted = getattr(np, name)(x.transpose(1, 0, 2).reshape(3, -1), axis=1)
    np.testing.assert_array_equal(over_two, wanted)
    assert getattr(dp, name)(dp.asarray([1.0, np.nan, 3.0, np.nan])).item() == 1


# -- stable exponentials --------------------------------------------------------------------------------------------

FAR = np.array([[1000.0, 0.0, -1000.0], [-1e30, -1e30, -1e30], [1e4, 1e4, 1e4], [0.1, 0.2, 0.3]])


def exact(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("backend", ["eager", "reference", "cpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_family(backend, dtype):
    def f(x):
        return dp.softmax(x), dp.log_softmax(x), dp.logsumexp(x, axis=-1), dp.logsumexp(x, axis=-1, keepdims=True)

    s, log_s, lse, kept = (f if backend == "eager" else dp.defn(f, backend=backend))(dp.asarray(FAR, dtype=dtype))
    assert {t.dtype.name for t in (s, log_s, lse, kept)} == {dtype}
    rtol = 1e-6 if dtype == "float32" else 1e-13
    x = FAR.astype(dtype).astype(np.float64)
    top = x.max(axis=-1)
    rest = np.log(np.exp(x - top[:, None]).sum(axis=-1))
    np.testing.assert_allclose(s, exact(x), rtol=rtol, atol=1e-38)
    np.testing.assert_allclose(lse, top + rest, rtol=rtol)
    np.testing.assert_allclose(kept, (top + rest)[:, None], rtol=rtol)
    np.testing.assert_allclose(log_s, x - top[:, None] - rest[:, None], rtol=rtol)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2)])
def test_softmax_over_other_axes(axis):
    e = np.exp(A - A.max(axis=axis, keepdims=True))
    close(dp.softmax(A, axis=axis), e / e.sum(axis=axis, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(np.exp(dp.log_softmax(A, axis=axis)), dp.softmax(A, axis=axis), rtol=1e-13)
    np.testing.assert_allclose(dp.logsumexp(A, axis=axis), np.log(np.exp(A).sum(axis=axis)), rtol=1e-13)


@pytest.mark.parametrize("way", [lambda f: f, dp.defn])
def test_softmax_of_nothing_and_the_logarithm_of_an_empty_sum(way):
    x = dp.zeros((0, 3), dtype="float64")
    for axis in (0, 1):
        for function in (dp.softmax, dp.log_softmax):
            assert way(lambda x, f=function, a=axis: f(x, axis=a))(x).shape == (0, 3)
    assert way(lambda x: dp.logsumexp(x, axis=0))(x).tolist() == [-np.inf] * 3
    assert way(lambda x: dp.logsumexp(x, axis=1))(x).shape == (0,)
    assert dp.grad(way(lambda x: dp.sum(dp.softmax(x, axis=0))))(x).shape == (0, 3)


@pytest.mark.parametrize("function", [dp.softmax, dp.log_softmax, dp.logsumexp, dp.softplus, dp.square])
def test_gradients_of_composites(function):
    check_grads(function, [A])


def test_integers_become_floats():
    x = dp.asarray([1, 2, 3])
    for function in (dp.softmax, dp.log_softmax, dp.logsumexp, dp.mean, dp.var, dp.softplus):
        assert function(x).dtype == "float32"
    np.testing.assert_allclose(dp.softmax(x), exact(np.array([1.0, 2.0, 3.0])), rtol=1e-6)


def test_infinities():
    x = dp.asarray([np.inf, 1.0, 2.0], dtype="float64")
    assert dp.logsumexp(x).item() == np.inf
    assert dp.logsumexp(dp.asarray([-np.inf, 0.0])).item() == 0.0
    assert dp.softmax(dp.asarray([-np.inf, 0.0])).tolist() == [0.0, 1.0]


# -- clip -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (None, 0.5), (-0.5, None), (None, None), (0.5, -0.5)])
def test_clip(low, high):
    wanted = A if low is high is None else np.clip(A, low, high)
    close(dp.clip(A, low, high), wanted)
    close(dp.asarray(A).clip(low, high), wanted)
    close(dp.clip(A, min=low, max=high), wanted)


def test_clip_of_integers():
    x = dp.asarray([-5, 0, 5], dtype="int8")
    assert dp.clip(x, -1, 2).tolist() == [-1, 0, 2] and dp.clip(x, -1, 2).dtype == "int8"
    assert dp.clip(x, None, 2).tolist() == [-5, 0, 2]
    assert dp.clip(x, 0.5, None).dtype == "float32"


def test_clip_between_tensors():
    low, high = A - 0.1, np.broadcast_to(A[:1] + 0.2, A.shape)
    close(dp.clip(A[::-1], low, high), np.clip(A[::-1], low, high))
