"""Section 5.7.3: numerical, automatic and hand-written gradients side by side.

    (L(p + h e_k) - L(p - h e_k)) / 2h    for each of the 39,760 weights and biases, on the first three images

The book compares numerical gradients with its backward pass and finds b2 off by 1.4e-7, "close to 0". It is not the
noise of differences. The loss is log(y + 1e-7), and the backward pass, y - t, leaves the 1e-7 out: at y = 0.1 that is a
relative error of 1e-6 in every b2. The automatic gradient of the loss as it is written agrees with the numerical one a
thousand times better. So three columns:

    num-auto    rounding and truncation alone: 1e-16 |L| / h + h^2, but for kinks
    num-book    what the book prints
    auto-book   the 1e-7

Two more things can be in the way. Where a ReLU changes its mind between p - h and p + h the difference quotient
averages two slopes: such kinks are counted. And in float32 the rounding of L alone gives errors of 27 % of the
gradient, so the check is refused (``--force`` shows it).

In defnpy the loss is a function of the parameters, and both sides of a difference are one compiled call.
"""

from __future__ import annotations

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch05 import two_layer_net as net
from book_chapters.common.data import scaled
from book_chapters.common.gradcheck import compare
from book_chapters.runner import Run, study

OPTIONS = {
    "images": "the first images to take",
    "samples": "so many elements of each parameter in place of all, 64 for one",
    "force": "compare in float32 too",
}
QUICK = {"samples": 64}
ACCEPTANCE = (
    Acceptance("b2 numerical - book, h 1e-4", 1.3e-7, 1.5e-7, original="1.403e-07 1.393e-07 1.389e-07"),
    Acceptance("W1 numerical - book, without kinks", high=1e-8, original="4.607e-10 4.49e-10 4.50e-10"),
    Acceptance("largest numerical - automatic, h 1e-6", high=1e-9, original="not compared"),
    Acceptance("degenerate parameters", 0, 0, original="0"),
)
STEPS = (1e-4, 1e-6)


def main(run: Run, *, images: int = 3, samples: int = 10**6, force: bool = False) -> None:
    data = run.mnist()
    dtype = run.dtype_or(dp.float64)
    params = net.init(run.key, dtype=dtype)
    x, t = scaled(dp.asarray(data.train_images[:images]), dtype), dp.asarray(data.train_labels[:images])
    for h in STEPS:
        check = compare(
            net.loss, params, x, t, formula=net.gradient_by_hand, h=h, samples=samples, seed=run.seed, force=force
        )
        if h == STEPS[0]:
            for row in check.rows:
                run.say(f"{row.name}:{row.formula_mean}")
                run.figure(f"{row.name} numerical - book, h 1e-4", row.formula_mean)
            if not check.row("W1").kinks:  # the range is one of rounding
                run.figure("W1 numerical - book, without kinks", check.row("W1").formula_mean)
            run.figure("kinks at h 1e-4", check.kinks)
            run.figure("degenerate parameters", sum(row.degenerate for row in check.rows))
        run.say(f"\n{check}")
    run.figure("largest numerical - automatic, h 1e-6", check.max_automatic)


if __name__ == "__main__":
    study(main)
