"""Two renderers compile the same kernels: LLVM IR printed from the loops, and Python source through Numba. Each is held
against the other and against the reference."""

from __future__ import annotations

import importlib
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.backend import CpuBackend
from defnpy.ir.op import REGISTRY, Case, Op
from defnpy.lower.program import ProductStep, lower
from defnpy.passes.pipeline import optimize
from tests.properties.programs import compare, draw_program, run_reference

threads = importlib.import_module("defnpy.lower.threads")
OPS = [op for op in REGISTRY.values() if op.family not in ("leaf", "item")]
# The reference's functions are those of another mathematical library.
CLOSE = {"float32": {"rtol": 2e-6, "atol": 1e-7}, "float64": {"rtol": 1e-13, "atol": 1e-15}}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def renderers(function: Any, *arrays: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a function gives, compiled by LLVM and by Numba."""
    results = []
    for renderer in ("llvm", "numba"):
        with dp.config(renderer=renderer, backend="cpu"):
            results.append(np.asarray(dp.defn(lambda *xs: function(*xs))(*arrays)))
    return results[0], results[1]


def close(found: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, **CLOSE[dtype])
    else:
        np.testing.assert_array_equal(found, expected)


def cases(op: Op) -> list[tuple[Case, str]]:
    """The first case in float32 and the last in float64, which is the other one where an op has several."""
    return [(op.cases[0], "float32"), (op.cases[-1], "float64")]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_both_renderers_give_the_references_answer(op: Op) -> None:
    for case, dtype in cases(op):
        seed = zlib.crc32(op.name.encode())
        arrays = [dp.asarray(a) for a in case.arrays(np.random.default_rng(seed), np.dtype(dtype))]

        def function(*xs: Any, case: Case = case) -> Any:
            return op(*xs, **case.params)

        expected = dp.tree.leaves(function(*arrays))
        for i in range(len(expected)):  # an op may give several values
            for found in renderers(lambda *xs, i=i: dp.tree.leaves(function(*xs))[i], *arrays):
                close(found, np.asarray(expected[i]), dtype)


EXACT = {
    "arithmetic": lambda x, y: (x * y + x) / (y - x) - dp.abs(x) * 3.0,
    "comparison": lambda x, y: dp.where((x < y) & (y >= 0) | (x != x), x, y),
    "roots": lambda x, y: dp.sqrt(dp.abs(x)) + dp.floor(y) - dp.ceil(x) + dp.round(y),
    "extrema": lambda x, y: dp.maximum(x, y) - dp.minimum(x, dp.clip(y, -1, 1)),
    "rests": lambda x, y: x % 0.7 + y // 0.3,
    "rows": lambda x, y: dp.max(x, axis=1, keepdims=True) - y,
    "columns": lambda x, y: dp.sum(x, axis=0) + dp.min(y, axis=0),
    "product of rows": lambda x, y: dp.prod(x, axis=1) + dp.prod(y, axis=0)[:1],
    "signs": lambda x, y: dp.sign(x) * -y,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXACT)
def test_what_ieee_defines_is_the_same_bits(name: str, dtype: str) -> None:
    """Neither renderer contracts, reorders or approximates: NumPy, LLVM and Numba agree to the last bit."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 7, 33)).astype(dtype)
    x[0, :5], y[3, :5] = [0.0, -0.0, np.inf, -np.inf, np.nan], [np.inf, 1.0, np.nan, -0.0, 0.0]
    function = EXACT[name]
    expected = np.asarray(function(dp.asarray(x), dp.asarray(y)))
    for found in renderers(function, x, y):
        np.testing.assert_array_equal(found, expected)
        whole = ~np.isnan(expected)
        if name != "extrema":  # of the maximum of 0.0 and -0.0 the sign is open
            np.testing.assert_array_equal(np.signbit(found)[whole], np.signbit(expected)[whole])


ONE_NUMBER = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan tanh sinh cosh asin acos atan asinh acosh atanh erf erfc erfinv "
    "sigmoid".split()
)
TWO_NUMBERS = "pow atan2 hypot logaddexp nextafter".split()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ONE_NUMBER, *TWO_NUMBERS])
def test_elementary_functions_are_the_dialect_s_in_both(name: str, dtype: str) -> None:
    """They are written once: the same bits, over the whole range."""
    x = np.concatenate([np.linspace(-5, 5, 1001), np.geomspace(1e-44, 1e38, 300), [0.0, -0.0, np.inf, -np.inf, np.nan]])
    x = x.astype(dtype)
    function = getattr(dp, name)
    if name in ONE_NUMBER:
        by_llvm, by_numba = renderers(function, x)
    else:
        by_llvm, by_numba = renderers(lambda x, y: function(dp.abs(x), y), x, x[::-1].copy())
    np.testing.assert_array_equal(by_numba, by_llvm)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_whole_powers_are_the_same_in_both(dtype: str) -> None:
    x = np.arange(1, 9).astype(dtype)
    for found in renderers(lambda x: x**5, x):
        np.testing.assert_array_equal(found, x**5)
        assert found.dtype == dtype


def test_a_sum_may_be_reordered_and_nothing_else() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    for found in renderers(lambda x: dp.sum(x), x):
        assert abs(float(found) - x.astype(float).sum()) < 1e-4
    for found in renderers(lambda x: dp.sum(x * 16777216.0 * 16777216.0), np.ones(1000, np.float32)):
        assert found == np.float32(1000) * np.float32(2.0**48)


def test_an_index_out_of_bounds_is_the_same_error() -> None:
    messages = set()
    for renderer in ("llvm", "numba"):
        with dp.config(renderer=renderer, backend="cpu"):
            f = dp.defn(lambda x, i: x[i] * 2)
            with pytest.raises(dp.errors.IndexingError) as caught:
                f(np.ones(5), np.array([1, 4, -6, 9]))
            messages.add(str(caught.value))
    assert len(messages) == 1 and "index -6 is out of bounds for axis 0 of size 5" in messages.pop()


def test_each_renderer_compiles_for_itself() -> None:
    f = dp.defn(lambda x: dp.tanh(x) * 1.25)
    for renderer in ("llvm", "numba", "llvm"):
        with dp.config(renderer=renderer, backend="cpu"):
            f(np.ones(3))
    assert f.cache_info().misses == 2


# -- random graphs --------------------------------------------------------------------------------------------------


def by(renderer: str, graph: Any, inputs: Any, count: int = 1) -> list[np.ndarray]:
    with dp.config(renderer=renderer, threads=count):
        return CpuBackend().compile(graph)(inputs)


@pytest.mark.parametrize("number", range(20))
def test_random_graphs_by_both_renderers(number: int) -> None:
    gradient = number % 4 == 3
    program = draw_program(random.Random(1000 + number).randrange, steps=10, gradient=gradient, smooth=gradient)
    expected = run_reference(program.graph, program.inputs)
    for renderer in ("llvm", "numba"):
        compare(program, by(renderer, program.graph, program.inputs), expected)


@pytest.fixture
def everything_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However small, a step that can be shared is."""
    monkeypatch.setattr(threads, "WORTH", 1e-9)
    monkeypatch.setattr(threads, "LINE", 1)
    yield


@pytest.mark.usefixtures("everything_shared")
def test_random_graphs_on_several_threads() -> None:
    shared = 0
    for number in range(120):
        program = draw_program(random.Random(number).randrange, steps=16, gradient=number % 4 == 3)
        graph = optimize(program.graph)
        steps = lower(graph, 3).steps
        shared += sum(getattr(s, "threads", 1) > 1 for s in steps)
        alone = by("llvm", graph, program.inputs)
        together = [by("llvm", graph, program.inputs, n) for n in (2, 3, 7)]
        for found in together:
            if any(isinstance(s, ProductStep) for s in steps):
                compare(program, found, alone)  # BLAS computes a part of the rows by other loops
                continue
            for ours, theirs in zip(found, alone, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert shared > 100
