"""Python's ``if``, ``while`` and ``for`` over traced values: the source of one function rewritten.

A branch or a body becomes a function inside of the function, which shares its variables by ``nonlocal``:

    if x > 0:              def then(): nonlocal y; y = x
        y = x              def otherwise(): nonlocal y; y = -x
    else:                  Flow.if_(x > 0, then, otherwise, assigned=("y",), live=("y",))
        y = -x

:class:`~defnpy.transforms.flow.Flow` runs them as Python would, or hands them to ``cond`` and the loops. Which of the
assigned variables are results is told by :class:`_Liveness`: those that are read later. All lines and columns are
kept, so that messages, graphs and debuggers show the user's own text.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from types import CellType, CodeType, FunctionType
from typing import Any, TypeGuard, TypeVar

from ..errors import TraceError
from .flow import Flow

__all__ = ["rewritten"]

F = TypeVar("F", bound=Callable[..., Any])

_FLOW = "__dp_flow__"
_OWN = "__dp_"  # generated functions; in messages they bear the name of the user's function
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.While, ast.AsyncFor)
_MUTATORS = set("append extend insert pop remove clear update setdefault popitem add discard sort reverse".split())

_LEAVE = "carry a boolean and ask for it in the condition of a while: while running and ..."
_HINTS = {
    "return": "return in both branches at the end of the function, or assign a variable and return it there",
    "break": _LEAVE,
    "continue": "put the rest of the body under an if",
    "raise": "both ways are traced: check before the function is called",
    "assignment": "both ways are traced: assign to a variable, with x.at[i].set(v) for elements",
    ":=": "assign in a statement of its own",
}


def rewritten(function: F) -> F:
    """The function with its control flow open to traced values. Functions that it defines or calls stay as they are."""
    name = getattr(function, "__name__", "function")
    if not isinstance(function, FunctionType) or name == "<lambda>":
        raise _refused(f"{name} is not a function made by def", "decorate the def itself")
    code = function.__code__
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise _refused(f"{name} is a generator or a coroutine", "return a container of all results", code)
    definition = _definition(function)
    for node in _own_nodes(definition.body):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            kind = type(node).__name__.lower()
            raise _refused(
                f"{name} assigns to {kind} names", "a traced function is pure: return the value", code, node.lineno
            )
        private = getattr(node, "attr", getattr(node, "id", ""))
        if private.startswith("__") and not private.endswith("__") and "." in code.co_qualname:
            raise _refused(
                f"{name} uses the private name {private}",
                "use one leading underscore",
                code,
                getattr(node, "lineno", 0),
            )
    made = _Rewriter(definition).function()
    factory = ast.FunctionDef(
        name="__dp_factory",
        args=_arguments([*code.co_freevars, _FLOW]),
        body=[made, ast.Return(ast.Name(name, ast.Load()))],
        decorator_list=[],
    )
    module = ast.Module([ast.fix_missing_locations(ast.copy_location(factory, definition))], [])
    compiled = compile(module, code.co_filename, "exec", code.co_flags & annotations.compiler_flag, dont_inherit=True)
    names: dict[str, Any] = {}
    exec(compiled, names)
    new = _named(names["__dp_factory"](*[None] * (len(code.co_freevars) + 1)).__code__, code)
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True)) | {_FLOW: CellType(Flow)}
    result = FunctionType(
        new, function.__globals__, name, function.__defaults__, tuple(cells[name] for name in new.co_freevars)
    )
    for attribute in ("__kwdefaults__", "__annotations__", "__doc__", "__module__", "__qualname__"):
        setattr(result, attribute, getattr(function, attribute))
    result.__dict__.update(function.__dict__)
    return result  # type: ignore[return-value]


def _refused(what: str, hint: str, code: CodeType | None = None, line: int = 0) -> TraceError:
    where = f'  File "{code.co_filename}", line {line or code.co_firstlineno}, in {code.co_name}' if code else ""
    return TraceError(f'control_flow="python": {what}', where=where, hint=hint)


def _definition(function: FunctionType) -> ast.FunctionDef:
    """The function as its source has it, lines and columns as in the file, without what was evaluated already."""
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
        indented = lines[0][:1].isspace()
        tree = ast.parse("if 1:\n" * indented + "".join(lines))
    except (OSError, SyntaxError):
        raise _refused(
            f"the source of {function.__name__} is not at hand",
            "define it in a file or a notebook, or use dp.cond and dp.while_loop",
            code,
        ) from None
    ast.increment_lineno(tree, first - 1 - indented)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == code.co_name]
    if not found:
        raise _refused(f"the source of {function.__name__} has changed since it was loaded", "load it anew", code)
    definition = found[0]
    definition.decorator_list, definition.returns = [], None
    arguments = definition.args
    arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    for argument in _parameters(arguments):
        argument.annotation = None
    return definition


def _named(code: CodeType, user: CodeType) -> CodeType:
    """Generated functions under the name of the user's."""
    constants = tuple(_named(c, user) if isinstance(c, CodeType) else c for c in code.co_consts)
    inner = re.sub(_OWN + r"\w+(\.<locals>\.)?", "", code.co_qualname).removesuffix(".<locals>.")
    qualified = user.co_qualname.removesuffix(user.co_name) + inner
    name = user.co_name if code.co_name.startswith(_OWN) else code.co_name
    return code.replace(co_consts=constants, co_name=name, co_qualname=qualified)


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    rest = [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _arguments(names: Sequence[str] = ()) -> ast.arguments:
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


# -- what a part of a function reads and assigns -----------------------------------------------------------------------


def _own_nodes(parts: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes below, without the insides of functions and classes."""
    for part in parts:
        yield part
        if not isinstance(part, _SCOPES):
            yield from _own_nodes(list(ast.iter_child_nodes(part)))


def _stored(parts: Sequence[ast.AST]) -> set[str]:
    """The variables that statements may assign."""
    found: set[str] = set()
    hidden: set[int] = set()  # the variables of comprehensions are their own
    for node in _own_nodes(parts):
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
    for node in _own_nodes(parts):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and id(node) not in hidden:
            found.add(node.id)
    return found


def _loaded(parts: Sequence[ast.AST | None]) -> set[str]:
    """The variables that they may read."""
    found: set[str] = set()
    for part in parts:
        if isinstance(part, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            own = {n.id for g in part.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            first, *rest = part.generators
            inner = [n for n in ast.iter_child_nodes(part) if n is not first]
            found |= _loaded([first.iter]) | (_loaded([*inner, *first.ifs, *rest]) - own)
        elif isinstance(part, ast.Lambda):
            found |= _loaded([part.body]) - {p.arg for p in _parameters(part.args)}
            found |= _loaded([*part.args.defaults, *part.args.kw_defaults])
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found |= _loaded(part.body) - {p.arg for p in _parameters(part.args)} - _stored(part.body)
            found |= _loaded([*part.decorator_list, *part.args.defaults, *part.args.kw_defaults])
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(part.id)
        elif part is not None:
            if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
                found.add(part.target.id)
            found |= _loaded(list(ast.iter_child_nodes(part)))
    return found


def _escapes(parts: Sequence[ast.AST], inside: bool = False) -> Iterator[tuple[str, int]]:
    """What a branch or body cannot do as a function that is traced: kinds, as in _HINTS, and lines.

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
            yield from _escapes(list(ast.iter_child_nodes(part)), inside or isinstance(part, _LOOPS))


def _jumps(parts: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The break and continue statements of a loop with this body."""
    for part in parts:
        if isinstance(part, (ast.Break, ast.Continue)):
            yield part
        elif isinstance(part, _LOOPS):
            yield from _jumps(part.orelse)
        elif not isinstance(part, _SCOPES):
            yield from _jumps(list(ast.iter_child_nodes(part)))


class _Liveness:
    """Which variables are read later: the classic walk backwards, on the tree."""

    def __init__(self, body: list[ast.stmt]) -> None:
        scopes = [node for node in _own_nodes(body) if isinstance(node, _SCOPES)]
        self.always = _loaded(scopes)  # functions may read them whenever they are called
        self._jumps: dict[int, set[str]] = {}  # what is live where a break or continue leads

    def block(self, statements: list[ast.stmt], live: set[str]) -> set[str]:
        """The variables that are live before statements, from those live after them."""
        for statement in reversed(statements):
            live = self.before(statement, live)
        return live

    def before(self, statement: ast.stmt, live: set[str]) -> set[str]:
        if isinstance(statement, ast.If):
            both = self.block(statement.body, live) | self.block(statement.orelse, live)
            return both | _loaded([statement.test])
        if isinstance(statement, ast.While):
            return self.head(statement, live)
        if isinstance(statement, ast.For):
            return self.head(statement, live) | _loaded([statement.iter])
        if isinstance(statement, ast.Return):
            return _loaded([statement]) | self.always
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, *_SCOPES)):
            return (live - _stored([statement])) | _loaded([statement]) | self.always
        if isinstance(statement, (ast.Break, ast.Continue)):
            return self._jumps[id(statement)]
        return live | _loaded([statement])

    def head(self, loop: ast.For | ast.While, live: set[str]) -> set[str]:
        """The variables that are live where an iteration begins or the loop ends."""
        jumps = list(_jumps(loop.body))
        self._jumps |= {id(jump): live for jump in jumps}
        live = self.block(loop.orelse, live)
        asked = _loaded([loop.test]) if isinstance(loop, ast.While) else set()
        target = _stored([loop.target]) if isinstance(loop, ast.For) else set()
        for _ in range(2):  # the second time with what the first found is the fixed point
            live = live | asked
            self._jumps |= {id(jump): live for jump in jumps if isinstance(jump, ast.Continue)}
            live = live | (self.block(loop.body, live) - target)
        return live


# -- statements --------------------------------------------------------------------------------------------------------


def _ends(block: list[ast.stmt]) -> bool:
    """Whether a block never runs into what follows it."""
    return any(
        isinstance(s, (ast.Return, ast.Raise)) or (isinstance(s, ast.If) and _ends(s.body) and _ends(s.orelse))
        for s in block
    )


def _settled(block: list[ast.stmt]) -> list[ast.stmt]:
    """What follows an early return goes into the other branch: then both branches return."""
    for number, statement in enumerate(block):
        if isinstance(statement, ast.If) and any(isinstance(n, ast.Return) for n in _own_nodes([statement])):
            rest = block[number + 1 :]
            first, second = _ends(statement.body), _ends(statement.orelse)
            if first or second or not rest:
                new = copy.copy(statement)
                new.body = _settled(statement.body if first else statement.body + rest)
                new.orelse = _settled(statement.orelse if second else statement.orelse + rest)
                return [*block[:number], new]
    return block


class _Rewriter:
    def __init__(self, definition: ast.FunctionDef) -> None:
        self._definition = definition
        self._body = _settled(definition.body)
        self._live = _Liveness(self._body)

    def function(self) -> ast.FunctionDef:
        definition = self._definition
        own = _stored(self._body) - {p.arg for p in _parameters(definition.args)}
        declared = [
            # never evaluated: it makes the name a variable of this function, to which nonlocal can refer
            ast.AnnAssign(ast.Name(name, ast.Store()), ast.Constant(None), None, 1)
            for name in sorted(own)
        ]
        body = self._block(self._body, set(self._live.always), tail=True)
        definition.body = [*(ast.copy_location(d, definition) for d in declared), *body]
        return _Expressions().visit(definition)

    def _block(self, statements: list[ast.stmt], live: set[str], tail: bool = False) -> list[ast.stmt]:
        """tail: whether the function returns after the block."""
        made: list[ast.stmt] = []
        for statement in reversed(statements):
            before = self._live.before(statement, live)
            made = [*self._statement(statement, live, tail and statement is statements[-1]), *made]
            live = before
        return made

    def _statement(self, statement: ast.stmt, live: set[str], tail: bool) -> list[ast.stmt]:
        if isinstance(statement, ast.If):
            return self._if(statement, live, tail)
        if isinstance(statement, ast.While):
            return self._while(statement, live)
        if isinstance(statement, ast.For):
            return self._for(statement, live)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            plain = ast.Assign([statement.target], statement.value) if statement.value else ast.Pass()
            return [ast.copy_location(plain, statement)]  # an annotated name cannot be nonlocal
        if isinstance(statement, (ast.With, ast.Try)):
            new = copy.copy(statement)
            inner = live | _loaded([statement])
            for field in ("body", "orelse", "finalbody"):
                if hasattr(statement, field):
                    setattr(new, field, self._block(getattr(statement, field), inner))
            return [new]
        return [statement]

    def _if(self, statement: ast.If, live: set[str], tail: bool) -> list[ast.stmt]:
        parts = [*statement.body, *statement.orelse]
        escapes = list(_escapes(parts))
        returning = tail and any(kind == "return" for kind, _ in escapes)
        if returning:
            escapes = [(kind, line) for kind, line in escapes if kind != "return"]
        test = _truth(statement.test)
        if escapes:
            new = copy.copy(statement)
            new.test = _plain(test, "if", escapes[0])
            new.body = self._block(statement.body, live, tail)
            new.orelse = self._block(statement.orelse, live, tail)
            return [new]
        assigned = sorted(_stored(parts))
        then = _part("then", self._block(statement.body, live, returning), assigned, statement)
        otherwise = _part("otherwise", self._block(statement.orelse, live, returning), assigned, statement)
        names = [_names(assigned), *([] if returning else [_names([n for n in assigned if n in live])])]
        call = _call("if_", [test, _name(then.name), _name(otherwise.name), *names], statement.test)
        return [then, otherwise, ast.copy_location(ast.Return(call) if returning else ast.Expr(call), statement.test)]

    def _while(self, statement: ast.While, live: set[str]) -> list[ast.stmt]:
        after = self._block(statement.orelse, live)
        live = self._live.head(statement, live)
        escapes = list(_escapes(statement.body))
        escapes += [(":=", n.lineno) for n in ast.walk(statement.test) if isinstance(n, ast.NamedExpr)]
        body = self._block(statement.body, live)
        test = _truth(statement.test)
        if escapes:
            new = copy.copy(statement)
            new.test, new.body, new.orelse = _plain(test, "while", escapes[0]), body, after
            return [new]
        assigned = sorted(_stored(statement.body))
        asked = _part("test", [ast.copy_location(ast.Return(test), test)], [], statement)
        part = _part("body", body, assigned, statement)
        names = [_names(assigned), _names([n for n in assigned if n in live])]
        call = _call("while_", [_name(asked.name), _name(part.name), *names], statement.test)
        return [asked, part, ast.copy_location(ast.Expr(call), statement.test), *after]

    def _for(self, statement: ast.For, live: set[str]) -> list[ast.stmt]:
        after = self._block(statement.orelse, live)
        live = self._live.head(statement, live)
        body = self._block(statement.body, live)
        numbers, target = statement.iter, statement.target
        escapes: list[tuple[str, int]] = []
        if _is_range(numbers) and isinstance(target, ast.Name):
            numbers = _call("range_", [numbers.func, *numbers.args], numbers)
            escapes = list(_escapes(statement.body))
            if not escapes:
                assigned = sorted(_stored([*statement.body, target]))
                part = _part("body", body, assigned, statement)
                names = [_names(assigned), _names([n for n in assigned if n in live])]
                call = _call("for_", [numbers, _name(part.name), ast.Constant(target.id), *names], statement.iter)
                return [part, ast.copy_location(ast.Expr(call), statement.iter), *after]
        new = copy.copy(statement)
        new.iter = _plain(numbers, "for", escapes[0]) if escapes else numbers
        new.body, new.orelse = body, after
        return [new]


def _is_range(value: ast.expr) -> TypeGuard[ast.Call]:
    if not isinstance(value, ast.Call) or value.keywords or any(isinstance(a, ast.Starred) for a in value.args):
        return False
    return isinstance(value.func, ast.Name) and value.func.id == "range"


def _part(name: str, body: list[ast.stmt], assigned: Sequence[str], at: ast.stmt) -> ast.FunctionDef:
    declared: list[ast.stmt] = [ast.Nonlocal(list(assigned))] if assigned else []
    made = ast.FunctionDef(_OWN + name, _arguments(), [*declared, *body] or [ast.Pass()], [], None)
    return ast.copy_location(made, at)


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _names(names: Sequence[str]) -> ast.expr:
    return ast.Tuple([ast.Constant(name) for name in names], ast.Load())


def _call(name: str, arguments: list[ast.expr], at: ast.expr) -> ast.expr:
    function = ast.Attribute(_name(_FLOW), name, ast.Load())
    return ast.fix_missing_locations(ast.copy_location(ast.Call(function, arguments, []), at))


def _plain(value: ast.expr, statement: str, escape: tuple[str, int]) -> ast.expr:
    kind, line = escape
    what = {"assignment": "a change of an object"}.get(kind, kind)
    texts = [statement, f"{what} (line {line})", _HINTS[kind]]
    return _call("plain", [value, *(ast.Constant(text) for text in texts)], value)


# -- expressions -------------------------------------------------------------------------------------------------------


class _Later(ast.Lambda):
    """A lambda that is not the user's."""


def _later(value: ast.expr) -> ast.expr:
    return ast.copy_location(_Later(_arguments(), value), value)


def _truth(test: ast.expr) -> ast.expr:
    """A condition with ``and``, ``or``, ``not`` and chained comparisons open to traced values."""
    if any(isinstance(node, ast.NamedExpr) for node in ast.walk(test)):
        return test  # in a lambda, it would assign to another variable
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _call("not_", [_truth(test.operand)], test)
    if isinstance(test, ast.Compare) and len(test.ops) > 1:
        sides = [test.left, *test.comparators]
        if not all(isinstance(side, (ast.Name, ast.Constant)) for side in sides[1:-1]):
            return test  # what stands between is computed once
        pairs = [ast.Compare(a, [op], [b]) for a, op, b in zip(sides, test.ops, sides[1:], strict=False)]
        return _truth(ast.copy_location(ast.BoolOp(ast.And(), [ast.copy_location(p, test) for p in pairs]), test))
    if isinstance(test, ast.BoolOp):
        first, *rest = test.values
        made = _truth(first)
        for value in rest:
            made = _call("and_" if isinstance(test.op, ast.And) else "or_", [made, _later(_truth(value))], test)
        return made
    return test


class _Expressions(ast.NodeTransformer):
    """``a if test else b``; not in functions of the user's own."""

    def __init__(self) -> None:
        self._outermost = True

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if not self._outermost and not node.name.startswith(_OWN):
            return node
        self._outermost = False
        return self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit__Later(self, node: _Later) -> ast.AST:
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
            return node
        return _call("if_", [_truth(node.test), _later(node.body), _later(node.orelse)], node.test)
