"""Section 4.3.2: a numerical derivative, and the tangent it gives.

    f(x) = 0.01 x^2 + 0.1 x        (f(x + h) - f(x - h)) / 2h   with h = 1e-4

At x = 5 the derivative is 0.2, and the difference quotient 0.1999999999990898: wrong in the twelfth digit, because
f(x + h) and f(x - h) agree in all but their last digits. A smaller h makes that worse, a larger one bends the chord.

In defnpy ``dp.grad(f)`` derives the formula instead: 0.02 x + 0.1, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.runner import Run, study

ACCEPTANCE = (
    near("numerical at 5", 0.1999999999990898, 1e-15),
    near("numerical at 10", 0.2999999999986347, 1e-15),
    near("automatic at 5", 0.2, 1e-15),
    near("automatic at 10", 0.3, 1e-15),
)


def function_1(x: Any) -> Any:
    """0.01 x^2 + 0.1 x."""
    return 0.01 * x**2 + 0.1 * x


def tangent_line(x: float) -> tuple[float, float]:
    """Slope and intercept of the tangent at x, by the automatic derivative."""
    value, slope = dp.value_and_grad(function_1)(dp.asarray(x, dtype=dp.float64))
    return slope.item(), value.item() - slope.item() * x


def main(run: Run) -> None:
    run.say(dp.defn(function_1).expr(dp.spec((), dp.float64)))
    run.say(dp.grad(dp.defn(function_1)).expr(dp.spec((), dp.float64)))
    for x in (5.0, 10.0):
        numerical = dp.testing.numerical_diff(function_1, x)
        automatic = dp.grad(function_1)(dp.asarray(x, dtype=dp.float64)).item()
        run.say(f"x = {x:g}: numerical {numerical}, automatic {automatic}, difference {numerical - automatic:.1e}")
        run.figure(f"numerical at {x:g}", numerical)
        run.figure(f"automatic at {x:g}", automatic)
    x = np.arange(0.0, 20.0, 0.1)
    slope, intercept = tangent_line(5.0)
    y, tangent = function_1(x), slope * x + intercept
    run.curve({"x": x, "f": y, "tangent": tangent})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(x, y)
        axes.plot(x, tangent)
        axes.set(xlabel="x", ylabel="f(x)")

    run.picture(draw)


if __name__ == "__main__":
    study(main)
