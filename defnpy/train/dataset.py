"""The data set as the loop wants it: flat uint8 images for the steps, scaled ones in parts for evaluation."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import defnpy as dp

from ..data.mnist import Mnist

__all__ = ["Dataset", "Parts", "from_mnist"]

PART_ROWS = 10_000


class Parts:
    """A whole set in parts of at most 10,000: pairs of float32 images (count, pixels) in [0, 1] and uint8 labels.

    The images are scaled when they are first asked for, and kept: every evaluation reads all of them.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[dp.Tensor, dp.Tensor]]:
        return iter(self._pairs)

    @functools.cached_property
    def _pairs(self) -> list[tuple[dp.Tensor, dp.Tensor]]:
        pairs = []
        for i in range(0, len(self._images), PART_ROWS):
            scaled = np.multiply(self._images[i : i + PART_ROWS], np.float32(1 / 255), dtype=np.float32)
            scaled.flags.writeable = False  # so that the tensor is this memory, not a copy
            pairs.append((dp.asarray(scaled), dp.asarray(self._labels[i : i + PART_ROWS])))
        return pairs


class Dataset(NamedTuple):
    """images: uint8 (count, pixels); labels: uint8 (count,); the parts hold the whole training and test sets."""

    images: dp.Tensor
    labels: dp.Tensor
    train_parts: Parts
    test_parts: Parts


def from_mnist(data: Mnist) -> Dataset:
    """Flatten the images. They stay bytes: a compiled step reads a quarter of what it would read as float32."""
    train_images = data.train_images.reshape(len(data.train_images), -1)
    test_images = data.test_images.reshape(len(data.test_images), -1)
    return Dataset(
        dp.asarray(train_images),
        dp.asarray(data.train_labels),
        Parts(train_images, data.train_labels),
        Parts(test_images, data.test_labels),
    )
