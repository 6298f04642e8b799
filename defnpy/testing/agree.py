"""One function on every backend that is there: the answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import PathFinder
from typing import Any

import numpy as np

from .. import tree
from ..config import config
from ..defn import Defn
from ..transforms.stage import is_tensor
from .conditions import name_of

__all__ = ["BackendMismatch", "assert_backends_agree"]

# Relative to the largest element: sums in another order, functions from another mathematical library.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}


class BackendMismatch(AssertionError):
    """Two backends give different answers. See :func:`assert_backends_agree`."""


def assert_backends_agree(function: Callable[..., Any], args: Sequence[Any], *, tolerance: float | None = None) -> None:
    """Check that a function gives the same compiled as computed op by op: by each renderer of the cpu backend.

    The reference evaluator says what is right. Compared are shapes, dtypes, integers exactly, and floats relative to
    the largest element of their tensor, to ``tolerance`` (1e-10 in float64, 1e-4 in float32), NaN and infinities in the
    same places. Kernels are compiled by LLVM, and by Numba too where that is installed. Raises
    :class:`BackendMismatch`, which names the backend and the leaf.

    >>> import defnpy as dp
    >>> dp.testing.assert_backends_agree(lambda x: {"y": dp.softmax(x), "n": dp.argmax(x)}, [dp.asarray([1.0, 2.0])])
    """
    inner = function.function if isinstance(function, Defn) else function
    with config(backend="reference"):
        expected = Defn(inner)(*args)
    for name, options in _targets():
        with config(**options):
            found = Defn(inner)(*args)
        for path, y, z in zip(tree.paths(expected, "result"), tree.leaves(found), tree.leaves(expected), strict=True):
            if is_tensor(z) and (wrong := _difference(np.asarray(y), np.asarray(z), tolerance)):
                raise BackendMismatch(f"{name_of(inner)}: {path} {wrong} by the reference and {name}")


def _targets() -> Iterator[tuple[str, dict[str, str]]]:
    for renderer in ("llvm", "numba"):
        if renderer == "llvm" or PathFinder.find_spec(renderer) is not None:
            yield f"cpu, compiled by {renderer}", {"backend": "cpu", "renderer": renderer}


def _difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], tolerance: float | None) -> str:
    """What differs, in words; empty when nothing does."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"is {expected.dtype}{list(expected.shape)} and {found.dtype}{list(found.shape)}"
    if expected.dtype.kind != "f":
        wrong = found != expected
    else:
        finite = np.isfinite(expected)
        largest = float(np.abs(expected[finite]).max(initial=0.0))
        allowed = (TOLERANCES[expected.dtype.name] if tolerance is None else tolerance) * largest
        with np.errstate(invalid="ignore"):
            near = np.abs(found - expected) <= allowed
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        wrong = ~np.where(finite, near, same)
    if not wrong.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"at {list(index)} " if index else ""
    return f"{place}is {expected[index]!s} and {found[index]!s}"
