"""From a Python function over containers to a closed graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from .. import tree
from ..dtypes import DEFAULT_FLOAT, DType
from ..errors import TreeError
from ..ir.aval import Aval
from ..ir.expr import Expr, Graph, Value
from ..ir.trace import Trace, aval_of, tracing
from ..ops.convert import astype, cast
from ..source import capture, quote

__all__ = [
    "REGISTER",
    "Staged",
    "by_position",
    "default_dtype",
    "filled",
    "is_tensor",
    "keeps_tensors",
    "leaf_names",
    "operand",
    "parameter_names",
    "stage",
    "strengthen",
]


REGISTER = "make its class a container: @dp.tree.register_dataclass above @dataclasses.dataclass"


def is_tensor(leaf: Any) -> bool:
    """Whether a leaf is traced: tensors, NumPy arrays and scalars, Python numbers. Others are carried along."""
    return isinstance(leaf, (Value, np.ndarray, np.generic, bool, int, float))


def keeps_tensors(leaf: Any) -> bool:
    """Whether a leaf is an object with tensors among its attributes, hidden from everything that walks containers.

    >>> keeps_tensors(abs), keeps_tensors(1.0)
    (False, False)
    """
    if is_tensor(leaf) or isinstance(leaf, (FunctionType, type)):
        return False
    return any(isinstance(value, (Value, np.ndarray)) for value in tree.leaves(getattr(leaf, "__dict__", {})))


@dataclass
class Staged:
    """A function as a closed graph.

    graph: inputs are the tensor leaves of the arguments, in order, then the captured values.
    captured: the values of the latter. read: concrete tensors whose elements Python read meanwhile.
    structure: the container of the results; carried: its leaves that are no tensors, None at the others' places.
    """

    graph: Graph
    captured: list[Any]
    structure: tree.Structure
    carried: list[Any]
    read: list[Any]

    def rebuild(self, outputs: Iterable[Any]) -> Any:
        """The function's result with ``outputs`` at the places of its tensors."""
        values = iter(outputs)
        return tree.unflatten(self.structure, [next(values) if c is None else c[0] for c in self.carried])

    def tangent(self, parts: Sequence[Any]) -> Any:
        """The container of the result's tangents: ``parts`` at the places of its tensors, None at the others."""
        values = iter(parts)
        return tree.unflatten(self.structure, [next(values) if c is None else None for c in self.carried])


def leaf_names(own: Sequence[str], args: Sequence[Any]) -> list[str]:
    """A name for every leaf of the arguments, from the parameters' own names: ``params_W1``, ``x``."""
    names: list[str] = []
    for name, arg in zip(own, args, strict=True):
        names += ["".join(c if c.isalnum() or c == "_" else " " for c in p) for p in tree.paths(arg, name)]
    names = ["_".join(name.split()) for name in names]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[i] = f"{name}_{seen[name]}"
    return names


def parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first ``count`` positional parameters."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return [f"arg{i}" for i in range(count)]
    own = list(code.co_varnames[: code.co_argcount])
    return (own + [f"arg{i}" for i in range(len(own), count)])[:count]


def by_position(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, those at their positions that were given by name though they have one: what numbers
    them, ``argnums`` or ``in_axes``, must not depend on how they were written."""
    if kwargs:
        try:
            signature = inspect.signature(function)
        except ValueError:  # a function in C that does not tell it
            return tuple(args), kwargs
        if any(p.kind is p.POSITIONAL_OR_KEYWORD and p.name in kwargs for p in signature.parameters.values()):
            bound = filled(signature.bind(*args, **kwargs))
            return bound.args, bound.kwargs
    return tuple(args), kwargs


def filled(bound: inspect.BoundArguments) -> inspect.BoundArguments:
    """The arguments of a call, and the defaults of those that were left away before the last one with a position: what
    comes behind would not be at its position else."""
    places = [p for p in bound.signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given = [i for i, p in enumerate(places) if p.name in bound.arguments]
    for p in places[: max(given, default=0)]:
        bound.arguments.setdefault(p.name, p.default)
    return bound


def stage(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    names: Sequence[str] | None = None,
) -> Staged:
    """Trace ``function(*args, **kwargs)``: tensor leaves of ``args`` become inputs, all else is passed as it is.

    names: what to call the arguments in print.
    """
    leaves, structure = tree.flatten(tuple(args))
    leaf_name = leaf_names(parameter_names(function, len(args)) if names is None else names, args)
    with tracing() as trace:
        inputs: list[Expr] = []
        traced = []
        for leaf, name in zip(leaves, leaf_name, strict=True):
            if is_tensor(leaf):
                inputs.append(trace.parameter(aval_of(leaf), name))
            traced.append(inputs[-1] if is_tensor(leaf) else leaf)
        result = function(*tree.unflatten(structure, traced), **kwargs)
        outputs, out_structure = tree.flatten(result)
        for leaf in outputs:
            if keeps_tensors(leaf) and any(isinstance(v, Expr) for v in tree.leaves(vars(leaf))):
                raise TreeError(
                    f"the result holds a {type(leaf).__name__} with traced values in it, which is no container",
                    where=quote(capture()),
                    hint=REGISTER,
                )
        carried = [None if is_tensor(leaf) else (leaf,) for leaf in outputs]
        nodes = [_output(trace, leaf) for leaf in outputs if is_tensor(leaf)]
        graph = trace.graph(nodes)
    return Staged(graph, [value for value, _ in trace.captured.values()], out_structure, carried, trace.read)


def operand(leaf: Any) -> Any:
    """A leaf as an operand of the enclosing trace; a Python number stays a weak one."""
    if isinstance(leaf, (bool, int, float)) and not isinstance(leaf, np.generic):
        value = aval_of(leaf).dtype.type(leaf)
        return astype(value, dtype=value.dtype, weak=True)
    return leaf


def _output(trace: Trace, leaf: Any) -> Expr:
    if isinstance(leaf, (bool, int, float)) and not isinstance(leaf, np.generic):
        leaf = aval_of(leaf).dtype.type(leaf)
        return trace.lift(astype(leaf, dtype=leaf.dtype, weak=True))
    return trace.lift(leaf)


def strengthen(graph: Graph) -> Graph:
    """The graph with its weak outputs in the default dtypes: what leaves the traced world is an ordinary tensor."""
    if not any(node.aval.weak for node in graph.outputs):
        return graph
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        outputs = trace.inline(graph, inputs)
        return trace.graph([cast(node, default_dtype(node.aval)) if node.aval.weak else node for node in outputs])


def default_dtype(aval: Aval) -> DType:
    """The dtype that a Python scalar's value takes when nothing else decides."""
    return DEFAULT_FLOAT if aval.weak and aval.dtype.kind == "f" else aval.dtype
