"""Operators and methods, filled in once for tensors and traced values alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir.expr import Expr, Value
from ..ir.trace import function
from ..ops import elementwise as e
from ..ops import linear, logic, reduce
from . import indexing, manipulation, products, refusals, statistics
from .info import __array_api_version__

__all__ = ["fill"]

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": e.add,
    "sub": e.subtract,
    "mul": e.multiply,
    "truediv": e.divide,
    "floordiv": e.floor_divide,
    "mod": e.remainder,
    "pow": e.pow_,
    "matmul": products.matmul,
    "and": logic.bitwise_and,
    "or": logic.bitwise_or,
    "xor": logic.bitwise_xor,
    "lshift": logic.bitwise_left_shift,
    "rshift": logic.bitwise_right_shift,
}
_VERSIONS = ("2021.12", "2022.12", "2023.12", __array_api_version__)  # each a part of the next
_COMPARISONS = {
    "eq": logic.equal,
    "ne": logic.not_equal,
    "lt": logic.less,
    "le": logic.less_equal,
    "gt": logic.greater,
    "ge": logic.greater_equal,
}
_SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip


def _methods() -> dict[str, Any]:
    def T(self: Any) -> Any:
        """The axes in reverse order."""
        return manipulation.transpose(self)

    def mT(self: Any) -> Any:
        """The last two axes swapped."""
        return manipulation.matrix_transpose(self)

    def at(self: Any) -> indexing.At:
        """The place of a functional update: ``x.at[i].set(v)``, ``x.at[i].add(v)``."""
        return indexing.At(self)

    def astype(self: Any, dtype: Any) -> Any:
        """The tensor converted to ``dtype``."""
        return manipulation.astype(self, dtype)

    def reshape(self: Any, *shape: Any) -> Any:
        """The elements in another shape, given as ints or as one sequence."""
        return linear.reshape(self, shape=shape[0] if len(shape) == 1 else shape)

    def transpose(self: Any, *axes: Any) -> Any:
        """The axes in another order, by default reversed."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return manipulation.transpose(self, order or None)

    def squeeze(self: Any, axis: Any = None) -> Any:
        """Without axes of size 1."""
        return manipulation.squeeze(self, axis)

    def ravel(self: Any) -> Any:
        """All elements in one axis."""
        return manipulation.ravel(self)

    def dot(self: Any, other: Any) -> Any:
        """NumPy's ``dot``."""
        return products.dot(self, other)

    def clip(self: Any, min: Any = None, max: Any = None) -> Any:
        """Limited to [min, max]."""
        return statistics.clip(self, min, max)

    def round(self: Any) -> Any:
        """Rounded to the nearest integer, halves to the even one."""
        return e.round_(self)

    methods: dict[str, Any] = {"T": property(T), "mT": property(mT), "at": property(at)}
    methods |= {f.__name__: f for f in (astype, reshape, transpose, squeeze, ravel, dot, clip, round)}
    for operation in (
        linear.sum_, statistics.mean, statistics.var, statistics.std, reduce.max_, reduce.min_, reduce.prod_,
        reduce.any_, reduce.all_, reduce.argmax, reduce.argmin,
    ):  # fmt: skip
        methods[operation.__name__] = _reduction(operation)
    return methods


def _reduction(operation: Any) -> Any:
    def method(self: Any, axis: Any = None, **options: Any) -> Any:
        return operation(self, axis=axis, **options)

    method.__name__ = operation.__name__
    method.__doc__ = operation.__doc__
    return method


def _binary(operation: Any) -> tuple[Any, Any]:
    def forward(self: Any, other: Any) -> Any:
        return operation(self, other)

    def reflected(self: Any, other: Any) -> Any:
        return operation(other, self)

    return forward, reflected


@function
def index(x: Any, place: Any, /) -> Any:
    """``x[place]``."""
    return indexing.getitem(x, place)


def _subscript(self: Any, place: Any) -> Any:
    return index(self, place)


def fill(namespace: Any) -> None:
    """Put the operators and methods on values; ``namespace`` is what ``__array_namespace__`` answers."""
    refusals.speak_of(namespace)

    def array_namespace(self: Any, /, *, api_version: str | None = None) -> Any:
        if api_version not in (None, *_VERSIONS):
            raise ValueError(f"unknown version {api_version!r} of the Array API standard: ask for {_VERSIONS[-1]!r}")
        return namespace

    put = _put
    for name, operation in _BINARY.items():
        forward, reflected = _binary(operation)
        put(Value, f"__{name}__", forward)
        put(Value, f"__r{name}__", reflected)
        put(Value, f"__i{name}__", refusals.in_place(_SYMBOLS[name]))
    for name, operation in _COMPARISONS.items():
        put(Value, f"__{name}__", _binary(operation)[0])
    for name, unary in {"neg": e.negative, "abs": e.abs_, "invert": logic.bitwise_invert}.items():
        put(Value, f"__{name}__", _unary(unary))
    put(Value, "__pos__", lambda self: self)
    put(Value, "__round__", _round)
    put(Value, "__divmod__", lambda self, other: (e.floor_divide(self, other), e.remainder(self, other)))
    put(Value, "__rdivmod__", lambda self, other: (e.floor_divide(other, self), e.remainder(other, self)))
    put(Value, "__hash__", object.__hash__)
    put(Value, "__getitem__", _subscript)
    put(Value, "__setitem__", refusals.setitem)
    put(Value, "__delitem__", refusals.delitem)
    put(Value, "__array_namespace__", array_namespace)
    for name, method in _methods().items():
        put(Value, name, method)
    for name, method in refusals.REFUSED_BY_EXPR.items():
        put(Expr, name, method)
    put(Expr, "__repr__", refusals.expr_repr)


def _round(self: Any, digits: int = 0) -> Any:
    return e.round_(self) if digits == 0 else e.round_(self * 10.0**digits) / 10.0**digits


def _unary(operation: Any) -> Any:
    return lambda self: operation(self)


def _put(cls: type, name: str, method: Any) -> None:
    setattr(cls, name, method)
