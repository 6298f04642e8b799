"""Donated arguments: an output takes the memory of an input that nobody needs any more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..ir.expr import Expr
from .emit import Emitted
from .kernel import FoldStore, Load, Loop, Statement, Store, walk

__all__ = ["in_place"]


def in_place(emitted: Emitted, donated: Collection[Expr], wanted: Collection[Expr]) -> tuple[Emitted, dict[Expr, Expr]]:
    """The kernel with outputs in the memory of donated inputs, and which output took which input.

    An input fits an output of its shape and dtype when the kernel reads it only at the very element that it stores
    there, and before it does.
    """
    kernel = emitted.kernel
    if kernel.checks:  # it may end early: then the arguments must still be what they were
        return emitted, {}
    buffer = {source: b for b, source in zip(kernel.buffers, emitted.buffers, strict=True) if isinstance(source, Expr)}
    taken: dict[Expr, Expr] = {}
    for output in [node for node in buffer if node in wanted]:
        for node in [node for node in buffer if node in donated]:
            if (node.shape, node.dtype) != (output.shape, output.dtype) or node in set(taken.values()):
                continue
            if _element_by_element(kernel.body, buffer[node].name, buffer[output].name):
                taken[output] = node
                break
    if not taken:
        return emitted, taken
    new = {buffer[node].name: buffer[output].name for output, node in taken.items()}
    kept = [(b, s) for b, s in zip(kernel.buffers, emitted.buffers, strict=True) if b.name not in new]
    body = [_renamed(s, new) for s in kernel.body]
    changed = replace(kernel, buffers=[b for b, _ in kept], body=body)
    return Emitted(changed, [s for _, s in kept], emitted.sizes, emitted.checks), taken


def _element_by_element(body: list[Statement], source: str, target: str) -> bool:
    """Whether ``target`` is stored once, in the same block after every load of ``source``, and at the same index."""
    loads = [s for s in walk(body) if isinstance(s, Load) and s.buffer == source]
    stores = [s for s in walk(body) if isinstance(s, Store) and s.buffer == target]
    others = [s for s in walk(body) if isinstance(s, (FoldStore, Load)) and s.buffer == target]
    if len(loads) != 1 or len(stores) != 1 or others or loads[0].index != stores[0].index:
        return False
    block = _block_of(body, loads[0])
    places = [i for i, s in enumerate(block) if s is loads[0] or s is stores[0]]
    return len(places) == 2 and block[places[0]] is loads[0]


def _block_of(body: list[Statement], statement: Statement) -> list[Statement]:
    """The list that a statement stands in."""
    for s in body:
        if s is statement:
            return body
        if isinstance(s, Loop):
            found = _block_of(s.body, statement)
            if found:
                return found
    return []


def _renamed(statement: Statement, names: dict[str, str]) -> Statement:
    if isinstance(statement, Loop):
        return Loop(statement.variable, statement.size, [_renamed(s, names) for s in statement.body])
    if isinstance(statement, Load):
        return replace(statement, buffer=names.get(statement.buffer, statement.buffer))
    return statement
