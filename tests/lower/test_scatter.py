"""Scatter as a kernel: every form of index, duplicates in order, bounds, numbers and views as operands, loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import IndexingError
from defnpy.lower.program import KernelStep, lower
from defnpy.passes.pipeline import optimize

RNG = np.random.default_rng(0)
X = dp.asarray(RNG.standard_normal((3, 4, 5)))
ROWS = dp.asarray(np.array([2, 0, -1, 2]))
COLUMNS = dp.asarray(np.array([3, 1, -4, 3], np.int8))
ONE = dp.asarray(np.uint8(1))


def values(*shape: int) -> dp.Tensor:
    return dp.asarray(RNG.standard_normal(shape))


FORMS: list[tuple[str, Callable[[Any, Any, Any, Any], Any], dp.Tensor]] = [
    ("rows", lambda at, i, j, k: at[i], values(4, 4, 5)),
    ("one row", lambda at, i, j, k: at[k], values(4, 5)),
    ("an element", lambda at, i, j, k: at[k, 2, k], values()),
    ("columns", lambda at, i, j, k: at[:, j], values(3, 4, 5)),
    ("the last axis", lambda at, i, j, k: at[..., i], values(3, 4, 4)),
    ("pairs", lambda at, i, j, k: at[i, j], values(4, 5)),
    ("pairs apart", lambda at, i, j, k: at[i, :, j], values(4, 4)),
    ("crossed", lambda at, i, j, k: at[i[:, None], j], values(4, 4, 5)),
    ("part of an axis", lambda at, i, j, k: at[i, 1:3], values(4, 2, 5)),
    ("backwards", lambda at, i, j, k: at[i, ::-1], values(4, 4, 5)),
    ("a new axis", lambda at, i, j, k: at[k, None, j], values(4, 1, 5)),
    ("fixed", lambda at, i, j, k: at[-1, 2], values(5)),
    ("a mask", lambda at, i, j, k: at[dp.asarray([True, False, True])], values(2, 4, 5)),
    ("broadcast", lambda at, i, j, k: at[i], values(5)),
    ("nothing", lambda at, i, j, k: at[i[:0]], values(0, 4, 5)),
]


def numpy_index(form: Callable[[Any, Any, Any, Any], Any]) -> Any:
    class Recorder:
        def __getitem__(self, index: Any) -> Any:
            return index

    index = form(Recorder(), *map(np.asarray, (ROWS, COLUMNS, ONE)))
    return np.asarray(index) if isinstance(index, dp.Tensor) else index


@pytest.mark.parametrize("renderer", ["llvm", "numba"])
@pytest.mark.parametrize("kind", ["set", "add"])
@pytest.mark.parametrize(("form", "new"), [pytest.param(*f[1:], id=f[0]) for f in FORMS])
def test_updates_are_numpy_s(form: Callable[..., Any], new: dp.Tensor, kind: str, renderer: str) -> None:
    wanted = np.array(X)
    if kind == "set":
        wanted[numpy_index(form)] = np.asarray(new)
    else:
        np.add.at(wanted, numpy_index(form), np.asarray(new))

    def update(x: Any, v: Any, i: Any, j: Any, k: Any) -> Any:
        return getattr(form(x.at, i, j, k), kind)(v)

    with dp.config(renderer=renderer):
        for backend in ("cpu", "reference"):
            found = dp.defn(update, backend=backend)(X, new, ROWS, COLUMNS, ONE)
            np.testing.assert_allclose(found, wanted, rtol=1e-15, atol=1e-15)
    dp.testing.check_grads(lambda x, v: update(x, v, ROWS, COLUMNS, ONE), (X, new))


def test_numbers_and_views_as_operands() -> None:
    f = dp.defn(lambda x, i: (x.T.at[i].set(0.0), dp.zeros((4, 3)).at[i].add(x.T[0]), (x > 0).at[i].add(True)))
    x = dp.asarray(RNG.standard_normal((3, 4)))
    for found, wanted in zip(f(x, ROWS), f.function(x, ROWS), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["set", "add"])
def test_an_index_that_is_out_of_bounds_is_named(kind: str) -> None:
    f = dp.defn(lambda x, i: getattr(x.at[:, i], kind)(1.0), backend="cpu")
    for bad in (4, -5):
        with pytest.raises(IndexingError, match=f"index {bad} is out of bounds for axis 1 of size 4"):
            f(X, dp.asarray([0, bad, 9]))


def test_a_loop_that_writes_elements_needs_no_library() -> None:
    def sieve(x: Any, n: Any) -> Any:
        return dp.fori_loop(1, n, lambda i, x: x.at[i].set(x[i - 1] * 0.5 + 1).at[0].add(1.0), x)

    step = dp.defn(sieve, backend="cpu")
    x = dp.zeros((9,))
    np.testing.assert_allclose(step(x, 7), dp.defn(sieve, backend="reference")(x, 7), rtol=1e-6)
    (node,) = [n for n in optimize(step.expr(x, 7)).nodes() if n.op.name == "while_loop"]
    assert all(isinstance(s, KernelStep) for s in lower(node.kwargs["body"]).steps)
