"""Reverse-mode differentiation: one walk backwards over a graph, one un-broadcast, one table of rules (the ops')."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from ..dtypes import bool_, cotangent_dtype
from ..errors import GradientError
from ..ir.aval import Aval, Avals
from ..ir.expr import Expr, Graph, Value, subgraphs, topological
from ..ir.op import ITEM, Op
from ..ir.trace import Trace, aval_of, current, tracing
from ..ops.convert import astype
from ..ops.elementwise import where
from ..ops.linear import broadcast_to
from ..source import capture, quote
from .cotangent import Cotangent, guarded
from .finite import Facts, calm, facts, is_tame
from .masks import is_moving, is_product, product_rule, spread, without_dead
from .stage import REGISTER, by_position, is_tensor, keeps_tensors, operand, parameter_names, stage

__all__ = [
    "Reverse",
    "ValueAndGrad",
    "backward",
    "chosen",
    "context",
    "finished",
    "value_and_gradient",
    "vjp_of",
    "zeros",
]


class ValueAndGrad(NamedTuple):
    """What :func:`value_and_grad` returns: the function's result and the gradient."""

    value: Any
    grad: Any


def backward(
    trace: Trace,
    outputs: Sequence[Expr],
    cotangents: Sequence[Any],
    wrt: Sequence[Expr],
    guard: bool = True,
) -> list[Any]:
    """The cotangents of ``wrt``, given those of ``outputs``; None for a node that the outputs do not depend on.

    guard: whether products below a ``where`` leave out what is dead.
    All nodes belong to ``trace``, which is open; the new nodes are recorded in it, at the place in the user's code of
    the forward node that they come from.
    """
    return [None if g is None else g.value for g in _masked_backward(trace, outputs, cotangents, wrt, guard)]


def _masked_backward(
    trace: Trace, outputs: Sequence[Expr], cotangents: Sequence[Any], wrt: Sequence[Expr], guard: bool = True
) -> list[Cotangent | None]:
    """:func:`backward`, with the masks."""
    order = topological(outputs)
    active = set(wrt)
    for node in order:
        if any(arg in active for arg in node.args):
            active.add(node)
    found: dict[Expr, Any] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        _accumulate(found, output, cotangent if isinstance(cotangent, Cotangent) else Cotangent(cotangent))
    targets = set(wrt)
    known = functools.cache(lambda: facts(order))  # asked for where a selection is met
    still = functools.cache(lambda: calm(order))
    outer_place = trace.place
    try:
        for node in reversed(order):
            g = found.get(node)
            if g is None or node not in active or node in targets:
                continue
            trace.place = node.loc
            if node.op is ITEM:  # its cotangent waits for those of the other results
                (several,) = node.args
                assert isinstance(several.aval, Avals)
                found.setdefault(several, [None] * len(several.aval.parts))[node.kwargs["index"]] = g
            elif node.op.vjp is not None:  # an op without a rule is flat (see its declaration): nothing flows back
                for arg, part in zip(node.args, _pulled(trace, node, g, active, known, still, guard), strict=True):
                    fitted = part.fitted(arg) if part is not None and arg in active else None
                    if fitted is not None:
                        _accumulate(found, arg, fitted)
        return [found.get(node) for node in wrt]
    finally:
        trace.place = outer_place


def _pulled(
    trace: Trace,
    node: Expr,
    g: Any,
    active: Container[Expr],
    known: Callable[[], dict[Expr, Facts]],
    still: Callable[[], Container[Expr]],
    guard: bool,
) -> list[Cotangent | None]:
    """The cotangents of a node's operands, before they are fitted to those. g: its own, several for several results."""
    op, x, params = node.op, node.args, node.kwargs
    assert op.vjp is not None
    if op.family == "elementwise":
        masked = g.masked and (g.strict or _may_spoil(node, known()))
        parts = op.vjp(g.bare if masked else g.value, node, *x, **params)
        return [None if part is None else Cotangent.of(part, node).within(g, masked) for part in parts]
    several = isinstance(node.aval, Avals)
    outer = [part for part in g if part is not None] if several else [g]
    values = tuple([part and part.value for part in g]) if several else g.value
    y: Any = trace.items(node) if several else node
    runs = op.name == "checkpoint" or op.family == "control"
    strict = any(part.strict for part in outer) or (runs and _selects(node))
    ones = [part.whole for part in outer]
    one = bool(ones) and all(part is not None for part in ones)
    own = not one and (op.name == "checkpoint" or (op.family == "control" and strict))  # its graphs compute masks
    rule = functools.partial(op.vjp, **params, **context(op, Reverse(g if own else ())))
    if one or own or op.family == "control" or not outer or not all(part.masked for part in outer):
        users = op.name == "custom_vjp"  # a selection in the rule is the user's own
        parts = [
            None if part is None else Cotangent.of(part, node, users or (own and strict))
            for part in rule(values, y, *x)
        ]
        return guarded(parts, ones) if one else [part and part.clean() for part in parts] if own else parts
    alive = spread(node, outer)
    if is_product(op):
        wild = [arg not in still() for arg in x] if strict and guard else []
        parts = product_rule(node, g, alive, [arg in active for arg in x], any(wild)) if wild else rule(values, y, *x)
        spoils = False
    else:
        spoils = not is_moving(op) and (strict or _may_spoil(node, known()))
        parts = rule(values, *(without_dead(node, y, alive) if spoils else (y, *x)))
    through = [Cotangent(None, functools.partial(alive, i), None, strict) for i in range(len(parts))]
    pairs = zip(parts, through, strict=True)
    return [None if part is None else Cotangent.of(part, node).within(mask, spoils) for part, mask in pairs]


def vjp_of(
    graph: Graph,
    wrt: Sequence[bool],
    given: Sequence[bool],
    *,
    values: bool = False,
    alive: Sequence[bool | None] = (),
    masks: bool = False,
) -> Graph:
    """The graph that pulls cotangents back.

    wrt: for every input whether its cotangent is wanted; they are the outputs, zeros where nothing depends on an input.
    given: for every output whether it has a cotangent. Those follow the inputs, in order.
    values: whether the outputs of the graph itself stand before the cotangents, and its effects happen.
    alive: for every cotangent that is given whether it comes with a condition where it is alive, and a strict one; None
        if not (see ``cotangent.py``). The conditions are the last inputs.
    masks: whether the conditions of the cotangents that are the outputs follow these.
    """
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        outputs = trace.inline(graph, inputs)
        ends = [node for node, has_one in zip(outputs, given, strict=True) if has_one]
        g = [trace.parameter(zeros(node).aval, f"g{i}") for i, node in enumerate(ends)]
        chosen = [node for node, wanted in zip(inputs, wrt, strict=True) if wanted]
        flags = [*alive, *[None] * (len(g) - len(alive))]
        masked = [
            Cotangent(x) if strict is None else Cotangent(x, trace.parameter(Aval(x.shape, bool_), "alive"), x, strict)
            for x, strict in zip(g, flags, strict=True)
        ]
        found = _masked_backward(trace, ends, masked, chosen)
        parts = [zeros(x) if part is None else part.value for x, part in zip(chosen, found, strict=True)]
        if masks:
            parts += [
                broadcast_to(np.False_ if part is None else part.alive if part.masked else np.True_, shape=x.shape)
                for x, part in zip(chosen, found, strict=True)
            ]
        parts = [trace.lift(part) for part in parts]
        return trace.graph([*outputs, *parts]) if values else Graph(trace.inputs, parts, (), trace.names)


def zeros(x: Expr | Aval) -> Any:
    """The cotangent, or tangent, of a value that has one, where nothing depends on it."""
    dtype = cotangent_dtype(x.dtype)
    assert dtype is not None
    return broadcast_to(dtype.type(0), shape=x.shape)


class Reverse:
    """What a rule of an op that runs graphs is handed as ``ctx``: such a rule must differentiate them, which is this
    floor's work.

    cotangents: those of the node's results that the rule was given, with the conditions where they are alive; empty
        where the rule has nothing to do with them.
    """

    vjp_of = staticmethod(vjp_of)

    def __init__(self, cotangents: Sequence[Cotangent | None] = ()) -> None:
        self.cotangents = cotangents


def context(op: Op, kind: Any) -> dict[str, Any]:
    """The keyword argument that the rules of ``op`` take beside its parameters."""
    return {"ctx": kind} if op.graphs else {}


def _selects(node: Expr) -> bool:
    """Whether a graph that a node runs makes a selection of its own, which must reach what stands before the node."""
    pending = [node]
    while pending:
        inside = [inner for _, graph in subgraphs(pending.pop()) for inner in graph.nodes()]
        if any(inner.op is where and inner.dtype.kind == "f" for inner in inside):
            return True
        pending += [inner for inner in inside if inner.op.graphs]
    return False


def _may_spoil(node: Expr, known: dict[Expr, Facts]) -> bool:
    """Whether the derivative of an elementwise node may be infinite or NaN, so that 0 times it is not 0."""
    x = [known[arg] for arg in node.args]
    return not (all(fact.finite for fact in x) and is_tame(node, x))


def _accumulate(found: dict[Expr, Any], node: Expr, part: Any) -> None:
    found[node] = found[node] + part if node in found else part


def chosen(
    called: str,
    function: Callable[..., Any],
    argnums: int | tuple[int, ...],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> tuple[Callable[..., Any], tuple[Any, ...], list[str]]:
    """A call as a function of those of its positional arguments that ``argnums`` names; they; and their names."""
    args, kwargs = by_position(function, args, kwargs)
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    for number in numbers:
        if not isinstance(number, int):
            raise GradientError(
                f"{called}: argnums names arguments by number, not by {number!r}",
                where=quote(capture()),
                hint=f"what is differentiated is an argument of the result: {called}(f)(x)",
            )
        if not -len(args) <= number < len(args):
            given = f"{len(args)} positional argument" + ("" if len(args) == 1 else "s")
            raise GradientError(
                f"{called}: there is no argument {number} to differentiate: the call has {given}",
                where=quote(capture()),
                hint="count from 0" if args else f"parameters are arguments: {called}(lambda params: ...)(params)",
            )
        for leaf in tree.leaves(args[number]):
            if keeps_tensors(leaf):
                raise GradientError(
                    f"{called}: argument {number} holds a {type(leaf).__name__} with tensors in it, "
                    "which is no container",
                    where=quote(capture()),
                    hint=REGISTER,
                )
    places = tuple(number % len(args) for number in numbers)
    if len(set(places)) != len(places):
        raise GradientError(
            f"{called}: argnums {numbers} names an argument twice",
            where=quote(capture()),
            hint=f"name each once: argnums={tuple(dict.fromkeys(places))}",
        )

    def of_chosen(*values: Any) -> Any:
        every = list(args)
        for place, value in zip(places, values, strict=True):
            every[place] = value
        return function(*every, **kwargs)

    names = parameter_names(function, len(args))
    return of_chosen, tuple([args[n] for n in places]), [names[n] for n in places]


def value_and_gradient(
    function: Callable[..., Any],
    argnums: int | tuple[int, ...],
    has_aux: bool,
    prepare: Callable[[Graph], Graph],
    called: str = "grad",
) -> Any:
    """A function, to be called under a trace, that returns ``(value, gradient)`` of a scalar ``function``.

    prepare: makes of the function's graph the one that is differentiated. called: what its user called, for messages.
    """

    @functools.wraps(function)
    def transformed(*args: Any, **kwargs: Any) -> ValueAndGrad:
        of_chosen, values, names = chosen(called, function, argnums, args, kwargs)

        def scalar(*values: Any) -> Any:
            result = of_chosen(*values)
            _check_scalar(called, function, result, has_aux)
            return result

        leaves, structure = tree.flatten(values)
        staged = stage(scalar, values, {}, names=names)
        tensors = [leaf for leaf in leaves if is_tensor(leaf)]
        graph = _with_gradients(prepare(staged.graph), len(tensors))
        trace = current()
        assert trace is not None
        results = trace.inline(graph, [*map(operand, tensors), *staged.captured])
        count = sum(c is None for c in staged.carried)
        gradients = iter(results[count:])
        parts = [
            next(gradients) if is_tensor(leaf) and cotangent_dtype(_dtype(leaf)) is not None else None
            for leaf in leaves
        ]
        gradient = tree.unflatten(structure, parts)
        return ValueAndGrad(staged.rebuild(results[:count]), gradient[0] if isinstance(argnums, int) else gradient)

    return transformed


def _dtype(leaf: Any) -> Any:
    return aval_of(leaf).dtype


def _check_scalar(called: str, function: Any, result: Any, has_aux: bool) -> None:
    name = getattr(function, "__name__", "the function")
    if has_aux:
        if not isinstance(result, tuple) or len(result) != 2:
            raise GradientError(
                f"{called}: with has_aux=True {name} must return (value, aux), not {_kind(result)}",
                where=quote(capture()),
                hint="return (loss, everything_else)",
            )
        result = result[0]
    if not is_tensor(result):
        raise GradientError(
            f"{called}: {name} must return one scalar, not {_kind(result)}",
            where=quote(capture()),
            hint="return the loss alone, or (loss, everything_else) with has_aux=True",
        )
    aval = aval_of(result)
    place = quote(result.loc) if isinstance(result, Expr) else ""
    if aval.shape != ():
        raise GradientError(
            f"{called}: {name} must return a scalar, not {aval}",
            where=place or quote(capture()),
            hint="reduce it, with dp.sum(...) or dp.mean(...); dp.jacobian has the derivatives of every element",
        )
    if isinstance(result, Expr) and cotangent_dtype(result.dtype) is None:
        raise GradientError(
            f"{called}: {name} returns a {result.dtype}, which has no derivative",
            where=place,
            hint="return a float: a loss, not a decision",
        )


def _kind(value: Any) -> str:
    return str(value.aval) if isinstance(value, Value) else type(value).__name__


def _with_gradients(graph: Graph, count: int) -> Graph:
    """The graph with further outputs: the gradients of its first one with respect to those of the first ``count``
    inputs that have one. It is a scalar; a constant depends on nothing, whatever its dtype."""
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        outputs = trace.inline(graph, inputs)
        wrt = [node for node in inputs[:count] if cotangent_dtype(node.dtype) is not None]
        dtype = cotangent_dtype(outputs[0].dtype)
        found = (
            [None] * len(wrt) if dtype is None else backward(trace, outputs[:1], [trace.constant(dtype.type(1))], wrt)
        )
        return trace.graph(
            [*outputs, *[trace.lift(finished(node, part)) for node, part in zip(wrt, found, strict=True)]]
        )


def finished(node: Expr, part: Any) -> Any:
    """A derivative with respect to, or of, ``node`` as it is given out; zeros for None."""
    dtype = cotangent_dtype(node.dtype)
    assert dtype is not None
    if part is None:
        part = zeros(node)
    # The derivative with respect to a Python float is as weak as the float.
    return astype(part, dtype=dtype, weak=True) if node.aval.weak and node.dtype.kind == "f" else part
