"""Writing into a tensor is refused, eager and traced, and the message shows the user's own line in functional form."""

# ruff: noqa: E701

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ImmutableError

X = dp.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def set_row(x):
    x[0] = 1.0


def set_part(x):
    x[0, 1:] = x[1, :2] * 2


def set_dots(x):
    x[..., None, -1] = 0


def set_mask(x):
    x[x > 2] = 0.0


def add_to_element(x):
    x[1, 2] += 3 * 2


def subtract_from_row(x):
    x[1] -= 0.5 + 0.5


def multiply_row(x):
    x[1] *= 3


def power_of_element(x):
    x[0, 0] **= 2


def add_in_place(x):
    x += 1.0


def subtract_in_place(x):
    x -= 0.1 * x


def multiply_in_place(x):
    x *= 2 + 1


def divide_in_place(x):
    x /= 4


def floor_divide_in_place(x):
    x //= 4


def remainder_in_place(x):
    x %= 4


def power_in_place(x):
    x **= 2


def product_in_place(x):
    x @= x


def and_in_place(x):
    x &= x


def shift_in_place(x):
    x <<= 1


# fmt: off
def one_line_if(x):
    if True: x[0] = 5


def over_lines(x):
    x[
        0
    ] = 5
# fmt: on


ASSIGNMENT = "a tensor cannot change: assignment to an element is refused"
CASES = [
    (set_row, "x[0] = 1.0", "x[0]", ASSIGNMENT, "make a changed copy: x = x.at[0].set(1.0)"),
    (
        set_part,
        "x[0, 1:] = x[1, :2] * 2",
        "x[0, 1:]",
        ASSIGNMENT,
        "make a changed copy: x = x.at[0, 1:].set(x[1, :2] * 2)",
    ),
    (
        set_dots,
        "x[..., None, -1] = 0",
        "x[..., None, -1]",
        ASSIGNMENT,
        "make a changed copy: x = x.at[..., None, -1].set(0)",
    ),
    (set_mask, "x[x > 2] = 0.0", "x[x > 2]", ASSIGNMENT, "make a changed copy: x = x.at[x > 2].set(0.0)"),
    (add_to_element, "x[1, 2] += 3 * 2", None, "+=", "make a new value: x = x.at[1, 2].add(3 * 2)"),
    (subtract_from_row, "x[1] -= 0.5 + 0.5", None, "-=", "make a new value: x = x.at[1].add(-(0.5 + 0.5))"),
    (multiply_row, "x[1] *= 3", None, "*=", "make a new value: x = x.at[1].set(x[1] * 3)"),
    (power_of_element, "x[0, 0] **= 2", None, "**=", "make a new value: x = x.at[0, 0].set(x[0, 0] ** 2)"),
    (add_in_place, "x += 1.0", None, "+=", "make a new value: x = x + 1.0"),
    (subtract_in_place, "x -= 0.1 * x", None, "-=", "make a new value: x = x - 0.1 * x"),
    (multiply_in_place, "x *= 2 + 1", None, "*=", "make a new value: x = x * (2 + 1)"),
    (divide_in_place, "x /= 4", None, "/=", "make a new value: x = x / 4"),
    (floor_divide_in_place, "x //= 4", None, "//=", "make a new value: x = x // 4"),
    (remainder_in_place, "x %= 4", None, "%=", "make a new value: x = x % 4"),
    (power_in_place, "x **= 2", None, "**=", "make a new value: x = x ** 2"),
    (product_in_place, "x @= x", None, "@=", "make a new value: x = x @ x"),
    (and_in_place, "x &= x", None, "&=", "make a new value: x = x & x"),
    (shift_in_place, "x <<= 1", None, "<<=", "make a new value: x = x << 1"),
]


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize(("function", "line", "marked", "what", "hint"), CASES, ids=[c[0].__name__ for c in CASES])
def test_the_users_own_line_is_rewritten(function, line, marked, what, hint, traced, place):
    if what != ASSIGNMENT:
        what = f"a tensor cannot change: {what} is refused"
    with pytest.raises(ImmutableError) as caught:
        (dp.defn(function) if traced else function)(X)
    assert str(caught.value) == f"{what}\n{place(function, line, marked or line)}\nHint: {hint}"


NUMERIC = [c for c in CASES if c[0] not in (product_in_place, and_in_place, shift_in_place)]


@pytest.mark.parametrize(("function", "line", "hint"), [(c[0], c[1], c[4]) for c in NUMERIC])
def test_the_rewritten_line_does_what_was_meant(function, line, hint):
    """The hints above are programs: each gives what NumPy's assignment would have."""
    theirs, ours = {"x": np.array(X)}, {"x": X}
    exec(line, theirs)
    exec(hint.split(": ", 1)[1], ours)
    np.testing.assert_array_equal(ours["x"], theirs["x"])


def test_deletion_is_refused(place):
    def delete(x):
        del x[0]

    with pytest.raises(ImmutableError) as caught:
        delete(X)
    assert str(caught.value) == (
        "a tensor cannot change: its elements cannot be deleted\n"
        + place(delete, "del x[0]", "x[0]")
        + "\nHint: keep the others: x = dp.concat([x[:i], x[i + 1:]])"
    )


@pytest.mark.parametrize("function", [one_line_if, over_lines])
def test_a_line_that_cannot_be_read_alone_gets_the_general_form(function):
    with pytest.raises(ImmutableError) as caught:
        function(X)
    assert caught.value.what == ASSIGNMENT
    assert caught.value.hint == "make a changed copy: x = x.at[i].set(v)"


@pytest.mark.parametrize("key", ["'W1'", "key"])
def test_an_update_of_a_parameter_in_a_dict_rewrites_the_dict_entry(key):
    """The book's own line, ``params[key] -= lr * grads[key]``: the dict may change, the tensor may not."""
    names = {"params": {"W1": X}, "grads": {"W1": X}, "key": "W1", "lr": 0.1}
    with pytest.raises(ImmutableError) as caught:
        _sgd_literal(names["params"], names["grads"], 0.1) if key == "'W1'" else _sgd(
            names["params"], names["grads"], 0.1, "W1"
        )
    assert caught.value.hint == f"make a new value: params[{key}] = params[{key}] - lr * grads[{key}]"


def _sgd(params, grads, lr, key):
    params[key] -= lr * grads[key]


def _sgd_literal(params, grads, lr):
    params['W1'] -= lr * grads['W1']  # fmt: skip


@pytest.mark.parametrize("name", ["shape", "dtype", "T", "anything"])
def test_attributes_of_a_tensor_cannot_be_set(name):
    with pytest.raises(AttributeError):
        setattr(X, name, None)


def test_a_refused_statement_has_changed_nothing():
    x = dp.asarray([1.0, 2.0])
    before = x
    with pytest.raises(ImmutableError):
        x += 1.0
    with pytest.raises(ImmutableError):
        x[0] = 9.0
    assert x is before and x.tolist() == [1.0, 2.0]
