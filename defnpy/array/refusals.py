"""What a tensor refuses because it never changes, and a traced value because its elements are not known: each error
with the user's own line in the form that works."""

from __future__ import annotations

import ast
import textwrap
from typing import Any, NoReturn

from ..dtypes import bool_
from ..errors import ImmutableError, TraceError
from ..functional import Kind, conditional, elementwise, flow
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
    if location is None or not text:  # typed at a prompt: nobody kept the line, but the graph knows what was asked
        condition = _formula(value)
        return f"choose between values: dp.where({condition}, value_if_true, value_if_false)" if condition else _CHOOSE
    place = location.position
    form = flow(location.code, place.line, place.column, _kind, not value.shape)
    if form:
        return _advice(form)
    expression = _expression()
    if isinstance(expression, ast.Compare) and len(expression.ops) > 1:
        return f"compare one pair at a time: {elementwise(expression)}"
    chosen = conditional(place.filename, place.line, place.column)
    if chosen:
        return f"choose between values: {chosen}, {_REWRITE}"
    node = _statement(text)
    if isinstance(node, ast.Assert):
        return "a traced function cannot stop: return the condition, and assert it of the result"
    if isinstance(node, ast.If):
        condition = elementwise(node.test)
        return f"choose between values: dp.where({condition}, value_if_true, value_if_false), {_REWRITE}"
    if isinstance(node, ast.While):
        return f"repeat on values: state = dp.while_loop(lambda state: condition, body, state), {_REWRITE}"
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.BoolOp):
            symbol = "&" if isinstance(part.op, ast.And) else "|"
            return f"combine conditions with {symbol}: {elementwise(part)}"
        if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not):
            operand = ast.unparse(part.operand)
            return f"negate with ~: {elementwise(part)}" if value.dtype == bool_ else f"compare with 0: {operand} == 0"
    return _CHOOSE


def _kind(name: str) -> Kind:
    """What a variable of the user's holds."""
    value = variable(name)
    if isinstance(value, Expr):
        return "traced"
    return "" if value is None else "container" if isinstance(value, (dict, list, tuple)) else "plain"


def _advice(form: str) -> str:
    """Control flow in functional form, as a hint."""
    repeats = "dp.while_loop(" in form or "dp.fori_loop(" in form
    what = "repeat on values" if repeats else "choose between values"
    if "\n" not in form:
        return f"{what}: {form}, {_REWRITE}"
    return f"{what}, {_REWRITE}:\n{textwrap.indent(form, '    ')}"


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
        hint=_instead(_called_of("numpy")) or _taken() or "use defnpy's functions: dp.exp(x) instead of np.exp(x)",
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
    taken = _taken()
    choice = taken and f"{taken}; of functions, call dp.switch(index, functions, *operands)"
    hint = _range_hint() or choice or _NUMBER
    raise TraceError(f"int() of a traced value {self.aval}", where=quote(capture()), hint=hint)


def _taken() -> str:
    """The way out where an array or a list is asked for the element at a traced position, or an empty string."""
    node = _expression()
    if not isinstance(node, ast.Subscript):
        return ""
    node.value = ast.Call(ast.Attribute(ast.Name("dp"), "asarray"), [node.value], [])
    return f"take it from a tensor: {ast.unparse(node)}"


def _range_hint() -> str:
    """The loop of a line ``for i in range(n):`` in functional form."""
    location = capture()
    if location is None:
        return ""
    place = location.position
    form = flow(location.code, place.line, place.column, _kind)
    return _advice(form) if form else ""


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
