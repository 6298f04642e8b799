"""Loops over single numbers, and over small arrays element by element, as one kernel.

Single numbers that are carried are variables, and an iteration is straight-line code. What fits: elementwise ops,
branches and inner loops on values of one element; elements of larger arrays, taken by an index; sequences with rows of
one element, read and made. Arrays may be carried, and be rows, if all have the same number of elements, a few thousand
at most, and are computed elementwise: then an iteration ends with a loop over these, its lanes, and what is carried
changes where it lies. Everything else leaves the loop to the backend, which runs its graphs again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..dtypes import DEFAULT_INT, DType
from ..ir.aval import Avals
from ..ir.expr import Expr, Graph
from ..ir.op import REGISTRY
from ..shapes import DYNAMIC, Shape, size
from .emitted import Draft, Emitted, computed
from .kernel import Assign, Compute, Index, Literal, Load, Loop, Operand, Statement, Store, Term, While
from .views import FLAT_VIEWS, viewed

__all__ = ["fits", "loop_kernel", "source_of"]

LANES = 4096  # elements of arrays; with more, an iteration is better done by kernels that threads share
BRANCH = 32  # operations of all branches together, up to which they are computed and one is chosen

_SAME = ("reshape", "permute_dims", "broadcast_to", "flip", "stop_grad")  # of one element
_FOLDS = ("sum", "prod", "max", "min", "any", "all")
_LANE = Term("i0")


class _Unfit(Exception):
    """The graph does something that a kernel of single numbers cannot."""


@dataclass(frozen=True)
class _Array:
    """An array in memory, of which elements are read. start: where it begins there, a row of a sequence."""

    buffer: str
    shape: Shape
    dtype: DType
    start: Index = ()


@dataclass(frozen=True)
class _Lane:
    """A value that each lane has its own of."""

    name: str


def source_of(arg: Expr) -> Expr:
    """The node in whose memory a loop's kernel finds an operand, or a number."""
    if arg.size != 1:
        return viewed(arg, FLAT_VIEWS)
    while arg.op.name in _SAME and arg.args[0].size == 1:
        arg = arg.args[0]
    marked = arg.op.name == "astype" and arg.args[0].op.name == "constant" and arg.dtype == arg.args[0].dtype
    return arg.args[0] if marked else arg


def fits(node: Expr) -> bool:
    """Whether a loop can be one kernel."""
    if node.op.name not in ("while_loop", "scan") or not isinstance(node.aval, Avals):
        return False
    if any(DYNAMIC in part.shape for part in node.aval.parts):
        return False
    try:
        _Writer({}).loop(node, [])
    except _Unfit:
        return False
    return True


def loop_kernel(node: Expr, results: Sequence[Expr], names: dict[Expr, str], title: str) -> Emitted:
    """The kernel of a loop that fits; it stores the ``results`` that are asked for."""
    return _Writer(names).loop(node, results, title)


@dataclass
class _Writer(Draft):
    block: list[Statement] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    lanes: int = 1
    width: str = ""  # the name of their number
    lane: list[Statement] = field(default_factory=list)  # what is done for each of them
    loaded: dict[_Array, str] = field(default_factory=dict)  # the elements that are loaded there

    def loop(self, node: Expr, results: Sequence[Expr], title: str = "loop") -> Emitted:
        """The whole kernel: operands read, iterations, results stored."""
        operands = [self._operand(arg) for arg in node.args]
        body, streams = node.kwargs["body"], node.kwargs["carries"] + node.kwargs.get("sequences", 0)
        self.lanes = max([n.size for n in (*body.outputs, *body.inputs[:streams])], default=1)
        if self.lanes > LANES:
            raise _Unfit
        self.width = self.size(self.lanes) if self.lanes > 1 else ""
        wanted = {item.kwargs["index"]: item for item in results}
        made = [self._out(wanted[i]) if i in wanted else None for i in range(len(node.aval.parts))]  # type: ignore[attr-defined]
        values = self._run(node, operands, made, self.lanes)
        for i, item in wanted.items():
            if i < len(values) and item.size == 1:
                self.block.append(Store(self._out(item), (), values[i]))
            elif i < len(values):
                self._for_each_lane([Store(self._out(item), (_LANE,), self._of_lane(values[i]))])
        return self.finished(title, self.block)

    # -- operands and results --------------------------------------------------------------------------------------

    def _operand(self, arg: Expr) -> Operand | _Array:
        base = source_of(arg)
        if base.op.name == "constant":
            return Literal(base.dtype, base.kwargs["value"].value)
        array = _Array(self.buffer(base, "in"), arg.shape, arg.dtype)
        return self._load(array, ()) if arg.size == 1 else array

    def _out(self, item: Expr) -> str:
        return self.buffer(item, "out")

    def _load(self, array: _Array, index: tuple[Term, ...], note: str = "") -> str:
        name = self.fresh()
        self.block.append(Load(name, array.dtype, array.buffer, (*array.start, *index), note))
        return name

    def _compute(self, op: str, dtype: DType, *args: Operand, of: DType = DEFAULT_INT) -> str:
        name = self.fresh()
        dtypes = (np.dtype(bool), of, of) if op == "where" else (of,) * len(args)
        self.block.append(Compute(name, dtype, REGISTRY[op], args, dtypes, {}))
        return name

    def _variable(self, dtype: DType, value: Operand) -> str:
        name = self.fresh()
        self.variables.add(name)
        self.block.append(Assign(name, dtype, value))
        return name

    # -- loops -----------------------------------------------------------------------------------------------------

    def _run(self, node: Expr, operands: list[Any], made: Sequence[str | None], lanes: int = 1) -> list[Any]:
        """The iterations of a loop; the carries after them. made: the buffers of all results. lanes: of how many
        elements its arrays are."""
        params = node.kwargs
        body, k, m = params["body"], params["carries"], params.get("sequences", 0)
        limit: Operand | None = None
        if node.op.name == "scan":
            if params["length"] == DYNAMIC:
                limit, *operands = operands
            else:
                limit = self.size(params["length"])
        carry, xs, outer = operands[:k], operands[k : k + m], operands[k + m :]
        if any(n.size not in (1, lanes) for n in (*body.outputs, *body.inputs[: k + m])):
            raise _Unfit
        names = [self._carried(*each) for each in zip(body.inputs[:k], carry, strict=True)]
        if limit is not None:
            done = self._variable(DEFAULT_INT, Literal(DEFAULT_INT, DEFAULT_INT.type(0)))
        outside, test, inside = self.block, list[Statement](), list[Statement]()
        self.block = test
        if limit is None:
            (condition,) = self._graph(params["test"], [*names, *outer])
        else:
            condition = self._compute("less", np.dtype(bool), done, limit)
        self.block = inside
        if limit is not None:
            one = Literal(DEFAULT_INT, DEFAULT_INT.type(1))
            at: Operand = self._compute("add", DEFAULT_INT, done, Literal(DEFAULT_INT, DEFAULT_INT.type(0)))
            if params["reverse"]:
                at = self._compute("subtract", DEFAULT_INT, self._compute("subtract", DEFAULT_INT, limit, one), at)
            assert isinstance(at, str)
            place = (Term(at),)
            row = (Term(at, 1, (self.width,)),) if lanes > 1 else place
            xs = [
                self._load(self._rows(x), place) if n.size == 1 else replace(self._rows(x), shape=n.shape, start=row)
                for n, x in zip(body.inputs[k : k + m], xs, strict=True)
            ]
        new = self._graph(body, [*names, *xs, *outer], lanes)
        ends = list[Statement]()
        tapes = [(body.inputs[j], names[j]) for j in params["record"]]
        for buffer, (n, value) in zip(made[k:], [*zip(body.outputs[k:], new[k:], strict=True), *tapes], strict=False):
            if buffer is not None and n.size == 1:
                self.block.append(Store(buffer, place, value))
            elif buffer is not None:
                ends.append(Store(buffer, (*row, _LANE), self._of_lane(value)))
        # All at once: a new value may be the old one of another carry.
        assigned = [(n.dtype, *pair) for n, *pair in zip(body.inputs[:k], names, new, strict=False) if n.size == 1]
        assigned = [(d, old, self._variable(d, v) if v in self.variables else v) for d, old, v in assigned]
        moved = [(x, v) for x, v in zip(names, new, strict=False) if isinstance(x, _Array) and x is not v]
        ends += [Store(x.buffer, (_LANE,), value) for x, value in [(x, self._of_lane(v)) for x, v in moved]]
        if ends:
            self._for_each_lane(ends)
        self.block += [Assign(name, dtype, value) for dtype, name, value in assigned]
        if limit is not None:
            self.block.append(Assign(done, DEFAULT_INT, self._compute("add", DEFAULT_INT, done, one)))
        self.block = outside
        self.block.append(While(test, condition, inside))
        return list(names)

    def _carried(self, like: Expr, first: Any) -> str | _Array:
        """A variable, or an array that changes where it lies."""
        if like.size == 1:
            if isinstance(first, (_Array, _Lane)):
                raise _Unfit
            return self._variable(like.dtype, first)
        array = _Array(self.scratch(like.dtype, self.lanes), like.shape, like.dtype)
        self._for_each_lane([Store(array.buffer, (_LANE,), self._of_lane(first))])
        return array

    def _for_each_lane(self, ends: list[Statement]) -> None:
        """What the lanes do, and these statements in the end."""
        self.block.append(Loop(_LANE.variable, self.width, [*self.lane, *ends]))
        self.lane, self.loaded = [], {}

    def _of_lane(self, value: Any) -> Operand:
        """What a lane sees of a value."""
        if isinstance(value, _Lane):
            return value.name
        if not isinstance(value, _Array):
            operand: Operand = value
            return operand
        if size(value.shape) != self.lanes:
            raise _Unfit
        if value not in self.loaded:
            self.loaded[value] = self.fresh()
            self.lane.append(Load(self.loaded[value], value.dtype, value.buffer, (*value.start, _LANE)))
        return self.loaded[value]

    @staticmethod
    def _rows(x: Any) -> _Array:
        if not isinstance(x, _Array):
            raise _Unfit  # a sequence of one row was read as a number
        return x

    # -- straight-line code ----------------------------------------------------------------------------------------

    def _graph(self, graph: Graph, inputs: Sequence[Any], lanes: int = 1) -> list[Any]:
        """The outputs; of arrays, if there are no lanes, elements may be read, and no more."""
        if graph.effects:
            raise _Unfit
        values: dict[Expr, Any] = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.nodes():
            if node not in values:
                args = [values[arg] for arg in node.args]
                each = lanes > 1 and not isinstance(node.aval, Avals) and node.size == lanes
                values[node] = self._each(node, args) if each else self._value(node, args)
        found = [values[node] for node in graph.outputs]
        if lanes == 1 and any(isinstance(value, (_Array, _Lane)) for value in found):
            raise _Unfit
        return found

    def _each(self, node: Expr, args: list[Any]) -> Any:
        """A value of all lanes."""
        name, (x, *_) = node.op.name, args or (None,)
        if name in FLAT_VIEWS:
            return replace(x, shape=node.shape) if isinstance(x, _Array) else x
        if name == "broadcast_to" and node.args[0].size == 1 and not isinstance(x, _Array):
            return x
        if any(arg.size != 1 and arg.shape != node.shape for arg in node.args):
            raise _Unfit
        return _Lane(self._compute_into(self.lane, node, [self._of_lane(arg) for arg in args]))

    def _value(self, node: Expr, args: list[Any]) -> Any:
        name = node.op.name
        if name == "item":
            return args[0][node.kwargs["index"]]
        if name in ("while_loop", "scan"):
            assert isinstance(node.aval, Avals)
            if len(node.aval.parts) > node.kwargs["carries"]:
                raise _Unfit
            return self._run(node, args, [None] * len(node.aval.parts))
        if name == "cond":
            return self._chosen(node, args)
        if node.op.name == "constant":
            return Literal(node.dtype, node.kwargs["value"].value)
        if args and isinstance(args[0], _Array):
            return self._element(node, args)
        if node.size != 1 or any(isinstance(arg, (_Array, _Lane)) for arg in args):
            raise _Unfit
        if name in _SAME or (name in (*_FOLDS, "astype") and node.dtype == node.args[0].dtype):
            return args[0]
        if name == "iota":
            return Literal(node.dtype, node.dtype.type(0))
        return self._compute_into(self.block, node, args)

    def _compute_into(self, block: list[Statement], node: Expr, args: Sequence[Operand]) -> str:
        op = node.op
        if op.family != "elementwise" or op.scalar is None or (op.name == "pow" and node.dtype.kind != "f"):
            raise _Unfit
        fresh = self.fresh()
        block += computed(node, fresh, args, self.note(node), self.fresh)
        return fresh

    def _chosen(self, node: Expr, args: list[Any]) -> list[Operand]:
        """Branches that are cheap are all computed, and one is chosen."""
        index, *x = args
        branches = node.kwargs["branches"]
        nodes = [n for graph in branches for n in graph.nodes()]
        if node.args[0].ndim or len(nodes) > BRANCH or any(n.op.graphs or n.op.name == "gather" for n in nodes):
            raise _Unfit
        results = [self._graph(graph, x) for graph in branches]
        chosen = results[-1]
        for i, found in reversed(list(enumerate(results[:-1]))):
            here = Literal(node.args[0].dtype, node.args[0].dtype.type(i))
            is_it = self._compute("less_equal", np.dtype(bool), index, here, of=node.args[0].dtype)
            chosen = [
                self._compute("where", n.dtype, is_it, a, b, of=n.dtype)
                for n, a, b in zip(branches[0].outputs, found, chosen, strict=True)
            ]
        return chosen

    def _element(self, node: Expr, args: list[Any]) -> Any:
        """An element of an array, or a view that has its elements in the same places."""
        array, *indices = args
        params = node.kwargs
        if node.op.name in FLAT_VIEWS:
            return replace(array, shape=node.shape)
        if node.size != 1:
            raise _Unfit
        if node.op.name == "slice":
            at = int(np.ravel_multi_index(params["starts"], array.shape)) if array.shape else 0
            return self._load(array, (Term("", at),) if at else (), self.note(node))
        if node.op.name != "gather" or sorted(params["axes"]) != list(range(len(array.shape))):
            raise _Unfit
        places = dict(zip(params["axes"], zip(indices, node.args[1:], strict=True), strict=True))
        terms = []
        for axis, length in enumerate(array.shape):
            value, index = places[axis]
            check = self.bound(value, node, axis, self.size(length), signed=index.dtype.kind == "i")
            self.block.append(check)
            rest = size(array.shape[axis + 1 :])
            terms.append(Term(check.name, 1, (self.size(rest),) if rest != 1 else ()))
        return self._load(array, tuple(terms), self.note(node))
