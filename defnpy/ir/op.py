"""Op: the record that one declaration makes. Everything the compiler knows of a primitive is on it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .aval import Aval, Avals

__all__ = ["CONSTANT", "ITEM", "PARAMETER", "REGISTRY", "Case", "Literal", "Op"]

REGISTRY: dict[str, Op] = {}


@dataclass(frozen=True)
class Case:
    """One call that the table-driven tests make.

    arrays: a function from a seeded generator and a float dtype to the operands.
    params: the static parameters.
    smooth: whether the op is differentiable at these operands, so that numerical differences can be compared.
    """

    arrays: Callable[[np.random.Generator, np.dtype[Any]], Sequence[Any]]
    params: dict[str, Hashable] = field(default_factory=dict)
    smooth: bool = True


@dataclass(eq=False)
class Op:
    """A primitive.

    body: the NumPy reference; arrays positional-only, static parameters keyword-only. Its name, signature and
        docstring are the public ones.
    family: which of the families in ``ops/families.py`` declared it; that decides how it is lowered.
    call: carries out a call of the op by a user.
    convert: brings the operands to the dtypes the op works in (casts are nodes of their own).
    infer: the Aval of the result from the operands' Avals and the parameters, a tuple of them for an op with several
        results (its body returns a tuple of arrays, too); raises a bare Mismatch.
    normalize: checks and fills in the static parameters, given the operands' Avals.
    vjp: ``vjp(g, y, *x, **params)`` gives one Expr or None per operand; None when not differentiable. Of an op with
        several results ``g`` and ``y`` are tuples, and a ``g`` is None where nothing depends on that result.
    not_differentiable: the reason, where ``vjp`` is None.
    tame: of an elementwise op, whether its value and its derivatives are finite wherever its operands are.
    jvp: ``jvp(tangents, y, *x, **params)`` gives the tangent of the result, or None; a tangent is None where an operand
        has none. It is given where it pays; otherwise the walk forwards transposes ``vjp``.
    scalar: the value of one element in the scalar dialect, where there is one.
    kinds: the dtype kinds the op computes in, of "biuf".
    effect: the op has a side effect: it is neither merged nor dropped.
    cheap: recomputing an element costs less than storing and loading it.
    graphs: the static parameters that hold closed graphs, which the op runs: one, or a tuple of them.
    batch: ``batch(batched, *x, **params)`` computes the op for many examples at once, see ``ops/batching.py``; None
        when the examples are computed one after the other. An op with ``graphs`` gets as ``ctx`` what batches them.
    loops: the reason, where ``batch`` is None.
    """

    body: Callable[..., Any]
    family: str
    infer: Callable[..., Aval | tuple[Aval, ...]]
    call: Callable[..., Any]
    convert: Callable[[Op, Sequence[Any]], Sequence[Any]]
    normalize: Callable[..., dict[str, Any]] | None = None
    vjp: Callable[..., Sequence[Any]] | None = None
    not_differentiable: str = ""
    scalar: str | None = None
    kinds: str = "biuf"
    effect: bool = False
    cheap: bool = True
    graphs: frozenset[str] = frozenset()
    cases: Sequence[Case] = ()
    tame: bool = False
    jvp: Callable[..., Any] | None = None
    batch: Callable[..., Any] | None = None
    loops: str = ""

    def __post_init__(self) -> None:
        self.name = self.body.__name__.rstrip("_")
        if (self.vjp is None) == (not self.not_differentiable):
            raise ValueError(f"{self.name}: give a vjp rule, or vjp=None with the reason")
        if self.name in REGISTRY:
            raise ValueError(f"{self.name} is declared twice")
        REGISTRY[self.name] = self
        self.__name__ = self.__qualname__ = self.name
        self.__doc__ = self.body.__doc__
        self.__module__ = self.body.__module__
        code = self.body.__code__  # inspect.signature would say the same, and cost most of the import of the package
        self.array_names = code.co_varnames[: code.co_posonlyargcount]
        self.arity = len(self.array_names)
        self.static_names = frozenset(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])
        self.variadic = bool(code.co_flags & inspect.CO_VARARGS)

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.body)

    def aval(self, avals: Sequence[Aval], params: dict[str, Any]) -> Aval:
        """What ``infer`` says of a node: an Aval, or the Avals of several results."""
        found = self.infer(*avals, **params)
        return Avals(found) if isinstance(found, tuple) else found

    def __call__(self, *args: Any, **params: Any) -> Any:
        return self.call(self, args, params)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_by_name, (self.name,))


def _by_name(name: str) -> Op:
    return REGISTRY[name]


class Literal:
    """A NumPy scalar as a hashable parameter: equal when dtype and bits are, so -0.0 is not 0.0 and NaN is NaN."""

    __slots__ = ("_key", "value")

    def __init__(self, value: np.generic) -> None:
        self.value = value
        self._key = (value.dtype.str, value.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return str(self.value)


def _leaf(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    raise TypeError(f"{op.name} nodes are made by a trace, not called")


def _parameter() -> Any:
    """An input of a graph."""
    raise AssertionError("an input has no value of its own")


def _constant(*, value: Literal) -> Any:
    """A number in the program. Its bits are part of the graph; arrays are lifted to inputs instead."""
    return np.asarray(value.value)


def _constant_aval(*, value: Literal) -> Aval:
    return Aval((), value.value.dtype)


def _item(values: Any, /, *, index: int) -> Any:
    """One of the results of an op that has several: ``index`` counts them."""
    return values[index]


def _item_aval(values: Aval, *, index: int) -> Aval:
    assert isinstance(values, Avals)
    return values.parts[index]


def _as_given(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    return args


_parameter.__name__, _constant.__name__, _item.__name__ = "parameter", "constant", "item"
PARAMETER = Op(
    _parameter,
    "leaf",
    lambda: Aval((), np.dtype("bool")),
    _leaf,
    _as_given,
    not_differentiable="an input is where differentiation ends",
)
CONSTANT = Op(
    _constant, "leaf", _constant_aval, _leaf, _as_given, not_differentiable="a number does not depend on anything"
)
ITEM = Op(_item, "item", _item_aval, _leaf, _as_given, not_differentiable="the walk backwards hands cotangents through")
