"""Scheduling, loops and memory, on small graphs by hand."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.op import REGISTRY
from defnpy.lower.fuse import Call, Group, schedule
from defnpy.lower.kernel import FoldStore, Loop, walk
from defnpy.lower.program import CallStep, KernelStep, ProductStep, lower
from defnpy.passes.pipeline import optimize


def program(function, *args):
    return lower(optimize(dp.defn(function).expr(*args)))


def kinds(function, *args):
    letters = {KernelStep: "K", ProductStep: "P", CallStep: "C"}
    return "".join(letters[type(step)] for step in program(function, *args).steps)


X, Y = dp.spec((6, 5)), dp.spec((6, 5))


@pytest.mark.parametrize(
    ("function", "args", "steps"),
    [
        (lambda x: x * 2 + 1, (X,), "K"),
        (lambda x, y: (x + y, x - y), (X, Y), "K"),
        (lambda x: dp.sum(x * x), (X,), "K"),
        (lambda x: x / dp.sum(x, axis=1, keepdims=True), (X,), "K"),
        (lambda x: x / dp.sum(x, axis=0, keepdims=True), (X,), "KK"),  # columns: the sums must be complete first
        (lambda x, y: dp.exp(x @ y.T), (X, Y), "PK"),
        (lambda x, y: dp.relu(x) @ dp.relu(y).T, (X, Y), "KP"),
        (lambda x: dp.argmax(x + 1, axis=1), (X,), "KC"),
        (lambda x: x, (X,), ""),
        (lambda x: x.T, (X,), "K"),
        (lambda x: dp.sum(dp.max(x, axis=1)), (X,), "K"),
        (lambda x: dp.exp(x.T) + 1, (X,), "K"),
    ],
)
def test_steps(function, args, steps):
    assert kinds(function, *args) == steps


def test_groups_read_only_what_is_complete():
    graph = optimize(dp.defn(lambda x: (x - dp.mean(x, axis=0)) / dp.std(x, axis=0)).expr(X))
    planned = schedule(graph)
    position = {node: item.position for node, item in planned.place.items()}
    for node, item in planned.place.items():
        for arg in node.args:
            if arg in position:
                assert position[arg] <= item.position
    assert all(isinstance(item, (Group, Call)) for item in planned.items)


def loops(function, *args):
    (step,) = [s for s in program(function, *args).steps if isinstance(s, KernelStep)]
    return [s.size for s in walk(step.emitted.kernel.body) if isinstance(s, Loop)]


def test_loops_over_contiguous_axes_are_one_loop():
    assert loops(lambda x, y: x * y, dp.spec((2, 3, 4)), dp.spec((2, 3, 4))) == ["n0n1n2"]
    assert loops(lambda x, y: x * y, dp.spec((2, 3, 4)), dp.spec((3, 4))) == ["n0", "n1n2"]
    assert loops(lambda x, y: x * y, dp.spec((2, 3, 4)), dp.spec((2, 1, 1))) == ["n0", "n1n2"]
    assert loops(lambda x: x + dp.permute_dims(x, (1, 0)), dp.spec((3, 3))) == ["n0", "n1"]
    assert loops(lambda x: x * 2, dp.spec((1, 5, 1))) == ["n1"]
    assert loops(lambda x: x * 2, dp.spec(())) == []


def test_a_kernel_takes_its_sizes_as_arguments():
    (step,) = program(lambda x, b: x + b, dp.spec((6, 5)), dp.spec(5)).steps
    assert isinstance(step, KernelStep)
    assert dict(zip(step.emitted.kernel.sizes, step.emitted.sizes, strict=True)) == {"n0": 6, "n1": 5}


def test_an_expensive_value_that_two_passes_need_is_spilled_a_cheap_one_is_not():
    def rows(function):
        (step,) = program(function, X).steps
        return [b.name for b in step.emitted.kernel.buffers if b.role == "scratch"]

    assert len(rows(lambda x: dp.softmax(x))) == 1
    assert rows(lambda x: (x * 2) / dp.sum(x * 2, axis=1, keepdims=True)) == []


def test_what_a_loop_folds_into_one_element_is_stored_behind_it():
    """A sum of everything takes the total, so that sums of rows go into a buffer: not element by element."""

    def sums(x):
        return dp.sum(x), dp.sum(x, axis=1), dp.sum(x, axis=0), dp.max(x, axis=1)

    (step,) = program(sums, X).steps

    def stored(body, along):
        for statement in body:
            if isinstance(statement, Loop):
                yield from stored(statement.body, [*along, statement.variable])
            elif isinstance(statement, FoldStore):
                yield len(statement.index), along

    assert sorted(stored(step.emitted.kernel.body, [])) == [(1, ["i0"]), (1, ["i0"]), (1, ["i0", "i1"])]
    x = np.arange(30.0, dtype=np.float32).reshape(6, 5) - 9
    for found, expected in zip(dp.defn(sums, backend="cpu")(x), sums(dp.asarray(x)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_memory_of_dead_values_is_used_again():
    def chain(x, y):
        for _ in range(6):
            x = dp.relu(x @ y)
        return x

    made = program(chain, dp.spec((64, 64)), dp.spec((64, 64)))
    assert len(made.temporaries) == 11
    assert made.arena <= 3 * 64 * 64 * 4


def test_names_that_mean_something_in_python_or_in_kernels():
    def f(n0, np_, range, exp, i1):
        return n0 + np_ * range - exp / i1

    values = [np.float32(v) for v in (1, 2, 3, 4, 5)]
    result = dp.defn(f, backend="cpu")(*values)
    assert result.item() == pytest.approx(1 + 2 * 3 - 4 / 5)


def test_what_only_an_order_names_is_not_computed():
    """``after(x, y)`` reads nothing of y. Found by tests.fuzz: a kernel without a statement took the process down."""
    after = REGISTRY["after"]
    assert kinds(lambda x, y: after(x, y + 1), X, Y) == "K"
    x = np.arange(30.0, dtype=np.float32).reshape(6, 5)
    np.testing.assert_array_equal(dp.defn(lambda x, y: after(x, y + 1), backend="cpu")(x, x), x)


COUNTED = {
    "all axes": lambda x: x * dp.iota(shape=(6, 5), axis=None, dtype="float32"),
    "transposed": lambda x: x.T + dp.iota(shape=(6, 5), axis=None).T.astype("float32"),
    "of a part": lambda x: dp.iota(shape=(6, 5), axis=None)[1:4, ::-2] + x[1:4, :3].astype("int64"),
    "one element": lambda x: x[0, 0] + dp.iota(shape=(6, 5), axis=None)[2, 3].astype("float32"),
    "summed": lambda x: dp.sum(x * dp.iota(shape=(6, 5), axis=None).astype("float32"), axis=0),
    "as positions": lambda x: x.reshape(-1)[dp.iota(shape=(2, 3), axis=None)],
    "no element": lambda x: dp.sum(x) + dp.sum(dp.iota(shape=(0, 5), axis=None).astype("float32")),
    "a number": lambda x: x + dp.iota(shape=(), axis=None).astype("float32"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_positions_in_row_major_order(name: str) -> None:
    x = np.arange(30.0, dtype=np.float32).reshape(6, 5)
    expected = dp.defn(lambda x: COUNTED[name](x), backend="reference")(x)
    np.testing.assert_array_equal(dp.defn(lambda x: COUNTED[name](x), backend="cpu")(x), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [3, 4, 3.0])
def test_third_and_fourth_powers_are_products(exponent, dtype):
    x = dp.asarray([-np.inf, -2.5, -0.0, 0.0, 1e-30, 0.3, 1e30, np.inf, np.nan], dtype=dtype)
    digits = 3e-7 if dtype == "float32" else 5e-16
    for f, rtol in (
        (lambda x: x**exponent, digits),
        (lambda x: dp.fori_loop(0, 2, lambda i, c: c**exponent, x[5]), 8 * digits),
    ):
        compiled = dp.defn(f, backend="cpu")
        assert "power" not in compiled.source(x)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(compiled(x), f(x), rtol=rtol)
    assert "power" in dp.defn(lambda x: x**2.5, backend="cpu").source(x)
