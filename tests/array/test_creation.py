"""Tensors from values and from rules, against NumPy; and who owns the memory."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import DTypeError, ShapeError

FLOATS, INTS = ("float32", "float64"), ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = ("bool", *INTS, *FLOATS)


def assert_same(got, wanted, dtype):
    assert isinstance(got, dp.Tensor)
    assert got.shape == wanted.shape and got.dtype == dtype
    np.testing.assert_array_equal(got, wanted)


# -- asarray --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, "bool"),
        (3, "int64"),
        (3.5, "float32"),
        ([True, False], "bool"),
        ([1, 2], "int64"),
        ([1.5, 2], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        (((1.0,), (2.0,)), "float32"),
        ([], "float32"),
        (range(3), "int64"),
        (np.float64(2), "float64"),
        (np.float32(2), "float32"),
        (np.int8(2), "int8"),
        (np.bool_(True), "bool"),
        ([np.float64(2), 1], "float64"),
        (np.arange(3, dtype="u2"), "uint16"),
        (memoryview(b"abc"), "uint8"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, memoryview) else repr(v),
)
def test_what_asarray_makes_of_a_value(value, dtype):
    got = dp.asarray(value)
    assert_same(got, np.asarray(value), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_asarray_with_a_dtype(dtype):
    assert_same(dp.asarray([0, 1, 2], dtype=dtype), np.array([0, 1, 2]).astype(dtype), dtype)
    array = np.array([0, 1, 2]).astype(dtype)
    assert_same(dp.asarray(array), array, dtype)
    assert_same(dp.asarray(dp.asarray([0, 1, 2]), dtype=dtype), array, dtype)


def test_python_types_and_numpy_types_name_dtypes():
    for name, dtype in ((bool, "bool"), (int, "int64"), (float, "float32"), (np.float64, "float64"), (dp.int8, "int8")):
        assert dp.zeros(1, dtype=name).dtype == dtype


def test_big_endian_arrays_become_native():
    got = dp.asarray(np.array([1, 2, 3], dtype=">i4"))
    assert got.tolist() == [1, 2, 3] and got.dtype == "int32" and np.asarray(got).dtype.isnative


@pytest.mark.parametrize("dtype", ["float16", "complex64", "O", "U3", "M8[s]"])
def test_dtypes_that_do_not_exist_here(dtype):
    with pytest.raises(DTypeError):
        dp.asarray(np.zeros(2, dtype))


def test_an_integer_beyond_64_bits_is_called_too_large():
    with pytest.raises(DTypeError, match="1180591620717411303424"):
        dp.asarray(2**70)
    with pytest.raises(DTypeError) as caught:
        dp.asarray(2**70)
    assert "object" not in caught.value.what


# -- ownership ------------------------------------------------------------------------------------------------------


def views(array):
    """Ways to hand over memory that somebody else can still write."""
    yield array
    yield array[:]
    yield array.reshape(2, 3)
    yield array[::-1]
    locked = array[:]
    locked.flags.writeable = False
    yield locked  # read-only itself, but its base is not
    yield memoryview(array)


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("number", range(6))
def test_a_later_write_into_the_source_does_not_show(number, copy):
    array = np.arange(6.0)
    view = list(views(array))[number]
    tensor = dp.asarray(view, copy=copy)
    before = np.array(tensor)
    array[:] = -1
    np.testing.assert_array_equal(tensor, before)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: dp.reshape(a, (2, 3)),
        lambda a: dp.transpose(a),
        lambda a: dp.broadcast_to(a, (2, 6)),
        lambda a: dp.squeeze(a),
        lambda a: dp.flip(a),
        lambda a: dp.concat([a]),
        lambda a: dp.astype(a, "float64"),
        lambda a: dp.stop_grad(a),
        lambda a: dp.add(a, 0),
        lambda a: dp.from_dlpack(a),
        lambda a: dp.expand_dims(a),
        lambda a: dp.broadcast_arrays(a, a)[0],
        lambda a: dp.defn(lambda x: x, backend="reference")(a),
        lambda a: dp.defn(lambda x: x, backend="cpu")(a),
        lambda a: dp.defn(lambda x: x.reshape(3, 2), backend="reference")(a),
        lambda a: dp.defn(lambda x: x.reshape(3, 2), backend="cpu")(a),
        lambda a: dp.defn(lambda x: (x, x), backend="cpu")(a)[1],
    ],
)
def test_a_result_never_shares_memory_that_can_be_written(make):
    array = np.arange(6.0)
    tensor = make(array)
    before = np.array(tensor)
    array[:] = -1
    np.testing.assert_array_equal(tensor, before)


def test_read_only_memory_is_shared():
    array = np.arange(6.0)
    array.flags.writeable = False
    tensor = dp.asarray(array)
    assert np.shares_memory(np.asarray(tensor), array)
    assert np.shares_memory(np.asarray(dp.asarray(array, copy=False)), array)
    assert not np.shares_memory(np.asarray(dp.asarray(array, copy=True)), array)


def test_a_tensor_is_its_own_asarray():
    x = dp.asarray([1.0, 2.0])
    assert dp.asarray(x) is x and dp.asarray(x, dtype="float32") is x and dp.asarray(x, copy=False) is x
    copied = dp.asarray(x, copy=True)
    assert copied is not x and not np.shares_memory(np.asarray(copied), np.asarray(x))


def test_copy_false_refuses():
    with pytest.raises(ValueError, match="without a copy"):
        dp.asarray(np.ones(2), copy=False)
    with pytest.raises(ValueError, match="without a copy"):
        dp.asarray(dp.ones(2), dtype="float64", copy=False)
    with pytest.raises(ValueError, match="without a copy"):
        dp.asarray([1, 2], copy=False)


def test_asarray_does_not_lock_the_callers_array():
    array = np.arange(3.0)
    dp.asarray(array)
    dp.add(array, 1)
    dp.reshape(array, (3, 1))
    array[0] = 7.0
    assert array[0] == 7.0


# -- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, *DTYPES])
@pytest.mark.parametrize("shape", [(), 3, (2, 0), [2, 3]])
def test_zeros_ones_empty_full(shape, dtype):
    wanted = dtype or "float32"
    for make, value in ((dp.zeros, 0), (dp.ones, 1), (dp.empty, 0)):
        assert_same(make(shape, dtype=dtype), np.full(shape, value, wanted), wanted)
    assert_same(dp.full(shape, 1, dtype=dtype), np.full(shape, 1, dtype or "int64"), dtype or "int64")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(True, "bool"), (7, "int64"), (0.5, "float32"), (np.float64(0.5), "float64"), (np.uint8(3), "uint8")],
)
def test_full_takes_the_dtype_of_its_value(value, dtype):
    assert_same(dp.full((2,), value), np.full(2, value), dtype)
    assert_same(dp.full((2,), dp.asarray(value)), np.full(2, value), dtype)


def test_like():
    x = dp.asarray([[1, 2, 3]], dtype="int8")
    assert_same(dp.zeros_like(x), np.zeros((1, 3)), "int8")
    assert_same(dp.ones_like(x), np.ones((1, 3)), "int8")
    assert_same(dp.full_like(x, 7), np.full((1, 3), 7), "int8")
    assert_same(dp.full_like(x, 0.5, dtype="float64"), np.full((1, 3), 0.5), "float64")


@pytest.mark.parametrize(
    "args",
    [
        (4,),
        (0,),
        (-3,),
        (2, 7),
        (7, 2),
        (2, 7, 2),
        (7, 2, -2),
        (2, 8, 3),
        (0.5, 3.0),
        (1, 2, 0.25),
        (0, 1, 0.1),
        (3.5,),
    ],
)
def test_arange(args):
    wanted = np.arange(*args)
    dtype = "int64" if wanted.dtype.kind == "i" else "float32"
    assert_same(dp.arange(*args), wanted.astype(dtype), dtype)
    np.testing.assert_allclose(dp.arange(*args, dtype="float64"), wanted, rtol=1e-15)


def test_arange_of_large_integers_is_exact():
    assert dp.arange(2**53 + 1, 2**53 + 4).tolist() == [2**53 + 1, 2**53 + 2, 2**53 + 3]


def test_arange_with_step_zero():
    with pytest.raises(ShapeError, match="the step is 0"):
        dp.arange(0, 1, 0)


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize(
    ("start", "stop", "num"), [(0, 1, 5), (2.0, -3.0, 7), (1, 1, 3), (0, 1, 1), (0, 1, 0), (5, 6, 2)]
)
def test_linspace(start, stop, num, endpoint):
    wanted = np.linspace(start, stop, num, endpoint=endpoint)
    assert_same(dp.linspace(start, stop, num, endpoint=endpoint), wanted.astype("float32"), "float32")
    got = dp.linspace(start, stop, num, dtype="float64", endpoint=endpoint)
    np.testing.assert_allclose(got, wanted, rtol=1e-15)


@pytest.mark.parametrize("k", [-4, -1, 0, 1, 2, 9])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (4, 2), (0,), (0, 2)])
def test_eye(shape, k):
    assert_same(dp.eye(*shape, k=k), np.eye(*shape, k=k), "float32")
    assert_same(dp.eye(*shape, k=k, dtype="int8"), np.eye(*shape, k=k), "int8")


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_tril(k):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert_same(dp.tril(dp.asarray(x), k=k), np.tril(x, k=k), "float32")


@pytest.mark.parametrize("labels", [[0, 2, 1], [[3], [0]], 2, [], [-1, 7]])
def test_one_hot(labels):
    labels = np.array(labels, np.int64)
    wanted = (labels[..., None] == np.arange(4)).astype("float32")
    assert_same(dp.one_hot(labels, 4), wanted, "float32")
    assert_same(dp.one_hot(labels, 4, dtype="int8"), wanted, "int8")
    assert_same(dp.one_hot(labels.astype("uint8") if labels.min(initial=0) >= 0 else labels, 4), wanted, "float32")


def test_creation_in_traced_code():
    def f(x):
        n = x.shape[0]
        return dp.zeros(n) + dp.arange(n) * dp.full((n,), 2.0) + dp.eye(n)[0] + dp.linspace(0, 1, n) + x

    x = np.array([1.0, 2.0, 3.0], np.float32)
    for backend in ("reference", "cpu"):
        got = dp.defn(f, backend=backend)(x)
        np.testing.assert_array_equal(got, np.array([2.0, 4.5, 8.0], np.float32))


def test_full_of_a_traced_value():
    g = dp.grad(lambda v: dp.sum(dp.full((2, 3), v)))(2.0)
    assert g.item() == 6.0


# -- other libraries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTS + FLOATS + ("bool",))
def test_dlpack_from_and_to_numpy(dtype):
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    tensor = dp.from_dlpack(array)
    assert_same(tensor, array, dtype)
    array[:] = 1
    assert np.asarray(tensor).sum() == 2
    back = np.from_dlpack(tensor)
    assert_same(dp.asarray(back), np.asarray(tensor), dtype)


def test_what_numpy_gets_by_dlpack_cannot_change_the_tensor():
    tensor = dp.asarray([1.0, 2.0])
    array = np.from_dlpack(tensor)
    if array.flags.writeable:
        array[:] = 0
    assert tensor.tolist() == [1.0, 2.0]


def test_an_old_consumer_gets_a_copy():
    """Before DLPack 1.0 there is no read-only flag: such a consumer may write into what it gets."""

    class Old:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack__(self, **options):
            return self.tensor.__dlpack__()

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    tensor = dp.asarray([1.0, 2.0])
    array = np.from_dlpack(Old(tensor))
    assert not np.shares_memory(array, np.asarray(tensor))


@pytest.fixture(scope="module")  # before the environment is looked at: importing JAX changes it
def jax():
    return pytest.importorskip("jax", reason="JAX is not installed (the bench extra)")


def test_dlpack_with_jax(jax):
    theirs = jax.numpy.arange(6, dtype="float32").reshape(2, 3)
    ours = dp.from_dlpack(theirs)
    assert_same(ours, np.asarray(theirs), "float32")
    np.testing.assert_array_equal(jax.dlpack.from_dlpack(ours), np.asarray(ours))
    assert_same(dp.asarray(theirs), np.asarray(theirs), "float32")
    np.testing.assert_array_equal(jax.numpy.asarray(ours), np.asarray(ours))


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        dp.from_dlpack(np.ones(2), device="gpu")
    assert dp.from_dlpack(np.ones(2), device="cpu").tolist() == [1.0, 1.0]
