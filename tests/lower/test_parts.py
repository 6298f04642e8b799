"""Lowering piece by piece: which nodes share a kernel and where in its loops they stand, passes over a row, loop
nests and their merging, names, sizes and bounds checks."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.render import render
from defnpy.ir.expr import Expr
from defnpy.lower.fuse import INLINE, MEMBERS, Call, Group, Schedule, schedule, viewed
from defnpy.lower.kernel import (
    Bound,
    Buffer,
    Compute,
    Fold,
    FoldStore,
    Kernel,
    Literal,
    Load,
    Loop,
    Position,
    Set,
    Store,
    Term,
    affine,
    collapse,
    identity,
    sizes_in,
    walk,
)
from defnpy.lower.memory import ALIGNMENT, Request, plan
from defnpy.lower.program import KernelStep, ProductStep, identifiers, lower
from defnpy.lower.rows import plan_passes
from defnpy.passes.pipeline import optimize

X = dp.spec((6, 5))
F32 = np.dtype("float32")


def planned(function: Callable[..., Any], *specs: Any) -> Schedule:
    return schedule(optimize(dp.defn(function).expr(*specs)))


def described(plan: Schedule) -> list[str]:
    """One text per kernel or call. A member is followed by the number of loops around it, or by "buffer" for a
    reduction into one; a star marks what is stored in memory."""
    result = []
    for item in plan.items:
        if isinstance(item, Call):
            result.append(f"call {item.node.op.name}")
            continue
        members = []
        for node, depth in item.depth.items():
            where = "buffer" if depth < 0 else str(depth)
            members.append(f"{node.op.name}:{where}{'*' if node in plan.stored else ''}")
        result.append(" ".join([f"{item.space}", *members]))
    return result


# -- scheduling -----------------------------------------------------------------------------------------------------

SCHEDULES: dict[str, tuple[Callable[..., Any], list[Any], list[str]]] = {
    "a chain": (lambda x: dp.exp(x * 2) + 1, [X], ["(6, 5) multiply:2 exp:2 add:2*"]),
    "two results of one chain": (
        lambda x: (dp.exp(x) + 1, dp.exp(x) * 3),
        [X],
        ["(6, 5) exp:2 add:2* multiply:2*"],
    ),
    "softmax": (
        lambda x: dp.softmax(x),
        [X],
        ["(6, 5) max:1 isinf:1 where:1 subtract:2 exp:2 sum:1 divide:2*"],
    ),
    "a loss": (
        lambda x: dp.mean(dp.logsumexp(x, axis=1)),
        [X],
        ["(6, 5) max:1 isinf:1 where:1 subtract:2 exp:2 sum:1 log:1 add:1 sum:0 divide:0*"],
    ),
    "softmax over the first axis": (
        lambda x: dp.softmax(x, axis=0),
        [X],
        [
            "(6, 5) max:buffer*",
            "(1, 5) isinf:2 where:2*",
            "(6, 5) subtract:2 exp:2* sum:buffer*",
            "(6, 5) divide:2*",
        ],
    ),
    "sums of rows and of columns": (
        lambda x: (dp.sum(x, axis=1), dp.sum(x, axis=0)),
        [X],
        ["(6, 5) sum:1* sum:buffer*"],
    ),
    "a number used in all loops": (lambda x: x / dp.sum(x), [X], ["(6, 5) sum:0 divide:2*"]),
    "an axis in the middle": (lambda x: dp.sum(x, axis=1), [dp.spec((2, 3, 4))], ["(2, 3, 4) sum:buffer*"]),
    "the last two axes": (lambda x: dp.sum(x, axis=(1, 2)), [dp.spec((2, 3, 4))], ["(2, 3, 4) sum:1*"]),
    "after a product": (lambda x, y: dp.relu(x @ y.T + 1), [X, X], ["call dot_general", "(6, 6) add:2 relu:2*"]),
    "before a product": (lambda x, y: dp.relu(x) @ y.T, [X, X], ["(6, 5) relu:2*", "call dot_general"]),
    "beside a product": (
        lambda x, y: (dp.exp(x), dp.sum(x @ y.T), dp.sin(x)),
        [X, X],
        ["call dot_general", "(6, 5) exp:2* sin:2*", "(6, 6) sum:0*"],
    ),
    "rows picked from an input": (
        lambda x, i: x[i] * 2,
        [X, dp.spec(3, "int64")],
        ["(3, 5) gather:2 multiply:2*"],
    ),
    "rows picked from what is computed": (
        lambda x, i: dp.exp(x)[i] * 2,
        [X, dp.spec(3, "int64")],
        ["(6, 5) exp:2*", "(3, 5) gather:2 multiply:2*"],
    ),
    "positions picked from an iota": (
        lambda x, i: dp.arange(6, dtype="float32")[i] * dp.max(x),
        [X, dp.spec(3, "int64")],
        ["(6, 5) max:0*", "(3,) gather:1 astype:1 multiply:1*"],
    ),
    "rows picked from a transposed input": (
        lambda x, i: x.T[i] * 2,
        [X, dp.spec(3, "int64")],
        ["(3, 6) gather:2 multiply:2*"],
    ),
    "a copy of a view": (
        lambda x: (x.T, x * 2),
        [X],
        ["(5, 6) permute_dims:2*", "(6, 5) multiply:2*"],
    ),
    "a reshape that mixes the axes": (
        lambda x: dp.reshape(x * 2, (10, 3)) + 1,
        [X],
        ["(6, 5) multiply:2*", "(10, 3) add:2*"],
    ),
    "numbers computed by each reader": (
        lambda x, lr: x * (1 - lr * 2) / (lr + 1),
        [X, dp.spec(())],
        ["(6, 5) multiply:2 divide:2*"],
    ),
    "numbers that are results": (lambda lr: (lr * 2, lr + 1), [dp.spec(())], ["() multiply:0* add:0*"]),
    "a library call in the middle": (
        lambda x: dp.argmax(x * 2, axis=1) + 1,
        [X],
        ["(6, 5) multiply:2*", "call argmax", "(6,) add:1*"],
    ),
    "nothing to compute": (lambda x: (x, x), [X], []),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    function, specs, expected = SCHEDULES[name]
    assert described(planned(function, *specs)) == expected


def test_numbers_are_recomputed_up_to_a_limit() -> None:
    def powers(count: int) -> Callable[..., Any]:
        def function(x: Any, lr: Any) -> Any:
            for _ in range(count):
                lr = dp.sin(lr)
            return x * lr

        return function

    assert len(planned(powers(INLINE), X, dp.spec(())).inline) == INLINE
    plan = planned(powers(INLINE + 1), X, dp.spec(()))
    assert described(plan) == ["() sin:0*", "(6, 5) multiply:2*"]


def test_a_kernel_holds_so_many_nodes_and_no_more() -> None:
    def function(x: Any) -> Any:
        for _ in range(MEMBERS + 10):
            x = dp.sin(x)
        return x

    plan = planned(function, X)
    assert [len(item.depth) for item in plan.items if isinstance(item, Group)] == [MEMBERS, 10]
    compiled = dp.defn(function, backend="cpu")(dp.full((6, 5), 0.5))
    np.testing.assert_allclose(compiled, function(dp.full((6, 5), 0.5)), rtol=1e-5)


def test_every_operand_is_known_before_it_is_read() -> None:
    """In an earlier item, or in the same kernel at the very element, in the same pass over the row or before."""

    def function(x: Any, i: Any) -> Any:
        y = dp.log_softmax(x)
        z = y[i] - dp.mean(x, axis=0)
        return z @ x.T, dp.sum(z, axis=0), dp.max(y)

    plan = planned(function, X, dp.spec(3, "int64"))
    for item in plan.items:
        for node in [item.node] if isinstance(item, Call) else item.depth:
            for arg in node.args:
                base = viewed(arg, ("reshape", "permute_dims", "broadcast_to", "slice", "flip"), plan.place)
                if base in plan.place:
                    assert plan.place[base].position <= item.position
                    if plan.place[base] is item and isinstance(item, Group):
                        assert item.phase[base] <= item.phase[node]
                    else:
                        assert base in plan.stored


# -- passes over a row ----------------------------------------------------------------------------------------------


def passes(function: Callable[..., Any], *specs: Any) -> tuple[list[list[str]], list[str]]:
    """What the only kernel stores or folds in each pass over a row, and what it keeps for a later one."""
    plan = planned(function, *specs)
    (group,) = plan.items
    assert isinstance(group, Group)
    by_pass, spilled = plan_passes(group, plan, {n for n in group.depth if n in plan.stored})
    return [[n.op.name for n in members] for members in by_pass], [n.op.name for n in spilled]


def test_softmax_takes_three_passes_and_keeps_the_exponentials() -> None:
    assert passes(lambda x: dp.softmax(x), X) == ([["max"], ["exp", "sum"], ["divide"]], ["exp"])


def test_log_softmax_computes_nothing_expensive_twice() -> None:
    assert passes(lambda x: dp.log_softmax(x), X) == ([["max"], ["sum"], ["subtract"]], [])


def test_a_cheap_value_is_computed_again() -> None:
    assert passes(lambda x: (x + 1) / dp.sum(x + 1, axis=1, keepdims=True), X) == ([["sum"], ["divide"]], [])


def test_what_is_stored_anyway_is_read_back() -> None:
    def function(x: Any) -> Any:
        y = dp.exp(x)
        return y, y / dp.sum(y, axis=1, keepdims=True)

    assert passes(function, X) == ([["exp", "sum"], ["divide"]], [])
    source = dp.defn(function).source(X)
    assert source.count("math.exp(") == 1


def test_two_sums_share_a_pass() -> None:
    assert passes(lambda x: (dp.sum(x, axis=1), dp.sum(x * x, axis=1)), X) == ([["sum", "sum"]], [])


# -- kernels --------------------------------------------------------------------------------------------------------


def kernel(function: Callable[..., Any], *specs: Any) -> Kernel:
    program = lower(optimize(dp.defn(function).expr(*specs)))
    (step,) = [s for s in program.steps if isinstance(s, KernelStep)]
    return step.emitted.kernel


def run(kernel: Kernel, *arguments: Any) -> int:
    """The printed kernel, as plain Python, over the whole of its parallel loops."""
    namespace: dict[str, Any] = {"np": np, "math": math, "fold_sum": lambda a, b: a + b}
    exec(render(kernel), namespace)
    sizes = dict(zip(kernel.sizes, arguments[len(kernel.buffers) :], strict=True))
    part = [(0, sizes[s.size]) for s in walk(kernel.body) if isinstance(s, Loop) and s.variable == kernel.parallel]
    return namespace[kernel.name](*arguments, *(part[0] if part else ()))


def test_values_that_do_not_change_are_computed_outside_of_the_loop() -> None:
    body = kernel(lambda x, lr, column: x * dp.exp(lr) + column, X, dp.spec(()), dp.spec((6, 1))).body
    assert [type(s) for s in body] == [Load, Compute, Loop]
    outer = body[-1]
    assert isinstance(body[1], Compute) and body[1].op.name == "exp"
    assert isinstance(outer, Loop) and [type(s) for s in outer.body] == [Load, Loop]
    assert isinstance(outer.body[0], Load) and outer.body[0].buffer == "column"


def test_a_reduction_starts_from_its_identity() -> None:
    for name, start in (("sum", 0.0), ("prod", 1.0), ("max", -np.inf), ("min", np.inf)):
        body = kernel(lambda x, name=name: getattr(dp, name)(x, axis=1), X).body
        sets = [s for s in walk(body) if isinstance(s, Set)]
        folds = [s for s in walk(body) if isinstance(s, Fold)]
        assert [s.value for s in sets] == [Literal(F32, np.float32(start))] and [f.kind for f in folds] == [name]


def test_a_reduction_over_the_first_axis_folds_into_its_buffer() -> None:
    made = kernel(lambda x: dp.max(x, axis=0), X)
    fill, fold = made.body
    assert isinstance(fill, Loop) and [type(s) for s in fill.body] == [Store]
    assert [s.kind for s in walk([fold]) if isinstance(s, FoldStore)] == ["max"]
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    out = np.empty(5, np.float32)
    sizes = {"n0": 6, "n1": 5}
    buffers = {"in": x.ravel(), "out": out}
    assert run(made, *[buffers[b.role] for b in made.buffers], *[sizes[s] for s in made.sizes]) == 0
    np.testing.assert_array_equal(out, x.max(axis=0))


def test_an_index_is_checked_and_counted_from_the_end() -> None:
    made = kernel(lambda x, i: x[i], dp.spec(4), dp.spec(2, "int64"))
    assert made.checks and sum(isinstance(s, Bound) for s in walk(made.body)) == 1
    x, out, failed = np.arange(4, dtype=np.float32), np.empty(2, np.float32), np.zeros(1, np.int64)

    def status(*index: int) -> int:
        given = {"x": x, "i": np.array(index), "out": out, "failed_index": failed}
        arguments = [given["out" if b.role == "out" else b.name] for b in made.buffers]
        return run(made, *arguments, *[{"n0": 2}.get(s, 4) for s in made.sizes])

    assert status(3, -4) == 0 and out.tolist() == [3.0, 0.0]
    assert status(0, 4) != 0 and failed[0] == 4
    assert status(-5, 0) != 0 and failed[0] == -5


def test_an_index_that_counts_needs_no_check() -> None:
    made = kernel(lambda x: x[dp.arange(3)] * 2, dp.spec((4, 5)))
    assert not made.checks and not [s for s in walk(made.body) if isinstance(s, (Bound, Position))]


def test_a_kernel_names_the_lines_of_its_user() -> None:
    def function(x: Any) -> Any:
        y = dp.exp(x)
        return y * 2

    made = kernel(function, X)
    assert made.lines == ("y = dp.exp(x)", "return y * 2")
    text = render(made)
    assert text.index("# y = dp.exp(x)") < text.index("math.exp(") < text.index("# return y * 2")
    assert "#" not in render(made, comments=False)


# -- loops merged ---------------------------------------------------------------------------------------------------


def loop(*body: Any, index: int = 0) -> Loop:
    return Loop(f"i{index}", f"n{index}", list(body))


FLAT = (Term("i0", 1, ("n1",)), Term("i1"))


def test_two_loops_over_one_range_of_memory_become_one() -> None:
    products: dict[str, tuple[str, ...]] = {}
    nest = [loop(loop(Load("a", F32, "x", FLAT), Store("y", FLAT, "a"), index=1))]
    (merged,) = collapse(nest, products)
    assert isinstance(merged, Loop)
    assert (merged.variable, merged.size, products) == ("i1", "n0n1", {"n0n1": ("n0", "n1")})
    assert merged.body == [Load("a", F32, "x", (Term("i1"),)), Store("y", (Term("i1"),), "a")]


@pytest.mark.parametrize(
    "index",
    [
        (Term("i1"),),
        (Term("i0"),),
        (Term("i1", 1, ("n0",)), Term("i0")),
        (Term("i0", 1, ("n1",)), Term("i1", 2)),
        (Term("i0", 2, ("n1",)), Term("i1")),
        (Term("i0", 1, ("m2",)), Term("i1")),
        (Term("i0", 1, ("n1",)), Term("i1", -1), Term("", 4)),
    ],
    ids=["row", "column", "transposed", "step", "outer step", "wider", "backwards"],
)
def test_loops_over_other_orders_stay_two(index: tuple[Term, ...]) -> None:
    products: dict[str, tuple[str, ...]] = {}
    nest = [loop(loop(Load("a", F32, "x", index), Store("y", FLAT, "a"), index=1))]
    assert collapse(nest, products) == nest and products == {}


def test_a_loop_that_uses_its_position_stays() -> None:
    nest = [loop(loop(Position("p", F32, (Term("i1"),)), Store("y", FLAT, "p"), index=1))]
    assert collapse(nest, {}) == nest


def test_a_loop_with_more_in_it_than_a_loop_stays() -> None:
    nest = [loop(Load("b", F32, "z", (Term("i0"),)), loop(Store("y", FLAT, "b"), index=1))]
    assert collapse(nest, {}) == nest


def test_indices() -> None:
    index = (Term("i0", 2, ("n1",)), Term("i1"))
    assert affine(index, 3, 4) == (Term("i0", 6, ("n1",)), Term("i1", 3), Term("", 4))
    assert affine((), 3, 0) == () and affine((), 3, 2) == (Term("", 2),)
    assert sizes_in([loop(Store("y", FLAT, "a"), Bound("b", "a", "m3", 1, "failed", True))]) == {"n0", "n1", "m3"}


NUMERIC = [
    (kind, dtype) for kind in ("sum", "prod", "max", "min") for dtype in ("float32", "float64", "int8", "uint32")
]


@pytest.mark.parametrize(("kind", "dtype"), [*NUMERIC, ("any", "bool"), ("all", "bool")])
def test_the_identity_changes_nothing(kind: str, dtype: str) -> None:
    function = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}.get(kind)
    function = function or {"any": np.logical_or, "all": np.logical_and}[kind]
    kept = np.array([0, 1, np.iinfo(dtype).min, np.iinfo(dtype).max] if dtype[0] in "iu" else [0, 1], dtype)
    start = identity(kind, np.dtype(dtype))
    assert start.dtype == dtype
    np.testing.assert_array_equal(function(kept, start.value), kept)


# -- programs -------------------------------------------------------------------------------------------------------


def test_names_are_identifiers_and_all_different() -> None:
    def function(x: Any, n0: Any, range: Any, x_: Any) -> Any:
        return dp.exp(x) * n0 + range - x_ * 2.5

    graph = dp.defn(function).expr(*[dp.ones(2)] * 4)
    names = identifiers(graph)
    assert len(set(names.values())) == len(names) and all(name.isidentifier() for name in names.values())
    assert not {"range", "n0", "np", "lambda"} & set(names.values())


def test_keywords_are_no_names() -> None:
    graph = dp.defn(lambda parameters: parameters["lambda"] + parameters["class"]).expr(
        {"lambda": dp.ones(2), "class": dp.ones(2)}
    )
    with_keywords = type(graph)(graph.inputs, graph.outputs, (), ["class", "lambda"])
    assert set(identifiers(with_keywords).values()) == {"class_", "lambda_", "a"}


def test_sizes_are_arguments_so_that_one_kernel_serves_all_shapes() -> None:
    one = kernel(lambda x, b: dp.sum(x * b, axis=1), dp.spec((6, 5)), dp.spec(5))
    two = kernel(lambda x, b: dp.sum(x * b, axis=1), dp.spec((60, 50)), dp.spec(50))
    assert render(one, comments=False) == render(two, comments=False)


def test_temporaries_are_the_values_that_pass_from_step_to_step() -> None:
    program = lower(optimize(dp.defn(lambda x, y: dp.exp(dp.relu(x) @ y.T) @ x).expr(X, X)))
    assert [type(step) for step in program.steps] == [KernelStep, ProductStep, KernelStep, ProductStep]
    assert sorted(t.shape for t in program.temporaries) == [(6, 5), (6, 6), (6, 6)]
    assert [node.shape for node in program.made] == [(6, 5)]
    assert program.arena == 2 * 192  # two of 6 x 6 numbers of 4 bytes, in units of 64; the third lies in their place


def test_the_arena_holds_what_is_alive_at_once() -> None:
    def function(x: Any, w: Any) -> Any:
        for _ in range(10):
            x = dp.tanh(x @ w)
        return x

    program = lower(optimize(dp.defn(function).expr(dp.spec((8, 8)), dp.spec((8, 8)))))
    assert len(program.temporaries) == 19 and program.arena == 2 * 8 * 8 * 4


def test_memory_is_planned_by_size_at_the_lowest_place() -> None:
    assert plan([]) == ([], 0)
    assert plan([Request(0, 0, 5), Request(0, 0, 5)])[1] == 0
    assert plan([Request(10, 0, 0), Request(10, 1, 1)]) == ([0, 0], ALIGNMENT)
    assert plan([Request(10, 0, 1), Request(10, 1, 2)]) == ([0, ALIGNMENT], 2 * ALIGNMENT)
    # The second is gone when the third comes, the first is not.
    assert plan([Request(64, 0, 2), Request(64, 0, 1), Request(64, 2, 3)]) == ([0, 64, 64], 128)


def test_a_wrong_schedule_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that takes nothing would drop nodes: that is an error, not a wrong answer."""
    fuse = importlib.import_module("defnpy.lower.fuse")
    monkeypatch.setattr(fuse._Scheduler, "_join", lambda self, group, node, space: False)
    with pytest.raises(AssertionError, match="exp does not fit a group of its own"):
        planned(lambda x: dp.exp(x), X)


def test_buffers_say_what_they_are_for() -> None:
    made = kernel(lambda x: dp.softmax(x), X)
    assert [b.role for b in made.buffers] == ["in", "scratch", "out"]
    assert all(isinstance(b, Buffer) and b.dtype == F32 for b in made.buffers)
    program = lower(optimize(dp.defn(lambda x: dp.softmax(x)).expr(X)))
    (step,) = program.steps
    assert isinstance(step, KernelStep)
    assert [b if isinstance(b, int) else b.op.name for b in step.emitted.buffers] == ["parameter", 5, "divide"]
    assert len(step.scratch) == 1 and all(isinstance(b, (int, Expr)) for b in step.emitted.buffers)
