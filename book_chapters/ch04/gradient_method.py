"""Section 4.4.1: going down along the gradient.

    x <- x - lr df/dx        f(x) = x0^2 + x1^2, from (-3, 4)

With lr = 0.1 every step leaves 0.8 of x, and 20 steps end near the lowest place. With 10 the steps grow without bound,
with 1e-10 nothing happens in 100 of them.

How far lr = 10 leads is a question to the gradient. The book's answer, -2.6e13, is made by its numerical one: at 1e13
x + 1e-4 is x, the difference 0, and descent stands still. The exact gradient goes on, to -2.3e128.

In defnpy the step is one compiled function from x to a new x. A port of the book computes lr g - x instead of x - lr g:
the sign of x changes with every step, which does not show for a function that is even and a number of steps that is
even. 101 steps tell the difference, and so does (x - 1)^2, whose lowest place that formula never finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.ch04.gradient_2d import function_2
from book_chapters.runner import Run, study
from defnpy.errors import TrainingError

START = (-3.0, 4.0)
OPTIONS = {"lr": "learning rate"}
ACCEPTANCE = (
    near("x0 after 20 steps", -0.0345876451, 1e-8),
    near("x1 after 20 steps", 0.0461168602, 1e-8),
    near("x0 after 100 steps", -6.1111079e-10, 1e-15),
    near("x1 after 100 steps", 8.1481439e-10, 1e-15),
    near("x0 with lr 10, numerical", -2.58983747e13, 1e5),
    near("x0 with lr 10", -2.2515487e128, 1e121, "-2.6e13 (numerical)"),
    near("x0 with lr 1e-10", -2.99999994, 1e-8),
    near("x0 after 101 steps", -4.888886e-10, 1e-14, "+4.89e-10 in the port"),
    near("(x - 1)^2", 1.0, 1e-9, "-1/9 in the port"),
)


def gradient_descent(
    f: Callable[[Any], Any], x: dp.Tensor, lr: float, steps: int
) -> tuple[dp.Tensor, list[tuple[float, ...]]]:
    """The place after ``steps`` steps from ``x``, and the places before each of them."""

    @dp.defn
    def step(x: dp.Tensor, lr: Any) -> dp.Tensor:
        return x - lr * dp.grad(f)(x)

    history = []
    for _ in range(steps):
        history.append(tuple(x.tolist()))
        x = step(x, lr)
    return x, history


def numerical_descent(f: Callable[[Any], Any], x: np.ndarray, lr: float, steps: int) -> np.ndarray:
    """The same with the book's numerical gradient in place of the automatic one."""
    for _ in range(steps):
        x = x - lr * dp.testing.numerical_gradient(f, x)
    return x


def main(run: Run, *, iters: int = 20, lr: float = 0.1) -> None:
    start = dp.asarray(START, dtype=run.dtype_or(dp.float64))
    end, history = gradient_descent(function_2, start, lr, iters)
    if not np.isfinite(end).all():
        raise TrainingError(f"{iters} steps with --lr {lr:g} lead to {np.asarray(end)}", hint="it converges below 1")
    run.say(f"from {START} in {iters} steps with lr {lr:g}: {np.asarray(end)}")
    if (iters, lr) == (20, 0.1):
        run.figure("x0 after 20 steps", end[0])
        run.figure("x1 after 20 steps", end[1])
    for rate, steps in ((0.1, 100), (10.0, 100), (1e-10, 100), (0.1, 101)):
        x = gradient_descent(function_2, start, rate, steps)[0]
        run.say(f"in {steps} steps with lr {rate:g}: {np.asarray(x)}")
        name = f"after {steps} steps" if rate == 0.1 else f"with lr {rate:g}"
        run.figure(f"x0 {name}", x[0])
        run.figure(f"x1 {name}", x[1])
    stuck = numerical_descent(function_2, np.asarray(START), 10.0, 100)
    run.say(f"in 100 steps with lr 10 and numerical gradients: {stuck}")
    run.figure("x0 with lr 10, numerical", stuck[0])
    lowest = gradient_descent(lambda x: dp.sum((x - 1) ** 2), start, 0.1, 100)[0]
    run.say(f"(x - 1)^2, in 100 steps: {np.asarray(lowest)}")
    run.figure("(x - 1)^2", lowest[0])
    x0, x1 = zip(*history, strict=True)
    run.curve({"x0": x0, "x1": x1})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([-5, 5], [0, 0], "--b")
        axes.plot([0, 0], [-5, 5], "--b")
        axes.plot(x0, x1, "o")
        axes.set(xlim=(-3.5, 3.5), ylim=(-4.5, 4.5), xlabel="X0", ylabel="X1")

    run.picture(draw)


if __name__ == "__main__":
    study(main)
