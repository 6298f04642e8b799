"""Section 4.2: losses, the 1e-7 in the logarithm, and a softmax over the wrong axis.

    sum of squares: 0.5 sum (y - t)^2        cross-entropy: -sum t log(y + 1e-7)

The 1e-7 keeps log(0) from being infinite: no sample costs more than 16.118. It also changes the derivative. By the
score of the right digit it is (y - t) y / (y + 1e-7), so for a sample that is wrong by a gap of 20 between two scores 2
% of the gradient is left, and nothing at 32. The book's backward pass, y - t, leaves the 1e-7 out; an automatic
gradient cannot. So nets are trained here on logsumexp(scores) - scores_t, whose derivative is y - t, and the table
shows both.

In defnpy labels come as integers (N,) or one-hot rows (N, 10), told apart by shape while tracing; (N, 1) is refused,
for it would broadcast to a plausible, wrong loss (11.97 instead of 2.28).

A port of the book took maximum and sum of the softmax over the whole batch: rows then sum to 1 only together. It trains
to 96 % all the same, and its loss and its backward pass do not belong together; a gradient check shows it at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.common import functions
from book_chapters.runner import Run, study

Y = (0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0)
Y_WRONG = (0.1, 0.05, 0.1, 0.0, 0.05, 0.1, 0.0, 0.6, 0.0, 0.0)
LABEL = 2
GAPS = (0.0, 10.0, 20.0, 32.0, 80.0)

ACCEPTANCE = (
    near("sum of squares", 0.0975, 1e-8),
    near("sum of squares, wrong digit", 0.5975, 1e-8),
    near("cross-entropy", 0.510825457099338, 1e-8),
    near("cross-entropy, wrong digit", 2.302584092994546, 1e-8),
    near("dearest sample", 16.11809565, 1e-6, "16.118"),
    near("gradient left at a gap of 20", 0.0202, 1e-4, ".0202"),
    Acceptance("gradient of scores at a gap of 80", 1 - 1e-6, 1, original="1 (y - t)"),
    Acceptance("row sum of the wrong softmax", high=0.5, original=".005 to .02 (100 rows)"),
    Acceptance("wrong softmax against y - t", low=0.01, original=".157"),
    Acceptance("row softmax against y - t", high=1e-6, original="1e-7"),
)

Loss = Callable[[dp.Tensor, dp.Tensor], dp.Tensor]


def whole_array_softmax(x: dp.Tensor) -> dp.Tensor:
    """The port's softmax: one maximum and one sum for all rows together. Wrong, to be compared with."""
    e = dp.exp(x - dp.max(x))
    return e / dp.sum(e)


def left_of_gradient(loss: Loss, gap: float) -> float:
    """|dL/d score of the label| for two scores 0 and ``gap``, the label being the first, over |y - t|."""
    scores = dp.asarray([[0.0, gap]], dtype=dp.float64)
    label = dp.asarray([0])
    of_label = dp.grad(dp.defn(loss))(scores, label)[0, 0].item()
    return of_label / (functions.softmax(scores)[0, 0].item() - 1)


def apart_from_hand(softmax: Callable[[dp.Tensor], dp.Tensor], scores: dp.Tensor, t: dp.Tensor) -> float:
    """The largest difference between the automatic gradient of the loss and the backward pass (y - t) / N."""
    automatic = dp.grad(dp.defn(lambda x: functions.cross_entropy_error(softmax(x), t)))(scores)
    y = softmax(scores)
    by_hand = (y - functions.one_hot_labels(t, y)) / scores.shape[0]
    return float(np.abs(np.asarray(automatic) - np.asarray(by_hand)).max())


def main(run: Run) -> None:
    dtype = run.dtype_or(dp.float64)
    for name, loss in (
        ("sum of squares", functions.sum_squared_error),
        ("cross-entropy", functions.cross_entropy_error),
    ):
        for note, y in (("", Y), (", wrong digit", Y_WRONG)):
            probabilities = dp.asarray(y, dtype=dtype)
            value = dp.defn(loss)(probabilities, functions.one_hot_labels(LABEL, probabilities)).item()
            run.say(f"{name}{note}: {value}")
            run.figure(name + note, value)
    run.figure("dearest sample", functions.cross_entropy_error(dp.asarray([0.0, 1.0], dtype=dtype), 0).item())
    run.say(f"the dearest sample costs {run.figures['dearest sample']:.3f}, because of the 1e-7")

    run.say("\nhow much of y - t the gradient by the right digit's score is, if a wrong one is larger by a gap")
    run.say("   gap   log(softmax + 1e-7)   logsumexp(scores) - scores_t")
    both = (functions.softmax_loss, functions.cross_entropy_with_logits)
    table = [(gap, *(left_of_gradient(loss, gap) for loss in both)) for gap in GAPS]
    for gap, eps, logits in table:
        run.say(f"{gap:6.0f}   {eps:19.4g}   {logits:28.4g}")
    run.figure("gradient left at a gap of 20", table[2][1])
    run.figure("gradient of scores at a gap of 80", table[4][2])
    gaps, eps, logits = zip(*table, strict=True)
    run.curve({"gap": gaps, "of the probabilities": eps, "of the scores": logits})

    scores, t = dp.random.normal(run.key, (3, 4), dtype=dp.float64), dp.asarray([0, 3, 1])
    for name, softmax in (("row", functions.softmax), ("wrong", whole_array_softmax)):
        sums = dp.sum(softmax(scores), axis=-1).tolist()
        apart = apart_from_hand(softmax, scores, t)
        value = functions.cross_entropy_error(softmax(scores), t).item()
        run.say(f"{name} softmax: loss {value:.3f}, rows sum to {', '.join(f'{s:.3f}' for s in sums)}")
        run.say(f"  automatic gradient and (y - t) / N differ by {apart:.1e}")
        run.figure(f"{name} softmax against y - t", apart)
        run.figure(f"row sum of the {name} softmax", min(sums))


if __name__ == "__main__":
    study(main)
