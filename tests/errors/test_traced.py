"""What a traced value refuses: each message names the line and the fix."""

# ruff: noqa: E701

from __future__ import annotations

import math

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import DTypeError, IndexingError, LeakError, TraceError

S = dp.asarray(2.0)
X = dp.asarray([1.0, 2.0, 3.0])

NUMBER = (
    "the number is not known while tracing: keep it a tensor, return it and convert outside, "
    "or pass it as a keyword-only argument"
)
ROWS = "compute on all rows at once, or index with a Python range: [x[i] for i in range(3)]"
NUMPY = "use defnpy's functions: dp.exp(x) instead of np.exp(x)"


def refused(function, *args, kind=TraceError):
    """The error of tracing ``function``; it is the same under ``grad``."""
    with pytest.raises(kind) as caught:
        dp.defn(function, backend="reference")(*args)
    with pytest.raises(kind) as under_grad:
        dp.grad(function)(*args)
    assert str(under_grad.value) == str(caught.value)
    assert type(caught.value) is kind
    return str(caught.value)


# -- truth ----------------------------------------------------------------------------------------------------------


def if_statement(x):
    if x > 0:
        return x
    return -x


def elif_statement(x):
    if x.ndim == 1:
        return x
    elif x > 0:
        return x
    return -x


def conditional_expression(x):
    y = 1.0 if x > 0 else 2.0
    return x * y


def while_loop_of_two(x):
    y = x + 1
    while dp.sum(x) < y and x > 0:
        y = y - 1
    return y


def while_loop(x):
    while x < 3:
        x = x + 1
    return x


def conjunction(x):
    inside = x > 0 and x < 3
    return dp.where(inside, x, 0)


def disjunction(x):
    outside = x < 0 or x > 3
    return dp.where(outside, x, 0)


def negation(x):
    return dp.where(not x, x, 0)


def truth(x):
    return bool(x)


def conjunction_in_an_if(x):
    if x > 0 and x < 3:
        return x
    return -x


def chained_comparison(x):
    return dp.where(0 < x < 3, x, 0)


REWRITE = ', or decorate the function by @dp.defn(control_flow="python")'
WHERE = "choose between values with dp.where(condition, x, y)"


@pytest.mark.parametrize(
    ("function", "shape", "line", "marked", "hint"),
    [
        (
            if_statement,
            "bool[]",
            "if x > 0:",
            "x > 0",
            "choose between values: return dp.where(x > 0, x, -x)" + REWRITE,
        ),
        (
            elif_statement,
            "bool[]",
            "elif x > 0:",
            "x > 0",
            "choose between values: return dp.where(x > 0, x, -x)" + REWRITE,
        ),
        (
            conditional_expression,
            "bool[]",
            "y = 1.0 if x > 0 else 2.0",
            "x > 0",
            "choose between values: dp.where(x > 0, 1.0, 2.0)" + REWRITE,
        ),
        (
            while_loop,
            "bool[]",
            "while x < 3:",
            "x < 3",
            "repeat on values: x = dp.while_loop(lambda x: x < 3, lambda x: x + 1, x)" + REWRITE,
        ),
        (
            while_loop_of_two,
            "bool[]",
            "while dp.sum(x) < y and x > 0:",
            "dp.sum(x) < y",
            "repeat on values: y = dp.while_loop(lambda y: (dp.sum(x) < y) & (x > 0), lambda y: y - 1, y)" + REWRITE,
        ),
        (
            conjunction,
            "bool[]",
            "inside = x > 0 and x < 3",
            "x > 0 and x < 3",
            "combine conditions with &: (x > 0) & (x < 3)",
        ),
        (
            disjunction,
            "bool[]",
            "outside = x < 0 or x > 3",
            "x < 0 or x > 3",
            "combine conditions with |: (x < 0) | (x > 3)",
        ),
        (negation, "f32[]", "return dp.where(not x, x, 0)", "not x", "compare with 0: x == 0"),
        (truth, "f32[]", "return bool(x)", "bool(x)", WHERE),
        (
            conjunction_in_an_if,
            "bool[]",
            "if x > 0 and x < 3:",
            "x > 0",
            "choose between values: return dp.where((x > 0) & (x < 3), x, -x)" + REWRITE,
        ),
        (
            chained_comparison,
            "bool[]",
            "return dp.where(0 < x < 3, x, 0)",
            "0 < x < 3",
            "compare one pair at a time: (0 < x) & (x < 3)",
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_truth(function, shape, line, marked, hint, place):
    assert refused(function, S) == (
        f"the truth of a traced value {shape} is not known while tracing\n{place(function, line, marked)}\nHint: {hint}"
    )


def test_the_hint_for_and_in_an_if_is_code_that_works():
    with pytest.raises(TraceError) as caught:
        dp.defn(conjunction_in_an_if)(S)
    assert " and " not in caught.value.hint


def test_a_one_line_if_is_understood():
    # fmt: off
    def one_line(x):
        if x > 0: return x
        return -x
    # fmt: on

    with pytest.raises(TraceError) as caught:
        dp.defn(one_line)(S)
    assert caught.value.hint == "choose between values: return dp.where(x > 0, x, -x)" + REWRITE


# -- numbers, lengths, iteration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [float, int, complex])
def test_conversion_to_a_python_number(convert, place):
    def call(x):
        return convert(x)

    assert refused(call, S) == (
        f"{convert.__name__}() of a traced value f32[]\n"
        + place(call, "return convert(x)", "convert(x)")
        + f"\nHint: {NUMBER}"
    )


@pytest.mark.parametrize("name", ["item", "tolist"])
def test_extraction(name, place):
    def call(x):
        return getattr(x, name)()

    assert refused(call, X) == (
        f"{name}() of a traced value f32[3]\n"
        + place(call, "return getattr(x, name)()", "getattr(x, name)()")
        + f"\nHint: {NUMBER}"
    )


def test_a_function_of_the_math_module(place):
    def call(x):
        return math.exp(x)

    assert refused(call, S) == (
        "float() of a traced value f32[]\n"
        + place(call, "return math.exp(x)", "math.exp(x)")
        + "\nHint: use defnpy's function: dp.exp(x) instead of math.exp(x)"
    )

    def without(x):
        return math.gamma(x)

    assert refused(without, S).endswith(f"\nHint: {NUMBER}")


def test_range_of_a_traced_value(place):
    def call(x):
        return [x for _ in range(x)]

    assert refused(call, S) == (
        "int() of a traced value f32[]\n"
        + place(call, "return [x for _ in range(x)]", "range(x)")
        + f"\nHint: {NUMBER}"
    )


def test_an_if_that_chooses_a_value_is_shown_with_the_values():
    def call(x):
        if x > 0:
            y = x * 2
        else:
            y = -x
        return y

    with pytest.raises(TraceError) as caught:
        dp.defn(call)(1.0)
    assert caught.value.hint == "choose between values: y = dp.where(x > 0, x * 2, -x)" + REWRITE


def test_a_loop_over_a_traced_range(place):
    def call(x):
        n = x.astype("int64")
        for i in range(1, n + 1):
            x = x * i
        return x

    assert refused(call, S) == (
        "int() of a traced value i64[]\n"
        + place(call, "for i in range(1, n + 1):", "range(1, n + 1)")
        + "\nHint: repeat on values: x = dp.fori_loop(1, n + 1, lambda i, x: x * i, x), or decorate the "
        'function by @dp.defn(control_flow="python")'
    )


def test_len_of_a_0d_value(place):
    def call(x):
        return len(x)

    assert refused(call, S) == (
        "len() of a traced 0-d value f32[]\n"
        + place(call, "return len(x)", "len(x)")
        + "\nHint: a 0-d value has no length; use x.size"
    )


def test_len_of_a_traced_value_with_axes_is_known():
    assert dp.defn(lambda x: x * len(x), backend="reference")(X).tolist() == [3.0, 6.0, 9.0]


@pytest.mark.parametrize("consume", [list, tuple, sum, max, sorted, iter])
def test_iteration(consume, place):
    def call(x):
        return consume(x)

    assert refused(call, X) == (
        "a traced value f32[3] cannot be iterated over\n"
        + place(call, "return consume(x)", "consume(x)")
        + f"\nHint: {ROWS}"
    )


def test_iteration_over_a_0d_value(place):
    def call(x):
        return list(x)

    assert refused(call, S) == (
        "a traced 0-d value has nothing to iterate over\n"
        + place(call, "return list(x)", "list(x)")
        + "\nHint: use the value itself"
    )


@pytest.mark.parametrize(
    ("condition", "shown"),
    [
        ("x > 0", "dp.where(x > 0.0, value_if_true, value_if_false)"),
        ("x.sum() > 2 * y", "dp.where(dp.sum(x) > (2.0 * y), value_if_true, value_if_false)"),
        ("(x > 0) & (y <= x)", "dp.where((x > 0.0) & (y <= x), value_if_true, value_if_false)"),
        ("dp.any(dp.isnan(x))", "dp.where(dp.any(dp.isnan(x)), value_if_true, value_if_false)"),
        ("dp.sum(x, axis=0) > 0", "dp.where(dp.sum(x) > 0.0, value_if_true, value_if_false)"),
    ],
)
def test_a_condition_of_which_nobody_kept_the_line(condition, shown):
    """As it is for a function that was typed at a prompt."""
    names = {"dp": dp}
    exec(f"def typed(x, y):\n    if {condition}:\n        return x\n    return y\n", names)
    x = X if "sum" in condition or "any" in condition else S
    with pytest.raises(TraceError) as caught:
        dp.defn(names["typed"], backend="reference")(x, S)
    assert str(caught.value).endswith(f"\nHint: choose between values: {shown}")


def test_a_condition_that_is_too_long_to_show():
    names = {"dp": dp, "limit": S}
    exec("def typed(x):\n    return x if dp.exp(dp.sin(dp.cos(x + 1))) > 0 else -x\n", names)
    exec("def captured(x):\n    return x if x > limit else -x\n", names)
    for name in ("typed", "captured"):
        assert refused(lambda x, name=name: names[name](x), S).endswith(f"\nHint: {WHERE}")


def test_unpacking_and_for(place):
    def unpack(x):
        a, _b, _c = x
        return a

    def loop(x):
        for row in x:
            return row

    what = "a traced value f32[3] cannot be iterated over\n"
    for function, line in ((unpack, "a, _b, _c = x"), (loop, "for row in x:")):
        text = refused(function, X)  # versions of Python differ in what they mark in these lines
        assert text.startswith(what + place(function, line)) and text.endswith(f"\nHint: {ROWS}")


def test_the_way_out_of_iteration_works():
    rows = dp.defn(lambda x: [x[i] for i in range(3)], backend="reference")(X)
    assert [r.item() for r in rows] == [1.0, 2.0, 3.0]


# -- NumPy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ufunc", [np.exp, np.add, np.asarray, np.float32])
def test_a_numpy_ufunc(ufunc, place):
    def call(x):
        return ufunc(x, *([1] if ufunc is np.add else []))

    assert refused(call, S).startswith("NumPy asks for the elements of a traced value f32[]\n")
    assert refused(call, S).endswith(f"\nHint: {NUMPY}")


def test_a_numpy_ufunc_word_for_word(place):
    def call(x):
        return np.power(x, 2 * x)

    assert refused(call, X) == (
        "NumPy asks for the elements of a traced value f32[3]\n"
        + place(call, "return np.power(x, 2 * x)", "np.power(x, 2 * x)")
        + "\nHint: use defnpy's function: dp.pow(x, 2 * x) instead of np.power(x, 2 * x)"
    )


def test_an_element_at_a_traced_position(place):
    array, row = np.arange(3.0), [1.0, 2.0, 3.0]

    def of_array(i):
        return array[i, None]

    def of_list(i):
        return row[i]

    index = dp.asarray(1)
    assert refused(of_array, index) == (
        "NumPy asks for the elements of a traced value i64[]\n"
        + place(of_array, "return array[i, None]", "array[i, None]")
        + "\nHint: take it from a tensor: dp.asarray(array)[i, None]"
    )
    assert refused(of_list, index) == (
        "int() of a traced value i64[]\n"
        + place(of_list, "return row[i]", "row[i]")
        + "\nHint: take it from a tensor: dp.asarray(row)[i]; of functions, call dp.switch(index, functions, *operands)"
    )
    assert dp.defn(lambda i: dp.asarray(row)[i])(index).item() == 2.0


WAYS_OUT = {
    "concatenate": "use defnpy's function: dp.concat(...)",
    "cumsum": "use defnpy's function: dp.cumulative_sum(...)",
    "nansum": "compute np.nansum outside, or of functions that defnpy has",
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sum", lambda x: (x,)),
        ("mean", lambda x: (x,)),
        ("concatenate", lambda x: ([x, x],)),
        ("stack", lambda x: ([np.ones(3), x],)),
        ("where", lambda x: (x > 0, x, 0)),
        ("tensordot", lambda x: (x, x, 1)),
        ("cumsum", lambda x: (x,)),
        ("nansum", lambda x: (x,)),
    ],
)
def test_a_numpy_function(name, arguments, place):
    def call(x):
        return getattr(np, name)(*arguments(x))

    shown = "bool[3]" if name == "where" else "f32[3]"
    assert refused(call, X) == (
        f"np.{name} cannot take a traced value {shown}\n"
        + place(call, "return getattr(np, name)(*arguments(x))", "getattr(np, name)(*arguments(x))")
        + "\nHint: "
        + WAYS_OUT.get(name, f"use defnpy's function: dp.{name}(...)")
    )


def test_numpy_operands_of_an_operator_are_no_problem():
    def call(x):
        return np.ones(3, np.float32) + x @ np.eye(3, dtype=np.float32) * np.float32(2)

    assert dp.defn(call, backend="reference")(X).tolist() == [3.0, 5.0, 7.0]


def test_dlpack(place):
    def call(x):
        return np.from_dlpack(x)

    assert refused(call, X) == (
        "DLPack asks for the elements of a traced value f32[3]\n"
        + place(call, "return np.from_dlpack(x)", "np.from_dlpack(x)")
        + "\nHint: return the value and convert it outside"
    )


def test_a_format_specification_names_the_fix():
    with pytest.raises(TraceError):
        dp.defn(lambda x: f"{x:.2f}", backend="reference")(S)


# -- shapes and indices that must be known --------------------------------------------------------------------------


@pytest.mark.parametrize("index", [lambda n: slice(0, n), lambda n: slice(n, None), lambda n: slice(None, None, n)])
def test_slice_with_traced_bounds(index, place):
    def call(x, n):
        return dp.sum(x[index(n)])

    text = refused(call, X, dp.asarray(2), kind=IndexingError)
    assert text.split("\n", 1)[0].endswith(": the bounds of a slice must be known while tracing")
    assert text.split("\n", 1)[1] == (
        place(call, "return dp.sum(x[index(n)])", "x[index(n)]")
        + "\nHint: pass them as keyword-only arguments, or gather: x[start + dp.arange(length)]"
    )


def test_the_ways_out_of_a_traced_slice_work():
    fixed = dp.defn(lambda x, *, n: x[:n], backend="reference")
    moving = dp.defn(lambda x, start: x[start + dp.arange(2)], backend="reference")
    assert fixed(X, n=2).tolist() == [1.0, 2.0]
    assert moving(X, 1).tolist() == [2.0, 3.0]


def test_mask_indexing(place):
    def call(x):
        return dp.sum(x[x > 1])

    text = refused(call, X, kind=IndexingError)
    head, rest = text.split("\n", 1)
    assert head.endswith("(f32[3], bool[3]): a traced mask cannot index: how many elements it keeps depends on values")
    assert rest == (
        place(call, "return dp.sum(x[x > 1])", "x[x > 1]")
        + "\nHint: keep the shape and blend instead: dp.where(mask, x, 0)"
    )


def test_range_with_a_traced_length(place):
    def call(n):
        return dp.arange(n)

    assert refused(call, S, kind=DTypeError) == (
        "arange(f32[]): the length of a range must be known while tracing\n"
        + place(call, "return dp.arange(n)", "dp.arange(n)")
        + "\nHint: pass it as a keyword-only argument"
    )


# -- leaks ----------------------------------------------------------------------------------------------------------

LEAK = "Hint: return it from that function instead of storing it in an outer variable"


@pytest.mark.parametrize("transform", [lambda f: dp.defn(f, backend="reference"), dp.grad, dp.value_and_grad])
def test_a_traced_value_that_got_out(transform, place):
    kept = []

    def leak(x):
        kept.append(x * 2)
        return dp.sum(x)

    transform(leak)(X)
    expected = (
        "a traced value f32[3] is used after the function that made it has returned\n"
        + place(leak, "kept.append(x * 2)", "x * 2")
        + f"\n{LEAK}"
    )
    for use in (lambda: kept[0] + 1, lambda: dp.sum(kept[0]), lambda: dp.defn(lambda x: x + kept[0])(X)):
        with pytest.raises(LeakError) as caught:
            use()
        assert str(caught.value) == expected


def test_an_argument_that_got_out_shows_a_line():
    kept = []

    def leak(x):
        kept.append(x)
        return x

    dp.defn(leak, backend="reference")(X)
    with pytest.raises(LeakError) as caught:
        kept[0] + 1
    assert "kept[0] + 1" in caught.value.where


def test_printing_a_leaked_value_is_harmless():
    kept = []
    dp.defn(lambda x: kept.append(x) or x, backend="reference")(X)
    assert repr(kept[0]) == str(kept[0]) == "<traced f32[3]>"


def test_an_error_in_a_traced_function_leaves_no_trace_behind():
    with pytest.raises(TraceError):
        dp.defn(if_statement)(S)
    with pytest.raises(TraceError):
        dp.grad(if_statement)(S)
    assert isinstance(dp.ones(2) + 1, dp.Tensor)
    assert dp.defn(lambda x: x + 1, backend="reference")(S).item() == 3.0
