"""What a tensor refuses because it never changes, and a traced value because its elements are not known: each error
with the user's own line in the form that works."""

from __future__ import annotations

import ast
import itertools
import linecache
import textwrap
from typing import Any, NoReturn

from ..errors import ImmutableError, TraceError
from ..ir.expr import Expr, Value
from ..source import capture, quote, variable

__all__ = ["REFUSED_BY_EXPR", "delitem", "expr_repr", "in_place", "setitem", "speak_of"]


def in_place(symbol: str) -> Any:
    def refuse(self: Any, other: Any) -> NoReturn:
        raise ImmutableError(
            f"a tensor cannot change: {symbol}= is refused",
            where=quote(capture()),
            hint=f"make a new value: {_rewritten() or f'x = x {symbol} y'}",
        )

    return refuse


def setitem(self: Any, index: Any, value: Any) -> NoReturn:
    raise ImmutableError(
        "a tensor cannot change: assignment to an element is refused",
        where=quote(capture()),
        hint=f"make a changed copy: {_rewritten() or 'x = x.at[i].set(v)'}",
    )


def delitem(self: Any, index: Any) -> NoReturn:
    raise ImmutableError(
        "a tensor cannot change: its elements cannot be deleted",
        where=quote(capture()),
        hint="keep the others: x = dp.concat([x[:i], x[i + 1:]])",
    )


def _rewritten() -> str:
    """The user's own assignment in its functional form, or nothing when the line cannot be read."""
    location = capture()
    if location is None:
        return ""
    try:
        statement = ast.parse(location.position.text).body[0]
    except (SyntaxError, IndexError):
        return ""
    if isinstance(statement, ast.AugAssign):
        target = statement.target
        if isinstance(target, ast.Subscript) and _holds_elements(target):
            if isinstance(statement.op, (ast.Add, ast.Sub)):
                value = ast.unparse(statement.value)
                return f"{_at(target)}.add({value if isinstance(statement.op, ast.Add) else f'-({value})'})"
            return f"{_at(target)}.set({ast.unparse(ast.BinOp(target, statement.op, statement.value))})"
        return f"{ast.unparse(target)} = {ast.unparse(ast.BinOp(target, statement.op, statement.value))}"
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        return f"{_at(statement.targets[0])}.set({ast.unparse(statement.value)})"
    return ""


def _at(place: ast.Subscript) -> str:
    """``x = x.at[i]`` for the place ``x[i]``."""
    name = ast.unparse(place.value)
    parts = place.slice.elts if isinstance(place.slice, ast.Tuple) else [place.slice]
    return f"{name} = {name}.at[{', '.join(ast.unparse(part) for part in parts)}]"


def _holds_elements(place: ast.Subscript) -> bool:
    """Whether ``x[i]`` is a part of a tensor, and not a tensor in a dict or a list."""
    if isinstance(place.value, ast.Name):
        return isinstance(variable(place.value.id), Value)
    return not (isinstance(place.slice, ast.Constant) and isinstance(place.slice.value, str))


def _refuse(what: str, hint: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise TraceError(f"{what} of a traced value {self.aval}", where=quote(capture()), hint=hint)

    return method


def _bool(self: Any) -> NoReturn:
    raise TraceError(
        f"the truth of a traced value {self.aval} is not known while tracing",
        where=quote(capture()),
        hint=_condition_hint(self),
    )


_REWRITE = 'or decorate the function by @dp.defn(control_flow="python")'
_CHOOSE = "choose between values with dp.where(condition, x, y)"


def _condition_hint(value: Expr) -> str:
    location = capture()
    text = location.position.text if location is not None else ""
    if not text:  # typed at a prompt: nobody kept the line, but the graph knows what was asked
        condition = _formula(value)
        return f"choose between values: dp.where({condition}, value_if_true, value_if_false)" if condition else _CHOOSE
    chain = _expression()
    if isinstance(chain, ast.Compare) and len(chain.ops) > 1:
        return f"compare one pair at a time: {ast.unparse(_Elementwise().visit(chain))}"
    node = _statement(text)
    if node is None:
        return _CHOOSE
    tests = [n.test for n in ast.walk(node) if isinstance(n, (ast.If, ast.While, ast.IfExp, ast.Assert))]
    if isinstance(node, ast.If) or any(isinstance(n, ast.IfExp) for n in ast.walk(node)):
        condition = ast.unparse(_Elementwise().visit(tests[0]))
        name, chosen = _chosen(_block())
        return f"choose between values: {name}dp.where({condition}, {chosen}), {_REWRITE}"
    if isinstance(node, ast.While):
        return f"repeat on values: {_while_form(_Elementwise().visit(node.test))}, {_REWRITE}"
    operators = [type(n.op) for n in ast.walk(node) if isinstance(n, ast.BoolOp)]
    if operators:
        symbol = "&" if operators[0] is ast.And else "|"
        return f"combine conditions with {symbol}: (a) {symbol} (b)"
    if any(isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not) for n in ast.walk(node)):
        return "negate with ~condition"
    return _CHOOSE


_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<=", "equal": "==", "not_equal": "!=",
    "logical_and": "&", "logical_or": "|", "bitwise_and": "&", "bitwise_or": "|",
}  # fmt: skip


def _formula(node: Expr, levels: int = 3) -> str:
    """What a traced value is, in the user's terms; empty where that takes more than so many levels of operations."""
    name = node.op.name
    if name == "parameter":
        name = node.trace.names[node.kwargs["index"]]
        return "" if name.startswith("captured") else name
    if name == "constant":
        return str(node.kwargs["value"].value)
    parts = [_formula(arg, levels - 1) for arg in node.args] if levels else []
    if not parts or not all(parts):
        return ""
    if name in _SIGNS and len(parts) == 2:
        nested = [f"({p})" if arg.op.name in _SIGNS else p for p, arg in zip(parts, node.args, strict=True)]
        return f"{nested[0]} {_SIGNS[name]} {nested[1]}"
    whole = node.op.family == "reduction" and node.ndim == 0
    return f"dp.{name}({parts[0]})" if len(parts) == 1 and (whole or not node.params) else ""


def _while_form(test: ast.expr) -> str:
    """The loop over what a condition reads, in functional form."""
    called = {id(n.func) for n in ast.walk(test) if isinstance(n, ast.Call)}
    attributes = {id(n.value) for n in ast.walk(test) if isinstance(n, ast.Attribute) and id(n) in called}
    read = [n.id for n in ast.walk(test) if isinstance(n, ast.Name) and id(n) not in called | attributes]
    names = list(dict.fromkeys(read))
    if len(names) == 1:
        name, value = _assigned(getattr(_block(), "body", []))
        body = f"lambda {name}: {value}" if name == names[0] else "body"
        return f"{names[0]} = dp.while_loop(lambda {names[0]}: {ast.unparse(test)}, {body}, {names[0]})"
    return "state = dp.while_loop(lambda state: condition, body, state)"


def _block() -> ast.stmt | None:
    """The statement at fault with its body, or None when it cannot be read."""
    location = capture()
    if location is None:
        return None
    lines = linecache.getlines(location.position.filename)[location.position.line - 1 :]
    if not lines or lines[0].lstrip().startswith("elif"):
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())

    def inside(line: str) -> bool:
        text = line.lstrip()
        deeper = len(line) - len(text) - indent
        return not text or deeper > 0 or (deeper == 0 and text.startswith(("elif ", "else:")))

    try:
        return ast.parse(textwrap.dedent("".join([lines[0], *itertools.takewhile(inside, lines[1:])]))).body[0]
    except (SyntaxError, IndexError):
        return None


def _assigned(body: list[ast.stmt]) -> tuple[str, str]:
    """The name and the value of a body that is one assignment to a name, else two empty strings."""
    if len(body) == 1:
        only = body[0]
        if isinstance(only, ast.Assign) and len(only.targets) == 1 and isinstance(only.targets[0], ast.Name):
            return only.targets[0].id, ast.unparse(only.value)
        if isinstance(only, ast.AugAssign) and isinstance(only.target, ast.Name):
            read = ast.Name(only.target.id)
            return only.target.id, ast.unparse(ast.BinOp(read, only.op, only.value))
    return "", ""


def _chosen(node: ast.stmt | None) -> tuple[str, str]:
    """``y = `` and the two values of an if that does nothing but choose what y is; else names for them."""
    if isinstance(node, ast.If):
        (name, true), (other, false) = _assigned(node.body), _assigned(node.orelse)
        if name and (name == other or not node.orelse):
            return f"{name} = ", f"{true}, {false or name}"
    return "", "value_if_true, value_if_false"


def _statement(text: str) -> ast.stmt | None:
    """The statement that a line of a function begins, or None when the line does not stand alone."""
    text = text.removeprefix("el") if text.startswith("elif") else text
    for body in (text, f"{text} pass"):
        try:
            function = ast.parse(f"def f():\n {body}").body[0]
        except SyntaxError:
            continue
        assert isinstance(function, ast.FunctionDef)
        return function.body[0]
    return None


def _expression() -> ast.expr | None:
    """The expression at fault, or None when it cannot be read."""
    location = capture()
    try:
        return ast.parse(location.position.expression, mode="eval").body if location is not None else None
    except SyntaxError:
        return None


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
        result = self.visit(node.values[0])
        for value in node.values[1:]:
            result = ast.BinOp(result, operator, self.visit(value))
        return result

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        operand = self.visit(node.operand)
        return ast.UnaryOp(ast.Invert(), operand) if isinstance(node.op, ast.Not) else ast.UnaryOp(node.op, operand)


def _format(self: Any, specification: str) -> str:
    if specification:
        raise TraceError(
            f"a traced value {self.aval} has no number to format as {specification!r}",
            where=quote(capture()),
            hint="print it when the program runs: dp.print_value(x, label=...)",
        )
    return expr_repr(self)


def _len(self: Any) -> int:
    if not self.shape:
        raise TraceError(
            f"len() of a traced 0-d value {self.aval}",
            where=quote(capture()),
            hint="a 0-d value has no length; use x.size",
        )
    return int(self.shape[0])


def _iterate(self: Any) -> NoReturn:
    if not self.shape:
        what, hint = "a traced 0-d value has nothing to iterate over", "use the value itself"
    else:
        what = f"a traced value {self.aval} cannot be iterated over"
        hint = f"compute on all rows at once, or index with a Python range: [x[i] for i in range({self.shape[0]})]"
    raise TraceError(what, where=quote(capture()), hint=hint)


def _numpy_function(self: Any, called: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
    raise TraceError(
        f"np.{called.__name__} cannot take a traced value {self.aval}",
        where=quote(capture()),
        hint=_instead(called.__name__) or f"compute np.{called.__name__} outside, or of functions that defnpy has",
    )


def _numpy_array(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise TraceError(
        f"NumPy asks for the elements of a traced value {self.aval}",
        where=quote(capture()),
        hint=_instead(_called_of("numpy")) or "use defnpy's functions: dp.exp(x) instead of np.exp(x)",
    )


def _float(self: Any) -> NoReturn:
    raise TraceError(
        f"float() of a traced value {self.aval}",
        where=quote(capture()),
        hint=_instead(_called_of("math")) or _NUMBER,
    )


# What NumPy calls otherwise than the Array API standard.
_RENAMED = {
    "absolute": "abs", "amax": "max", "amin": "min", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "array": "asarray",
    "bitwise_not": "bitwise_invert", "concatenate": "concat", "cumprod": "cumulative_prod", "cumsum": "cumulative_sum",
    "fabs": "abs", "invert": "bitwise_invert", "left_shift": "bitwise_left_shift", "mod": "remainder", "power": "pow",
    "right_shift": "bitwise_right_shift", "true_divide": "divide",
}  # fmt: skip
_public: list[Any] = []  # the public namespace, once it exists


def speak_of(namespace: Any) -> None:
    """The namespace whose functions the hints name."""
    _public[:] = [namespace]


def _called_of(module: str) -> str:
    """The name of the function of a module that the expression at fault calls, or an empty string."""
    node = _expression()
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        owner = variable(function.value.id)
        return function.attr if getattr(owner, "__name__", None) == module else ""
    return ""


def _instead(name: str) -> str:
    """The way out of a call of NumPy's or Python's function of that name, or an empty string when there is none."""
    own = _RENAMED.get(name, name)
    if not name or not callable(getattr(_public[0], own, None)):
        return ""
    node = _expression()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
        before = ast.unparse(node)
        node.func = ast.Attribute(ast.Name("dp"), own)
        return f"use defnpy's function: {ast.unparse(node)} instead of {before}"
    return f"use defnpy's function: dp.{own}(...)"


_NUMBER = (
    "the number is not known while tracing: keep it a tensor, return it and convert outside, "
    "or pass it as a keyword-only argument"
)


def _number(name: str) -> Any:
    return _refuse(f"{name}()", _NUMBER)


def _index(self: Any) -> NoReturn:
    raise TraceError(f"int() of a traced value {self.aval}", where=quote(capture()), hint=_range_hint() or _NUMBER)


def _range_hint() -> str:
    """The loop of a line ``for i in range(n):`` in functional form."""
    location = capture()
    node = _statement(location.position.text) if location is not None else None
    if not (isinstance(node, ast.For) and isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Call)):
        return ""
    bounds = [ast.unparse(bound) for bound in node.iter.args]
    if ast.unparse(node.iter.func) != "range" or len(bounds) > 2:
        return ""
    counted = ", ".join(bounds if len(bounds) == 2 else ["0", *bounds])
    name, value = _assigned(getattr(_block(), "body", []))
    state, body = (name, value) if name else ("state", "...")
    loop = f"{state} = dp.fori_loop({counted}, lambda {node.target.id}, {state}: {body}, {state})"
    return f"repeat on values: {loop}, {_REWRITE}"


REFUSED_BY_EXPR: dict[str, Any] = {
    "__bool__": _bool,
    "__int__": _number("int"),
    "__float__": _float,
    "__complex__": _number("complex"),
    "__index__": _index,
    "item": _number("item"),
    "tolist": _number("tolist"),
    "__format__": _format,
    "__contains__": _refuse("``in`` asks for the elements", "compare them all: dp.any(x == value)"),
    "__len__": _len,
    "__iter__": _iterate,
    "__array__": _numpy_array,
    "__array_function__": _numpy_function,
    "__dlpack__": _refuse("DLPack asks for the elements", "return the value and convert it outside"),
}


def expr_repr(self: Any) -> str:
    return f"<traced {self.aval}>"
