"""Section 6.1: four optimizers on a valley, drawn as paths.

    f(x, y) = x^2 / 20 + y^2,  from (-7, 2),  30 updates

The valley is steep across and flat along. SGD jumps from wall to wall, because the gradient seldom points at the
minimum; Momentum rolls along, AdaGrad shortens the steps that are too long, Adam does both. Nesterov and RMSprop, which
the book's code has and its figure leaves out, are here too.

In defnpy the gradient is not written down, and an optimizer is a pair of pure functions ``init`` and ``update`` over
any container of tensors. Its learning rate is an argument of the compiled step. Nothing is random: the end points are
exact in float64, which is this page's default.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.runner import Run, study

__all__ = ["OPTIMIZERS", "f", "path", "step"]

START = {"x": -7.0, "y": 2.0}
UPDATES = 30

OPTIMIZERS = {
    "SGD": dp.optim.SGD(lr=0.95),
    "Momentum": dp.optim.Momentum(lr=0.1),
    "AdaGrad": dp.optim.AdaGrad(lr=1.5),
    "Adam": dp.optim.Adam(lr=0.3),
    "Nesterov": dp.optim.Nesterov(lr=0.1),
    "RMSprop": dp.optim.RMSprop(lr=0.3),
}
IN_THE_BOOK = ("SGD", "Momentum", "AdaGrad", "Adam")

ENDS = {
    "SGD": (-0.3503929958, 0.0847823166),
    "Momentum": (0.8964138585, 0.0880856017),
    "AdaGrad": (-0.1201623223, 2.49e-17),
    "Adam": (0.1360068524, 0.3182453755),
    "Nesterov": (0.6896149017, -0.0006799058),
    "RMSprop": (-5.351327e-06, 1.51e-11),
}
ACCEPTANCE: tuple[Acceptance, ...] = tuple(
    near(f"{name} {axis}", value, 1e-8) for name, end in ENDS.items() for axis, value in zip("xy", end, strict=True)
)


def f(p: Any) -> Any:
    """The valley."""
    return p["x"] ** 2 / 20 + p["y"] ** 2


@dp.defn
def step(p: Any, optimizer: Any, state: Any) -> tuple[Any, Any]:
    """One update: the new point, and what the optimizer remembers."""
    return optimizer.update(p, dp.grad(f)(p), state)


def path(optimizer: Any, updates: int = UPDATES, dtype: Any = "float64") -> np.ndarray:
    """The points from the start on: (updates + 1, 2)."""
    p = {name: dp.asarray(value, dtype=dtype) for name, value in START.items()}
    state = optimizer.init(p)
    points = [p]
    for _ in range(updates):
        p, state = step(p, optimizer, state)
        points.append(p)
    return np.array([[float(p["x"]), float(p["y"])] for p in points])


def draw(figure: Any, paths: dict[str, np.ndarray]) -> None:
    """The paths of the book's four, one panel each, on the contours of the valley (without those above 7)."""
    x, y = np.meshgrid(np.arange(-10, 10, 0.01), np.arange(-5, 5, 0.01))
    z = x**2 / 20 + y**2
    z[z > 7] = 0
    for axes, name in zip(figure.subplots(2, 2).flat, IN_THE_BOOK, strict=True):
        points = paths[name][:-1]  # the book draws every point before its update
        axes.plot(points[:, 0], points[:, 1], "o-", color="red", markersize=3)
        axes.contour(x, y, z)
        axes.plot(0, 0, "+")
        axes.set(xlim=(-10, 10), ylim=(-10, 10), xlabel="x", ylabel="y", title=name)


def main(run: Run) -> None:
    paths = {name: path(optimizer, dtype=run.dtype_or(dp.float64)) for name, optimizer in OPTIMIZERS.items()}
    for name, points in paths.items():
        x, y = points[-1]
        run.say(f"{name:9s} after {UPDATES} updates: ({x: .10f}, {y: .10f})")
        run.figure(f"{name} x", x)
        run.figure(f"{name} y", y)
    columns = {f"{name} {axis}": points[:, i] for name, points in paths.items() for i, axis in enumerate("xy")}
    run.curve({"update": range(UPDATES + 1), **columns})
    run.picture(lambda figure: draw(figure, paths))


if __name__ == "__main__":
    study(main)
