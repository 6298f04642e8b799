"""Functions that rearrange elements, against NumPy: eager, and traced as one program of all of them."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ShapeError
from defnpy.testing import check_grads

A = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
B = np.arange(6, dtype=np.float32).reshape(1, 3, 2)

CASES = {
    "reshape": (lambda x: dp.reshape(x, (4, 6)), lambda x: x.reshape(4, 6)),
    "reshape -1": (lambda x: dp.reshape(x, (-1, 8)), lambda x: x.reshape(-1, 8)),
    "reshape method": (lambda x: x.reshape(3, -1), lambda x: x.reshape(3, -1)),
    "reshape tuple": (lambda x: x.reshape((24,)), lambda x: x.reshape(24)),
    "ravel": (dp.ravel, np.ravel),
    "permute_dims": (lambda x: dp.permute_dims(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    "permute_dims negative": (lambda x: dp.permute_dims(x, (-1, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    "transpose": (dp.transpose, np.transpose),
    "transpose axes": (lambda x: x.transpose(1, 0, 2), lambda x: x.transpose(1, 0, 2)),
    "T": (lambda x: x.T, lambda x: x.T),
    "mT": (lambda x: x.mT, lambda x: np.swapaxes(x, 1, 2)),
    "matrix_transpose": (dp.matrix_transpose, lambda x: np.swapaxes(x, 1, 2)),
    "moveaxis": (lambda x: dp.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    "moveaxis many": (lambda x: dp.moveaxis(x, (0, 2), (1, 0)), lambda x: np.moveaxis(x, (0, 2), (1, 0))),
    "broadcast_to": (lambda x: dp.broadcast_to(x, (5, 2, 3, 4)), lambda x: np.broadcast_to(x, (5, 2, 3, 4))),
    "broadcast_to ones": (lambda x: dp.broadcast_to(x[:, :1], A.shape), lambda x: np.broadcast_to(x[:, :1], A.shape)),
    "expand_dims": (lambda x: dp.expand_dims(x, 1), lambda x: np.expand_dims(x, 1)),
    "expand_dims many": (lambda x: dp.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1))),
    "squeeze": (lambda x: dp.squeeze(x[:1, :, :1]), lambda x: x[:1, :, :1].squeeze()),
    "squeeze axis": (lambda x: dp.squeeze(x[:1, :, :1], -1), lambda x: x[:1, :, :1].squeeze(-1)),
    "flip": (dp.flip, np.flip),
    "flip axes": (lambda x: dp.flip(x, axis=(0, -1)), lambda x: np.flip(x, (0, -1))),
    "concat": (lambda x: dp.concat([x, x + 100], axis=1), lambda x: np.concatenate([x, x + 100], 1)),
    "concat last": (lambda x: dp.concat([x, x[..., :1]], axis=-1), lambda x: np.concatenate([x, x[..., :1]], -1)),
    "concat flat": (lambda x: dp.concat([x, x[0]], axis=None), lambda x: np.concatenate([x, x[0]], None)),
    "stack": (lambda x: dp.stack([x, -x]), lambda x: np.stack([x, -x])),
    "stack last": (lambda x: dp.stack([x, -x], axis=-1), lambda x: np.stack([x, -x], -1)),
    "stack numbers": (lambda x: dp.stack([x[0, 0, 0], x[1, 2, 3]]), lambda x: np.stack([x[0, 0, 0], x[1, 2, 3]])),
    "roll": (lambda x: dp.roll(x, 2, axis=2), lambda x: np.roll(x, 2, 2)),
    "roll back": (lambda x: dp.roll(x, -5, axis=1), lambda x: np.roll(x, -5, 1)),
    "pad": (
        lambda x: dp.pad(x, low=(1, 0, 2), high=(0, 3, 0), value=-1),
        lambda x: np.pad(x, ((1, 0), (0, 3), (2, 0)), constant_values=-1),
    ),
    "pad all": (lambda x: dp.pad(x, low=1, high=1), lambda x: np.pad(x, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_eager(name):
    ours, theirs = CASES[name]
    got, wanted = ours(dp.asarray(A)), theirs(A)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_compiled(backend):
    """All of them in one program, after arithmetic and before it, so that kernels read through the views."""
    results = dp.defn(lambda x: {k: ours(x * 2) + 1 for k, (ours, _) in CASES.items()}, backend=backend)(A)
    for name, (_, theirs) in CASES.items():
        wanted = theirs(A * 2) + 1
        assert results[name].shape == wanted.shape, name
        np.testing.assert_array_equal(results[name], wanted, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_gradient(name):
    check_grads(lambda x: CASES[name][0](x) ** 2, [dp.asarray(A)])


def test_interior_padding():
    x = np.arange(6).reshape(2, 3)
    got = dp.pad(dp.asarray(x), low=(1, 0), high=(0, 1), interior=(1, 2), value=9)
    wanted = np.full((4, 8), 9)
    wanted[1::2, 0:7:3] = x
    np.testing.assert_array_equal(got, wanted)


def test_concat_promotes():
    got = dp.concat([dp.asarray([1], dtype="int8"), dp.asarray([2.5])])
    assert got.dtype == "float32" and got.tolist() == [1.0, 2.5]
    assert dp.stack([dp.asarray(1), dp.asarray(2.5, dtype="float64")]).dtype == "float64"


def test_broadcast_arrays():
    got = dp.broadcast_arrays(dp.asarray(A[:, :1]), dp.asarray(B[..., :1]), 1.5)
    wanted = np.broadcast_arrays(A[:, :1], B[..., :1], 1.5)
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "float64"])
@pytest.mark.parametrize("target", ["bool", "int16", "uint8", "float32", "float64"])
def test_astype(dtype, target):
    x = np.array([0, 1, 2, 3]).astype(dtype)
    got = dp.astype(dp.asarray(x), target)
    assert got.dtype == target
    np.testing.assert_array_equal(got, x.astype(target))
    np.testing.assert_array_equal(dp.asarray(x).astype(target), x.astype(target))


def test_astype_truncates_towards_zero():
    assert dp.asarray([1.9, -1.9, 0.5]).astype(int).tolist() == [1, -1, 0]
    assert dp.asarray([0.0, 0.1, np.nan]).astype(bool).tolist() == [False, True, True]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: dp.reshape(x, (5, 5)),
        lambda x: dp.reshape(x, (-1, -1)),
        lambda x: dp.reshape(x, (7, -1)),
        lambda x: dp.permute_dims(x, (0, 1)),
        lambda x: dp.squeeze(x, 0),
        lambda x: dp.expand_dims(x, 5),
        lambda x: dp.flip(x, axis=3),
        lambda x: dp.concat([x, x[0]]),
        lambda x: dp.stack([x, x[0]]),
        lambda x: dp.broadcast_to(x, (3, 4)),
        lambda x: dp.moveaxis(x, 3, 0),
        lambda x: dp.moveaxis(x, (0, 1), 0),
        lambda x: dp.matrix_transpose(x[0, 0]),
        lambda x: dp.pad(x, low=-1),
        lambda x: dp.pad(x, low=(1, 2)),
    ],
)
def test_what_does_not_fit_is_a_shape_error_eager_and_traced(call):
    with pytest.raises(ShapeError):
        call(dp.asarray(A))
    with pytest.raises(ShapeError):
        dp.defn(call).expr(A)


C = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: dp.roll(C, 5), lambda: np.roll(C, 5)),
        (lambda: dp.roll(C, -1, axis=1), lambda: np.roll(C, -1, axis=1)),
        (lambda: dp.roll(C, (1, -2), axis=(0, 2)), lambda: np.roll(C, (1, -2), axis=(0, 2))),
        (lambda: dp.roll(C, 1, axis=(1, 1)), lambda: np.roll(C, 1, axis=(1, 1))),
        (lambda: dp.roll(C[:0], 3, axis=0), lambda: np.roll(C[:0], 3, axis=0)),
        (lambda: dp.swapaxes(C, 0, -1), lambda: np.swapaxes(C, 0, -1)),
        (lambda: dp.tile(C, 2), lambda: np.tile(C, 2)),
        (lambda: dp.tile(C, (2, 1, 3, 1)), lambda: np.tile(C, (2, 1, 3, 1))),
        (lambda: dp.tile(C[0, 0], (2, 0)), lambda: np.tile(C[0, 0], (2, 0))),
        (lambda: dp.repeat(C, 3), lambda: np.repeat(C, 3)),
        (lambda: dp.repeat(C, 2, axis=1), lambda: np.repeat(C, 2, axis=1)),
        (lambda: dp.repeat(C, [2, 0, 1], axis=1), lambda: np.repeat(C, [2, 0, 1], axis=1)),
        (lambda: dp.split(C, 2, axis=2), lambda: np.split(C, 2, axis=2)),
        (lambda: dp.split(C, [1, 2, 2, 9], axis=2), lambda: np.split(C, [1, 2, 2, 9], axis=2)),
        (lambda: dp.unstack(C, axis=1), lambda: np.unstack(C, axis=1)),
        (lambda: dp.triu(C, k=1), lambda: np.triu(C, 1)),
        (lambda: dp.triu(C, k=-1), lambda: np.triu(C, -1)),
        (lambda: dp.tril(np.full((2, 2), np.inf)), lambda: np.tril(np.full((2, 2), np.inf))),
        (lambda: dp.diag(C[0, 0], k=-2), lambda: np.diag(C[0, 0], -2)),
        (lambda: dp.diag(C[0, 0], k=1), lambda: np.diag(C[0, 0], 1)),
        (lambda: dp.diag(C[0], k=2), lambda: np.diag(C[0], 2)),
        (lambda: dp.diag(C[0], k=-9), lambda: np.diag(C[0], -9)),
        (lambda: dp.meshgrid(C[0, 0], C[0, :, 0], C[:, 0, 0]), lambda: np.meshgrid(C[0, 0], C[0, :, 0], C[:, 0, 0])),
        (
            lambda: dp.meshgrid(C[0, 0], C[:, 0, 0], indexing="ij"),
            lambda: np.meshgrid(C[0, 0], C[:, 0, 0], indexing="ij"),
        ),
    ],
)
def test_as_numpy_does(ours, theirs):
    got, wanted = ours(), theirs()
    for g, w in zip(*((x,) if not isinstance(x, (list, tuple)) else x for x in (got, wanted)), strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dp.split(C, 5), "an axis of size 2 does not split into 5 equal parts"),
        (lambda: dp.repeat(C, [1, 2, 3], axis=0), "3 repeats for an axis of size 2"),
        (lambda: dp.roll(C, (1, 2, 3), axis=(0, 1)), "3 shifts for 2 axes"),
        (lambda: dp.diag(dp.asarray(C)), "x has one axis or two, not 3"),
        (lambda: dp.tril(dp.ones(3)), "a matrix has two axes"),
    ],
)
def test_errors_of_places(call, text):
    with pytest.raises(ShapeError, match=text):
        call()
