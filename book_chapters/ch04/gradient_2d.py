"""Section 4.4: the gradient of a function of two numbers, as a field of arrows.

    f(x0, x1) = x0^2 + x1^2        gradient (2 x0, 2 x1)

Each arrow points against the gradient, to where f falls fastest: all of them to the lowest place.

In defnpy the gradient of a scalar function at many points is one call: the points are a batch, and the gradient of the
sum over the batch has a row for each, as no point has part in another's value. The book handed the whole grid to its
numerical gradient once, a function of (2, 324) numbers that was no scalar, and got the right picture for a wrong
reason; ``grad`` refuses a result that is not scalar.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.runner import Run, study

POINTS = ((3.0, 4.0), (0.0, 2.0), (3.0, 0.0))
ACCEPTANCE = (
    Acceptance("automatic against 2x", 0, 0, original="(6, 8) (0, 4) (6, 0)"),
    Acceptance("numerical against 2x", high=1e-10, original="1e-11"),
    Acceptance("float32 numerical at 3", 5.9890747, 5.98907471, original="5.9890747"),
    Acceptance("float32 numerical at 4", 8.0013275, 8.00132752, original="8.0013275"),
)


def function_2(x: Any) -> Any:
    """The sum of the squares along the last axis."""
    return dp.sum(x**2, axis=-1)


@dp.defn
def gradients(points: dp.Tensor) -> dp.Tensor:
    """The gradient of function_2 at every row of points (N, 2)."""
    return dp.grad(lambda x: dp.sum(function_2(x)))(points)


def main(run: Run) -> None:
    worst = {"automatic": 0.0, "numerical": 0.0}
    for point in POINTS:
        x = dp.asarray(point, dtype=dp.float64)
        numerical = dp.testing.numerical_gradient(function_2, x)
        automatic = np.asarray(dp.grad(function_2)(x))
        run.say(f"at {point}: numerical {numerical}, automatic {automatic}")
        exact = 2 * np.asarray(point)
        for name, found in (("automatic", automatic), ("numerical", numerical)):
            worst[name] = max(worst[name], float(np.abs(found - exact).max()))
    for name, value in worst.items():
        run.figure(f"{name} against 2x", value)
    narrow = dp.testing.numerical_gradient(function_2, dp.asarray((3.0, 4.0)), dtype="float32")
    run.say(f"at (3.0, 4.0), all in float32: numerical {narrow}: a rounding error of 1e-6, divided by h = 1e-4")
    run.figure("float32 numerical at 3", narrow[0])
    run.figure("float32 numerical at 4", narrow[1])

    x0, x1 = (axis.ravel() for axis in np.meshgrid(np.arange(-2, 2.5, 0.25), np.arange(-2, 2.5, 0.25)))
    field = np.asarray(gradients(dp.asarray(np.stack([x0, x1], axis=1), dtype=run.dtype)))
    run.curve({"x0": x0, "x1": x1, "-df/dx0": -field[:, 0], "-df/dx1": -field[:, 1]})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.quiver(x0, x1, -field[:, 0], -field[:, 1], angles="xy", color="#666666")
        axes.set(xlim=(-2, 2), ylim=(-2, 2), xlabel="x0", ylabel="x1")
        axes.grid()

    run.picture(draw)


if __name__ == "__main__":
    study(main)
