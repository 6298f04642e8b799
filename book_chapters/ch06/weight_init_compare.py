"""Section 6.2.4: three initialisations on MNIST, their losses beside each other.

    W ~ N(0, w^2)        w = 0.01, sqrt(1/n) (Xavier) or sqrt(2/n) (He), n the inputs of a layer

The net of optimizer_compare_mnist (relu) with SGD 0.01, 2000 updates. With 0.01 the activations shrink from layer to
layer, the gradients with them, and nothing is learned: the loss stays at log(10). relu makes half of its inputs 0, so
it needs twice Xavier's variance to pass on what it gets.

In defnpy the width of a distribution is no part of a function's shape: the three trainings share one compilation.
"""

from __future__ import annotations

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch06.losses import compare, draw
from book_chapters.ch06.multi_layer_net import CLASSES, PIXELS
from book_chapters.runner import Run, study

QUICK = {"iters": 200}
ACCEPTANCE = (
    Acceptance("std=0.01 loss", 2.29, 2.31, original="2.301, 2.302"),
    Acceptance("Xavier loss", 0.22, 0.40, original="0.281, 0.306"),
    Acceptance("He loss", 0.15, 0.27, original="0.198, 0.199"),
)

SIZES = (PIXELS, 100, 100, 100, 100, CLASSES)
SCHEMES: dict[str, float | str] = {"std=0.01": 0.01, "Xavier": "xavier", "He": "he"}


def main(run: Run, *, iters: int = 2000) -> None:
    compare(run, {name: (scheme, dp.optim.SGD(lr=0.01)) for name, scheme in SCHEMES.items()}, SIZES, iters)
    run.picture(lambda figure: draw(figure, run.curves[""], tuple(SCHEMES), top=2.5, markers="osD"))


if __name__ == "__main__":
    study(main)
