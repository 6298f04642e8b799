"""Section 3.6.1: the data, one image of it.

    x = pixels / 255        (60000, 28, 28) bytes -> (60000, 784) numbers from 0 to 1

60,000 images of 28 x 28 pixels to train on and 10,000 to test with, bytes from 0 (paper) to 255 (ink), and the digit
each of them shows. They come with the package; ``--data-dir`` names another folder of IDX files.

In defnpy ``defnpy.data.mnist.load`` reads the four files and says which is missing or damaged. The pixels stay bytes
until a compiled function turns them into numbers from 0 to 1, ``x / 255``. (Dividing by the largest pixel of each batch
instead, as a port of the book did, makes an image's numbers depend on its neighbours.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from book_chapters.acceptance import Acceptance
from book_chapters.runner import Run, study

ACCEPTANCE = (
    Acceptance("label", 5, 5, original="5"),
    Acceptance("pixels", 784, 784, original="784"),
    Acceptance("fives among the first 1000", 92, 92, original="92"),
)
SHADES = " .:-=+*#%@"


def as_text(image: np.ndarray) -> str:
    """An image of bytes as characters, darker ones for more ink."""
    return "\n".join("".join(SHADES[int(pixel) * len(SHADES) // 256] for pixel in row).rstrip() for row in image)


def main(run: Run) -> None:
    data = run.mnist(any_size=True)
    image, label = data.train_images[0], int(data.train_labels[0])
    run.say(label)
    run.say(image.reshape(-1).shape)
    run.say(image.shape)
    run.say(as_text(image))
    counts = np.bincount(data.train_labels[:1000], minlength=10)
    run.say(f"the digits 0 to 9 among the first 1000: {counts.tolist()}")
    run.figure("label", label)
    run.figure("pixels", image.size)
    run.figure("fives among the first 1000", int(counts[5]))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(image, cmap="gray")
        axes.set_axis_off()

    run.picture(draw)


if __name__ == "__main__":
    study(main)
