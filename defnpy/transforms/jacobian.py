"""Jacobians: the linear map of a function at a point, swept over a basis, all directions at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import shapes, tree
from ..ir.aval import Aval
from ..ir.expr import Expr, Graph
from ..ir.trace import current, tracing
from ..ops.contract import dot_general
from ..ops.convert import cast
from ..ops.elementwise import multiply
from ..ops.linear import iota, permute_dims, reshape, slice_
from .grad import chosen
from .linearize import LinearMap, Prepare, linearized
from .vmap import batched_graph

__all__ = ["jacobians"]


def jacobians(
    called: str,
    function: Callable[..., Any],
    argnums: int | tuple[int, ...],
    prepare: Prepare,
    backwards: bool | None,
) -> Callable[..., Any]:
    """A function, to be called under a trace, that gives the derivative of each leaf of the result with respect to each
    leaf of the chosen arguments. Its shape is the result's, then the argument's.

    backwards: one row of all Jacobians after the other, by pulling back; else one column, by pushing forwards. None
    for whichever is fewer.
    """

    @functools.wraps(function)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        of_chosen, values, names = chosen(called, function, argnums, args, kwargs)
        found = linearized(called, of_chosen, values, {}, prepare, backwards=backwards, names=names)
        rows = _swept(found.map, found.kept)
        sides = found.map.source, found.map.target
        arguments, result = reversed(sides) if found.map.backwards else sides
        inner = [aval for aval in arguments.moving if aval is not None]
        columns = iter(rows)

        def of_leaf(aval: Aval | None) -> Any:
            parts = [next(columns) for _ in inner] if aval is not None else [None] * len(inner)
            whole = iter(parts)
            per_argument = arguments.structure.unflatten([None if a is None else next(whole) for a in arguments.moving])
            return per_argument[0] if isinstance(argnums, int) else per_argument

        return tree.unflatten(result.structure, [of_leaf(aval) for aval in result.moving])

    return transformed


def _swept(linear: LinearMap, kept: Sequence[Any]) -> list[Any]:
    """The Jacobian of every leaf of the result, and in it of every leaf of the arguments."""
    sources = [aval for aval in linear.source.moving if aval is not None]
    targets = [aval for aval in linear.target.moving if aval is not None]
    ends = [sum(shapes.size(a.shape) for a in sources[: i + 1]) for i in range(len(sources))]
    starts = [end - shapes.size(a.shape) for a, end in zip(sources, ends, strict=True)]
    count = ends[-1] if ends else 0
    basis = [_units(aval, start, count) for aval, start in zip(sources, starts, strict=True)]
    picked = _picked(linear.graph, kept) if len(basis) == 1 else {}
    batched = [False] * len(kept) + [True] * (len(basis) + len(picked))
    graph, _ = batched_graph(_given(linear.graph, picked), batched, count, [True] * len(targets))
    trace = current()
    assert trace is not None
    images = trace.inline(graph, [*kept, *basis, *picked.values()])
    # Backwards a row of images belongs to an element of a result; forwards a column belongs to one of an argument.
    blocks = [
        [_block(image, start, source, linear.backwards) for image in images]
        for source, start in zip(sources, starts, strict=True)
    ]
    if not linear.backwards:
        blocks = [list(column) for column in zip(*blocks, strict=True)] or [[] for _ in targets]
    arguments = linear.target.moving if linear.backwards else linear.source.moving
    weak = [aval.weak for aval in arguments if aval is not None]
    return [cast(block, block.dtype, w) for row in blocks for block, w in zip(row, weak, strict=True)]


def _units(aval: Aval, start: int, count: int) -> Any:
    """``count`` tangents of a leaf: zero, but for a one at each of its elements in turn, from number ``start`` on."""
    size = shapes.size(aval.shape)
    place = iota(shape=(count, size), axis=1)
    ones = iota(shape=(count, size), axis=0) == (place + start if start else place)
    return reshape(cast(ones, aval.dtype), shape=(count, *aval.shape))


def _picked(graph: Graph, kept: Sequence[Any]) -> dict[Expr, Any]:
    """The products in a linear map of a known array with its only direction, and what they are for the whole basis:
    the array's columns, scaled where the direction was multiplied on the way. To pick them is no product."""
    *known, direction = graph.inputs
    values = dict(zip(known, kept, strict=True))
    scales: dict[Expr, list[Any]] = {direction: []}
    found: dict[Expr, Any] = {}
    for node in graph.nodes() if direction.ndim == 1 else ():
        for side, x in enumerate(node.args if node.op in (multiply, dot_general) else ()):
            other = node.args[1 - side]
            if x not in scales or other not in values or x.dtype != other.dtype:
                continue
            if node.op is multiply and other.shape in (x.shape, ()):
                scales[node] = [*scales[x], values[other]]
            elif node.op is dot_general and node.kwargs["contract"][side] == (0,):
                (axis,) = node.kwargs["contract"][1 - side]
                rest = [a for a in range(other.ndim) if a != axis]
                image = permute_dims(values[other], axes=(axis, *rest))
                for scale in scales[x]:
                    image = image * (reshape(scale, shape=(x.size, *(1,) * len(rest))) if scale.ndim else scale)
                found[node] = image
    return found


def _given(graph: Graph, nodes: Iterable[Expr]) -> Graph:
    """The graph with some of its nodes as further inputs."""
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        new = {node: trace.parameter(node.aval, "picked") for node in nodes}
        outputs = graph.rebuild(inputs, lambda node, args: new[node] if node in new else trace.copy(node, args))
        return trace.graph(outputs)


def _block(image: Any, start: int, source: Aval, backwards: bool) -> Any:
    """The part of an image of the basis that belongs to one leaf, with the result's axes before the argument's."""
    size, tail = shapes.size(source.shape), image.shape[1:]
    if size != image.shape[0]:
        image = slice_(
            image, starts=(start, *(0,) * len(tail)), stops=(start + size, *tail), steps=(1,) * (1 + len(tail))
        )
    if not backwards:
        image = permute_dims(image, axes=(*range(1, image.ndim), 0))
        return reshape(image, shape=(*tail, *source.shape))
    return reshape(image, shape=(*source.shape, *tail))
