"""What a function reads from around it: found when it is traced, looked at again on every call.

The names that the function's code mentions (closure cells, globals of its module), and those of the user's functions
that it calls, lambdas and comprehensions in it included. Attributes (``config.rate``) are not followed.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from .. import tree
from ..ir.trace import aval_of
from ..source import is_own
from ..tensor import Tensor

__all__ = ["Watched", "watch"]

_CONTAINERS = (dict, list, tuple)
_ARRAYS = (Tensor, np.ndarray)
_NUMBERS = (int, float, str, np.generic)


@dataclass
class Watched:
    """A variable outside of the function that it reads by name, and what it held when the function was traced.

    contains: whether that is a container, which may hold something else now.
    """

    read: Callable[[], Any]
    value: Any
    leaves: list[Any]
    structure: tree.Structure
    contains: bool
    items: tuple[Any, ...] | None  # of a container that holds leaves alone

    def unchanged(self) -> bool:
        """Whether a quick look finds what was there; another program may fit all the same: see :meth:`values`."""
        try:
            value = self.read()
        except (NameError, KeyError, ValueError):
            return False
        if value is not self.value:
            return False
        if not self.contains:
            return True
        items = self.items
        return items is not None and len(now := _items(value)) == len(items) and all(map(is_, now, items))

    def values(self, fixed: frozenset[int]) -> list[Any] | None:
        """The leaves now, or None when the program no longer fits them.

        fixed: ids of tensors whose elements Python read while tracing; those must still be there.
        """
        try:
            value = self.read()
        except (NameError, KeyError, ValueError):
            return None
        if value is self.value and not self.contains:
            return self.leaves
        leaves, structure = tree.flatten(value)
        if structure != self.structure:
            return None
        for old, new in zip(self.leaves, leaves, strict=True):
            if old is new:
                continue
            if isinstance(old, _ARRAYS) and isinstance(new, _ARRAYS) and id(old) not in fixed:
                if aval_of(old) != aval_of(new):
                    return None
            elif isinstance(old, _ARRAYS) or type(old) is not type(new) or not _same(old, new):
                return None
        return leaves


def _items(container: Any) -> tuple[Any, ...]:
    if dataclasses.is_dataclass(container):
        return tuple([getattr(container, field.name) for field in dataclasses.fields(container)])
    return (*container, *container.values()) if isinstance(container, dict) else tuple(container)


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) if isinstance(old, _NUMBERS) else False


def watch(function: Callable[..., Any]) -> list[Watched]:
    """The variables that a function, and the user's functions that it calls, read from around them."""
    watched: list[Watched] = []
    seen: set[int] = set()
    pending: list[Any] = [function]
    while pending:
        current = inspect.unwrap(pending.pop())
        if not isinstance(current, FunctionType) or id(current) in seen:
            continue
        seen.add(id(current))
        for read in _readers(current):
            try:
                value = read()
            except ValueError:
                continue  # a cell that is not filled yet
            pending += _users_functions(value)
            if not isinstance(value, (type, ModuleType, BuiltinFunctionType)):
                leaves, structure = tree.flatten(value)
                contains = structure.type not in (None, type(None))
                known = isinstance(value, _CONTAINERS) or dataclasses.is_dataclass(value)
                flat = contains and known and structure.num_nodes == structure.num_leaves + 1
                watched.append(Watched(read, value, leaves, structure, contains, _items(value) if flat else None))
    return watched


def _readers(function: FunctionType) -> Iterator[Callable[[], Any]]:
    for cell in function.__closure__ or ():
        yield functools.partial(getattr, cell, "cell_contents")
    module = function.__globals__
    names = dict.fromkeys(name for code in _codes(function.__code__) for name in code.co_names)
    yield from (functools.partial(module.__getitem__, name) for name in names if name in module)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _users_functions(value: Any) -> list[Any]:
    """The functions among a value's leaves that are not the library's own."""
    found = []
    for leaf in tree.leaves(value):
        inner = inspect.unwrap(leaf) if callable(leaf) else leaf
        if isinstance(inner, FunctionType) and not is_own(inner.__code__.co_filename):
            found.append(leaf)
    return found
