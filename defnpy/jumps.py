"""``break`` and ``continue`` said otherwise: by conditions, and by a boolean variable that tells whether to go on."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import NamedTuple

from .liveness import escapes, own_nodes

__all__ = ["WithoutJumps", "assigns", "conditional", "returns_as_jumps", "without_jumps"]

_JUMPS = (ast.Break, ast.Continue)


class WithoutJumps(NamedTuple):
    """A loop's condition and body. flagged: whether the body assigns the boolean, which must be true before."""

    test: ast.expr
    body: list[ast.stmt]
    flagged: bool


def without_jumps(test: ast.expr, body: list[ast.stmt], running: str) -> WithoutJumps | None:
    """A loop without ``break`` and ``continue``, the same one where it has none; None where they stand too deep.

    What follows an ``if`` that jumps goes under its condition. A body that begins with ``if done: break`` goes on while
    the loop's condition holds and ``not done``; any other ``break`` makes the variable ``running`` false.
    """
    first = body[0] if body else None
    if isinstance(first, ast.If) and len(first.body) == 1 and isinstance(first.body[0], ast.Break):
        rest = conditional([*first.orelse, *body[1:]], running)
        if rest is not None and not assigns(rest, running):
            stay = _negated(first.test)
            return WithoutJumps(stay if _always(test) else _both(test, stay), rest, False)
    made = conditional(body, running)
    if made is None or made is body:
        return WithoutJumps(test, body, False) if made is body else None
    if not assigns(made, running):
        return WithoutJumps(test, made, False)
    on = ast.copy_location(ast.Name(running, ast.Load()), test)
    return WithoutJumps(on if _always(test) else _both(on, test), made, True)


def assigns(body: Sequence[ast.stmt], name: str) -> bool:
    """Whether statements may assign a variable."""
    return any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in own_nodes(body))


def _always(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and bool(test.value)


def _both(a: ast.expr, b: ast.expr) -> ast.expr:
    return ast.copy_location(ast.BoolOp(ast.And(), [a, b]), a)


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def conditional(body: list[ast.stmt], running: str) -> list[ast.stmt] | None:
    """The body of a loop without jumps; what was a ``break`` assigns ``running``. None where they stand too deep."""
    for number, statement in enumerate(body):
        if not any(kind in ("break", "continue") for kind, _ in escapes([statement])):
            continue
        if isinstance(statement, _JUMPS):
            return None if isinstance(statement, ast.Break) else body[:number]
        last = statement.body[-1] if isinstance(statement, ast.If) else None
        if not isinstance(statement, ast.If) or not isinstance(last, _JUMPS):
            return None
        inside, test = statement.body[:-1], statement.test
        rest = conditional([*statement.orelse, *body[number + 1 :]], running)
        if rest is None or any(kind in ("break", "continue") for kind, _ in escapes(inside)):
            return None
        made = body[:number]
        if isinstance(last, ast.Break):
            go_on = ast.Assign([ast.Name(running, ast.Store())], _negated(test))
            made.append(ast.copy_location(go_on, statement))
            test = _negated(ast.copy_location(ast.Name(running, ast.Load()), test))
        if inside or rest:
            choice = ast.If(test, inside, rest) if inside else ast.If(_negated(test), rest, [])
            made.append(ast.copy_location(choice, statement))
        return made
    return body


class _AsBreak(ast.NodeTransformer):
    """The returns of a loop that do what the return after the loop does, as break."""

    def __init__(self, after: ast.Return) -> None:
        self._after = ast.dump(after)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        return ast.copy_location(ast.Break(), node) if ast.dump(node) == self._after else node

    def _kept(self, node: ast.AST) -> ast.AST:
        return node

    visit_For = visit_While = visit_FunctionDef = visit_Lambda = visit_ClassDef = _kept


def returns_as_jumps(body: list[ast.stmt]) -> None:
    """Where a loop is followed by a return, the same return within it is a break, and is made one, in place."""
    for statement, following in zip(body, [*body, None][1:], strict=True):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for field in ("body", "orelse", "finalbody"):
            returns_as_jumps(getattr(statement, field, []))
        if isinstance(statement, (ast.For, ast.While)) and isinstance(following, ast.Return) and not statement.orelse:
            statement.body = [_AsBreak(following).visit(inner) for inner in statement.body]
