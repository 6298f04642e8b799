"""Compiled loops: native iterations against the reference, tapes that grow, failures inside, threads, nesting."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.loops import _ROWS, _Loop
from defnpy.errors import IndexingError

F64 = "float64"


def agree(function: Any, *args: Any, rtol: float = 1e-13) -> Any:
    found, expected = (dp.defn(lambda *xs: function(*xs), backend=b)(*args) for b in ("cpu", "reference"))
    for a, b in zip(dp.tree.leaves(found), dp.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=rtol)
    return found


@pytest.mark.parametrize("steps", [0, 1, 2, _ROWS - 1, _ROWS, _ROWS + 1, 5 * _ROWS])
def test_a_tape_of_any_length(steps):
    def f(x, n):
        return dp.while_loop(lambda c: c[1] < n, lambda c: (dp.sin(c[0]) + 0.1 * x, c[1] + 1), (x, 0))[0]

    x = dp.asarray([0.3, 0.4], dtype=F64)
    agree(dp.value_and_grad(lambda x, n: dp.sum(f(x, n))), x, steps, rtol=1e-11)


@pytest.mark.parametrize("reverse", [False, True])
def test_carries_outputs_and_rows_that_are_each_other(reverse):
    """Results that are inputs, the same one twice, numbers, and views of each other."""

    def f(x, y, xs):
        def step(c, row):
            a, b, _ = c
            return (b, a, dp.asarray(1.5, dtype=F64)), (a, a, row, b.T, dp.zeros(2), a[0] + row)

        return dp.scan(step, (x, y, dp.asarray(0.0, dtype=F64)), xs, reverse=reverse)

    x = np.arange(4.0).reshape(2, 2)
    for n in (0, 1, 2, 3):
        agree(f, x, -x, np.arange(2.0 * n).reshape(n, 2))


def test_matrix_products_and_reductions_in_a_body():
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((40, 40)) / 8, rng.standard_normal((40, 3))

    def f(w, x):
        return dp.fori_loop(0, 7, lambda i, x: dp.softmax(w @ x, axis=0) + x / (1 + dp.sum(x * x)), x)

    agree(f, w, x, rtol=1e-12)
    agree(dp.grad(lambda w, x: dp.sum(f(w, x) ** 2), (0, 1)), w, x, rtol=1e-9)


def test_operands_that_are_views_and_of_all_dtypes():
    def f(x, mask, k):
        def step(c, row):
            count, flag, total = c
            return (count + k, dp.logical_xor(flag, row[0] > 0), total + row), dp.logical_not(flag)

        return dp.scan(step, (k, mask, x[0] * 0), x)

    x = np.asfortranarray(np.random.default_rng(1).standard_normal((5, 3)))
    agree(f, dp.asarray(x).T.T, True, dp.asarray(3, dtype="uint8"))
    agree(lambda x: dp.scan(lambda c, r: (c + r, c), dp.zeros(5, dtype=F64), x.T[::-1]), dp.asarray(x))


def test_a_body_runs_natively_in_whatever_order_its_results_are_made(monkeypatch):
    """Adam's count is known first, and its place among the results is behind the parameters."""
    monkeypatch.setattr(_Loop, "in_python", None)
    optimizer = dp.optim.Adam(lr=0.01)

    def f(params, count):
        def body(i, carry):
            params, state = carry
            return optimizer.update(params, dp.tree.map(lambda p: 2 * p - i, params), state)

        return dp.fori_loop(0, count, body, (params, optimizer.init(params)))

    start = {"w": np.arange(6.0).reshape(2, 3), "b": np.arange(3.0)}
    for count in (0, 1, 2, 25):
        with dp.config(backend="cpu"):
            params, state = dp.defn(f)(start, count)
        expected = start, optimizer.init(dp.tree.map(dp.asarray, start))
        for i in range(count):
            g = dp.tree.map(lambda p, i=i: 2 * dp.asarray(p) - i, expected[0])
            expected = optimizer.update(dp.tree.map(dp.asarray, expected[0]), g, expected[1])
        for a, b in zip(dp.tree.leaves((params, state)), dp.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_bodies_that_call_the_library_and_other_loops():
    def f(x, n):
        def outer(i, x):
            x = dp.while_loop(lambda c: dp.sum(c) < 10.0 * i, lambda c: c + 1.5, x)
            return dp.cond(i % 2 == 0, lambda x: dp.sort(-x), lambda x: x * 0.5, x)

        return dp.fori_loop(0, n, outer, x)

    x = dp.asarray([3.0, 1.0, 2.0], dtype=F64)
    for n in (0, 1, 6):
        agree(f, x, n)
        agree(dp.grad(lambda x, n: dp.sum(f(x, n) ** 2)), x, n)


def test_an_index_out_of_bounds_names_the_line_of_the_body():
    def in_body(x):
        return dp.fori_loop(0, 5, lambda i, c: c + x[i], 0.0)

    def in_test(x):
        return dp.while_loop(lambda c: x[c] < 3.0, lambda c: c + 1, 0)

    for f, index in ((in_body, "index 3 is out of bounds for axis 0 of size 3"), (in_test, "index 3 is out of bounds")):
        for backend in ("cpu", "reference"):
            with pytest.raises(IndexingError, match=index) as caught:
                dp.defn(f, backend=backend)(dp.ones(3))
            assert "x[" in str(caught.value)


def test_calls_from_several_threads():
    f = dp.defn(lambda x: dp.while_loop(lambda c: c[1] < 2000, lambda c: (dp.sin(c[0]) + x, c[1] + 1), (x, 0))[0])
    xs = [dp.asarray(np.full(3, i / 7)) for i in range(6)]
    expected = [np.asarray(f(x)) for x in xs]
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda i=i: found.__setitem__(i, np.asarray(f(xs[i])))) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, value in enumerate(expected):
        np.testing.assert_array_equal(found[i], value)


def test_large_bodies_are_shared_by_threads():
    x = dp.asarray(np.linspace(0.0, 1.0, 300_000))
    with dp.config(threads=2):
        agree(lambda x: dp.fori_loop(0, 3, lambda i, x: dp.sin(x) * 1.5, x), x)


def test_the_source_shows_the_body():
    f = dp.defn(lambda x, n: dp.fori_loop(0, n, lambda i, x: dp.tanh(x) * dp.sum(x), x))
    text = f.source(dp.ones((3, 4)), 5)
    assert "body of" in text and "tanh(" in text and "<graph" not in text


# -- loops over single numbers: one kernel -----------------------------------------------------------------------------


def collatz(n):
    return dp.while_loop(
        lambda c: c[0] > 1, lambda c: (dp.where(c[0] % 2 == 0, c[0] // 2, 3 * c[0] + 1), c[1] + 1), (n, 0)
    )[1]


def logistic(x, n):
    return dp.fori_loop(0, n, lambda i, x: 3.7 * x * (1 - x), x)


def swapped(x, n):
    return dp.fori_loop(0, n, lambda i, c: (c[1], c[0], c[2] + i), (x, 2 * x, 0))


def nested(x, n):
    def outer(i, c):
        c = dp.fori_loop(0, i, lambda j, c: dp.sin(c) + 0.1 * j, c)
        return dp.while_loop(lambda c: c > 0.5, lambda c: c * 0.7, c)

    return dp.fori_loop(0, n, outer, x)


def elements(x, table, n):
    def step(i, c):
        return c * 0.5 + table[i % 3, (i + 1) % 2] + table[1, 1] + table.reshape(-1)[i % 6]

    return dp.fori_loop(0, n, step, x)


def sequences(xs, reverse):
    return dp.scan(lambda c, x: (c * 0.5 + x, (dp.exp(c), c > x)), 0.1, xs, reverse=reverse)


def chosen(x, n):
    def step(i, c):
        return dp.cond([(c > 2, lambda c: c - 2), (c > 1, lambda c: c * c)], lambda c: c + 0.3, c)

    return dp.fori_loop(0, n, step, x)


def reversed_dynamic(x, n):
    return dp.grad(lambda x: dp.while_loop(lambda c: c[1] < n, lambda c: (dp.sin(c[0]) + x, c[1] + 1), (x, 0))[0])(x)


def counted_backwards(x):
    return dp.grad(lambda x: dp.fori_loop(0, 9, lambda i, c: dp.sin(c) * x + 0.1 * i, x))(x)


def scanned_backwards(xs, reverse):
    def f(xs):
        last, made = dp.scan(lambda c, x: (dp.sin(c) * x, c * x), 0.3, xs, reverse=reverse)
        return last + dp.sum(made**2)

    return dp.value_and_grad(f)(xs)


def nested_backwards(x, n):
    def outer(i, c):
        return dp.fori_loop(0, 3, lambda j, c: dp.sin(c) * x + 0.1 * i, c)

    return dp.grad(lambda y: dp.fori_loop(0, n, outer, y))(x)


TABLE = dp.asarray(np.arange(6.0).reshape(3, 2) / 7)
SCALAR = [
    (collatz, (27,)),
    (logistic, (dp.asarray(0.3, dtype=F64), 50)),
    (logistic, (dp.asarray([[0.3]]), 20)),
    (swapped, (dp.asarray(0.3, dtype=F64), 5)),
    (nested, (dp.asarray(0.9, dtype=F64), 6)),
    (elements, (dp.asarray(0.0, dtype=F64), TABLE, 9)),
    (lambda xs: sequences(xs, False), (dp.asarray(np.arange(5.0), dtype=F64),)),
    (lambda xs: sequences(xs, True), (dp.asarray(np.arange(5.0), dtype=F64),)),
    (chosen, (dp.asarray(0.1, dtype=F64), 13)),
    (counted_backwards, (dp.asarray(0.7, dtype=F64),)),
    (lambda x: dp.jacfwd(counted_backwards)(x), (dp.asarray(0.7, dtype=F64),)),
    (lambda xs: scanned_backwards(xs, False), (dp.asarray(np.arange(1.0, 6.0), dtype=F64),)),
    (lambda xs: scanned_backwards(xs, True), (dp.asarray(np.arange(1.0, 6.0), dtype=F64),)),
]


@pytest.mark.parametrize(("function", "args"), SCALAR)
def test_a_loop_over_numbers_is_one_kernel(function, args):
    agree(function, *args, rtol=1e-11)
    steps = dp.defn(lambda *xs: function(*xs)).compile(*args).steps()
    assert "call" not in [step.kind for step in steps]
    assert any("while True:" in step.source for step in steps)


@pytest.mark.parametrize(("function", "args"), SCALAR)
def test_both_renderers_make_the_same_loop(function, args):
    pytest.importorskip("numba", reason="the second renderer")
    expected = dp.defn(lambda *xs: function(*xs))(*args)
    with dp.config(renderer="numba"):
        found = dp.defn(lambda *xs: function(*xs))(*args)
    for a, b in zip(dp.tree.leaves(found), dp.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_way_back_is_a_kernel_too():
    x = dp.asarray(0.3, dtype=F64)
    agree(reversed_dynamic, x, 100, rtol=1e-9)
    names = [step.source for step in dp.defn(reversed_dynamic).compile(x, 100).steps() if step.kind == "call"]
    assert names == ["while_loop"]  # its tape grows


def test_the_way_back_through_nested_loops_is_native(monkeypatch):
    """The loop inside keeps its carries in a kernel, so that the one around it needs no Python either."""
    monkeypatch.setattr(_Loop, "in_python", None)
    agree(nested_backwards, dp.asarray(0.7, dtype=F64), 8, rtol=1e-11)


def test_a_failed_check_in_a_kernel_names_the_line():
    f = dp.defn(lambda x: dp.fori_loop(0, 5, lambda i, c: c + x[i - 4], 0.0))
    assert float(f(dp.asarray(np.arange(5.0)))) == 10.0
    with pytest.raises(IndexingError, match="index -4 is out of bounds for axis 0 of size 3") as caught:
        f(dp.ones(3))
    assert "x[i - 4]" in str(caught.value)


# -- loops over small arrays, element by element: one kernel, too ------------------------------------------------------


def repeated(body, **how):
    """A function that carries an array through five iterations."""
    return lambda x, *others: dp.fori_loop(0, 5, lambda i, c: body(i, c, x, *others), x, **how)


def until(x, n):
    """An element decides."""
    return dp.while_loop(lambda c: (c[0] < n) & (c[1][0] < 2), lambda c: (c[0] + 1, c[1] * 1.1 + x), (0, x))


def rows(xs, y, reverse):
    def step(c, row):
        a, b = c
        return (b + row, dp.where(a > row, a, 0.5 * b)), (a, row, a < b, dp.zeros(3, dtype=F64), 2.0 * row)

    return dp.scan(step, (y, -y), xs, reverse=reverse)


def mixed(x, n):
    """Numbers and arrays of two shapes, which take each other's values."""

    def step(i, c):
        number, flat, table = c
        return number * 0.5 + flat[1], table.reshape(6) + number, (flat * dp.astype(i, F64)).reshape(2, 3)

    return dp.fori_loop(0, n, step, (0.1, x, x.reshape(2, 3)))


def kinds(x):
    def step(i, c):
        even, count, value = c
        return ~even, count + dp.astype(even, "int32"), dp.where(even, value * 2, dp.astype(i, "float32"))

    return dp.fori_loop(0, 5, step, (x > 0, dp.zeros(x.shape, dtype="int32"), dp.astype(x, "float32")))


def laned_backwards(x, w):
    return dp.value_and_grad(lambda x, w: dp.sum(repeated(lambda i, c, x, w: dp.sin(c) * w + 0.1 * i)(x, w)), (0, 1))(
        x, w
    )


VECTOR, ROWS, FLAT = (dp.asarray(np.linspace(-1, 1, n)) for n in (3, 12, 6))
LANED = {
    "a recurrence": (repeated(lambda i, c, x: 3.7 * c * (1 - c)), (VECTOR,)),
    "with what is around": (repeated(lambda i, c, x: dp.sin(c) * x + 0.1 * i), (ROWS.reshape(2, 2, 3),)),
    "longer than a vector": (repeated(lambda i, c, x: dp.exp(-c) * x), (dp.asarray(np.linspace(0, 1, 777)),)),
    "an element of its own": (repeated(lambda i, c, x: c * 0.5 + c[0] - x[i % 3]), (VECTOR,)),
    "one number for all": (repeated(lambda i, c, x: dp.broadcast_to(1.5 * i, (3,))), (VECTOR,)),
    "nothing": (repeated(lambda i, c, x: c), (VECTOR,)),
    "until": (until, (VECTOR, 9)),
    "until at once": (until, (VECTOR, 0)),
    "rows": (lambda xs, y: rows(xs, y, False), (ROWS.reshape(4, 3), VECTOR)),
    "rows backwards": (lambda xs, y: rows(xs, y, True), (ROWS.reshape(4, 3), VECTOR)),
    "no row": (lambda xs, y: rows(xs, y, False), (dp.zeros((0, 3), dtype=F64), VECTOR)),
    "numbers beside arrays": (mixed, (FLAT, 4)),
    "all kinds": (kinds, (VECTOR,)),
    "a branch": (repeated(lambda i, c, x: dp.cond(i > 2, lambda c: c * x, dp.sin, c)), (VECTOR,)),
    "the way back": (laned_backwards, (VECTOR, 1 - VECTOR)),
}


@pytest.mark.parametrize("name", LANED)
def test_a_loop_over_a_small_array_is_one_kernel(name):
    function, args = LANED[name]
    agree(function, *args, rtol=1e-6 if name == "all kinds" else 1e-11)
    steps = dp.defn(lambda *xs: function(*xs)).compile(*args).steps()
    assert "call" not in [step.kind for step in steps]
    assert name == "nothing" or any("while True:" in step.source for step in steps)


@pytest.mark.parametrize("name", LANED)
def test_both_renderers_make_the_same_lanes(name):
    pytest.importorskip("numba", reason="the second renderer")
    function, args = LANED[name]
    expected = dp.defn(lambda *xs: function(*xs))(*args)
    with dp.config(renderer="numba"):
        found = dp.defn(lambda *xs: function(*xs))(*args)
    for a, b in zip(dp.tree.leaves(found), dp.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize(
    "body",
    [
        lambda i, c, x: c * dp.sum(c),
        lambda i, c, x: dp.flip(c) * 0.5,
        lambda i, c, x: c + x[:, None] @ x[None, :] @ c,
        lambda i, c, x: dp.fori_loop(0, 2, lambda j, c: c * x, c),
        lambda i, c, x: dp.concat([c[1:], c[:1]]),
    ],
)
def test_what_mixes_elements_is_no_kernel_of_lanes(body):
    function = repeated(body)
    agree(function, VECTOR, rtol=1e-11)
    assert not any("while True:" in step.source for step in dp.defn(function).compile(VECTOR).steps())
