"""Control flow: ops that run closed graphs. What a graph reads of the outside is an operand like any other.

Their users call the functions over containers in ``transforms/control.py``. A loop's values that change from iteration
to iteration are its carries. The rule backwards runs the loop once more, has it keep the carries of all iterations (a
tape), and walks through them in a scan, which is differentiated in the same way: so derivatives of any order are exact,
and their time is linear in the number of iterations. That number may be unknown until the loop has ended; the tape is
an array whose first size is ``DYNAMIC`` then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import DEFAULT_INT, cotangent_dtype
from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.evaluate import evaluator
from ..ir.expr import Expr, Graph
from ..ir.op import Case
from ..ir.trace import tracing
from ..shapes import DYNAMIC
from .elementwise import add, multiply, negative, sin
from .families import special
from .linear import broadcast_to
from .logic import less
from .subgraphs import extended, needed, reached, silent, without_unused

__all__ = ["cond", "scan", "while_loop"]


def _check(what: str, graph: Graph, avals: Sequence[Aval]) -> None:
    """Refuse operands that are not what a graph takes."""
    expected = [(node.shape, node.dtype) for node in graph.inputs]
    found = [(aval.shape, aval.dtype) for aval in avals]
    if found != expected:
        taken = ", ".join(str(node.aval) for node in graph.inputs)
        raise Mismatch(f"{what} takes ({taken}), not ({', '.join(map(str, avals))})")


def _avals(graph: Graph) -> list[Aval]:
    return [node.aval for node in graph.outputs]


def _has_tangent(x: Any) -> bool:
    return cotangent_dtype(x.dtype) is not None


def _zeros(x: Any) -> Any:
    """Zeros in the place of a cotangent of ``x``."""
    dtype = cotangent_dtype(x.dtype)
    assert dtype is not None
    return broadcast_to(dtype.type(0), shape=x.shape)


def _given(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


# -- cond -------------------------------------------------------------------------------------------------------------


def _cond_infer(index: Aval, *x: Aval, branches: tuple[Graph, ...]) -> tuple[Aval, ...]:
    if index.shape != () or index.dtype.kind not in "iu":
        raise Mismatch(f"the number of the branch must be one integer, not {index}")
    for i, graph in enumerate(branches):
        _check(f"branch {i}", graph, x)
    return tuple(_avals(branches[0]))


def _cond_vjp(g: Any, y: Any, index: Any, *x: Any, branches: tuple[Graph, ...], ctx: Any) -> list[Any]:
    given = [part is not None for part in g]
    outputs = [i for i, has_one in enumerate(given) if has_one]
    moved = set().union(*[reached(graph, outputs) for graph in branches])
    wrt = [i in moved and _has_tangent(part) for i, part in enumerate(x)]
    pulled = tuple([ctx.vjp_of(silent(graph), wrt, given) for graph in branches])
    found = iter(cond(index, *x, *_given(g), branches=pulled))
    return [None, *[next(found) if moves else None for moves in wrt]]


def _cond_jvp(tangents: Any, y: Any, index: Any, *x: Any, branches: tuple[Graph, ...], ctx: Any) -> Any:
    moving = [t is not None for t in tangents[1:]]
    if not any(moving):
        return None
    count = len(y)
    moves = [any(flags) for flags in zip(*[ctx.jvp_of(silent(graph), moving)[1] for graph in branches], strict=True)]
    pushed = []
    for graph in branches:
        forwards, found = ctx.jvp_of(silent(graph), moving, moves)
        assert list(found) == moves
        pushed.append(Graph(forwards.inputs, forwards.outputs[count:], forwards.effects, forwards.names))
    parts = iter(cond(index, *x, *_given(tangents[1:]), branches=tuple(pushed)))
    return [next(parts) if moved else None for moved in moves]


def _branch(make: Callable[[Any], Any], shape: tuple[int, ...], dtype: str) -> Graph:
    with tracing() as trace:
        return trace.graph([trace.lift(make(trace.parameter(Aval(shape, np.dtype(dtype)), "x")))])


def _cond_cases() -> list[Case]:
    branches = {dtype: (_branch(lambda x: x * x, (3,), dtype), _branch(lambda x: -x, (3,), dtype)) for dtype in FLOATS}

    def case(number: int) -> Case:
        return Case(lambda rng, dtype: [np.int64(number), rng.standard_normal(3).astype(dtype)], branches)

    return [case(0), case(1)]


@special(
    family="control",
    graphs=["branches"],
    infer=_cond_infer,
    vjp=_cond_vjp,
    jvp=_cond_jvp,
    cases=[],
)
def cond(index, /, *x, branches):
    """The results of one of ``branches``, closed graphs of equal inputs and outputs: the one with the number ``index``
    (the first one below 0, the last one above). The others are not computed. See :func:`defnpy.cond`.

    >>> import defnpy as dp
    >>> print(dp.defn(lambda x: dp.cond(x > 0, dp.sqrt, dp.negative, x)).expr(4.0))
    """
    graph = branches[min(max(int(index), 0), len(branches) - 1)]
    return tuple(evaluator(graph)(x))


# -- while ------------------------------------------------------------------------------------------------------------


def _tapes(graph: Graph, record: Sequence[int], length: int) -> list[Aval]:
    kept = [graph.inputs[j].aval for j in record]
    return [Aval((length, *aval.shape), aval.dtype) for aval in kept]


def _while_infer(*x: Aval, test: Graph, body: Graph, carries: int, record: tuple[int, ...]) -> tuple[Aval, ...]:
    _check("the test", test, x)
    _check("the body", body, x)
    results = _avals(body)
    _check("the next iteration", Graph(body.inputs[:carries], ()), results)
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
    pushed = _Pushed(ctx, {"body": body, "carries": carries, "sequences": 0, "record": record}, tangents)
    again = extended(silent(test), pushed.body, [pushed.order.index(i) for i in range(len(x))])
    found = while_loop(
        *pushed.operands(x), test=again, body=pushed.body, carries=pushed.carries, record=pushed.record
    )  # fmt: skip
    return [*pushed.tangents(found), *[None] * bool(record)]


def _while_cases() -> list[Case]:
    body = traced(lambda x, n, w: [sin(multiply(x, w)), add(n, np.int64(1))], V, N, V)
    test = traced(lambda x, n, w: [less(n, np.int64(3))], V, N, V)
    params = {"test": test, "body": body, "carries": 2}
    return [
        Case(lambda rng, dtype, first=first: [rng.standard_normal(3), np.int64(first), rng.standard_normal(3)], given)
        for first, given in [(0, params), (3, params), (0, {**params, "record": (0,)})]
    ]


@special(
    family="control",
    graphs=["test", "body"],
    normalize=lambda *x, record=(), **params: {**params, "record": tuple(record)},
    infer=_while_infer,
    vjp=_while_vjp,
    jvp=_while_jvp,
    cases=_while_cases(),
)
def while_loop(*x, test, body, carries, record=()):
    """The first ``carries`` operands, replaced by the results of ``body`` as long as ``test`` says true; both graphs
    take all operands. See :func:`defnpy.while_loop`.

    record: numbers of carries whose values at the start of every iteration are results too, stacked; behind them comes
    the number of iterations.

    >>> import defnpy as dp
    >>> print(dp.defn(lambda x: dp.while_loop(lambda x: x < 100, lambda x: 2 * x, x)).expr(3.0))
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


def _scan_infer(
    *x: Aval, body: Graph, carries: int, sequences: int, length: int, reverse: bool, record: tuple[int, ...]
) -> tuple[Aval, ...]:
    if length == DYNAMIC:
        x = x[1:]
    carry, xs, outer = _split(x, carries, sequences)
    for a in xs:
        if not a.shape or a.shape[0] != length:
            raise Mismatch(f"a sequence of {length} iterations cannot be {a}")
    _check("the body", body, [*carry, *[Aval(a.shape[1:], a.dtype) for a in xs], *outer])
    results = _avals(body)
    _check("the next iteration", Graph(body.inputs[:carries], ()), results[:carries])
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
    pushed = _Pushed(ctx, loop, tangents[counted:])
    found = scan(
        *x[:counted], *pushed.operands(x[counted:]), body=pushed.body, carries=pushed.carries,
        sequences=pushed.sequences, length=loop["length"], reverse=loop["reverse"], record=pushed.record,
    )  # fmt: skip
    return pushed.tangents(found)


def _scan_cases() -> list[Case]:
    body = traced(lambda x, row, w: [sin(multiply(x, w)), multiply(x, row)], V, V, V)
    params = {"body": body, "carries": 1, "sequences": 1, "length": 2}
    sizes = [((3,), (2, 3), (3,)), ((3,), (0, 3), (3,))]
    return [
        Case(_normal(*sizes[0]), params),
        Case(_normal(*sizes[0]), {**params, "reverse": True}),
        Case(_normal(*sizes[0]), {**params, "record": (0,)}),
        Case(_normal(*sizes[1]), {**params, "length": 0}),
    ]


@special(
    family="control",
    graphs=["body"],
    normalize=lambda *x, reverse=False, record=(), **params: {
        **params, "reverse": bool(reverse), "record": tuple(record)
    },  # fmt: skip
    infer=_scan_infer,
    vjp=_scan_vjp,
    jvp=_scan_jvp,
    cases=_scan_cases(),
)
def scan(*x, body, carries, sequences, length, reverse=False, record=()):
    """The carries after ``length`` iterations, and what these made beside, stacked. See :func:`defnpy.scan`.

    The operands are the first ``carries``, the next ``sequences``, of which each iteration gets a row, and values of
    the outside; ``body`` gives the next carries and rows of results. Where the length is ``DYNAMIC`` it is the first
    operand. record: numbers of carries whose values at the start of every iteration are results too, stacked.

    >>> import defnpy as dp
    >>> print(dp.defn(lambda xs: dp.scan(lambda c, x: (c + x, c * x), 1.0, xs)).expr(dp.ones(3)))
    """
    count = length
    if length == DYNAMIC:
        count, x = int(x[0]), x[1:]
    carry, xs, outer = _split(x, carries, sequences)
    kept = [*_avals(body)[carries:], *[body.inputs[j].aval for j in record]]
    stacked = [np.empty((count, *a.shape), a.dtype) for a in kept]
    step = evaluator(body)
    for i in reversed(range(count)) if reverse else range(count):
        before = carry
        found = step([*carry, *[rows[i] for rows in xs], *outer])
        carry = found[:carries]
        for rows, value in zip(stacked, [*found[carries:], *[before[j] for j in record]], strict=True):
            rows[i] = value
    return (*carry, *stacked)
