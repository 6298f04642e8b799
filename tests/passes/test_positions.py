"""Elements taken and written at positions that count along an axis: the same numbers and the same errors, from less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.passes.simplify import simplify
from defnpy.transforms.stage import strengthen

RNG = np.random.default_rng(0)
X = dp.asarray(RNG.standard_normal((4, 6)).astype(np.float32))
BATCH = dp.asarray(RNG.standard_normal((2, 4, 6)).astype(np.float32))
LABELS = dp.asarray(np.array([5, -1, 0, -6]))
MORE = dp.asarray(np.array([[0, 3, -2, 3], [1, 1, -6, 5]]))


def ops(graph: Any) -> list[str]:
    return [node.op.name for node in graph.nodes() if node.op.family != "leaf"]


def rows(x: Any, i: Any) -> Any:
    return x[dp.arange(4), i]


WIDE = (4, 6, 9)

# function, array, positions: elements are taken or written one by one, in the end too.
TAKEN: dict[str, Any] = {
    "a row's elements": (lambda x, i: rows(x * 2 + x[:, :1], i), X, LABELS),
    "with numbers by column": (lambda x, i: rows(x * x[0] - x[1, 2], i), X, LABELS),
    "of what is dear": (lambda x, i: rows(dp.sqrt(dp.broadcast_to(x[..., None] ** 2, WIDE)), i)[:, 3], X, LABELS),
    "along": (lambda x, i: dp.take_along_axis(dp.where(x > 0, x, 1.0), i[..., None], axis=-1), BATCH, MORE),
    "unsigned": (lambda x, i: rows(-x, dp.abs(i).astype("uint8") % 6), X, LABELS),
    "transposed": (lambda x, i: x.T[i, dp.arange(4)], X, LABELS),
    "a diagonal": (lambda x, i: x[dp.arange(4), dp.arange(4)] * i, X, LABELS),
    "for all columns": (lambda x, i: x[:, i, dp.arange(6)[:, None]], BATCH, LABELS % 4),
    "may meet": (lambda x, i: x.at[i % 4].add(x), X, LABELS),
    "may meet in a row": (
        lambda x, i: x.at[dp.arange(2)[:, None], i].add(x[:, :, 0, None] * x[0, 0]),
        BATCH,
        MORE % 3,
    ),
    "some rows": (lambda x, i: x.at[dp.arange(3), i[:3]].set(0.0), X, LABELS),
}

# Nothing is left but positions that are checked.
KNOWN: dict[str, Any] = {
    "all rows": (lambda x, i: (x + 1)[dp.arange(4)] * i[:, None], X, LABELS),
    "first rows": (lambda x, i: (x + 1)[dp.arange(3), :] * i[:3, None], X, LABELS),
    "numbers and rows": (lambda x, i: x[dp.arange(2), -1, dp.arange(6)[:, None]] * i[0], BATCH, LABELS),
    "one row again": (lambda x, i: x[dp.arange(2)[:, None], dp.zeros((1, 5), dtype="int64")] * i[0], BATCH, LABELS),
    "written": (lambda x, i: x.at[dp.arange(4), i].set(x[:, 0]), X, LABELS),
    "added": (lambda x, i: x.at[dp.arange(4), i].add(x[:, 0]), X, LABELS),
    "added to nothing": (lambda x, i: dp.zeros((4, 6)).at[dp.arange(4), i].add(-0.0 * x[:, 0]), X, LABELS),
    "integers": (lambda x, i: dp.ones((4, 9), dtype="int8").at[dp.arange(4), i].add(100), X, LABELS),
    "truths": (lambda x, i: (x > 0).at[dp.arange(4), i].set(True), X, LABELS),
    "in the middle": (lambda x, i: x.at[dp.arange(2)[:, None], i, dp.arange(6)].set(7.0), BATCH, LABELS[1:2]),
    "two labels": (
        lambda x, i: dp.zeros((2, 4, 4, 6)).at[dp.arange(2)[:, None], i, dp.arange(4), i - 1].add(x[..., 0]),
        BATCH,
        MORE % 4,
    ),
    "with the rest": (lambda x, i: x.at[dp.arange(2), i[:, 0]].add(x[:, 1]), BATCH, MORE % 3),
    "everything": (lambda x, i: x.at[dp.arange(4)].set(x * 2) * i[0], X, LABELS),
}
CASES = TAKEN | KNOWN


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(name: str) -> None:
    function, *args = CASES[name]
    graph = strengthen(dp.defn(function).expr(*args))
    better = simplify(graph)
    dp.debug.verify(better)
    moving = [n for n in better.nodes() if n.op.name in ("gather", "scatter_add", "scatter_set")]
    assert bool(moving) if name in TAKEN else all(n.args[0].op.name == "iota" for n in moving)
    (wanted,), (got,) = (evaluate(g, [np.asarray(x) for x in args]) for g in (graph, better))
    compiled = np.asarray(dp.defn(function, backend="cpu")(*args))
    for found in (got, compiled):
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))  # -0.0 too


@pytest.mark.parametrize("name", ["a row's elements", "along", "written", "added", "in the middle", "with the rest"])
def test_second_derivatives(name: str) -> None:
    function, x, i = CASES[name]
    dp.testing.check_grads(dp.defn(lambda x: dp.sin(function(x * x, i))), [x.astype("float64")], order=2)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("bad", [6, -7, 2**40])
@pytest.mark.parametrize("name", ["a row's elements", "with numbers by column", "written", "added"])
def test_a_position_out_of_bounds_is_an_error_of_its_axis(name: str, bad: int, backend: str) -> None:
    function, *args = CASES[name]
    f = dp.defn(function, backend=backend)
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 1 of size 6"):
        f(args[0], dp.asarray(np.array([0, 1, bad, 2])))
    assert f(*args).dtype == X.dtype  # and the next call is right


def test_a_label_is_checked_where_only_a_gradient_reads_it() -> None:
    f = dp.defn(lambda x, i: dp.grad(lambda x: dp.sum(rows(x, i)))(x))
    wanted = np.zeros((4, 6), np.float32)
    wanted[range(4), np.asarray(LABELS)] = 1
    np.testing.assert_array_equal(np.asarray(f(X, LABELS)), wanted)
    with pytest.raises(IndexError, match="index 6 is out of bounds for axis 1 of size 6"):
        f(X, LABELS + 1)


@pytest.mark.parametrize(("length", "at_the_end"), [(20, False), (2000, True)])
def test_a_deep_chain_is_not_repeated(length: int, at_the_end: bool) -> None:
    """Taking elements first never makes a graph much larger: what is long is computed as a whole."""

    def chain(x: Any, i: Any) -> Any:
        for _ in range(length):
            x = x * 1.5 + x
        return rows(x, i)

    found = ops(simplify(strengthen(dp.defn(chain).expr(X, LABELS))))
    assert found.count("gather") == 1
    assert (found[-1] == "gather") == at_the_end
