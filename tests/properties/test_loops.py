"""Random loops and branches against the same program written with Python's own: values, two derivatives, batches."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp

UNARY = (dp.sin, dp.tanh, lambda x: x * 0.5, lambda x: -x, lambda x: dp.exp(-x * x))
BINARY = (dp.add, dp.subtract, dp.multiply, lambda x, y: dp.where(x > y, x, y * 0.5), lambda x, y: dp.sin(x) * y)


class Structured:
    """Control flow by the ops."""

    fori = staticmethod(dp.fori_loop)
    scan = staticmethod(dp.scan)
    cond = staticmethod(dp.cond)

    @staticmethod
    def until(limit: float, most: int, body: Callable[[Any], Any], x: Any) -> Any:
        def goes_on(state: Any) -> Any:
            return dp.logical_and(dp.sum(state[0] * state[0]) < limit, state[1] < most)

        return dp.while_loop(goes_on, lambda state: (body(state[0]), state[1] + 1), (x, 0))[0]


class Plain:
    """The same by Python, on concrete values: only for values that nothing traces."""

    @staticmethod
    def fori(lower: int, upper: int, body: Any, x: Any) -> Any:
        for i in range(lower, upper):
            x = body(i, x)
        return x

    @staticmethod
    def scan(f: Any, carry: Any, xs: Any, reverse: bool = False) -> Any:
        ys: list[Any] = [None] * len(xs)
        for i in reversed(range(len(xs))) if reverse else range(len(xs)):
            carry, ys[i] = f(carry, xs[i])
        return carry, dp.stack(ys)

    @staticmethod
    def cond(pred: Any, yes: Any, no: Any, *x: Any) -> Any:
        return yes(*x) if bool(pred) else no(*x)

    @staticmethod
    def until(limit: float, most: int, body: Any, x: Any) -> Any:
        steps = 0
        while float(dp.sum(x * x)) < limit and steps < most:
            x, steps = body(x), steps + 1
        return x


def drawn(seed: int) -> Callable[[Any], Callable[[Any, Any], Any]]:
    """A random program of two arguments, for either kind of control flow."""

    def program(flow: Any) -> Callable[[Any, Any], Any]:
        def run(x: Any, w: Any) -> Any:
            return _expression(random.Random(seed), flow, 3, [x, w])

        return run

    return program


def _expression(rng: random.Random, flow: Any, depth: int, known: list[Any]) -> Any:
    """A value made of known ones, all of one shape."""
    values = list(known)
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(
            ("unary", "binary", "binary", "fori", "scan", "cond", "until") if depth else ("unary", "binary")
        )
        x, y = rng.choice(values), rng.choice(values)
        seed = rng.random()

        def inner(extra: list[Any], seed: float = seed, values: list[Any] = values) -> Any:
            return _expression(random.Random(seed), flow, depth - 1, [*values[-2:], *extra])

        if kind == "unary":
            values.append(rng.choice(UNARY)(x))
        elif kind == "binary":
            values.append(rng.choice(BINARY)(x, y))
        elif kind == "fori":
            values.append(flow.fori(0, rng.randint(0, 3), lambda i, c: dp.tanh(inner([c]) + 0.1 * i), x))
        elif kind == "scan":
            rows = dp.stack([x, y, x * y])
            reverse = rng.random() < 0.5
            carry, made = flow.scan(lambda c, r: (dp.tanh(inner([c, r])), c * r), x, rows, reverse=reverse)
            values.append(carry + dp.sum(made, axis=0))
        elif kind == "cond":
            values.append(flow.cond(dp.sum(x) > 0, lambda a, b: inner([a, b]), lambda a, b: dp.cos(a) + b, x, y))
        else:
            values.append(flow.until(rng.uniform(0.5, 4), rng.randint(1, 4), lambda c: dp.sin(inner([c])) + 0.7 * c, x))
    return values[-1]


def compare(found: Any, expected: Any, what: str) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-8, atol=1e-9, err_msg=what)


@pytest.mark.parametrize("seed", range(12))
def test_random_control_flow(seed):
    rng = np.random.default_rng(seed)
    shape = ((), (3,))[seed % 2]
    xs, ws = (dp.asarray(rng.uniform(-1, 1, (3, *shape))) for _ in range(2))
    program = drawn(seed)
    ours = program(Structured)
    loss = lambda x, w: dp.sum(ours(x, w) * 1.3)  # noqa: E731
    x, w = xs[0], ws[0]
    expected = program(Plain)(x, w)
    for backend in (None, "cpu", "reference"):
        made = ours if backend is None else dp.defn(ours, backend=backend)
        compare(made(x, w), expected, f"value, {backend}")
    first = dp.grad(loss, (0, 1))
    direction = dp.asarray(rng.standard_normal(shape))
    h = 1e-6
    slope = (loss(x + h * direction, w) - loss(x - h * direction, w)) / (2 * h)
    gradient = first(x, w)
    np.testing.assert_allclose(dp.sum(gradient[0] * direction), slope, rtol=1e-4, atol=1e-6)
    compare(dp.jvp(lambda x: loss(x, w), (x,), (direction,))[1], dp.sum(gradient[0] * direction), "forward")
    for a, b in zip(dp.defn(first)(x, w), gradient, strict=True):
        compare(a, b, "compiled gradient")
    second = dp.grad(lambda x, w: dp.sum(first(x, w)[0] * direction), (0, 1))
    slope = [(p - m) / (2 * h) for p, m in zip(first(x + h * direction, w), first(x - h * direction, w), strict=True)]
    for a, b, c in zip(second(x, w), slope, dp.defn(second)(x, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        compare(c, a, "compiled second derivative")
    together = dp.vmap(first)(xs, ws)
    compiled = dp.defn(dp.vmap(first))(xs, ws)
    for k in range(3):
        for a, b, c in zip(first(xs[k], ws[k]), together, compiled, strict=True):
            compare(b[k], a, "vmap of the gradient")
            compare(c[k], a, "compiled vmap of the gradient")
    through = dp.grad(lambda xs, ws: dp.sum(dp.vmap(loss)(xs, ws)), (0, 1))(xs, ws)
    for a, b in zip(through, together, strict=True):
        compare(a, b, "gradient of the vmap")
