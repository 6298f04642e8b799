"""Section 7.5: trained weights, loaded and judged: the book's and our own.

    accuracy = share of images with argmax(scores(x)) = label        10,000 images, in batches

The file in the book's repository is not the book's any more: since 2022 it holds a run of 600 updates, with 96.00 % on
the test images. The file of 2016, which is what 20 epochs give, has 98.90 %. Which one lies there is told by its hash.

Both prove the net: the same weights must give the same 10,000 answers, whatever computes them. They are read from
``.npz`` files, which hold numbers; the book's are pickles, and to load a pickle is to run what it says. Our own weights
come from ``train_convnet`` and are kept as float16; the recorded accuracy is that of these.

In defnpy parameters are a dict, so a file of arrays by name is a net; one compiled function judges all three.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.ch07.simple_convnet import scores
from book_chapters.common.data import book_weights, load_npz
from book_chapters.common.trainer import accuracy
from book_chapters.runner import Run, study

__all__ = ["OURS", "load"]

OURS = Path(__file__).parent / "params.npz"
PART = 500
BOOKS = {
    "ch07_params.npz": "the repository's since 2022, of 600 updates",
    "ch07_params_2016.npz": "the book's of 2016, of 20 epochs",
}
KNOWN = {
    "fd483dc50a8e680e": "ch07_params.npz",
    "079e4da2e0c9f5c0": "ch07_params_2016.npz",
}
ACCEPTANCE: tuple[Acceptance, ...] = (
    near("ch07_params.npz", 0.9600, 0.0001),
    near("ch07_params_2016.npz", 0.9890, 0.0001),
    near("our own", 0.9901, 0.0001, original="-"),
)


def load(path: Path, dtype: object) -> dict[str, dp.Tensor]:
    """Parameters of the net, in ``dtype``. Raises ``DataError`` for a file that cannot be read."""
    return {name: dp.asarray(np.asarray(value, np.float64), dtype=dtype) for name, value in load_npz(path).items()}


def main(run: Run) -> None:
    data = run.mnist()

    def judge(path: Path) -> float:
        return accuracy(partial(scores, load(path, run.dtype)), data.test_images, data.test_labels, rows=PART)

    for name, what in BOOKS.items():
        path = book_weights(name)
        if path is None:
            run.say(f"{name}: skipped, the file is not there (DEFNPY_BOOK_WEIGHTS names its folder)")
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        told = "as expected" if KNOWN.get(digest[:16]) == name else f"UNEXPECTED: {KNOWN.get(digest[:16], 'unknown')}"
        right = judge(path)
        run.say(f"{name} ({what})\n  sha256 {digest[:16]}..., {told}\n  test acc:{right:.4f}")
        run.figure(name, right)
    right = judge(OURS)
    run.say(f"our own (train_convnet --seed 0)\n  test acc:{right:.4f}")
    run.figure("our own", right)


if __name__ == "__main__":
    study(main)
