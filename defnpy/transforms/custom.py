"""Functions with derivatives of their own: what the user wrote as closed graphs, and the call that holds them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import tree
from ..dtypes import cotangent_dtype
from ..errors import GradientError, TreeError
from ..ir.aval import Aval
from ..ir.expr import Expr
from ..ir.trace import aval_of
from ..ops.call import POLICIES, checkpoint, custom_jvp, custom_vjp
from ..ops.convert import cast
from ..ops.linear import broadcast_to
from ..source import capture, quote
from .closed import Stand
from .stage import Staged, by_position, is_tensor, operand, parameter_names, stage

__all__ = ["checkpointed", "with_rule"]


def checkpointed(function: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """A function whose derivative computes again what ``policy`` does not keep; to be called under a trace."""
    if policy not in POLICIES:
        raise GradientError(
            f"checkpoint: there is no policy {policy!r}", where=quote(capture()), hint=f"one of {', '.join(POLICIES)}"
        )

    @functools.wraps(function)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        staged = stage(function, args, kwargs, names=parameter_names(function, len(args)))
        tensors = [operand(leaf) for leaf in tree.leaves(tuple(args)) if is_tensor(leaf)]
        return staged.rebuild(checkpoint(*tensors, *staged.captured, graph=staged.graph, policy=policy))

    return transformed


def with_rule(
    function: Callable[..., Any], rule: Callable[..., Any], nondiff: Sequence[int], *, backwards: bool
) -> Callable[..., Any]:
    """A function that is differentiated by ``rule``; to be called under a trace.

    nondiff: numbers of positional arguments without a derivative. Python's numbers in them are not traced.
    """
    called = "custom_vjp" if backwards else "custom_jvp"
    function, rule = _free(function), _free(rule)

    @functools.wraps(function)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = by_position(function, args, kwargs)
        skipped = {number % len(args) for number in nondiff if -len(args) <= number < len(args)}
        args = tuple([tree.map(_held, arg) if i in skipped else arg for i, arg in enumerate(args)])
        names = parameter_names(function, len(args))
        staged = stage(function, args, kwargs, names=names)
        for value in staged.captured:
            if isinstance(value, Expr):
                raise GradientError(
                    f"{called}: {_name(function)} reads the traced value {value.aval} from around it, for which its "
                    "rule gives no derivative",
                    where=quote(value.loc) or quote(capture()),
                    hint="pass it as an argument",
                )
        arguments = [_Argument(arg, i not in skipped) for i, arg in enumerate(args)]
        wrt = tuple([moves for argument in arguments for moves in argument.wrt])
        tensors = [operand(leaf) for leaf in tree.leaves(args) if is_tensor(leaf)]
        results = [node.aval for node in staged.graph.outputs]
        body = _pulling if backwards else _pushing
        holder = body(called, function, rule, arguments, staged, kwargs)
        y = staged.rebuild([Stand(aval) for aval in results])
        linear = [Stand(a) for a in (_tangents(results) if backwards else _moving(arguments))]
        of_rule = stage(holder, [linear, y, *[argument.stands() for argument in arguments]], {})
        graphs = {"backward" if backwards else "forward": of_rule.graph}
        op = custom_vjp if backwards else custom_jvp
        found = op(*tensors, *staged.captured, *of_rule.captured, graph=staged.graph, wrt=wrt, **graphs)
        return staged.rebuild(found)

    return transformed


@dataclass(frozen=True)
class _Held:
    """A Python number that is not traced."""

    number: Any


def _held(leaf: Any) -> Any:
    return _Held(leaf) if isinstance(leaf, (bool, int, float)) else leaf


def _free(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called with numbers that were held."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*tree.map(lambda x: x.number if isinstance(x, _Held) else x, args), **kwargs)

    return called


class _Argument:
    """A positional argument, and which of its tensors have a derivative."""

    def __init__(self, value: Any, moves: bool) -> None:
        self.value = value
        self.moves = moves
        self.leaves, self.structure = tree.flatten(value)
        self.avals = [aval_of(leaf) if is_tensor(leaf) else None for leaf in self.leaves]
        self.wrt = [moves and cotangent_dtype(aval.dtype) is not None for aval in self.avals if aval is not None]

    def stands(self) -> Any:
        """What stands for it while the rule is traced."""
        stands = [leaf if aval is None else Stand(aval) for leaf, aval in zip(self.leaves, self.avals, strict=True)]
        return tree.unflatten(self.structure, stands)

    def moving(self) -> list[Aval | None]:
        """For each leaf the aval of its tangent, None where it has none."""
        return [None if aval is None else _tangent(aval) if self.moves else None for aval in self.avals]

    def tangent(self, tensors: Any) -> Any:
        """The container of tangents."""
        return tree.unflatten(self.structure, [None if aval is None else next(tensors) for aval in self.moving()])


def _tangent(aval: Aval) -> Aval | None:
    dtype = cotangent_dtype(aval.dtype)
    return None if dtype is None else Aval(aval.shape, dtype)


def _tangents(avals: Sequence[Aval]) -> list[Aval]:
    return [tangent for tangent in map(_tangent, avals) if tangent is not None]


def _moving(arguments: Sequence[_Argument]) -> list[Aval]:
    return [aval for argument in arguments for aval in argument.moving() if aval is not None]


def _pulling(
    called: str,
    function: Any,
    rule: Callable[..., Any],
    arguments: Sequence[_Argument],
    staged: Staged,
    kwargs: dict[str, Any],
) -> Callable[..., Any]:
    """The rule backwards as a function of lists of tensors."""
    results = [node.aval for node in staged.graph.outputs]
    chosen = [argument for argument in arguments if argument.moves]

    def pull(cotangents: Any, y: Any, *args: Any) -> list[Any]:
        values = iter(cotangents)
        g = staged.tangent([None if _tangent(aval) is None else next(values) for aval in results])
        found = rule(g, y, *args, **kwargs)
        parts = found if isinstance(found, tuple) else (found,)
        if len(parts) != len(chosen):
            raise GradientError(
                f"{called}: the rule of {_name(function)} gives {len(parts)} cotangents for {len(chosen)} arguments",
                where=quote(capture()),
                hint="return a tuple with one for each argument that has a derivative, None for zero",
            )
        flat = []
        for argument, part in zip(chosen, parts, strict=True):
            flat += _checked(called, function, argument.structure, argument.moving(), part)
        return flat

    return pull


def _pushing(
    called: str,
    function: Any,
    rule: Callable[..., Any],
    arguments: Sequence[_Argument],
    staged: Staged,
    kwargs: dict[str, Any],
) -> Callable[..., Any]:
    """The rule forwards as a function of lists of tensors."""
    results = [node.aval for node in staged.graph.outputs]

    def push(tangents: Any, y: Any, *args: Any) -> list[Any]:
        values = iter(tangents)
        along = tuple([argument.tangent(values) for argument in arguments if argument.moves])
        found = rule(along, y, *args, **kwargs)
        moving = iter(map(_tangent, results))
        wanted = [next(moving) if c is None else None for c in staged.carried]
        return _checked(called, function, staged.structure, wanted, found)

    return push


def _checked(
    called: str, function: Any, structure: tree.Structure, wanted: Sequence[Aval | None], part: Any
) -> list[Any]:
    """What a rule returned for one container, in the shapes and dtypes that are wanted; zeros for None."""
    if part is None:
        found: list[Any] = [None] * len(wanted)
    else:
        try:
            found = structure.flatten_up_to(part)
        except ValueError as error:
            raise TreeError(
                f"{called}: the rule of {_name(function)} returns another structure: {error}", where=quote(capture())
            ) from None
    flat = []
    for aval, value in zip(wanted, found, strict=True):
        if aval is None:
            continue
        if value is None:
            flat.append(broadcast_to(aval.dtype.type(0), shape=aval.shape))
            continue
        given = aval_of(value) if is_tensor(value) else type(value).__name__
        if not isinstance(given, Aval) or given.shape != aval.shape:
            raise GradientError(
                f"{called}: the rule of {_name(function)} returns {given}, where {aval} is wanted",
                where=(quote(value.loc) if isinstance(value, Expr) else "") or quote(capture()),
            )
        flat.append(cast(operand(value), aval.dtype))
    return flat


def _name(function: Any) -> str:
    return getattr(function, "__name__", "the function")
