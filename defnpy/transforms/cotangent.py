"""What flows backwards: a cotangent, and where it is alive.

``where(x > 0, sqrt(x), 0)`` sends the cotangent 0 to the square root at x = 0, whose derivative there is inf, and
0 * inf is NaN: a branch that was not taken poisons the gradient. So a cotangent that comes out of a selection keeps the
condition with it. Through an elementwise op it goes unmasked (``bare``), whatever that makes of the dead elements, and
where it arrives the selection is made: after the arithmetic, not before it. That is right in derivatives of any order,
since the mask is the user's own condition and not the question whether the cotangent is zero.

A selection is recognized by what a rule returns: ``where(condition, part, 0)`` or ``where(condition, 0, part)``. It is
made by where, relu, clip, maximum, minimum, max and min. Below a ``where`` of the user's every op is guarded, so that
even arguments may be NaN where it does not look; below the others, which are everywhere in networks, only an op that
may make inf or NaN of finite arguments (``finite.py``).
Where the condition of a ``where`` is one boolean, it masks what comes out of any op; how a condition by element goes
through an op that mixes elements, says ``masks.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import cotangent_dtype
from ..ir.expr import Expr
from ..ir.op import CONSTANT, Op
from ..ops.convert import astype, cast
from ..ops.elementwise import where
from ..ops.linear import broadcast_to, flip, permute_dims, reshape, slice_, sum_
from ..ops.logic import logical_and, logical_not, logical_or
from ..ops.mark import stop_grad
from ..ops.reduce import any_

__all__ = ["Cotangent", "guarded", "unbroadcast"]


class Cotangent:
    """A cotangent of a node, in its shape.

    bare: right where it is alive, anything elsewhere.
    value: zero where it is not alive. Made when it is asked for.
    alive: a condition that broadcasts to the shape, None for everywhere. Made when it is asked for: most are never.
    """

    __slots__ = ("_alive", "_value", "bare", "strict")

    def __init__(
        self, bare: Any, alive: Callable[[], Any] | Expr | None = None, value: Any = None, strict: bool = False
    ) -> None:
        self.bare = bare
        self._alive = alive
        self._value = bare if alive is None else value
        self.strict = strict

    @classmethod
    def of(cls, part: Any, node: Expr, strict: bool = False) -> Cotangent:
        """What the rule of a node returned, a selection or not; one of a ``where`` is strict in any case."""
        if isinstance(part, Expr) and part.op is where:
            condition, x, y = part.args
            strict = strict or node.op is where
            if _is_zero(y):
                return cls(_whole(x, part.shape), condition, part, strict)
            if _is_zero(x):
                return cls(_whole(y, part.shape), lambda: logical_not(condition), part, strict)
        return cls(part)

    @property
    def masked(self) -> bool:
        """Whether there is a condition."""
        return self._alive is not None

    @property
    def alive(self) -> Any:
        """The condition."""
        if not isinstance(self._alive, Expr) and self._alive is not None:
            self._alive = self._alive()
        return self._alive

    @property
    def value(self) -> Any:
        """The cotangent itself."""
        if self._value is None:
            self._value = where(self.alive, self.bare, 0)
        return self._value

    def within(self, outer: Cotangent, masked: bool) -> Cotangent:
        """This one, made of the elements of ``outer`` one by one, of the bare ones if ``masked``: alive where both
        are."""
        if not outer.masked:
            return self
        strict = self.strict or outer.strict
        if not self.masked:
            if self.bare is outer.bare or self.bare is outer._value:
                return outer
            return Cotangent(self.bare, lambda: outer.alive, None if masked else self.bare, strict)
        both = lambda: _joined(logical_and, outer.alive, self.alive)  # noqa: E731
        return Cotangent(self.bare, both, None if masked else self._value, strict)

    def clean(self) -> Cotangent:
        """This one, if the bare elements are zero already where they are not alive: that they are it whatever happens
        is all that is left to say, for a second derivative."""
        if not self.masked:
            return self
        return Cotangent(self.bare, self._alive, where(self.alive, self.bare, stop_grad(self.bare)), self.strict)

    @property
    def whole(self) -> Any:
        """The one boolean that decides on all elements, where a selection of the user's is by one; else None."""
        return _one(self.alive) if self.masked and self.strict else None

    def fitted(self, arg: Expr) -> Cotangent | None:
        """This one as a cotangent of an operand that was broadcast and cast; None where that has none."""
        dtype = cotangent_dtype(arg.dtype)
        if dtype is None:
            return None
        if self.bare.shape == arg.shape:
            if self.bare.dtype == dtype and not self.bare.aval.weak:
                return self
            value = None if self._value is None else cast(self._value, dtype)
            return Cotangent(cast(self.bare, dtype), self._alive, value, self.strict)
        part = unbroadcast(self.value, arg)
        if not self.masked:
            return Cotangent(part)
        shape = self.bare.shape
        return Cotangent(part, lambda: _any(_whole(self.alive, shape), arg.shape), part, self.strict)

    def __add__(self, other: Cotangent) -> Cotangent:
        if not (self.masked and other.masked):
            return Cotangent(self.value + other.value)
        one, two, strict = self.alive, other.alive, self.strict or other.strict
        if one is two:
            return Cotangent(self.bare + other.bare, one, None, strict)
        total = self.value + other.value
        if any(x.op is logical_not and x.args[0] is y for x, y in ((one, two), (two, one))):
            return Cotangent(total)  # the two branches of one selection
        return Cotangent(total, lambda: _joined(logical_or, one, two), total, strict)


def guarded(parts: Sequence[Cotangent | None], ones: Sequence[Any]) -> list[Cotangent | None]:
    """The cotangents of the operands of any op, where one boolean decides on each of its results' cotangents: none of
    it is alive unless one of ``ones`` is."""
    alive = Cotangent(None, functools.reduce(logical_or, dict.fromkeys(ones)), None, True)
    return [None if part is None else part.within(alive, True) for part in parts]


def unbroadcast(part: Any, arg: Expr) -> Any:
    """A rule's result in the shape and dtype of the cotangent of ``arg``; None where that has no cotangent.

    Elementwise ops broadcast their operands, so their rules give results in the shape of the output; here, once for
    all of them, the repeated axes are summed.
    """
    dtype = cotangent_dtype(arg.dtype)
    if dtype is None:
        return None
    if part.shape != arg.shape:
        axes = shapes.broadcast_axes(arg.shape, part.shape)
        part = reshape(sum_(part, axis=axes), shape=arg.shape) if axes else reshape(part, shape=arg.shape)
    return cast(part, dtype)


_MOVES = (broadcast_to, flip, permute_dims, reshape, slice_)


def _one(alive: Expr) -> Any:
    """The boolean that a condition repeats, None where it has several."""
    while alive.size != 1 and alive.op in _MOVES:
        (alive,) = alive.args
    return reshape(alive, shape=()) if alive.size == 1 else None


def _joined(join: Op, first: Expr, second: Expr) -> Any:
    """Two conditions as one, which is one boolean where each is."""
    ones = _one(first), _one(second)
    return join(first, second) if ones[0] is None or ones[1] is None else join(*ones)


def _any(alive: Any, shape: shapes.Shape) -> Any:
    axes = shapes.broadcast_axes(shape, alive.shape)
    return reshape(any_(alive, axis=axes) if axes else alive, shape=shape)


def _whole(x: Any, shape: shapes.Shape) -> Any:
    return x if x.shape == shape else broadcast_to(x, shape=shape)


def _is_zero(node: Expr) -> bool:
    while node.op is broadcast_to or node.op is astype:
        (node,) = node.args
    return node.op is CONSTANT and bool(np.equal(node.kwargs["value"].value, 0))
