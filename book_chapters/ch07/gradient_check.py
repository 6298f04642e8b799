"""Section 7.4: is the gradient of a convolutional net right, with kinks and without?

    (L(p + h e_k) - L(p - h e_k)) / 2h        p: W1 (10, 1, 3, 3), b1, W2 (160, 10), b2, W3 (10, 10), b3

An image of 1x10x10 drawn at random, 10 filters of 3x3, 10 hidden units, label 1. The book checks it with weights of
standard deviation 0.01 and a step of 1e-4, and sees errors in W1 and b1 up to 1e-5. They are no errors: with so small
weights the values before a relu lie close to 0, and close to one another in a pool, and a step of 1e-4 moves some
across their kink. So here are both widths, 0.01 and 0.1, with both steps, 1e-4 and 1e-6, and the kinks are counted.
With the small step they are gone.

b3 differs from the book's formula by 1.8e-7 in each case: the 1e-7 in the logarithm, seen from y = 0.1.

In defnpy no layer of this net has a backward pass. ``simple_convnet.gradient`` writes them down, by im2col and col2im,
to be compared.
"""

from __future__ import annotations

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch07.simple_convnet import gradient, init, written_loss
from book_chapters.common.gradcheck import compare
from book_chapters.runner import Run, study

OPTIONS = {"force": "compare in float32 too"}
STEPS, WIDTHS = (1e-4, 1e-6), (0.01, 0.1)
ACCEPTANCE = (
    *(
        Acceptance(f"largest numerical - automatic, std {std:g}, h 1e-6", high=1e-9, original="not compared")
        for std in WIDTHS
    ),
    Acceptance("b3 numerical - book, std 0.01, h 1e-6", 1.7e-7, 1.9e-7, original="1.8e-07"),
    Acceptance("degenerate parameters", 0, 0, original="0"),
)

IMAGE, FILTERS, WINDOW, HIDDEN = (1, 10, 10), 10, 3, 10


def main(run: Run, *, force: bool = False) -> None:
    dtype = run.dtype_or(dp.float64)
    weights_key, image_key = dp.random.split(run.key, 2)
    x, t = dp.random.uniform(image_key, (1, *IMAGE), dtype=dtype), dp.asarray([1])
    degenerate = 0
    for std in WIDTHS:
        params = init(weights_key, image=IMAGE, filters=FILTERS, window=WINDOW, hidden=HIDDEN, std=std, dtype=dtype)
        for h in STEPS:
            check = compare(written_loss, params, x, t, formula=gradient, h=h, force=force)
            run.say(f"weights of standard deviation {std:g}\n{check}\n")
            case = f"std {std:g}, h {'1e-4' if h == STEPS[0] else '1e-6'}"
            run.figure(f"largest numerical - automatic, {case}", check.max_automatic)
            run.figure(f"kinks, {case}", check.kinks)
            run.figure(f"b3 numerical - book, {case}", check.row("b3").formula_mean)
            degenerate += sum(row.degenerate for row in check.rows)
    run.figure("degenerate parameters", degenerate)


if __name__ == "__main__":
    study(main)
