"""The gradient check: automatic derivatives along random directions against differences, to any order."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..defn import Defn
from ..derivatives import jvp, value_and_grad
from ..dtypes import DType
from ..errors import GradientError
from ..transforms.stage import is_tensor
from .arguments import (
    NOTHING,
    STEPS,
    TOLERANCES,
    beside,
    converted,
    inner_product,
    moved,
    random_like,
    size_of,
    tensors,
)
from .conditions import float_dtype, name_of, refuse_narrow, refuse_random, refuse_single
from .kinks import SMALLER
from .noise import rounding, rounding_inside
from .quotients import STEPS_DOWN

__all__ = ["GradientCheckError", "VacuousCheckWarning", "check_grads"]


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


class VacuousCheckWarning(UserWarning):
    """A gradient that was checked is zero in every element: a wrong rule would have passed as well.

    >>> import warnings
    >>> import defnpy as dp
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     dp.testing.check_grads(lambda p: dp.sum(p["w"] ** 2), [{"w": dp.ones(2), "b": dp.ones(2)}])
    >>> print(caught[0].message)
    <lambda>: the gradient of args[0]['b'] is zero throughout, the check says nothing about it
    """


def check_grads(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    seed: int = 0,
    h: float | None = None,
    tolerance: float | None = None,
    dtype: Any = "float64",
) -> None:
    """Check automatic derivatives against numerical ones, up to ``order``, in forward and in reverse mode.

    The function may return a container of tensors of any shape. It is projected on a random cotangent, and the
    gradient on a random direction, so a rule that is right only for a cotangent of ones is caught; the second order
    checks the derivative functions in the same way: forward over reverse, reverse over forward, and so on. modes: one
    of the two. Raises :class:`GradientCheckError` naming the order and both numbers.

    Float arguments are converted to ``dtype``, float64: a function that computes in float32 all the same is refused.
    With ``dtype="float32"`` everything is, and the step ``h`` (6e-6, or 5e-3) and the ``tolerance`` (1e-5, or 2e-2) are
    those that float32 allows for. The step is relative to the size of each argument, the tolerance to that of the
    derivative; where differences disagree, smaller steps are tried until rounding is all that they show.

    A function that gives different values for equal arguments is refused as well (``GradientError``). A gradient that
    is zero throughout, or below the rounding of the value, is a :class:`VacuousCheckWarning`.

    >>> import defnpy as dp
    >>> dp.testing.check_grads(lambda x: dp.tanh(x) * x, [dp.asarray([0.5, -1.0])])
    """
    if not set(modes) <= {"fwd", "rev"} or not modes:
        raise GradientError(f"check_grads: modes are 'fwd' and 'rev', not {modes!r}")
    if order < 1:
        raise GradientError(f"check_grads: order {order} checks nothing", hint="the first derivative is order=1")
    kind = float_dtype(dtype)
    refuse_single(args)
    inner = function.function if isinstance(function, Defn) else function
    compiler = functools.partial(Defn, backend=function._backend) if isinstance(function, Defn) else None
    wide = [converted(arg, kind, integers=False) for arg in args]
    refuse_random(inner, inner(*tensors(wide)), inner(*tensors(wide)))
    refuse_narrow(inner, wide, kind)
    check = _Check(
        name_of(inner),
        wide,
        np.random.default_rng(seed),
        STEPS[kind.name] if h is None else h,
        TOLERANCES[kind.name] if tolerance is None else tolerance,
        kind,
        compiler,
        tuple(modes),
    )
    level = [inner]
    for number in range(1, order + 1):
        derivatives = []
        for f in level:
            derivatives += check.derivatives(f, number)
        level = derivatives


@dataclass(frozen=True)
class _Check:
    """One check: where, how strictly, and by which random numbers."""

    name: str
    args: list[Any]
    rng: np.random.Generator
    h: float
    tolerance: float
    dtype: DType
    compiler: Callable[..., Any] | None
    modes: tuple[str, ...]

    def derivatives(self, function: Callable[..., Any], order: int) -> list[Callable[..., Any]]:
        """Check the first derivative of ``function``, which is one of order ``order``; returns it, from each mode."""
        args = self.args
        cotangent = tree.map(functools.partial(random_like, self.rng), function(*tensors(args)))

        def projected(*values: Any) -> Any:
            total: Any = 0.0
            for y, c in zip(tree.leaves(function(*values)), tree.leaves(cotangent), strict=True):
                if c is not NOTHING:
                    total = total + (y * c).sum()
            return total

        every = tuple(range(len(args)))
        compiled = self.compiler(projected) if self.compiler else projected
        # In proportion to each argument, so that none is drowned by another, or moved out of its domain.
        direction = tree.map(
            lambda x: d if (d := random_like(self.rng, x)) is NOTHING else (d * size_of(x)).astype(x.dtype), args
        )
        tangents = tuple(tree.map(lambda d: None if d is NOTHING else d, direction))
        automatic: dict[str, float] = {}
        if "rev" in self.modes:
            gradient = value_and_grad(compiled, every)(*tensors(args)).grad
            automatic["the gradient"] = inner_product(gradient, direction)
            if order == 1:
                self._warn_of_zeros(gradient)
        if "fwd" in self.modes:
            tangent = jvp(compiled, tuple(tensors(args)), tangents)[1]
            automatic["jvp"] = 0.0 if tangent is None else float(np.asarray(tangent))
        self._compare(compiled, automatic, direction, order)

        def gradient_of_projected(*values: Any) -> Any:
            gradients = value_and_grad(projected, every)(*values).grad
            pairs = zip(tree.leaves(tuple(args)), beside(values, gradients), strict=True)
            return [g * size_of(x).astype(x.dtype) for x, (_, g) in pairs if is_tensor(x) and x.dtype.kind == "f"]

        def tangent_of_function(*values: Any) -> Any:
            return [t for t in tree.leaves(jvp(function, values, tangents)[1]) if is_tensor(t)]

        found = {"rev": gradient_of_projected, "fwd": tangent_of_function}
        return [found[mode] for mode in self.modes]

    def _compare(
        self, function: Callable[..., Any], automatic: dict[str, float], direction: list[Any], order: int
    ) -> None:
        numerical, noise = self._difference(function, direction, self.h, 0.0)
        wrong = self._wrong(automatic, numerical, noise)
        if not wrong:
            if order == 1 and 0 < max(map(abs, automatic.values())) < noise:
                self._warn(f"the derivative is lost in the rounding of the value, {noise:.1e}, the check says nothing")
            return
        inside = rounding_inside(function, self.args, self.h, self.dtype)
        # What lies within a step, a kink, a wave, the end of the domain, does not disturb a smaller one. Rounding does:
        # where it is more than the tolerance, smaller steps tell no more.
        steps, quotients, gaps = [], [], []
        for k in range(STEPS_DOWN):
            steps.append(self.h / SMALLER**k)
            quotient, noise = self._difference(function, direction, steps[-1], inside)
            quotients.append(quotient)
            wrong = self._wrong(wrong, quotient, noise)
            if not wrong:
                return
            gaps.append(max(abs(found - quotient) for found in wrong.values()))
            lost = noise > self.tolerance * max(abs(quotient), *map(abs, wrong.values()))
            if lost and len(gaps) > 1 and gaps[-1] > gaps[-2] / 2:
                break
            if len(gaps) > 6 and all(b > SMALLER / 2 * a for a, b in itertools.pairwise(gaps[-7:])):
                break  # a jump at the point
        if len(gaps) == STEPS_DOWN and all(b <= 2 * a / SMALLER**2 for a, b in itertools.pairwise(gaps)):
            return  # nothing but the error of the formula, which falls with the square of the step
        changes = [abs(b - a) for a, b in itertools.pairwise(quotients)]
        best = int(np.nanargmin(changes)) if np.isfinite(changes).any() else 0
        reason = self._reason(function, direction, steps[best], quotients[best : best + 2])
        said = ", ".join(f"{found!r} by {by}" for by, found in wrong.items())
        raise GradientCheckError(
            f"{self.name}: the derivative of order {order} along a random direction is {said}, "
            f"{quotients[best]!r} by differences (step {steps[best]:.1e}, seed of the direction in the call){reason}"
        )

    def _reason(self, function: Callable[..., Any], direction: list[Any], step: float, quotients: list[float]) -> str:
        """What is special about the point, if it is: a kink or a jump."""
        numerical, finer = quotients[0], quotients[-1]
        noise = self._difference(function, direction, step / SMALLER, 0.0)[1]
        middle = self._value(function, direction, 0.0)
        right = (self._value(function, direction, step) - middle) / step
        left = (middle - self._value(function, direction, -step)) / step
        if abs(finer) > SMALLER / 2 * abs(numerical) + noise:
            reason = f". With a smaller step it is {finer:.6g}: the function, or its derivative, jumps at the point"
        elif abs(right - left) > 1e-2 * max(abs(right), abs(left)) + 64 * noise:
            reason = f". The slopes to the left and to the right are {left:.6g} and {right:.6g}: the point is at a kink"
        else:
            return ". Of a scalar function gradient_report shows which elements are wrong"
        return reason + ". Check elsewhere, or see gradient_report, which tells kinks from errors"

    def _value(self, function: Callable[..., Any], direction: list[Any], step: float) -> float:
        return float(np.asarray(function(*tensors(moved(self.args, direction, step)))))

    def _difference(
        self, function: Callable[..., Any], direction: list[Any], step: float, inside: float
    ) -> tuple[float, float]:
        """The central difference, and a bound on the rounding in it, that of the values or ``inside`` the function."""
        above, below = self._value(function, direction, step), self._value(function, direction, -step)
        noise = max(float(rounding(above, below, 2 * step, self.dtype)), inside / step)
        return (above - below) / (2 * step), noise

    def _wrong(self, automatic: dict[str, float], numerical: float, noise: float) -> dict[str, float]:
        """Those that disagree with the numerical value."""
        return {
            by: found
            for by, found in automatic.items()
            if not abs(numerical - found) <= self.tolerance * max(abs(numerical), abs(found)) + noise
        }

    def _warn(self, what: str) -> None:
        warnings.warn(f"{self.name}: {what}", VacuousCheckWarning, stacklevel=5)

    def _warn_of_zeros(self, gradient: Any) -> None:
        pairs = list(beside(self.args, gradient))
        if not any(is_tensor(x) and x.dtype.kind == "f" and x.size for x, _ in pairs):
            self._warn("there is no float among the arguments to move, the check says nothing")
        zero = [
            path
            for path, (x, g) in zip(tree.paths(tuple(self.args), "args"), pairs, strict=True)
            if is_tensor(x) and x.dtype.kind == "f" and x.size and not np.asarray(g).any()
        ]
        if zero:
            self._warn(f"the gradient of {', '.join(zero)} is zero throughout, the check says nothing about it")
