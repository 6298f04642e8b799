"""A slice of the real data, small enough for many runs, and two ways to run the command."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from defnpy.data import mnist
from defnpy.defn import RecompileWarning
from defnpy.train.cli import main

TRAIN, TEST = 1000, 200


class Outcome(NamedTuple):
    """What a run of the command leaves behind."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def many_shapes() -> Iterator[None]:
    """Training many nets in one process compiles one function for many shapes; the warning of that is not for us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecompileWarning)
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1000 training and 200 test images of MNIST, as plain IDX files."""
    folder, data = tmp_path_factory.mktemp("small-mnist"), mnist.load()
    for name, array in (
        ("train-images-idx3-ubyte", data.train_images[:TRAIN]),
        ("train-labels-idx1-ubyte", data.train_labels[:TRAIN]),
        ("t10k-images-idx3-ubyte", data.test_images[:TEST]),
        ("t10k-labels-idx1-ubyte", data.test_labels[:TEST]),
    ):
        header = struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape)
        (folder / name).write_bytes(header + np.ascontiguousarray(array).tobytes())
    return folder


@pytest.fixture
def train(small: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``two_layer_net`` on the small data in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main(["two_layer_net", "--data-dir", str(small), *map(str, words)])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command in this process with just the words given."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def start(small: Path, root: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``python -m defnpy.train two_layer_net`` on the small data as a process of its own."""

    def run(*words: object, **options: object) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-m", "defnpy.train", "two_layer_net", "--data-dir", str(small), *map(str, words)],
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    return run
