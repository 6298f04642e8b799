"""Control flow in functional form: what the hint of an error says is put in the place of the user's lines, and computes
what Python does."""

from __future__ import annotations

import inspect
import linecache
import textwrap

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import TraceError

REWRITE = 'or decorate the function by @dp.defn(control_flow="python")'


# The lines between "here" and "there" are those that the hint rewrites.


def choice_of_a_value(x, n):
    # here
    if x > 0:
        y = x * 2
    else:
        y = -x
    # there
    return y + 1


def choice_without_else(x, n):
    y = x
    # here
    if x > 0 and n > 1:
        y *= 2
    # there
    return y


def chain(x, n):
    # here
    if x < -1:
        y = 1.0 * x
    elif x < 0:
        y = 2.0 * x
    elif not x > 1:
        y = 3.0 * x
    else:
        y = 4.0 * x
    # there
    return y


def chain_without_else(x, n):
    y = x
    # here
    if x < -1:
        y = x + 1
    elif x < 0:
        y = x + 2
    # there
    return y


def two_values(x, n):
    # here
    if x > 0:
        y = x * 2
        z = 1.0
    else:
        z = x
        y = -x
    # there
    return y - z


def statements_that_read_each_other(x, n):
    y = x
    # here
    if x > 0:
        t = y * 2
        y = t + 1
        z = t * y
    else:
        z = y
    # there
    return y - z


def three_branches_of_statements(x, n):
    y = x
    # here
    if x > 1:
        t = y * 2
        y = t + 1
    elif x > 0:
        y = y - 1
        y = y * y
    else:
        y = x * x
    # there
    return y


def four_branches_of_statements(x, n):
    y = x
    # here
    if x > 2:
        y = y * 2
        y = y + 1
    elif x > 1:
        y = y * 3
        y = y + 2
    elif x > 0:
        y = y * 4
        y = y + 3
    # there
    return y


def choice_in_a_with(x, n):
    y = x
    with dp.config():
        # here
        if x > 0:
            y = y * 2
        # there
    return y


def loop_in_a_try(x, n):
    try:
        # here
        while x < 3:
            x = x + n + 1
        # there
    finally:
        pass
    return x


def swapped(x, n):
    a, b = x, 2 * x
    # here
    if x > 0:
        a, b = b, a
    # there
    return a - 3 * b


def early_return(x, n):
    # here
    if x > 0:
        return x * 2
    return -x
    # there


def returns_in_a_chain(x, n):
    # here
    if x > 1:
        return x
    elif x > 0:
        return 2 * x
    else:
        return 3 * x
    # there


def return_of_two(x, n):
    # here
    if x > 0:
        return x, n
    return -x, 2 * n
    # there


def early_return_before_statements(x, n):
    y = x * 3
    # here
    if x > 0:
        y = y + 1
        return y * x
    y = y * y
    z = y + x
    return z * 2
    # there


def return_out_of_a_nested_choice(x, n):
    y = x
    # here
    if x > 0:
        y = y * 2
        if x > 1:
            return y
    else:
        y = y + 1
    return y * 3
    # there


def choice_in_a_python_loop(x, n):
    y = x
    for k in range(3):
        # here
        if y > k:
            y = y - 0.5
        # there
    return y


def while_of_one(x, n):
    # here
    while x < 3:
        x = x + 1
    # there
    return x


def while_of_two(x, n):
    i, total = 0, 0.0 * x
    # here
    while i < n and total < 5:
        total = total + x
        i += 1
    # there
    return total + i


def while_with_temporaries(x, n):
    total = 0.0 * x
    # here
    while total < 5:
        step = x * x + 0.5
        total = total + step
    # there
    return total


def while_with_a_choice(x, n):
    i, total = 0, 0.0 * x
    # here
    while i < n:
        if i % 2 == 0:
            total = total + x
        else:
            total = total - 3 * x
        i = i + 1
    # there
    return total


def while_in_a_while(x, n):
    i, total = 0, 0.0 * x
    # here
    while i < n:
        j = 0
        while j < i:
            total = total + x
            j = j + 1
        i = i + 1
    # there
    return total


def for_of_one(x, n):
    # here
    for _ in range(n):
        x = x * 0.5
    # there
    return x


def for_of_two(x, n):
    y, z = x, x * 2
    # here
    for i in range(1, n):
        z = z + y * i
        y = y - z
    # there
    return y + z


def break_first(x, n):
    # here
    while True:
        if x > 5:
            break
        x = x * x + 1
    # there
    return x


def break_last(x, n):
    # here
    while x < 50:
        x = x * x + 1
        if x > 5:
            break
    # there
    return x


def break_between(x, n):
    y = x
    # here
    while y < 50:
        y = y * y + 1
        if y > 5:
            y = y - 1
            break
        y = y + x * x
    # there
    return y


def break_out_of_a_python_loop(x, n):
    # here
    for k in range(10):
        x = x * x + 1 + 0.1 * k
        if x > 5:
            break
    # there
    return x


def continue_in_a_loop(x, n):
    total = 0.0 * x
    # here
    for i in range(n):
        if i % 2 == 1:
            continue
        total = total + x * i
    # there
    return total


def continue_with_statements(x, n):
    total, i = 0.0 * x, 0
    # here
    while i < n:
        i = i + 1
        if i % 2 == 1:
            total = total - 1
            continue
        total = total + x * i
    # there
    return total


def return_out_of_a_loop(x, n):
    # here
    for _ in range(10):
        x = x * x + 1
        if x > 5:
            return x
    # there
    return x


FUNCTIONS = [f for f in list(globals().values()) if inspect.isfunction(f) and f.__module__ == __name__]


def hint_of(function, *args):
    with pytest.raises(TraceError) as caught:
        dp.defn(function, backend="reference")(*args)
    return caught.value.hint


def form_in(hint):
    """The code in a hint, and what it is said to do."""
    if "\n" in hint:
        head, code = hint.split("\n", 1)
        what, rewrite = head.split(", or ", 1)
        assert rewrite == REWRITE.removeprefix("or ") + ":"
        return what, textwrap.dedent(code)
    what, code = hint.removesuffix(", " + REWRITE).split(": ", 1)
    return what, code


def replaced(function, form):
    """The function with its marked lines in the other form."""
    lines = textwrap.dedent(inspect.getsource(function)).split("\n")
    first = next(i for i, line in enumerate(lines) if line.strip() == "# here")
    last = next(i for i, line in enumerate(lines) if line.strip() == "# there")
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    text = "\n".join([*lines[:first], textwrap.indent(form, indent), *lines[last + 1 :]])
    filename = f"<string {function.__name__}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    names = {"dp": dp}
    exec(compile(text, filename, "exec"), names)
    return names[function.__name__]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_hint_is_code_that_computes_the_same(function):
    what, form = form_in(hint_of(function, dp.asarray(0.5), dp.asarray(3)))
    assert what in ("choose between values", "repeat on values")
    assert what.startswith("repeat") == (("while_loop" in form) or ("fori_loop" in form))
    traced = dp.defn(replaced(function, form), backend="reference")
    for x in (-2.5, -0.5, 0.0, 0.75, 1.5, 6.0):
        for n in (0, 1, 4):
            expected = dp.tree.leaves(function(x, n))
            found = dp.tree.leaves(traced(dp.asarray(x, dtype="float64"), dp.asarray(n)))
            np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"{form}\nat {x}, {n}")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_the_hint_recommends_computes_the_same(function):
    traced = dp.defn(function, control_flow="python", backend="reference")

    def scalar(x, n):
        return sum(dp.tree.leaves(traced(x, n)))

    for x in (-2.4, -0.45, 0.77, 1.6, 6.1):  # no kinks
        for n in (0, 1, 4):
            at = dp.asarray(x, dtype="float64")
            expected = dp.tree.leaves(function(x, n))
            np.testing.assert_allclose(dp.tree.leaves(traced(at, dp.asarray(n))), expected, rtol=1e-12)
            above, below = (sum(dp.tree.leaves(function(x + h, n))) for h in (1e-6, -1e-6))
            np.testing.assert_allclose(dp.grad(scalar)(at, n), (above - below) / 2e-6, rtol=1e-6, atol=1e-6)


# -- where there is no such form, or another one -----------------------------------------------------------------------


def test_a_condition_with_axes_chooses_by_element():
    def apart(x):
        if x > 0:
            y = x * 2
            z = 1.0
        else:
            y = -x
            z = 0.0
        return y + z

    def together(x):
        if x > 0:
            y, z = x * 2, 1.0
        else:
            y, z = -x, 0.0
        return y + z

    def in_steps(x):
        if x > 0:
            y = x * 2
            y = y + 1
        else:
            y = -x
        return y

    x = dp.asarray([1.0, -1.0])
    for function in (apart, together):
        assert hint_of(function, x) == (
            f"choose between values: y, z = dp.where(x > 0, x * 2, -x), dp.where(x > 0, 1.0, 0.0), {REWRITE}"
        )
    assert "value_if_true" in hint_of(in_steps, x)


def test_containers_are_chosen_by_functions():
    def call(p, q, loss):
        if loss > 0:
            return p
        return q

    p = {"w": dp.ones(2)}
    assert (
        hint_of(call, p, p, 1.0) == f"choose between values: return dp.cond(loss > 0, lambda: p, lambda: q), {REWRITE}"
    )


def test_what_changes_an_object_has_no_functional_form():
    def call(x):
        kept = []
        if x > 0:
            kept.append(x)
        return x

    def undefined(x):
        if x > 0:
            y = x
        return y

    def nothing(x):
        if x > 0:
            return
        return x

    for function in (call, undefined, nothing):
        assert hint_of(function, 1.0) == (
            f"choose between values: dp.where(x > 0, value_if_true, value_if_false), {REWRITE}"
        )


def test_an_assertion():
    def call(x):
        assert x > 0
        return x

    assert hint_of(call, 1.0) == "a traced function cannot stop: return the condition, and assert it of the result"


def test_a_lambda():
    hint = hint_of(lambda x: 1.0 if x > 0 and x < 1 else x * 2, 1.0)
    assert hint == f"choose between values: dp.where((x > 0) & (x < 1), 1.0, x * 2), {REWRITE}"
