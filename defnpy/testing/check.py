"""The gradient check: automatic derivatives along random directions against differences, to any order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..defn import Defn, value_and_grad
from ..ir.trace import aval_of
from ..transforms.stage import is_tensor
from .arguments import NOTHING, beside, converted, inner_product, moved, norm, random_like, tensors

__all__ = ["GradientCheckError", "check_grads"]


class GradientCheckError(AssertionError):
    """An automatic gradient disagrees with numerical differences.

    >>> import defnpy as dp
    >>> wrong = lambda x: x * dp.stop_grad(x)
    >>> try:
    ...     dp.testing.check_grads(wrong, [2.0])
    ... except dp.testing.GradientCheckError as error:
    ...     print(str(error)[:39])
    <lambda>: the derivative of order 1 alo
    """


def check_grads(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    order: int = 2,
    seed: int = 0,
    h: float = 1e-6,
    tolerance: float = 1e-5,
) -> None:
    """Check automatic derivatives against numerical ones, in float64, up to ``order``.

    The function may return a container of tensors of any shape. It is projected on a random cotangent, and the
    gradient on a random direction, so a rule that is right only for a cotangent of ones is caught; the second order
    checks the gradient function in the same way. Raises :class:`GradientCheckError` naming the order and both numbers.

    >>> import defnpy as dp
    >>> dp.testing.check_grads(lambda x: dp.tanh(x) * x, [dp.asarray([0.5, -1.0])])
    """
    rng = np.random.default_rng(seed)
    inner = function.function if isinstance(function, Defn) else function
    compiler = functools.partial(Defn, backend=function._backend) if isinstance(function, Defn) else None
    wide = [converted(arg, np.dtype("float64"), integers=False) for arg in args]
    _check_order(inner, wide, order, 1, rng, h, tolerance, compiler)


def _check_order(
    function: Callable[..., Any],
    args: list[Any],
    order: int,
    level: int,
    rng: np.random.Generator,
    h: float,
    tolerance: float,
    compiler: Any,
) -> None:
    outputs = function(*tensors(args))
    cotangent = tree.map(lambda y: random_like(rng, y), outputs)

    def projected(*values: Any) -> Any:
        results = tree.leaves(function(*values))
        total: Any = 0.0
        for y, c in zip(results, tree.leaves(cotangent), strict=True):
            if c is not NOTHING:
                total = total + (y * c).sum()
        return total

    every = tuple(range(len(args)))
    gradient_of = value_and_grad(compiler(projected) if compiler else projected, every)
    gradient = gradient_of(*tensors(args)).grad
    direction = tree.map(lambda x: random_like(rng, x), args)
    automatic = inner_product(gradient, direction)
    step = h * max(1.0, norm(args)) / max(1.0, norm(direction))
    evaluate = compiler(projected) if compiler else projected
    above = float(np.asarray(evaluate(*tensors(moved(args, direction, step)))))
    below = float(np.asarray(evaluate(*tensors(moved(args, direction, -step)))))
    numerical = (above - below) / (2 * step)
    scale = max(1.0, abs(numerical), abs(automatic))
    noise = 4 * np.finfo(np.float64).eps * (abs(above) + abs(below)) / (2 * step)
    if not abs(numerical - automatic) <= tolerance * scale + noise:
        name = getattr(function, "__name__", "function")
        raise GradientCheckError(
            f"{name}: the derivative of order {level} along a random direction is {automatic!r} by the gradient, "
            f"{numerical!r} by differences (step {step:.1e}, seed of the direction in the call)"
        )
    if level < order:

        def next_level(*values: Any) -> Any:
            gradients = value_and_grad(projected, every)(*values).grad
            return [g for x, g in beside(values, gradients) if is_tensor(x) and aval_of(x).dtype.kind == "f"]

        next_level.__name__ = getattr(function, "__name__", "function")
        _check_order(next_level, args, order, level + 1, rng, h, tolerance, compiler)
