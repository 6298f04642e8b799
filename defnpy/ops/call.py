"""Calls of closed graphs whose derivative is another than that of what they compute: ``checkpoint`` computes again what
it needs, ``custom_vjp`` and ``custom_jvp`` follow a rule of the user's. Once all differentiation is done, a call is
replaced by what it computes: see ``passes/inline.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import GradientError
from ..ir.aval import Aval, Avals
from ..ir.evaluate import evaluator
from ..ir.expr import Expr, Graph
from ..ir.op import Case
from ..ir.trace import Trace, current
from .batching import batch_size, everywhere, repeated
from .elementwise import add, cos, exp, multiply, sin, tanh
from .families import special
from .subgraphs import (
    check,
    drawn,
    given,
    has_tangent,
    mask_flags,
    returned,
    selected,
    silent,
    traced,
    whole_mask,
    zeros,
)

__all__ = ["POLICIES", "after", "checkpoint", "custom_jvp", "custom_vjp"]


@special(
    family="after",
    infer=lambda x, gate: x,
    vjp=lambda g, y, x, gate: (g, None),
    jvp=lambda tangents, y, x, gate: tangents[0],
    batch=lambda batched, x, gate: (
        after(x, gate) if batched[0] else repeated(after(x, gate), batch_size(batched, (x, gate)))
    ),
    cases=[Case(drawn((2, 3), (4,)))],
)
def after(x, gate=None, /):
    """``x``, to be computed with once ``gate`` is known: what is computed of it is not what was computed of x before,
    even if it is the same, and so need not be kept until then.

    >>> import defnpy as dp
    >>> after(dp.asarray([1.0, 2.0]), dp.asarray(5.0))
    Tensor([1., 2.], dtype=float32)
    """
    return np.asarray(x)


# -- checkpoint -------------------------------------------------------------------------------------------------------

# By name, which of the values on the way forward are kept for the way back; the others are computed again.
POLICIES: dict[str, Callable[[Expr], bool]] = {
    "nothing": lambda node: False,
    "dots": lambda node: node.op.family in ("contraction", "convolution"),
    "everything": lambda node: True,
}


def _infer(*x: Aval, graph: Graph, **others: Any) -> tuple[Aval, ...]:
    check("the graph", graph, x[: len(graph.inputs)])
    return tuple(returned(graph))


def _checkpoint_vjp(g: Any, y: Any, *x: Any, graph: Graph, policy: str, ctx: Any) -> list[Any]:
    wrt = [has_tangent(value) for value in x]
    strict = any(part.strict for part in given(ctx.cotangents))
    ends, flags = [part is not None for part in g], mask_flags(given(ctx.cotangents))
    pulled = ctx.vjp_of(silent(graph), wrt, ends, alive=flags, masks=strict)
    found = _again(
        pulled, x, [*given(g), *[whole_mask(part) for part in given(ctx.cotangents) if part.masked]], POLICIES[policy]
    )
    parts = iter(selected(found) if strict else found)
    return [next(parts) if moves else None for moves in wrt]


def _again(pulled: Graph, x: Sequence[Any], g: Sequence[Any], keep: Callable[[Expr], bool]) -> list[Any]:
    """A graph of values ``x`` and cotangents ``g``, in which what depends on x alone is computed a second time, but for
    what is kept."""
    trace = current()
    assert trace is not None
    cotangents = [trace.lift(value) for value in g]
    first = {node: trace.lift(value) for node, value in zip(pulled.inputs, x, strict=False)}
    second = {node: trace.lift(after(value, cotangents[0])) for node, value in first.items()}
    second.update(zip(pulled.inputs[len(x) :], cotangents, strict=True))
    for node in pulled.nodes():
        if node in second:
            continue
        if all(arg in first for arg in node.args):
            first[node] = _copy(trace, node, first)
        if node in first and (not node.args or isinstance(node.aval, Avals)):  # the latter is read by its items alone
            second[node] = first[node]
        elif node in first and keep(node):
            second[node] = trace.lift(after(first[node], cotangents[0]))
        else:
            second[node] = _copy(trace, node, second)
    return [second[node] for node in pulled.outputs]


def _copy(trace: Trace, node: Expr, new: dict[Expr, Expr]) -> Expr:
    return trace.copy(node, tuple([new[arg] for arg in node.args]))


def _checkpoint_jvp(tangents: Any, y: Any, *x: Any, graph: Graph, policy: str, ctx: Any) -> Any:
    forwards, moved = ctx.jvp_of(silent(graph), [t is not None for t in tangents])
    parts = iter(checkpoint(*x, *given(tangents), graph=forwards, policy=policy)[len(y) :])
    return [next(parts) if has_one else None for has_one in moved]


def _checkpoint_batch(batched: Sequence[bool], *x: Any, graph: Graph, policy: str, ctx: Any) -> Any:
    size, wanted = batch_size(batched, x), [True] * len(graph.outputs)
    return checkpoint(*x, graph=ctx.batch_of(graph, batched, size, wanted)[0], policy=policy)


_V = Aval((3,), np.dtype("float64"))


@special(
    family="call",
    graphs=["graph"],
    infer=_infer,
    vjp=_checkpoint_vjp,
    jvp=_checkpoint_jvp,
    batch=_checkpoint_batch,
    cases=[
        Case(
            drawn((3,), (3,)),
            {"graph": traced(lambda x, w: [sin(multiply(exp(x), w)), tanh(w)], _V, _V), "policy": policy},
        )
        for policy in POLICIES
    ],
)
def checkpoint(*x, graph, policy):
    """The results of ``graph``. Of what is on the way to them its derivative keeps what ``policy`` names. See
    :func:`defnpy.checkpoint`.

    >>> import defnpy as dp
    >>> dp.grad(dp.checkpoint(lambda x: dp.sin(dp.exp(x))))(0.0)
    Tensor(0.5403023, dtype=float32)
    """
    return tuple(evaluator(graph)(x))


# -- rules of the user's ----------------------------------------------------------------------------------------------
#
# Operands are the tensors of the arguments, then what the function reads of the outside, then what its rule reads.


def _custom_vjp(g: Any, y: Any, *x: Any, graph: Graph, backward: Graph, wrt: tuple[bool, ...], ctx: Any) -> list[Any]:
    trace = current()
    assert trace is not None
    cotangents = [
        zeros(result) if part is None else part for part, result in zip(g, y, strict=True) if has_tangent(result)
    ]
    own, extra = x[: len(wrt)], x[len(graph.inputs) :]
    parts = iter(trace.inline(backward, [*cotangents, *y, *own, *extra]))
    return [*[next(parts) if moves else None for moves in wrt], *[None] * (len(x) - len(wrt))]


def _custom_vjp_batch(
    batched: Sequence[bool], *x: Any, graph: Graph, backward: Graph, wrt: tuple[bool, ...], ctx: Any
) -> Any:
    graphs = [_batched(ctx, part, batch_size(batched, x)) for part in (graph, backward)]
    return custom_vjp(*everywhere(batched, x), graph=graphs[0], backward=graphs[1], wrt=wrt)


def _batched(ctx: Any, graph: Graph, size: int) -> Graph:
    """The graph for many examples, all inputs and outputs of which have one each."""
    made: Graph = ctx.batch_of(graph, [True] * len(graph.inputs), size, [True] * len(graph.outputs))[0]
    return made


@special(
    family="call",
    graphs=["graph", "backward"],
    infer=_infer,
    vjp=_custom_vjp,
    batch=_custom_vjp_batch,
    cases=[
        Case(
            drawn((3,), (3,)),
            {
                "graph": traced(lambda x, w: [multiply(sin(x), w)], _V, _V),
                "backward": traced(
                    lambda g, y, x, w: [multiply(g, multiply(cos(x), w)), multiply(g, sin(x))], _V, _V, _V, _V
                ),
                "wrt": (True, True),
            },
        )
    ],
)
def custom_vjp(*x, graph, backward, wrt):
    """The results of ``graph``. Its rule backwards is another graph, of the cotangents of the results, the results, and
    the first ``len(wrt)`` operands; it gives the cotangents of those that ``wrt`` marks. See :func:`defnpy.custom_vjp`.

    >>> import defnpy as dp
    >>> twice = dp.custom_vjp(lambda g, y, x: 2 * g)(lambda x: x)
    >>> dp.grad(twice)(1.0)
    Tensor(2., dtype=float32)
    """
    return tuple(evaluator(graph)(x[: len(graph.inputs)]))


def _custom_jvp(tangents: Any, y: Any, *x: Any, graph: Graph, forward: Graph, wrt: tuple[bool, ...], ctx: Any) -> Any:
    trace = current()
    assert trace is not None
    own, extra = x[: len(wrt)], x[len(graph.inputs) :]
    pairs = zip(tangents[: len(wrt)], own, wrt, strict=True)
    along = [zeros(value) if t is None else t for t, value, moves in pairs if moves]
    if all(t is None for t in tangents[: len(wrt)]):
        return [None] * len(y)
    parts = iter(trace.inline(forward, [*along, *y, *own, *extra]))
    return [next(parts) if has_tangent(result) else None for result in y]


def _custom_jvp_vjp(
    g: Any, y: Any, *x: Any, graph: Graph, forward: Graph, wrt: tuple[bool, ...], ctx: Any
) -> list[Any]:
    """The transpose of the rule forwards."""
    trace = current()
    assert trace is not None
    own, extra = x[: len(wrt)], x[len(graph.inputs) :]
    count = sum(wrt)
    ends = [part is not None for part, result in zip(g, y, strict=True) if has_tangent(result)]
    pulled = ctx.vjp_of(forward, [i < count for i in range(len(forward.inputs))], ends)
    if not set(pulled.inputs[:count]).isdisjoint(pulled.nodes()):
        raise GradientError(
            "custom_jvp: the rule is not linear in the tangents", hint="a derivative is: multiply them, add them"
        )
    unread = [zeros(value) for value, moves in zip(own, wrt, strict=True) if moves]
    parts = iter(trace.inline(pulled, [*unread, *y, *own, *extra, *given(g)]))
    return [*[next(parts) if moves else None for moves in wrt], *[None] * (len(x) - len(wrt))]


def _custom_jvp_batch(
    batched: Sequence[bool], *x: Any, graph: Graph, forward: Graph, wrt: tuple[bool, ...], ctx: Any
) -> Any:
    graphs = [_batched(ctx, part, batch_size(batched, x)) for part in (graph, forward)]
    return custom_jvp(*everywhere(batched, x), graph=graphs[0], forward=graphs[1], wrt=wrt)


@special(
    family="call",
    graphs=["graph", "forward"],
    infer=_infer,
    vjp=_custom_jvp_vjp,
    jvp=_custom_jvp,
    batch=_custom_jvp_batch,
    cases=[
        Case(
            drawn((3,), (3,)),
            {
                "graph": traced(lambda x, w: [multiply(sin(x), w)], _V, _V),
                "forward": traced(
                    lambda dx, dw, y, x, w: [add(multiply(multiply(dx, cos(x)), w), multiply(dw, sin(x)))],
                    _V,
                    _V,
                    _V,
                    _V,
                    _V,
                ),
                "wrt": (True, True),
            },
        )
    ],
)
def custom_jvp(*x, graph, forward, wrt):
    """The results of ``graph``. Its rule forwards is another graph, of the tangents of the operands that ``wrt`` marks,
    the results, and the first ``len(wrt)`` operands; it gives the tangents of the results. See
    :func:`defnpy.custom_jvp`.

    >>> import defnpy as dp
    >>> twice = dp.custom_jvp(lambda tangents, y, x: 2 * tangents[0])(lambda x: x)
    >>> dp.grad(twice)(1.0)
    Tensor(2., dtype=float32)
    """
    return tuple(evaluator(graph)(x[: len(graph.inputs)]))
