"""The current trace: interning, captured values, and what happens when an op is called."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from ..dtypes import as_dtype, scalar_kind
from ..errors import DTypeError, LeakError, Mismatch, ShapeError
from ..source import Location, capture, quote
from .aval import Aval, Avals
from .expr import Expr, Graph, Params, Value, has_effect
from .op import CONSTANT, ITEM, PARAMETER, Literal, Op

__all__ = [
    "NUMBERS",
    "Evaluator",
    "Trace",
    "aval_of",
    "bind",
    "call",
    "current",
    "error",
    "function",
    "install",
    "note_read",
    "tracing",
]


class Evaluator(Protocol):
    """What stands at the bottom of the trace stack: it computes at once."""

    def bind(self, op: Op, operands: Sequence[Any], params: dict[str, Any], aval: Aval) -> Any:
        """The value of ``op`` on concrete operands; a tuple where ``aval`` is Avals."""


# The aval of a Python number, by its type.
NUMBERS = {type(number): Aval((), scalar_kind(number), weak=True) for number in (False, 0, 0.0)}


class _Stack(threading.local):
    def __init__(self) -> None:
        self.traces: list[Trace] = []


_stack = _Stack()
_eager: Evaluator | None = None


def install(evaluator: Evaluator) -> None:
    """Choose what computes eager calls (made once, when the package is imported)."""
    global _eager
    _eager = evaluator


def current() -> Trace | None:
    """The innermost trace of this thread, or None when calls are computed at once."""
    return _stack.traces[-1] if _stack.traces else None


class Trace:
    """One graph in the making.

    Nodes are interned: the same op on the same operands with the same parameters is the same node. Values from
    outside (tensors, arrays, nodes of an enclosing trace) become hidden inputs: see ``captured``.
    """

    def __init__(self) -> None:
        self.open = True
        self.place: Location | None = None  # where new nodes come from; None means the running line of the user
        self.inputs: list[Expr] = []
        self.names: list[str] = []
        self.captured: dict[int, tuple[Any, Expr]] = {}
        self.effects: list[Expr] = []
        self.read: list[Any] = []  # concrete tensors whose elements became part of the program
        self._interned: dict[tuple[Any, ...], Expr] = {}

    def parameter(self, aval: Aval, name: str) -> Expr:
        """A new input."""
        node = Expr(PARAMETER, (), (("index", len(self.inputs)),), aval, None, self)
        self.inputs.append(node)
        self.names.append(name)
        return node

    def constant(self, value: np.generic) -> Expr:
        """The node of a number."""
        return self.node(CONSTANT, (), (("value", Literal(value)),), Aval((), value.dtype))

    def lift(self, value: Any) -> Expr:
        """The node that stands for an operand: itself, a constant for a number, a hidden input for the rest."""
        if isinstance(value, Expr):
            if value.trace is self:
                return value
            if not value.trace.open:
                raise LeakError(
                    f"a traced value {value.aval} is used after the function that made it has returned",
                    where=quote(value.loc) or quote(capture()),
                    hint="return it from that function instead of storing it in an outer variable",
                )
        elif isinstance(value, np.generic):
            return self.constant(value)
        known = self.captured.get(id(value))
        if known is None:
            aval = aval_of(value)
            node = self.parameter(Aval(aval.shape, aval.dtype, aval.weak), f"captured{len(self.captured)}")
            known = self.captured[id(value)] = (value, node)
        return known[1]

    def bind(self, op: Op, operands: Sequence[Any], params: dict[str, Any], aval: Aval) -> Expr:
        """The node of ``op`` on ``operands``, made now or before."""
        args = tuple([self.lift(x) for x in operands])
        return self.node(op, args, tuple(sorted(params.items())) if params else (), aval)

    def node(self, op: Op, args: tuple[Expr, ...], params: Params, aval: Aval) -> Expr:
        """Like :meth:`bind`, for operands that are nodes of this trace and sorted parameters."""
        return self._found(op, args, params, aval, None)

    def copy(self, node: Expr, args: tuple[Expr, ...], params: Params | None = None) -> Expr:
        """``node`` over operands of this trace, at its old place in the user's code; maybe with other parameters that
        leave the result's shape and dtype as they are."""
        aval = node.aval
        for new, old in zip(args, node.args, strict=True):
            if new.aval is not old.aval:
                aval = node.op.aval([x.aval for x in args], node.kwargs)
                break
        return self._found(node.op, args, node.params if params is None else params, aval, node)

    def _found(self, op: Op, args: tuple[Expr, ...], params: Params, aval: Aval, like: Expr | None) -> Expr:
        key = (op, args, params)
        found = self._interned.get(key)
        if found is None:
            place = like.loc if like is not None else self.place or capture()
            found = Expr(op, args, params, aval, place, self)
            if has_effect(found):  # neither merged with its equals nor dropped
                self.effects.append(found)
            else:
                self._interned[key] = found
        return found

    def items(self, node: Expr) -> tuple[Expr, ...]:
        """The results of a node that has several."""
        assert isinstance(node.aval, Avals)
        return tuple([self.node(ITEM, (node,), (("index", i),), part) for i, part in enumerate(node.aval.parts)])

    def inline(self, graph: Graph, inputs: Sequence[Any]) -> list[Expr]:
        """Copy a closed graph into this trace, over ``inputs``; returns its outputs."""
        return graph.rebuild([self.lift(x) for x in inputs], self.copy)

    def graph(self, outputs: Sequence[Expr]) -> Graph:
        """The closed graph of ``outputs``; inputs are the parameters, then the captured values."""
        return Graph(self.inputs, outputs, self.effects, self.names)


@contextmanager
def tracing() -> Iterator[Trace]:
    """Record the op calls of this thread into a new trace for the length of the block."""
    trace = Trace()
    _stack.traces.append(trace)
    try:
        yield trace
    finally:
        trace.open = False
        _stack.traces.remove(trace)


def note_read(value: Any) -> None:
    """Python reads the elements of a concrete tensor: in a trace, they become part of the program."""
    for trace in _stack.traces:
        trace.read.append(value)


def aval_of(value: Any) -> Aval:
    """What is known of an operand: a tensor, a traced value, a NumPy array or scalar, a Python number."""
    if isinstance(value, Value):
        return value.aval
    weak = NUMBERS.get(type(value))
    if weak is not None:
        return weak
    if isinstance(value, (np.ndarray, np.generic)):
        return Aval(value.shape, as_dtype(value.dtype))
    if isinstance(value, (bool, int, float)):  # a subclass of one of them
        return Aval((), scalar_kind(value), weak=True)
    hint = "make one with dp.asarray(...)" if isinstance(value, (list, tuple)) else ""
    hint = "ask whether something is None with `is`: x is None" if value is None else hint
    raise Mismatch(f"{_describe(value)} is not a tensor", hint=hint, error=DTypeError)


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def bind(op: Op, operands: Sequence[Any], params: dict[str, Any], aval: Aval) -> Any:
    """Record a call in the current trace, or compute it when there is none; several results come as a tuple."""
    trace = current()
    if trace is not None:
        node = trace.bind(op, operands, params, aval)
        return trace.items(node) if isinstance(aval, Avals) else node
    for x in operands:
        if isinstance(x, Expr):
            Trace().lift(x)  # raises the error for a leaked value
    if _eager is None:
        raise RuntimeError("no evaluator is installed: import defnpy, not one of its inner modules alone")
    return _eager.bind(op, operands, params, aval)


def call(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """A user's call of a primitive: check, convert, infer, record. The one place that words the errors of ops."""
    try:
        _check_call(op, args, params)
        operands = op.convert(op, args)
        avals = [aval_of(x) for x in operands]
        if op.normalize is not None:
            params = op.normalize(*avals, **params)
        return bind(op, operands, params, op.aval(avals, params))
    except Mismatch as mismatch:
        raise error(op.name, mismatch, args) from None


def _check_call(op: Op, args: Sequence[Any], params: dict[str, Any]) -> None:
    if (len(args) < op.arity) if op.variadic else (len(args) != op.arity):
        takes = f"takes {'at least ' if op.variadic else ''}{op.arity} tensor{'s' * (op.arity != 1)} by position"
        raise Mismatch(f"{takes}, got {len(args)}", hint=f"call {op.name}{op.__signature__}", error=DTypeError)
    for name in params:
        if name not in op.static_names:
            raise Mismatch(f"has no parameter {name!r}", hint=f"call {op.name}{op.__signature__}", error=DTypeError)


def error(name: str, mismatch: Mismatch, args: Sequence[Any]) -> Exception:
    """The three-part error of a bare mismatch: the op and its operands, the user's line, the way out."""
    shown = [_aval_text(x) for x in args]
    where = quote(capture())
    if mismatch.error is ShapeError:
        for x in args:
            if isinstance(x, Expr) and x.args:
                place = quote(x.loc)
                if place and place not in where:
                    where += f"\n  {x.aval} was made here:\n{place}"
    return mismatch.error(f"{name}({', '.join(shown)}): {mismatch.what}", where=where, hint=mismatch.hint)


def _aval_text(value: Any) -> str:
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        return repr(value)
    try:
        return str(aval_of(value))
    except Mismatch:
        return type(value).__name__


def function(body: Callable[..., Any]) -> Callable[..., Any]:
    """Give a composite of ops the same error wording as a primitive: a Mismatch raised in it names it and the place."""

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except Mismatch as mismatch:
            raise error(body.__name__, mismatch, args) from None
        except TypeError:
            signature = inspect.signature(body)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as refused:  # it was the call
                hint = f"call {body.__name__}{_plain(signature)}"
                raise error(body.__name__, Mismatch(str(refused), hint=hint, error=DTypeError), args) from None
            raise

    return wrapper


def _plain(signature: inspect.Signature) -> inspect.Signature:
    """A signature without the types."""
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=signature.empty)
