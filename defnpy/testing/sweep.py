"""The step of a difference quotient: how its error depends on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..derivatives import grad
from .arguments import movable, sampled, tensors
from .conditions import float_dtype, refuse_random, refuse_single
from .numerical import both_sides, value_at

__all__ = ["StepSweep", "step_sweep"]

DECADES = tuple(10.0**-k for k in range(1, 12))


@dataclass(frozen=True)
class StepSweep:
    """The errors of central differences for a row of steps: mean |numerical - automatic| / mean |automatic| of a leaf.

    Drawn over the step on two logarithmic axes it is a V: from the right it falls with h², the error of the formula,
    and to the left it rises with eps / h, the rounding of the function's value. Kinks within the step lift the right
    side.

    >>> import defnpy as dp
    >>> sweep = dp.testing.step_sweep(lambda x: dp.sum(dp.exp(x)), [dp.asarray([0.5, 1.0])])
    >>> 1e-7 < sweep.best["argument"] < 1e-3
    True
    """

    steps: tuple[float, ...]
    errors: dict[str, tuple[float, ...]]
    dtype: str

    @property
    def best(self) -> dict[str, float]:
        """For every leaf the step with the smallest error."""
        return {name: self.steps[int(np.argmin(errors))] for name, errors in self.errors.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain Python types: what a plot needs."""
        return {"steps": list(self.steps), "errors": {k: list(v) for k, v in self.errors.items()}, "dtype": self.dtype}

    def __str__(self) -> str:
        names = list(self.errors)
        widths = [max(len(name), 8) for name in names]
        head = "h".ljust(9) + "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))
        lines = [
            f"{step:<9.0e}" + "  ".join(f"{self.errors[n][i]:.2e}".rjust(w) for n, w in zip(names, widths, strict=True))
            for i, step in enumerate(self.steps)
        ]
        return "\n".join([f"relative error of central differences in {self.dtype}", head, *lines])


def step_sweep(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    steps: Sequence[float] = DECADES,
    argnums: int | tuple[int, ...] = 0,
    samples: int | None = 64,
    seed: int = 0,
    dtype: Any = "float64",
) -> StepSweep:
    """The error of the numerical gradient for every step, against the automatic one, which is computed in float64.

    samples: so many elements of every leaf, drawn from ``seed``. dtype: what the differences are computed in; "float32"
    shows why not to use it.

    >>> import defnpy as dp
    >>> print(dp.testing.step_sweep(lambda x: x**3, [2.0], steps=[1e-1, 1e-2]))
    relative error of central differences in float64
    h        argument
    1e-01    8.33e-04
    1e-02    8.33e-06
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    kind = float_dtype(dtype)
    refuse_single(args)
    wide = movable(function, args, numbers, np.dtype("float64"))
    values = movable(function, args, numbers, kind)
    refuse_random(function, value_at(function, wide), value_at(function, wide))
    rng = np.random.default_rng(seed)
    errors: dict[str, tuple[float, ...]] = {}
    for number, gradient in zip(numbers, grad(function, numbers)(*tensors(wide)), strict=True):
        _, structure = tree.flatten(wide[number])
        whole: Any = structure
        of_leaf = [None if g is None else np.asarray(g).reshape(-1) for g in whole.flatten_up_to(gradient)]
        places = [() if g is None else sampled(rng, g.size, samples) for g in of_leaf]
        rows = [both_sides(function, values, number, h, places) for h in steps]
        names = iter(tree.paths(gradient, f"arg{number}" if len(numbers) > 1 else ""))
        for i, g in enumerate(of_leaf):
            if g is None:
                continue
            name = next(names) or "argument"
            if rows and rows[0][i] is None:
                continue
            exact = g[places[i]]
            size = float(np.abs(exact).mean()) if exact.size else 0.0
            found = []
            for h, row in zip(steps, rows, strict=True):
                quotient = (row[i][0].astype(float) - row[i][1]) / (2 * float(kind.type(h)))
                gap = float(np.abs(quotient - exact).mean()) if exact.size else 0.0
                found.append(gap / size if size else gap)
            errors[name] = tuple(found)
    return StepSweep(tuple(steps), errors, kind.name)
