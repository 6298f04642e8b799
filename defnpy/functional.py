"""Python's control flow as its user would write it with ``dp.where``, ``dp.cond`` and the loops: text for messages.

Statements are rewritten as text, in the user's own names: an ``if`` becomes the choice between values, or between
functions where a branch has several statements; a loop becomes a function of what it carries. What that is,
:class:`~defnpy.liveness.Liveness` tells. ``break`` and ``continue`` are first said otherwise: by conditions, and by a
boolean that is carried. What cannot be written so, such as an assignment to an element, has no form.
"""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Callable, Collection, Sequence
from types import CodeType
from typing import Literal, TypeGuard

from .jumps import returns_as_jumps, without_jumps
from .liveness import Liveness, escapes, loaded, own_nodes, stored
from .source import definition

__all__ = ["conditional", "elementwise", "flow"]

Kind = Literal["traced", "container", "plain", ""]  # of a variable's value; "" where it has none
Lines = list[str]
Way = tuple[tuple[ast.stmt | None, list[ast.stmt], int], ...]  # how a statement is reached: parents, blocks, numbers
_RUNNING = ("running", "unbroken", "going_on")  # the boolean that stands for break: the first free name


def flow(code: CodeType, line: int, column: int, kind: Callable[[str], Kind], scalar: bool = True) -> str:
    """The ``if``, ``while`` or ``for`` whose condition or range stands at a place in a function, in functional form.

    kind: what a variable holds. scalar: whether the condition is one boolean; one with axes chooses element by element.
    Returns an empty string for what has no such form.
    """
    function = _definition(code)
    if function is None:
        return ""
    returns_as_jumps(function.body)
    found = _reached(function.body, line, column)
    return "\n".join(_Form(function.body, kind, scalar).at(found) or []) if found is not None else ""


def conditional(filename: str, line: int, column: int) -> str:
    """``a if test else b`` whose test stands at a place, as the choice of a value; an empty string if none does."""
    for node in ast.walk(_module(filename)):
        if isinstance(node, ast.IfExp) and _holds(node.test, line, column):
            return f"dp.where({elementwise(node.test)}, {ast.unparse(node.body)}, {ast.unparse(node.orelse)})"
    return ""


# -- where it stands ---------------------------------------------------------------------------------------------------


def _module(filename: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return ast.Module([], [])


def _definition(code: CodeType) -> ast.FunctionDef | None:
    try:
        return definition(code)
    except OSError:
        return None


def _holds(node: ast.expr, line: int, column: int) -> bool:
    if node.lineno != node.end_lineno:
        return node.lineno <= line <= (node.end_lineno or 0)
    return node.lineno == line and (column < 0 or node.col_offset <= column < (node.end_col_offset or 0))


def _reached(
    block: list[ast.stmt], line: int, column: int, way: Way = (), parent: ast.stmt | None = None
) -> Way | None:
    for number, statement in enumerate(block):
        here = (*way, (parent, block, number))
        head: ast.expr | None = None
        if isinstance(statement, (ast.If, ast.While)):
            head = statement.test
        elif isinstance(statement, ast.For):
            head = statement.iter
        if head is not None and _holds(head, line, column):
            return here
        for field in ("body", "orelse", "finalbody"):
            inner = getattr(statement, field, None)
            if isinstance(inner, list) and not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                found = _reached(inner, line, column, here, statement)
                if found is not None:
                    return found
    return None


# -- conditions --------------------------------------------------------------------------------------------------------


class _Elementwise(ast.NodeTransformer):
    """A condition in the operators that work on tensors: & for and, | for or, ~ for not, and no chains."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        operands = [node.left, *node.comparators]
        pairs = [ast.Compare(a, [op], [b]) for a, op, b in zip(operands, node.ops, operands[1:], strict=False)]
        result: ast.expr = pairs[0]
        for pair in pairs[1:]:
            result = ast.BinOp(result, ast.BitAnd(), pair)
        return result

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        operator: ast.operator = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        result: ast.expr = self.visit(node.values[0])
        for value in node.values[1:]:
            result = ast.BinOp(result, operator, self.visit(value))
        return result

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand: ast.expr = self.visit(node.operand)
        if isinstance(node.op, ast.Not) and isinstance(operand, ast.UnaryOp) and isinstance(operand.op, ast.Invert):
            return operand.operand
        return ast.UnaryOp(ast.Invert(), operand) if isinstance(node.op, ast.Not) else ast.UnaryOp(node.op, operand)


def elementwise(test: ast.expr) -> str:
    """A condition as text, in the operators that work on tensors."""
    return ast.unparse(_Elementwise().visit(_copied(test)))


def _copied(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


# -- statements --------------------------------------------------------------------------------------------------------


def _ends(block: list[ast.stmt]) -> bool:
    """Whether a block never runs into what follows it."""
    last = block[-1] if block else None
    return isinstance(last, ast.Return) or (isinstance(last, ast.If) and _ends(last.body) and _ends(last.orelse))


def _returns(parts: Sequence[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Return) for node in own_nodes(parts))


def _ordered(parts: Sequence[ast.stmt], names: Collection[str]) -> list[str]:
    """Names in the order in which they are first assigned."""
    found = [n.id for n in own_nodes(parts) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
    return [name for name in dict.fromkeys(found) if name in names]


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """The name and the value of an assignment to one name."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        return (target.id, statement.value) if isinstance(target, ast.Name) else None
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, ast.BinOp(ast.Name(statement.target.id, ast.Load()), statement.op, statement.value)
    return None


def _values(block: list[ast.stmt]) -> dict[str, str] | None:
    """What a block assigns, where that is all it does and no assignment reads another one."""
    found: dict[str, str] = {}
    for statement in block:
        pairs = _pairs(statement)
        if any(name in found or loaded([value]) & set(found) for name, value in pairs) or not pairs:
            return None
        found |= {name: ast.unparse(value) for name, value in pairs}
    return found


def _pairs(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    """The names and values of an assignment to names, ``a, b = x, y`` among them; none of another statement."""
    pair = _assigned(statement)
    if pair is not None:
        return [pair]
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            names = [name.id for name in target.elts if isinstance(name, ast.Name)]
            if len(names) == len(value.elts):
                return list(zip(names, value.elts, strict=True))
    return []


def _function(name: str, arguments: Sequence[str], body: Lines) -> Lines:
    return [f"def {name}({', '.join(arguments)}):", *textwrap.indent("\n".join(body), "    ").split("\n")]


def _tuple(names: Sequence[str]) -> str:
    return ", ".join(names)


class _State(ast.NodeTransformer):
    """Carried names as parts of one value."""

    def __init__(self, names: Sequence[str], state: str) -> None:
        self._names, self._state = list(names), state

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self._names:
            return node
        return ast.Subscript(ast.Name(self._state, ast.Load()), ast.Constant(self._names.index(node.id)), ast.Load())


class _Form:
    """The statements of one function. Inner conditions that read traced or carried names are rewritten as well."""

    def __init__(self, body: list[ast.stmt], kind: Callable[[str], Kind], scalar: bool) -> None:
        self._live = Liveness(body)
        self._live.block(body, set(self._live.always))
        self._kind = kind
        self._scalar = scalar
        self._carried: set[str] = set()
        used = loaded(body) | stored(body)
        self._running = next((name for name in _RUNNING if name not in used), "")

    def at(self, way: Way) -> Lines | None:
        _, block, number = way[-1]
        statement = block[number]
        if isinstance(statement, ast.If) and any(kind in ("break", "continue") for kind, _ in escapes([statement])):
            while len(way) > 1 and not isinstance(statement, (ast.For, ast.While)):
                way = way[:-1]
                statement = way[-1][1][way[-1][2]]
        live = self._live.after.get(id(statement))
        if live is None:
            return None
        if isinstance(statement, ast.If):
            return self._choice(statement, live, self._rest(way))
        if isinstance(statement, (ast.For, ast.While)):
            return self._loop(statement, live)
        return None

    def _rest(self, way: Way) -> list[ast.stmt] | None:
        """What is computed after a statement until the function returns; None in a loop."""
        rest: list[ast.stmt] = []
        for parent, block, number in reversed(way):
            rest += block[number + 1 :]
            if parent is not None and not isinstance(parent, ast.If):
                return None
        return rest

    def _has(self, name: str) -> bool:
        return name in self._carried or self._kind(name) != ""

    # -- choices --

    def _choice(self, node: ast.If, live: set[str], rest: list[ast.stmt] | None) -> Lines | None:
        """rest: what follows until the function returns, None where that is not known."""
        tests, bodies = [node.test], [node.body]
        while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            node = node.orelse[0]
            tests.append(node.test)
            bodies.append(node.body)
        bodies.append(node.orelse)
        conditions = [elementwise(test) for test in tests]
        returns = _returns([statement for body in bodies for statement in body])
        if returns:
            if rest is None:
                return None
            bodies = [body if _ends(body) else [*body, *rest] for body in bodies]
            if not all(map(_ends, bodies)):
                return None
        parts = [statement for body in bodies for statement in body]
        if any(kind != "return" for kind, _ in escapes(parts)):
            return None
        if returns:
            return self._returned(conditions, bodies) or self._by_functions(conditions, bodies, [])
        names = _ordered(parts, stored(parts) & live)
        if not names or not all(self._has(name) or all(name in stored(body) for body in bodies) for name in names):
            return None
        found = [_values(body) for body in bodies]
        if all(values is not None and set(values) <= set(names) for values in found):
            rows = [[(values or {}).get(name, name) for name in names] for values in found]
            return [f"{_tuple(names)} = {self._among(conditions, rows)}"]
        return self._by_functions(conditions, bodies, names)

    def _returned(self, conditions: list[str], bodies: list[list[ast.stmt]]) -> Lines | None:
        """The choice of branches that do nothing but return a value."""
        values = [body[0].value for body in bodies if len(body) == 1 and isinstance(body[0], ast.Return)]
        rows = [[ast.unparse(value)] for value in values if value is not None]
        return [f"return {self._among(conditions, rows, values)}"] if len(rows) == len(bodies) else None

    def _by_functions(self, conditions: list[str], bodies: list[list[ast.stmt]], names: list[str]) -> Lines | None:
        """The choice between functions of what the branches assign and read; names: their results, if they return none
        themselves."""
        parts = [statement for body in bodies for statement in body]
        if not self._scalar or any(isinstance(n, ast.Return) and n.value is None for n in own_nodes(parts)):
            return None
        read = {name for body in bodies for name in self._live.block(body, set(names)) & stored(parts)}
        operands = _ordered(parts, read)
        if not all(map(self._has, operands)):
            return None
        several = [f"branch_{number}" for number in range(1, len(bodies))]
        functions = [*(several if len(several) > 1 else ["then"]), "otherwise"]
        lines: Lines = []
        for name, body in zip(functions, bodies, strict=True):
            written = self._block(body, set(names))
            if written is None:
                return None
            lines += _function(name, operands, [*written, *([f"return {_tuple(names)}"] if names else [])])
        pairs = [f"({c}, {f})" for c, f in zip(conditions, functions, strict=False)]
        chosen = f"[{', '.join(pairs)}]" if len(pairs) > 1 else f"{conditions[0]}, {functions[0]}"
        call = f"dp.cond({', '.join([chosen, functions[-1], *operands])})"
        return [*lines, f"{_tuple(names)} = {call}" if names else f"return {call}"]

    def _among(self, conditions: list[str], rows: list[list[str]], nodes: Sequence[ast.expr | None] = ()) -> str:
        """The choice between rows of values: of one value each with dp.where, of several with dp.cond."""
        displays = any(isinstance(node, (ast.Tuple, ast.Dict, ast.List)) for node in nodes)
        containers = displays or any(self._kind(text) == "container" for row in rows for text in row)
        if self._scalar and (containers or len(rows[0]) > 1):
            functions = [f"lambda: ({', '.join(row)})" if len(row) > 1 else f"lambda: {row[0]}" for row in rows]
            if len(conditions) == 1:
                return f"dp.cond({conditions[0]}, {', '.join(functions)})"
            pairs = ", ".join(f"({c}, {f})" for c, f in zip(conditions, functions, strict=False))
            return f"dp.cond([{pairs}], {functions[-1]})"
        made = []
        for column in zip(*rows, strict=True):
            text = column[-1]
            for condition, value in reversed(list(zip(conditions, column, strict=False))):
                text = f"dp.where({condition}, {value}, {text})"
            made.append(text)
        return ", ".join(made)

    # -- loops --

    def _block(self, body: list[ast.stmt], live: set[str]) -> Lines | None:
        """Statements as text; what depends on traced values in functional form, too."""
        lines: Lines = []
        for number, statement in enumerate(body):
            if isinstance(statement, ast.If) and self._is_traced(statement.test) and _returns([statement]):
                last = self._choice(statement, live, body[number + 1 :])
                before = self._block(body[:number], loaded(body[number:]))
                return None if last is None or before is None else [*before, *last]
        for statement in reversed(body):
            written = self._statement(statement, live)
            if written is None:
                return None
            lines, live = [*written, *lines], self._live.before(statement, live)
        return lines

    def _statement(self, statement: ast.stmt, live: set[str]) -> Lines | None:
        if isinstance(statement, ast.If) and self._is_traced(statement.test):
            return self._choice(statement, live, None)
        if isinstance(statement, (ast.For, ast.While)):
            if self._is_traced(statement.test if isinstance(statement, ast.While) else statement.iter):
                return self._loop(statement, live)
        pair = _assigned(statement)
        if pair is None:
            return ast.unparse(statement).split("\n")
        value = elementwise(pair[1]) if pair[0] == self._running else ast.unparse(pair[1])
        return [f"{pair[0]} = {value}"]

    def _is_traced(self, value: ast.expr) -> bool:
        return any(name in self._carried or self._kind(name) == "traced" for name in loaded([value]))

    def _loop(self, node: ast.For | ast.While, live: set[str]) -> Lines | None:
        target = counter = ""
        bounds: list[str] = []
        if isinstance(node, ast.For):
            if not _is_range(node.iter) or not isinstance(node.target, ast.Name) or node.target.id in live:
                return None
            target = node.target.id
            counter = "count" if target == "_" else target  # what a condition reads has a name
            bounds = [ast.unparse(bound) for bound in node.iter.args]
            bounds = bounds if len(bounds) == 2 else ["0", *bounds]
        test = node.test if isinstance(node, ast.While) else ast.parse(f"{counter} < {bounds[1]}", mode="eval").body
        changed = without_jumps(test, node.body, self._running)
        if changed is None or node.orelse or any(True for _ in escapes(changed.body)):
            return None
        before: Lines = []
        body, counted = changed.body, bool(counter) and changed.test is test
        if counter and not counted:
            before.append(f"{counter} = {bounds[0]}")
            body = [*body, *ast.parse(f"{counter} = {counter} + 1").body]
        if changed.flagged:
            before.append(f"{self._running} = True")
        live = self._live.head(ast.While(changed.test, body, []), live)
        names = [n for n in _ordered(body, stored(body) & live) if not (counted and n == target)]
        outer = self._carried
        known = {counter} if counted else {counter, self._running}
        if not names or not all(self._has(name) or name in known for name in names):
            return None
        self._carried = outer | stored(body) | {counter}
        written = self._block(body, set(names) | loaded([changed.test]))
        self._carried = outer
        if written is None:
            return None
        repeated = self._repeated(names, changed.test, body, written, (target, bounds) if counted else None)
        return [*before, *repeated]

    @staticmethod
    def _repeated(
        names: list[str], test: ast.expr, body: list[ast.stmt], written: Lines, counted: tuple[str, list[str]] | None
    ) -> Lines:
        state = names[0] if len(names) == 1 else "state" if "state" not in loaded([test, *body]) else "carry"
        lines: Lines = []
        only = _assigned(body[0]) if len(names) == len(body) == 1 else None
        arguments = [counted[0], state] if counted else [state]
        if only is not None:
            step = f"lambda {', '.join(arguments)}: {ast.unparse(only[1])}"
        else:
            step = "body"
            unpacked = [] if len(names) == 1 else [f"{_tuple(names)} = {state}"]
            lines = _function("body", arguments, [*unpacked, *written, f"return {_tuple(names)}"])
        first = names[0] if len(names) == 1 else f"({_tuple(names)})"
        if counted:
            loop = f"dp.fori_loop({', '.join(counted[1])}, {step}, {first})"
        else:
            asked = _copied(test)
            if len(names) > 1:
                asked = _State(names, state).visit(asked)
            loop = f"dp.while_loop(lambda {state}: {elementwise(asked)}, {step}, {first})"
        return [*lines, f"{_tuple(names)} = {loop}"]


def _is_range(value: ast.expr) -> TypeGuard[ast.Call]:
    if not isinstance(value, ast.Call) or value.keywords or len(value.args) not in (1, 2):
        return False
    return ast.unparse(value.func) == "range"
