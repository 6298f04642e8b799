"""Section 3.6.2: a trained net reads digits, one image at a time.

    784 pixels -> 50 sigmoid -> 100 sigmoid -> 10 scores -> softmax

The accuracy is the share of the 10,000 test images whose most probable digit is right. With the book's own weights it
is 0.9352, on every machine: the two best digits of every image differ by more than float32 rounding.

In defnpy ``predict`` is compiled at its first call and called 10,000 times for (784,) numbers, so this page measures
what a call costs beside its arithmetic. The book's weights are used where they are found (see ``common/data.py``), ours
(``weights.npz``, trained by ``ch03.train_weights``) always.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.common.data import book_weights, load_npz
from book_chapters.common.functions import sigmoid, softmax
from book_chapters.runner import Run, study

OPTIONS = {"images": "how many of the test images"}
QUICK = {"images": 1000}
ACCEPTANCE = (
    Acceptance("accuracy with the book's weights", 0.9352, 0.9352, original="0.9352"),
    Acceptance("accuracy with our weights", 0.95, 1.0, original="0.9526 (trained likewise)"),
)

OUR_WEIGHTS = Path(__file__).with_name("weights.npz")
Params = dict[str, dp.Tensor]


def init_network(path: Path, dtype: Any = "float32") -> Params:
    """The weights in an .npz file: W1 (784, 50), b1, W2 (50, 100), b2, W3 (100, 10), b3."""
    arrays = load_npz(path)
    return {name: dp.asarray(arrays[name], dtype=dtype) for name in ("W1", "b1", "W2", "b2", "W3", "b3")}


@dp.defn
def predict(network: Params, x: dp.Tensor) -> dp.Tensor:
    """The probabilities of the ten digits for x (784,) or (count, 784), numbers from 0 to 1."""
    z1 = sigmoid(x @ network["W1"] + network["b1"])
    z2 = sigmoid(z1 @ network["W2"] + network["b2"])
    return softmax(z2 @ network["W3"] + network["b3"])


def test_data(run: Run, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` test images as numbers from 0 to 1, (count, 784), and their labels."""
    data = run.mnist()
    images = data.test_images[:count].reshape(-1, 784)
    return images.astype(run.dtype) / np.asarray(255, run.dtype), data.test_labels[:count]


def networks(run: Run) -> Iterator[tuple[str, Params]]:
    """Whose weights, and the weights: the book's where they are found, then ours."""
    books = book_weights("ch03_sample_weight.npz")
    if books is not None:
        yield "the book's weights", init_network(books, run.dtype)
    else:
        run.say("the book's own weights are not here")
    yield "our weights", init_network(OUR_WEIGHTS, run.dtype)


def one_by_one(network: Params, x: np.ndarray, t: np.ndarray) -> float:
    """The accuracy, by a call for each image."""
    right = 0
    for image, label in zip(x, t, strict=True):
        right += int(np.argmax(predict(network, image)) == label)
    return right / len(t)


def main(run: Run, *, images: int = 10_000) -> None:
    x, t = test_data(run, images)
    for whose, network in networks(run):
        predict(network, x[0])  # compiles
        began = time.perf_counter()
        accuracy = one_by_one(network, x, t)
        microseconds = (time.perf_counter() - began) / len(t) * 1e6
        run.say(f"Accuracy:{accuracy}  ({whose}, {microseconds:.1f} us an image)")
        run.figure(f"accuracy with {whose}", accuracy)
        run.figure("us per image", round(microseconds, 2))


if __name__ == "__main__":
    study(main)
