"""Section 8.3.4: does the deep net need more than half precision?

    float16: 1 bit sign, 5 bits exponent, 10 bits mantissa; a number is off by a two-thousandth at most

The book's script says ``param[...] = param.astype(np.float16)``. That stores the rounded weights into float64 arrays,
which stay float64: what it measures is a net of rounded weights that computes in float64, in the same 17 seconds. Here
are three nets beside each other:

    as trained          weights and arithmetic in float32 (or --dtype)
    weights in half     what the book's script computes
    all in half         image, weights and the output of every layer rounded to float16; sums within a layer are not

The last is what processors with half-precision units do: operands of 16 bits, sums of 32.

In defnpy float16 is no dtype, because the Array API standard has none and a CPU gains nothing by it. So every layer is
a compiled function, and between two of them NumPy rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.ch07.simple_convnet import as_images
from book_chapters.ch08.deep_convnet import LAYERS, PART, RATIO, Params, layer, load, scores
from book_chapters.common.data import parts
from book_chapters.runner import Run, study

__all__ = ["half", "scores_in_half"]

OPTIONS = {"images": "how many of the test images"}
QUICK = {"images": 1000}
ACCEPTANCE = (
    near("as trained", 0.9918, 0.0001, original="0.9935"),
    near("weights in half less as trained", 0.0, 0.0005, original="0.0001 (.9798 and .9797)"),
    near("all in half less as trained", 0.0, 0.0005, original="not computed"),
)

compiled = [dp.defn(partial(layer, number=number)) for number in range(1, LAYERS + 1)]


def half(x: Any) -> dp.Tensor:
    """x rounded to float16, in its own dtype.

    >>> half(dp.asarray([1.0, 1.0004, 2049.0])).tolist()
    [1.0, 1.0, 2048.0]
    """
    x = np.asarray(x)
    return dp.asarray(x.astype(np.float16).astype(x.dtype))


def scores_in_half(params: Params, images: dp.Tensor) -> dp.Tensor:
    """Scores of images in bytes, what lies between two layers being rounded to float16."""
    x = half(as_images(images, params["W1"].dtype))
    for number, one_layer in enumerate(compiled, 1):
        x = half(one_layer(params, x))
        if number > LAYERS - 2:  # what dropout is after training
            x = half(x * (1 - RATIO))
    return x


def all_scores(net: Callable[[Params, dp.Tensor], dp.Tensor], params: Params, images: np.ndarray) -> np.ndarray:
    """The scores of all images, (count, 10)."""
    return np.concatenate([np.asarray(net(params, x)) for (x,) in parts(images, rows=PART)])


def main(run: Run, *, images: int = 10_000) -> None:
    data = run.mnist()
    x, labels = data.test_images[:images], data.test_labels[:images]
    params = load(dtype=run.dtype)
    rounded = {name: half(value) for name, value in params.items()}
    change = max(float(np.abs(np.asarray(rounded[n]) - np.asarray(params[n])).max()) for n in params)
    run.say(f"accuracy on {len(labels)} images; rounding moves a weight by {change:.1e} at most")
    nets = {
        "as trained": (scores, params),
        "weights in half": (scores, rounded),
        "all in half": (scores_in_half, rounded),
    }
    found = {name: all_scores(net, weights, x) for name, (net, weights) in nets.items()}
    trained = found["as trained"]
    for name, z in found.items():
        right = float((z.argmax(axis=1) == labels).mean())
        run.say(f"{name:16s} {right:.4f}")
        run.figure(name, right)
        if z is not trained:
            changed = int((z.argmax(axis=1) != trained.argmax(axis=1)).sum())
            run.say(f"    scores move by {np.abs(z - trained).max():.1e} at most, {changed} answers change")
            run.figure(f"{name} less as trained", right - run.figures["as trained"])
            run.figure(f"answers changed, {name}", changed)
    size = sum(value.size for value in params.values())
    run.say(f"{size:,} weights: {4 * size / 1000:.0f} kB in float32, {2 * size / 1000:.0f} kB in float16")


if __name__ == "__main__":
    study(main)
