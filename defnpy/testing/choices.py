"""The choices of a random program: where its numbers come from, its inputs, and the values made so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..array.statistics import clip
from ..ir.aval import Aval
from ..ir.expr import Expr
from ..ir.trace import Trace
from ..ops.linear import iota

__all__ = ["Below", "Choices", "Item", "broadcasts"]

Below = Callable[[int], int]

LARGEST = 24.0  # bound of the values that go on; larger ones are clipped


@dataclass
class Item:
    """A value of the program in the making."""

    x: Expr
    exact: bool = True
    bound: float = 3.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def kind(self) -> str:
        return self.x.dtype.kind


@dataclass
class Choices:
    """What a program in the making consists of, and how it chooses."""

    below: Below
    trace: Trace
    floats: str = "float64"
    smooth: bool = False  # only steps with a derivative everywhere
    table: bool = False  # any op of the registry, too
    whole_gradient: bool = False  # no stop_grad: differences see through it
    values: list[np.ndarray] = field(default_factory=list)
    pool: list[Item] = field(default_factory=list)

    # -- choices -----------------------------------------------------------------------------------------------------

    def coin(self, sides: int = 2) -> bool:
        return self.below(sides) == sides - 1

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def some(self, keep: Callable[[Item], bool] = lambda item: True) -> Item | None:
        """A value of the pool; the newer half is twice as likely."""
        fitting = [item for item in self.pool if keep(item)]
        if not fitting:
            return None
        return self.pick([*reversed(fitting), *fitting[len(fitting) // 2 :]])

    def number(self) -> Item:
        return self.some(lambda item: item.kind != "b") or self.pool[0]

    # -- inputs ------------------------------------------------------------------------------------------------------

    def shape(self) -> tuple[int, ...]:
        sizes = [2, 3, 1, 4, 5, 1, 2, 3, 4, 0] if self.coin(12) else [2, 3, 1, 4, 5, 1]
        return tuple(self.pick(sizes) for _ in range(self.pick([2, 3, 1, 2, 3, 0, 4])))

    def input(self, shape: tuple[int, ...], dtype: str) -> Item:
        n = math.prod(shape)
        numbers = np.array([self.below(7) - 3 for _ in range(min(n, 7))] or [0])
        # A few drawn numbers and a fixed pattern of them: enough to tell places apart, little to draw.
        array = numbers[(np.arange(n) * 5 + np.arange(n) // 3) % len(numbers)].reshape(shape)
        kind = np.dtype(dtype).kind
        array = (array > 0) if kind == "b" else np.abs(array) if kind == "u" else array
        x = self.trace.parameter(Aval(shape, np.dtype(dtype)), f"in{len(self.values)}")
        self.values.append(np.asarray(array, dtype))  # NumPy makes scalars of arrays without axes
        return Item(x)

    def inputs(self) -> None:
        base = self.shape()
        self.pool.append(self.input(base, self.floats))
        for _ in range(self.below(3)):
            how = self.below(5)
            if how == 0:
                shape = base
            elif how == 1:
                shape = tuple(1 if self.coin() else n for n in base)
            elif how == 2:
                shape = base[self.below(len(base) + 1) :]
            elif how == 3:
                shape = base[::-1]
            else:
                shape = self.shape()
            dtypes = [self.floats, self.floats, "int64", "int32", "bool", "uint8"]
            dtype = self.floats if self.smooth else self.pick(dtypes)
            self.pool.append(self.input(shape, dtype))

    def add(self, x: Any, exact: bool, bound: float) -> None:
        if not isinstance(x, Expr):
            x = self.trace.lift(x)
        if x.size > 400 or x.ndim > 5:
            return
        item = Item(x, exact, bound)
        if bound > LARGEST and self.smooth:
            item = Item(x * (4 / bound), False, 4.0)
        elif bound > LARGEST and item.kind in "iuf":
            low = 0 if item.kind == "u" else -4
            item = Item(clip(x, low, 4), exact, 4.0)
        self.pool.append(item)

    def index(self, n: int, shape: tuple[int, ...]) -> Expr:
        if self.coin(3):
            axis = self.below(len(shape)) if shape else 0
            if shape:
                counted = iota(shape=shape, axis=axis)
                return counted if shape[axis] <= n else counted % n
        x = self.trace.parameter(Aval(shape, np.dtype(self.pick(["int64", "int32"]))), f"in{len(self.values)}")
        count = math.prod(shape)
        drawn = np.array([self.below(2 * n) - n for _ in range(min(count, 4))] or [0])
        self.values.append(drawn[np.arange(count) % len(drawn)].reshape(shape).astype(x.dtype))
        return x


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes broadcast."""
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True
