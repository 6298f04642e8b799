"""Section 3.6.3: the same net, a hundred images at a time.

    x (100, 784) -> scores (100, 10): a batch is a matrix, and a layer one product of matrices.

The results are those of the single images, and they come several times faster: a matrix product uses the processor
better than a hundred products of a vector with a matrix, and there is one call where there were a hundred.

In defnpy the same ``predict`` is compiled a second time, for the shape (100, 784), and then called 100 times.
"""

from __future__ import annotations

import time

import numpy as np

from book_chapters.acceptance import Acceptance
from book_chapters.ch03.neuralnet_mnist import Params, networks, one_by_one, predict, test_data
from book_chapters.runner import Run, study

OPTIONS = {"images": "how many of the test images", "batch_size": "images in a batch"}
QUICK = {"images": 1000}
ACCEPTANCE = (
    Acceptance("accuracy with the book's weights", 0.9352, 0.9352, original="0.9352"),
    Acceptance("accuracy with our weights", 0.95, 1.0, original="0.9526 (trained likewise)"),
    Acceptance("speed-up over single images", low=5, original="9.8"),
)


def in_batches(network: Params, x: np.ndarray, t: np.ndarray, size: int) -> float:
    """The accuracy, by a call for each batch; the last one may be smaller."""
    right = 0
    for start in range(0, len(t), size):
        y = np.asarray(predict(network, x[start : start + size]))
        right += int(np.sum(np.argmax(y, axis=1) == t[start : start + size]))
    return right / len(t)


def main(run: Run, *, images: int = 10_000, batch_size: int = 100) -> None:
    x, t = test_data(run, images)
    for whose, network in networks(run):
        in_batches(network, x[:batch_size], t[:batch_size], batch_size)  # compiles
        predict(network, x[0])
        began = time.perf_counter()
        accuracy = in_batches(network, x, t, batch_size)
        batched = time.perf_counter() - began
        one_by_one(network, x, t)
        speedup = (time.perf_counter() - began - batched) / batched
        run.say(f"Accuracy:{accuracy}  ({whose}, {batched / len(t) * 1e6:.2f} us an image, {speedup:.1f} x as fast)")
        run.figure(f"accuracy with {whose}", accuracy)
        run.figure("us per image", round(batched / len(t) * 1e6, 3))
        run.figure("speed-up over single images", round(speedup, 1))


if __name__ == "__main__":
    study(main)
