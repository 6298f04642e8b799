"""Section 3.2.5: sigmoid and step function in one picture.

    sigmoid(x) = 1 / (1 + exp(-x))        step(x) = 1 if x > 0 else 0

Both lie between 0 and 1 and answer large x with 1; one is smooth, the other is not.

In defnpy the two are one function with two results, traced together and compiled into one loop over x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.common import functions
from book_chapters.runner import Run, study

ACCEPTANCE = (near("largest difference", 0.5, 1e-6),)


@dp.defn
def both(x: dp.Tensor) -> tuple[dp.Tensor, dp.Tensor]:
    """The sigmoid and the step function of x."""
    return functions.sigmoid(x), functions.step_function(x)


def main(run: Run) -> None:
    x = np.arange(-50, 50) / 10
    smooth, hard = (y.tolist() for y in both(dp.asarray(x, dtype=run.dtype)))
    differences = [abs(a - b) for a, b in zip(smooth, hard, strict=True)]
    worst = int(np.argmax(differences))
    run.say(f"they differ most at x = {x[worst]:g}: by {differences[worst]:.4f}")
    run.figure("largest difference", differences[worst])
    run.curve({"x": x, "sigmoid": smooth, "step": hard})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(x, smooth, label="sigmoid")
        axes.plot(x, hard, "k--", label="step")
        axes.set(ylim=(-0.1, 1.1))

    run.picture(draw)


if __name__ == "__main__":
    study(main)
