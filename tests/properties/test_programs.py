"""Random programs: whatever is done to a graph, it must go on computing what it computed.

Most programs run as the printed source, in plain Python over guarded buffers: that takes a millisecond, and shows a
wrong index at once. A few are compiled. ``HYPOTHESIS_PROFILE=long`` draws thousands of each.
"""

from __future__ import annotations

import importlib
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import defnpy as dp
from defnpy.backends.cpu.render import canonical
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.op import REGISTRY
from defnpy.ir.trace import current
from defnpy.lower.fuse import FILLED, Group, schedule
from defnpy.lower.memory import ALIGNMENT, Request, plan
from defnpy.lower.program import CallStep, KernelStep, lower
from defnpy.passes.pipeline import optimize
from defnpy.tensor import wrap
from defnpy.testing import GradientCheckError, check_grads
from tests.properties.programs import (
    Program,
    check_memory,
    compare,
    draw_program,
    run_compiled,
    run_readable,
    run_reference,
)

simplification = importlib.import_module("defnpy.passes.simplify")
RULES = simplification.RULES

# A drawn program may not depend on an input.
pytestmark = pytest.mark.filterwarnings("ignore::defnpy.testing.VacuousCheckWarning")

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def examples(count: int) -> settings:
    """So many examples; in the long profile as many as it asks for."""
    return settings(
        max_examples=settings.default.max_examples if LONG else count,
        suppress_health_check=[*HealthCheck],  # a program is a large thing to draw
    )


@st.composite
def programs(draw: st.DrawFn, steps: int = 10, **kind: bool) -> Program:
    """A random program of up to ``steps`` steps."""
    return draw_program(lambda n: draw(st.integers(0, n - 1)), steps=steps, **kind)


@st.composite
def special_programs(draw: st.DrawFn, steps: int) -> Program:
    """A random program over inputs with NaN, infinities and both zeros in them."""
    program = draw(programs(steps))
    undefined = [n for n in program.graph.nodes() if n.op.name == "astype" and n.dtype.kind in "iu"]
    assume(not any(n.args[0].dtype.kind == "f" for n in undefined))  # no library says which integer NaN becomes
    inputs = [x.copy() for x in program.inputs]
    for x in inputs:
        if x.dtype.kind == "f" and x.size:
            for _ in range(draw(st.integers(0, 2))):
                place = draw(st.integers(0, x.size - 1))
                x.reshape(-1)[place] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 0.0]))
    return Program(program.graph, inputs, program.tolerance)


def numbered(number: int, steps: int = 12, **kind: bool) -> Program:
    """A random program by its number, the same on every run: for the tests that count what programs contain."""
    rng = random.Random(number)
    return draw_program(rng.randrange, steps=steps, **kind)


def check(program: Program, graph: Graph, run: Callable[..., list[np.ndarray]]) -> None:
    """``graph``, made from the program's, computes what that does."""
    compare(program, run(graph, program.inputs), run_reference(program.graph, program.inputs))


# -- the backends against the reference -----------------------------------------------------------------------------


@given(programs(steps=30))
@examples(600)
def test_the_printed_program_gives_the_references_answer(program: Program) -> None:
    check(program, program.graph, run_readable)


@given(programs(steps=12, gradient=True, smooth=True))
@examples(150)
def test_the_printed_gradient_gives_the_references_answer(program: Program) -> None:
    check(program, program.graph, run_readable)
    check(program, optimize(program.graph), run_readable)


@given(programs(steps=20))
@examples(60)
def test_the_compiled_program_gives_the_references_answer(program: Program) -> None:
    check(program, optimize(program.graph), run_compiled)


@given(programs(steps=12, gradient=True, smooth=True))
@examples(25)
def test_the_compiled_gradient_gives_the_references_answer(program: Program) -> None:
    check(program, optimize(program.graph), run_compiled)


@given(special_programs(steps=16))
@examples(200)
def test_special_numbers_give_the_references_answer(program: Program) -> None:
    check(program, optimize(program.graph), run_reference)
    check(program, optimize(program.graph), run_readable)


# -- the passes keep the reference's answer -------------------------------------------------------------------------


@given(programs(steps=30))
@examples(400)
def test_the_passes_keep_the_answer(program: Program) -> None:
    graph = optimize(program.graph)
    check(program, graph, run_reference)
    check(program, graph, run_readable)


@given(programs(steps=12, gradient=True, smooth=True))
@examples(150)
def test_the_passes_keep_the_answer_of_gradients(program: Program) -> None:
    check(program, optimize(program.graph), run_reference)


@given(program=programs(steps=20))
@examples(60)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_alone_keeps_the_answer(rule: Any, program: Program) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplification, "RULES", (rule,))
        graph = optimize(program.graph)
    check(program, graph, run_reference)


@given(programs(steps=20))
@examples(100)
def test_a_simple_graph_stays_as_it_is(program: Program) -> None:
    once = optimize(program.graph)
    assert dp.debug.show(optimize(once)) == dp.debug.show(once)


# -- gradients against differences ----------------------------------------------------------------------------------


def as_function(program: Program) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """A program as a function of its float inputs, and those; it can be traced, hence differentiated."""
    floats = [i for i, x in enumerate(program.inputs) if x.dtype.kind == "f"]

    def function(*xs: Any) -> Any:
        every: list[Any] = list(program.inputs)
        for i, x in zip(floats, xs, strict=True):
            every[i] = x
        trace = current()
        if trace is not None:
            return trace.inline(program.graph, every)
        return [wrap(y) for y in run_reference(program.graph, [np.asarray(x) for x in every])]

    return function, [program.inputs[i] for i in floats]


@given(programs(steps=15, smooth=True))
@examples(250)
def test_gradients_agree_with_differences(program: Program) -> None:
    function, inputs = as_function(program)
    check_grads(function, inputs, order=2)


@given(programs(steps=10, smooth=True, gradient=True))
@examples(60)
def test_a_drawn_gradient_is_that_of_the_function(program: Program) -> None:
    """``backward`` on a graph gives what ``grad`` of the function gives."""
    loss, *found = run_reference(program.graph, program.inputs)
    forward = Graph(program.graph.inputs, program.graph.outputs[:1], (), program.graph.names)

    def function(*xs: Any) -> Any:
        trace = current()
        assert trace is not None
        return trace.inline(forward, xs)[0]

    assume(program.differentiated)
    value, expected = dp.value_and_grad(function, program.differentiated)(*program.inputs)
    np.testing.assert_allclose(value, loss, rtol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


# -- the memory plan ------------------------------------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Temporaries of any sizes and lifetimes."""
    result = []
    for _ in range(draw(st.integers(0, 12))):
        first = draw(st.integers(0, 8))
        result.append(Request(draw(st.integers(0, 400)), first, first + draw(st.integers(0, 5))))
    return result


@given(requests())
@examples(150)
def test_live_temporaries_never_overlap(wanted: list[Request]) -> None:
    offsets, total = plan(wanted)
    assert total <= sum(-(-r.size // ALIGNMENT) * ALIGNMENT for r in wanted)
    for i, (request, offset) in enumerate(zip(wanted, offsets, strict=True)):
        assert offset % ALIGNMENT == 0
        assert 0 <= offset <= offset + request.size <= total
        for other, at in list(zip(wanted, offsets, strict=True))[:i]:
            if request.first <= other.last and other.first <= request.last and request.size and other.size:
                assert offset + request.size <= at or at + other.size <= offset


@given(programs(steps=30))
@examples(150)
def test_temporaries_of_a_program_never_overlap(program: Program) -> None:
    check_memory(lower(optimize(program.graph)))


# -- the programs themselves ----------------------------------------------------------------------------------------

NUMBERED = 250


def test_the_programs_reach_what_they_are_there_for() -> None:
    """Many ops, every rule, every way to fold, several passes over a row, scratch memory, shared memory."""
    ops: Counter[str] = Counter()
    fired: Counter[str] = Counter()
    shapes: Counter[str] = Counter()

    def counted(rule: Any) -> Any:
        def wrapper(trace: Any, node: Expr) -> Any:
            result = rule(trace, node)
            fired[rule.__name__] += result is not None and result is not node
            return result

        wrapper.__name__ = rule.__name__
        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplification, "RULES", tuple(map(counted, RULES)))
        for number in range(NUMBERED):
            program = numbered(number, 25)
            ops.update(node.op.name for node in program.graph.nodes())
            optimize(program.graph)
            if number % 2:
                program = numbered(number, 12, gradient=True, smooth=True)
            lowered = lower(optimize(program.graph))
            shapes["reused memory"] += lowered.arena < sum(
                int(np.prod(t.shape)) * t.dtype.itemsize for t in lowered.temporaries
            )
            for step in lowered.steps:
                if not isinstance(step, KernelStep):
                    shapes["library call" if isinstance(step, CallStep) else "product"] += 1
                    continue
                shapes["scratch row"] += bool(step.scratch)
                shapes["bounds check"] += step.emitted.kernel.checks
                shapes["several results"] += sum(b.role == "out" for b in step.emitted.kernel.buffers) > 1
            for item in _groups(program.graph):
                shapes["several passes"] += max(item.phase.values(), default=0) > 1
                shapes["fold into a buffer"] += FILLED in item.depth.values()
                shapes["number after all loops"] += bool(item.split) and 0 in item.depth.values()
    for number in range(4 * NUMBERED):  # the table is long
        ops.update(node.op.name for node in numbered(number, 25, table=True).graph.nodes())
    # A repeated operand comes from vmap of a product alone, which these programs do not hold.
    assert [rule.__name__ for rule in RULES if not fired[rule.__name__]] == ["repeated_operand"]
    never = {"threefry2x32", "erfinv", "print_value"}  # random bits, one function of many, a side effect
    families = ("reduction", "movement", "contraction", "library", "matrices")
    reached = {op.name for op in REGISTRY.values() if op.family in families}
    assert reached - set(ops) - never == set()
    assert len(shapes) == 9 and all(count >= 3 for count in shapes.values()), shapes


def _groups(graph: Graph) -> list[Any]:
    return [item for item in schedule(optimize(graph)).items if isinstance(item, Group)]


# -- planted faults: each property catches what it is there for --------------------------------------------------------


def caught(check: Callable[[int], None], error: type[Exception] = AssertionError) -> bool:
    """Whether one of the numbered programs fails the check."""
    for number in range(NUMBERED):
        try:
            check(number)
        except error:
            return True
    return False


def check_passes(number: int) -> None:
    program = numbered(number)
    check(program, optimize(program.graph), run_reference)


def check_printed(number: int) -> None:
    program = numbered(number)
    check(program, program.graph, run_readable)


def check_gradient(number: int) -> None:
    function, inputs = as_function(numbered(number, smooth=True))
    check_grads(function, inputs, order=1)


def wrong_clip(trace: Any, node: Expr) -> Any:
    """The bounds do not matter."""
    return node.args[0] if node.op.name == "clip" and node.args[0].aval == node.aval else None


def wrong_flip(trace: Any, node: Expr) -> Any:
    """The order of the elements does not matter."""
    return node.args[0] if node.op.name == "flip" else None


def wrong_negation(trace: Any, node: Expr) -> Any:
    """What is not smaller is larger."""
    if node.op.name != "logical_not" or node.args[0].op.name != "less":
        return None
    x, y = node.args[0].args
    return REGISTRY["less"](y, x)


@pytest.mark.parametrize("rule", [wrong_clip, wrong_flip, wrong_negation], ids=lambda rule: rule.__name__)
def test_a_wrong_rule_is_caught(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not caught(check_passes)
    monkeypatch.setattr(simplification, "RULES", (*RULES, rule))
    assert caught(check_passes)


def test_a_wrong_gradient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not caught(check_gradient, GradientCheckError)
    monkeypatch.setattr(REGISTRY["gather"], "vjp", lambda g, y, x, *indices, axes: (x * 0, *[None] * len(indices)))
    assert caught(check_gradient, GradientCheckError)


def test_a_wrong_template_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not caught(check_printed)
    dialect = importlib.import_module("defnpy.backends.cpu.dialect")
    dialect._template.cache_clear()
    try:
        monkeypatch.setattr(REGISTRY["less"], "scalar", "{x} <= {y}")
        assert caught(check_printed)
    finally:
        dialect._template.cache_clear()


def test_temporaries_in_one_place_are_caught() -> None:
    def crowded(number: int) -> None:
        program = lower(numbered(number, 25).graph)
        for temporary in program.temporaries:
            temporary.offset = 0
        check_memory(program)

    assert caught(crowded)


def test_an_index_out_of_bounds_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One element too many, which NumPy's own indexing would forgive where it is negative."""
    emit = importlib.import_module("defnpy.lower.emit")
    original = emit._Emitter._flat

    def beyond(self: Any, node: Expr, index: Any) -> Any:
        return (*original(self, node, index), emit.Term("", -1))

    monkeypatch.setattr(emit._Emitter, "_flat", beyond)
    assert caught(check_printed)


# -- what random programs have found --------------------------------------------------------------------------------


def ramp(*shape: int) -> dp.Tensor:
    return dp.asarray(np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape) / 4)


FIRST = dp.asarray([0])

FOUND: dict[str, tuple[Callable[..., Any], Sequence[dp.Tensor]]] = {
    "a sum of row values beside the sum of one element": (
        lambda x, y: dp.sum(dp.sum(x, axis=1) * 2) + dp.sum(y),
        [ramp(4, 3), ramp(1)],
    ),
    "a product over an axis that was folded to one": (
        lambda x: dp.prod(dp.min(dp.max(x, axis=1, keepdims=True), axis=(0, 1), keepdims=True), axis=1),
        [ramp(4, 3)],
    ),
    "the exponential of a sum of a sum of means": (
        lambda x: dp.sum(dp.exp(dp.sum(dp.mean(x, axis=1), axis=0, keepdims=True) * 0.1)),
        [ramp(4, 3)],
    ),
    "a mean of a sum of means": (
        lambda x: dp.mean(dp.sum(dp.mean(x, axis=1), axis=0, keepdims=True)),
        [ramp(4, 3)],
    ),
    "a reshape of a broadcast": (lambda x: dp.reshape(dp.broadcast_to(x, (2, 2, 3)), (4, 3)), [ramp(2, 3)]),
    "a reshape of an empty slice": (lambda x: dp.reshape(x[1:1, :4], (0, 2, 2)), [ramp(1, 9)]),
    "a reshape of a slice in steps": (lambda x: dp.reshape(x[::2], (-1,)), [ramp(4, 4)]),
    "a product with a flipped number": (
        lambda x, y: dp.outer(y, dp.reshape(dp.flip(x, axis=()), (1,))),
        [ramp(), ramp(3)],
    ),
    "a library call on a flipped number": (lambda x: dp.argmax(dp.flip(x)), [ramp()]),
    "a library call on a number": (lambda x: dp.argmax(x), [ramp()]),
    "a library call on no axes": (lambda x: dp.argmax(x, axis=(), keepdims=True), [ramp()]),
    "an element of sums that the same loops make": (lambda x, i: dp.sum(x, axis=1)[i], [ramp(1, 4), FIRST]),
    "a column of sums that the same loops make": (
        lambda x, i, w: dp.sum(dp.reshape(dp.sum(x, axis=2, keepdims=True), (1, 1))[:, i] * w),
        [ramp(1, 1, 4), FIRST, ramp(1, 1)],
    ),
    "the exponential of an element of a sum": (
        lambda x, i: dp.exp(dp.sum(x, axis=0, keepdims=True)[i]),
        [ramp(4), FIRST],
    ),
    "an element of a column of sums": (
        lambda x, i: dp.exp(dp.sum(x * x, axis=1, keepdims=True)[:, 0][i]),
        [ramp(1, 4), FIRST],
    ),
    "zero times NaN, where one operand is a single number": (
        lambda x, y: (x @ y, y.T @ x),
        [dp.asarray([[0.0]]), dp.asarray([[np.nan, 1.0, np.inf]])],
    ),
    "two copies of one view": (lambda x: (x.T, dp.flip(x.T), dp.reshape(x.T, (-1,))), [ramp(3, 2)]),
    "an output named twice, and an input": (lambda x: (x, x * 2, x * 2, x), [ramp(3)]),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_by_random_programs(name: str) -> None:
    function, inputs = FOUND[name]
    expected = dp.tree.leaves(function(*inputs))
    compiled = dp.defn(function, backend="cpu").compile(*inputs)
    printed = run_readable(compiled.graph, [np.asarray(x) for x in inputs])
    for found in (dp.tree.leaves(compiled(*inputs)), printed):
        for y, z in zip(found, expected, strict=True):
            assert np.shape(y) == z.shape
            np.testing.assert_allclose(y, z, rtol=1e-6)


@pytest.mark.parametrize("again", [False, True], ids=["computed twice", "stored"])
def test_the_maximum_of_a_row_is_one_of_its_elements(again: bool) -> None:
    """Contracting a * b + c in one of two loops made a row's maximum equal to none of its elements: NaN gradients."""
    rng = np.random.default_rng(0)
    a, b, c = [dp.asarray(rng.standard_normal((4, 8)).astype(np.float32)) for _ in range(3)]

    def loss(c: Any, a: Any, b: Any) -> Any:
        product = a * b
        most = dp.sum(dp.max(product + c, axis=1))
        return most + dp.sum(product * product) if again else most

    gradient = np.asarray(dp.grad(dp.defn(loss, backend="cpu"))(c, a, b))
    np.testing.assert_array_equal(np.sort(gradient, axis=1)[:, :-1], 0)
    np.testing.assert_array_equal(gradient.max(axis=1), 1)
    np.testing.assert_array_equal(gradient.argmax(axis=1), np.argmax(np.asarray(a * b + c), axis=1))


def test_every_kernel_of_a_program_is_compiled_once() -> None:
    """Programs that differ in names only share their kernels."""
    first = lower(dp.defn(lambda x, y: dp.exp(x) + y).expr(ramp(3), ramp(3)))
    second = lower(dp.defn(lambda left, right: dp.exp(left) + right).expr(ramp(5), ramp(5)))
    texts = {
        canonical(step.emitted.kernel) for p in (first, second) for step in p.steps if isinstance(step, KernelStep)
    }
    assert len(texts) == 1
