"""What a function reads from around it: found when it is traced, looked at again on every call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..ir.trace import aval_of
from ..tensor import Tensor

__all__ = ["Watched", "watch"]


@dataclass
class Watched:
    """A variable outside of the function that it reads by name, and what it held when the function was traced."""

    read: Callable[[], Any]
    leaves: list[Any]
    structure: tree.Structure

    def values(self) -> list[Any] | None:
        """The leaves now, or None when the program no longer fits them."""
        try:
            leaves, structure = tree.flatten(self.read())
        except (NameError, KeyError, ValueError):
            return None
        if structure != self.structure:
            return None
        for old, new in zip(self.leaves, leaves, strict=True):
            if old is new:
                continue
            if isinstance(old, (Tensor, np.ndarray)) and isinstance(new, (Tensor, np.ndarray)):
                if aval_of(old) != aval_of(new):
                    return None
            elif type(old) is not type(new) or isinstance(old, (Tensor, np.ndarray)) or old != new:
                return None
        return leaves


def watch(function: Callable[..., Any]) -> list[Watched]:
    """The variables that a function reads from around it and that hold numbers, tensors or containers of them."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    readers: list[Callable[[], Any]] = [_cell_reader(cell) for cell in function.__closure__ or ()]
    module = function.__globals__
    readers += [functools.partial(module.__getitem__, name) for name in code.co_names if name in module]
    watched = []
    for read in readers:
        try:
            value = read()
        except ValueError:
            continue  # a cell that is not filled yet
        if isinstance(value, (dict, list, tuple, Tensor, np.ndarray, int, float, str)):
            leaves, structure = tree.flatten(value)
            watched.append(Watched(read, leaves, structure))
    return watched


def _cell_reader(cell: Any) -> Callable[[], Any]:
    return lambda: cell.cell_contents
