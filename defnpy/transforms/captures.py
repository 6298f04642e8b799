"""What a function reads from around it: found when it is traced, looked at again on every call.

The names that the function's code mentions (closure cells, globals of its module), and those of the user's functions
that it calls, lambdas and comprehensions in it included; the defaults of their parameters; and the same of what wraps
them (``functools.wraps``). Of the user's objects among those and among the arguments (``self``, ``config.rate``), the
attributes that any of this code names, and what methods read that run without a name (``__getitem__``) or by
``super()``; of packages that are installed, none.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
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
_GONE = (NameError, KeyError, ValueError, AttributeError)  # what a reader says of a variable that is no longer there
_MAKING = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__", "__repr__", "__str__"}
_INSTALLED = os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(np.__file__))  # with Python, with NumPy


@dataclass
class Watched:
    """A variable outside of the function that it reads by name, and what it held when the function was traced.

    contains: whether that is a container, which may hold something else now.
    """

    name: str
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
        except _GONE:
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
        except _GONE:
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
    return bool(old == new) if isinstance(old, (*_NUMBERS, frozenset)) else False


def watch(function: Callable[..., Any], arguments: Sequence[Any] = ()) -> list[Watched]:
    """The variables that a function, and the user's functions that it calls, read from around them.

    arguments: what it is given that is not traced; their attributes count among the variables.
    """
    search = _Search([], {}, {}, set())
    for value in (function, *arguments):
        search.reach(value)
    return search.watched


@dataclass
class _Search:
    """What has been found so far: variables, the user's functions and objects, and the names in the functions' code."""

    watched: list[Watched]
    functions: dict[int, Any]
    owners: dict[int, Any]
    names: set[str]

    def look(self, name: str, read: Callable[[], Any]) -> None:
        """Watch a variable, and what is behind it."""
        try:
            value = read()
        except _GONE:
            return  # a cell or a slot that is not filled yet
        if isinstance(value, set):
            self.look(name, lambda: _frozen(read()))  # what it holds now, to be compared
            return
        leaves, structure = tree.flatten(value)
        if not isinstance(value, (type, ModuleType, BuiltinFunctionType)):
            contains = structure.type not in (None, type(None))
            known = isinstance(value, _CONTAINERS) or dataclasses.is_dataclass(value)
            flat = contains and known and structure.num_nodes == structure.num_leaves + 1
            items = _items(value) if flat else None
            self.watched.append(Watched(name, read, value, leaves, structure, contains, items))
        for leaf in leaves:
            self.reach(leaf)

    def reach(self, value: Any) -> None:
        """Go on from a leaf: the code of a function, the attributes of an object."""
        if isinstance(value, MethodType):
            self.reach(value.__self__)
        for function in _functions(value):
            if id(function) not in self.functions and not is_own(function.__code__.co_filename):
                self.functions[id(function)] = function
                for name, read in _readers(function):
                    self.look(name, read)
                self.mention(_mentioned(function.__code__))
        if isinstance(value, (FunctionType, MethodType)):
            return
        if isinstance(value, functools.partial):
            self.reach(value.func)
            for leaf in tree.leaves((value.args, value.keywords)):
                self.reach(leaf)
        elif id(value) not in self.owners and _is_users(value):
            self.owners[id(value)] = value
            for name in sorted(self.names | _special(value)):
                self.attribute(value, name)

    def mention(self, names: set[str]) -> None:
        """Code that names these has been found."""
        new = names - self.names
        self.names |= new
        for owner in list(self.owners.values()):
            for name in sorted(new):
                self.attribute(owner, name)

    def attribute(self, owner: Any, name: str) -> None:
        """Watch an attribute of an object, if it has one of this name; of a method or a module's function, its code."""
        found = inspect.getattr_static(owner, name, self)
        if found is self:
            return
        if isinstance(owner, ModuleType) and isinstance(found, FunctionType):
            self.reach(found)  # it is not replaced at run time: to look each time would only cost time
            return
        stored = not isinstance(owner, type) and name in getattr(owner, "__dict__", {})
        if stored or isinstance(found, MemberDescriptorType) or not hasattr(found, "__get__"):
            whose = owner if isinstance(owner, (type, ModuleType)) else type(owner)
            self.look(f"{whose.__name__}.{name}", functools.partial(getattr, owner, name))
            return
        for kind in _kinds(owner):
            found = vars(kind).get(name)  # those of the bases too: super() calls them
            code = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            if any(not _is_installed(f) for f in _functions(code)):
                self.reach(code)


def _is_installed(function: FunctionType) -> bool:
    return function.__code__.co_filename.startswith(_INSTALLED)


def _functions(value: Any) -> list[FunctionType]:
    """A function and what it wraps (``functools.wraps``): all of them run. Of installed ones that wrap others, none."""
    found: list[Any] = []
    while callable(value) and not any(value is f for f in found):
        found.append(value.__func__ if isinstance(value, MethodType) else value)
        value = inspect.getattr_static(found[-1], "__wrapped__", None)  # no __getattr__ makes it up
    return [f for f in found if isinstance(f, FunctionType) and (f is found[-1] or not _is_installed(f))]


def _kinds(value: Any) -> tuple[type, ...]:
    """The classes that an attribute of a value may come from: those of a class itself first."""
    return (*(value.__mro__ if isinstance(value, type) else ()), *type(value).__mro__)


def _special(value: Any) -> set[str]:
    """The methods of the user's class that run without being named, as ``__getitem__``."""
    return {
        name
        for kind in _kinds(value)
        for name, found in vars(kind).items()
        if name.startswith("__") and name not in _MAKING and isinstance(found, FunctionType)
        if found.__code__.co_filename != "<string>"  # a dataclass's own
    } | {"__call__"}


def _is_users(value: Any) -> bool:
    """Whether a value is an object of the user's, whose attributes may change."""
    if isinstance(value, (*_ARRAYS, *_NUMBERS)) or not (hasattr(value, "__dict__") or hasattr(value, "__slots__")):
        return False
    if isinstance(value, (type, ModuleType)):
        module = value if isinstance(value, ModuleType) else sys.modules.get(value.__module__)
        file = getattr(module, "__file__", None)
        return file is not None and not file.startswith(_INSTALLED) and not is_own(file)
    return type(value).__module__.partition(".")[0] != __name__.partition(".")[0]


def _readers(function: FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, functools.partial(getattr, cell, "cell_contents")
    yield from ((name, functools.partial(_itself, value)) for name, value in _defaults(function).items())
    module = function.__globals__
    names = dict.fromkeys(name for code in _codes(function.__code__) for name in code.co_names)
    yield from ((name, functools.partial(module.__getitem__, name)) for name in names if name in module)


def _defaults(function: FunctionType) -> dict[str, Any]:
    """The defaults of its parameters, of which those that are no numbers may change inside."""
    code, last = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(last) : code.co_argcount]
    every = {**dict(zip(names, last, strict=True)), **(function.__kwdefaults__ or {})}
    return {name: value for name, value in every.items() if value is not None and not isinstance(value, _NUMBERS)}


def _frozen(value: Any) -> Any:
    return frozenset(value) if isinstance(value, set) else value


def _itself(value: Any) -> Any:
    return value


def _mentioned(code: CodeType) -> set[str]:
    """The names that code mentions; strings too where it has them looked up."""
    found = {name for part in _codes(code) for name in part.co_names}
    if "getattr" in found:
        found |= {text for part in _codes(code) for text in part.co_consts if isinstance(text, str)}
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
