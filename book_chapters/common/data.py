"""Images as the nets want them, and where the book's own weights lie."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import defnpy as dp
from defnpy.errors import DataError

__all__ = ["book_weights", "load_npz", "parts", "save_npz", "save_path", "scaled"]

VARIABLE = "DEFNPY_BOOK_WEIGHTS"
BESIDE_THE_CLONE = Path(__file__).parents[3] / "shared" / "data" / "book"
PART_ROWS = 2000  # as float32 they fit the caches of a core


def scaled(images: dp.Tensor, dtype: Any) -> dp.Tensor:
    """Bytes (count, height, width) or (count, pixels) as floats from 0 to 1, (count, pixels).

    The images stay bytes outside of compiled functions: a step then reads a quarter of what float32 would need.

    >>> scaled(dp.asarray([[0, 51, 255]], dtype=dp.uint8), dp.float64).tolist()
    [[0.0, 0.2, 1.0]]
    """
    pixels = images.astype(dtype) / 255
    return dp.reshape(pixels, (images.shape[0], -1))


def parts(*arrays: np.ndarray | dp.Tensor, rows: int = PART_ROWS) -> Iterator[tuple[dp.Tensor, ...]]:
    """The arrays cut along their first axis, side by side; the last part holds what is left, so nothing is dropped.

    >>> [x.shape for (x,) in parts(dp.zeros(5), rows=2)]
    [(2,), (2,), (1,)]
    """
    for start in range(0, len(arrays[0]), rows):
        yield tuple(dp.asarray(array[start : start + rows]) for array in arrays)


def book_weights(name: str) -> Path | None:
    """The file ``name`` with weights of the book, or None where there is none.

    They are looked for in the folder named by the environment variable DEFNPY_BOOK_WEIGHTS, else in
    ``shared/data/book`` beside the clone. They are MIT licensed (Koki Saitoh) and prove the nets; what defnpy ships is
    its own training.
    """
    folder = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else BESIDE_THE_CLONE
    path = folder / name
    return path if path.is_file() else None


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz file, by name. Raises ``DataError`` where it is missing or damaged, or holds objects."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="expected an .npz file with weights") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="expected an .npz file with weights") from error


def save_path(option: str) -> Path | None:
    """Where ``--save`` wants its file, None if nowhere. Raises ``DataError`` before the training, not after it.

    >>> save_path("no/such/weights.npz")
    Traceback (most recent call last):
    ...
    defnpy.errors.DataError: --save no/such/weights.npz: there is no such folder
    """
    if not option:
        return None
    path = Path(option)
    if path.is_dir():
        raise DataError(f"--save {option}: a folder", hint="name a file in it, with the ending .npz")
    if not path.absolute().parent.is_dir():
        raise DataError(f"--save {option}: there is no such folder")
    return path


def save_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays by name, the file whole or not at all. Raises ``DataError`` where it cannot be written."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez(temporary, **{name: np.asarray(array) for name, array in arrays.items()})
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
