"""Tensor: immutable, at home among NumPy arrays, and a value like any other Python object."""

from __future__ import annotations

import copy
import operator
import pickle

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ImmutableError

X = dp.asarray([[1.0, 2.0], [3.0, 4.0]])
N = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


# -- what it is -----------------------------------------------------------------------------------------------------


def test_attributes():
    assert (X.shape, X.ndim, X.size, X.nbytes, X.device) == ((2, 2), 2, 4, 16, "cpu")
    assert X.dtype == np.float32 and X.dtype == "float32" and X.dtype == dp.float32
    assert X.to_device("cpu") is X
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        X.to_device("gpu")


def test_it_is_made_by_asarray_only():
    with pytest.raises(TypeError, match=r"dp.asarray\(values\)"):
        dp.Tensor([1.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "Tensor(1., dtype=float32)"),
        (3, "Tensor(3, dtype=int64)"),
        (True, "Tensor(True)"),
        ([], "Tensor([], shape=(0,), dtype=float32)"),
        (np.zeros((0, 3), np.int8), "Tensor([], shape=(0, 3), dtype=int8)"),
        ([True, False], "Tensor([ True, False])"),
        ([1, 2, 3], "Tensor([1, 2, 3], dtype=int64)"),
        ([[1.5, 2.0], [-3.0, 4.0]], "Tensor([[ 1.5,  2. ],\n        [-3. ,  4. ]], dtype=float32)"),
        (np.array([1.0]), "Tensor([1.], dtype=float64)"),
        ([1e10, 1e-10], "Tensor([1.e+10, 1.e-10], dtype=float32)"),
        ([np.nan, np.inf], "Tensor([nan, inf], dtype=float32)"),
        (
            np.arange(2000),
            "Tensor([   0,    1,    2, ..., 1997, 1998, 1999], shape=(2000,), dtype=int64)",
        ),
    ],
)
def test_repr(value, text):
    assert repr(dp.asarray(value)) == text


def test_str_and_format():
    assert str(X) == str(N) and f"{X}" == str(N)
    assert f"{dp.asarray(1.5):.3f}" == "1.500" and f"{dp.asarray(7):04d}" == "0007"


# -- it never changes -----------------------------------------------------------------------------------------------


def test_its_memory_is_read_only():
    array = np.asarray(X)
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 9.0
    for derived in (X[0], X.T, X.reshape(4), X[:, ::-1], next(iter(X)), dp.defn(lambda x: x + 1, backend="cpu")(X)):
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(derived)[...] = 9.0
    with pytest.raises(TypeError):
        np.add(N, 1, out=X)
    assert X.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_copy_made_by_numpy_is_free():
    array = np.array(X)
    array[0, 0] = 9.0
    assert X[0, 0].item() == 1.0


def test_assignment_is_refused():
    for statement in ("x[0] = 1", "x += 1", "x[0] -= 1", "del x[0]"):
        with pytest.raises(ImmutableError):
            exec(statement, {"x": X})


def test_copy_is_the_tensor_itself():
    assert copy.copy(X) is X and copy.deepcopy(X) is X
    assert copy.deepcopy({"w": X})["w"] is X


@pytest.mark.parametrize("value", [1.5, [1, 2], [[True]], np.zeros((0, 2)), np.arange(6, dtype="u1").reshape(2, 3).T])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(value, protocol):
    x = dp.asarray(value)
    again = pickle.loads(pickle.dumps(x, protocol=protocol))
    assert type(again) is dp.Tensor and again.aval == x.aval and repr(again) == repr(x)
    assert not np.asarray(again).flags.writeable


def test_it_is_hashed_by_identity():
    y = dp.asarray(N)
    assert hash(X) == hash(X) and len({id(X), id(y)}) == 2 and {X: 1, y: 2}[X] == 1


# -- to Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "python"),
    [(True, bool), (np.int8(3), int), (np.uint64(2**63), int), (1.5, float), (np.float64(0.1), float)],
)
def test_item(value, python):
    got = dp.asarray(value).item()
    assert type(got) is python and got == value
    assert type(dp.asarray([[value]]).item()) is python


def test_item_of_several():
    with pytest.raises(ValueError):
        X.item()


def test_tolist():
    assert X.tolist() == [[1.0, 2.0], [3.0, 4.0]] and type(X.tolist()[0][0]) is float
    assert dp.asarray(3).tolist() == 3


def test_conversions():
    assert (int(dp.asarray(3.7)), float(dp.asarray(3)), complex(dp.asarray(2.0))) == (3, 3.0, 2 + 0j)
    assert bool(dp.asarray(0)) is False and bool(dp.asarray(2.0)) is True
    assert operator.index(dp.asarray(3)) == 3 and list(range(5))[dp.asarray(2)] == 2
    with pytest.raises(TypeError):
        operator.index(dp.asarray(3.0))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(X)
    with pytest.raises(TypeError):
        float(X)


def test_iteration():
    rows = list(X)
    assert all(type(r) is dp.Tensor and r.shape == (2,) for r in rows)
    assert [r.tolist() for r in rows] == X.tolist() and len(X) == 2
    a, b = X
    assert a.tolist() == [1.0, 2.0] and b.tolist() == [3.0, 4.0]
    assert [r.tolist() for r in reversed(X)] == X.tolist()[::-1]
    assert [i.item() for i in dp.arange(3)] == [0, 1, 2]
    with pytest.raises(TypeError, match="0-d"):
        iter(dp.asarray(1.0))
    with pytest.raises(TypeError):
        len(dp.asarray(1.0))


# -- among NumPy arrays ---------------------------------------------------------------------------------------------


def test_asarray_shares_and_array_copies():
    assert np.asarray(X) is np.asarray(X)
    assert not np.shares_memory(np.array(X), np.asarray(X))
    assert np.asarray(X, dtype="float64").dtype == np.float64
    assert np.asarray(X, dtype="float32") is np.asarray(X)
    assert np.array(X, copy=None) is np.asarray(X)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(X, dtype="float64", copy=False)
    assert np.array(X, copy=False) is np.asarray(X)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (np.sum, (X,)),
        (np.mean, (X, 0)),
        (np.concatenate, ([X, N],)),
        (np.stack, ((X, X),)),
        (np.where, (X > 2, X, 0)),
        (np.linalg.inv, (X,)),
        (np.einsum, ("ij,jk", X, X)),
        (np.exp, (X,)),
        (np.add, (X, N)),
        (np.add.reduce, (X,)),
        (np.testing.assert_allclose, (X, N)),
    ],
)
def test_numpy_functions_take_tensors_and_give_arrays(function, args):
    def plain(value):
        if isinstance(value, (list, tuple)):
            return type(value)(map(plain, value))
        return np.asarray(value) if isinstance(value, dp.Tensor) else value

    got = function(*args)
    assert not isinstance(got, dp.Tensor)
    np.testing.assert_array_equal(got, function(*map(plain, args)))


OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"]


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_tensor_and_array_give_tensors(name):
    apply = getattr(operator, name)
    wanted = apply(N, N)
    for got in (apply(X, X), apply(X, N), apply(N, X)):
        assert type(got) is dp.Tensor and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_operators_with_python_numbers_on_both_sides(name):
    apply = getattr(operator, name)
    for number in (2, 2.5):
        for got, wanted in ((apply(X, number), apply(N, number)), (apply(number, X), apply(number, N))):
            assert type(got) is dp.Tensor and got.dtype == "float32"
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["and_", "or_", "xor", "lshift", "rshift"])
def test_bit_operators(name):
    apply = getattr(operator, name)
    a, b = np.array([6, 5, 1]), np.array([3, 1, 2])
    for got in (apply(dp.asarray(a), dp.asarray(b)), apply(a, dp.asarray(b))):
        assert got.tolist() == apply(a, b).tolist()
    assert apply(6, dp.asarray(b)).tolist() == apply(6, b).tolist()
    assert apply(dp.asarray(a), 2).tolist() == apply(a, 2).tolist()


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons(name):
    apply = getattr(operator, name)
    other = np.array([[1.0, 3.0], [3.0, 3.0]], np.float32)
    for got in (apply(X, dp.asarray(other)), apply(X, other)):
        assert type(got) is dp.Tensor and got.dtype == "bool"
        np.testing.assert_array_equal(got, apply(N, other))
    np.testing.assert_array_equal(apply(other, X), apply(other, N))
    np.testing.assert_array_equal(apply(2, X), apply(2, N))


def test_unary_operators():
    x = dp.asarray([-1.5, 0.0, 2.0])
    assert (-x).tolist() == [1.5, -0.0, -2.0] and (+x) is x and abs(x).tolist() == [1.5, 0.0, 2.0]
    assert (~dp.asarray([True, False])).tolist() == [False, True] and (~dp.asarray([0, 5])).tolist() == [-1, -6]


def test_operators_have_pythons_meaning_of_floor_and_remainder():
    a, b = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    x, y = dp.asarray(a), dp.asarray(b)
    assert (x // y).tolist() == [p // q for p, q in zip(a.tolist(), b.tolist(), strict=True)]
    assert (x % y).tolist() == [p % q for p, q in zip(a.tolist(), b.tolist(), strict=True)]
    fx, fy = x.astype(float), y.astype(float)
    assert (fx // fy).tolist() == (x // y).tolist() and (fx % fy).tolist() == (x % y).tolist()


def test_division_by_zero():
    x = dp.asarray([1, -1])
    assert (x // 0).tolist() == [0, 0] and (x % 0).tolist() == [0, 0]
    assert (x / 0).tolist() == [np.inf, -np.inf]
    assert np.isnan(dp.asarray(0.0) / 0)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_one_integer_quotient_that_does_not_fit(backend):
    """-2**63 // -1 is 2**63, which wraps like any other integer result; nothing crashes on the way."""
    f = dp.defn(lambda x, y: (x // y, x % y), backend=backend)
    quotient, rest = f(dp.asarray([-(2**63), 7]), dp.asarray([-1, -2]))
    assert quotient.tolist() == [-(2**63), -4] and rest.tolist() == [0, -1]


def test_methods_are_the_functions():
    assert X.sum().item() == 10.0 and X.mean(axis=0).tolist() == [2.0, 3.0] and X.max(axis=1).tolist() == [2.0, 4.0]
    assert X.min().item() == 1.0 and X.prod().item() == 24.0
    assert X.argmax().item() == 3 and X.argmin(axis=0).tolist() == [0, 0]
    assert (X > 1).any().item() is True and (X > 1).all(axis=1).tolist() == [False, True]
    assert X.T.tolist() == [[1.0, 3.0], [2.0, 4.0]] and X.mT.tolist() == X.T.tolist()
    assert X.reshape(4).tolist() == X.ravel().tolist() == [1.0, 2.0, 3.0, 4.0]
    assert X.astype("int8").dtype == "int8" and X.clip(2, 3).tolist() == [[2.0, 2.0], [3.0, 3.0]]
    assert X.reshape(1, 4, 1).squeeze().shape == (4,) and X.transpose().tolist() == X.T.tolist()
    assert dp.asarray([0.5, 1.5, -0.5]).round().tolist() == [0.0, 2.0, -0.0]
    assert X.var().item() == 1.25 and X.dot(X).tolist() == (N @ N).tolist()


# -- the Array API --------------------------------------------------------------------------------------------------


def test_round_to_digits(way=lambda f: dp.defn(f, backend="reference")):
    for f in (lambda x: round(x, 1), way(lambda x: round(x, 1))):
        assert f(dp.asarray([0.25, 1.26, -0.35], dtype="float64")).tolist() == [0.2, 1.3, -0.4]
    assert round(dp.asarray(1234.5), -2).item() == 1200.0


def test_array_namespace_of_another_version():
    with pytest.raises(ValueError, match=r"unknown version '1999\.1' of the Array API standard: ask for '2024\.12'"):
        X.__array_namespace__(api_version="1999.1")


def test_array_namespace():
    assert X.__array_namespace__() is dp and X.__array_namespace__(api_version="2024.12") is dp
    namespace = dp.defn(lambda x: x * (x.__array_namespace__() is dp), backend="reference")
    assert namespace(X).tolist() == X.tolist()


def test_one_function_over_any_array_library():
    def standardize(x):
        xp = x.__array_namespace__()
        return (x - xp.mean(x, axis=0)) / xp.std(x, axis=0)

    wanted = standardize(N)
    np.testing.assert_allclose(standardize(X), wanted, rtol=1e-6)
    np.testing.assert_allclose(dp.defn(standardize, backend="cpu")(X), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "args"),
    [("asarray", ([1],)), ("zeros", (2,)), ("ones", (2,)), ("empty", (2,)), ("full", (2, 1)), ("arange", (3,))]
    + [("linspace", (0, 1, 3)), ("eye", (2,)), ("from_dlpack", (np.ones(2),)), ("full_like", (X, 1))]
    + [(name, (X,)) for name in ("zeros_like", "ones_like", "empty_like")],
)
def test_creation_functions_take_the_one_device(name, args):
    create = getattr(dp, name)
    assert create(*args, device="cpu").tolist() == create(*args).tolist()
    with pytest.raises(ValueError, match="unknown device 'cuda': the only one is 'cpu'"):
        create(*args, device="cuda")


def test_what_the_namespace_tells_of_itself():
    info = X.__array_namespace__().__array_namespace_info__()
    assert dp.__array_api_version__ == "2024.12"
    assert info.default_device() == X.device and info.devices() == [X.device]
    assert info.default_dtypes()["real floating"] == dp.asarray(1.0).dtype
    assert info.default_dtypes()["integral"] == dp.asarray(1).dtype and info.default_dtypes()["indexing"] == "int64"
    assert all(dp.ones(1, dtype=d).dtype == name for name, d in info.dtypes().items())
    assert list(info.dtypes(kind=("bool", "unsigned integer"))) == ["bool", "uint8", "uint16", "uint32", "uint64"]
    masked, (places, *_) = X[X > 0], dp.nonzero(X)
    assert info.capabilities()["boolean indexing"] == (masked.ndim == 1) == (places.ndim == 1)
    assert info.capabilities()["max dimensions"] == len(dp.zeros((1,) * 64).shape)


def test_dlpack_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"from_dlpack: a list does not speak DLPack[\s\S]*dp\.asarray"):
        dp.from_dlpack([1])


def test_the_namespace_has_no_leftovers():
    assert all(hasattr(dp, name) for name in dp.__all__)
    assert not [name for name in dp.__all__ if name.startswith("_")]
    assert len(set(dp.__all__)) == len(dp.__all__)


# -- eager calls ----------------------------------------------------------------------------------------------------


def test_eager_results_are_tensors_of_their_own():
    y = dp.asarray(N)
    z = y + 0
    assert type(z) is dp.Tensor and not np.shares_memory(np.asarray(z), np.asarray(y))


def test_eager_calls_take_numpy_arrays_and_numbers():
    assert dp.exp(np.zeros(2)).tolist() == [1.0, 1.0]
    assert dp.add(np.ones(2), 1).dtype == "float64"
    assert dp.maximum(1, np.float32(2)).item() == 2.0


def test_eager_calls_raise_no_floating_point_warnings():
    with np.errstate(all="raise"):
        assert dp.log(dp.asarray(0.0)).item() == -np.inf
        assert (dp.asarray(1.0) / 0.0).item() == np.inf
        assert dp.exp(dp.asarray(1000.0)).item() == np.inf
        assert dp.asarray([127], dtype="int8").tolist() == [127]
