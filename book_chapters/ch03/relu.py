"""Section 3.2.7: the rectified linear unit.

    h(x) = x if x > 0 else 0

Its derivative is 1 or 0, so gradients pass through many layers without shrinking. At x = 0 it has none; the book takes
1 in one place (functions.relu_grad) and 0 in another (layers.Relu). defnpy takes 0.

``x * (x > 0)`` would be another way to write it, and a wrong one: infinity times 0 is NaN.
"""

from __future__ import annotations

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.common import functions
from book_chapters.common.plot import curve
from book_chapters.runner import Run, study

ACCEPTANCE = (
    near("sum", 122.5, 1e-4),
    Acceptance("derivative at 0", 0, 0, original="1 or 0"),
)

relu = dp.defn(functions.relu)
derivative = dp.grad(relu)


def main(run: Run) -> None:
    x = np.arange(-50, 50) / 10
    y = relu(dp.asarray(x, dtype=run.dtype)).tolist()
    slopes = [derivative(dp.asarray(point, dtype=run.dtype)).item() for point in (-1.0, 0.0, 1.0)]
    run.say(f"x from {x[0]:g} to {x[-1]:g}: y from {min(y):g} to {max(y):g}")
    run.say(f"derivative at -1, 0, 1: {', '.join(f'{slope:g}' for slope in slopes)}")
    run.figure("sum", sum(y))
    run.figure("derivative at 0", slopes[1])
    run.curve({"x": x, "y": y})
    run.picture(lambda figure: curve(figure, x, y, ylim=(-1.0, 5.5)))


if __name__ == "__main__":
    study(main)
