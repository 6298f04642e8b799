"""``while_loop``, ``scan``, ``fori_loop`` and ``map`` over containers.

What a body reads of its surroundings is found while it is traced, and becomes an operand. What a loop carries keeps its
structure, shapes and dtypes; Python numbers among the first values take the dtype that the body gives them, as they do
everywhere: the body is traced until it returns what it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..array.creation import asarray
from ..array.manipulation import concat, stack
from ..dtypes import promote_weak
from ..errors import DTypeError, ShapeError, TreeError
from ..ir.aval import Aval
from ..ir.trace import aval_of
from ..ops import loops as ops
from ..ops.linear import reshape
from ..ops.subgraphs import with_outputs
from .closed import Stand, converted, joined, operands_as, results, tensors, truth, wrong
from .stage import default_dtype, is_tensor, parameter_names, stage

__all__ = ["fori_loop", "map_", "scan", "while_loop"]


class _Carry:
    """What a loop carries. ``avals`` are those of its tensors, which may still change with what the body returns.

    root: what its containers are called in messages. seen: what of a carry the user knows of.
    """

    def __init__(self, name: str, init: Any, root: str, seen: Callable[[Any], Any]) -> None:
        self._name, self._init, self._root, self._seen = name, init, root, seen
        self._leaves, self._structure = tree.flatten(init)
        self.tensors = [leaf for leaf in self._leaves if is_tensor(leaf)]
        self.avals = [aval_of(leaf) for leaf in self.tensors]

    def rebuild(self, values: Sequence[Any]) -> Any:
        """The container with ``values`` in the places of its tensors."""
        found = iter(values)
        return tree.unflatten(self._structure, [next(found) if is_tensor(x) else x for x in self._leaves])

    def stands(self) -> Any:
        """What the body is traced with."""
        return self.rebuild([Stand(aval) for aval in self.avals])

    def operands(self) -> list[Any]:
        """The first values, in their final dtypes."""
        return operands_as(self.tensors, self.avals)

    def settled(self, returned: Any) -> bool:
        """Whether the body, given these avals, returns them; if not, they are those to try next."""
        leaves, structure = tree.flatten(returned)
        if structure != self._structure:
            found = tree.difference(self._seen(self._init), self._seen(returned), self._root)
            raise wrong(
                TreeError,
                f"{self._name}: the body returns another structure than it got: {found}",
                "a loop carries the same containers through all its iterations",
            )
        paths = tree.paths(self._seen(self._init), self._root)
        paths = ["the counter"] * (len(leaves) - len(paths)) + paths
        new: list[Aval] = []
        for path, first, now in zip(paths, self._leaves, leaves, strict=True):
            if is_tensor(first) and is_tensor(now):
                new.append(self._next(path, self.avals[len(new)], now))
            elif is_tensor(first) or is_tensor(now) or (now is not first and now != first):
                raise wrong(
                    TreeError,
                    f"{self._name}: {path} starts as {_kind(first)} and becomes {_kind(now)}",
                    "only tensors may change",
                )
        same = new == self.avals
        self.avals = new
        return same

    def _next(self, path: str, first: Aval, leaf: Any) -> Aval:
        now = aval_of(leaf)
        if now.shape != first.shape:
            raise wrong(
                ShapeError,
                f"{self._name}: the shape of {path} changes: it starts as {first} and becomes {now}",
                "start with the shape that the body returns",
                leaf,
            )
        if now == first:
            return first
        strong = [a.dtype for a in (first, now) if not a.weak]
        dtype, weak = promote_weak(strong[:1], [a.dtype for a in (first, now) if a.weak])
        kept = strong[:1] == [dtype] or not strong
        if len(strong) == 2 or not kept or (not first.weak and dtype != first.dtype):
            raise wrong(
                DTypeError,
                f"{self._name}: the dtype of {path} changes: it starts as {first} and becomes {now}",
                f"start with {now.dtype}, or convert what the body returns with x.astype({str(first.dtype)!r})",
                leaf,
            )
        return Aval(first.shape, dtype, weak)


def _kind(leaf: Any) -> str:
    return str(aval_of(leaf)) if is_tensor(leaf) else repr(leaf)


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any) -> Any:
    """``body_fun`` applied to ``init`` again and again, as long as ``cond_fun`` of the value is true.

    init: a container of tensors; ``body_fun`` returns the same structure, shapes and dtypes (Python numbers in it take
    the dtype that the body gives them), otherwise a ``TreeError``, ``ShapeError`` or ``DTypeError`` says where they
    differ. ``cond_fun`` returns one boolean or number. Both may use values of their surroundings.

    It is differentiable in both directions and to any order. The reverse mode keeps the values of all iterations, whose
    number need not be known, and takes time and memory linear in it.

    >>> import defnpy as dp
    >>> newton = lambda a: dp.while_loop(lambda x: dp.abs(x * x - a) > 1e-6 * a, lambda x: (x + a / x) / 2, a)
    >>> newton(dp.asarray(9.0, dtype="float64"))
    Tensor(3., dtype=float64)
    >>> print(f"{dp.grad(newton)(dp.asarray(9.0, dtype='float64')):.8f}")
    0.16666667
    """
    carry = _Carry("while_loop", init, "init", lambda value: value)
    if not carry.tensors:
        raise wrong(TreeError, "while_loop: carries no tensor", "start with what cond_fun looks at")
    return _repeated(carry, cond_fun, body_fun)


def _repeated(carry: _Carry, cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any]) -> Any:
    while True:
        body = stage(body_fun, [carry.stands()], {})
        if carry.settled(body.rebuild(body.graph.outputs)):
            break

    def test(value: Any) -> Any:
        return truth("while_loop", "what cond_fun returns", cond_fun(value))

    again = stage(test, [carry.stands()], {}, names=parameter_names(cond_fun, 1))
    (step, check), outer = joined([body, again], len(carry.avals))
    step = converted(step, carry.avals)
    found = ops.while_loop(*carry.operands(), *outer, test=check, body=step, carries=len(carry.avals))
    return carry.rebuild(results(found, step))


def scan(
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """A loop over the first axis of ``xs``, with a carry: ``carry, y = f(carry, x)``; returns ``(carry, ys)``.

    init: the first carry, a container as in :func:`while_loop`. xs: a container of tensors of one length, whose rows
    ``x`` the iterations get; None with ``length`` given. ys: the ``y`` of all iterations, stacked along a new first
    axis. reverse: from the last row to the first; ``ys[i]`` still belongs to ``xs[i]``. unroll: so many iterations are
    written out in one, which makes a larger body of the same result.

    >>> import defnpy as dp
    >>> dp.scan(lambda total, x: (total + x, total), 0.0, dp.asarray([1.0, 2.0, 3.0]))
    (Tensor(6., dtype=float32), Tensor([0., 1., 3.], dtype=float32))
    """
    rows = tensors(xs)
    for x in rows:
        if not aval_of(x).shape:
            raise wrong(
                ShapeError,
                f"scan: {aval_of(x)} in xs has no axis to go along",
                "capture it: f may use values of its surroundings",
                x,
            )
    sizes = list(dict.fromkeys(aval_of(x).shape[0] for x in rows))
    if length is not None:
        sizes = list(dict.fromkeys([length, *sizes]))
    if len(sizes) != 1:
        what = f"the lengths differ: {', '.join(map(str, sizes))}" if sizes else "neither xs nor length says how often"
        raise wrong(
            ShapeError, f"scan: {what}", "xs have one row for each iteration" if sizes else "scan(f, init, length=n)"
        )
    if sizes[0] < 0 or unroll < 1:
        raise wrong(
            ShapeError,
            f"scan: length is {sizes[0]} and unroll {unroll}, but counts are positive",
            "to do nothing, length may be 0",
        )
    if min(unroll, sizes[0]) > 1:
        return _unrolled(f, init, xs, sizes[0], reverse, unroll)
    return _scanned(_Carry("scan", init, "init", lambda value: value), f, xs, sizes[0], reverse)


def _scanned(carry: _Carry, f: Callable[..., Any], xs: Any, length: int, reverse: bool) -> Any:
    rows = tensors(xs)
    avals = [aval_of(x) for x in rows]
    one = iter([Stand(Aval(a.shape[1:], a.dtype)) for a in avals])
    row = tree.map(lambda leaf: next(one) if is_tensor(leaf) else leaf, xs)
    while True:
        body = stage(f, [carry.stands(), row], {})
        shown = body.rebuild(body.graph.outputs)
        if not isinstance(shown, tuple) or len(shown) != 2:
            kind = str(aval_of(shown)) if is_tensor(shown) else type(shown).__name__
            raise wrong(TreeError, f"scan: the function must return (carry, y), not {kind}", "return carry, None")
        if carry.settled(shown[0]):
            break
    count = len(carry.avals)
    (step,), outer = joined([body], count + len(rows))
    made = [Aval(node.shape, default_dtype(node.aval)) for node in step.outputs[count:]]
    step = converted(step, [*carry.avals, *made])
    values = operands_as(rows, [Aval(a.shape, a.dtype) for a in avals])
    inputs = [*carry.operands(), *values, *outer]
    found = ops.scan(*inputs, body=step, carries=count, sequences=len(rows), length=length, reverse=reverse)
    return body.rebuild([*results(found[:count], with_outputs(step, range(count))), *found[count:]])


def _unrolled(f: Callable[..., Any], init: Any, xs: Any, length: int, reverse: bool, unroll: int) -> Any:
    """A scan whose iterations do ``unroll`` steps each, and one for the steps that are left at the end."""
    whole = length - length % unroll

    def block(carry: Any, rows: Any) -> Any:
        made = []
        for i in reversed(range(unroll)) if reverse else range(unroll):
            carry, y = f(carry, tree.map(lambda x, i=i: x[i] if is_tensor(x) else x, rows))
            made.append(y)
        return carry, tree.map(lambda *ys: stack(ys) if is_tensor(ys[0]) else ys[0], *(made[::-1] if reverse else made))

    def blocks(carry: Any) -> Any:
        rows = _each(xs, lambda x: reshape(x[:whole], shape=(whole // unroll, unroll, *x.shape[1:])))
        carry, ys = scan(block, carry, rows, whole // unroll, reverse)
        return carry, _each(ys, lambda y: reshape(y, shape=(whole, *y.shape[2:])))

    def left(carry: Any) -> Any:
        return scan(f, carry, _each(xs, lambda x: x[whole:]), length - whole, reverse)

    if whole == length:
        return blocks(init)
    carry, first = left(init) if reverse else blocks(init)
    carry, second = blocks(carry) if reverse else left(carry)
    parts = (second, first) if reverse else (first, second)
    return carry, tree.map(lambda a, b: concat([a, b]) if is_tensor(a) else a, *parts)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container with its tensors changed."""
    return tree.map(lambda x: change(asarray(x)) if is_tensor(x) else x, value)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init: Any) -> Any:
    """``body_fun(i, value)`` for every integer ``i`` from ``lower`` up to, not including, ``upper``.

    lower, upper: integers, or integer tensors: the number of iterations may be known only when it runs. init and the
    results of the body are as in :func:`while_loop`. ``i`` is a Python-like integer: it widens nothing.

    >>> import defnpy as dp
    >>> dp.fori_loop(0, 10, lambda i, total: total + i, 0)
    Tensor(45, dtype=int64)
    >>> dp.grad(lambda x: dp.fori_loop(0, 3, lambda i, y: y * x, 1.0))(2.0)
    Tensor(12., dtype=float32)
    """
    for bound in (lower, upper):
        if not is_tensor(bound) or aval_of(bound).dtype.kind not in "iu" or aval_of(bound).shape:
            kind = aval_of(bound) if is_tensor(bound) else type(bound).__name__
            raise wrong(
                DTypeError, f"fori_loop: the bounds must be integers, not {kind}", "convert: n.astype(int)", bound
            )
    carry = _Carry("fori_loop", (lower, init), "init", lambda value: value[1])
    if isinstance(lower, (int, np.integer)) and isinstance(upper, (int, np.integer)):

        def step(value: Any, _: None) -> Any:
            return (value[0] + 1, body_fun(*value)), None

        return _scanned(carry, step, None, max(int(upper) - int(lower), 0), False)[0][1]
    return _repeated(carry, lambda value: value[0] < upper, lambda value: (value[0] + 1, body_fun(*value)))[1]


def map_(f: Callable[[Any], Any], xs: Any) -> Any:
    """``f`` of every row of ``xs``, one after the other, stacked: a :func:`scan` that carries nothing. Use
    :func:`defnpy.vmap` to compute them at once.

    >>> import defnpy as dp
    >>> dp.map(lambda x: x * x, dp.asarray([1.0, 2.0, 3.0]))
    Tensor([1., 4., 9.], dtype=float32)
    """
    return scan(lambda _, x: ((), f(x)), (), xs)[1]
