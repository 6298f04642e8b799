"""A function at a point, as its value and a linear map: forwards for tangents, backwards for cotangents.

The graph of a derivative is cut in two. The first part depends on the arguments alone and is computed at once; the
second reads what the first left for it, and the tangents or cotangents, and can be run any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .. import tree
from ..dtypes import cotangent_dtype
from ..errors import GradientError, TreeError
from ..ir.aval import Aval
from ..ir.expr import Expr, Graph, has_effect
from ..ir.trace import Trace, aval_of, current, tracing
from ..ops.convert import astype, cast
from ..source import capture, quote
from .grad import finished, vjp_of, zeros
from .jvp import jvp_of
from .stage import Staged, is_tensor, operand, parameter_names, stage

__all__ = ["LinearMap", "Linearized", "directional", "linearized", "split"]

Prepare = Callable[[Graph], Graph]


def split(graph: Graph, known: int, values: int) -> tuple[Graph, Graph]:
    """A graph in two: what depends on its first ``known`` inputs alone, and the rest.

    The first gives the first ``values`` outputs, then whatever the second needs of it. The second takes that, then the
    other inputs, and gives the other outputs. What depends on no input is left to the second.
    """
    inputs, unknown = set(graph.inputs), set(graph.inputs[known:])
    free: set[Expr] = set()
    for node in graph.nodes():
        if any(arg in unknown for arg in node.args):
            unknown.add(node)
        elif node not in inputs and all(arg in free for arg in node.args) and not has_effect(node):
            free.add(node)
    read = [arg for node in graph.nodes() if node in unknown for arg in node.args] + list(graph.outputs[values:])
    left = [node for node in dict.fromkeys(read) if node not in unknown and node not in free]
    effects = [node for node in graph.effects if node not in unknown]
    first = Graph(graph.inputs[:known], [*graph.outputs[:values], *left], effects, graph.names[:known])
    with tracing() as trace:
        new: dict[Expr, Expr] = {node: _weak_again(trace, node, f"kept{i}") for i, node in enumerate(left)}
        for node, name in zip(graph.inputs[known:], graph.names[known:], strict=True):
            new[node] = trace.parameter(node.aval, name)
        for node in graph.nodes():
            if node not in new and (node in unknown or node in free):
                new[node] = trace.copy(node, tuple([new[arg] for arg in node.args]))
        second = trace.graph([new[node] for node in graph.outputs[values:]])
    return first, second


def _weak_again(trace: Trace, node: Expr, name: str) -> Expr:
    """An input for a value that is handed over. It comes in its own dtype: a weak one would be narrowed on the way."""
    parameter = trace.parameter(Aval(node.shape, node.dtype), name)
    return trace.lift(astype(parameter, dtype=node.dtype, weak=True)) if node.aval.weak else parameter


class Side(NamedTuple):
    """The arguments or the result of a function as containers of tangents or cotangents.

    moving: for every leaf the aval of its tangent, None for one that has none.
    """

    noun: str
    structure: tree.Structure
    paths: list[str]
    moving: list[Aval | None]

    def take(self, called: str, given: Any) -> list[Any]:
        """The tensors of a container of tangents, checked, in their dtypes; None where it has None."""
        try:
            found = self.structure.flatten_up_to(given)
        except ValueError:
            shown = self.paths[:4] + ["..."] * (len(self.paths) > 4)
            wanted = tree.unflatten(self.structure, self.paths)
            difference = tree.difference(wanted, given, self.noun, ("what they belong to", f"the {self.noun}s"))
            raise TreeError(
                f"{called}: the {self.noun}s do not have the structure of what they belong to: {difference}",
                where=quote(capture()),
                hint=f"one container with a tensor or None for each of {', '.join(shown)}",
            ) from None
        return [self._one(called, *leaf) for leaf in zip(self.paths, self.moving, found, strict=True)]

    def _one(self, called: str, path: str, aval: Aval | None, value: Any) -> Any:
        if value is None or aval is None:
            return None  # of what has no derivative nothing is asked
        found = aval_of(value)
        if found.shape != aval.shape or found.dtype.kind == "b":
            raise GradientError(
                f"{called}: the {self.noun} of {path or 'the argument'} is {found}, not {aval}",
                where=quote(capture()),
                hint=f"a {self.noun} has the shape of what it belongs to; None stands for zero",
            )
        return cast(operand(value), aval.dtype)

    def put(self, tensors: Sequence[Any]) -> Any:
        """The container of these, one for every leaf that has any; None at the others' places."""
        values = iter(tensors)
        return tree.unflatten(self.structure, [_weakened(aval, values) for aval in self.moving])


def _weakened(aval: Aval | None, values: Iterator[Any]) -> Any:
    """The next tangent, as weak as what it belongs to; None where there is none."""
    return None if aval is None else cast(next(values), aval.dtype, aval.weak)


def _side(noun: str, structure: tree.Structure, paths: list[str], leaves: Sequence[Any]) -> Side:
    moving: list[Aval | None] = []
    for leaf in leaves:
        aval = aval_of(leaf) if is_tensor(leaf) else None
        dtype = None if aval is None else cotangent_dtype(aval.dtype)
        weak = aval is not None and aval.weak and aval.dtype.kind == "f"
        moving.append(None if aval is None or dtype is None else Aval(aval.shape, dtype, weak))
    return Side(noun, structure, paths, moving)


def _argument_side(noun: str, args: Sequence[Any], names: Sequence[str]) -> Side:
    leaves, structure = tree.flatten(tuple(args))
    paths = [path for name, arg in zip(names, args, strict=True) for path in tree.paths(arg, name)]
    return _side(noun, structure, paths, leaves)


def _result_side(noun: str, staged: Staged) -> Side:
    shown = staged.rebuild(staged.graph.outputs)
    return _side(noun, staged.structure, tree.paths(shown, "result"), tree.leaves(shown))


class LinearMap:
    """A linear map between containers: ``graph`` takes what the first part of a derivative kept, then tangents.

    program: what runs it when it is called outside of a trace; whoever calls it keeps that here.
    """

    def __init__(self, called: str, backwards: bool, graph: Graph, source: Side, target: Side) -> None:
        self.called = called
        self.backwards = backwards
        self.graph = graph
        self.source = source
        self.target = target
        self.program: Any = None

    def __call__(self, kept: Sequence[Any], given: Any) -> Any:
        """Apply it, under a trace."""
        found = zip(self.source.moving, self.source.take(self.called, given), strict=True)
        inputs = [zeros(aval) if x is None else x for aval, x in found if aval is not None]
        trace = current()
        assert trace is not None
        return self.target.put(trace.inline(self.graph, [*kept, *inputs]))


class Linearized(NamedTuple):
    """A function at a point: its value, what the linear map keeps of the way there, and the map."""

    value: Any
    kept: list[Any]
    map: LinearMap


def linearized(
    called: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    static: dict[str, Any],
    prepare: Prepare,
    *,
    backwards: bool | None,
    names: Sequence[str] | None = None,
) -> Linearized:
    """A function at a point, under a trace, as its value and the linear map of its derivative.

    Forwards the map takes a tuple of tangents, one for each argument, to the tangent of the result; backwards it is
    the transpose of that. None for whichever takes fewer numbers. static: keyword arguments of the function.
    """
    names = names or parameter_names(function, len(args))
    staged = stage(function, args, static, names=names)
    graph = prepare(staged.graph)
    tensors = [leaf for leaf in tree.leaves(tuple(args)) if is_tensor(leaf)]
    moving = [cotangent_dtype(node.dtype) is not None for node in graph.inputs[: len(tensors)]]
    moving += [False] * len(staged.captured)
    ends = [cotangent_dtype(node.dtype) is not None for node in graph.outputs]
    if backwards is None:
        numbers = [
            sum(node.size for node, counts in zip(nodes, flags, strict=True) if counts)
            for nodes, flags in ((graph.outputs, ends), (graph.inputs, moving))
        ]
        backwards = numbers[0] < numbers[1]
    if backwards:
        whole = vjp_of(graph, moving, ends, values=True)
    else:
        whole, _ = jvp_of(graph, moving, wanted=[True] * len(ends))
    first, second = split(whole, len(graph.inputs), len(graph.outputs))
    trace = current()
    assert trace is not None
    results = trace.inline(first, [*map(operand, tensors), *staged.captured])
    count = len(graph.outputs)
    kept = [cast(x, x.dtype) for x in results[count:]]
    noun = "cotangent" if backwards else "tangent"
    before, after = _argument_side(noun, args, names), _result_side(noun, staged)
    source, target = (after, before) if backwards else (before, after)
    return Linearized(staged.rebuild(results[:count]), kept, LinearMap(called, backwards, second, source, target))


def directional(
    called: str,
    function: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    static: dict[str, Any],
    prepare: Prepare,
) -> tuple[Any, Any]:
    """The value of a function and its derivative along ``tangents``, under a trace, in one walk.

    A leaf of the result that does not move has the tangent zero; None if it is an integer or has no derivative.
    """
    names = parameter_names(function, len(primals))
    side = _argument_side("tangent", primals, names)
    given = side.take(called, tuple(tangents))
    staged = stage(function, primals, static, names=names)
    graph = prepare(staged.graph)
    leaves = tree.leaves(tuple(primals))
    along = [t for leaf, t in zip(leaves, given, strict=True) if is_tensor(leaf)]
    moving = [t is not None for t in along] + [False] * len(staged.captured)
    whole, moved = jvp_of(graph, moving, wanted=[node.dtype.kind == "f" for node in graph.outputs])
    trace = current()
    assert trace is not None
    inputs = [operand(leaf) for leaf in leaves if is_tensor(leaf)]
    results = trace.inline(whole, [*inputs, *staged.captured, *[t for t in along if t is not None]])
    count = len(graph.outputs)
    found = iter(results[count:])
    parts = [finished(y, next(found)) if has_one else None for y, has_one in zip(graph.outputs, moved, strict=True)]
    return staged.rebuild(results[:count]), staged.tangent(parts)
