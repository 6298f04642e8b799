"""Batching: a function of one example becomes one of many, by the ops' own rules. No loop is left of the batch.

A batched value has the batch axis first. What does not depend on a batched value is computed once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import shapes, tree
from ..errors import Mismatch, ShapeError, TreeError
from ..ir.aval import Aval, Avals
from ..ir.expr import Expr, Graph, Value
from ..ir.op import ITEM
from ..ir.trace import Trace, aval_of, current, tracing
from ..ops.batching import from_axis, repeated, to_axis
from ..ops.linear import broadcast_to, concat_, reshape, slice_
from ..source import capture, quote
from .stage import by_position, is_tensor, operand, parameter_names, stage

__all__ = ["Context", "batch", "batched_graph", "batched_node", "vectorized"]


def batch(
    trace: Trace, graph: Graph, inputs: Sequence[Any], batched: Sequence[bool], size: int
) -> list[tuple[Any, bool]]:
    """Copy a closed graph into ``trace``, which is open, computing it for ``size`` examples at once.

    inputs: the values of the graph's own; where ``batched`` says so, with one example per entry of the first axis.
    Returns the outputs as pairs: the value, and whether it is batched.
    """
    values: dict[Expr, Any] = {node: trace.lift(x) for node, x in zip(graph.inputs, inputs, strict=True)}
    flags: dict[Expr, bool] = dict(zip(graph.inputs, batched, strict=True))
    outer_place = trace.place
    try:
        for node in graph.nodes():
            if node in values:
                continue
            args, given = [values[arg] for arg in node.args], tuple([flags[arg] for arg in node.args])
            flags[node] = any(given)
            if not flags[node]:
                values[node] = trace.copy(node, tuple(args))
            elif node.op is ITEM:
                values[node] = args[0][node.kwargs["index"]]
            else:
                trace.place = node.loc
                values[node] = batched_node(node, given, args, size)
    finally:
        trace.place = outer_place
    return [(values[node], flags[node]) for node in graph.outputs]


class Context:
    """What the rules of ops that run graphs ask of their driver."""

    @staticmethod
    def batch_of(
        graph: Graph, batched: Sequence[bool], size: int, outputs: Sequence[bool] | None = None
    ) -> tuple[Graph, list[bool]]:
        """See :func:`batched_graph`."""
        return batched_graph(graph, batched, size, outputs)


def batched_node(node: Expr, batched: tuple[bool, ...], args: Sequence[Any], size: int) -> Any:
    """A node for many examples, a tuple of several results: by the op's rule, or in a loop where it has none. Of no
    examples there is nothing to compute, and rules need not know of them."""
    if size == 0:
        return tuple(map(_none, node.aval.parts)) if isinstance(node.aval, Avals) else _none(node.aval)
    rule = node.op.batch or functools.partial(_one_by_one, node, size)
    context = {"ctx": Context} if node.op.graphs and node.op.batch else {}
    found = rule(batched, *args, **node.kwargs, **context)
    pairs = zip(found, node.aval.parts, strict=True) if isinstance(node.aval, Avals) else [(found, node.aval)]
    for value, aval in pairs:
        assert (value.shape, value.dtype) == ((size, *aval.shape), aval.dtype), (
            f"the batching rule of {node.op.name} gives {value.aval} for {size} times {aval}"
        )
    return found


def _one_by_one(node: Expr, size: int, batched: tuple[bool, ...], *args: Any, **params: Any) -> Any:
    """The op once per example, and the results put together."""
    rows = [
        node.op(*[_entry(x, i) if given else x for x, given in zip(args, batched, strict=True)], **params)
        for i in range(size)
    ]
    if isinstance(node.aval, Avals):
        return tuple([_stacked([row[k] for row in rows], aval) for k, aval in enumerate(node.aval.parts)])
    return _stacked(rows, node.aval)


def _none(aval: Aval) -> Any:
    """The result of no examples: the tape of a loop, whose length is unknown, has none."""
    return broadcast_to(aval.dtype.type(0), shape=(0, *[max(size, 0) for size in aval.shape]))


def _entry(x: Any, i: int) -> Any:
    starts, stops = (i, *(0,) * (x.ndim - 1)), (i + 1, *x.shape[1:])
    return reshape(slice_(x, starts=starts, stops=stops, steps=(1,) * x.ndim), shape=x.shape[1:])


def _stacked(rows: Sequence[Any], aval: Aval) -> Any:
    return concat_(*[reshape(row, shape=(1, *aval.shape)) for row in rows], axis=0)


def batched_graph(
    graph: Graph, batched: Sequence[bool], size: int, outputs: Sequence[bool] | None = None
) -> tuple[Graph, list[bool]]:
    """A closed graph for ``size`` examples at once, and which of its outputs are batched.

    batched: which inputs hold an example per entry of a new first axis.
    outputs: which outputs have to be batched; those that depend on no batched input are repeated then.
    """
    with tracing() as trace:
        inputs = [
            trace.parameter(Aval((size, *n.shape), n.dtype, n.aval.weak) if given else n.aval, name)
            for n, name, given in zip(graph.inputs, graph.names, batched, strict=True)
        ]
        found = batch(trace, graph, inputs, batched, size)
        wanted = outputs or [False] * len(found)
        made = [
            repeated(value, size) if ask and not given else value
            for (value, given), ask in zip(found, wanted, strict=True)
        ]
        result = trace.graph([trace.lift(value) for value in made])
    return result, [given or ask for (_, given), ask in zip(found, wanted, strict=True)]


# -- functions --------------------------------------------------------------------------------------------------------


class _Example(Value):
    """One example of a batched leaf: its shape without the batch axis."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return str(self.aval)


class _Mapped(NamedTuple):
    """A leaf of the arguments: its name, and the axis that is mapped over, None where it is the same for all."""

    name: str
    value: Any
    axis: int | None


def vectorized(function: Callable[..., Any], in_axes: Any, out_axes: Any, axis_size: int | None) -> Callable[..., Any]:
    """A function, to be called under a trace, that computes ``function`` for all examples of its arguments."""
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes

    @functools.wraps(function)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = by_position(function, args, kwargs)
        leaves, structure = tree.flatten(args)
        own = parameter_names(function, len(args))
        paths = [p for name, arg in zip(own, args, strict=True) for p in tree.paths(arg, name)]
        axes = _axes_of_leaves("in_axes", in_axes, args, "the arguments")
        mapped = [_mapped(*leaf) for leaf in zip(paths, leaves, axes, strict=True)]
        size = _size(function, mapped, axis_size)
        examples = tree.unflatten(structure, [_example(leaf) for leaf in mapped])
        staged = stage(function, examples, kwargs, names=own)
        tensors = [leaf for leaf in mapped if is_tensor(leaf.value)]
        inputs = [operand(x.value) if x.axis is None else from_axis(operand(x.value), x.axis) for x in tensors]
        flags = [x.axis is not None for x in tensors] + [False] * len(staged.captured)
        trace = current()
        assert trace is not None
        found = batch(trace, staged.graph, [*inputs, *staged.captured], flags, size)
        shown = staged.rebuild([value for value, _ in found])
        result_axes = _axes_of_leaves("out_axes", out_axes, shown, "the result")
        of_tensors = [axis for axis, carried in zip(result_axes, staged.carried, strict=True) if carried is None]
        results = [_placed(x, given, axis, size) for (x, given), axis in zip(found, of_tensors, strict=True)]
        return staged.rebuild(results)

    return transformed


def _axes_of_leaves(name: str, axes: Any, value: Any, what: str) -> list[Any]:
    """``axes``, a container that may end earlier than ``value`` does, as one entry per leaf."""
    try:
        found = tree.prefix(axes, value)
    except ValueError:
        shown = tree.map(lambda leaf: _Example(aval_of(leaf)) if is_tensor(leaf) else leaf, value)
        raise TreeError(
            f"vmap: {name} is {axes!r} and does not have the structure of {what} {shown!r}",
            where=quote(capture()),
            hint=f"{name} may end earlier, with an int or None for everything below, but not go another way",
        ) from None
    for axis in found:
        if axis is not None and (not isinstance(axis, int) or isinstance(axis, bool)):
            raise TreeError(f"vmap: {name} consists of ints and None, not of {axis!r}", where=quote(capture()))
    return found


def _mapped(name: str, value: Any, axis: int | None) -> _Mapped:
    if axis is None or not is_tensor(value):
        return _Mapped(name, value, None)
    aval = aval_of(value)
    try:
        return _Mapped(name, value, shapes.normalize_axis(axis, len(aval.shape)))
    except Mismatch as mismatch:
        raise ShapeError(
            f"vmap: {name} is {aval} and cannot be mapped over axis {axis}: {mismatch.what}",
            where=quote(capture()),
            hint="what is the same for all examples has None in in_axes",
        ) from None


def _size(function: Callable[..., Any], leaves: Sequence[_Mapped], axis_size: int | None) -> int:
    """The number of examples, on which all mapped leaves agree."""
    sizes = {leaf.name: aval_of(leaf.value).shape[leaf.axis] for leaf in leaves if leaf.axis is not None}
    called = getattr(function, "__name__", "the function")
    if axis_size is None and not sizes:
        raise ShapeError(
            f"vmap: no argument of {called} is mapped over, so the number of examples is not known",
            where=quote(capture()),
            hint="give one of them an axis in in_axes, or say axis_size=",
        )
    if not (axis_size is None or (type(axis_size) is int and axis_size >= 0)):
        raise ShapeError(f"vmap: axis_size is a number of examples, not {axis_size!r}", where=quote(capture()))
    size = next(iter(sizes.values())) if axis_size is None else axis_size
    if any(n != size for n in sizes.values()):
        axes = {leaf.name: leaf.axis for leaf in leaves}
        said = [f"{n} along axis {axes[name]} of {name}" for name, n in sizes.items()]
        said = [f"axis_size={axis_size}"] * (axis_size is not None) + said
        raise ShapeError(
            f"vmap: the sizes of the mapped axes differ: {', '.join(said)}",
            where=quote(capture()),
            hint="mapped axes have one entry per example; what is the same for all examples has None in in_axes",
        )
    return size


def _example(leaf: _Mapped) -> Any:
    if leaf.axis is None:
        return leaf.value
    aval = aval_of(leaf.value)
    return _Example(Aval(shapes.reduce(aval.shape, (leaf.axis,)), aval.dtype, aval.weak))


def _placed(value: Any, batched: bool, axis: int | None, size: int) -> Any:
    """A result with the batch axis where ``out_axes`` wants it."""
    if axis is None:
        if batched:
            raise ShapeError(
                f"vmap: out_axes is None for a result {value.aval} that differs from example to example",
                where=quote(value.loc) or quote(capture()),
                hint="None is for results that no mapped argument enters; say out_axes=0",
            )
        return value
    value = value if batched else repeated(value, size)
    try:
        return to_axis(value, shapes.normalize_axis(axis, value.ndim))
    except Mismatch as mismatch:
        raise ShapeError(
            f"vmap: a result {value.aval} has no axis {axis} for the batch: {mismatch.what}", where=quote(capture())
        ) from None
