"""MNIST itself, byte for byte, and folders that hold something else."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from defnpy.data import mnist
from defnpy.errors import DataError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def encode(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small data set: 20 and 10 images of 4 x 5 pixels."""
    rng = np.random.default_rng(0)
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, 20), (TEST_IMAGES, TEST_LABELS, 10)):
        (tmp_path / images).write_bytes(encode(rng.integers(0, 256, (count, 4, 5))))
        (tmp_path / labels).write_bytes(encode(np.arange(count) % 10))
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        mnist.load(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "md5"),
    [
        (TRAIN_IMAGES, "6bbc9ace898e44ae57da46a324031adb"),
        (TRAIN_LABELS, "a25bea736e30d166cdddb491f175f624"),
        (TEST_IMAGES, "2646ac647ad5339dbf082846283269ea"),
        (TEST_LABELS, "27ae3e4e09519cfbb04c329615203637"),
    ],
)
def test_packaged_files_are_the_original_ones(name: str, md5: str) -> None:
    packed = Path(mnist.__file__).parent / "mnist" / f"{name}.gz"
    assert hashlib.md5(gzip.decompress(packed.read_bytes())).hexdigest() == md5


def test_the_licence_comes_with_the_files() -> None:
    text = (Path(mnist.__file__).parent / "mnist" / "LICENSE").read_text(encoding="utf-8")
    for words in ("CC BY-SA 3.0", "Yann LeCun", "Corinna Cortes", "Burges"):
        assert words in text


def test_contents() -> None:
    data = mnist.load()
    assert data.train_images.shape == (60_000, 28, 28) and data.test_images.shape == (10_000, 28, 28)
    assert data.train_labels.shape == (60_000,) and data.test_labels.shape == (10_000,)
    assert {array.dtype.name for array in data} == {"uint8"}
    assert np.bincount(data.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.train_labels[:1000]).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert data.train_labels[0] == 5


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mnist.load().train_images[0, 0, 0] = 1


def test_any_folder_with_any_size_of_image_packed_or_not(folder: Path) -> None:
    plain = mnist.load(folder)
    assert plain.train_images.shape == (20, 4, 5) and plain.test_labels.shape == (10,)
    for name in (TRAIN_IMAGES, TEST_LABELS):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    for one, other in zip(plain, mnist.load(str(folder)), strict=True):
        np.testing.assert_array_equal(one, other)


EXPECTED = (
    f"Hint: expected a folder with {TRAIN_IMAGES}, {TRAIN_LABELS}, {TEST_IMAGES} and {TEST_LABELS}, "
    "each plain or with .gz"
)


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: no such folder\n{EXPECTED}"


def test_missing_file(folder: Path) -> None:
    (folder / TEST_IMAGES).unlink()
    assert refusal(folder) == f"{folder}: {TEST_IMAGES} is missing\n{EXPECTED}"


def test_damaged_file_is_named(folder: Path) -> None:
    path = folder / TRAIN_LABELS
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(folder) == (
        f"{path}: truncated\nHint: its header states uint8 of shape (20,): expected 28 bytes, found 27"
    )


def test_images_that_are_labels(folder: Path) -> None:
    path = folder / TRAIN_IMAGES
    path.write_bytes((folder / TRAIN_LABELS).read_bytes())
    assert refusal(folder) == (
        f"{path}: not a set of images\n"
        "Hint: expected uint8 of shape (count, height, width), none of them 0, found uint8 of shape (20,)"
    )


def test_no_images_at_all(folder: Path) -> None:
    path = folder / TEST_IMAGES
    path.write_bytes(encode(np.zeros((0, 4, 5))))
    assert refusal(folder) == (
        f"{path}: not a set of images\n"
        "Hint: expected uint8 of shape (count, height, width), none of them 0, found uint8 of shape (0, 4, 5)"
    )


def test_labels_that_are_images(folder: Path) -> None:
    path = folder / TEST_LABELS
    path.write_bytes((folder / TEST_IMAGES).read_bytes())
    assert refusal(folder) == (
        f"{path}: not a set of labels\nHint: expected uint8 of shape (count,), found uint8 of shape (10, 4, 5)"
    )


def test_counts_that_differ(folder: Path) -> None:
    path = folder / TRAIN_LABELS
    path.write_bytes((folder / TEST_LABELS).read_bytes())
    assert refusal(folder) == (f"{path}: 10 labels\nHint: {TRAIN_IMAGES} has 20 images: expected as many labels")


def test_label_out_of_range(folder: Path) -> None:
    path = folder / TEST_LABELS
    path.write_bytes(encode(np.array([0, 1, 2, 10, 4, 5, 6, 7, 8, 99])))
    assert refusal(folder) == f"{path}: label 3 is 10\nHint: expected labels from 0 to 9 in every place"


def test_images_of_two_sizes(folder: Path) -> None:
    path = folder / TEST_IMAGES
    path.write_bytes(encode(np.zeros((10, 5, 4))))
    assert refusal(folder) == (
        f"{path}: images of shape (5, 4)\nHint: those of {TRAIN_IMAGES} have shape (4, 5): expected the same"
    )
