"""Section 3.2.4: the sigmoid.

    h(x) = 1 / (1 + exp(-x))

A smooth step: it answers small changes of x with small changes of y, which is what gradients need.

In defnpy the formula is traced into a graph of three operations. The compiler sees that exp(-x) overflows for very
negative x, and computes the branch that does not.
"""

from __future__ import annotations

import numpy as np

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.common import functions
from book_chapters.common.plot import curve
from book_chapters.runner import Run, study

ACCEPTANCE = (
    near("y(-5)", 0.0066928509, 1e-8),
    near("y(0)", 0.5, 1e-6),
    near("y(4.9)", 0.992608459, 1e-6),
)

sigmoid = dp.defn(functions.sigmoid)


def main(run: Run) -> None:
    x = np.arange(-5.0, 5.0, 0.1)
    y = sigmoid(dp.asarray(x, dtype=run.dtype)).tolist()
    run.say(f"x from {x[0]:g} to {x[-1]:g}: y from {y[0]:.4f} to {y[-1]:.4f}")
    run.figure("y(-5)", y[0])
    run.figure("y(0)", y[50])
    run.figure("y(4.9)", y[-1])
    run.curve({"x": x, "y": y})
    run.picture(lambda figure: curve(figure, x, y, ylim=(-0.1, 1.1)))


if __name__ == "__main__":
    study(main)
