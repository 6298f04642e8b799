"""Loops over single numbers as one kernel: carries are variables, an iteration is straight-line code.

What fits: elementwise ops, branches and inner loops on values of one element; elements of larger arrays of the outside,
taken by an index; sequences with rows of one element, read and made. Everything else leaves the loop to the backend,
which runs its graphs again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..dtypes import DEFAULT_INT, DType
from ..ir.aval import Avals
from ..ir.expr import Expr, Graph
from ..ir.op import REGISTRY
from ..shapes import DYNAMIC, Shape, size
from .emitted import Draft, Emitted, computed
from .kernel import Assign, Compute, Literal, Load, Operand, Statement, Store, Term, While
from .views import FLAT_VIEWS, viewed

__all__ = ["fits", "loop_kernel", "source_of"]

BRANCH = 32  # operations of all branches together, up to which they are computed and one is chosen

_SAME = ("reshape", "permute_dims", "broadcast_to", "flip", "stop_grad")  # of one element
_FOLDS = ("sum", "prod", "max", "min", "any", "all")


class _Unfit(Exception):
    """The graph does something that a kernel of single numbers cannot."""


@dataclass(frozen=True)
class _Array:
    """An array in memory, of which elements are read."""

    buffer: str
    shape: Shape
    dtype: DType


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

    def loop(self, node: Expr, results: Sequence[Expr], title: str = "loop") -> Emitted:
        """The whole kernel: operands read, iterations, results stored."""
        operands = [self._operand(arg) for arg in node.args]
        wanted = {item.kwargs["index"]: item for item in results}
        made = [self._out(wanted[i]) if i in wanted else None for i in range(len(node.aval.parts))]  # type: ignore[attr-defined]
        values = self._run(node, operands, made)
        for i, item in wanted.items():
            if i < len(values):
                self.block.append(Store(self._out(item), (), values[i]))
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
        self.block.append(Load(name, array.dtype, array.buffer, index, note))
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

    def _run(self, node: Expr, operands: list[Any], made: Sequence[str | None]) -> list[Operand]:
        """The iterations of a loop; the carries after them. made: the buffers of all results."""
        params = node.kwargs
        body, k, m = params["body"], params["carries"], params.get("sequences", 0)
        limit: Operand | None = None
        if node.op.name == "scan":
            if params["length"] == DYNAMIC:
                limit, *operands = operands
            else:
                limit = self.size(params["length"])
        carry, xs, outer = operands[:k], operands[k : k + m], operands[k + m :]
        if any(isinstance(x, _Array) for x in carry) or any(
            n.size != 1 for n in (*body.outputs, *body.inputs[: k + m])
        ):
            raise _Unfit
        dtypes = [n.dtype for n in body.inputs[:k]]
        names = [self._variable(dtype, value) for dtype, value in zip(dtypes, carry, strict=True)]
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
            xs = [self._load(self._rows(x), place) for x in xs]
            for buffer, j in zip(made[len(body.outputs) :], params["record"], strict=True):
                if buffer is not None:
                    self.block.append(Store(buffer, place, names[j]))
        new = self._graph(body, [*names, *xs, *outer])
        for buffer, value in zip(made[k : len(body.outputs)], new[k:], strict=True):
            if buffer is not None:
                self.block.append(Store(buffer, place, value))
        # All at once: a new value may be the old one of another carry.
        new = [
            self._variable(dtype, value) if value in self.variables else value
            for dtype, value in zip(dtypes, new[:k], strict=True)
        ]
        self.block += [Assign(name, dtype, value) for name, dtype, value in zip(names, dtypes, new, strict=True)]
        if limit is not None:
            self.block.append(Assign(done, DEFAULT_INT, self._compute("add", DEFAULT_INT, done, one)))
        self.block = outside
        self.block.append(While(test, condition, inside))
        return list(names)

    @staticmethod
    def _rows(x: Any) -> _Array:
        if not isinstance(x, _Array):
            raise _Unfit  # a sequence of one row was read as a number
        return x

    # -- straight-line code ----------------------------------------------------------------------------------------

    def _graph(self, graph: Graph, inputs: Sequence[Any]) -> list[Operand]:
        if graph.effects:
            raise _Unfit
        values: dict[Expr, Any] = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.nodes():
            if node not in values:
                values[node] = self._value(node, [values[arg] for arg in node.args])
        found = [values[node] for node in graph.outputs]
        if any(isinstance(value, _Array) for value in found):
            raise _Unfit
        return found

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
        if node.size != 1 or any(isinstance(arg, _Array) for arg in args):
            raise _Unfit
        if name in _SAME or (name in (*_FOLDS, "astype") and node.dtype == node.args[0].dtype):
            return args[0]
        if name == "iota":
            return Literal(node.dtype, node.dtype.type(0))
        if node.op.family != "elementwise" or node.op.scalar is None or (name == "pow" and node.dtype.kind != "f"):
            raise _Unfit
        fresh = self.fresh()
        self.block += computed(node, fresh, args, self.note(node), self.fresh)
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
            return _Array(array.buffer, node.shape, array.dtype)
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
