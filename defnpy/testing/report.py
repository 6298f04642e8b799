"""The gradient report: numerical against automatic gradients, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..defn import value_and_grad
from .arguments import converted
from .numerical import numerical_gradient

__all__ = ["GradientReport", "ParameterReport", "gradient_report"]


@dataclass(frozen=True)
class ParameterReport:
    """Numerical against automatic gradient of one leaf.

    absolute and relative are the mean and the largest difference; the relative one is divided by the larger of the two
    magnitudes (0 where both are 0). worst is the index of the largest absolute difference.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda x: dp.sum(0 * x), [dp.ones(3)])
    >>> report.parameters[0].vacuous
    True
    """

    name: str
    shape: tuple[int, ...]
    mean_absolute: float
    max_absolute: float
    mean_relative: float
    max_relative: float
    worst: tuple[int, ...]
    numerical: float
    automatic: float
    vacuous: bool


@dataclass(frozen=True)
class GradientReport:
    """Numerical against automatic gradients, leaf by leaf; prints as a table.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda p: p["a"] * p["b"], [{"a": 2.0, "b": 3.0}])
    >>> list(report.to_dict())
    ["['a']", "['b']"]
    """

    parameters: tuple[ParameterReport, ...]
    h: float

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Name to figures, of plain Python types."""
        return {
            p.name: {field: getattr(p, field) for field in p.__dataclass_fields__ if field != "name"}
            for p in self.parameters
        }

    @property
    def max_absolute(self) -> float:
        """The largest absolute difference of all elements."""
        return max((p.max_absolute for p in self.parameters), default=0.0)

    def __str__(self) -> str:
        head = (
            "parameter",
            "shape",
            "mean abs",
            "max abs",
            "mean rel",
            "max rel",
            "worst at",
            "numerical",
            "automatic",
        )
        rows = [list(head)]
        for p in self.parameters:
            figures = (p.mean_absolute, p.max_absolute, p.mean_relative, p.max_relative)
            note = "  all zero: checks nothing" if p.vacuous else ""
            cells = [p.name, str(p.shape), *[f"{v:.2e}" for v in figures], str(p.worst)]
            rows.append([*cells, f"{p.numerical:.6g}", f"{p.automatic:.6g}{note}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(
            [f"numerical (central differences, float64, h = {self.h:g}) against automatic gradient", *lines]
        )


def gradient_report(
    function: Callable[..., Any], args: Sequence[Any], *, h: float = 1e-6, argnums: int | tuple[int, ...] = 0
) -> GradientReport:
    """Compare numerical and automatic gradients of a scalar function, element by element, both in float64.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda p: dp.sum(dp.sin(p["x"])), [{"x": dp.ones((2, 2))}])
    >>> report.max_absolute < 1e-9
    True
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    wide = [converted(arg, np.dtype("float64"), integers=i in numbers) for i, arg in enumerate(args)]
    numerical = numerical_gradient(function, *wide, h=h, argnums=numbers)
    automatic = value_and_grad(function, numbers)(*wide).grad
    reports = []
    for number, ours, theirs in zip(numbers, automatic, numerical, strict=True):
        root = f"arg{number}" if len(numbers) > 1 else ""
        for path, a, n in zip(tree.paths(ours, root), tree.leaves(ours), tree.leaves(theirs), strict=True):
            reports.append(_compare(path or "argument", np.asarray(n), np.asarray(a)))
    return GradientReport(tuple(reports), h)


def _compare(name: str, numerical: np.ndarray[Any, Any], automatic: np.ndarray[Any, Any]) -> ParameterReport:
    if numerical.size == 0:
        return ParameterReport(name, numerical.shape, 0.0, 0.0, 0.0, 0.0, (), 0.0, 0.0, True)
    difference = np.abs(numerical - automatic)
    difference = np.where(np.isnan(difference), np.inf, difference)
    scale = np.maximum(np.abs(numerical), np.abs(automatic))
    relative = np.divide(difference, scale, out=np.zeros_like(difference), where=scale > 0)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return ParameterReport(
        name,
        numerical.shape,
        float(difference.mean()),
        float(difference.max()),
        float(relative.mean()),
        float(relative.max()),
        tuple(int(i) for i in worst),
        float(numerical[worst]),
        float(automatic[worst]),
        not numerical.any() and not automatic.any(),
    )
