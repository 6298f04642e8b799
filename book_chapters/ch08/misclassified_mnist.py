"""Section 8.1.2: which digits the deep net reads wrong.

    wrong: the images with argmax(scores(x)) != label        about 100 of 10,000

A net that is right for 99 % of the images is wrong for a hundred of them, and most of those are hard for us too. The
first twenty are listed, with what each is and what the net takes it for, and drawn as the book draws them.

In defnpy nothing is new: ``scores`` is compiled once, and the largest of ten is taken in NumPy. The book prints a dict
of pairs, in which the NumPy of today writes ``np.uint8(4)``; these are plain integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.ch08.deep_convnet import PART, load, scores
from book_chapters.common.data import parts
from book_chapters.runner import Run, study

OPTIONS = {"images": "how many of the test images"}
QUICK = {"images": 2000}
ACCEPTANCE = (
    near("test accuracy", 0.9918, 0.0001, original="0.9935"),
    Acceptance("listed", 20, 20, original="20"),
)

ROWS, COLUMNS = 4, 5
SHOWN = ROWS * COLUMNS


def answers(params: dict[str, dp.Tensor], images: np.ndarray) -> np.ndarray:
    """The digit that the net takes each image (bytes) for."""
    return np.concatenate([np.argmax(np.asarray(scores(params, x)), axis=1) for (x,) in parts(images, rows=PART)])


def draw(figure: Any, images: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    """The images in a grid, ink black; above each what it is and what it was taken for."""
    figure.set_size_inches(1.3 * COLUMNS, 1.7 * ROWS)
    for i, axes in enumerate(figure.subplots(ROWS, COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if i < len(pairs):
            axes.imshow(images[i], cmap="gray_r", interpolation="nearest")
            axes.set_title("{} as {}".format(*pairs[i]), fontsize="medium")


def main(run: Run, *, images: int = 10_000) -> None:
    data = run.mnist()
    x, labels = data.test_images[:images], data.test_labels[:images]
    found = answers(load(dtype=run.dtype), x)
    wrong = np.flatnonzero(found != labels)
    run.say(f"test accuracy:{1 - len(wrong) / len(labels):.4f}, {len(wrong)} wrong")
    first = wrong[:SHOWN]
    pairs = [(int(labels[i]), int(found[i])) for i in first]
    run.say("======= misclassified result =======")
    run.say("{view index: (label, inference), ...}")
    run.say(dict(enumerate(pairs, 1)))
    run.figure("test accuracy", 1 - len(wrong) / len(labels))
    run.figure("wrong", len(wrong))
    run.figure("listed", len(first))
    run.curve({"image": wrong, "label": labels[wrong], "inference": found[wrong]})
    run.picture(lambda figure: draw(figure, x[first], pairs))


if __name__ == "__main__":
    study(main)
