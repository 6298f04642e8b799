"""What every test may rely on, and what no test may leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test that changes the environment, NumPy's error state or the folder for its successors fails."""
    environment, errors, folder = dict(os.environ), np.geterr(), os.getcwd()
    yield
    left = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    assert left == {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}, "os.environ was changed"
    assert np.geterr() == errors, "np.seterr was changed"
    assert os.getcwd() == folder, "the working directory was changed"


Finished = subprocess.CompletedProcess[str]
RunPython = Callable[..., Finished]


@pytest.fixture
def run_python(root: Path) -> RunPython:
    """Run a fresh interpreter from the clone's root: ``run_python("-c", "import defnpy")``.

    Keyword arguments: ``env`` (added to the environment), ``timeout`` in seconds.
    """

    def run(
        *arguments: str, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=root,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run
