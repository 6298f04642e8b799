"""Derivatives of the user's own, and what becomes of the memory that derivatives need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .defn import Defn, _transformed
from .errors import GradientError
from .ir.trace import aval_of, current
from .shapes import size
from .source import capture, quote
from .testing import GradientCheckError, check_grads, gradient_report
from .transforms.custom import checkpointed, with_rule
from .transforms.stage import is_tensor

__all__ = ["checkpoint", "custom_jvp", "custom_vjp"]


def checkpoint(function: Callable[..., Any] | None = None, /, *, policy: str = "nothing") -> Callable[..., Any]:
    """The same function, whose derivative computes the values on the way forward again instead of keeping them. To be
    called or used as a decorator, ``@checkpoint`` or ``@checkpoint(policy="dots")``.

    policy: what is kept all the same: "nothing" but the arguments; "dots", the results of matrix products and
    convolutions, which are dear to compute; "everything", as without a checkpoint.

    A derivative backwards needs the values on the way forward in reverse order, so all of them are kept until then.
    With a checkpoint around each layer of a deep net only the layers' inputs are, and one layer's values at a time are
    computed a second time. Value and derivatives are the same. ``f.explain(...)`` tells the memory of a program.

    >>> import defnpy as dp
    >>> layer = dp.checkpoint(lambda w, x: dp.tanh(w @ dp.exp(x)))
    >>> dp.grad(lambda w, x: dp.sum(layer(w, x)), 1)(dp.eye(2), dp.asarray([0.0, 1.0]))
    Tensor([0.41997433, 0.04693638], dtype=float32)
    """
    if function is None:
        return functools.partial(checkpoint, policy=policy)
    inner = function.function if isinstance(function, Defn) else function
    made: Callable[..., Any] = _transformed(function, checkpointed(inner, policy))
    return made


def _registered(
    rule: Callable[..., Any],
    nondiff_argnums: int | Sequence[int],
    verify_with: Sequence[Any] | None,
    backwards: bool,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    called = "custom_vjp" if backwards else "custom_jvp"
    numbers = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
    if not all(isinstance(number, int) for number in numbers):
        raise GradientError(
            f"{called}: nondiff_argnums names arguments by number, not by {nondiff_argnums!r}", where=quote(capture())
        )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise GradientError(
                f"{called}: what is to be differentiated by the rule is a {type(function).__name__}, not a function",
                where=quote(capture()),
                hint=f"the rule stands in the decorator: @dp.{called}(rule)",
            )
        inner = function.function if isinstance(function, Defn) else function
        transformed = with_rule(inner, rule, numbers, backwards=backwards)

        @functools.wraps(inner)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if current() is None else transformed(*args, **kwargs)

        if verify_with is not None:
            _verify(wrapper, verify_with, numbers)
        return wrapper

    return register


def _verify(function: Callable[..., Any], args: Sequence[Any], nondiff: Sequence[int]) -> None:
    """Check the rule against differences; what has no derivative is held fixed."""
    fixed = {number % len(args) for number in nondiff}
    free = [i for i in range(len(args)) if i not in fixed]

    @functools.wraps(function)
    def of_free(*values: Any) -> Any:
        every = list(args)
        for i, value in zip(free, values, strict=True):
            every[i] = value
        return function(*every)

    try:
        check_grads(of_free, [args[i] for i in free])
    except GradientCheckError as wrong:
        report = gradient_report(_projected(of_free), [args[i] for i in free], argnums=tuple(range(len(free))))
        raise GradientCheckError(f"{wrong}\n{report}") from None


def _projected(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function's results, summed up with weights that tell them apart."""

    def scalar(*args: Any) -> Any:
        total: Any = 0.0
        for y in tree.leaves(function(*args)):
            if is_tensor(y) and aval_of(y).dtype.kind == "f":
                total = total + (y * np.cos(np.arange(size(aval_of(y).shape))).reshape(y.shape).astype(y.dtype)).sum()
        return total

    scalar.__name__ = getattr(function, "__name__", "function")
    return scalar


def custom_vjp(
    rule: Callable[..., Any],
    *,
    nondiff_argnums: int | Sequence[int] = (),
    verify_with: Sequence[Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a function a rule backwards of its own, as the ops of defnpy have one.

    ``rule(g, y, *args, **kwargs)`` gets the cotangent of the result (a container of its structure, None for leaves
    without a derivative), the result, and the arguments of the call. It returns the cotangent of the argument, or a
    tuple with one for each argument; None, also within a container, stands for zero. It is made of ops, so derivatives
    of higher order, forward mode (its transpose) and ``vmap`` come by themselves. What it computes that the function
    computed, too, is computed once: nothing has to be handed over.

    nondiff_argnums: numbers of arguments without a derivative (functions, sizes), for which the rule returns nothing.
    Python's numbers in them are static: ``range(n)`` is possible. Keyword-only arguments are of that kind anyway.
    verify_with: arguments for which the rule is checked against differences at once, to second order, in float64. A
    wrong rule raises ``testing.GradientCheckError``.

    Raises ``GradientError`` for a rule that returns other shapes, or a function that reads traced values from around
    it.

    >>> import defnpy as dp
    >>> def rule(g, y, x):
    ...     return g * dp.sigmoid(x)
    >>> @dp.custom_vjp(rule, verify_with=[dp.asarray([-1.0, 2.0])])
    ... def softplus(x):
    ...     return dp.log(1 + dp.exp(x))
    >>> dp.grad(softplus)(0.0)
    Tensor(0.5, dtype=float32)
    """
    return _registered(rule, nondiff_argnums, verify_with, True)


def custom_jvp(
    rule: Callable[..., Any],
    *,
    nondiff_argnums: int | Sequence[int] = (),
    verify_with: Sequence[Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a function a rule forwards of its own.

    ``rule(tangents, y, *args, **kwargs)`` gets a tuple of tangents, one container for each argument with a derivative
    (zeros where it does not move), the result, and the arguments of the call. It returns the tangent of the result, in
    its structure; None stands for zero. It must be linear in the tangents: backwards its transpose is used. Otherwise
    it is like :func:`custom_vjp`, and so are the other arguments.

    >>> import defnpy as dp
    >>> def rule(tangents, y, x, n):
    ...     return tangents[0] * n * x ** (n - 1)
    >>> @dp.custom_jvp(rule, nondiff_argnums=1, verify_with=[2.0, 3])
    ... def power(x, n):
    ...     return x**n
    >>> dp.jvp(lambda x: power(x, 3), (2.0,), (1.0,)), dp.grad(dp.grad(lambda x: power(x, 3)))(2.0)
    ((Tensor(8., dtype=float32), Tensor(12., dtype=float32)), Tensor(12., dtype=float32))
    """
    return _registered(rule, nondiff_argnums, verify_with, False)
