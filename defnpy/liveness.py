"""What a part of a Python function reads and assigns, what it cannot do as a function of its own, and what is live."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

__all__ = ["Liveness", "escapes", "loaded", "own_nodes", "parameters", "stored"]

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.While, ast.AsyncFor)
_MUTATORS = set("append extend insert pop remove clear update setdefault popitem add discard sort reverse".split())


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    rest = [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def own_nodes(parts: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes below, without the insides of functions and classes."""
    for part in parts:
        yield part
        if not isinstance(part, _SCOPES):
            yield from own_nodes(list(ast.iter_child_nodes(part)))


def stored(parts: Sequence[ast.AST]) -> set[str]:
    """The variables that statements may assign."""
    found: set[str] = set()
    hidden: set[int] = set()  # the variables of comprehensions are their own
    for node in own_nodes(parts):
        if isinstance(node, ast.comprehension):
            hidden |= {id(n) for n in ast.walk(node.target)}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.add(node.rest)
    for node in own_nodes(parts):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and id(node) not in hidden:
            found.add(node.id)
    return found


def loaded(parts: Sequence[ast.AST | None]) -> set[str]:
    """The variables that they may read."""
    found: set[str] = set()
    for part in parts:
        if isinstance(part, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            own = {n.id for g in part.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            first, *rest = part.generators
            inner = [n for n in ast.iter_child_nodes(part) if n is not first]
            found |= loaded([first.iter]) | (loaded([*inner, *first.ifs, *rest]) - own)
        elif isinstance(part, ast.Lambda):
            found |= loaded([part.body]) - {p.arg for p in parameters(part.args)}
            found |= loaded([*part.args.defaults, *part.args.kw_defaults])
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found |= loaded(part.body) - {p.arg for p in parameters(part.args)} - stored(part.body)
            found |= loaded([*part.decorator_list, *part.args.defaults, *part.args.kw_defaults])
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(part.id)
        elif part is not None:
            if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
                found.add(part.target.id)
            found |= loaded(list(ast.iter_child_nodes(part)))
    return found


def escapes(parts: Sequence[ast.AST], inside: bool = False) -> Iterator[tuple[str, int]]:
    """What a branch or body cannot do as a function that is traced: kinds, as in python._HINTS, and lines.

    inside: of a loop among the parts, to which break and continue belong.
    """
    for part in parts:
        line = getattr(part, "lineno", 0)
        if isinstance(part, (ast.Return, ast.Raise)) or (isinstance(part, (ast.Break, ast.Continue)) and not inside):
            yield type(part).__name__.lower(), line
        elif isinstance(part, (ast.Subscript, ast.Attribute)) and not isinstance(part.ctx, ast.Load):
            yield "assignment", line
        elif (
            isinstance(part, ast.Expr)
            and isinstance(part.value, ast.Call)
            and isinstance(part.value.func, ast.Attribute)
            and part.value.func.attr in _MUTATORS
        ):
            yield "assignment", line
        if not isinstance(part, _SCOPES):
            yield from escapes(list(ast.iter_child_nodes(part)), inside or isinstance(part, _LOOPS))


def _jumps(parts: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The break and continue statements of a loop with this body."""
    for part in parts:
        if isinstance(part, (ast.Break, ast.Continue)):
            yield part
        elif isinstance(part, _LOOPS):
            yield from _jumps(part.orelse)
        elif not isinstance(part, _SCOPES):
            yield from _jumps(list(ast.iter_child_nodes(part)))


class Liveness:
    """Which variables are read later: the classic walk backwards, on the tree."""

    def __init__(self, body: list[ast.stmt]) -> None:
        scopes = [node for node in own_nodes(body) if isinstance(node, _SCOPES)]
        self.always = loaded(scopes)  # functions may read them whenever they are called
        self.after: dict[int, set[str]] = {}  # by the identity of a statement: what is live after it
        self._jumps: dict[int, set[str]] = {}  # what is live where a break or continue leads

    def block(self, statements: list[ast.stmt], live: set[str]) -> set[str]:
        """The variables that are live before statements, from those live after them."""
        for statement in reversed(statements):
            live = self.before(statement, live)
        return live

    def before(self, statement: ast.stmt, live: set[str]) -> set[str]:
        self.after[id(statement)] = live
        if isinstance(statement, ast.If):
            both = self.block(statement.body, live) | self.block(statement.orelse, live)
            return both | loaded([statement.test])
        if isinstance(statement, ast.While):
            return self.head(statement, live)
        if isinstance(statement, ast.For):
            return self.head(statement, live) | loaded([statement.iter])
        if isinstance(statement, ast.Return):
            return loaded([statement]) | self.always
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, *_SCOPES)):
            return (live - stored([statement])) | loaded([statement]) | self.always
        if isinstance(statement, (ast.Break, ast.Continue)):
            return self._jumps[id(statement)]
        live = live | loaded([statement])
        if isinstance(statement, (ast.With, ast.Try)):  # it may be left anywhere
            for field in {"body", "orelse", "finalbody"} & {*statement._fields}:
                self.block(getattr(statement, field), live)
        return live

    def head(self, loop: ast.For | ast.While, live: set[str]) -> set[str]:
        """The variables that are live where an iteration begins or the loop ends."""
        jumps = list(_jumps(loop.body))
        self._jumps |= {id(jump): live for jump in jumps}
        live = self.block(loop.orelse, live)
        asked = loaded([loop.test]) if isinstance(loop, ast.While) else set()
        target = stored([loop.target]) if isinstance(loop, ast.For) else set()
        for _ in range(2):  # the second time with what the first found is the fixed point
            live = live | asked
            self._jumps |= {id(jump): live for jump in jumps if isinstance(jump, ast.Continue)}
            live = live | (self.block(loop.body, live) - target)
        return live
