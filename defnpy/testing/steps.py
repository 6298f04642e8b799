"""The steps of a random program: each makes one more value of those that are there."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..array.manipulation import (
    astype,
    broadcast_to,
    concat,
    expand_dims,
    flip,
    pad,
    permute_dims,
    reshape,
    squeeze,
)
from ..array.statistics import clip, log_softmax, logsumexp, mean, softmax, var
from ..backends.reference import evaluate
from ..ir.aval import Aval
from ..ir.expr import Expr
from ..ir.op import REGISTRY, Op
from ..ir.trace import tracing
from ..ops.contract import dot_general
from ..ops.elementwise import (
    abs_,
    cos,
    exp,
    floor,
    log1p,
    maximum,
    minimum,
    negative,
    relu,
    sigmoid,
    sign,
    sin,
    sqrt,
    tanh,
    where,
)
from ..ops.gather import gather, scatter_add, scatter_set
from ..ops.linear import iota, slice_, sum_
from ..ops.logic import equal, greater_equal, less, logical_not, not_equal
from ..ops.mark import stop_grad
from ..ops.reduce import all_, any_, argmax, argmin, max_, min_, prod_
from .choices import Choices, Item, broadcasts

__all__ = ["Maker", "table"]


@functools.cache
def table(smooth: bool) -> tuple[tuple[Op, tuple[int, ...]], ...]:
    """Every op of the registry and the numbers of its test cases; smooth: those with a derivative at their operands."""
    ops = [op for op in REGISTRY.values() if op.cases and not op.effect and (op.vjp is not None or not smooth)]
    rows = [(op, tuple([i for i, case in enumerate(op.cases) if case.smooth or not smooth])) for op in ops]
    return tuple([(op, numbers) for op, numbers in rows if numbers])


@functools.cache
def drawn(op: Op, number: int, floats: str, seed: int) -> tuple[list[np.ndarray[Any, Any]], list[float]]:
    """The operands of a case, and the largest magnitude of each result."""
    case = op.cases[number]
    arrays = [np.asarray(x) for x in case.arrays(np.random.default_rng(seed), np.dtype(floats))]
    with tracing() as trace:
        results = op(*[trace.parameter(Aval(x.shape, x.dtype), "x") for x in arrays], **case.params)
        graph = trace.graph(results if isinstance(results, tuple) else [results])
    values = evaluate(graph, arrays)
    return arrays, [float(np.abs(value.astype(np.float64)).max(initial=0.0)) for value in values]


def _can_move(shape: tuple[int, ...], item: Item) -> bool:
    """Whether a float value can be added to one of ``shape``."""
    return item.kind == "f" and broadcasts(item.shape, shape) and np.broadcast_shapes(item.shape, shape) == shape


class Maker(Choices):
    """Draws one program, step by step."""

    # -- steps -------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        steps = [
            self.unary, self.binary, self.normalise, self.reduce, self.movement, self.binary, self.reduce,
            self.expand, self.product, self.pick_elements, self.softmax, self.positions, self.join, self.idle,
        ]  # fmt: skip
        if not self.smooth:
            steps += [self.choose, self.cast, self.compare, self.scatter, self.whole]
        if self.table:
            steps += [self.from_table] * 6  # there are many ops
        self.pick(steps)()

    def from_table(self) -> None:
        """Any op there is, on operands of one of its own cases; a differentiable one also depends on earlier values."""
        op, numbers = self.pick(table(self.smooth))
        number = self.pick(numbers)
        arrays, sizes = drawn(op, number, self.floats, self.below(20))
        operands = []
        for array in arrays:
            x = self.trace.parameter(Aval(array.shape, array.dtype), f"in{len(self.values)}")
            self.values.append(array)
            item = self.some(functools.partial(_can_move, x.shape))
            if item is not None and op.vjp is not None and array.dtype.kind == "f" and self.coin():
                x = x + astype(0.01 * sin(item.x), x.dtype)  # hardly leaves the domain of the op
            operands.append(x)
        results = op(*operands, **op.cases[number].params)
        for y, size in zip(results if isinstance(results, tuple) else [results], sizes, strict=True):
            if math.isfinite(size):
                self.add(y, y.dtype.kind != "f", size + 1)

    def unary(self) -> None:
        item = self.number()
        x, float_ = item.x, item.kind == "f"
        if not float_ and not self.smooth:
            how = self.below(4)
            self.add([-x, abs_(x), relu(x), x * x][how] if item.kind != "u" else x + 1, True, item.bound**2 + 1)
            return
        how = self.below(12 if self.smooth else 15)
        if how == 0:
            self.add(-x, item.exact, item.bound)
        elif how == 1:
            self.add(tanh(x), False, 1.0)
        elif how == 2:
            self.add(exp(minimum(x, 2.5) if not self.smooth else sin(x)), False, 13.0)
        elif how == 3:
            self.add(x * x, item.exact, item.bound**2)
        elif how == 4:
            self.add(sin(x), False, 1.0)
        elif how == 5:
            self.add(sigmoid(x), False, 1.0)
        elif how == 6:
            self.add(sqrt(x * x + 1.0), False, item.bound + 1)
        elif how == 7:
            self.add(log1p(x * x), False, 2 * math.log1p(item.bound))
        elif how == 8:
            self.add(x * self.pick([2.0, 0.5, -1.0]), False, 2 * item.bound)
        elif how == 9:
            self.add(x + 0.5 if self.whole_gradient else stop_grad(x), item.exact, item.bound + 1)
        elif how == 10:
            self.add(x ** self.pick([2, 3]) if item.bound <= 3 else x + 1, item.exact, item.bound**3 + 1)
        elif how == 11:
            self.add(1.0 - x, item.exact, item.bound + 1)
        elif how == 12:
            self.add(abs_(x), item.exact, item.bound)
        elif how == 13:
            self.add(relu(x), item.exact, item.bound)
        else:
            self.add(clip(x, -1, 2), item.exact, 2.0)

    def idle(self) -> None:
        """What changes little or nothing, as programs written by programs do: zeros, ones, repeated numbers."""
        item = self.number()
        x = item.x
        how = self.below(8)
        if how == 0:
            self.add(self.pick([lambda: x + 0, lambda: x - 0, lambda: 0 + x])(), item.exact, item.bound)
        elif how == 1:
            self.add(x * 1 if self.coin() else x / 1.0, item.exact, item.bound)
        elif how == 2:
            self.add(negative(-x), item.exact, item.bound)
        elif how == 3:
            filled = broadcast_to(self.trace.constant(x.dtype.type(2)), x.shape)
            self.add(x + filled * filled, item.exact, item.bound + 4)
        elif how == 4:
            self.add(where(self.coin(), x, -x if item.kind == "f" else x), item.exact, item.bound)
        elif how == 5 and x.ndim:
            parts = [x, x[:0]] if self.coin() else [x, x]
            self.add(concat(parts, axis=0)[: item.shape[0]], item.exact, item.bound)
        elif how == 6 and item.kind == "f":
            self.add(negative(x) / negative(x * x + 1), False, 1.0)
        else:
            self.add(x**1, item.exact, item.bound)

    def partner(self, item: Item) -> Item:
        def fits(other: Item) -> bool:
            return other.kind != "b" and broadcasts(item.shape, other.shape)

        return self.some(fits) or item

    def binary(self) -> None:
        a = self.number()
        b = self.partner(a)
        exact = a.exact and b.exact
        how = self.below(4 if self.smooth else 6)
        x, y = (a.x, b.x) if self.coin() else (b.x, a.x)
        if {a.kind, b.kind} == {"i", "u"} or a.kind == b.kind == "u":
            x, y = astype(x, "int32"), astype(y, "int32")
        if how == 0:
            self.add(x + y, exact, a.bound + b.bound)
        elif how == 1:
            self.add(x - y, exact, a.bound + b.bound)
        elif how == 2:
            self.add(x * y, exact, a.bound * b.bound)
        elif how == 3:
            self.add(x / (y * y + 1), False, max(a.bound, b.bound))
        elif how == 4:
            self.add(maximum(x, y), exact, max(a.bound, b.bound))
        else:
            self.add(minimum(x, y), exact, max(a.bound, b.bound))

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
            return (any_ if self.coin() else all_)(item.x, axis=axis, keepdims=keepdims), True, 1.0
        how = self.below(2 if self.smooth else 5)
        if how <= 1 and item.kind == "f" and how == 1 and count:
            return mean(item.x, axis=axis, keepdims=keepdims), False, item.bound
        if how <= 1 or not count:
            return sum_(item.x, axis=axis, keepdims=keepdims), item.exact, item.bound * max(count, 1)
        if how == 4 and count <= 8 and item.bound**count <= 1e5:
            return prod_(item.x, axis=axis, keepdims=keepdims), item.exact, item.bound**count
        return (max_ if how == 2 else min_)(item.x, axis=axis, keepdims=keepdims), item.exact, item.bound

    def reduce(self) -> None:
        item = self.some()
        if item is not None and not (self.smooth and item.kind == "b"):
            self.add(*self.folded(item, self.coin()))

    def normalise(self) -> None:
        """A reduction and its operand together: what makes several passes over a row."""
        item = self.number()
        other = self.partner(item) if self.coin(3) else item
        value, exact, bound = self.folded(item, True)
        if {value.dtype.kind, other.kind} == {"i", "u"}:
            return
        if not broadcasts(value.shape, other.shape):
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
        function = self.pick([softmax, logsumexp, log_softmax, var])
        self.add(function(item.x, axis=axis), False, 2 * item.bound + 4 if function is not var else item.bound**2)

    def movement(self) -> None:
        item = self.some()
        assert item is not None
        x, ndim = item.x, item.x.ndim
        how = self.below(7)
        if how == 0:
            y = permute_dims(x, self.order(ndim))
        elif how == 1:
            y = reshape(x, self.other_shape(x.shape))
        elif how == 2:
            y = flip(x, axis=tuple(a for a in range(ndim) if self.coin()))
        elif how == 3:
            y = expand_dims(x, self.below(ndim + 1))
        elif how == 4:
            y = squeeze(x)
        elif how == 5 and ndim:
            starts = [self.below(n + 1) if self.coin(3) else 0 for n in x.shape]
            steps = [2 if self.coin(4) else 1 for _ in x.shape]
            stops = [s + self.below(n - s + 1) if self.coin(3) else n for s, n in zip(starts, x.shape, strict=True)]
            y = slice_(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
        else:
            wide = [self.below(3) for _ in x.shape]
            high = [self.below(3) for _ in x.shape]
            gap = [self.below(2) if self.coin(3) else 0 for _ in x.shape]
            y = pad(x, low=tuple(wide), high=tuple(high), interior=tuple(gap), value=self.below(2))
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
        like = self.some(lambda other: broadcasts(item.shape, other.shape)) or item
        shape = np.broadcast_shapes(item.shape, like.shape)
        if self.coin(3):
            shape = (self.pick([2, 1, 3]), *shape)
        self.add(broadcast_to(item.x, shape), item.exact, item.bound)

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
            right, other = permute_dims(right, order), order.index(other)
            batch = (batch[0], tuple([order.index(j) for j in batch[1]]))
        y = dot_general(a.x, right, contract=((axis,), (other,)), batch=batch)
        self.add(y, a.exact and b.exact, a.bound * b.bound * max(n, 1))

    def pick_elements(self) -> None:
        if self.coin(3):
            self.one_of_each()
            return
        item = self.some(lambda item: item.x.ndim > 0 and item.x.size > 0)
        if item is None:
            return
        ndim = item.x.ndim
        axes = tuple(sorted({self.below(ndim) for _ in range(self.pick([1, 1, 2, ndim]))}))
        shape = self.pick([(2,), (), (3, 1), (2, 2), (1,), (item.shape[0],), (0,)])
        indices = [self.index(item.shape[a], shape) for a in axes]
        self.add(gather(item.x, *indices, axes=axes), item.exact, item.bound)

    def one_of_each(self) -> None:
        """One element of each row, or an update of it, as the label of an example picks one."""
        item = self.some(lambda item: item.kind in "if" and item.x.ndim > 0 and item.x.size > 0)
        if item is None:
            return
        axis = self.below(item.x.ndim)
        shape = (*item.shape[:axis], *((1,) if self.coin() else ()), *item.shape[axis + 1 :])
        rows = (
            iter(range(len(shape))) if len(shape) < item.x.ndim else iter([a for a in range(len(shape)) if a != axis])
        )
        label = self.index(item.shape[axis], shape)
        indices = [label if a == axis else iota(shape=shape, axis=next(rows)) for a in range(item.x.ndim)]
        axes = tuple(range(item.x.ndim))
        y = gather(item.x, *indices, axes=axes)
        if not self.smooth and self.coin():
            function = scatter_add if self.coin() else scatter_set
            y = function(item.x, y, *indices, axes=axes)
        self.add(y, item.exact, 2 * item.bound)

    def positions(self) -> None:
        """Numbers that count along an axis, and comparisons with them: one_hot, masks."""
        item = self.number()
        if not item.x.ndim:
            return
        axis = self.below(item.x.ndim)
        count = iota(shape=item.shape, axis=axis, dtype=self.pick([self.floats, "int64"]))
        if self.coin():
            rows = permute_dims(
                iota(shape=item.shape[::-1], axis=item.x.ndim - 1 - axis), axes=tuple(range(item.x.ndim))[::-1]
            )
            count = astype(rows, count.dtype)
        if self.smooth or self.coin():
            self.add(item.x * count if item.kind != "u" else item.x, item.exact, item.bound * max(item.shape[axis], 1))
        else:
            self.add(where(count <= self.below(3), item.x, 0), item.exact, item.bound)

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
        self.add(concat([a.x, *[o.x for o in others]], axis=axis), a.exact and all(o.exact for o in others), bound)

    # -- steps with jumps --------------------------------------------------------------------------------------------

    def choose(self) -> None:
        condition = self.some(lambda item: item.kind == "b")
        if condition is None:
            return self.compare()
        a = self.some(lambda item: item.kind == "f" and broadcasts(item.shape, condition.shape))
        if a is None:
            return None
        b = self.some(lambda item: item.kind == "f" and broadcasts(item.shape, condition.shape)) or a
        try:
            np.broadcast_shapes(condition.shape, a.shape, b.shape)
        except ValueError:
            b = a
        self.add(where(condition.x, a.x, b.x if self.coin() else 0), a.exact and b.exact, max(a.bound, b.bound))
        return None

    def compare(self) -> None:
        a = self.some(lambda item: item.exact and item.kind in "if")
        if a is None:
            return
        b = self.some(lambda item: item.exact and item.kind in "if" and broadcasts(item.shape, a.shape)) or a
        function = self.pick([less, equal, greater_equal, not_equal])
        y = function(a.x, b.x)
        if self.coin(4):
            y = logical_not(y)
        self.add(y, True, 1.0)

    def cast(self) -> None:
        item = self.some(lambda item: item.exact)
        if item is None:
            return
        dtype = self.pick([self.floats, "int64", "int32", "bool", "float32", "uint8", "int8"])
        x = abs_(item.x) if dtype == "uint8" and item.kind in "if" else item.x
        self.add(astype(x, dtype), True, item.bound if dtype != "bool" else 1.0)

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
            self.add(sign(item.x), True, 1.0)
        elif how == 3 and item.x.size:
            axis = self.below(item.x.ndim) if item.x.ndim else None
            function = argmax if self.coin() else argmin
            self.add(function(item.x, axis=axis, keepdims=self.coin()), True, float(item.x.size))
        elif item.kind == "f":
            self.add(floor(item.x * 0.5), True, item.bound)

    def scatter(self) -> None:
        item = self.some(lambda item: item.kind in "if" and item.x.ndim > 0 and item.x.size > 0)
        if item is None:
            return
        axis = self.below(item.x.ndim)
        shape = self.pick([(2,), (3,), (), (item.shape[0],)])
        rest = (*item.shape[:axis], *item.shape[axis + 1 :])
        wanted = (*shape, *rest)
        updates = self.some(lambda other: other.kind == item.kind and other.shape == wanted)
        two = astype(self.trace.constant(np.int64(2)), item.x.dtype)
        value = updates.x if updates else broadcast_to(two, wanted)
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
                weights = cos(iota(shape=(item.x.size,), dtype=item.x.dtype)).reshape(item.shape)
                part = sum_(item.x * weights)
                total = part if total is None else total + part
        return total if total is not None else sum_(self.pool[0].x * self.pool[0].x)
