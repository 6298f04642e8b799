"""Section 4.4.2: the gradient of a loss by a matrix of weights.

    z = x W,  L = cross-entropy of softmax(z)        dL/dW has the shape of W: (2, 3)

dL/dW[i, j] says how much the loss changes when that weight does. If it is 0.2, a step of h changes the loss by 0.2 h.

In defnpy the weights are an argument, not an attribute. The book's ``numerical_gradient(f, net.W)`` takes a function
that ignores what it is given and looks at net.W, which is changed under its hands. The numerical gradient below calls
the loss with other weights, and has nothing to put back.
"""

from __future__ import annotations

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.common.functions import softmax_loss
from book_chapters.runner import Run, study

W = ((0.47355232, 0.9977393, 0.84668094), (0.85557411, 0.03563661, 0.69422093))
X = (0.6, 0.9)
T = (0.0, 0.0, 1.0)
EXACT = ((0.2192475712, 0.1435624298, -0.362810001), (0.3288713569, 0.2153436448, -0.5442150015))
ACCEPTANCE = (
    near("loss", 0.9280682857864075, 1e-12),
    Acceptance("automatic against the book's dW", high=1e-9, original="0"),
    Acceptance("numerical against automatic", high=1e-9, original="not compared"),
    near("first score", 1.054148091, 1e-9),
    Acceptance("largest score", 2, 2, original="2"),
    Acceptance("float32 numerical against automatic", 1e-5, 1e-3, original="8e-4 (Nx)"),
)


def predict(W: dp.Tensor, x: dp.Tensor) -> dp.Tensor:
    """The scores x W."""
    return x @ W


def loss(W: dp.Tensor, x: dp.Tensor, t: dp.Tensor) -> dp.Tensor:
    """The cross-entropy of their softmax."""
    return softmax_loss(predict(W, x), t)


def main(run: Run) -> None:
    weights, x, t = (dp.asarray(value, dtype=dp.float64) for value in (W, X, T))
    compiled = dp.defn(loss)
    scores = predict(weights, x)
    value, automatic = dp.value_and_grad(compiled)(weights, x, t)
    numerical = dp.testing.numerical_gradient(compiled, weights, x, t)
    run.say(f"scores {np.asarray(scores)}, loss {value.item()}")
    run.say(f"dW\n{np.asarray(automatic)}")
    run.say(compiled.expr(weights, x, t))
    run.say(dp.testing.gradient_report(compiled, [weights, x, t]))
    narrow = dp.testing.numerical_gradient(compiled, weights, x, t, dtype="float32")
    run.figure("loss", value)
    run.figure("first score", scores[0])
    run.figure("largest score", int(dp.argmax(scores)))
    gradient = np.asarray(automatic)
    # The book prints W and x with eight digits, and computes with more.
    run.figure("automatic against the book's dW", np.abs(gradient - EXACT).max())
    run.figure("numerical against automatic", np.abs(numerical - gradient).max())
    run.figure("float32 numerical against automatic", np.abs(narrow - gradient).max())
    run.say(f"in float32 the numerical gradient is off by {run.figures['float32 numerical against automatic']:.0e}")


if __name__ == "__main__":
    study(main)
