"""Section 4.5.2 and 4.5.3: learning from batches, and watching two accuracies.

    W <- W - 0.1 dL/dW,        10,000 times, each on 100 images drawn with replacement

After every 600 iterations ("an epoch": as many images as there are, though not each of them once) the accuracy on all
images of both sets is printed, 17 times in all. They rise together, so the net does not merely learn its images by
heart. The loss is log(10) = 2.3 for a net that knows nothing.

In defnpy the whole iteration is one compiled function: it draws the batch by a key and the number of the iteration,
computes the loss and its gradient in one pass, and returns new parameters. The book computes the loss a second time,
after the update, only to record it.

Ports of this page have gone wrong in the evaluation: "every 100" written as rem(i, 2) == 0, which runs 500 times over
all test images, or rem(batch_size, i), whose arguments are exchanged and which is 0 at 1, 2, 4, 5, 10, 20, 25, 50 and
100 only. See ``common/trainer.py`` for ours, and its test for when it fires.
"""

from __future__ import annotations

from book_chapters.acceptance import Acceptance
from book_chapters.ch04 import two_layer_net
from book_chapters.common.two_layer import train_two_layer_net
from book_chapters.runner import Run, study

QUICK = {"iters": 601}
ACCEPTANCE = (
    Acceptance("test accuracy of epoch 1", 0.75, 0.83, original=".7915 .7841 .7925"),
    Acceptance("test accuracy", 0.938, 0.952, original=".9468 .9435 .9460"),
    Acceptance("gap", high=0.01, original=".0013 .0024 .0018"),
    Acceptance("loss of the last 100", 0.15, 0.21, original=".173 .173 (after the update)"),
    Acceptance("evaluations", 17, 17, original="17"),
)


def main(run: Run, *, iters: int = 10_000) -> None:
    train_two_layer_net(run, two_layer_net, iters, lambda train, test: f"train acc, test acc | {train}, {test}")


if __name__ == "__main__":
    study(main)
