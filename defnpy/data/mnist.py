"""MNIST, and every data set kept in four IDX files of the same names (Fashion-MNIST, KMNIST ...)."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .idx import read_idx

__all__ = ["Mnist", "load"]

CLASSES = 10
_PACKAGED = Path(__file__).parent / "mnist"
_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Mnist(NamedTuple):
    """Images with their labels, for training and for testing; all arrays are read-only.

    train_images: uint8 (60000, 28, 28), 0 is background and 255 is ink.
    train_labels: uint8 (60000,), the digits 0 to 9.
    test_images, test_labels: the same for 10,000 images.

    Another folder may hold other numbers and sizes of images.

    >>> load()._fields
    ('train_images', 'train_labels', 'test_images', 'test_labels')
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(folder: str | os.PathLike[str] | None = None) -> Mnist:
    """The data set in ``folder``; without one, the MNIST that comes with the package.

    The folder holds the four files under MNIST's names, each plain or with ``.gz``. Raises ``DataError``
    where one is missing or damaged, holds another kind of array, or does not fit the others.

    >>> digits = load()
    >>> digits.train_images.shape, digits.test_images.shape
    ((60000, 28, 28), (10000, 28, 28))
    >>> digits.train_labels[:5]
    array([5, 0, 4, 1, 9], dtype=uint8)
    """
    paths = [_find(folder, name) for name in _NAMES]
    arrays = _read(paths)
    for images, labels in ((0, 1), (2, 3)):
        _check_images(paths[images], arrays[images])
        _check_labels(paths[labels], arrays[labels], paths[images], len(arrays[images]))
    train, test = arrays[0].shape[1:], arrays[2].shape[1:]
    if train != test:
        raise DataError(
            f"{paths[2]}: images of shape {test}",
            hint=f"those of {paths[0].name} have shape {train}: expected the same",
        )
    return Mnist(*arrays)


def _find(folder: str | os.PathLike[str] | None, name: str) -> Path:
    folder = _PACKAGED if folder is None else Path(folder)
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    problem = f"{name} is missing" if folder.is_dir() else "no such folder"
    expected = f"expected a folder with {', '.join(_NAMES[:-1])} and {_NAMES[-1]}, each plain or with .gz"
    raise DataError(f"{folder}: {problem}", hint=expected)


def _read(paths: list[Path]) -> list[np.ndarray]:
    """The arrays of the files, read side by side: decompression does not hold the interpreter lock.

    By threads as they are, because ``concurrent.futures`` takes 8 ms to import.
    """
    arrays: dict[Path, np.ndarray] = {}
    errors: dict[Path, Exception] = {}

    def read(path: Path) -> None:
        try:
            arrays[path] = read_idx(path)
        except Exception as error:  # raised again below, in the thread that asked
            errors[path] = error

    threads = [Thread(target=read, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path in paths:
        if path in errors:
            raise errors[path]
    return [arrays[path] for path in paths]


def _check_images(path: Path, images: np.ndarray) -> None:
    if images.ndim != 3 or images.dtype != np.uint8 or images.size == 0:
        raise DataError(
            f"{path}: not a set of images",
            hint=f"expected uint8 of shape (count, height, width), none of them 0, found {_describe(images)}",
        )


def _check_labels(path: Path, labels: np.ndarray, images_path: Path, count: int) -> None:
    if labels.ndim != 1 or labels.dtype != np.uint8:
        raise DataError(
            f"{path}: not a set of labels", hint=f"expected uint8 of shape (count,), found {_describe(labels)}"
        )
    if len(labels) != count:
        raise DataError(
            f"{path}: {len(labels)} labels", hint=f"{images_path.name} has {count} images: expected as many labels"
        )
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise DataError(
            f"{path}: label {first} is {labels[first]}", hint=f"expected labels from 0 to {CLASSES - 1} in every place"
        )


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype.name} of shape {array.shape}"
