"""Mistakes that show only when the program runs: the same error on both backends, at the user's line."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import DTypeError, IndexingError

X = dp.asarray([1.0, 2.0, 3.0])
BACKENDS = ("reference", "cpu")


def pick(x, i):
    y = x * 2
    return y[i]


def pick_two(x, i, j):
    return x[i, j]


def put(x, i):
    return x.at[i].set(0.0)


def accumulate(x, i):
    return x.at[i].add(1.0)


@pytest.fixture(scope="module")
def compiled():
    return {(f, b): dp.defn(f, backend=b) for f in (pick, pick_two, put, accumulate) for b in BACKENDS}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("index", [3, 100, -4, [0, 3], [-4, 0]])
def test_an_index_out_of_bounds(backend, index, compiled, place):
    index = dp.asarray(index)
    with pytest.raises(IndexingError) as caught:
        compiled[pick, backend](X, index)
    operands = f"gather(f32[3], {index.aval})"
    wrong = next(int(i) for i in np.ravel(index) if not -3 <= i < 3)
    assert str(caught.value) == (
        f"{operands}: index {wrong} is out of bounds for axis 0 of size 3\n"
        + place(pick, "return y[i]", "y[i]")
        + "\nHint: indices run from 0 to 2, or from -3 to -1"
    )


def test_eager_indexing_gives_the_references_words(compiled):
    index = dp.asarray([0, 3])
    with pytest.raises(IndexingError) as eager:
        pick(X, index)
    with pytest.raises(IndexingError) as reference:
        compiled[pick, "reference"](X, index)
    assert str(eager.value) == str(reference.value)


def test_the_cpu_backend_names_the_index_too(compiled):
    with pytest.raises(IndexingError, match="index 100 is out of bounds"):
        compiled[pick, "cpu"](X, dp.asarray(100))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_axis_is_named(backend, compiled):
    table, good, bad = dp.ones((2, 5)), dp.asarray([0, 1]), dp.asarray([4, 5])
    assert compiled[pick_two, backend](table, good, good).tolist() == [1.0, 1.0]
    with pytest.raises(IndexingError, match="out of bounds for axis 1 of size 5"):
        compiled[pick_two, backend](table, good, bad)
    with pytest.raises(IndexingError, match="out of bounds for axis 0 of size 2"):
        compiled[pick_two, backend](table, bad, good)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [put, accumulate])
@pytest.mark.parametrize("index", [3, -4])
def test_an_update_out_of_bounds(backend, function, index, compiled):
    with pytest.raises(IndexingError, match="out of bounds for axis 0 of size 3"):
        compiled[function, backend](X, dp.asarray([0, index]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_negative_indices_within_bounds_count_from_the_end(backend, compiled):
    assert compiled[pick, backend](X, dp.asarray([-1, -3])).tolist() == [6.0, 2.0]
    assert compiled[put, backend](X, dp.asarray([-1, -3])).tolist() == [0.0, 2.0, 0.0]
    assert compiled[accumulate, backend](X, dp.asarray([-1, -1])).tolist() == [1.0, 2.0, 5.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_an_error_the_program_runs_again(backend, compiled):
    with pytest.raises(IndexingError):
        compiled[pick, backend](X, dp.asarray([0, 9]))
    assert compiled[pick, backend](X, dp.asarray([0, 2])).tolist() == [2.0, 6.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_static_index_out_of_bounds_shows_while_tracing(backend, place):
    def last(x):
        return x[3]

    with pytest.raises(IndexingError, match="index 3 is out of bounds for axis 0 of size 3") as caught:
        dp.defn(last, backend=backend).expr(X)
    assert caught.value.where == place(last, "return x[3]", "x[3]")


@pytest.mark.parametrize(
    "backend",
    [
        "reference",
        "cpu",
    ],
)
@pytest.mark.parametrize("exponent", [-1, "traced"])
def test_an_integer_to_a_negative_power(backend, exponent, place):
    def inverse(x, e):
        return x ** (-1 if exponent == -1 else e)

    with pytest.raises(DTypeError) as caught:
        dp.defn(inverse, backend=backend)(dp.arange(1, 4), dp.asarray([1, 1, -1]))
    assert caught.value.what.endswith("an integer to a negative power is no integer")
    assert caught.value.hint == "make the base a float: x.astype(float)"
