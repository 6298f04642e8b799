"""Which loops may be cut into parts, and how many threads share them."""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.driver import readable
from defnpy.backends.cpu.render import render
from defnpy.lower.kernel import Fold, FoldStore, Kernel, Literal, Load, Loop, Set, Store, Term
from defnpy.lower.kernel import parallel_variable as shared_variable
from defnpy.lower.program import KernelStep, ProductStep, lower
from defnpy.lower.threads import LINE, MOST, crew
from defnpy.passes.pipeline import optimize
from tests.properties.programs import Mathematics, Program, compare, draw_program, run_reference

F32 = np.dtype("float32")
X = dp.spec((600, 500))


def steps(function: Callable[..., Any], *specs: Any, threads: int = 4) -> list[Any]:
    return lower(optimize(dp.defn(function).expr(*specs)), threads).steps


def step(function: Callable[..., Any], *specs: Any, threads: int = 4) -> KernelStep:
    (found,) = steps(function, *specs, threads=threads)
    assert isinstance(found, KernelStep)
    return found


def loops(kernel: Kernel) -> list[tuple[str, str]]:
    def walk(body: list[Any]) -> list[tuple[str, str]]:
        return [pair for s in body if isinstance(s, Loop) for pair in [(s.variable, s.size), *walk(s.body)]]

    return walk(kernel.body)


# -- which variable -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "specs", "variable", "extent"),
    [
        (lambda x: x * 2, [X], "i1", 300_000),
        (lambda x, b: x + b, [X, dp.spec(500)], "i0", 600),
        (lambda x: dp.softmax(x), [X], "i0", 600),
        (lambda x: dp.sum(x, axis=1), [X], "i0", 600),
        (lambda x: dp.sum(x, axis=0), [X], "i1", 500),
        (lambda x: (dp.relu(x), dp.sum(dp.relu(x), axis=0)), [X], "i1", 500),
        (lambda x: x + dp.permute_dims(x, (1, 0)), [dp.spec((600, 600))], "i0", 600),
        (lambda x, i: x[i], [X, dp.spec(70, "int64")], "i0", 70),
        (lambda x: dp.sum(x, axis=1), [dp.spec((20, 30, 40))], "i0", 20),
        (lambda x: dp.sum(x, axis=(0, 1)), [dp.spec((20, 30, 40))], "i2", 40),
        (lambda x: dp.sum(x), [dp.spec((30, 40))], "", 1),
        (lambda x: (x * 2, dp.sum(x)), [dp.spec((30, 40))], "", 1),
        (lambda x: x / dp.sum(x), [dp.spec((30, 40))], "", 1),
        (lambda x: (dp.sum(x, axis=0), dp.sum(x, axis=1)), [X], "", 1),
    ],
    ids=["elements", "rows", "softmax", "row sums", "column sums", "rows and column sums", "transposed", "gather",
         "middle axis", "first axes", "total", "elements and total", "divided by the total", "both sums"],
)  # fmt: skip
def test_what_is_shared(function: Callable[..., Any], specs: list[Any], variable: str, extent: int) -> None:
    found = step(function, *specs)
    assert (found.emitted.kernel.parallel, found.extent) == (variable, extent)
    assert variable == "" or variable in [v for v, _ in loops(found.emitted.kernel)]


def at(*variables: str) -> tuple[Term, ...]:
    return tuple(Term(v) for v in variables)


LOAD, TOTAL = Load("a", F32, "x", at("i0")), Set("total", Literal(F32, F32.type(0)))


@pytest.mark.parametrize(
    ("body", "variable"),
    [
        ([Loop("i0", "n0", [LOAD, Store("y", at("i0"), "a")])], "i0"),
        ([], ""),
        ([Store("y", (), "a")], ""),
        # Two loops over one variable are cut at the same places, so both must be of one size.
        ([Loop("i0", "n0", [Store("y", at("i0"), "a")]), Loop("i0", "n0", [Store("z", at("i0"), "a")])], "i0"),
        ([Loop("i0", "n0", [Store("y", at("i0"), "a")]), Loop("i0", "n1", [Store("z", at("i0"), "a")])], ""),
        # Every part would do what stands outside.
        ([Loop("i0", "n0", [Store("y", at("i0"), "a")]), Store("z", (), "a")], ""),
        ([Loop("i0", "n0", [Store("y", at("i0"), "a")]), Loop("i1", "n1", [Store("z", at("i1"), "a")])], ""),
        ([LOAD, Loop("i0", "n0", [Store("y", at("i0"), "a")])], "i0"),
        # All iterations write to one place.
        ([Loop("i0", "n0", [LOAD, Store("y", (Term("", 3),), "a")])], ""),
        ([Loop("i0", "n0", [LOAD, FoldStore("y", (), F32, "sum", "a")])], ""),
        ([Loop("i0", "n0", [Loop("i1", "n1", [FoldStore("y", at("i1"), F32, "sum", "a")])])], "i1"),
        ([Loop("i0", "n0", [Loop("i1", "n1", [Store("row", at("i1"), "a"), Store("y", at("i0"), "a")])])], "i0"),
        # A total that lives through the iterations.
        ([TOTAL, Loop("i0", "n0", [LOAD, Fold("total", F32, "sum", "a")]), Store("y", (), "total")], ""),
        ([TOTAL, Loop("i0", "n0", [LOAD, Fold("total", F32, "sum", "a"), Store("y", at("i0"), "total")])], ""),
        ([Loop("i0", "n0", [TOTAL, Loop("i1", "n1", [Fold("total", F32, "sum", "a")]), Store("y", at("i0"), "total")])],
         "i0"),
    ],
)  # fmt: skip
def test_by_hand(body: list[Any], variable: str) -> None:
    assert shared_variable(body, frozenset({"row"})) == variable


def test_a_buffer_that_is_no_scratch_is_shared_by_the_parts() -> None:
    body: list[Any] = [Loop("i0", "n0", [Loop("i1", "n1", [Store("row", at("i1"), "a")]), Store("y", at("i0"), "a")])]
    assert shared_variable(body, frozenset({"row"})) == "i0"
    assert shared_variable(body, frozenset()) == ""


# -- how many -------------------------------------------------------------------------------------------------------


def test_small_steps_are_not_shared() -> None:
    for shape in ((), (1,), (10,), (100, 10)):
        assert step(lambda x: x * 2 + 1, dp.spec(shape)).threads == 1
    assert step(lambda x: x * 2 + 1, dp.spec((1 << 20,))).threads == 4
    assert step(lambda x: x * 2 + 1, dp.spec((1 << 20,)), threads=1).threads == 1
    assert step(lambda x: x * 2 + 1, dp.spec((1 << 20,)), threads=64).threads <= 64


def test_no_more_parts_than_a_word_can_count() -> None:
    assert step(lambda x: x + 1, dp.spec((10**8,)), threads=10**6).threads == MOST


def test_no_more_threads_than_parts() -> None:
    found = step(lambda x: dp.softmax(x), dp.spec((3, 100_000)), threads=16)
    assert (found.extent, found.threads, found.grain) == (3, 3, 1)
    assert step(lambda x: x * 2, dp.spec(0)).threads == 1
    empty = step(lambda x, b: x + b, dp.spec((0, 500_000)), dp.spec(500_000))
    assert (empty.extent, empty.threads) == (0, 1)


def test_dear_ops_are_shared_earlier_than_cheap_ones() -> None:
    def smallest(function: Callable[..., Any]) -> int:
        return next(n for n in range(6, 30) if step(function, dp.spec(1 << n)).threads > 1)

    assert smallest(lambda x: dp.exp(dp.sin(dp.exp(dp.sin(x))))) < smallest(lambda x: x + 1)


def test_parts_of_a_flat_range_are_whole_cache_lines() -> None:
    found = step(lambda x: x * 2, dp.spec(1_000_000))
    assert found.grain == LINE


def test_products_are_shared_by_size() -> None:
    def made(m: int, n: int, k: int, threads: int = 4) -> int:
        (found,) = steps(lambda x, y: x @ y, dp.spec((m, k)), dp.spec((k, n)), threads=threads)
        assert isinstance(found, ProductStep)
        assert found.threads == crew(found.product, threads)
        return found.threads

    assert made(4, 4, 4) == 1 and made(1000, 1000, 1000) == 4 and made(1000, 1000, 1000, threads=1) == 1


def test_each_thread_has_scratch_rows_of_its_own() -> None:
    for count in (1, 4):
        program = lower(optimize(dp.defn(lambda x: dp.softmax(x)).expr(X)), count)
        (row,) = program.temporaries
        assert row.shape[0] == count and row.shape[1] >= 500 and row.shape[1] * 4 % 64 == 0


def test_a_large_total_is_folded_in_parts_that_do_not_depend_on_the_threads() -> None:
    programs = [lower(optimize(dp.defn(lambda x: dp.sum(x * x)).expr(dp.spec(1_000_003))), n) for n in (1, 4)]
    for program, count in zip(programs, (1, 4), strict=True):
        parts, fold = program.steps
        assert isinstance(parts, KernelStep) and isinstance(fold, KernelStep)
        assert parts.emitted.kernel.parallel and parts.threads == count and fold.threads == 1
    sizes = [dict(zip(p.steps[0].emitted.kernel.sizes, p.steps[0].emitted.sizes, strict=True)) for p in programs]  # type: ignore[union-attr]
    assert sizes[0] == sizes[1] and sizes[0]["n_parts"] * sizes[0]["n_part"] <= 1_000_003


@pytest.mark.parametrize("shape", [(0,), (0, 7), (7, 0), (0, 300_000), (300_000, 0)])
def test_a_total_of_nothing(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    for columns in ((), (3,)):
        total = dp.defn(lambda x, c=columns: dp.sum(dp.broadcast_to(-x, (*c, *x.shape))), backend="cpu")(x)
        assert total.item() == 0


# -- cut by hand: the parts in any order give what the whole gives ----------------------------------------------------


def run_in_parts(program: Program, rng: random.Random) -> list[np.ndarray]:
    """The printed program, every kernel called for its parts one by one, in any order, with rubbish in the scratch."""
    lowered = lower(program.graph)
    scope: dict[str, Any] = {}
    exec("import math\nimport numpy as np\n" + importlib.import_module("defnpy.backends.cpu.prelude").SOURCE, scope)
    scope["math"] = Mathematics()
    for node in program.graph.nodes():
        scope.setdefault(node.op.name, node.op.body)
    for item in lowered.steps:
        if isinstance(item, KernelStep):
            kernel = item.emitted.kernel
            exec(render(kernel), scope)
            scope[kernel.name] = _cut(scope[kernel.name], kernel, rng)
    exec(readable(lowered), scope)
    with np.errstate(all="ignore"):
        return [np.asarray(y) for y in scope["program"](*program.inputs)]


def _cut(whole: Callable[..., int], kernel: Kernel, rng: random.Random) -> Callable[..., int]:
    if not kernel.parallel:
        return whole

    def call(*arguments: Any) -> int:
        *given, first, last = arguments
        cuts = sorted({first, last, *[rng.randint(first, last) for _ in range(2)]})
        parts = list(itertools.pairwise(cuts)) or [(first, last)]
        rng.shuffle(parts)
        for part in parts:
            for buffer, array in zip(kernel.buffers, given, strict=False):
                if buffer.role == "scratch" and not buffer.name.endswith("failed_index"):
                    array[...] = 77
            status = whole(*given, *part)
            if status:
                return status
        return 0

    return call


def test_parts_in_any_order_give_the_whole() -> None:
    counts = {"cut": 0, "scratch": 0, "fold": 0}
    for number in range(250):
        rng = random.Random(number)
        program = draw_program(rng.randrange, steps=16, gradient=number % 3 == 0, smooth=number % 3 == 0)
        compare(program, run_in_parts(program, rng), run_reference(program.graph, program.inputs))
        for item in lower(program.graph).steps:
            if isinstance(item, KernelStep) and item.emitted.kernel.parallel:
                text = repr(item.emitted.kernel.body)
                counts["cut"] += 1
                counts["scratch"] += any(b.role == "scratch" for b in item.emitted.kernel.buffers)
                counts["fold"] += "FoldStore" in text
    assert all(count >= 10 for count in counts.values()), counts


def test_a_wrong_cut_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """That every outer loop may be cut is not true, and the test above sees it."""
    emit = importlib.import_module("defnpy.lower.emit")

    def always(body: list[Any], scratch: frozenset[str]) -> str:
        return next((s.variable for s in body if isinstance(s, Loop)), "")

    monkeypatch.setattr(emit, "parallel_variable", always)
    with pytest.raises(AssertionError):
        test_parts_in_any_order_give_the_whole()
