"""What, where and way out: operands that do not fit an operation, word for word."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import DefnpyError, DTypeError, IndexingError, ShapeError

A = dp.ones((2, 3))
B = dp.ones(4)
X = dp.asarray([1.0, 2.0, 3.0])
ONLY_RESHAPE = "only in reshape does -1 stand for the size that is left"
NUMBERS = "tensors hold numbers and booleans"
DTYPES = "use one of bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64"


def message(kind, call, *args):
    """The text of the error that a call raises."""
    with pytest.raises(kind) as caught:
        call(*args)
    assert type(caught.value) is kind
    return str(caught.value)


# -- shapes ---------------------------------------------------------------------------------------------------------


def test_add_of_unlike_shapes(place):
    def call():
        return A + B

    assert message(ShapeError, call) == (
        "add(f32[2,3], f32[4]): shapes (2, 3) and (4,) do not broadcast: 3 and 4 in axis -1\n"
        + place(call, "return A + B", "A + B")
    )


def test_a_shape_error_is_a_value_error_with_three_readable_parts(place):
    def call():
        return A @ A

    with pytest.raises(ValueError) as caught:
        call()
    error = caught.value
    assert isinstance(error, ShapeError) and isinstance(error, DefnpyError)
    assert error.what == "matmul(f32[2,3], f32[2,3]): the inner sizes differ: 3 and 2"
    assert error.where == place(call, "return A @ A", "A @ A")
    assert error.hint == "transpose the right operand: a @ b.T"


def test_matmul_says_which_operand_to_transpose(place):
    C = dp.ones((2, 4))

    def call():
        return A @ C

    assert message(ShapeError, call) == (
        "matmul(f32[2,3], f32[2,4]): the inner sizes differ: 3 and 2\n"
        + place(call, "return A @ C", "A @ C")
        + "\nHint: transpose the left operand: a.T @ b"
    )


def test_matmul_without_a_way_out_gives_no_hint(place):
    def call():
        return A @ B

    assert message(ShapeError, call) == (
        "matmul(f32[2,3], f32[4]): the inner sizes differ: 3 and 4\n" + place(call, "return A @ B", "A @ B")
    )


def test_matmul_with_a_number(place):
    def call():
        return A @ 2.0

    assert message(ShapeError, call) == (
        "matmul(f32[2,3], 2.0): a matrix product needs at least one axis on both sides\n"
        + place(call, "return A @ 2.0", "A @ 2.0")
        + "\nHint: multiply by a number with *"
    )


def test_traced_operands_say_where_they_were_made(place):
    def add(x, y):
        left = x * 2.0
        right = y + 1.0
        return left + right

    expected = (
        "add(f32[2,3], f32[4]): shapes (2, 3) and (4,) do not broadcast: 3 and 4 in axis -1\n"
        + place(add, "return left + right", "left + right")
        + "\n  f32[2,3] was made here:\n"
        + place(add, "left = x * 2.0", "x * 2.0")
        + "\n  f32[4] was made here:\n"
        + place(add, "right = y + 1.0", "y + 1.0")
    )
    assert message(ShapeError, dp.defn(add), A, B) == expected


def test_a_traced_matmul_says_where_its_operands_were_made(place):
    def product(x, y):
        hidden = x * 2.0
        return hidden @ y

    assert message(ShapeError, dp.defn(product), A, A) == (
        "matmul(f32[2,3], f32[2,3]): the inner sizes differ: 3 and 2\n"
        + place(product, "return hidden @ y", "hidden @ y")
        + "\n  f32[2,3] was made here:\n"
        + place(product, "hidden = x * 2.0", "x * 2.0")
        + "\nHint: transpose the right operand: a @ b.T"
    )


def test_the_error_names_the_line_of_the_innermost_user_function(place):
    def helper(x):
        return x + B

    def outer(x):
        return helper(x * 2.0)

    text = message(ShapeError, dp.defn(outer), A)
    assert place(helper, "return x + B", "x + B") in text
    assert place(outer, "return helper(x * 2.0)", "x * 2.0") in text  # where the operand was made
    assert "defnpy/array" not in text and "defnpy/ir" not in text  # none of the library's own frames


@pytest.mark.parametrize(
    ("call", "kind", "what", "hint"),
    [
        (
            lambda: dp.sum(A, axis=5),
            ShapeError,
            "sum(f32[2,3]): axis 5 does not exist: the tensor has 2 axes",
            "axes run from 0 to 1, or from -2 to -1",
        ),
        (lambda: dp.sum(X, axis=-2), ShapeError, "sum(f32[3]): axis -2 does not exist: the tensor has 1 axis", ""),
        (
            lambda: dp.sum(A, axis=(0, -2)),
            ShapeError,
            "sum(f32[2,3]): axes (0, -2) name one axis twice",
            "axis=(0,) names each once",
        ),
        (lambda: dp.sum(A, axis=0.5), ShapeError, "sum(f32[2,3]): an axis is an int, not 0.5", ""),
        (
            lambda: dp.mean(A, axis=5),
            ShapeError,
            "mean(f32[2,3]): axis 5 does not exist: the tensor has 2 axes",
            "axes run from 0 to 1, or from -2 to -1",
        ),
        (
            lambda: A.reshape(4, 2),
            ShapeError,
            "reshape(f32[2,3]): (2, 3) with 6 elements cannot become (4, 2) with 8",
            "-1 stands for the size that fits: (-1, 2)",
        ),
        (
            lambda: A.reshape(4, 4),
            ShapeError,
            "reshape(f32[2,3]): (2, 3) with 6 elements cannot become (4, 4) with 16",
            "",
        ),
        (
            lambda: dp.zeros(0).reshape(0, -1),
            ShapeError,
            "reshape(f32[0]): (0,) with 0 elements cannot become (0, -1)",
            "0 elements do not tell which size -1 stands for: write it",
        ),
        (
            lambda: dp.ones((2, 3, 4)) - dp.ones((2, 4)),
            ShapeError,
            "subtract(f32[2,3,4], f32[2,4]): shapes (2, 3, 4) and (2, 4) do not broadcast: 3 and 2 in axis -2",
            "give (2, 4) the shape (2, 1, 4): x[:, None, :]",
        ),
        (
            lambda: dp.ones((2, 3)) / dp.ones(2),
            ShapeError,
            "divide(f32[2,3], f32[2]): shapes (2, 3) and (2,) do not broadcast: 3 and 2 in axis -1",
            "give (2,) the shape (2, 1): x[:, None]",
        ),
        (
            lambda: dp.concat([A, dp.ones((2, 5))]),
            ShapeError,
            "concat(f32[2,3], f32[2,5]): shapes (2, 3) and (2, 5) differ outside axis 0",
            "join them along axis=1",
        ),
        (lambda: dp.squeeze(A, 0), ShapeError, "squeeze(f32[2,3], 0): axis 0 has size 2, not 1", ""),
        (
            lambda: dp.permute_dims(A, (0, 0)),
            ShapeError,
            "permute_dims(f32[2,3]): axes (0, 0) are no permutation of the 2 axes",
            "",
        ),
        (
            lambda: dp.concat([A, B]),
            ShapeError,
            "concat(f32[2,3], f32[4]): shapes (2, 3) and (4,) differ outside axis 0",
            "",
        ),
        (lambda: dp.stack([A, B]), ShapeError, "stack(list): shapes differ: (2, 3), (4,)", ""),
        (lambda: dp.stack([]), ShapeError, "stack(list): needs at least one tensor", ""),
        (
            lambda: dp.broadcast_to(A, (3, 2)),
            ShapeError,
            "broadcast_to(f32[2,3]): shapes (2, 3) and (3, 2) do not broadcast: 2 and 3 in axis -2",
            "",
        ),
        (
            lambda: dp.max(dp.zeros(0)),
            ShapeError,
            "max(f32[0]): axis 0 has size 0, and nothing has no extremum",
            "check x.size before",
        ),
        (lambda: dp.zeros(-1), ShapeError, "full(-1, 0): a shape has no negative sizes: (-1,)", ONLY_RESHAPE),
        (
            lambda: dp.zeros((2**40, 2**40)),
            ShapeError,
            "full(tuple, 0): an array of shape (1099511627776, 1099511627776) has more elements than memory can hold",
            "",
        ),
        (lambda: dp.eye(2) @ dp.asarray(1.0), ShapeError, None, "multiply by a number with *"),
        # -- dtypes
        (
            lambda: dp.logical_and(A, A),
            DTypeError,
            "logical_and(f32[2,3], f32[2,3]): takes bool, not float32",
            "compare with zero first: x != 0",
        ),
        (
            lambda: A & A,
            DTypeError,
            "bitwise_and(f32[2,3], f32[2,3]): takes integers or bool, not float32",
            "convert with x.astype(...)",
        ),
        (
            lambda: dp.where(A, A, A),
            DTypeError,
            "where(f32[2,3], f32[2,3], f32[2,3]): the condition is f32[2,3], not bool",
            "compare first: x != 0",
        ),
        (
            lambda: dp.one_hot(A, 3),
            DTypeError,
            "one_hot(f32[2,3], 3): labels are integers, not f32[2,3]",
            "convert with labels.astype(int)",
        ),
        (
            lambda: dp.arange(3) ** -1,
            DTypeError,
            "pow(i64[3], -1): an integer to a negative power is no integer",
            "make the base a float: x.astype(float)",
        ),
        # -- not a tensor
        (
            lambda: dp.exp([1, 2]),
            DTypeError,
            "exp(list): list [1, 2] is not a tensor",
            "make one with dp.asarray(...)",
        ),
        (
            lambda: A + [1, 2, 3],
            DTypeError,
            "add(f32[2,3], list): list [1, 2, 3] is not a tensor",
            "make one with dp.asarray(...)",
        ),
        (lambda: dp.exp("a"), DTypeError, "exp(str): str 'a' is not a tensor", ""),
        (
            lambda: A == None,  # noqa: E711
            DTypeError,
            "equal(f32[2,3], NoneType): NoneType None is not a tensor",
            "ask whether something is None with `is`: x is None",
        ),
        (lambda: dp.asarray("abc"), DTypeError, "asarray(str): str of <U3 holds no numbers", NUMBERS),
        (lambda: dp.asarray([1 + 2j]), DTypeError, "asarray(list): list of complex128 holds no numbers", NUMBERS),
        (
            lambda: dp.asarray([1, 300], dtype="int8"),
            DTypeError,
            "asarray(list): 300 does not fit int8",
            "int8 holds -128 to 127; np.asarray(x).astype('int8') wraps around",
        ),
        (lambda: A.astype("float16"), DTypeError, "'float16' is not a dtype of defnpy", DTYPES),
        (lambda: dp.asarray(np.zeros(2, "f2")), DTypeError, "dtype('float16') is not a dtype of defnpy", DTYPES),
        # -- calls
        (
            lambda: dp.sum(A, axes=1),
            DTypeError,
            "sum(f32[2,3]): has no parameter 'axes'",
            "call sum(x, /, *, axis=None, keepdims=False)",
        ),
        (
            lambda: A.sum(axes=1),
            DTypeError,
            "sum(f32[2,3]): has no parameter 'axes'",
            "call sum(x, /, *, axis=None, keepdims=False)",
        ),
        (lambda: dp.add(A), DTypeError, "add(f32[2,3]): takes 2 tensors by position, got 1", "call add(x, y, /)"),
        (
            lambda: dp.exp(A, A),
            DTypeError,
            "exp(f32[2,3], f32[2,3]): takes 1 tensor by position, got 2",
            "call exp(x, /)",
        ),
        (
            lambda: dp.mean(A, axes=0),
            DTypeError,
            "mean(f32[2,3]): got an unexpected keyword argument 'axes'",
            "call mean(x, /, *, axis=None, keepdims=False)",
        ),
        (
            lambda: dp.softmax(A, 1),
            DTypeError,
            "softmax(f32[2,3], 1): too many positional arguments",
            "call softmax(x, /, *, axis=-1)",
        ),
        (
            lambda: dp.zeros((2, 3), "float32"),
            DTypeError,
            "zeros(tuple, str): too many positional arguments",
            "call zeros(shape, *, dtype=None)",
        ),
        # -- promotion
        (
            lambda: dp.asarray([1], dtype="uint64") + dp.asarray([1]),
            DTypeError,
            "add(u64[1], i64[1]): uint64 and int64 have no common integer dtype",
            "convert one operand: x.astype(dp.int64)",
        ),
    ],
)
def test_what_and_way_out(call, kind, what, hint):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert what is None or caught.value.what == what
    assert caught.value.hint == hint
    line = call.__code__.co_firstlineno
    assert f'  File "{__file__}", line {line}, in <lambda>\n' in caught.value.where
    assert "^" in caught.value.where


def test_an_unknown_dtype_lists_the_known_ones():
    for name in ("complex64", "float16", "str", "nonsense"):
        with pytest.raises(DTypeError) as caught:
            dp.zeros(3, dtype=name)
        assert caught.value.what == f"{name!r} is not a dtype of defnpy"
        assert caught.value.hint == (
            "use one of bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64"
        )


def test_ragged_lists(place):
    def call():
        return dp.asarray([[1], [1, 2]])

    with pytest.raises(ShapeError) as caught:
        call()
    assert caught.value.what.startswith("asarray(list): the nested lists are ragged: ")
    assert caught.value.where == place(call, "return dp.asarray([[1], [1, 2]])", "dp.asarray([[1], [1, 2]])")


def test_a_list_of_traced_values_is_to_be_stacked(place):
    def call(x):
        return dp.asarray([x, x])

    assert message(DTypeError, dp.defn(call), X) == (
        "asarray(list): a list holds traced values\n"
        + place(call, "return dp.asarray([x, x])", "dp.asarray([x, x])")
        + "\nHint: join them with dp.stack([...])"
    )


# -- Python scalars -------------------------------------------------------------------------------------------------


def test_a_python_integer_that_does_not_fit_is_an_error_not_a_wraparound(place):
    x = dp.asarray([1], dtype="uint8")

    def call():
        return x + 300

    with pytest.raises(DefnpyError) as caught:
        call()
    assert caught.value.what == "add(u8[1], 300): 300 does not fit uint8"
    assert caught.value.where == place(call, "return x + 300", "x + 300")
    assert caught.value.hint == "convert the tensor first: x.astype(uint16)"


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(("dtype", "number"), [("uint8", -1), ("int8", 128), ("uint64", -1), ("int64", 2**63)])
def test_no_integer_scalar_wraps(dtype, number, traced):
    def call(x):
        return x + number

    with pytest.raises(DefnpyError, match=f"{number} does not fit {dtype}"):
        (dp.defn(call) if traced else call)(dp.asarray([1], dtype=dtype))


def test_a_scalar_that_does_not_fit_is_no_matter_of_shape():
    with pytest.raises(DefnpyError) as caught:
        dp.asarray([1], dtype="uint8") + 300
    assert not isinstance(caught.value, ShapeError)


def test_the_hint_for_a_huge_integer_names_a_dtype_that_exists():
    with pytest.raises(DefnpyError) as caught:
        dp.asarray([1]) + 2**70
    assert "object" not in caught.value.hint


def test_a_python_float_beyond_float32_is_inf_without_a_warning():
    assert (dp.asarray(1.0) + 1e300).item() == np.inf


def test_concat_of_nothing_is_explained():
    with pytest.raises(DefnpyError):
        dp.concat([])


# -- indices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: A[5], "index(f32[2,3], 5): index 5 is out of bounds for axis 0 of size 2"),
        (lambda: A[-3], "index(f32[2,3], -3): index -3 is out of bounds for axis 0 of size 2"),
        (lambda: A[1.0], "index(f32[2,3], 1.0): float 1.0 is no index"),
        (lambda: A["a"], "index(f32[2,3], str): str 'a' is no index"),
        (lambda: A[True], "index(f32[2,3], True): a bool is no index"),
        (lambda: A[::0], "index(f32[2,3], slice): slice step cannot be zero"),
        (lambda: A[dp.asarray([1.0])], "index(f32[2,3], f32[1]): an index is an integer, not float32"),
    ],
)
def test_an_index_that_does_not_fit_word_for_word(call, what):
    with pytest.raises(IndexingError) as caught:
        call()
    assert caught.value.what == what


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: A[5], "index 5 is out of bounds for axis 0 of size 2"),
        (lambda: A[0, 9], "index 9 is out of bounds for axis 1 of size 3"),
        (lambda: A[..., -4], "index -4 is out of bounds for axis 1 of size 3"),
        (lambda: A[0, 0, 0], "3 indices for 2 axes"),
        (lambda: A[..., ...], "an index has at most one '...'"),
        (lambda: A[1.0], "float 1.0 is no index"),
        (lambda: A["a"], "str 'a' is no index"),
        (lambda: A[True], "a bool is no index"),
        (lambda: A[::0], "slice step cannot be zero"),
        (lambda: A[dp.asarray([1.0])], "an index is an integer, not float32"),
        (lambda: A[dp.asarray([0, 7])], "index 7 is out of bounds for axis 0 of size 2"),
        (lambda: A[dp.asarray([0, -3])], "index -3 is out of bounds for axis 0 of size 2"),
        (lambda: A[dp.asarray([0, 1]), dp.asarray([0, 3])], "index 3 is out of bounds for axis 1 of size 3"),
        (lambda: dp.take(A, dp.asarray([9]), axis=1), "index 9 is out of bounds for axis 1 of size 3"),
        (lambda: X.at[9].set(1.0), "index 9 is out of bounds for axis 0 of size 3"),
        (lambda: X.at[0].set(dp.ones(4)), "values of shape (4,) do not fit the indexed place of shape ()"),
    ],
)
def test_an_index_that_does_not_fit(call, what):
    with pytest.raises((IndexingError, ShapeError)) as caught:
        call()
    assert caught.value.what.endswith(f": {what}")
    assert f'  File "{__file__}", line {call.__code__.co_firstlineno}, in <lambda>\n' in caught.value.where


@pytest.mark.parametrize("call", [lambda: X.at[9].set(1.0), lambda: X.at[0].set(dp.ones(4)), lambda: X.at[0].add("a")])
def test_an_update_that_does_not_fit_names_no_private_function(call):
    with pytest.raises(DefnpyError) as caught:
        call()
    assert not caught.value.what.startswith("_")


def test_an_update_with_an_integer_that_does_not_fit_is_explained():
    with pytest.raises(DefnpyError):
        dp.asarray([1], dtype="uint8").at[0].set(300)


def test_float_values_do_not_fit_into_an_integer_tensor():
    with pytest.raises(DTypeError) as caught:
        dp.arange(3).at[0].set(dp.asarray(1.5))
    assert caught.value.what.endswith(": f32[] values do not fit into i64[3]")
    assert caught.value.hint == "convert first: x.astype('float32')"


def test_a_python_float_does_not_fit_into_an_integer_tensor_either():
    with pytest.raises(DTypeError):
        dp.arange(3).at[0].set(1.5)


# -- errors as objects ----------------------------------------------------------------------------------------------


def test_an_error_survives_pickling():
    import pickle

    with pytest.raises(ShapeError) as caught:
        A @ A
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ShapeError
    assert (again.what, again.where, again.hint) == (error.what, error.where, error.hint)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (dp.errors.ShapeError, ValueError),
        (dp.errors.DTypeError, TypeError),
        (dp.errors.IndexingError, IndexError),
        (dp.errors.ImmutableError, TypeError),
        (dp.errors.TraceError, TypeError),
        (dp.errors.LeakError, RuntimeError),
        (dp.errors.GradientError, TypeError),
        (dp.errors.TreeError, ValueError),
        (dp.errors.ConfigError, ValueError),
    ],
)
def test_every_error_is_caught_by_the_built_in_class_a_numpy_user_expects(kind, builtin):
    assert issubclass(kind, builtin) and issubclass(kind, DefnpyError)


def test_a_bad_spec_is_a_defnpy_error():
    with pytest.raises(DefnpyError):
        dp.spec(-1)
