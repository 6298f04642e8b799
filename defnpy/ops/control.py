"""``cond``: one of several closed graphs is computed. What a graph reads of the outside is an operand like any other.

Its users call :func:`defnpy.cond` and :func:`defnpy.switch`; the loops stand in ``loops.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import Mismatch
from ..ir.aval import Aval
from ..ir.evaluate import evaluator
from ..ir.expr import Graph
from ..ir.op import Case
from .batching import batch_size, everywhere
from .elementwise import multiply, negative, sin
from .families import special
from .subgraphs import (
    check,
    drawn,
    given,
    has_tangent,
    mask_flags,
    reached,
    returned,
    selected,
    silent,
    traced,
    whole_mask,
)

__all__ = ["cond"]


def _infer(index: Aval, *x: Aval, branches: tuple[Graph, ...]) -> tuple[Aval, ...]:
    if index.dtype.kind not in "iu":
        raise Mismatch(f"the number of the branch must be an integer, not {index}")
    for i, graph in enumerate(branches):
        check(f"branch {i}", graph, x)
        if [(a.shape, a.dtype) for a in returned(graph)] != [(a.shape, a.dtype) for a in returned(branches[0])]:
            raise Mismatch(f"branch {i} and branch 0 give different results")
    lead = len(index.shape)
    for value in (*x, *returned(branches[0])):
        if value.shape[:lead] != index.shape:
            raise Mismatch(f"branches are chosen for {index.shape} examples, but an operand or result is {value}")
    return tuple(returned(branches[0]))


def _vjp(g: Any, y: Any, index: Any, *x: Any, branches: tuple[Graph, ...], ctx: Any) -> list[Any]:
    ends = [part is not None for part in g]
    read = set().union(*[reached(graph, [i for i, end in enumerate(ends) if end]) for graph in branches])
    wrt = [i in read and has_tangent(part) for i, part in enumerate(x)]
    masked = bool(ctx.cotangents)  # or by a selection in a branch
    flags = mask_flags(given(ctx.cotangents))
    pulled = tuple([ctx.vjp_of(silent(graph), wrt, ends, alive=flags, masks=masked) for graph in branches])
    found = cond(
        index, *x, *given(g), *[whole_mask(part) for part in given(ctx.cotangents) if part.masked], branches=pulled
    )
    parts = iter(selected(found) if masked else found)
    return [None, *[next(parts) if moves else None for moves in wrt]]


def _jvp(tangents: Any, y: Any, index: Any, *x: Any, branches: tuple[Graph, ...], ctx: Any) -> Any:
    moving = [t is not None for t in tangents[1:]]
    if not any(moving):
        return None
    quiet = [silent(graph) for graph in branches]
    moves = [any(flags) for flags in zip(*[ctx.jvp_of(graph, moving)[1] for graph in quiet], strict=True)]
    forwards = [ctx.jvp_of(graph, moving, moves)[0] for graph in quiet]
    # The results themselves are known.
    pushed = tuple([Graph(f.inputs, f.outputs[len(y) :], f.effects, f.names) for f in forwards])
    parts = iter(cond(index, *x, *given(tangents[1:]), branches=pushed))
    return [next(parts) if moved else None for moved in moves]


def _batch(batched: Sequence[bool], index: Any, *x: Any, branches: tuple[Graph, ...], ctx: Any) -> Any:
    size = batch_size(batched, (index, *x))
    flags = list(batched[1:])
    if batched[0] or index.shape:
        # Every example gets operands of its own, so that a derivative can leave those out that chose another branch.
        index, x = (every := everywhere(batched, (index, *x)))[0], tuple(every[1:])
        flags = [True] * len(x)
    wanted = [True] * len(branches[0].outputs)
    return cond(index, *x, branches=tuple([ctx.batch_of(graph, flags, size, wanted)[0] for graph in branches]))


_V = Aval((3,), np.dtype("float64"))
_BRANCHES = (
    traced(lambda x, w: [multiply(x, w), negative(w)], _V, _V),
    traced(lambda x, w: [x, sin(multiply(x, x))], _V, _V),
)


@special(
    family="control",
    graphs=["branches"],
    infer=_infer,
    vjp=_vjp,
    jvp=_jvp,
    batch=_batch,
    cases=[Case(drawn(np.int64(i), (3,), (3,)), {"branches": _BRANCHES}) for i in (0, 1)],
)
def cond(index, /, *x, branches):
    """The results of one of ``branches``, closed graphs of equal inputs and outputs: the one with the number ``index``
    (the first one below 0, the last one above). The others are not computed. See :func:`defnpy.cond`.

    With axes, ``index`` chooses for each of many examples. All operands and results have these axes in front then, and
    each branch computes all examples, independent of each other.

    >>> import defnpy as dp
    >>> print(dp.defn(lambda x: dp.cond(x > 0, dp.sqrt, dp.negative, x)).expr(dp.ones(())))
    inputs:
      x                        f32[]
    let:
      a = greater x 0.0        bool[]
      b = where a 0 1          i64[]
      c = cond b x             (f32[])
        branches[0]:
          inputs:
            arg0               f32[]
          let:
            a = sqrt arg0      f32[]
          return a
        branches[1]:
          inputs:
            arg0               f32[]
          let:
            a = negative arg0  f32[]
          return a
      d = item c index=0       f32[]
    return d
    """
    chosen = np.clip(index, 0, len(branches) - 1)
    if chosen.ndim == 0:
        return tuple(evaluator(branches[int(chosen)])(x))
    results = [np.empty(node.shape, node.dtype) for node in branches[0].outputs]
    for i, graph in enumerate(branches):
        if (chosen == i).any():
            for result, value in zip(results, evaluator(graph)(x), strict=True):
                result[chosen == i] = value[chosen == i]
    return tuple(results)
