"""The OpenBLAS of the ``scipy-openblas32`` wheel: BLAS and LAPACK by address, on the calling thread.

It is loaded a second time beside NumPy's and told to use one thread: the program's own threads share what is large, so
that two pools never wait for the same cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["library"]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """OpenBLAS reads how many threads to start while it is loaded."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before


@functools.cache
def library() -> ctypes.CDLL:
    """The library; raises ImportError where the wheel is not installed. Its names begin with ``scipy_``."""
    spec = importlib.util.find_spec("scipy_openblas32")
    folders = [Path(folder) / "lib" for folder in (spec.submodule_search_locations or [])] if spec else []
    files = [file for folder in folders for file in sorted(folder.glob("*scipy_openblas*"))]
    found = [file for file in files if ".so" in file.name or file.suffix in (".dylib", ".dll")]
    if not found:
        raise ImportError("matrix products and factorizations need OpenBLAS: pip install scipy-openblas32")
    with _one_thread():
        return ctypes.CDLL(str(found[0]))
