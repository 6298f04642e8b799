"""``@defn(control_flow="python")``: Python's control flow over traced values, against the functions that it becomes."""

from __future__ import annotations

import inspect
import traceback

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ConfigError, ImmutableError, ShapeError, TraceError


def f64(value):
    return dp.asarray(value, dtype="float64")


def flow(function, backend="reference"):
    return dp.defn(function, control_flow="python", backend=backend)


# -- functions that plain Python computes on numbers, too --------------------------------------------------------------


def assigned_in_both(x, n):
    if x > 0:
        y = x * 2
    else:
        temporary = -x
        y = temporary * 3
    return y


def assigned_in_one(x, n):
    y = x
    if x > 0:
        y = y * 2
    return y + 1


def chain(x, n):
    if x < -1:
        y = 1.0 * x
    elif x < 0:
        y = 2.0 * x
    elif x < 1:
        y = 3.0 * x
    else:
        y = 4.0 * x
    return y


def early_return(x, n):
    if x > 1:
        return x
    x = x * 2
    if x < -3:
        x = -x
        return x * 2
    return -x


def return_in_both(x, n):
    y = x * x
    if n > 1:
        if x > 0:
            return y
        y = y + 1
    else:
        return x
    return y * 2


def temporaries_of_one_name(x, n):
    y = x
    if x > 0:
        t = x * 2
        y = t
    if x < 0:
        t = x * 3
        y = t
    return y


def same_variable_swapped(x, n):
    a, b = x, 2 * x
    if x > 0:
        a, b = b, a
    return a - 3 * b


def while_and(x, n):
    i, total = 0, 0.0 * x
    while i < n and total < 5:
        total = total + x
        i = i + 1
    return total + i


def if_in_while(x, n):
    i, total = 0, 0.0 * x
    while i < n:
        if i % 2 == 0:
            total = total + x
        elif not x > 0:
            total = total - 3 * x
        i = i + 1
    return total


def while_in_if(x, n):
    if x > 0:
        while x < 10 * n:
            x = x * 2
    return x


def while_in_while(x, n):
    i, total = 0, 0.0 * x
    while i < n:
        j = 0
        while j <= i:
            total = total + x * j
            j = j + 1
        i = i + 1
    return total


def while_with_else(x, n):
    i = 0
    while i < n:
        i = i + 1
    else:
        x = x + i
    return x


def for_range(x, n):
    for i in range(n):
        x = x + i
    return x


def for_from(x, n):
    for i in range(-1, n):
        x = x * 2 + i
    return x


def for_step(x, n):
    for i in range(1, 2 * n, 3):
        x = x * 2 + i
    for i in range(2 * n, 1, -2):
        x = x * 2 + i
    return x


def index_read_afterwards(x, n):
    i = 10
    for i in range(n):
        x = x + i
    return x * i


def index_changed_in_the_body(x, n):
    for i in range(n):
        i = i * 2
        x = x + i
    return x


def python_loop_with_break(x, n):
    for k in range(5):
        x = x + k
        if k == 2:
            break
        if k == 0:
            continue
        for i in range(n):
            x = x + i * k
    return x


def python_while_over_a_range(x, n):
    k = 0
    while k < 3:
        if x > 0:
            x = x - 1.5
        k += 1
    return x


def conditional_expression(x, n):
    return (x if x > 0 else -x if x < -1 else 3 * x) + [v if n > 1 else 2 * v for v in (x, x)][1]


def logic(x, n):
    y = 0.0 * x
    if 0 < x < 3 or not (x > -1 or n < 2):
        y = x
    return y + 1


def container(x, n):
    state = {"x": x, "pair": (x, 1.0)}
    for _ in range(n):
        if state["x"] > 2:
            state = {"x": state["x"] - 1, "pair": (state["x"], 2.0)}
        else:
            state = {"x": state["x"] + 1.5, "pair": state["pair"]}
    return state["x"] + state["pair"][0] * state["pair"][1]


def inner_function(x, n):
    scale = 2.0
    if x > 0:
        scale = 3.0

    def scaled(v):
        return v * scale

    while x < n:
        x = scaled(x) + 0.5 * n + 20
    return scaled(x)


def annotated(x: float, n: int) -> float:
    y: float = x
    z: float
    if x > 0:
        y: float = 2 * x  # type: ignore[no-redef]
        z = y
    else:
        z = y
    return z


def carried_and_not_read_afterwards(x, n):
    step = 1.0
    for _ in range(n):
        x = x + step
        step = step * 2 - 0.5
    return x


def read_by_the_next_condition_only(x, n):
    limit = 1.0
    if x > 0:
        limit = 5.0
    if x < limit:
        x = x * 2
    return x


def read_by_a_function_made_before(x, n):
    scale = 2.0

    def scaled(v):
        return v * scale

    if x > 0:
        scale = 3.0
    return scaled(x)


def counting(x, n):
    i, total = 0, 0.0
    while i < n:
        total += x if x > 0 else 2 * x
        i += 1
    else:
        total -= i
    total *= 2
    return total


def in_a_with(x, n):
    with np.errstate(all="ignore"):
        if x > 0:
            y = x
        else:
            y = 2 * x
        while y < n + 0.3:
            y = y + 1
    return y


def breaks_in_both_loops(x, n):
    total = 0.0 * x
    for i in range(n):
        j = 0
        while True:
            total = total + x
            j = j + 1
            if j > i:
                break
        if total > 5.3:
            break
        total = total + 1
    return total


def index_after_a_break(x, n):
    i = 0
    for i in range(n):
        if i > x:
            break
    return x * i


def continue_and_break(x, n):
    total, i = 0.0 * x, 0
    while i < 10:
        i = i + 1
        if i < n:
            continue
        elif total + x > 3.1:
            total = total + 100 * x
            break
        total = total + x
    return total


def break_out_of_a_range_of_python(x, n):
    total = 0.0 * x
    for i in range(7, 0, -2):
        total = total + i * x
        if total > n:
            break
    return total * i


FUNCTIONS = [
    breaks_in_both_loops, index_after_a_break, continue_and_break, break_out_of_a_range_of_python,
    assigned_in_both, assigned_in_one, chain, early_return, return_in_both, temporaries_of_one_name,
    same_variable_swapped, while_and, if_in_while, while_in_if, while_in_while, while_with_else, for_range, for_from,
    for_step, index_read_afterwards, index_changed_in_the_body, python_loop_with_break, python_while_over_a_range,
    conditional_expression, logic, container, inner_function, annotated, counting,
    carried_and_not_read_afterwards, read_by_the_next_condition_only, read_by_a_function_made_before, in_a_with,
]  # fmt: skip
POINTS = [(x, n) for x in (-2.0, -0.75, 0.5, 3.25) for n in (0, 1, 4)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_values_are_those_of_python(function):
    expected = [function(x, n) for x, n in POINTS]
    reference, cpu = flow(function), flow(function, "cpu")
    assert [reference(f64(x), n).item() for x, n in POINTS] == pytest.approx(expected, abs=0, rel=1e-15)
    assert [cpu(f64(x), n).item() for x, n in POINTS] == pytest.approx(expected, abs=0, rel=1e-15)
    assert reference.cache_info().misses == cpu.cache_info().misses == 1


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradients_are_those_of_python(function):
    gradient = dp.grad(flow(function))
    for x, n in POINTS:  # every function is a polynomial of x of degree 2 at most, so that a difference is exact
        h = 2.0**-8
        expected = (function(x + h, n) - function(x - h, n)) / (2 * h)
        assert gradient(f64(x), n).item() == pytest.approx(expected, rel=1e-12, abs=1e-12), (x, n)


def test_a_loop_that_is_left_early_ends_early():
    def until(x, n):
        for _ in range(n):
            x = x * 2
            if x > 100:
                break
        return x

    assert flow(until, "cpu")(f64(1.0), 10**15).item() == 128


def test_what_decides_in_python_is_left_to_python():
    def endless(x):
        k = 0
        while True:
            x = x + k
            k += 1
            if k == 3:
                break
        return x

    assert "while_loop" not in str(flow(endless).expr(1.0))
    assert flow(endless)(1.0).item() == 4.0


def newton(a):
    x = a
    while abs(x * x - a) > 1e-12 * a:
        x = (x + a / x) / 2
    return x


def test_derivatives_against_the_functional_form():
    def functional(a):
        return dp.while_loop(lambda x: abs(x * x - a) > 1e-12 * a, lambda x: (x + a / x) / 2, a)

    f = flow(newton)
    for transform in (dp.grad, lambda g: dp.grad(dp.grad(g)), dp.jacfwd):
        assert transform(f)(f64(7.0)).item() == transform(functional)(f64(7.0)).item()
    batch = f64([1.0, 4.0, 9.0])
    assert dp.vmap(f)(batch).tolist() == dp.vmap(functional)(batch).tolist()


def test_the_graph_is_that_of_the_functional_form():
    def functional(x):
        return dp.cond(x > 0, lambda: x * 2, lambda: -x)

    def python(x):
        if x > 0:
            return x * 2
        return -x

    x = dp.spec((), "float64")
    assert str(flow(python).expr(x)) == str(dp.defn(functional).expr(x))


# -- what stays as it was ----------------------------------------------------------------------------------------------

FACTOR = f64(2.0)


def outside(x, *, positive=True, offset=(1.0, 2.0)):
    """Kept."""
    if positive:  # static: only one branch is traced
        return x * FACTOR + offset[0]
    raise ValueError("negative")


def test_static_conditions_stay_python():
    f = flow(outside)
    assert f(f64(3.0)).item() == 7.0
    assert f(f64(3.0), offset=(5.0,)).item() == 11.0
    with pytest.raises(ValueError, match="negative"):
        f(f64(3.0), positive=False)
    assert f.__doc__ == "Kept." and f.__name__ == "outside" and f.__module__ == __name__
    assert inspect.signature(f.function) == inspect.signature(outside)


def test_closures_are_shared_not_copied():
    weight = f64(2.0)

    @dp.defn(control_flow="python", backend="reference")
    def f(x):
        if x > 0:
            return x * weight
        return x

    assert f(f64(3.0)).item() == 6.0
    weight = f64(5.0)  # seen on the next call, without a compilation
    assert f(f64(3.0)).item() == 15.0
    assert f.cache_info().misses == 1


def test_methods():
    class Model:
        limit = 2.0

        @dp.defn(control_flow="python", backend="reference")
        def clipped(x):
            if x > Model.limit:
                x = x * 0 + Model.limit
            return x

    assert [Model.clipped(f64(v)).item() for v in (1.0, 3.0)] == [1.0, 2.0]


def test_names_of_inner_functions():
    def outer(x, *, flag):
        if flag:

            def inner():
                return x

        return inner.__qualname__, inner()

    name, _ = flow(outer)(f64(1.0), flag=True)
    assert name == "test_names_of_inner_functions.<locals>.outer.<locals>.inner"


def test_private_names_of_a_class():
    with pytest.raises(TraceError, match="f uses the private name __x"):

        class C:
            __x = 1.0

            @dp.defn(control_flow="python")
            def f(self, x):
                return x + self.__x


def test_inlined_into_another_function():
    inner = flow(early_return)
    assert dp.defn(lambda x: inner(x, 1) + 1, backend="reference")(f64(-6.0)).item() == early_return(-6.0, 1) + 1


def test_tracebacks_show_the_users_lines():
    def broken(x):
        if x > 0:
            y = x + 1
        else:
            y = undefined_name  # noqa: F821
        return y

    with pytest.raises(NameError) as caught:
        flow(broken)(f64(1.0))
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.name, last.line) == ("broken", "y = undefined_name  # noqa: F821")


def test_printed_loops_show_the_users_lines():
    def halved(x, n):
        for _ in range(n):
            x = x * 0.5
        return x

    assert "# x = x * 0.5" in flow(halved, "cpu").source(f64(1.0), 3)


# -- refused -----------------------------------------------------------------------------------------------------------


def place(function, line, marked):
    lines, first = inspect.getsourcelines(function)
    number = next(first + i for i, text in enumerate(lines) if text.strip() == line)
    code = function.__code__
    carets = " " * line.index(marked) + "^" * len(marked)
    return f'  File "{code.co_filename}", line {number}, in {code.co_name}\n    {line}\n    {carets}'


def line_of(function, line):
    lines, first = inspect.getsourcelines(function)
    return next(first + i for i, text in enumerate(lines) if text.strip() == line)


def with_break(x):
    for k in [0, 1, 2]:
        if x > k:
            break
        x = x + 1
    return x


def with_continue(x):
    while x < 3:
        x = x + 1
        if x > 1:
            if x > 2:
                continue
            x = x + 2
        x = x + 1
    return x


def return_in_a_loop(x):
    while x < 3:
        if x > 2:
            return x
        x = x + 1
    return -x


def with_raise(x):
    if x < 0:
        raise ValueError("negative")
    return x


def with_append(x):
    kept = []
    if x < 0:
        kept.append(1.0)
    return x + len(kept)


def with_item(x):
    kept = {"x": x}
    if x < 0:
        kept["x"] = -x
    return kept["x"]


CONTINUE = "put the rest of the body under an if"
LEAVE = "carry a boolean and ask for it in the condition of a while: while running and ..."


@pytest.mark.parametrize(
    ("function", "statement", "line", "marked", "what", "culprit", "hint"),
    [
        (with_break, "if", "if x > k:", "x > k", "break", "break", LEAVE),
        (with_continue, "while", "while x < 3:", "x < 3", "continue", "continue", CONTINUE),
        (
            return_in_a_loop, "while", "while x < 3:", "x < 3", "return", "return x",
            "return in both branches at the end of the function, or assign a variable and return it there",
        ),
        (
            with_raise, "if", "if x < 0:", "x < 0", "raise", 'raise ValueError("negative")',
            "both ways are traced: check before the function is called",
        ),
        (
            with_append, "if", "if x < 0:", "x < 0", "a change of an object", "kept.append(1.0)",
            "both ways are traced: assign to a variable, with x.at[i].set(v) for elements",
        ),
        (
            with_item, "if", "if x < 0:", "x < 0", "a change of an object", 'kept["x"] = -x',
            "both ways are traced: assign to a variable, with x.at[i].set(v) for elements",
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_what_a_traced_branch_cannot_hold(function, statement, line, marked, what, culprit, hint):
    with pytest.raises(TraceError) as caught:
        flow(function)(f64(1.0))
    assert str(caught.value) == (
        f"{statement}: with a traced condition bool[], it cannot hold {what} (line {line_of(function, culprit)})\n"
        f"{place(function, line, marked)}\nHint: {hint}"
    )


def test_a_variable_of_one_branch_only():
    def half(x):
        if x > 0:
            y = x
        return y

    with pytest.raises(TraceError) as caught:
        flow(half)(f64(1.0))
    assert str(caught.value) == (
        "y has no value at the end of one branch of the if\n"
        + place(half, "if x > 0:", "x > 0")
        + "\nHint: give it a value before the if, or in both branches"
    )


def test_a_variable_of_the_loop_only():
    def last(x, n):
        for i in range(n):
            y = x * i
        return y

    with pytest.raises(TraceError) as caught:
        flow(last)(f64(1.0), 3)
    assert str(caught.value) == (
        "y has no value before the loop, which may end before its first iteration\n"
        + place(last, "for i in range(n):", "range(n)")
        + "\nHint: give it a value before the loop"
    )


def test_arrays_do_not_change_in_place():
    def grown(x):
        if x[0] > 0:
            x += 1
        return x

    with pytest.raises(ImmutableError) as caught:
        flow(grown)(f64([1.0, 2.0]))
    assert str(caught.value) == (
        "a tensor cannot change: += is refused\n"
        + place(grown, "x += 1", "x += 1")
        + "\nHint: make a new value: x = x + 1"
    )


def test_a_traced_step():
    def stepped(x, n):
        for i in range(0, 10, n):
            x = x + i
        return x

    with pytest.raises(TraceError) as caught:
        flow(stepped)(f64(1.0), 3)
    assert str(caught.value) == (
        "range: the step of a traced range must be an integer that is known while tracing, and not 0\n"
        + place(stepped, "for i in range(0, 10, n):", "range(0, 10, n)")
        + "\nHint: pass it as a keyword-only argument"
    )


def test_branches_of_different_shapes_name_the_variable():
    def shapes(x):
        if x > 0:
            y = dp.ones(3)
        else:
            y = x
        return y

    with pytest.raises(ShapeError, match=r"cond: result\['y'\] is f32\[3\] in branch 0 and f64\[\] in branch 1"):
        flow(shapes)(f64(1.0))


def refused(function):
    with pytest.raises(TraceError) as caught:
        flow(function)
    return caught.value


def test_functions_that_cannot_be_rewritten():
    def generator(x):
        yield x

    def assigns_outside(x):
        global FACTOR
        FACTOR = x
        return x

    assert refused(lambda x: x).what == 'control_flow="python": <lambda> is not a function made by def'
    assert refused(generator).what == 'control_flow="python": generator is a generator or a coroutine'
    found = refused(assigns_outside)
    assert found.what == 'control_flow="python": assigns_outside assigns to global names'
    assert f"line {line_of(assigns_outside, 'global FACTOR')}, in assigns_outside" in found.where
    names = {}
    exec("def typed(x):\n    return x", names)
    found = refused(names["typed"])
    assert found.what == 'control_flow="python": the source of typed is not at hand'
    assert found.hint == "define it in a file or a notebook, or use dp.cond and dp.while_loop"


def test_an_unknown_option():
    with pytest.raises(ConfigError, match="unknown control flow 'jax'"):
        dp.defn(control_flow="jax")
