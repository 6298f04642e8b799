"""Operators and methods, filled in once for tensors and traced values alike; and what a traced value refuses."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import ImmutableError, TraceError
from ..ir.expr import Expr, Value
from ..ir.trace import function
from ..ops import elementwise as e
from ..ops import linear, logic, reduce
from ..source import capture, quote, variable
from . import indexing, manipulation, products, statistics

__all__ = ["fill"]

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": e.add,
    "sub": e.subtract,
    "mul": e.multiply,
    "truediv": e.divide,
    "floordiv": e.floor_divide,
    "mod": e.remainder,
    "pow": e.pow_,
    "matmul": products.matmul,
    "and": logic.bitwise_and,
    "or": logic.bitwise_or,
    "xor": logic.bitwise_xor,
    "lshift": logic.bitwise_left_shift,
    "rshift": logic.bitwise_right_shift,
}
_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")  # of the Array API standard, each a part of the next
_COMPARISONS = {
    "eq": logic.equal,
    "ne": logic.not_equal,
    "lt": logic.less,
    "le": logic.less_equal,
    "gt": logic.greater,
    "ge": logic.greater_equal,
}
_SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip


def _methods() -> dict[str, Any]:
    def T(self: Any) -> Any:
        """The axes in reverse order."""
        return manipulation.transpose(self)

    def mT(self: Any) -> Any:
        """The last two axes swapped."""
        return manipulation.matrix_transpose(self)

    def at(self: Any) -> indexing.At:
        """The place of a functional update: ``x.at[i].set(v)``, ``x.at[i].add(v)``."""
        return indexing.At(self)

    def astype(self: Any, dtype: Any) -> Any:
        """The tensor converted to ``dtype``."""
        return manipulation.astype(self, dtype)

    def reshape(self: Any, *shape: Any) -> Any:
        """The elements in another shape, given as ints or as one sequence."""
        return linear.reshape(self, shape=shape[0] if len(shape) == 1 else shape)

    def transpose(self: Any, *axes: Any) -> Any:
        """The axes in another order, by default reversed."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return manipulation.transpose(self, order or None)

    def squeeze(self: Any, axis: Any = None) -> Any:
        """Without axes of size 1."""
        return manipulation.squeeze(self, axis)

    def ravel(self: Any) -> Any:
        """All elements in one axis."""
        return manipulation.ravel(self)

    def dot(self: Any, other: Any) -> Any:
        """NumPy's ``dot``."""
        return products.dot(self, other)

    def clip(self: Any, min: Any = None, max: Any = None) -> Any:
        """Limited to [min, max]."""
        return statistics.clip(self, min, max)

    def round(self: Any) -> Any:
        """Rounded to the nearest integer, halves to the even one."""
        return e.round_(self)

    methods: dict[str, Any] = {"T": property(T), "mT": property(mT), "at": property(at)}
    methods |= {f.__name__: f for f in (astype, reshape, transpose, squeeze, ravel, dot, clip, round)}
    for operation in (
        linear.sum_, statistics.mean, statistics.var, statistics.std, reduce.max_, reduce.min_, reduce.prod_,
        reduce.any_, reduce.all_, reduce.argmax, reduce.argmin,
    ):  # fmt: skip
        methods[operation.__name__] = _reduction(operation)
    return methods


def _reduction(operation: Any) -> Any:
    def method(self: Any, axis: Any = None, **options: Any) -> Any:
        return operation(self, axis=axis, **options)

    method.__name__ = operation.__name__
    method.__doc__ = operation.__doc__
    return method


def _binary(operation: Any) -> tuple[Any, Any]:
    def forward(self: Any, other: Any) -> Any:
        return operation(self, other)

    def reflected(self: Any, other: Any) -> Any:
        return operation(other, self)

    return forward, reflected


def _in_place(symbol: str) -> Any:
    def refuse(self: Any, other: Any) -> NoReturn:
        raise ImmutableError(
            f"a tensor cannot change: {symbol}= is refused",
            where=quote(capture()),
            hint=f"make a new value: {_rewritten() or f'x = x {symbol} y'}",
        )

    return refuse


def _setitem(self: Any, index: Any, value: Any) -> NoReturn:
    raise ImmutableError(
        "a tensor cannot change: assignment to an element is refused",
        where=quote(capture()),
        hint=f"make a changed copy: {_rewritten() or 'x = x.at[i].set(v)'}",
    )


def _delitem(self: Any, index: Any) -> NoReturn:
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


@function
def index(x: Any, place: Any, /) -> Any:
    """``x[place]``."""
    return indexing.getitem(x, place)


def _subscript(self: Any, place: Any) -> Any:
    return index(self, place)


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
        return f"choose between values: dp.where({condition}, value_if_true, value_if_false), {_REWRITE}"
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
        return f"{names[0]} = dp.while_loop(lambda {names[0]}: {ast.unparse(test)}, body, {names[0]})"
    return "state = dp.while_loop(lambda state: condition, body, state)"


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
    return _expr_repr(self)


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
    return f"repeat on values: state = dp.fori_loop({counted}, lambda {node.target.id}, state: ..., state), {_REWRITE}"


_REFUSED_BY_EXPR: dict[str, Any] = {
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


def _expr_repr(self: Any) -> str:
    return f"<traced {self.aval}>"


def fill(namespace: Any) -> None:
    """Put the operators and methods on values; ``namespace`` is what ``__array_namespace__`` answers."""
    _public[:] = [namespace]

    def array_namespace(self: Any, /, *, api_version: str | None = None) -> Any:
        if api_version not in (None, *_VERSIONS):
            raise ValueError(f"unknown version {api_version!r} of the Array API standard: ask for {_VERSIONS[-1]!r}")
        return namespace

    put = _put
    for name, operation in _BINARY.items():
        forward, reflected = _binary(operation)
        put(Value, f"__{name}__", forward)
        put(Value, f"__r{name}__", reflected)
        put(Value, f"__i{name}__", _in_place(_SYMBOLS[name]))
    for name, operation in _COMPARISONS.items():
        put(Value, f"__{name}__", _binary(operation)[0])
    for name, unary in {"neg": e.negative, "abs": e.abs_, "invert": logic.bitwise_invert}.items():
        put(Value, f"__{name}__", _unary(unary))
    put(Value, "__pos__", lambda self: self)
    put(Value, "__round__", _round)
    put(Value, "__divmod__", lambda self, other: (e.floor_divide(self, other), e.remainder(self, other)))
    put(Value, "__rdivmod__", lambda self, other: (e.floor_divide(other, self), e.remainder(other, self)))
    put(Value, "__hash__", object.__hash__)
    put(Value, "__getitem__", _subscript)
    put(Value, "__setitem__", _setitem)
    put(Value, "__delitem__", _delitem)
    put(Value, "__array_namespace__", array_namespace)
    for name, method in _methods().items():
        put(Value, name, method)
    for name, method in _REFUSED_BY_EXPR.items():
        put(Expr, name, method)
    put(Expr, "__repr__", _expr_repr)


def _round(self: Any, digits: int = 0) -> Any:
    return e.round_(self) if digits == 0 else e.round_(self * 10.0**digits) / 10.0**digits


def _unary(operation: Any) -> Any:
    return lambda self: operation(self)


def _put(cls: type, name: str, method: Any) -> None:
    setattr(cls, name, method)
