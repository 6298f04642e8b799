"""The gradient report: numerical against automatic gradients, element by element."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..derivatives import value_and_grad
from ..dtypes import DType
from .arguments import STEPS, TOLERANCES, movable, sampled, size_of, tensors
from .conditions import float_dtype, refuse_narrow, refuse_random, refuse_single
from .kinks import Kink, slopes_at_kinks
from .noise import rounding_inside
from .numerical import both_sides, value_at
from .quotients import Evaluate, Quotients, refine

__all__ = ["GradientReport", "ParameterReport", "gradient_report"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ParameterReport:
    """Numerical against automatic gradient of one leaf.

    checked: how many of its elements were compared. The absolute and relative figures are the mean and the largest
    difference; the relative one is divided by the larger of the two magnitudes (0 where both are 0). worst is the index
    of the largest absolute difference, numerical and automatic are the values there. noise bounds what the rounding of
    the function's value does to a quotient. errors counts differences beyond noise and tolerance.

    kinks: the elements whose one-sided slopes differ; there the numerical value is the one between the slopes that is
    nearest to the automatic one. vacuous: both gradients are zero throughout, so that nothing was checked. histogram:
    how many differences lie in which decade ("1e-12" are those from 1e-12 to 1e-11, "0" those that are exactly zero).

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda x: dp.sum(0 * x), [dp.ones(3)])
    >>> report.parameters[0].vacuous
    True
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    mean_absolute: float
    max_absolute: float
    mean_relative: float
    max_relative: float
    worst: tuple[int, ...]
    numerical: float
    automatic: float
    noise: float
    errors: int
    kinks: tuple[Kink, ...]
    vacuous: bool
    histogram: dict[str, int]

    def _notes(self) -> list[str]:
        notes = []
        if self.errors:
            notes.append(f"{self.errors} WRONG")
        if self.kinks:
            notes.append(f"{len(self.kinks)} {'kink' if len(self.kinks) == 1 else 'kinks'}")
        if self.checked < math.prod(self.shape):
            notes.append(f"{self.checked} of {math.prod(self.shape)} elements")
        if self.noise > 1e-2 * max(abs(self.automatic), abs(self.numerical)) and not self.vacuous and self.checked:
            notes.append(f"rounding hides {self.noise:.0e}")
        if self.vacuous:
            notes.append("all zero: checks nothing")
        return notes

    def _cells(self) -> list[str]:
        figures = (self.mean_absolute, self.max_absolute, self.mean_relative, self.max_relative)
        cells = [self.name, str(self.shape), *[f"{v:.2e}" for v in figures], str(self.worst)]
        return [*cells, f"{self.numerical:.6g}", f"{self.automatic:.6g}", ", ".join(self._notes())]


HEAD = ("parameter", "shape", "mean abs", "max abs", "mean rel", "max rel", "worst at", "numerical", "automatic", "")


@dataclass(frozen=True)
class GradientReport:
    """Numerical against automatic gradients, leaf by leaf; prints as a table, and as a rich one where rich prints it.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda p: p["a"] * p["b"], [{"a": 2.0, "b": 3.0}])
    >>> list(report.to_dict())
    ["['a']", "['b']"]
    >>> report.ok
    True
    """

    parameters: tuple[ParameterReport, ...]
    h: float
    dtype: str

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Name to figures, of plain Python types."""

        def plain(value: Any) -> Any:
            return [vars(kink) for kink in value] if value and isinstance(value, tuple) and _kinks(value) else value

        return {p.name: {k: plain(v) for k, v in vars(p).items() if k != "name"} for p in self.parameters}

    @property
    def max_absolute(self) -> float:
        """The largest absolute difference of all elements."""
        return max((p.max_absolute for p in self.parameters), default=0.0)

    @property
    def ok(self) -> bool:
        """Whether no difference is beyond tolerance and noise."""
        return not any(p.errors for p in self.parameters)

    @property
    def _title(self) -> str:
        return f"numerical (central differences, {self.dtype}, h = {self.h:g}) against automatic gradient"

    def __str__(self) -> str:
        rows = [list(HEAD), *[p._cells() for p in self.parameters]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title, *lines])

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(title=self._title)
        for i, name in enumerate((*HEAD[:-1], "decades of the differences", "notes")):
            table.add_column(name, justify="left" if i in (0, 1, 6, 9, 10) else "right")
        for p in self.parameters:
            *cells, notes = p._cells()
            decades = " ".join(f"{decade}:{count}" for decade, count in p.histogram.items())
            table.add_row(*cells, decades, notes, style="red" if p.errors else "yellow" if p.vacuous else None)
        return table


def _kinks(values: tuple[Any, ...]) -> bool:
    return isinstance(values[0], Kink)


def gradient_report(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    h: float | None = None,
    argnums: int | tuple[int, ...] = 0,
    samples: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    dtype: Any = "float64",
) -> GradientReport:
    """Compare numerical and automatic gradients of a scalar function, element by element.

    Float arguments are converted to ``dtype``, float64: a function that computes in float32 all the same is refused.
    With ``dtype="float32"`` everything is, and the step ``h`` and the ``tolerance`` (1e-5, or 2e-2 of the derivative)
    are those that float32 allows for. h: the step, by default 6e-6 (or 5e-3) times the size of the leaf; where quotient
    and gradient disagree, smaller ones are tried. samples: so many elements of every leaf, drawn from ``seed``, instead
    of all. Integers among the ``argnums`` are moved as floats, unless the function needs integers.

    An element with a kink is listed as one; it is wrong only where the automatic value is not between the slopes of
    both sides. A gradient that is zero throughout is called vacuous. Raises ``GradientError`` for a function that gives
    different values for equal arguments: give it its random key as an argument.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda p: dp.sum(dp.sin(p["x"])), [{"x": dp.ones((2, 2))}])
    >>> report.ok, report.max_absolute < 1e-9
    (True, True)
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    kind = float_dtype(dtype)
    refuse_single(args)
    tolerance = TOLERANCES[kind.name] if tolerance is None else tolerance
    values = movable(function, args, numbers, kind)
    middle = value_at(function, values)
    refuse_random(function, middle, value_at(function, values))
    refuse_narrow(function, values, kind)
    automatic = value_and_grad(function, numbers)(*tensors(values)).grad
    rng = np.random.default_rng(seed)
    inside = functools.cache(lambda: rounding_inside(function, values, STEPS[kind.name], kind))
    reports = []
    for number, gradient in zip(numbers, automatic, strict=True):
        names = tree.paths(gradient, f"arg{number}" if len(numbers) > 1 else "")
        leaves = tree.leaves(values[number])
        of_leaf = _gradients_of_leaves(values[number], gradient)
        places: list[Any] = [() if g is None else sampled(rng, g.size, samples) for g in of_leaf]
        steps: list[Any] = [() if g is None else _steps(leaves[i], h, kind)[places[i]] for i, g in enumerate(of_leaf)]
        found = both_sides(function, values, number, steps, places)
        named = iter(names)
        for i, (leaf, g, place) in enumerate(zip(leaves, of_leaf, places, strict=True)):
            if g is None:
                continue
            name = next(named) or "argument"
            if found[i] is None:
                continue
            evaluate = _smaller(function, values, number, i, place, len(leaves))
            quotients = Quotients(leaf.reshape(-1)[place], steps[i], *found[i])
            reports.append(_compare(name, leaf.shape, place, middle, quotients, g[place], tolerance, inside, evaluate))
    return GradientReport(tuple(reports), STEPS[kind.name] if h is None else h, kind.name)


def _steps(leaf: Array, h: float | None, dtype: DType) -> Array:
    """For every element, flat, its step: the one that is asked for, or in proportion to its size."""
    found: Array = STEPS[dtype.name] * size_of(leaf) if h is None else np.full(leaf.shape, h)
    return found.astype(leaf.dtype).reshape(-1)


def _gradients_of_leaves(argument: Any, gradient: Any) -> list[Any]:
    """For every leaf of the argument its gradient, flat, or None."""
    _, structure = tree.flatten(argument)
    whole: Any = structure
    return [None if g is None else np.asarray(g).reshape(-1) for g in whole.flatten_up_to(gradient)]


def _smaller(
    function: Callable[..., Any], values: list[Any], number: int, leaf: int, place: Array, leaves: int
) -> Evaluate:
    """Evaluates some elements of one leaf again, with other steps."""

    def evaluate(positions: Array, step: Array) -> tuple[Array, Array]:
        places: list[Any] = [()] * leaves
        steps: list[Any] = [0.0] * leaves
        places[leaf], steps[leaf] = place[positions], step
        found: tuple[Array, Array] = both_sides(function, values, number, steps, places)[leaf]
        return found

    return evaluate


def _compare(
    name: str,
    shape: tuple[int, ...],
    place: Array,
    middle: Any,
    quotients: Quotients,
    automatic: Array,
    tolerance: float,
    inside: Callable[[], float],
    evaluate: Evaluate,
) -> ParameterReport:
    if not place.size:
        return ParameterReport(name, shape, 0, 0.0, 0.0, 0.0, 0.0, (), 0.0, 0.0, 0.0, 0, (), True, {})

    def index(position: Any) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(place[position], shape))

    hidden, well = 0.0, quotients.agree(automatic, tolerance)
    if not well.all():
        hidden = inside()
        well = refine(quotients, automatic, tolerance, hidden, evaluate)
    numerical, noise = quotients.numerical, quotients.noise(hidden)
    positions, left, right = slopes_at_kinks(
        middle, quotients.above, quotients.below, quotients.step, noise, ~well, evaluate
    )
    numerical[positions] = np.clip(automatic[positions], np.minimum(left, right), np.maximum(left, right))
    between = np.abs(numerical - automatic) <= tolerance * np.abs(automatic) + noise
    well[positions] = between[positions]
    kinks = tuple(
        Kink(index(p), float(a), float(b), float(automatic[p])) for p, a, b in zip(positions, left, right, strict=True)
    )
    difference = np.abs(numerical - automatic)
    difference = np.where(np.isnan(difference), np.inf, difference)
    scale = np.maximum(np.abs(numerical), np.abs(automatic))
    with np.errstate(invalid="ignore"):
        relative = np.divide(difference, scale, out=np.zeros_like(difference), where=scale > 0)
    relative = np.where(np.isnan(relative), np.inf, relative)
    worst = int(np.argmax(difference))
    return ParameterReport(
        name,
        shape,
        place.size,
        float(difference.mean()),
        float(difference.max()),
        float(relative.mean()),
        float(relative.max()),
        index(worst),
        float(numerical[worst]),
        float(automatic[worst]),
        float(noise.max()),
        int(np.sum(~well)),
        kinks,
        not numerical.any() and not automatic.any(),
        _decades(difference),
    )


def _decades(difference: Array) -> dict[str, int]:
    exact, infinite = int(np.sum(difference == 0)), int(np.sum(np.isinf(difference)))
    finite = difference[(difference > 0) & np.isfinite(difference)]
    exponents, counts = np.unique(np.floor(np.log10(finite)).astype(int), return_counts=True)
    counted = {f"1e{e:+03d}": int(n) for e, n in zip(exponents, counts, strict=True)}
    return {**({"0": exact} if exact else {}), **counted, **({"inf": infinite} if infinite else {})}
