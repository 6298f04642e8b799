"""Sections 7.4.2 and 7.4.3: im2col, a convolution as one matrix product.

    im2col: images (N, C, H, W) -> rows (N OH OW, C FH FW), one row for each place of the filter

A filter of 5x5 over 3 channels sees 75 numbers at each of the 3x3 places of a 7x7 image. With these as rows, the
convolution is ``rows @ W.reshape(FN, -1).T``. col2im adds rows back to where they were taken: a pixel that four windows
saw is added four times, so it is the transpose of im2col, not its inverse.

In defnpy both are written with sliding windows, and being linear, each is the other's gradient: ``dp.grad`` of the one
finds the other, and this page checks it. ``dp.conv`` gives the same numbers as the product of the rows.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.common.im2col import col2im, im2col
from book_chapters.common.layers import convolution
from book_chapters.runner import Run, study

ACCEPTANCE = (
    Acceptance("rows of one image", 9, 9, original="9"),
    Acceptance("columns", 75, 75, original="75"),
    Acceptance("rows of ten images", 90, 90, original="90"),
    Acceptance("gradient of im2col less col2im", 0, 0, original="-"),
    Acceptance("convolution less rows @ filters", 0, 1e-12, original="-"),
)


def pull_back(x: Any, g: Any) -> Any:
    """The gradient of <im2col(x), g> by x, for windows of 2x2."""
    return dp.grad(lambda x: dp.sum(im2col(x, 2, 2) * g))(x)


def main(run: Run) -> None:
    keys = dp.random.split(run.key, 3)
    for count, name in ((1, "rows of one image"), (10, "rows of ten images")):
        shape = im2col(dp.random.uniform(keys[0], (count, 3, 7, 7)), 5, 5, stride=1, pad=0).shape
        run.say(f"{count:2d} images (3, 7, 7), filter 5x5: {shape}")
        run.figure(name, shape[0])
        run.figure("columns", shape[1])

    image = dp.reshape(dp.arange(16), (1, 1, 4, 4))
    run.say(f"\nimage\n{image[0, 0]}\n\nits rows for a 2x2 filter, stride 2\n{im2col(image, 2, 2, stride=2)}")
    ones = dp.ones((1, 1, 4, 4))
    back = col2im(im2col(ones, 2, 2), ones.shape, 2, 2)
    run.say(f"\ncol2im(im2col(ones)), stride 1: how many windows saw each pixel\n{back[0, 0]}")

    g = dp.random.normal(keys[1], (9, 4), dtype="float64")
    difference = pull_back(ones.astype("float64"), g) - col2im(g, ones.shape, 2, 2)
    run.figure("gradient of im2col less col2im", dp.max(dp.abs(difference)))
    x = dp.random.normal(keys[0], (2, 3, 7, 7), dtype="float64")
    filters = dp.random.normal(keys[2], (4, 3, 5, 5), dtype="float64")
    by_rows = dp.defn(convolution)(x, filters, dp.zeros(4, dtype="float64"))
    run.figure("convolution less rows @ filters", dp.max(dp.abs(dp.defn(dp.conv)(x, filters) - by_rows)))
    run.say()
    for name in ("gradient of im2col less col2im", "convolution less rows @ filters"):
        run.say(f"{name}: {run.figures[name]:.2g}")


if __name__ == "__main__":
    study(main)
