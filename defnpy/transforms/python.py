"""Python's ``if``, ``while`` and ``for`` over traced values: the source of one function rewritten.

A branch or a body becomes a function inside of the function, which shares its variables by ``nonlocal``:

    if x > 0:              def then(): nonlocal y; y = x
        y = x              def otherwise(): nonlocal y; y = -x
    else:                  Flow.if_(x > 0, then, otherwise, assigned=("y",), live=("y",))
        y = -x

:class:`~defnpy.transforms.flow.Flow` runs them as Python would, or hands them to ``cond`` and the loops. Which of the
assigned variables are results, :class:`~defnpy.liveness.Liveness` tells: those that are read later. All
lines and columns are kept, so that messages, graphs and debuggers show the user's own text.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable, Sequence
from types import CellType, CodeType, FunctionType
from typing import Any, TypeGuard, TypeVar

from .. import source
from ..errors import TraceError
from ..jumps import assigns, conditional, returns_as_jumps, without_jumps
from ..liveness import Liveness, escapes, loaded, own_nodes, parameters, stored
from .flow import Flow

__all__ = ["rewritten"]

F = TypeVar("F", bound=Callable[..., Any])

_FLOW = "__dp_flow__"
_OWN = "__dp_"  # generated functions; in messages they bear the name of the user's function

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
    for node in own_nodes(definition.body):
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
        definition = source.definition(code)
    except OSError:
        raise _refused(
            f"the source of {function.__name__} is not at hand",
            "define it in a file or a notebook, or use dp.cond and dp.while_loop",
            code,
        ) from None
    if definition is None:
        raise _refused(f"the source of {function.__name__} has changed since it was loaded", "load it anew", code)
    definition.decorator_list, definition.returns = [], None
    arguments = definition.args
    arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    for argument in parameters(arguments):
        argument.annotation = None
    return definition


def _named(code: CodeType, user: CodeType) -> CodeType:
    """Generated functions under the name of the user's."""
    constants = tuple(_named(c, user) if isinstance(c, CodeType) else c for c in code.co_consts)
    inner = re.sub(_OWN + r"\w+(\.<locals>\.)?", "", code.co_qualname).removesuffix(".<locals>.")
    qualified = user.co_qualname.removesuffix(user.co_name) + inner
    name = user.co_name if code.co_name.startswith(_OWN) else code.co_name
    return code.replace(co_consts=constants, co_name=name, co_qualname=qualified)


def _arguments(names: Sequence[str] = ()) -> ast.arguments:
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


# -- statements --------------------------------------------------------------------------------------------------------


def _ends(block: list[ast.stmt]) -> bool:
    """Whether a block never runs into what follows it."""
    return any(
        isinstance(s, (ast.Return, ast.Raise)) or (isinstance(s, ast.If) and _ends(s.body) and _ends(s.orelse))
        for s in block
    )


def _may_return(statement: ast.stmt) -> bool:
    """Whether a choice returns in some of its branches, outside of loops."""
    parts = [*statement.body, *statement.orelse] if isinstance(statement, ast.If) else []
    return any(isinstance(part, ast.Return) or _may_return(part) for part in parts)


def _settled(block: list[ast.stmt]) -> list[ast.stmt]:
    """What follows an early return goes into the other branch, or into both: then both branches return."""
    for number, statement in enumerate(block):
        if _may_return(statement):
            assert isinstance(statement, ast.If)
            rest = block[number + 1 :]
            new = copy.copy(statement)
            new.body = _settled(statement.body if _ends(statement.body) else statement.body + copy.deepcopy(rest))
            new.orelse = _settled(statement.orelse if _ends(statement.orelse) else statement.orelse + rest)
            return [*block[:number], new]
    return block


class _Rewriter:
    def __init__(self, definition: ast.FunctionDef) -> None:
        self._definition = definition
        self._running: dict[int, str] = {}  # by the identity of a loop: the variable that its break became
        returns_as_jumps(definition.body)
        self._body = self._unjumped(_settled(definition.body))
        self._live = Liveness(self._body)

    def function(self) -> ast.FunctionDef:
        definition = self._definition
        own = stored(self._body) - {p.arg for p in parameters(definition.args)}
        declared = [
            # never evaluated: it makes the name a variable of this function, to which nonlocal can refer
            ast.AnnAssign(ast.Name(name, ast.Store()), ast.Constant(None), None, 1)
            for name in sorted(own)
        ]
        body = self._block(self._body, set(self._live.always), tail=True)
        definition.body = [*(ast.copy_location(d, definition) for d in declared), *body]
        return _Expressions().visit(definition)

    def _unjumped(self, block: list[ast.stmt]) -> list[ast.stmt]:
        """Statements without ``break`` and ``continue``, as far as they can be said otherwise."""
        made: list[ast.stmt] = []
        for statement in block:
            new = copy.copy(statement)
            if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                for field in {"body", "orelse", "finalbody"} & set(statement._fields):
                    setattr(new, field, self._unjumped(getattr(statement, field)))
            made += self._without_jumps(new) if isinstance(new, (ast.For, ast.While)) else [new]
        return made

    def _without_jumps(self, loop: ast.For | ast.While) -> list[ast.stmt]:
        """A loop, behind the assignment of the variable that its ``break`` became."""
        running = f"{_OWN}running_{len(self._running)}"
        true = ast.copy_location(ast.Constant(True), loop)
        if isinstance(loop, ast.While):
            changed = without_jumps(loop.test, loop.body, running)
            test, body = changed[:2] if changed is not None else (loop.test, loop.body)
        elif _is_range(loop.iter) and isinstance(loop.target, ast.Name):
            test, body = true, conditional(loop.body, running) or loop.body
        else:
            return [loop]
        if loop.orelse or body is loop.body or any(True for _ in escapes(body)):
            return [loop]
        loop.body = body
        if isinstance(loop, ast.While):
            loop.test = test
        if not assigns(body, running):
            return [loop]
        self._running[id(loop)] = running
        loop.body = [*body, ast.copy_location(ast.Expr(_name(running)), loop)]  # it is read after every iteration
        return [ast.copy_location(ast.Assign([ast.Name(running, ast.Store())], true), loop), loop]

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
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).startswith(_OWN):
            return [ast.copy_location(ast.Assign(statement.targets, _truth(statement.value)), statement)]
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            return [_counted(statement, statement.target)]
        if isinstance(statement, (ast.With, ast.Try)):
            new = copy.copy(statement)
            inner = live | loaded([statement])
            for field in ("body", "orelse", "finalbody"):
                if hasattr(statement, field):
                    setattr(new, field, self._block(getattr(statement, field), inner))
            return [new]
        return [statement]

    def _if(self, statement: ast.If, live: set[str], tail: bool) -> list[ast.stmt]:
        parts = [*statement.body, *statement.orelse]
        refused = list(escapes(parts))
        returning = tail and any(kind == "return" for kind, _ in refused)
        if returning:
            refused = [(kind, line) for kind, line in refused if kind != "return"]
        test = _truth(statement.test)
        if refused:
            new = copy.copy(statement)
            new.test = _plain(test, "if", refused[0])
            new.body = self._block(statement.body, live, tail)
            new.orelse = self._block(statement.orelse, live, tail)
            return [new]
        assigned = sorted(stored(parts))
        then = _part("then", self._block(statement.body, live, returning), assigned, statement)
        otherwise = _part("otherwise", self._block(statement.orelse, live, returning), assigned, statement)
        names = [_names(assigned), *([] if returning else [_names([n for n in assigned if n in live])])]
        call = _call("if_", [test, _name(then.name), _name(otherwise.name), *names], statement.test)
        return [then, otherwise, ast.copy_location(ast.Return(call) if returning else ast.Expr(call), statement.test)]

    def _while(self, statement: ast.While, live: set[str]) -> list[ast.stmt]:
        after = self._block(statement.orelse, live)
        live = self._live.head(statement, live)
        refused = list(escapes(statement.body))
        refused += [(":=", n.lineno) for n in ast.walk(statement.test) if isinstance(n, ast.NamedExpr)]
        body = self._block(statement.body, live)
        test = _truth(statement.test)
        if refused:
            new = copy.copy(statement)
            new.test, new.body, new.orelse = _plain(test, "while", refused[0]), body, after
            return [new]
        assigned = sorted(stored(statement.body))
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
        refused: list[tuple[str, int]] = []
        if _is_range(numbers) and isinstance(target, ast.Name):
            numbers = _call("range_", [numbers.func, *numbers.args], numbers)
            refused = list(escapes(statement.body))
            if not refused:
                assigned = sorted(stored([*statement.body, target]))
                part = _part("body", body, assigned, statement)
                running = self._running.get(id(statement))
                names = [_names(assigned), _names([n for n in assigned if n in live or n == running])]
                arguments = [numbers, _name(part.name), ast.Constant(target.id), *names, ast.Constant(running)]
                call = _call("for_", arguments, statement.iter)
                return [part, ast.copy_location(ast.Expr(call), statement.iter), *after]
        new = copy.copy(statement)
        new.iter = _plain(numbers, "for", refused[0]) if refused else numbers
        new.body, new.orelse = body, after
        return [new]


def _counted(statement: ast.AugAssign, target: ast.Name) -> ast.stmt:
    """``i += 1`` also where ``i`` is a traced number: a number of Python's cannot change in place either."""
    name = ast.copy_location(_name(target.id), target)
    total = ast.copy_location(ast.BinOp(name, statement.op, copy.deepcopy(statement.value)), statement)
    assign = ast.copy_location(ast.Assign([target], total), statement)
    return ast.copy_location(ast.If(_call("number", [name], name), [assign], [statement]), statement)


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
