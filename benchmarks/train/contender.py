"""What every hand-written contender shares: its options, the data, when to evaluate, what to report."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).parents[2] / "defnpy" / "data" / "mnist"
BATCH = 100
LEARNING_RATE = 0.1
HIDDEN = 50
SCALE = 0.01
CLASSES = 10


class Mnist(NamedTuple):
    """Images uint8 (count, 784), labels uint8 (count,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load() -> Mnist:
    """Read the data with NumPy and gzip alone, so that a contender's start does not pay for importing defnpy."""

    def read(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((DATA / f"{name}.gz").read_bytes()), np.uint8, offset=header)

    return Mnist(
        read("train-images-idx3-ubyte", 16).reshape(-1, 784),
        read("train-labels-idx1-ubyte", 8),
        read("t10k-images-idx3-ubyte", 16).reshape(-1, 784),
        read("t10k-labels-idx1-ubyte", 8),
    )


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every contender takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--iterations", type=int, default=10_000)
    made.add_argument("--activation", choices=("relu", "sigmoid"), default="relu")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--json", type=Path, help="where to write test_accuracy and losses")
    return made


def is_evaluated(done: int, iterations: int, train_count: int) -> bool:
    """After every epoch and at the end: for 10,000 iterations over 60,000 images in batches of 100, 17 times."""
    return done % (train_count // BATCH) == 0 or done == iterations


def report(path: Path | None, accuracies: Sequence[tuple[int, float, float]], losses: Sequence[float]) -> None:
    """Print the accuracies (iteration, train, test) and write the JSON."""
    for done, train, test in accuracies:
        print(f"iteration {done:6d}  train accuracy {train:.4f}  test accuracy {test:.4f}")
    if path is not None:
        path.write_text(json.dumps({"test_accuracy": accuracies[-1][2], "losses": list(losses)}), encoding="utf-8")
