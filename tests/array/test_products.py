"""Matrix products against NumPy: every pairing of ranks, views on both sides, integers, gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import defnpy as dp
from defnpy.errors import ShapeError
from defnpy.testing import check_grads

LEFT = [(3,), (2, 3), (5, 2, 3), (1, 2, 3), (4, 1, 2, 3), (0, 3), (2, 0)]
RIGHT = [(3,), (3, 4), (5, 3, 4), (1, 3, 4), (4, 5, 3, 4), (3, 0), (0, 4)]


def draw(shape, seed=0, dtype=np.float64):
    """Small whole numbers, so that sums of products are exact in any order."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(dtype)


def works(function, *shapes):
    try:
        return function(*map(np.zeros, shapes)).shape
    except ValueError:
        return None


def assert_same(got, wanted):
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("left", "right"), [*itertools.product(LEFT, RIGHT)])
def test_matmul(left, right):
    a, b = draw(left), draw(right, 1)
    if works(np.matmul, left, right) is None:
        with pytest.raises(ShapeError):
            dp.matmul(a, b)
        with pytest.raises(ShapeError):
            dp.defn(lambda x, y: x @ y).expr(a, b)
        return
    assert_same(dp.matmul(a, b), a @ b)
    assert_same(dp.asarray(a) @ b, a @ b)
    assert_same(a @ dp.asarray(b), a @ b)
    assert_same(dp.defn(lambda x, y: x @ y, backend="reference")(a, b), a @ b)


@pytest.mark.parametrize(("left", "right"), [*itertools.product([(3,), (2, 3), (5, 2, 3)], [(3,), (3, 4), (5, 3, 4)])])
def test_matmul_compiled(left, right):
    a, b = draw(left), draw(right, 1)
    assert_same(dp.defn(lambda x, y: x @ y, backend="cpu")(a, b), a @ b)
    for dtype in (np.float32, np.int64):
        a, b = draw(left, dtype=dtype), draw(right, 1, dtype)
        assert_same(dp.defn(lambda x, y: x @ y, backend="cpu")(a, b), a @ b)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.int64])
def test_matmul_of_integers_stays_in_their_dtype(dtype):
    a, b = np.abs(draw((2, 3))).astype(dtype), np.abs(draw((3, 4), 1)).astype(dtype)
    assert_same(dp.matmul(a, b), a @ b)


def test_matmul_of_mixed_dtypes_promotes():
    a, b = draw((2, 3), dtype=np.float32), draw((3, 2), 1, np.int64)
    got = dp.matmul(a, b)
    assert got.dtype == "float32"
    np.testing.assert_array_equal(got, a @ b)
    assert dp.matmul(a, b.astype(np.float64)).dtype == "float64"


def products_of_views(np, x, y):
    """The same expressions over NumPy and over defnpy."""
    return {
        "transposed": x.T @ y[:, :2].T,
        "sliced": x[:, ::2] @ y[::2],
        "flipped": x[:, ::-1] @ y,
        "broadcast": np.broadcast_to(x[0], (2, 3)) @ y,
        "reshaped": x.reshape(3, 2) @ y.reshape(2, 6),
        "computed": (x + 1) @ (y * 2) + 1,
        "vectors": x[0] @ y[:, 1],
        "square": x @ x.T,
        "stacked": np.stack([x, x + 1]) @ y,
        "product of products": (x @ y) @ (y.T @ x.T),
    }


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_products_of_views(backend):
    x, y = draw((2, 3)), draw((3, 4), 1)
    results = dp.defn(lambda x, y: products_of_views(dp, x, y), backend=backend)(x, y)
    wanted = products_of_views(np, x, y)
    assert sorted(results) == sorted(wanted)
    for name, value in wanted.items():
        assert_same(results[name], np.asarray(value))


@pytest.mark.parametrize(
    ("left", "right"), [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4))]
)
def test_gradient_of_matmul(left, right):
    check_grads(dp.matmul, [draw(left), draw(right, 1)])


def test_gradient_of_a_broadcast_matmul_is_summed():
    a, b = draw((4, 1, 2, 3)), draw((5, 3, 4), 1)
    check_grads(dp.matmul, [a, b])
    c = draw((4, 5, 2, 4), 2)
    to_a, to_b = dp.grad(lambda a, b: dp.sum(c * (a @ b)), (0, 1))(a, b)
    np.testing.assert_array_equal(to_a, (c @ b.swapaxes(1, 2)).sum(1, keepdims=True))
    np.testing.assert_array_equal(to_b, (a.swapaxes(2, 3) @ c).sum(0))


# -- the other products ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [((), ()), ((), (2, 3)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4))]
    + [((5, 2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (6, 3, 4)), ((3,), (6, 3, 4))],
)
def test_dot(left, right):
    a, b = draw(left), draw(right, 1)
    assert_same(dp.dot(a, b), np.asarray(np.dot(a, b)))
    assert_same(dp.asarray(a).dot(b), np.asarray(np.dot(a, b)))


@pytest.mark.parametrize(
    ("left", "right", "axes"),
    [
        ((2, 3), (3, 4), 1),
        ((2, 3, 4), (3, 4, 5), 2),
        ((2, 3), (4, 5), 0),
        ((4, 3, 5), (2, 3, 4), ((0, 1), (2, 1))),
        ((4, 3, 5), (3, 4), ((1, 0), (0, 1))),
        ((2, 3), (2, 3), ((0, 1), (0, 1))),
        ((2, 3), (3, 2), ((-1,), (0,))),
    ],
)
def test_tensordot(left, right, axes):
    a, b = draw(left), draw(right, 1)
    assert_same(dp.tensordot(a, b, axes=axes), np.asarray(np.tensordot(a, b, axes)))
    check_grads(lambda x, y: dp.tensordot(x, y, axes=axes), [a, b])


@pytest.mark.parametrize(
    ("left", "right", "axis"), [((3,), (3,), -1), ((2, 3), (3,), -1), ((2, 3), (2, 3), 0), ((4, 1, 3), (5, 3), -1)]
)
def test_vecdot(left, right, axis):
    a, b = draw(left), draw(right, 1)
    wanted = np.asarray((a * b).sum(axis))
    assert_same(dp.vecdot(a, b, axis=axis), wanted)


def test_outer():
    a, b = draw((3,)), draw((4,), 1)
    assert_same(dp.outer(a, b), np.outer(a, b))
    with pytest.raises(ShapeError, match="both operands have one axis"):
        dp.outer(draw((2, 2)), b)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_dot_general(backend):
    a, b = draw((5, 2, 3)), draw((4, 5, 3), 1)
    f = dp.defn(lambda x, y: dp.dot_general(x, y, contract=((2,), (2,)), batch=((0,), (1,))), backend=backend)
    assert_same(f(a, b), np.einsum("bik,jbk->bij", a, b))


@pytest.mark.parametrize(
    "call",
    [
        lambda: dp.tensordot(draw((2, 3)), draw((2, 3)), axes=1),
        lambda: dp.vecdot(draw((2,)), draw((3,))),
        lambda: dp.dot(draw((2, 3)), draw((2,))),
        lambda: dp.dot_general(draw((2, 3)), draw((2, 3)), contract=((0, 0), (0, 0))),
        lambda: dp.dot_general(draw((2, 3)), draw((2, 3)), contract=((0,), (0, 1))),
        lambda: dp.matmul(draw(()), draw((2,))),
    ],
)
def test_what_does_not_fit(call):
    with pytest.raises(ShapeError):
        call()


sizes = st.integers(0, 4)


@given(st.lists(sizes, max_size=2), sizes, sizes, sizes, st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_matmul_is_numpys(stack, n, k, m, ones):
    """Random stacks, some of their axes 1 on one side."""
    left = tuple(1 if one else s for s, one in zip(stack, ones, strict=False)) + (n, k)
    right = tuple(1 if one else s for s, one in zip(stack, ones[2:], strict=False)) + (k, m)
    a, b = draw(left), draw(right, 1)
    assert_same(dp.matmul(a, b), np.matmul(a, b))
