"""The table of conventions in docs/guide/derivatives.md: backwards, forwards, compiled, and to second order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import defnpy as dp

INF = np.inf
# Function, arguments, and the derivative of the result's sum with respect to each.
KINKS = {
    "abs": (dp.abs, [[0.0]], [[0.0]]),
    "relu": (dp.relu, [[0.0]], [[0.0]]),
    "sign": (dp.sign, [[0.0]], [[0.0]]),
    "floor": (dp.floor, [[1.0]], [[0.0]]),
    "ceil": (dp.ceil, [[1.0]], [[0.0]]),
    "round": (dp.round, [[0.5]], [[0.0]]),
    "trunc": (dp.trunc, [[0.0]], [[0.0]]),
    "maximum": (dp.maximum, [[1.0, 2.0], [1.0, 3.0]], [[0.5, 0.0], [0.5, 1.0]]),
    "minimum": (dp.minimum, [[1.0, 2.0], [1.0, 3.0]], [[0.5, 1.0], [0.5, 0.0]]),
    "max": (dp.max, [[2.0, 1.0, 2.0]], [[0.5, 0.0, 0.5]]),
    "min": (dp.min, [[1.0, 1.0, 2.0]], [[0.5, 0.5, 0.0]]),
    "clip": (dp.clip, [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]),
    "where": (lambda x, y: dp.where(x >= 0, x, y), [[0.0], [5.0]], [[1.0], [0.0]]),
    "x ** y": (lambda x, y: x**y, [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0]], [[0.0, 1.0, 0.0], [0.0] * 3]),
    "sqrt": (dp.sqrt, [[0.0]], [[INF]]),
    "hypot": (dp.hypot, [[0.0], [0.0]], [[0.0], [0.0]]),
    "std": (dp.std, [[2.0, 2.0]], [[0.0, 0.0]]),
    "linalg.vector_norm": (dp.linalg.vector_norm, [[0.0, 0.0]], [[0.0, 0.0]]),
    "max_pool": (lambda x: dp.max_pool(x.reshape(1, 1, 3), 3), [[1.0, 2.0, 2.0]], [[0.0, 1.0, 0.0]]),
    "sort": (lambda x: dp.sort(x) * dp.asarray([1.0, 2.0, 3.0]), [[5.0, 5.0, 1.0]], [[2.0, 3.0, 1.0]]),
    "top_k": (lambda x: dp.top_k(x, 1)[0], [[5.0, 5.0, 1.0]], [[1.0, 0.0, 0.0]]),
}
WAYS = {"eager": lambda f: f, "cpu": lambda f: dp.defn(f, backend="cpu")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", KINKS)
def test_the_derivative_at_a_kink(name, way):
    function, args, expected = KINKS[name]
    total = WAYS[way](lambda *xs: dp.sum(function(*xs)))
    tensors = tuple(dp.asarray(np.array(a)) for a in args)
    found = dp.grad(total, tuple(range(len(args))))(*tensors)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)
    for i, e in enumerate(expected):  # forwards the same, along each axis of each argument
        rows = dp.jacfwd(total, i)(*tensors)
        np.testing.assert_array_equal(rows, e)


@pytest.mark.parametrize("name", [name for name in KINKS if name not in ("sqrt", "x ** y")])
def test_second_derivatives_there_are_finite(name):
    function, args, _ = KINKS[name]
    tensors = tuple(dp.asarray(np.array(a)) for a in args)
    assert np.isfinite(np.asarray(dp.hessian(lambda *xs: dp.sum(function(*xs)))(*tensors))).all()


def test_the_page_names_what_is_tested(root: Path) -> None:
    page = (root / "docs" / "guide" / "derivatives.md").read_text(encoding="utf-8")
    table = page.split("## At kinks and ends", 1)[1].split("```", 1)[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named - {"median"} == set(KINKS)


# -- other paths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_integers_have_a_gradient_and_booleans_none(way):
    f = WAYS[way](lambda n, b: dp.sum(dp.where(b, n * n, n)))
    n, b = dp.grad(f, (0, 1))(dp.asarray([1, 2, 3]), dp.asarray([True, False, True]))
    assert n.tolist() == [2.0, 1.0, 6.0] and n.dtype == "float32" and b is None
    assert dp.grad(WAYS[way](lambda x: dp.sum(x.astype("int64") * x)))(dp.asarray([2.5])).tolist() == [2.0]


@pytest.mark.parametrize("way", WAYS)
def test_the_sign_of_zero(way):
    """G2 of the seeds: sum((x - y)²) at x = [2, 1], y = [2, 0]."""
    f = WAYS[way](lambda x, y: dp.sum((x - y) ** 2))
    x, y = dp.grad(f, (0, 1))(dp.asarray([2, 1]), dp.asarray([2, 0]))
    assert x.tolist() == [0.0, 2.0] and y.tolist() == [-0.0, -2.0]
    assert np.signbit(np.asarray(x)).tolist() == [False, False] and np.signbit(np.asarray(y)).tolist() == [True, True]


@pytest.mark.parametrize("way", WAYS)
def test_one_tensor_as_several_arguments_and_in_several_leaves(way):
    x = dp.asarray([2.0, 3.0])
    f = WAYS[way](lambda p, y: dp.sum(p["a"] * p["b"] * y))
    p, y = dp.grad(f, (0, 1))({"a": x, "b": x}, x)
    assert p["a"].tolist() == p["b"].tolist() == y.tolist() == [4.0, 9.0]


@pytest.mark.parametrize("way", WAYS)
def test_arrays_without_elements(way):
    f = WAYS[way](lambda x: dp.sum(dp.where(x > 0, dp.log(x), 0) @ dp.ones((0, 2))) + dp.sum(dp.sort(x)))
    x = dp.zeros((3, 0))
    assert dp.grad(f)(x).shape == (3, 0)
    assert dp.hessian(f)(x).shape == (3, 0, 3, 0)
    assert dp.jvp(f, (x,), (x,))[1].item() == 0.0
    assert dp.vmap(dp.grad(lambda x: dp.sum(x * x)))(dp.zeros((0, 2))).shape == (0, 2)
