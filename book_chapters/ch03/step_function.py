"""Section 3.2.3: the step function.

    h(x) = 1 if x > 0 else 0

The perceptron's activation. Its derivative is 0 wherever it has one, so a net made of it cannot be trained by
gradients: that is why the sigmoid follows.

In defnpy the comparison gives booleans, and the cast makes numbers of them. A bool has no gradient and so the compiler
says 0 for it, which is right here.
"""

from __future__ import annotations

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.common import functions
from book_chapters.common.plot import curve
from book_chapters.runner import Run, study

ACCEPTANCE = (
    Acceptance("ones", 49, 49, original="49"),
    Acceptance("largest gradient", 0, 0, original="0 (nowhere computed)"),
)

step_function = dp.defn(functions.step_function)


@dp.defn
def gradient(x: dp.Tensor) -> dp.Tensor:
    """The derivative at each x."""
    return dp.grad(lambda x: dp.sum(functions.step_function(x)).astype(x.dtype))(x)


def main(run: Run) -> None:
    # The book's np.arange(-5, 5, 0.1) steps over 0: its 51st number is -1.8e-14. These are tenths.
    x = np.arange(-50, 50) / 10
    y = step_function(dp.asarray(x, dtype=run.dtype)).tolist()
    run.say(f"{len(y)} values of x from {x[0]:g} to {x[-1]:g}: y is 1 for {sum(y)} of them, and at x = 0 it is {y[50]}")
    slope = dp.max(dp.abs(gradient(dp.asarray(x, dtype=run.dtype)))).item()
    run.say(f"largest absolute gradient: {slope:g}")
    run.figure("ones", sum(y))
    run.figure("largest gradient", slope)
    run.curve({"x": x, "y": y})
    run.picture(lambda figure: curve(figure, x, y, ylim=(-0.1, 1.1)))


if __name__ == "__main__":
    study(main)
