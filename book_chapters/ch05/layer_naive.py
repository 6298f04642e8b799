"""Section 5.4: a multiplication and an addition as layers, forward and backward.

    z = x y:  dx = g y, dy = g x          z = x + y:  dx = g, dy = g

g is the gradient that comes from behind. A multiplication exchanges its inputs, an addition hands g on.

The book's layers keep x and y between forward and backward. A port of it to Elixir, where values do not change, kept
them in a global table. Here backward is given what it needs: ``backward(g, *x)``. The rules inside defnpy are written
in the same way, and this page compares the two.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.runner import Run, study

ACCEPTANCE = (
    Acceptance("product against grad", 0, 0, original="not compared"),
    Acceptance("sum against grad", 0, 0, original="not compared"),
)


def multiply(x: Any, y: Any) -> Any:
    """x y."""
    return x * y


def multiply_backward(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The gradients by x and y: the other factor times g."""
    return g * y, g * x


def add(x: Any, y: Any) -> Any:
    """x + y."""
    return x + y


def add_backward(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """g for both."""
    return g, g


def main(run: Run) -> None:
    x, y, g = (dp.asarray(value, dtype=run.dtype) for value in (100.0, 2.0, 1.1))
    for name, forward, backward in (("product", multiply, multiply_backward), ("sum", add, add_backward)):
        by_hand = backward(g, x, y)
        automatic = dp.grad(lambda x, y, f=forward: g * f(x, y), (0, 1))(x, y)
        run.say(f"{name} of {x.item():g} and {y.item():g}: {forward(x, y).item():g}")
        run.say(f"  by hand {[d.item() for d in by_hand]}, by grad {[d.item() for d in automatic]}")
        run.figure(f"{name} against grad", max(abs((a - b).item()) for a, b in zip(by_hand, automatic, strict=True)))


if __name__ == "__main__":
    study(main)
