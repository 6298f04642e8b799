"""dtypes: the promotion table of the Array API standard 2024.12, word for word, and Python scalars that never widen."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import DTypeError

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
INTEGERS = SIGNED + UNSIGNED
ALL = ("bool", *INTEGERS, *FLOATS)

i1, i2, i4, i8 = SIGNED
u1, u2, u4, u8 = UNSIGNED
f4, f8 = FLOATS
# Rows and columns as the standard prints them; None: undefined there, and an error here.
PRINTED = [
    (SIGNED, SIGNED, [(i1, i2, i4, i8), (i2, i2, i4, i8), (i4, i4, i4, i8), (i8, i8, i8, i8)]),
    (UNSIGNED, UNSIGNED, [(u1, u2, u4, u8), (u2, u2, u4, u8), (u4, u4, u4, u8), (u8, u8, u8, u8)]),
    (SIGNED, UNSIGNED, [(i2, i4, i8, None), (i2, i4, i8, None), (i4, i4, i8, None), (i8, i8, i8, None)]),
    (FLOATS, FLOATS, [(f4, f8), (f8, f8)]),
    (("bool",), ("bool",), [("bool",)]),
    # The standard leaves mixed kinds open. Here integers and booleans take the float's dtype, booleans the integer's.
    (INTEGERS + ("bool",), FLOATS, [(f4, f8)] * 9),
    (("bool",), INTEGERS, [INTEGERS]),
]
TABLE = {}
for rows, columns, cells in PRINTED:
    for row, line in zip(rows, cells, strict=True):
        for column, cell in zip(columns, line, strict=True):
            TABLE[row, column] = TABLE[column, row] = cell
DEFINED = [pair for pair, cell in TABLE.items() if cell]
UNDEFINED = [pair for pair, cell in TABLE.items() if not cell]

OPERATIONS = {
    "maximum": dp.maximum,
    "where": lambda x, y: dp.where(dp.asarray([True]), x, y),
    "concat": lambda x, y: dp.concat([x, y]),
    "stack": lambda x, y: dp.stack([x, y]),
}
NUMERIC = OPERATIONS | {
    "add": dp.add,
    "subtract": dp.subtract,
    "multiply": dp.multiply,
    "remainder": dp.remainder,
    "operator +": lambda x, y: x + y,
    "matmul": dp.matmul,
}


def one(dtype):
    return dp.ones(1, dtype=dtype)


def test_the_table_is_whole():
    assert set(TABLE) == {(a, b) for a in ALL for b in ALL}
    assert len(UNDEFINED) == 8


@pytest.mark.parametrize("name", NUMERIC)
def test_every_pair(name):
    for a, b in DEFINED:
        if (a, b) == ("bool", "bool"):
            continue
        got = NUMERIC[name](one(a), one(b))
        assert got.dtype == TABLE[a, b], (a, b)


@pytest.mark.parametrize("name", ["where", "concat", "stack"])
def test_booleans_stay_booleans_where_nothing_is_computed(name):
    assert OPERATIONS[name](one("bool"), one("bool")).dtype == "bool"


@pytest.mark.parametrize("name", ["add", "multiply", "maximum"])
def test_booleans_are_counted(name):
    got = NUMERIC[name](one("bool"), one("bool"))
    assert got.dtype == "int64"


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_pair_compiled(backend):
    """All pairs in one program: the dtypes of its outputs, and their values, are those of the table."""

    def sums(x):
        return {f"{a} {b}": x[a] + x[b] for a, b in DEFINED if a < b}

    values = {a: np.array([3, 1], a) for a in ALL}
    results = dp.defn(sums, backend=backend)(values)
    assert len(results) == (len(DEFINED) - len(ALL)) // 2
    for pair, got in results.items():
        a, b = pair.split()
        assert got.dtype == TABLE[a, b], pair
        np.testing.assert_array_equal(got, values[a].astype(got.dtype) + values[b].astype(got.dtype))


def test_every_pair_traced_without_running():
    for a, b in DEFINED:
        if (a, b) != ("bool", "bool"):
            graph = dp.defn(lambda x, y: x * y).expr(dp.spec(2, a), dp.spec(2, b))
            assert graph.outputs[0].dtype == TABLE[a, b]


@pytest.mark.parametrize(("a", "b"), UNDEFINED)
def test_signed_with_uint64_has_no_common_integer(a, b):
    with pytest.raises(DTypeError, match=f"{a} and {b} have no common integer dtype"):
        one(a) + one(b)
    with pytest.raises(DTypeError, match="have no common integer dtype"):
        dp.defn(lambda x, y: x + y).expr(one(a), one(b))
    assert (one(a) + (one(b) + one("float32"))).dtype == "float32"


def test_three_operands_promote_at_once():
    """clip takes its three in one go: a float among them decides, whatever the order."""
    assert dp.clip(one("int8"), one("uint8"), one("int32")).dtype == "int32"
    assert dp.clip(one("uint64"), one("int64"), one("float32")).dtype == "float32"
    assert dp.concat([one("int8"), one("uint8"), one("uint16")]).dtype == "int32"


@pytest.mark.parametrize("compare", [dp.equal, dp.not_equal, dp.less, dp.less_equal, dp.greater, dp.greater_equal])
def test_comparisons_compare_in_the_common_dtype_and_give_booleans(compare):
    for a, b in DEFINED:
        assert compare(one(a), one(b)).dtype == "bool"


@pytest.mark.parametrize("dtype", ALL)
def test_functions_of_reals_take_integers_as_the_default_float(dtype):
    wanted = dtype if dtype in FLOATS else "float32"
    for function in (dp.exp, dp.log, dp.sqrt, dp.tanh, dp.sigmoid, dp.sin):
        assert function(one(dtype)).dtype == wanted
    assert (one(dtype) / one(dtype)).dtype == wanted
    assert (one(dtype) / one("float64")).dtype == "float64"


# -- Python scalars -------------------------------------------------------------------------------------------------


def with_scalar(dtype, number):
    if isinstance(number, float):
        return dtype if dtype in FLOATS else "float32"
    if isinstance(number, bool) or dtype != "bool":
        return "int64" if dtype == "bool" else dtype
    return "int64"


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("number", [True, 3, 2.5], ids=["bool", "int", "float"])
def test_a_python_scalar_changes_the_kind_at_most(dtype, number):
    x = one(dtype)
    wanted = with_scalar(dtype, number)
    for got in (x + number, number + x, x * number, number - x, dp.maximum(x, number), dp.maximum(number, x)):
        assert got.dtype == wanted
    graph = dp.defn(lambda x: (x + number, number * x)).expr(x)
    assert [node.dtype for node in graph.outputs] == [wanted, wanted]


@pytest.mark.parametrize("backend", ["eager", "reference", "cpu"])
def test_python_scalars_in_an_expression(backend):
    def f(x):
        return 2 * x**2 - 0.5 * x + 1 - x / 3 + dp.where(x > 0, 1.0, -1) + dp.maximum(x, 0) * (1 + 1e-3)

    for dtype in FLOATS:
        x = dp.asarray([0.5, -1.5], dtype=dtype)
        got = (f if backend == "eager" else dp.defn(f, backend=backend))(x)
        assert got.dtype == dtype
        n = np.array([0.5, -1.5])
        wanted = 2 * n**2 - 0.5 * n + 1 - n / 3 + np.where(n > 0, 1, -1) + np.maximum(n, 0) * (1 + 1e-3)
        np.testing.assert_allclose(got, wanted, rtol=1e-6 if dtype == "float32" else 1e-15)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_python_numbers_as_arguments_are_weak(backend):
    """0.1 next to float64 is the double 0.1, not the float32 one; next to float32 it does not widen."""
    f = dp.defn(lambda x, r: x * r, backend=backend)
    wide = f(dp.asarray(1.0, dtype="float64"), 0.1)
    assert wide.dtype == "float64" and wide.item() == 0.1
    assert f(dp.asarray(1.0), 0.1).dtype == "float32"
    assert f(dp.asarray(3, dtype="int8"), 2).dtype == "int8"
    assert f(dp.asarray(3, dtype="int8"), 0.5).dtype == "float32"
    assert f(2.0, 0.1).dtype == "float32" and f(2, 3).dtype == "int64"


@pytest.mark.parametrize("combine", [lambda r: 2 * r, lambda r: r + 1, lambda r: 1 / r, lambda r: dp.maximum(r, 0.01)])
def test_python_numbers_stay_weak_in_arithmetic_with_literals(combine):
    """A learning rate that is passed as a Python float and halved must not turn float32 parameters into float64."""
    f = dp.defn(lambda x, r: x - combine(r) * x, backend="reference")
    assert f(dp.ones(2), 0.1).dtype == "float32"
    assert dp.defn(combine, backend="reference")(0.1).dtype == "float32"


def test_python_numbers_stay_weak_in_arithmetic_among_themselves():
    f = dp.defn(lambda x, r, s: x - (r * s + dp.sqrt(r)) * x, backend="reference")
    assert f(dp.ones(2), 0.1, 0.2).dtype == "float32"
    assert f(dp.ones(2, dtype="float64"), 0.1, 0.2).dtype == "float64"


def test_numpy_scalars_are_strong():
    """An np.float64 has a dtype of its own, as in NumPy 2: it widens."""
    assert (dp.ones(2) * np.float64(2)).dtype == "float64"
    assert (np.float32(2) * dp.ones(2)).dtype == "float32"
    assert (dp.ones(2, dtype="int8") + np.int16(1)).dtype == "int16"


def test_scalars_alone_take_the_default_dtypes():
    assert dp.add(1, 2).dtype == "int64" and dp.add(1, 2.0).dtype == dp.exp(1).dtype == "float32"
    assert dp.divide(1, 3).dtype == "float32" and dp.equal(1, 1.0).dtype == "bool"


# -- the functions about dtypes -------------------------------------------------------------------------------------


def test_can_cast_follows_the_table():
    for (a, b), cell in TABLE.items():
        assert dp.can_cast(dp.zeros(0, dtype=a).dtype, dp.zeros(0, dtype=b).dtype) == (cell == b)


@pytest.mark.parametrize("dtype", ALL)
def test_isdtype(dtype):
    kinds = {
        "bool": dtype == "bool",
        "signed integer": dtype in SIGNED,
        "unsigned integer": dtype in UNSIGNED,
        "integral": dtype in INTEGERS,
        "real floating": dtype in FLOATS,
        "complex floating": False,
        "numeric": dtype != "bool",
    }
    for kind, holds in kinds.items():
        assert dp.isdtype(dtype, kind) is holds
    assert dp.isdtype(dtype, ("bool", "numeric")) is True
    assert dp.isdtype(dtype, dtype) is True and dp.isdtype(dtype, dp.float32) is (dtype == "float32")


def test_finfo_and_iinfo():
    assert (dp.finfo("float32").eps, dp.finfo(dp.float64).bits) == (np.finfo("f4").eps, 64)
    assert dp.finfo(dp.ones(1)).max == np.finfo("f4").max
    assert (dp.iinfo("int8").min, dp.iinfo(dp.uint16).max) == (-128, 65535)


def test_constants():
    assert (dp.pi, dp.e, dp.inf, dp.newaxis) == (np.pi, np.e, np.inf, None) and dp.nan != dp.nan
