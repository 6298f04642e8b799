"""Section 6.1.8: the optimizers on MNIST, their losses beside each other.

    SGD       W <- W - lr g                                            g = dL/dW
    Momentum  v <- 0.9 v - lr g,           W <- W + v
    AdaGrad   h <- h + g^2,                W <- W - lr g / sqrt(h)
    Adam      means m of g and v of g^2,   W <- W - lr m / sqrt(v),    both corrected for their start at 0

Five layers (784-100-100-100-100-10, relu, He), batches of 128, 2000 updates. Every optimizer sees the same batches and
starts from weights of its own. One batch's loss is noise, so the figure to compare is the mean of the last hundred.

In defnpy all six are one training step with another optimizer as its argument. Each is compiled once, because each
remembers something else (nothing, a velocity, squares, both and a counter).
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch06.losses import compare, draw
from book_chapters.ch06.multi_layer_net import CLASSES, PIXELS
from book_chapters.runner import Run, study

QUICK = {"iters": 200}
ACCEPTANCE = (
    Acceptance("SGD loss", 0.16, 0.25, original="0.199, 0.203"),
    Acceptance("Momentum loss", 0.045, 0.09, original="0.068, 0.059"),
    Acceptance("AdaGrad loss", 0.02, 0.045, original="0.032, 0.028"),
    Acceptance("Adam loss", 0.03, 0.06, original="0.044, 0.042"),
    Acceptance("SGD is the worst", 1, 1, original="yes"),
    Acceptance("AdaGrad or Adam is the best", 1, 1, original="yes"),
)

SIZES = (PIXELS, 100, 100, 100, 100, CLASSES)
OPTIMIZERS: dict[str, Any] = {
    "SGD": dp.optim.SGD(lr=0.01),
    "Momentum": dp.optim.Momentum(lr=0.01),
    "AdaGrad": dp.optim.AdaGrad(lr=0.01),
    "Adam": dp.optim.Adam(lr=0.001),
    "Nesterov": dp.optim.Nesterov(lr=0.01),
    "RMSprop": dp.optim.RMSprop(lr=0.01),
}
IN_THE_BOOK = ("SGD", "Momentum", "AdaGrad", "Adam")


def main(run: Run, *, iters: int = 2000) -> None:
    means = compare(run, {name: ("he", optimizer) for name, optimizer in OPTIMIZERS.items()}, SIZES, iters)
    book = {name: means[name] for name in IN_THE_BOOK}
    run.figure("SGD is the worst", int(max(book, key=book.__getitem__) == "SGD"))
    run.figure("AdaGrad or Adam is the best", int(min(book, key=book.__getitem__) in ("AdaGrad", "Adam")))
    run.picture(lambda figure: draw(figure, run.curves[""], IN_THE_BOOK, top=1.0))


if __name__ == "__main__":
    study(main)
