"""A graph computed for many inputs that differ in one element each, at the cost of what that element reaches.

Most of a numerical gradient is spent on computing the same again. Here every value is known in one of three forms:

- the same for all perturbations, and computed once;
- *touched*: it differs from the unperturbed value, its base, at one index of some axes, so only that slice is computed
  for every perturbation. An element of a matrix touches both axes; a product with it touches a row or a column;
- different everywhere, and then the batching rules take over.

Where an axis is summed over, alone or in a product, the sum of the base is corrected by the change of the touched
slice: x @ (W + h e_ij) = x @ W + h x_i e_j. That, and nothing else, is computed in another order than without
perturbations, so results differ from those by the rounding of sums alone. Where the base is not finite, or so much
larger than what is left of it that its digits are lost, the perturbation is reported as doubtful.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import shapes, tree
from ..ir.expr import Expr, Graph
from ..ir.op import ITEM
from ..ir.trace import Trace, current
from ..ops.batching import repeated
from ..ops.contract import Pairs, dot_general, free_axes
from ..ops.elementwise import abs_, where
from ..ops.gather import gather
from ..ops.linear import broadcast_to, iota, permute_dims, reshape
from ..ops.logic import equal, isfinite, less, logical_and, logical_not, logical_or
from ..ops.reduce import any_
from .stage import is_tensor, operand, stage
from .vmap import batched_node

__all__ = ["at_elements", "perturb"]

LOST = 1e-6  # what a corrected sum may be of its base
_doubts: ContextVar[list[Any]] = ContextVar("doubts")


@dataclass(frozen=True)
class Batched:
    """A value for every perturbation, along a first axis."""

    value: Any


@dataclass(frozen=True)
class Touched:
    """A value that is ``base``, but for one slice of it.

    at: for some axes of ``base``, in order, the index of every perturbation, a tensor (perturbations,).
    value: what stands there, (perturbations, *the other axes of base).
    """

    base: Any
    at: dict[int, Any]
    value: Any

    @property
    def change(self) -> Any:
        """By how much the slice differs from that of the base."""
        return self.value - sliced(self.base, self.at)


def sliced(x: Any, at: dict[int, Any]) -> Any:
    """The slices of ``x`` at the indices ``at``, one per perturbation: (perturbations, *the other axes)."""
    return gather(x, *at.values(), axes=tuple(at))


def _sorted(at: dict[Any, Any]) -> dict[int, Any]:
    return {a: at[a] for a in sorted(at)}


def _rest(ndim: int, at: dict[int, Any]) -> list[int]:
    return [a for a in range(ndim) if a not in at]


def _touched(base: Any, at: dict[int, Any], value: Any) -> Touched | Batched:
    """A touched value in its simplest form: of an axis of size 1 all is touched."""
    whole = [a for a in at if base.shape[a] == 1]
    if whole:
        at = {a: index for a, index in at.items() if a not in whole}
        value = reshape(value, shape=(value.shape[0], *[base.shape[a] for a in _rest(base.ndim, at)]))
    return Touched(base, at, value) if at else Batched(value)


def widened(x: Touched, keep: Sequence[int]) -> Touched | Batched:
    """``x`` with fewer touched axes, those in ``keep``: the slice holds what the base has along the others."""
    dropped = [a for a in x.at if a not in keep]
    if not dropped:
        return x
    at = {a: index for a, index in x.at.items() if a in keep}
    rest = _rest(x.base.ndim, at)
    size = x.value.shape[0]
    here: Any = None
    for a in dropped:
        position = iota(shape=(x.base.shape[a],))
        found = equal(reshape(x.at[a], shape=(size, 1)), position)
        found = reshape(found, shape=(size, *[x.base.shape[b] if b == a else 1 for b in rest]))
        here = found if here is None else logical_and(here, found)
    value = reshape(x.value, shape=(size, *[1 if b in dropped else x.base.shape[b] for b in rest]))
    return _touched(x.base, at, where(here, value, sliced(x.base, at) if at else x.base))


def _all(x: Any) -> Any:
    """A value in full: of every perturbation where they differ."""
    if isinstance(x, Touched):
        x = widened(x, ())
        assert isinstance(x, Batched)
    return x


# -- one rule per kind of op: what it makes of touched operands, the others being the same for all --------------------
# A rule returns None for what it has no answer to; the values are taken in full then.

Rule = Callable[[Expr, Any, list[Any]], "Touched | Batched | None"]


def _elementwise(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    """The op itself, on the slices, when the same axes of the result are touched at the same indices."""
    common: dict[int, Any] | None = None
    for value in x:
        if isinstance(value, Touched):
            at = {a + base.ndim - value.base.ndim: index for a, index in value.at.items()}
            common = at if common is None else {a: i for a, i in common.items() if at.get(a) is i}
    assert common is not None
    operands, batched = [], []
    for value in x:
        lead = base.ndim - (value.base if isinstance(value, Touched) else value).ndim
        if isinstance(value, Touched):
            part = widened(value, [a - lead for a in common])
            slices, given = part.value, True
        else:
            own = {a - lead: index for a, index in common.items() if a >= lead}
            found = {a: index for a, index in own.items() if value.shape[a] > 1}
            slices, given = (sliced(value, found), True) if found else (value, False)
            single = [a for a in own if a not in found]  # the touched axes along which the operand is repeated
            if single:
                kept = [value.shape[a] for a in range(value.ndim) if a not in own]
                slices = reshape(slices, shape=(slices.shape[0], *kept) if given else tuple(kept))
        operands.append(slices)
        batched.append(given)
    assert node.op.batch is not None
    return _touched(base, common, node.op.batch(tuple(batched), *operands, **node.kwargs))


def _permute(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    axes = node.kwargs["axes"]
    at = {new: x[0].at[old] for new, old in enumerate(axes) if old in x[0].at}
    places = _rest(x[0].base.ndim, x[0].at)
    order = [places.index(axes[a]) + 1 for a in _rest(base.ndim, at)]
    return Touched(base, at, permute_dims(x[0].value, axes=(0, *order)))


def _broadcast(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    lead = base.ndim - x[0].base.ndim
    at = {a + lead: index for a, index in x[0].at.items()}
    shape = tuple(base.shape[a] for a in _rest(base.ndim, at))
    size, *own = x[0].value.shape
    value = reshape(x[0].value, shape=(size, *(1,) * (len(shape) - len(own)), *own))
    return Touched(base, at, broadcast_to(value, shape=(size, *shape)))


def _reshape(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    """An axis stays one where as many elements lie before it and behind it as did."""
    if 0 in base.shape:
        return None
    places = {(shapes.size(base.shape[:a]), n): a for a, n in enumerate(base.shape) if n > 1}
    old = x[0].base.shape
    kept = {a: places.get((shapes.size(old[:a]), old[a])) for a in x[0].at}
    part = widened(x[0], [a for a, new in kept.items() if new is not None])
    at = _sorted({} if isinstance(part, Batched) else {kept[a]: index for a, index in part.at.items()})
    size = part.value.shape[0]
    return _touched(base, at, reshape(part.value, shape=(size, *[base.shape[a] for a in _rest(base.ndim, at)])))


def _sum(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    """The base's sum, corrected by the sum of the change where a touched axis is summed over."""
    return _reduced(node, base, x[0], corrected=x[0].base.dtype.kind == "f" and base.dtype.kind == "f")


def _reduction(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    return _reduced(node, base, x[0], corrected=False)


def _reduced(node: Expr, base: Any, x: Touched, corrected: bool) -> Touched | Batched | None:
    axis, keepdims = node.kwargs["axis"], node.kwargs["keepdims"]
    kept = {a: index for a, index in x.at.items() if a not in axis}
    change = corrected and len(kept) < len(x.at)
    if not change:
        part = widened(x, tuple(kept))
        if isinstance(part, Batched):
            return None
        x = part
    slices = x.change if change else x.value
    rest = _rest(x.base.ndim, x.at)
    within = tuple(rest.index(a) + 1 for a in axis if a in rest)
    found = node.op(slices, **{**node.kwargs, "axis": within, "keepdims": False}) if within else slices
    remaining = [a for a in range(x.base.ndim) if a not in axis]
    at = {a if keepdims else remaining.index(a): index for a, index in kept.items()}
    value = reshape(found, shape=(found.shape[0], *[base.shape[a] for a in _rest(base.ndim, at)]))
    return _touched(base, at, _corrected(base, at, value) if change else value)


def _corrected(base: Any, at: dict[int, Any], change: Any) -> Any:
    """The slice of a base, with a change added to it; notes for every perturbation whether that is doubtful."""
    kept = sliced(base, at) if at else base
    result = kept + change
    if result.dtype.kind == "f":
        doubtful = logical_or(logical_not(isfinite(kept)), less(abs_(result), abs_(kept) * LOST))
        whole = broadcast_to(doubtful, shape=result.shape)
        _doubts.get().append(any_(whole, axis=tuple(range(1, result.ndim))) if result.ndim > 1 else whole)
    return result


def _contraction(node: Expr, base: Any, x: list[Any]) -> Touched | Batched | None:
    """A product with a single slice of one operand; where touched axes are contracted, that of its change, added to the
    product of the base."""
    if all(isinstance(value, Touched) for value in x) or base.dtype.kind != "f":
        return None
    one = int(isinstance(x[1], Touched))
    touched, other = x[one], x[1 - one]
    contract: Pairs = node.kwargs["contract"]
    batch: Pairs = node.kwargs["batch"]
    change = any(a in touched.at for a in contract[one])
    # The other operand is sliced along the partners of the touched axes.
    partners = dict(zip(contract[one] + batch[one], contract[1 - one] + batch[1 - one], strict=True))
    other_at = _sorted({partners[a]: index for a, index in touched.at.items() if a in partners})
    slices = [touched.change if change else touched.value, sliced(other, other_at) if other_at else other]
    batched = [True, bool(other_at)]
    places = [_rest(touched.base.ndim, touched.at), _rest(other.ndim, other_at)]
    if one:
        slices, batched, places = slices[::-1], batched[::-1], places[::-1]

    def within(pairs: Pairs) -> Pairs:
        left, right = [], []
        for a, b in zip(*pairs, strict=True):
            if a in places[0]:
                left.append(places[0].index(a))
                right.append(places[1].index(b))
        return tuple(left), tuple(right)

    rule = dot_general.batch
    assert rule is not None
    product = rule(tuple(batched), *slices, contract=within(contract), batch=within(batch))
    free = free_axes(touched.base.ndim, contract[one], batch[one])
    behind = len(batch[0]) + (len(free_axes(other.ndim, contract[0], batch[0])) if one else 0)
    at = {batch[one].index(a): index for a, index in touched.at.items() if a in batch[one]}
    at = _sorted(at | {behind + free.index(a): index for a, index in touched.at.items() if a in free})
    return _touched(base, at, _corrected(base, at, product) if change else product)


_RULES: dict[str, Rule] = {
    "permute_dims": _permute,
    "broadcast_to": _broadcast,
    "reshape": _reshape,
    "sum": _sum,
    "dot_general": _contraction,
}
_FAMILIES: dict[str, Rule] = {"elementwise": _elementwise, "reduction": _reduction}


def _node(trace: Trace, node: Expr, x: list[Any], size: int) -> Any:
    if not any(isinstance(value, (Touched, Batched)) for value in x):
        return trace.copy(node, tuple(x))
    rule = _RULES.get(node.op.name) or _FAMILIES.get(node.op.family)
    if rule is not None and not any(isinstance(value, Batched) for value in x):
        base = trace.copy(node, tuple([value.base if isinstance(value, Touched) else value for value in x]))
        found = rule(node, base, x)
        if found is not None:
            return found
    full = [_all(value) for value in x]
    if node.op is ITEM:
        return Batched(full[0].value[node.kwargs["index"]])
    flags = tuple([isinstance(value, Batched) for value in full])
    values = [value.value if isinstance(value, Batched) else value for value in full]
    return Batched(batched_node(node, flags, values, size))


def perturb(
    trace: Trace, graph: Graph, inputs: Sequence[Any], number: int, indices: Sequence[Any], values: Any
) -> tuple[list[Any], Any]:
    """Copy a closed graph into ``trace``, which is open, computing it for many perturbations of input ``number``.

    indices: for every axis of that input a tensor (perturbations,); values: what stands there instead, of that shape
    too. Returns the outputs, a first axis for the perturbations on all of them, and for every perturbation whether
    they are doubtful (see above).
    """
    size = values.shape[0]
    known: dict[Expr, Any] = {node: trace.lift(x) for node, x in zip(graph.inputs, inputs, strict=True)}
    leaf = graph.inputs[number]
    known[leaf] = _touched(known[leaf], dict(enumerate(map(trace.lift, indices))), trace.lift(values))
    outer_place = trace.place
    doubts: list[Any] = []
    token = _doubts.set(doubts)
    try:
        for node in graph.nodes():
            if node not in known:
                trace.place = node.loc
                known[node] = _node(trace, node, [known[arg] for arg in node.args], size)
    finally:
        trace.place = outer_place
        _doubts.reset(token)
    outputs = [_all(known[node]) for node in graph.outputs]
    doubtful = functools.reduce(logical_or, doubts, broadcast_to(np.False_, shape=(size,)))
    return [x.value if isinstance(x, Batched) else repeated(x, size) for x in outputs], doubtful


def at_elements(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """What ``function`` returns for each of many elements put into the tensor leaf ``number`` of its arguments, and for
    each whether that is doubtful: a function, to be called under a trace, of the arguments, the indices of the elements
    (one tensor per axis) and their values."""

    def perturbed(args: Sequence[Any], indices: Sequence[Any], values: Any) -> Any:
        staged = stage(function, args, {})
        inputs = [*[operand(leaf) for leaf in tree.leaves(tuple(args)) if is_tensor(leaf)], *staged.captured]
        trace = current()
        assert trace is not None
        outputs, doubtful = perturb(trace, staged.graph, inputs, number, indices, values)
        return staged.rebuild(outputs), doubtful

    return perturbed
