"""Expr, one node of a computation, and Graph, a closed one. All walks are iterative: depth is not limited."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..shapes import DYNAMIC, Shape, size
from ..source import Location
from .aval import Aval, Avals

if TYPE_CHECKING:
    from ..dtypes import DType
    from .op import Op
    from .trace import Trace

__all__ = ["Expr", "Graph", "Value", "has_effect", "is_open", "subgraphs", "topological", "with_subgraphs"]

Params = tuple[tuple[str, Hashable], ...]


class Value:
    """What traced values and tensors have in common; the operators are filled in on floor 3."""

    __slots__ = ()
    __array_priority__ = 1000.0
    aval: Aval

    if TYPE_CHECKING:
        # Filled in by array/operators.py; the results are tensors outside of a trace and traced values inside.
        def __add__(self, other: Any, /) -> Any: ...
        def __radd__(self, other: Any, /) -> Any: ...
        def __sub__(self, other: Any, /) -> Any: ...
        def __rsub__(self, other: Any, /) -> Any: ...
        def __mul__(self, other: Any, /) -> Any: ...
        def __rmul__(self, other: Any, /) -> Any: ...
        def __truediv__(self, other: Any, /) -> Any: ...
        def __rtruediv__(self, other: Any, /) -> Any: ...
        def __floordiv__(self, other: Any, /) -> Any: ...
        def __rfloordiv__(self, other: Any, /) -> Any: ...
        def __mod__(self, other: Any, /) -> Any: ...
        def __rmod__(self, other: Any, /) -> Any: ...
        def __pow__(self, other: Any, /) -> Any: ...
        def __rpow__(self, other: Any, /) -> Any: ...
        def __matmul__(self, other: Any, /) -> Any: ...
        def __rmatmul__(self, other: Any, /) -> Any: ...
        def __and__(self, other: Any, /) -> Any: ...
        def __rand__(self, other: Any, /) -> Any: ...
        def __or__(self, other: Any, /) -> Any: ...
        def __ror__(self, other: Any, /) -> Any: ...
        def __xor__(self, other: Any, /) -> Any: ...
        def __rxor__(self, other: Any, /) -> Any: ...
        def __lshift__(self, other: Any, /) -> Any: ...
        def __rlshift__(self, other: Any, /) -> Any: ...
        def __rshift__(self, other: Any, /) -> Any: ...
        def __rrshift__(self, other: Any, /) -> Any: ...
        def __lt__(self, other: Any, /) -> Any: ...
        def __le__(self, other: Any, /) -> Any: ...
        def __gt__(self, other: Any, /) -> Any: ...
        def __ge__(self, other: Any, /) -> Any: ...
        def __neg__(self) -> Any: ...
        def __pos__(self) -> Any: ...
        def __abs__(self) -> Any: ...
        def __invert__(self) -> Any: ...
        def __getitem__(self, index: Any, /) -> Any: ...
        def astype(self, dtype: Any) -> Any: ...
        def reshape(self, *shape: Any) -> Any: ...
        def transpose(self, *axes: Any) -> Any: ...
        def squeeze(self, axis: Any = None) -> Any: ...
        def ravel(self) -> Any: ...
        def dot(self, other: Any) -> Any: ...
        def clip(self, min: Any = None, max: Any = None) -> Any: ...
        def round(self) -> Any: ...
        def sum(self, axis: Any = None, **options: Any) -> Any: ...
        def mean(self, axis: Any = None, **options: Any) -> Any: ...
        def var(self, axis: Any = None, **options: Any) -> Any: ...
        def std(self, axis: Any = None, **options: Any) -> Any: ...
        def max(self, axis: Any = None, **options: Any) -> Any: ...
        def min(self, axis: Any = None, **options: Any) -> Any: ...
        def prod(self, axis: Any = None, **options: Any) -> Any: ...
        def any(self, axis: Any = None, **options: Any) -> Any: ...
        def all(self, axis: Any = None, **options: Any) -> Any: ...
        def argmax(self, axis: Any = None, **options: Any) -> Any: ...
        def argmin(self, axis: Any = None, **options: Any) -> Any: ...
        @property
        def T(self) -> Any: ...
        @property
        def mT(self) -> Any: ...
        @property
        def at(self) -> Any: ...

    @property
    def shape(self) -> Shape:
        """The size of each axis."""
        return self.aval.shape

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return size(self.aval.shape)


class Expr(Value):
    """One node: an op, its operands, its static parameters. Immutable; equal means identical.

    ``params`` is a tuple of (name, value) pairs, sorted, hashable.
    """

    __slots__ = ("args", "aval", "loc", "op", "params", "trace")

    op: Op
    args: tuple[Expr, ...]
    params: Params
    loc: Location | None
    trace: Trace

    def __init__(
        self,
        op: Op,
        args: tuple[Expr, ...],
        params: Params,
        aval: Aval,
        loc: Location | None,
        trace: Trace,
    ) -> None:
        put = object.__setattr__
        put(self, "op", op)
        put(self, "args", args)
        put(self, "params", params)
        put(self, "aval", aval)
        put(self, "loc", loc)
        put(self, "trace", trace)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Expr is immutable; cannot set {name!r}")

    @property
    def kwargs(self) -> dict[str, Any]:
        """The static parameters as keyword arguments."""
        return dict(self.params)


class Graph:
    """A closed computation: ``inputs`` are parameter nodes, everything ``outputs`` need is reachable from them.

    effects: nodes with side effects, in the order in which the program made them; they run though nobody reads them.
    names: what to call the inputs in print.
    """

    __slots__ = ("__weakref__", "_nodes", "effects", "inputs", "names", "outputs")

    def __init__(
        self,
        inputs: Sequence[Expr],
        outputs: Sequence[Expr],
        effects: Sequence[Expr] = (),
        names: Sequence[str] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.effects = tuple(effects)
        self.names = tuple(names) or tuple(f"in{i}" for i in range(len(self.inputs)))
        self._nodes: tuple[Expr, ...] | None = None

    def nodes(self) -> tuple[Expr, ...]:
        """Every node the outputs and effects need, operands first; inputs only where they are used."""
        if self._nodes is None:
            self._nodes = tuple(topological((*self.effects, *self.outputs)))
        return self._nodes

    def users(self) -> dict[Expr, list[Expr]]:
        """For every node, the nodes that read it."""
        result: dict[Expr, list[Expr]] = {}
        for node in self.nodes():
            result.setdefault(node, [])
            for arg in dict.fromkeys(node.args):
                result[arg].append(node)
        return result

    def rebuild(self, inputs: Sequence[Expr], visit: Callable[[Expr, tuple[Expr, ...]], Expr]) -> list[Expr]:
        """Replay the graph with ``inputs`` in place of its own: ``visit(node, new_args)`` makes each new node.

        Returns the new outputs. Unused inputs are allowed.
        """
        new: dict[Expr, Expr] = dict(zip(self.inputs, inputs, strict=True))
        for node in self.nodes():
            if node not in new:
                new[node] = visit(node, tuple([new[arg] for arg in node.args]))
        return [new[node] for node in self.outputs]


def subgraphs(node: Expr) -> Iterator[tuple[str, Graph]]:
    """The graphs that a node runs, with what to call them: ``body``, ``branches[1]``."""
    for name, value in node.params if node.op.graphs else ():
        if isinstance(value, Graph):
            yield name, value
        elif isinstance(value, tuple) and name in node.op.graphs:
            yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))


def with_subgraphs(node: Expr, change: Callable[[Graph], Graph]) -> Params:
    """The static parameters of a node, with ``change`` made to every graph that it runs."""
    if not node.op.graphs:
        return node.params
    changed: list[tuple[str, Hashable]] = []
    for name, value in node.params:
        if isinstance(value, Graph):
            value = change(value)
        elif isinstance(value, tuple) and name in node.op.graphs:
            value = tuple(map(change, value))
        changed.append((name, value))
    return tuple(changed)


def is_open(node: Expr) -> bool:
    """Whether a node gives or reads an array of a size that only the running program knows."""
    return any(not isinstance(x.aval, Avals) and DYNAMIC in x.shape for x in (node, *node.args))


def has_effect(node: Expr) -> bool:
    """Whether a node does something beside giving a value: its op, or one in a graph that it runs."""
    return node.op.effect or (bool(node.op.graphs) and any(graph.effects for _, graph in subgraphs(node)))


def topological(roots: Iterable[Expr], last: Collection[Expr] = ()) -> list[Expr]:
    """Nodes reachable from ``roots``, operands first, in a fixed order: of several those in ``last`` come last."""

    def operands(node: Expr) -> Iterator[Expr]:
        return iter(sorted(node.args, key=last.__contains__) if last else node.args)

    order: list[Expr] = []
    done: set[Expr] = set()
    for root in roots:
        if root in done:
            continue
        done.add(root)
        stack = [(root, operands(root))]
        while stack:
            node, rest = stack[-1]
            for child in rest:
                if child not in done:
                    done.add(child)
                    stack.append((child, operands(child)))
                    break
            else:
                stack.pop()
                order.append(node)
    return order
