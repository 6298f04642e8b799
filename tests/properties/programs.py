"""Random programs for the property tests: what they compute is known, so that answers can be compared tightly.

A :class:`Program` is a closed graph with inputs for it. It is drawn from a stream of choices (``below(n)`` gives a
number from 0 to n - 1, the simplest being 0), which is Hypothesis in the tests; for a long campaign a seeded generator
does as well (``random.Random(seed).randrange``).

Most values are small whole numbers, so the answers are exact in any order of summation. A value that is not (``exact``
is false) is never handed to a step with jumps, where a rounding error would show as a large one; ``bound`` limits the
size of its elements, so that errors stay small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import defnpy as dp
from defnpy.backends.cpu import prelude
from defnpy.backends.cpu.backend import CpuBackend
from defnpy.backends.cpu.driver import readable
from defnpy.backends.cpu.render import render
from defnpy.backends.reference import evaluate
from defnpy.ir.aval import Aval
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.trace import Trace, tracing
from defnpy.lower.memory import ALIGNMENT
from defnpy.lower.program import CallStep, KernelStep, lower
from defnpy.ops.gather import gather, scatter_add, scatter_set
from defnpy.ops.linear import slice_
from defnpy.transforms.grad import backward

__all__ = ["Program", "check_memory", "compare", "draw_program", "run_compiled", "run_readable", "run_reference"]

Below = Callable[[int], int]

LARGEST = 24.0  # bound of the values that go on; larger ones are clipped


@dataclass
class Program:
    """A graph and inputs for it. It prints as both.

    differentiated: of a gradient program, whose outputs are a loss and gradients, the inputs that these belong to.
    """

    graph: Graph
    inputs: list[np.ndarray]
    tolerance: float
    differentiated: tuple[int, ...] = ()

    def __repr__(self) -> str:
        values = [
            f"{name} = np.array({x.tolist()!r}, {str(x.dtype)!r}).reshape({x.shape})"
            for name, x in zip(self.graph.names, self.inputs, strict=True)
        ]
        return "\n".join(["", dp.debug.show(self.graph), *values])


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
class Maker:
    """Draws one program."""

    below: Below
    trace: Trace
    floats: str = "float64"
    smooth: bool = False  # only steps with a derivative everywhere
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

    # -- steps -------------------------------------------------------------------------------------------------------

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
            item = Item(dp.clip(x, low, 4), exact, 4.0)
        self.pool.append(item)

    def step(self) -> None:
        steps = [
            self.unary, self.binary, self.normalise, self.reduce, self.movement, self.binary, self.reduce,
            self.expand, self.product, self.pick_elements, self.softmax, self.positions, self.join, self.idle,
        ]  # fmt: skip
        if not self.smooth:
            steps += [self.choose, self.cast, self.compare, self.scatter, self.whole]
        self.pick(steps)()

    def unary(self) -> None:
        item = self.number()
        x, float_ = item.x, item.kind == "f"
        if not float_ and not self.smooth:
            how = self.below(4)
            self.add([-x, dp.abs(x), dp.relu(x), x * x][how] if item.kind != "u" else x + 1, True, item.bound**2 + 1)
            return
        how = self.below(12 if self.smooth else 15)
        if how == 0:
            self.add(-x, item.exact, item.bound)
        elif how == 1:
            self.add(dp.tanh(x), False, 1.0)
        elif how == 2:
            self.add(dp.exp(dp.minimum(x, 2.5) if not self.smooth else dp.sin(x)), False, 13.0)
        elif how == 3:
            self.add(x * x, item.exact, item.bound**2)
        elif how == 4:
            self.add(dp.sin(x), False, 1.0)
        elif how == 5:
            self.add(dp.sigmoid(x), False, 1.0)
        elif how == 6:
            self.add(dp.sqrt(x * x + 1.0), False, item.bound + 1)
        elif how == 7:
            self.add(dp.log1p(x * x), False, 2 * math.log1p(item.bound))
        elif how == 8:
            self.add(x * self.pick([2.0, 0.5, -1.0]), False, 2 * item.bound)
        elif how == 9:
            self.add(x + 0.5 if self.whole_gradient else dp.stop_grad(x), item.exact, item.bound + 1)
        elif how == 10:
            self.add(x ** self.pick([2, 3]) if item.bound <= 3 else x + 1, item.exact, item.bound**3 + 1)
        elif how == 11:
            self.add(1.0 - x, item.exact, item.bound + 1)
        elif how == 12:
            self.add(dp.abs(x), item.exact, item.bound)
        elif how == 13:
            self.add(dp.relu(x), item.exact, item.bound)
        else:
            self.add(dp.clip(x, -1, 2), item.exact, 2.0)

    def idle(self) -> None:
        """What changes little or nothing, as programs written by programs do: zeros, ones, repeated numbers."""
        item = self.number()
        x = item.x
        how = self.below(6)
        if how == 0:
            self.add(self.pick([lambda: x + 0, lambda: x - 0, lambda: 0 + x])(), item.exact, item.bound)
        elif how == 1:
            self.add(x * 1 if self.coin() else x / 1.0, item.exact, item.bound)
        elif how == 2:
            self.add(dp.negative(-x), item.exact, item.bound)
        elif how == 3:
            filled = dp.broadcast_to(self.trace.constant(x.dtype.type(2)), x.shape)
            self.add(x + filled * filled, item.exact, item.bound + 4)
        elif how == 4:
            self.add(dp.where(self.coin(), x, -x if item.kind == "f" else x), item.exact, item.bound)
        else:
            self.add(x**1, item.exact, item.bound)

    def partner(self, item: Item) -> Item:
        def fits(other: Item) -> bool:
            return other.kind != "b" and _broadcasts(item.shape, other.shape)

        return self.some(fits) or item

    def binary(self) -> None:
        a = self.number()
        b = self.partner(a)
        exact = a.exact and b.exact
        how = self.below(4 if self.smooth else 6)
        x, y = (a.x, b.x) if self.coin() else (b.x, a.x)
        if {a.kind, b.kind} == {"i", "u"} or a.kind == b.kind == "u":
            x, y = dp.astype(x, "int32"), dp.astype(y, "int32")
        if how == 0:
            self.add(x + y, exact, a.bound + b.bound)
        elif how == 1:
            self.add(x - y, exact, a.bound + b.bound)
        elif how == 2:
            self.add(x * y, exact, a.bound * b.bound)
        elif how == 3:
            self.add(x / (y * y + 1), False, max(a.bound, b.bound))
        elif how == 4:
            self.add(dp.maximum(x, y), exact, max(a.bound, b.bound))
        else:
            self.add(dp.minimum(x, y), exact, max(a.bound, b.bound))

    def axes(self, ndim: int) -> tuple[int, ...]:
        how = self.below(5)
        if how == 0 or ndim == 0:
            return (ndim - 1,) if ndim else ()
        if how == 1:
            return tuple(range(ndim))
        if how == 2:
            return tuple(range(self.below(ndim), ndim))
        if how == 3:
            return tuple(range(self.below(ndim) + 1))
        return tuple(a for a in range(ndim) if self.coin())

    def folded(self, item: Item, keepdims: bool) -> tuple[Any, bool, float]:
        axis = self.axes(item.x.ndim)
        count = math.prod(item.shape[a] for a in axis)
        if item.kind == "b":
            return (dp.any if self.coin() else dp.all)(item.x, axis=axis, keepdims=keepdims), True, 1.0
        how = self.below(2 if self.smooth else 5)
        if how <= 1 and item.kind == "f" and how == 1 and count:
            return dp.mean(item.x, axis=axis, keepdims=keepdims), False, item.bound
        if how <= 1 or not count:
            return dp.sum(item.x, axis=axis, keepdims=keepdims), item.exact, item.bound * max(count, 1)
        if how == 4 and count <= 8 and item.bound**count <= 1e5:
            return dp.prod(item.x, axis=axis, keepdims=keepdims), item.exact, item.bound**count
        return (dp.max if how == 2 else dp.min)(item.x, axis=axis, keepdims=keepdims), item.exact, item.bound

    def reduce(self) -> None:
        item = self.some()
        if item is not None and not (self.smooth and item.kind == "b"):
            self.add(*self.folded(item, self.coin()))

    def normalise(self) -> None:
        """A reduction and its operand together: what makes several passes over a row."""
        item = self.number()
        other = self.partner(item) if self.coin(3) else item
        value, exact, bound = self.folded(item, True)
        if {dp.asarray(np.zeros(1, value.dtype)).dtype.kind, other.kind} == {"i", "u"}:
            return
        if not _broadcasts(value.shape, other.shape):
            other = item
        if self.coin() or (self.smooth and self.coin()):
            self.add(other.x - value, exact and other.exact, other.bound + bound)
        elif self.coin():
            self.add(other.x / (value * value + 1), False, other.bound)
        else:
            self.add(other.x * value, exact and other.exact, other.bound * bound)

    def softmax(self) -> None:
        item = self.some(lambda item: item.kind == "f" and item.x.ndim > 0 and item.x.size > 0)
        if item is None:
            return
        axis = self.pick([-1, -1, 0, item.x.ndim // 2])
        function = self.pick([dp.softmax, dp.logsumexp, dp.log_softmax, dp.var])
        self.add(function(item.x, axis=axis), False, 2 * item.bound + 4 if function is not dp.var else item.bound**2)

    def movement(self) -> None:
        item = self.some()
        assert item is not None
        x, ndim = item.x, item.x.ndim
        how = self.below(7)
        if how == 0:
            y = dp.permute_dims(x, self.order(ndim))
        elif how == 1:
            y = dp.reshape(x, self.other_shape(x.shape))
        elif how == 2:
            y = dp.flip(x, axis=tuple(a for a in range(ndim) if self.coin()))
        elif how == 3:
            y = dp.expand_dims(x, self.below(ndim + 1))
        elif how == 4:
            y = dp.squeeze(x)
        elif how == 5 and ndim:
            starts = [self.below(n + 1) if self.coin(3) else 0 for n in x.shape]
            steps = [2 if self.coin(4) else 1 for _ in x.shape]
            stops = [s + self.below(n - s + 1) if self.coin(3) else n for s, n in zip(starts, x.shape, strict=True)]
            y = slice_(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
        else:
            wide = [self.below(3) for _ in x.shape]
            high = [self.below(3) for _ in x.shape]
            gap = [self.below(2) if self.coin(3) else 0 for _ in x.shape]
            y = dp.pad(x, low=tuple(wide), high=tuple(high), interior=tuple(gap), value=self.below(2))
        self.add(y, item.exact, item.bound)

    def order(self, ndim: int) -> tuple[int, ...]:
        rest, order = list(range(ndim)), []
        while rest:
            order.append(rest.pop(len(rest) - 1 - self.below(len(rest))))
        return tuple(order)

    def other_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        how = self.below(4)
        if how == 0:
            return (math.prod(shape),)
        if how == 1 and len(shape) > 1:
            a = self.below(len(shape) - 1)
            return (*shape[:a], shape[a] * shape[a + 1], *shape[a + 2 :])
        if how == 2 and shape:
            a = self.below(len(shape))
            if shape[a] % 2 == 0 and shape[a]:
                return (*shape[:a], 2, shape[a] // 2, *shape[a + 1 :])
        result = [n for n in shape if n != 1]
        result.insert(self.below(len(result) + 1), 1)
        return tuple(result)

    def expand(self) -> None:
        item = self.some()
        assert item is not None
        like = self.some(lambda other: _broadcasts(item.shape, other.shape)) or item
        shape = np.broadcast_shapes(item.shape, like.shape)
        if self.coin(3):
            shape = (self.pick([2, 1, 3]), *shape)
        self.add(dp.broadcast_to(item.x, shape), item.exact, item.bound)

    def product(self) -> None:
        a = self.some(lambda item: item.kind in "if" and item.x.ndim > 0)
        if a is None:
            return
        axis = self.below(a.x.ndim)
        n = a.shape[axis]
        b = self.some(lambda item: item.kind == a.kind and n in item.shape) or a
        other = b.shape.index(n)
        batch: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        if self.coin(3):
            pairs = [
                (i, j) for i in range(a.x.ndim) for j in range(b.x.ndim)
                if i != axis and j != other and a.shape[i] == b.shape[j]
            ]  # fmt: skip
            if pairs:
                i, j = self.pick(pairs)
                batch = ((i,), (j,))
        if a.x.dtype != b.x.dtype and a.kind == "i":
            return
        right = b.x
        if self.coin(3):
            order = self.order(right.ndim)
            right, other = dp.permute_dims(right, order), order.index(other)
            batch = (batch[0], tuple([order.index(j) for j in batch[1]]))
        y = dp.dot_general(a.x, right, contract=((axis,), (other,)), batch=batch)
        self.add(y, a.exact and b.exact, a.bound * b.bound * max(n, 1))

    def index(self, n: int, shape: tuple[int, ...]) -> Expr:
        if self.coin(3):
            axis = self.below(len(shape)) if shape else 0
            if shape:
                return dp.iota(shape=shape, axis=axis) % n
        x = self.trace.parameter(Aval(shape, np.dtype(self.pick(["int64", "int32"]))), f"in{len(self.values)}")
        count = math.prod(shape)
        drawn = np.array([self.below(2 * n) - n for _ in range(min(count, 4))] or [0])
        self.values.append(drawn[np.arange(count) % len(drawn)].reshape(shape).astype(x.dtype))
        return x

    def pick_elements(self) -> None:
        item = self.some(lambda item: item.x.ndim > 0 and item.x.size > 0)
        if item is None:
            return
        ndim = item.x.ndim
        axes = tuple(sorted({self.below(ndim) for _ in range(self.pick([1, 1, 2, ndim]))}))
        shape = self.pick([(2,), (), (3, 1), (2, 2), (1,), (item.shape[0],), (0,)])
        indices = [self.index(item.shape[a], shape) for a in axes]
        self.add(gather(item.x, *indices, axes=axes), item.exact, item.bound)

    def positions(self) -> None:
        """Numbers that count along an axis, and comparisons with them: one_hot, masks."""
        item = self.number()
        if not item.x.ndim:
            return
        axis = self.below(item.x.ndim)
        count = dp.iota(shape=item.shape, axis=axis, dtype=self.pick([self.floats, "int64"]))
        if self.smooth or self.coin():
            self.add(item.x * count if item.kind != "u" else item.x, item.exact, item.bound * max(item.shape[axis], 1))
        else:
            self.add(dp.where(count <= self.below(3), item.x, 0), item.exact, item.bound)

    def join(self) -> None:
        a = self.some(lambda item: item.x.ndim > 0)
        if a is None:
            return
        axis = self.below(a.x.ndim)

        def fits(other: Item) -> bool:
            if other.x.dtype != a.x.dtype or len(other.shape) != len(a.shape):
                return False
            return all(m == n or i == axis for i, (m, n) in enumerate(zip(a.shape, other.shape, strict=True)))

        others = [self.some(fits) or a for _ in range(self.below(2) + 1)]
        bound = max(item.bound for item in (a, *others))
        self.add(dp.concat([a.x, *[o.x for o in others]], axis=axis), a.exact and all(o.exact for o in others), bound)

    # -- steps with jumps --------------------------------------------------------------------------------------------

    def choose(self) -> None:
        condition = self.some(lambda item: item.kind == "b")
        if condition is None:
            return self.compare()
        a = self.some(lambda item: item.kind == "f" and _broadcasts(item.shape, condition.shape))
        if a is None:
            return None
        b = self.some(lambda item: item.kind == "f" and _broadcasts(item.shape, condition.shape)) or a
        try:
            np.broadcast_shapes(condition.shape, a.shape, b.shape)
        except ValueError:
            b = a
        self.add(dp.where(condition.x, a.x, b.x if self.coin() else 0), a.exact and b.exact, max(a.bound, b.bound))
        return None

    def compare(self) -> None:
        a = self.some(lambda item: item.exact and item.kind in "if")
        if a is None:
            return
        b = self.some(lambda item: item.exact and item.kind in "if" and _broadcasts(item.shape, a.shape)) or a
        function = self.pick([dp.less, dp.equal, dp.greater_equal, dp.not_equal])
        y = function(a.x, b.x)
        if self.coin(4):
            y = dp.logical_not(y)
        self.add(y, True, 1.0)

    def cast(self) -> None:
        item = self.some(lambda item: item.exact)
        if item is None:
            return
        dtype = self.pick([self.floats, "int64", "int32", "bool", "float32", "uint8", "int8"])
        x = dp.abs(item.x) if dtype == "uint8" and item.kind in "if" else item.x
        self.add(dp.astype(x, dtype), True, item.bound if dtype != "bool" else 1.0)

    def whole(self) -> None:
        """Steps that are exact on whole numbers only."""
        item = self.some(lambda item: item.exact and item.kind in "if")
        if item is None:
            return
        how = self.below(5)
        if how == 0:
            self.add(item.x % self.pick([2, 3]), True, 3.0)
        elif how == 1:
            self.add(item.x // self.pick([2, 3]), True, item.bound)
        elif how == 2:
            self.add(dp.sign(item.x), True, 1.0)
        elif how == 3 and item.x.size:
            axis = self.below(item.x.ndim) if item.x.ndim else None
            function = dp.argmax if self.coin() else dp.argmin
            self.add(function(item.x, axis=axis, keepdims=self.coin()), True, float(item.x.size))
        elif item.kind == "f":
            self.add(dp.floor(item.x * 0.5), True, item.bound)

    def scatter(self) -> None:
        item = self.some(lambda item: item.kind in "if" and item.x.ndim > 0 and item.x.size > 0)
        if item is None:
            return
        axis = self.below(item.x.ndim)
        shape = self.pick([(2,), (3,), (), (item.shape[0],)])
        rest = (*item.shape[:axis], *item.shape[axis + 1 :])
        wanted = (*shape, *rest)
        updates = self.some(lambda other: other.kind == item.kind and other.shape == wanted)
        two = dp.astype(self.trace.constant(np.int64(2)), item.x.dtype)
        value = updates.x if updates else dp.broadcast_to(two, wanted)
        bound = updates.bound if updates else 2.0
        function = scatter_add if self.coin() else scatter_set
        y = function(item.x, value, self.index(item.shape[axis], shape), axes=(axis,))
        self.add(y, item.exact and (updates is None or updates.exact), item.bound + bound * max(math.prod(shape), 1))

    # -- the whole ---------------------------------------------------------------------------------------------------

    def outputs(self) -> list[Expr]:
        count = self.pick([1, 2, 3, 1, 5, len(self.pool)])
        chosen = [self.pool[-1].x]
        for _ in range(count - 1):
            chosen.append(self.pick(self.pool).x)
        if self.coin(20):
            chosen.append(self.trace.constant(np.float32(1.5)))
        return chosen

    def loss(self) -> Expr:
        """One number made of the newest values: every one has its say."""
        total: Any = None
        for item in self.pool[-3:]:
            if item.kind == "f" and item.x.size:
                weights = dp.cos(dp.iota(shape=(item.x.size,), dtype=item.x.dtype)).reshape(item.shape)
                part = dp.sum(item.x * weights)
                total = part if total is None else total + part
        return total if total is not None else dp.sum(self.pool[0].x * self.pool[0].x)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


def draw_program(below: Below, *, steps: int = 10, gradient: bool = False, smooth: bool = False) -> Program:
    """A random program of up to ``steps`` steps.

    smooth: one number, differentiable everywhere. gradient: a loss and its gradients with respect to the float inputs.
    """
    differentiated: tuple[int, ...] = ()
    with tracing() as trace:
        floats = "float64" if smooth or below(3) < 2 else "float32"
        maker = Maker(below, trace, floats, smooth, whole_gradient=smooth and not gradient)
        maker.inputs()
        for _ in range(1 + below(steps)):
            maker.step()
        if gradient:
            loss = maker.loss()
            wrt = [i for i, x in enumerate(trace.inputs) if x.dtype.kind == "f"]
            found = backward(trace, [loss], [trace.constant(loss.dtype.type(1))], [trace.inputs[i] for i in wrt])
            outputs = [loss, *[trace.lift(part) for part in found if part is not None]]
            differentiated = tuple(i for i, part in zip(wrt, found, strict=True) if part is not None)
        elif smooth:
            outputs = [maker.loss()]
        else:
            outputs = maker.outputs()
        graph = trace.graph(outputs)
    single = any(node.dtype == np.float32 for node in graph.nodes())
    return Program(graph, maker.values, 2e-3 if single else 1e-7, differentiated)


# -- running -----------------------------------------------------------------------------------------------------------


def run_reference(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return evaluate(graph, inputs)


def run_compiled(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return CpuBackend().compile(graph)(inputs)


class Guarded:
    """A flat buffer of a kernel that refuses an index outside of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, index: int) -> Any:
        assert 0 <= index < self.array.size, f"index {index} of a buffer of {self.array.size}"
        return self.array[index]

    def __setitem__(self, index: int, value: Any) -> None:
        assert 0 <= index < self.array.size, f"index {index} of a buffer of {self.array.size}"
        self.array[index] = value


class _Mathematics:
    """The functions of ``math`` as compiled code computes them: inf and NaN where Python raises."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name) if hasattr(np, name) else getattr(math, name)


class _Poisoned:
    """NumPy, but fresh memory is full of rubbish."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def empty(shape: Any, dtype: Any) -> np.ndarray:
        array = np.empty(shape, dtype)
        if array.dtype.kind == "b":
            array[...] = True
        else:
            array[...] = np.nan if array.dtype.kind == "f" else 111
        return array


def run_readable(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run the printed program as plain Python: nothing is compiled.

    No kernel may read or write out of bounds, none may write to an input, and the outputs are arrays of their own.
    """
    inputs = [np.array(x, order="C") for x in inputs]
    for x in inputs:
        x.flags.writeable = False
    program = lower(graph)
    check_memory(program)
    namespace: dict[str, Any] = {}
    exec("import numpy as np\n" + prelude.SOURCE, namespace)
    namespace["math"] = _Mathematics()
    for step in program.steps:
        if isinstance(step, KernelStep):
            exec(render(step.emitted.kernel), namespace)
            namespace[step.emitted.kernel.name] = _guarded(namespace[step.emitted.kernel.name])
    for node in graph.nodes():
        namespace.setdefault(node.op.name, node.op.body)
    scope = dict(namespace, np=_Poisoned())
    exec(readable(program), scope)
    with np.errstate(all="ignore"):
        outputs = [np.asarray(y) for y in scope["program"](*inputs)]
    for number, y in enumerate(outputs):
        for other in (*inputs, *outputs[:number]):
            assert not np.shares_memory(y, other), f"output {number} is not an array of its own"
    return outputs


def _guarded(kernel: Callable[..., int]) -> Callable[..., int]:
    def call(*arguments: Any) -> int:
        return kernel(*[Guarded(a) if isinstance(a, np.ndarray) else a for a in arguments])

    return call


def check_memory(program: Any) -> None:
    """No two temporaries that hold something at the same time share a byte; every one is aligned and in the arena."""
    uses = lifetimes(program)
    placed = []
    for t in program.temporaries:
        size = math.prod(t.shape) * t.dtype.itemsize
        assert t.offset % ALIGNMENT == 0, f"{t.name} is not aligned"
        assert t.offset + size <= program.arena, f"{t.name} leaves the arena"
        first, last = uses[t.name]
        for name, begin, end, other_first, other_last in placed:
            apart = last < other_first or other_last < first or t.offset >= end or begin >= t.offset + size
            assert apart or not size, f"{t.name} overlaps {name}"
        if size:
            placed.append((t.name, t.offset, t.offset + size, first, last))


def lifetimes(program: Any) -> dict[str, tuple[int, int]]:
    """For every temporary the first and last step that touch it, found from the steps alone."""
    touched: dict[str, list[int]] = {}
    for number, step in enumerate(program.steps):
        if isinstance(step, KernelStep):
            names = [*step.scratch, *[program.names[b] for b in step.emitted.buffers if isinstance(b, Expr)]]
        else:
            result = step.node if isinstance(step, CallStep) else step.product.node
            pending, names = list(result.args), [program.names[result]]
            while pending:
                node = pending.pop()
                names.append(program.names[node])
                if node not in program.placed:
                    pending += node.args
        for name in names:
            touched.setdefault(name, []).append(number)
    return {name: (min(steps), max(steps)) for name, steps in touched.items()}


def compare(program: Program, found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Equal shapes, dtypes and values, within the program's tolerance."""
    assert len(found) == len(expected)
    for number, (node, y, z) in enumerate(zip(program.graph.outputs, found, expected, strict=True)):
        assert y.shape == z.shape == node.shape, f"output {number}: shape {y.shape}, not {z.shape}"
        assert y.dtype == z.dtype == node.dtype, f"output {number}: dtype {y.dtype}, not {z.dtype}"
        if y.dtype.kind == "f":
            np.testing.assert_allclose(
                y, z, rtol=program.tolerance, atol=program.tolerance * 10, err_msg=f"output {number}"
            )
        else:
            np.testing.assert_array_equal(y, z, err_msg=f"output {number}")
