"""Section 6.3: is the gradient of batch normalisation right, of one image and of ten?

    x̂ = (x - mean) / sqrt(var + 1e-6),  y = gamma x̂ + beta

mean and variance depend on all rows, so a row's gradient reaches all others; the book writes that backward pass by hand
and checks it with one image. With one row x̂ is 0, whatever the weights are: every activation sits at the kink of relu,
all gradients but the last bias's are 0, and the comparison proves nothing. It is shown here, and flagged. With ten
images the same check says something; in its three columns the difference from the book's formula is the 1e-7 in the
logarithm, as in chapter 5, and that from the automatic gradient is rounding.

The biases before a batch norm have gradient 0 with any batch: mean takes them away again, and beta does their work.

In defnpy the running statistics are an argument and a result, so that checking a net changes nothing in it.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch06.multi_layer_net import CLASSES, PIXELS
from book_chapters.common import functions, layers, nets
from book_chapters.common.data import scaled
from book_chapters.common.gradcheck import compare
from book_chapters.runner import Run, study

__all__ = ["gradient_by_hand", "written_loss"]

OPTIONS = {
    "images": "in the batch that can be judged",
    "samples": "elements of each parameter, drawn at random; 100000 are all of them, as in the book",
    "force": "compare in float32 too",
}
QUICK = {"samples": 16}
ACCEPTANCE = (
    Acceptance("largest mean numerical - book, h 1e-4", high=1e-6, original="4.9e-07"),
    Acceptance("largest numerical - automatic, h 1e-6", high=1e-9, original="not compared"),
    Acceptance("parameters with a gradient, one image", 1, 1, original="1 of 10 (b3)"),
)

HIDDEN = (100, 100)
STEPS = (1e-4, 1e-6)


def written_loss(params: Any, x: Any, t: Any) -> Any:
    """The loss in training as the book writes it, of a batch that is normalised by its own mean and variance."""
    scores, _ = nets.apply(params, nets.init_state(params), None, x, train=True)
    return functions.softmax_loss(scores, t)


def gradient_by_hand(params: Any, x: Any, t: Any) -> dict[str, Any]:
    """The book's backward pass: affine, batch norm and relu, layer by layer from the end."""
    kept, last = [], nets.depth(params)
    for i in range(1, last):
        W, b, gamma, beta = (params[f"{name}{i}"] for name in ("W", "b", "gamma", "beta"))
        a = layers.affine(x, W, b)
        y, _ = layers.batch_norm(a, gamma, beta, layers.batch_norm_state(a.shape[1], a.dtype), train=True)
        kept.append((x, W, b, gamma, beta, a, y))
        x = layers.relu(y)
    W, b = params[f"W{last}"], params[f"b{last}"]
    z = layers.affine(x, W, b)
    g, _ = layers.softmax_with_loss_backward(1.0, None, z, t)
    grads = {}
    g, grads[f"W{last}"], grads[f"b{last}"] = layers.affine_backward(g, z, x, W, b)
    for i, (x, W, b, gamma, beta, a, y) in reversed(list(enumerate(kept, 1))):
        (g,) = layers.relu_backward(g, None, y)
        g, grads[f"gamma{i}"], grads[f"beta{i}"] = layers.batch_norm_backward(g, y, a, gamma, beta)
        g, grads[f"W{i}"], grads[f"b{i}"] = layers.affine_backward(g, a, x, W, b)
    return grads


def main(run: Run, *, images: int = 10, samples: int = 64, force: bool = False) -> None:
    data = run.mnist()
    dtype = run.dtype_or(dp.float64)
    params = nets.init(run.key, (PIXELS, *HIDDEN, CLASSES), "he", dtype=dtype, batch_norm=True)
    for count, steps in ((images, STEPS), (1, STEPS[:1])):
        x, t = scaled(dp.asarray(data.train_images[:count]), dtype), dp.asarray(data.train_labels[:count])
        run.say(f"a batch of {count} image{'s' * (count > 1)}")
        for h in steps:
            check = compare(
                written_loss, params, x, t, formula=gradient_by_hand, h=h, samples=samples, seed=run.seed, force=force
            )
            run.say(f"{check}\n")
            if count == 1:
                run.figure("parameters with a gradient, one image", sum(row.gradient > 0 for row in check.rows))
                run.say("DEGENERATE: x̂ is 0 and every relu at its kink; a batch norm is checked with 8 images or more")
            elif h == STEPS[0]:
                run.figure("largest mean numerical - book, h 1e-4", max(row.formula_mean for row in check.rows))
                run.figure("kinks at h 1e-4", check.kinks)
            else:
                run.figure("largest numerical - automatic, h 1e-6", check.max_automatic)


if __name__ == "__main__":
    study(main)
