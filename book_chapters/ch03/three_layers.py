"""Section 3.4.3: three layers with weights written by hand.

    a1 = x W1 + b1,  z1 = sigmoid(a1),  a2 = z1 W2 + b2,  z2 = sigmoid(a2),  y = z2 W3 + b3

Two inputs, three and two hidden units, two outputs: small enough to follow with a pencil.

In defnpy ``forward.expr`` prints the same formulas as a graph, one line each, with the shape of every value.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.common.functions import identity_function, sigmoid
from book_chapters.runner import Run, study

ACCEPTANCE = (near("y1", 0.3168270764, 1e-6), near("y2", 0.6962790899, 1e-6))

Params = dict[str, dp.Tensor]


def init_network(dtype: Any = "float64") -> Params:
    """The book's weights: W1 (2, 3), W2 (3, 2), W3 (2, 2) and their biases."""
    return {
        "W1": dp.asarray([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], dtype=dtype),
        "b1": dp.asarray([0.1, 0.2, 0.3], dtype=dtype),
        "W2": dp.asarray([[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], dtype=dtype),
        "b2": dp.asarray([0.1, 0.2], dtype=dtype),
        "W3": dp.asarray([[0.1, 0.3], [0.2, 0.4]], dtype=dtype),
        "b3": dp.asarray([0.1, 0.2], dtype=dtype),
    }


@dp.defn
def forward(network: Params, x: dp.Tensor) -> dp.Tensor:
    """The two outputs for x (2,)."""
    z1 = sigmoid(x @ network["W1"] + network["b1"])
    z2 = sigmoid(z1 @ network["W2"] + network["b2"])
    return identity_function(z2 @ network["W3"] + network["b3"])


def main(run: Run) -> None:
    network, x = init_network(run.dtype), dp.asarray([1.0, 0.5], dtype=run.dtype)
    run.say(forward.expr(network, x))
    y1, y2 = forward(network, x).tolist()
    run.say(f"y = [{y1:.8f} {y2:.8f}]")
    run.figure("y1", y1)
    run.figure("y2", y2)


if __name__ == "__main__":
    study(main)
