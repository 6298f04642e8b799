"""``while_loop`` and ``scan``: closed graphs that are run again and again.

The values that change from iteration to iteration are a loop's carries; what its graphs read of the outside is an
operand like any other. The rule backwards runs the loop once more, has it keep the carries of all iterations (a tape),
and walks through them in a scan, which is differentiated in the same way: so derivatives of any order are exact, and
their time is linear in the number of iterations. That number may be unknown until the loop has ended: the first size of
a tape is ``DYNAMIC`` then, and the number is an operand of the scan. Their users call the functions over containers in
``transforms/loops.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import DEFAULT_INT, bool_, cotangent_dtype
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.evaluate import evaluator
from ..ir.expr import Expr, Graph
from ..ir.op import Case
from ..ir.trace import tracing
from ..shapes import DYNAMIC
from .batching import batch_size, from_axis, repeated, to_axis
from .control import cond
from .elementwise import add, multiply, sin, subtract, where
from .families import special
from .linear import broadcast_to, zeros_like
from .logic import less, logical_or
from .pushed import Pushed, ranges
from .reduce import any_, max_
from .subgraphs import (
    check,
    drawn,
    extended,
    has_tangent,
    needed,
    parameters,
    reached,
    returned,
    silent,
    traced,
    whole_mask,
    without_unused,
    zeros,
)  # fmt: skip

__all__ = ["scan", "while_loop"]


def _tapes(body: Graph, record: Sequence[int], length: int) -> list[Aval]:
    kept = [body.inputs[j].aval for j in record]
    return [Aval((length, *aval.shape), aval.dtype) for aval in kept]


def _split(x: Sequence[Any], *counts: int) -> list[list[Any]]:
    """The first ``counts[0]`` of the operands, the next ``counts[1]``, ..., and the rest."""
    ends = np.cumsum([0, *counts]).tolist()
    return [list(x[a:b]) for a, b in zip(ends, [*ends[1:], len(x)], strict=True)]


def _pulled_back(
    ctx: Any,
    loop: dict[str, Any],
    g: Sequence[Any],
    x: Sequence[Any],
    recorded: Callable[[Sequence[int]], tuple[Sequence[Any], Sequence[Any]]],
) -> list[Any]:
    """The cotangents of a loop's operands, by a scan through its iterations from the last to the first.

    loop: the parameters of the loop as those of a scan. g: the cotangents of its results; x: the operands that its body
    takes. recorded: gives the number of iterations, where that is an operand, and the values of some carries in all of
    them.

    Where some of the cotangents are masked, all have masks, which go the same way: there are two tracks then.
    """
    body, k, m, record = silent(loop["body"]), loop["carries"], loop["sequences"], loop["record"]
    size, results = len(body.inputs), len(body.outputs)
    tracks = [_GRADIENT, _MASK][: 1 + bool(ctx.cotangents)]
    given = [g, [part and whole_mask(part) for part in ctx.cotangents]][: len(tracks)]
    kept = [j for j, part in zip(record, g[results:], strict=True) if part is not None]
    moved = sorted({*kept, *[j for j in range(k) if g[j] is not None]})
    made = [i for i in range(k, results) if g[i] is not None]
    while True:  # a carry moves in every iteration if it moves in one
        inputs = reached(body, [*moved, *made])
        more = {j for j in inputs if j < k and has_tangent(body.inputs[j])} - {*moved}
        if not more:
            break
        moved = sorted({*moved, *more})
    ends = [i for i in range(results) if i in moved or i in made]
    wrt = [i for i in range(size) if (i in inputs or i in moved) and has_tangent(body.inputs[i])]
    pulled = ctx.vjp_of(
        body,
        [i in wrt for i in range(size)],
        [i in ends for i in range(results)],
        alive=[True] * len(ends) if len(tracks) > 1 else (),
        masks=len(tracks) > 1,
    )
    used = sorted(needed(pulled))
    read, streamed, outer = ranges([i for i in used if i < size], k, m)
    _, summed_rows, summed = ranges(wrt, k, m)
    with tracing() as trace:

        def own(nodes: Sequence[Expr], numbers: Sequence[int], name: str) -> dict[int, Expr]:
            return {i: trace.parameter(nodes[i].aval, f"{name}{i}") for i in numbers}

        def pulled_in(nodes: Sequence[Expr], numbers: Sequence[int], name: str) -> list[dict[int, Expr]]:
            return [
                {i: trace.parameter(Aval(nodes[i].shape, t.dtype(nodes[i])), f"{t.name}{name}{i}") for i in numbers}
                for t in tracks
            ]

        g_carry = pulled_in(body.inputs, moved, "g")
        total = pulled_in(body.inputs, summed, "total")
        values = own(body.inputs, [*read, *streamed], "x")
        g_made = pulled_in(body.outputs, made, "g_y")
        g_kept = pulled_in(body.inputs, kept, "g_x")
        values |= own(body.inputs, outer, "x")
        arriving = [
            here[end] if end < k else rows[end] for here, rows in zip(g_carry, g_made, strict=True) for end in ends
        ]
        values |= {size + i: value for i, value in enumerate(arriving)}
        leaving = trace.inline(without_unused(pulled), [values[i] for i in used])
        carried, added, rows = [], [], []
        for n, track in enumerate(tracks):
            part = dict(zip(wrt, leaving[n * len(wrt) :], strict=False))
            carried += [track.join(part[j], g_kept[n][j]) if j in kept else part[j] for j in moved]
            added += [track.join(total[n][i], part[i]) for i in summed]
            rows += [part[i] for i in summed_rows]
        backwards = trace.graph([trace.lift(value) for value in (*carried, *added, *rows)])
    count, tapes = recorded(read)
    found = scan(
        *count,
        *[t.zeros(x[j]) if of[j] is None else of[j] for t, of in zip(tracks, given, strict=True) for j in moved],
        *[t.zeros(x[i]) for t in tracks for i in summed],
        *tapes,
        *[x[i] for i in streamed],
        *[of[i] for of in given for i in made],
        *[of[results + record.index(j)] for of in given for j in kept],
        *[x[i] for i in outer],
        body=backwards,
        carries=len(carried) + len(added),
        sequences=len(read) + len(streamed) + len(tracks) * (len(made) + len(kept)),
        length=loop["length"],
        reverse=not loop["reverse"],
    )
    places = [(n, i) for numbers in (moved, summed, summed_rows) for n in range(len(tracks)) for i in numbers]
    by_place = dict(zip(places, found, strict=True))
    if len(tracks) == 1:
        return [by_place.get((0, i)) for i in range(size)]
    return [where(by_place[1, i], by_place[0, i], 0) if (0, i) in by_place else None for i in range(size)]


class _Track(NamedTuple):
    """What goes backwards through a loop: the dtype that it has for a value, how two that meet are joined, and what
    there is of a value that nothing depends on."""

    name: str
    dtype: Callable[[Any], Any]
    join: Callable[[Any, Any], Any]
    zeros: Callable[[Any], Any]


_GRADIENT = _Track("", lambda x: cotangent_dtype(x.dtype), add, zeros)
_MASK = _Track("alive_", lambda x: bool_, logical_or, lambda x: broadcast_to(np.False_, shape=x.shape))


def _batched_body(ctx: Any, loop: dict[str, Any], batched: Sequence[bool], size: int) -> tuple[Graph, list[bool]]:
    """The body for many examples, and which of its inputs hold one for each: a carry that does in one iteration does in
    all. What a scan makes, or a loop records, has to."""
    body, k = loop["body"], loop["carries"]
    flags = [given or i in loop["record"] for i, given in enumerate(batched)]
    while True:
        graph, found = ctx.batch_of(body, flags, size, [*flags[:k], *[True] * (len(body.outputs) - k)])
        if found[:k] == flags[:k]:
            return graph, flags
        flags[:k] = found[:k]


def _for_all(flags: Sequence[bool], batched: Sequence[bool], x: Sequence[Any], size: int) -> list[Any]:
    """The operands, repeated where each example needs one of its own."""
    return [repeated(a, size) if f and not b else a for f, b, a in zip(flags, batched, x, strict=True)]


def _only_active(
    ctx: Any, body: Graph, active: Any, flags: Sequence[bool], x: Sequence[Any], carries: int
) -> list[Any]:
    """The results of the body for the examples whose loop goes on; the others keep their carries and make zeros.

    It is a branch for each example, not a choice between values: the body may have no finite derivative where an
    example has stopped, often just there. A branch takes operands of each example's own, so that a derivative can leave
    the stopped ones out.
    """
    size, every = active.shape[0], [True] * len(flags)
    goes, _ = ctx.batch_of(body, every, size, [True] * len(body.outputs))
    with tracing() as trace:
        inputs = parameters(trace, goes)
        stays = trace.graph([*inputs[:carries], *[trace.lift(zeros_like(node)) for node in goes.outputs[carries:]]])
    index = where(active, DEFAULT_INT.type(0), DEFAULT_INT.type(1))
    return list(cond(index, *_for_all(every, flags, x, size), branches=(goes, stays)))


def _while_infer(*x: Aval, test: Graph, body: Graph, carries: int, record: tuple[int, ...]) -> tuple[Aval, ...]:
    check("the test", test, x)
    check("the body", body, x)
    results = returned(body)
    check("the next iteration", Graph(body.inputs[:carries], ()), results)
    counted = [*_tapes(body, record, DYNAMIC), Aval((), DEFAULT_INT)] if record else []
    return (*results, *counted)


def _while_vjp(g: Any, y: Any, *x: Any, test: Graph, body: Graph, carries: int, record: Any, ctx: Any) -> list[Any]:
    def recorded(wanted: Sequence[int]) -> tuple[Sequence[Any], Sequence[Any]]:
        known, results = record, y
        if not record or not set(wanted) <= set(record):
            known = tuple(sorted({*record, *wanted})) or (0,)
            results = while_loop(*x, test=silent(test), body=silent(body), carries=carries, record=known)
        return results[-1:], [results[carries + known.index(j)] for j in wanted]

    loop = {"body": body, "carries": carries, "sequences": 0, "record": record, "length": DYNAMIC, "reverse": False}
    return _pulled_back(ctx, loop, g[: len(y) - bool(record)], x, recorded)


def _while_jvp(tangents: Any, y: Any, *x: Any, test: Graph, body: Graph, carries: int, record: Any, ctx: Any) -> Any:
    pushed = Pushed(ctx, {"body": body, "carries": carries, "sequences": 0, "record": record}, tangents)
    again = extended(silent(test), pushed.body, [pushed.order.index(i) for i in range(len(x))])
    found = while_loop(
        *pushed.operands(x), test=again, body=pushed.body, carries=pushed.carries, record=pushed.record
    )  # fmt: skip
    return [*pushed.tangents(found), *[None] * bool(record)]


def _while_batch(
    batched: Sequence[bool], *x: Any, test: Graph, body: Graph, carries: int, record: tuple[int, ...], ctx: Any
) -> list[Any]:
    size, k = batch_size(batched, x), carries
    loop = {"body": body, "carries": k, "record": record}
    graph, flags = _batched_body(ctx, loop, batched, size)
    again, (differs,) = ctx.batch_of(test, flags, size)
    if not differs:
        found = while_loop(*_for_all(flags, batched, x, size), test=again, body=graph, carries=k, record=record)
        counts = [repeated(found[-1], size)] * bool(record)
    else:  # it goes on as long as one example does, and counts for each
        flags[:k] = [True] * k
        again, _ = ctx.batch_of(test, flags, size)
        with tracing() as trace:
            inputs = parameters(trace, again)
            count = trace.parameter(Aval((size,), DEFAULT_INT), "count")
            (active,) = trace.inline(again, inputs)
            new = _only_active(ctx, body, active, flags, inputs, k)
            counted = add(count, where(active, DEFAULT_INT.type(1), DEFAULT_INT.type(0)))
            step = trace.graph([trace.lift(a) for a in (*new, counted)])
        with tracing() as trace:
            inputs = parameters(trace, again)
            trace.parameter(Aval((size,), DEFAULT_INT), "count")
            goes_on = trace.graph([any_(trace.inline(again, inputs)[0])])
        order = [*range(k), len(flags), *range(k, len(flags))]
        step, goes_on = (Graph([g.inputs[i] for i in order], g.outputs, g.effects) for g in (step, goes_on))
        operands = _for_all(flags, batched, x, size)
        operands.insert(k, zeros_like(count, (size,)))
        found = while_loop(*operands, test=goes_on, body=step, carries=k + 1, record=record)
        counts = [found[k]] * bool(record)
        found = [*found[:k], *found[k + 1 :]]
    results = [a if flags[j] else repeated(a, size) for j, a in enumerate(found[:k])]
    return [*results, *[from_axis(tape, 1) for tape in found[k : k + len(record)]], *counts]


_V, _N = Aval((3,), np.dtype("float64")), Aval((), DEFAULT_INT)


def _while_cases() -> list[Case]:
    body = traced(lambda x, n, w: [sin(multiply(x, w)), add(n, np.int64(1))], _V, _N, _V)
    test = traced(lambda x, n, w: [less(n, np.int64(3))], _V, _N, _V)
    params: dict[str, Any] = {"test": test, "body": body, "carries": 2}
    return [
        Case(drawn((3,), np.int64(0), (3,)), params),
        Case(drawn((3,), np.int64(3), (3,)), params),
    ]


@special(
    family="control",
    graphs=["test", "body"],
    normalize=lambda *x, record=(), **params: {**params, "record": tuple(record)},
    infer=_while_infer,
    vjp=_while_vjp,
    jvp=_while_jvp,
    batch=_while_batch,
    cases=_while_cases(),
)
def while_loop(*x, test, body, carries, record=()):
    """The first ``carries`` operands, replaced by the results of ``body`` as long as ``test`` says true; both graphs
    take all operands. See :func:`defnpy.while_loop`.

    record: numbers of carries whose values at the start of every iteration are results too, stacked; behind them comes
    the number of iterations.

    >>> import defnpy as dp
    >>> print(dp.defn(lambda x: dp.while_loop(lambda x: x < 100, lambda x: 2 * x, x)).expr(dp.ones(())))
    inputs:
      x                                     f32[]
    let:
      a = while_loop x carries=1 record=()  (f32[])
        body:
          inputs:
            x                               f32[]
          let:
            a = multiply 2.0 x              f32[]
          return a
        test:
          inputs:
            x                               f32[]
          let:
            a = less x 100.0                bool[]
          return a
      b = item a index=0                    f32[]
    return b
    """
    again, step = evaluator(test), evaluator(body)
    carry, outer = list(x[:carries]), x[carries:]
    tapes: list[list[Any]] = [[] for _ in record]
    count = 0
    while again([*carry, *outer])[0]:
        for tape, j in zip(tapes, record, strict=True):
            tape.append(carry[j])
        carry = step([*carry, *outer])
        count += 1
    kept = [body.inputs[j].aval for j in record]
    rows = [np.array(tape, a.dtype).reshape(count, *a.shape) for tape, a in zip(tapes, kept, strict=True)]
    return (*carry, *rows, *[np.int64(count)] * bool(record))


def _scan_normalize(*x: Aval, reverse: bool = False, record: Sequence[int] = (), **params: Any) -> dict[str, Any]:
    return {**params, "reverse": bool(reverse), "record": tuple(record)}


def _scan_infer(
    *x: Aval, body: Graph, carries: int, sequences: int, length: int, reverse: bool, record: tuple[int, ...]
) -> tuple[Aval, ...]:
    if length == DYNAMIC:
        x = x[1:]
    carry, xs, outer = _split(x, carries, sequences)
    for a in xs:
        if not a.shape or length not in (DYNAMIC, a.shape[0]):
            raise Mismatch(f"a sequence of {length} iterations cannot be {a}")
    check("the body", body, [*carry, *[Aval(a.shape[1:], a.dtype) for a in xs], *outer])
    results = returned(body)
    check("the next iteration", Graph(body.inputs[:carries], ()), results[:carries])
    made = [Aval((length, *a.shape), a.dtype) for a in results[carries:]]
    return (*results[:carries], *made, *_tapes(body, record, length))


def _scan_vjp(g: Any, y: Any, *x: Any, ctx: Any, **loop: Any) -> list[Any]:
    counted = loop["length"] == DYNAMIC
    results, record = len(loop["body"].outputs), loop["record"]

    def recorded(wanted: Sequence[int]) -> tuple[Sequence[Any], Sequence[Any]]:
        known, found = record, y
        if not set(wanted) <= set(record):
            known = tuple(sorted({*record, *wanted}))
            found = scan(*x, **{**loop, "body": silent(loop["body"]), "record": known})
        return x[:counted], [found[results + known.index(j)] for j in wanted]

    return [None] * counted + _pulled_back(ctx, loop, g, x[counted:], recorded)


def _scan_jvp(tangents: Any, y: Any, *x: Any, ctx: Any, **loop: Any) -> list[Any]:
    counted = loop["length"] == DYNAMIC
    pushed = Pushed(ctx, loop, tangents[counted:])
    found = scan(
        *x[:counted], *pushed.operands(x[counted:]), body=pushed.body, carries=pushed.carries,
        sequences=pushed.sequences, length=loop["length"], reverse=loop["reverse"], record=pushed.record,
    )  # fmt: skip
    return pushed.tangents(found)


def _scan_batch(batched: Sequence[bool], *x: Any, ctx: Any, **loop: Any) -> list[Any]:
    size, k, m = batch_size(batched, x), loop["carries"], loop["sequences"]
    counted = loop["length"] == DYNAMIC
    counts, differ = x[:counted], any(batched[:counted])
    batched, x = batched[counted:], x[counted:]
    graph, flags = _batched_body(ctx, loop, [*[b or differ for b in batched[:k]], *batched[k:]], size)
    operands = _for_all(flags, batched, x, size)
    for i in range(k, k + m):
        if flags[i]:
            operands[i] = to_axis(operands[i], 1)
    if differ:  # the number of iterations is that of the example with most; the place is counted along
        with tracing() as trace:
            inputs = parameters(trace, graph)
            place = trace.parameter(Aval((), DEFAULT_INT), "place")
            ends = trace.parameter(Aval((size,), DEFAULT_INT), "ends")
            active = less(place, ends)
            new = _only_active(ctx, loop["body"], active, flags, inputs, k)
            following = add(place, DEFAULT_INT.type(-1 if loop["reverse"] else 1))
            step = trace.graph([trace.lift(a) for a in (*new[:k], following, *new[k:])])
        order = [*range(k), len(flags), *range(k, len(flags)), len(flags) + 1]
        graph = Graph([step.inputs[i] for i in order], step.outputs, step.effects)
        longest = max_(counts[0], axis=(0,))
        first = subtract(longest, DEFAULT_INT.type(1)) if loop["reverse"] else DEFAULT_INT.type(0)
        operands = [*operands[:k], first, *operands[k:], counts[0]]
        counts = (longest,)
    found = list(scan(*counts, *operands, **{**loop, "body": graph, "carries": k + differ}))
    if differ:
        del found[k]
    results = [a if flags[j] else repeated(a, size) for j, a in enumerate(found[:k])]
    return [*results, *[from_axis(a, 1) for a in found[k:]]]


def _scan_cases() -> list[Case]:
    body = traced(lambda x, row, w: [sin(multiply(x, w)), multiply(x, row)], _V, _V, _V)
    params = {"body": body, "carries": 1, "sequences": 1, "length": 2}
    sizes = [((3,), (2, 3), (3,)), ((3,), (0, 3), (3,))]
    return [
        Case(drawn(*sizes[0]), params),
        Case(drawn(*sizes[0]), {**params, "reverse": True}),
        Case(drawn(*sizes[0]), {**params, "record": (0,)}),
        Case(drawn(*sizes[1]), {**params, "length": 0}),
    ]


@special(
    family="control",
    graphs=["body"],
    normalize=_scan_normalize,
    infer=_scan_infer,
    vjp=_scan_vjp,
    jvp=_scan_jvp,
    batch=_scan_batch,
    cases=_scan_cases(),
)
def scan(*x, body, carries, sequences, length, reverse=False, record=()):
    """The carries after ``length`` iterations, and what these made beside, stacked. See :func:`defnpy.scan`.

    The operands are the first ``carries``, the next ``sequences``, of which each iteration gets a row, and values of
    the outside; ``body`` gives the next carries and rows of results. Where the length is ``DYNAMIC`` it is the first
    operand. record: numbers of carries whose values at the start of every iteration are results too, stacked.

    >>> import defnpy as dp
    >>> print(dp.defn(lambda xs: dp.scan(lambda c, x: (c + x, c * x), 1.0, xs)).expr(dp.ones(3)))
    inputs:
      xs                                                                      f32[3]
    let:
      a = scan 1.0 xs carries=1 length=3 record=() reverse=False sequences=1  (f32[], f32[3])
        body:
          inputs:
            c                                                                 f32[]
            x                                                                 f32[]
          let:
            a = add c x                                                       f32[]
            b = multiply c x                                                  f32[]
          return a, b
      b = item a index=0                                                      f32[]
      c = item a index=1                                                      f32[3]
    return b, c
    """
    count = length
    if length == DYNAMIC:
        count, x = int(x[0]), x[1:]
    carry, xs, outer = _split(x, carries, sequences)
    kept = [*returned(body)[carries:], *[body.inputs[j].aval for j in record]]
    stacked = [np.empty((count, *a.shape), a.dtype) for a in kept]
    step = evaluator(body)
    for i in reversed(range(count)) if reverse else range(count):
        before = carry
        found = step([*carry, *[rows[i] for rows in xs], *outer])
        carry = found[:carries]
        for rows, value in zip(stacked, [*found[carries:], *[before[j] for j in record]], strict=True):
            rows[i] = value
    return (*carry, *stacked)
