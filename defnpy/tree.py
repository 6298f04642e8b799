"""Containers of tensors: flatten, rebuild, map, paths and a readable structural difference.

A thin layer on optree. Containers are dicts, tuples, lists, namedtuples, None (an empty container) and dataclasses
registered with :func:`register_dataclass`; everything else is a leaf. Leaves that are no tensors (functions, strings)
are carried along.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import optree

from .errors import TreeError

__all__ = [
    "difference",
    "flatten",
    "follower",
    "leaves",
    "map",
    "paths",
    "prefix",
    "register_dataclass",
    "static",
    "unflatten",
]

NAMESPACE = "defnpy"
Structure = optree.PyTreeSpec
T = TypeVar("T")


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure that rebuilds the container from them.

    >>> import defnpy as dp
    >>> leaves, structure = dp.tree.flatten({"w": 1, "b": (2, 3)})
    >>> leaves
    [2, 3, 1]
    >>> dp.tree.unflatten(structure, [20, 30, 10])
    {'w': 10, 'b': (20, 30)}
    """
    found, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
    return found, structure


def follower(structure: Structure) -> Callable[[Any], list[Any]]:
    """A function that gives the leaves of containers of this very structure, and raises ``ValueError`` for others.

    It takes a tenth of the time of :func:`flatten`, which must look up what to do with every node. A leaf may be
    anything: the caller must look whether one of them is a container.

    >>> import defnpy as dp
    >>> leaves = follower(flatten({"w": 1, "b": (2, 3)})[1])
    >>> leaves({"w": 10, "b": (20, 30)})
    [20, 30, 10]
    """

    def slowly(tree: Any) -> list[Any]:
        found, own = flatten(tree)
        if own != structure:
            raise ValueError(f"another structure: {own}")
        return found

    def quickly(tree: Any) -> list[Any]:
        found = structure.flatten_up_to(tree)
        for path in dicts:
            node = tree
            for key in path:
                node = node[key]
            if type(node) is not dict:  # optree takes one kind of dict for another
                raise ValueError("another kind of dict")
        return found

    try:
        dicts = list(_dicts(structure, ()))
    except _Unlike:
        return slowly
    return quickly


class _Unlike(Exception):
    """``flatten_up_to`` does not tell this structure from all others."""


def _dicts(structure: Structure, path: tuple[Any, ...] | None) -> Iterator[tuple[Any, ...]]:
    """How the dicts of a structure are reached by indexing; ``path`` is None below what cannot be indexed."""
    kind = structure.type
    if kind in (OrderedDict, defaultdict, deque) or (kind is dict and path is None):
        raise _Unlike
    if kind is dict and path is not None:
        yield path
    indexed = kind is not None and issubclass(kind, (dict, list, tuple)) and path is not None
    for entry, child in zip(structure.entries(), structure.children(), strict=True):
        yield from _dicts(child, (*path, entry) if indexed and path is not None else None)


def unflatten(structure: Structure, leaves: Any) -> Any:
    """The container of ``structure`` with new leaves. See :func:`flatten`.

    >>> import defnpy as dp
    >>> dp.tree.unflatten(dp.tree.flatten([0, (0, 0)])[1], [1, 2, 3])
    [1, (2, 3)]
    """
    return optree.tree_unflatten(structure, leaves)


def leaves(tree: Any) -> list[Any]:
    """The leaves alone, in order.

    >>> import defnpy as dp
    >>> dp.tree.leaves([1, None, (2, {"a": 3})])
    [1, 2, 3]
    """
    return optree.tree_leaves(tree, namespace=NAMESPACE)


def map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply ``function`` to corresponding leaves; raises ``TreeError`` where the structures differ.

    Where another container has None in place of a leaf of the first, that leaf is kept as it is: gradients have None
    for functions and strings among the parameters.

    >>> import defnpy as dp
    >>> dp.tree.map(lambda w, g: w - g, {"w": 3, "b": [4]}, {"w": 1, "b": [1]})
    {'w': 2, 'b': [3]}
    >>> dp.tree.map(lambda w, g: w - g, {"w": 3, "act": "relu"}, {"w": 1, "act": None})
    {'w': 2, 'act': 'relu'}
    """
    found, structure = flatten(tree)
    columns = [found]
    for number, other in enumerate(rest, 2):
        column: list[Any]
        try:
            column = structure.flatten_up_to(other)
        except ValueError:
            column = [other]
        single = all(v is None or optree.tree_is_leaf(v, namespace=NAMESPACE) for v in column)
        if len(column) != len(found) or not single:
            raise TreeError(f"tree.map: container {number} differs from the first: {difference(tree, other)}")
        columns.append(column)
    rows = zip(*columns, strict=True)
    return unflatten(structure, [row[0] if any(v is None for v in row[1:]) else function(*row) for row in rows])


def paths(tree: Any, root: str = "") -> list[str]:
    """How each leaf is reached, written as Python: ``params['W1']``, ``[0].weight``.

    >>> import defnpy as dp
    >>> dp.tree.paths({"w": 1, "b": (2, 3)}, "params")
    ["params['b'][0]", "params['b'][1]", "params['w']"]
    """
    return [accessor.codify(root) for accessor in optree.tree_accessors(tree, namespace=NAMESPACE)]


def prefix(short: Any, tree: Any) -> list[Any]:
    """For every leaf of ``tree`` what ``short`` says of it: a container that may end where ``tree`` goes on, and whose
    leaves then hold for everything below. None in ``short`` is a leaf. Raises ``ValueError`` where they do not fit.

    >>> import defnpy as dp
    >>> dp.tree.prefix((0, {"w": 1, "b": None}), ([1, 2], {"w": 3, "b": [4]}))
    [0, 0, None, 1]
    """
    said = optree.broadcast_prefix(short, tree, none_is_leaf=True, namespace=NAMESPACE)
    found = optree.tree_leaves(tree, none_is_leaf=True, namespace=NAMESPACE)
    return [s for s, leaf in zip(said, found, strict=True) if leaf is not None]


def difference(first: Any, second: Any, root: str = "", called: tuple[str, str] = ("the first", "the second")) -> str:
    """The first place where two containers, ``called`` so, differ in structure, in words; empty when they do not.

    >>> import defnpy as dp
    >>> dp.tree.difference({"w": 1, "b": 2}, {"w": 1, "c": 2})
    "['b'] is only in the first, ['c'] only in the second"
    >>> dp.tree.difference({"w": (1, 2)}, {"w": [1, 2]}, "params")
    "params['w'] is a tuple in the first, a list in the second"
    """
    one, two = optree.tree_structure(first, namespace=NAMESPACE), optree.tree_structure(second, namespace=NAMESPACE)
    if one == two:
        return ""
    a, b = called
    mine, yours = paths(first, root), paths(second, root)
    only_mine = [p for p in mine if p not in yours]
    only_yours = [p for p in yours if p not in mine]
    if only_mine and only_yours:
        return f"{_few(only_mine)} only in {a}, {_few(only_yours, verb='')} only in {b}"
    if only_mine:
        return f"{_few(only_mine)} only in {a}"
    if only_yours:
        return f"{_few(only_yours)} only in {b}"
    return _other_kind(one, two, root, called) or f"{one} and {two}"


def _other_kind(one: Structure, two: Structure, place: str, called: tuple[str, str]) -> str:
    """The first place where two structures of the same paths are containers of different kinds."""
    if one.type is not two.type:
        return f"{place or 'it'} is {_kind(one)} in {called[0]}, {_kind(two)} in {called[1]}"
    for entry, mine, yours in zip(one.entries(), one.children(), two.children(), strict=False):
        step = f".{entry}" if one.kind == optree.PyTreeKind.CUSTOM else f"[{entry!r}]"
        found = _other_kind(mine, yours, place + step, called)
        if found:
            return found
    return ""


def _kind(structure: Structure) -> str:
    kind = structure.type
    return "a leaf" if kind is None else "None" if kind is type(None) else f"a {kind.__name__}"


def _few(names: list[str], verb: str = "is") -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} {verb if len(names) == 1 else 'are' if verb else ''}".rstrip()


def _typed(value: Any) -> tuple[Any, Any]:
    """A static value beside what tells it from its equals of another type: 1 from 1.0 and True, 0.0 from -0.0."""
    return (type(value), repr(value) if isinstance(value, (float, tuple)) else ""), value


def static(**options: Any) -> Any:
    """A dataclass field that belongs to the structure (hashable, compared with ``==``) instead of being a leaf.

    Keyword arguments are those of ``dataclasses.field``. See :func:`register_dataclass`.

    >>> import dataclasses
    >>> import defnpy as dp
    >>> @dp.tree.register_dataclass
    ... @dataclasses.dataclass(frozen=True)
    ... class Power:
    ...     base: float
    ...     exponent: int = dp.tree.static(default=2)
    >>> dp.tree.leaves(Power(3.0))
    [3.0]
    """
    return dataclasses.field(metadata={"defnpy.static": True}, **options)


def register_dataclass(cls: type[T]) -> type[T]:
    """Make a dataclass a container: its fields are children, those made with :func:`static` are structure.

    Raises ``TreeError`` for a class that is no dataclass.

    >>> import dataclasses
    >>> import defnpy as dp
    >>> @dp.tree.register_dataclass
    ... @dataclasses.dataclass(frozen=True)
    ... class Affine:
    ...     weight: float
    ...     name: str = dp.tree.static(default="affine")
    >>> dp.tree.map(lambda x: 2 * x, Affine(1.5))
    Affine(weight=3.0, name='affine')
    """
    if not dataclasses.is_dataclass(cls):
        raise TreeError(f"{cls.__name__} is not a dataclass", hint="write @dataclasses.dataclass below the decorator")
    fields = dataclasses.fields(cls)
    children = tuple(f.name for f in fields if not f.metadata.get("defnpy.static"))
    statics = tuple(f.name for f in fields if f.metadata.get("defnpy.static"))

    def take_apart(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[str, ...]]:
        return (
            tuple(getattr(value, name) for name in children),
            tuple(_typed(getattr(value, name)) for name in statics),
            children,
        )

    def put_together(metadata: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
        # Without __init__: a transform may put anything in a child's place, and __post_init__ may check values.
        result = object.__new__(cls)
        kept = [value for _, value in metadata]
        for name, value in (*zip(children, values, strict=True), *zip(statics, kept, strict=True)):
            object.__setattr__(result, name, value)
        return result

    register: Any = optree.register_pytree_node
    register(cls, take_apart, put_together, path_entry_type=optree.GetAttrEntry, namespace=NAMESPACE)
    return cls
