"""The scalar dialect as LLVM instructions: templates of ops and functions of :mod:`mathematics`, one value at a time.

A number takes the dtype of the operand that it meets. Both sides of ``a if c else b`` are computed and one is selected,
so that everything printed here is free of branches and LLVM can vectorize the loop around it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import operator
import struct
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dtypes import DType
from ...ir.op import Op
from . import mathematics

__all__ = ["Instructions", "Operand", "Value", "literal", "llvm_type"]

BOOL, I32, I64 = (np.dtype(name) for name in ("bool", "int32", "int64"))
_FLOATS = {4: "float", 8: "double"}


@dataclass(frozen=True)
class Value:
    """An LLVM value (``%t3`` or a number) of a dtype."""

    text: str
    dtype: DType


Operand = Value | int | float  # a Python number has no dtype yet


def llvm_type(dtype: DType) -> str:
    """A dtype in registers; a bool is one bit."""
    if dtype.kind == "b":
        return "i1"
    return _FLOATS[dtype.itemsize] if dtype.kind == "f" else f"i{8 * dtype.itemsize}"


def literal(value: Any, dtype: DType) -> Value:
    """A number as an LLVM constant. Floats are printed as the bits of a double, which holds them exactly."""
    if dtype.kind == "b":
        return Value("true" if value else "false", dtype)
    if dtype.kind != "f":
        return Value(str(int(value)), dtype)
    with np.errstate(over="ignore"):
        wide = float(dtype.type(value))
    return Value(f"0x{struct.unpack('>Q', struct.pack('>d', wide))[0]:016X}", dtype)


_COMPARE = {
    ast.Eq: ("oeq", "eq", "eq"),
    ast.NotEq: ("une", "ne", "ne"),
    ast.Lt: ("olt", "slt", "ult"),
    ast.LtE: ("ole", "sle", "ule"),
    ast.Gt: ("ogt", "sgt", "ugt"),
    ast.GtE: ("oge", "sge", "uge"),
}
_FLOAT = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_WHOLE = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor", ast.LShift: "shl",
}  # fmt: skip
_PYTHON: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_INTRINSICS = {"sqrt", "floor", "ceil", "trunc", "rint", "fma", "copysign"}
_INTEGERS = {"quotient", "rest", "ushr", "rotate", "invert"}
_BUILT_IN = {*_INTRINSICS, *_INTEGERS, "abs", "as_int", "as_float", "fmod", "likely"}
_LONG = {"threefry2x32"}  # functions of many instructions, of integers alone, which hold LLVM up in a loop
_CASTS = {name: np.dtype(name) for name in "float32 float64 int32 int64 uint32 uint64".split()}


@dataclass
class Instructions:
    """Straight-line code under construction: every method appends to ``lines`` and returns the value.

    symbol: what the names of functions begin with. inline: whether long ones of the dialect are written out, so that
    LLVM can vectorize the loop around them; else they are called.
    """

    symbol: str = ""
    inline: bool = True
    functions: dict[str, str] = field(default_factory=dict)  # those that are called, by name
    declarations: dict[str, None] = field(default_factory=dict)  # of intrinsics
    lines: list[str] = field(default_factory=list)
    count: int = 0
    hopeful: bool = False  # takes for granted what the dialect calls likely, and notes in %doubt where it is not so
    doubts: bool = False  # whether there was anything likely

    def emit(self, text: str, dtype: DType) -> Value:
        """A new value."""
        self.count += 1
        self.lines.append(f"  %t{self.count} = {text}")
        return Value(f"%t{self.count}", dtype)

    # -- what the dialect is made of -----------------------------------------------------------------------------

    def op(self, op: Op, args: Sequence[Value], dtype: DType, params: dict[str, Any]) -> Value:
        """One element of ``op``, of ``dtype``."""
        if op.name == "astype":
            return self.cast(args[0], dtype)
        tree = _template(op, tuple(sorted(params.items())))
        walker = _Walker(self, dict(zip(op.array_names, args, strict=True)), args[-1].dtype)
        return self.cast(walker.typed(walker.visit(tree)), dtype)

    def binary(self, kind: type[ast.operator], a: Value, b: Value) -> Value:
        """Arithmetic on two values of one dtype."""
        t = llvm_type(a.dtype)
        if kind is ast.RShift:
            name = "lshr" if a.dtype.kind == "u" else "ashr"
        else:
            name = (_FLOAT if a.dtype.kind == "f" else _WHOLE)[kind]
        return self.emit(f"{name} {t} {a.text}, {b.text}", a.dtype)

    def compare(self, kind: type[ast.cmpop], a: Value, b: Value) -> Value:
        """A comparison; with NaN only ``!=`` holds."""
        names = _COMPARE[kind]
        if a.dtype.kind == "f":
            return self.emit(f"fcmp {names[0]} {llvm_type(a.dtype)} {a.text}, {b.text}", BOOL)
        return self.emit(f"icmp {names[1 if a.dtype.kind == 'i' else 2]} {llvm_type(a.dtype)} {a.text}, {b.text}", BOOL)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """``a if condition else b``."""
        t = llvm_type(a.dtype)
        return self.emit(f"select i1 {condition.text}, {t} {a.text}, {t} {b.text}", a.dtype)

    def both(self, name: str, a: Value, b: Value) -> Value:
        """``a and b`` or ``a or b``."""
        return self.emit(f"{name} i1 {a.text}, {b.text}", BOOL)

    def negative(self, a: Value) -> Value:
        """``-a``."""
        t = llvm_type(a.dtype)
        return self.emit(f"fneg {t} {a.text}" if a.dtype.kind == "f" else f"sub {t} 0, {a.text}", a.dtype)

    def invert(self, a: Value) -> Value:
        """``not a`` of a bool, ``~a`` of an integer."""
        ones = "true" if a.dtype.kind == "b" else "-1"
        return self.emit(f"xor {llvm_type(a.dtype)} {a.text}, {ones}", a.dtype)

    def cast(self, a: Value, dtype: DType) -> Value:
        """Conversion as NumPy does it: floats are cut towards zero, small integers wrap."""
        if a.dtype == dtype:
            return a
        source, target = llvm_type(a.dtype), llvm_type(dtype)
        if dtype.kind == "b":
            return self.compare(ast.NotEq, a, literal(0, a.dtype))
        if a.dtype.kind == "f" and dtype.kind == "f":
            name = "fpext" if dtype.itemsize > a.dtype.itemsize else "fptrunc"
            return self.emit(f"{name} {source} {a.text} to {target}", dtype)
        if a.dtype.kind == "f":
            # Out of range the instruction has no defined value; frozen, it is at least some value.
            wide = dtype if dtype.itemsize == 8 else I64 if dtype == np.dtype("uint32") else I32
            name = "fptoui" if wide.kind == "u" else "fptosi"
            cut = self.emit(f"{name} {source} {a.text} to {llvm_type(wide)}", wide)
            return self.cast(self.emit(f"freeze {llvm_type(wide)} {cut.text}", wide), dtype)
        if dtype.kind == "f":
            name = "sitofp" if a.dtype.kind == "i" else "uitofp"
            return self.emit(f"{name} {source} {a.text} to {target}", dtype)
        if target == source:
            return Value(a.text, dtype)
        if a.dtype.kind == "b" or dtype.itemsize > a.dtype.itemsize:
            return self.emit(f"{'sext' if a.dtype.kind == 'i' else 'zext'} {source} {a.text} to {target}", dtype)
        return self.emit(f"trunc {source} {a.text} to {target}", dtype)

    def bitcast(self, a: Value, dtype: DType) -> Value:
        """The same bits as another dtype."""
        return self.emit(f"bitcast {llvm_type(a.dtype)} {a.text} to {llvm_type(dtype)}", dtype)

    def intrinsic(self, name: str, args: Sequence[Value], dtype: DType) -> Value:
        """A call of one of LLVM's own functions."""
        types = ", ".join(llvm_type(a.dtype) for a in args)
        self.declarations[f"declare {llvm_type(dtype)} @{name}({types})"] = None
        arguments = ", ".join(f"{llvm_type(a.dtype)} {a.text}" for a in args)
        return self.emit(f"call {llvm_type(dtype)} @{name}({arguments})", dtype)

    def apply(self, name: str, operands: Sequence[Operand]) -> Value:
        """A function of the dialect, by the name that templates use."""
        if name not in _BUILT_IN:
            return self._dialect(name, operands)
        dtype = next(a.dtype for a in operands if isinstance(a, Value))
        args = [a if isinstance(a, Value) else literal(a, dtype) for a in operands]
        x = args[0]
        if name in _INTRINSICS:
            suffix = f"f{8 * x.dtype.itemsize}"
            return self.intrinsic(f"llvm.{name}.{suffix}", args, x.dtype)
        if name == "abs":
            return self._absolute(x)
        if name == "as_int":
            return self.bitcast(x, np.dtype(f"int{8 * x.dtype.itemsize}"))
        if name == "as_float":
            return self.bitcast(x, np.dtype(f"float{8 * x.dtype.itemsize}"))
        if name == "invert":
            return self.invert(x)
        if name == "likely":
            return self._likely(x)
        if name == "fmod":
            return self.emit(f"frem {llvm_type(x.dtype)} {x.text}, {args[1].text}", x.dtype)
        if name in ("quotient", "rest"):
            kind = ("u" if x.dtype.kind == "u" else "s") + ("div" if name == "quotient" else "rem")
            return self.emit(f"{kind} {llvm_type(x.dtype)} {x.text}, {args[1].text}", x.dtype)
        if name == "rotate":
            return self.intrinsic(f"llvm.fshl.{llvm_type(x.dtype)}", [x, *args], x.dtype)
        assert name == "ushr"
        return self.emit(f"lshr {llvm_type(x.dtype)} {x.text}, {args[1].text}", x.dtype)

    def _likely(self, condition: Value) -> Value:
        if not self.hopeful:
            return condition
        self.doubts = True
        before = self.emit("load i32, ptr %doubt", I32)
        unlikely = self.emit(f"xor i1 {condition.text}, true", BOOL)
        now = self.emit(f"or i32 {before.text}, {self.cast(unlikely, I32).text}", I32)
        self.lines.append(f"  store i32 {now.text}, ptr %doubt")
        return Value("true", BOOL)

    def _absolute(self, x: Value) -> Value:
        if x.dtype.kind == "f":
            return self.intrinsic(f"llvm.fabs.f{8 * x.dtype.itemsize}", [x], x.dtype)
        if x.dtype.kind == "u":
            return x
        return self.select(self.compare(ast.Lt, x, literal(0, x.dtype)), self.negative(x), x)

    def _dialect(self, name: str, args: Sequence[Operand]) -> Any:
        given = next(a.dtype for a in args if isinstance(a, Value))
        function = mathematics.find(name, given)
        if function is None:
            raise NotImplementedError(f"{name} of {given} in the scalar dialect")
        if name in _LONG and not self.inline:
            return self._called(name, function, [a if isinstance(a, Value) else literal(a, given) for a in args])
        return _Walker(self, {}, given).function(function, args)

    def _called(self, name: str, function: Callable[..., Any], args: Sequence[Value]) -> tuple[Value, ...]:
        """The two results of a function of integers, which are of the operands' dtype."""
        dtype = args[0].dtype
        kind = llvm_type(dtype)
        pair = f"{{ {kind}, {kind} }}"
        symbol = f"{self.symbol}_{name}_{dtype}"
        if symbol not in self.functions:
            given = [Value(f"%x{i}", dtype) for i in range(len(args))]
            inside = Instructions(declarations=self.declarations)
            first, second = _Walker(inside, {}, dtype).function(function, given)
            half = inside.emit(f"insertvalue {pair} poison, {kind} {first.text}, 0", dtype)
            whole = inside.emit(f"insertvalue {pair} {half.text}, {kind} {second.text}, 1", dtype)
            parameters = ", ".join(f"{kind} {x.text}" for x in given)
            head = f"define internal {pair} @{symbol}({parameters}) noinline nounwind willreturn memory(none) {{"
            self.functions[symbol] = "\n".join([head, *inside.lines, f"  ret {pair} {whole.text}", "}"])
        arguments = ", ".join(f"{kind} {a.text}" for a in args)
        both = self.emit(f"call {pair} @{symbol}({arguments})", dtype)
        return tuple(self.emit(f"extractvalue {pair} {both.text}, {i}", dtype) for i in (0, 1))


@functools.lru_cache(maxsize=4096)
def _template(op: Op, params: tuple[tuple[str, object], ...]) -> ast.expr:
    assert op.scalar is not None
    return ast.parse(op.scalar.format(**{name: name for name in op.array_names}, **dict(params)), mode="eval").body


@functools.cache
def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition


class _Walker:
    """Reads an expression or a function of the dialect. Names are values, or Python numbers and tuples of them."""

    def __init__(self, into: Instructions, names: dict[str, Any], dtype: DType | None) -> None:
        self.into = into
        self.names = names
        self.dtype = dtype  # of numbers that meet no other operand
        self.outside: dict[str, Any] = {}

    def typed(self, operand: Any) -> Value:
        """A value; a number takes the default dtype."""
        if isinstance(operand, Value):
            return operand
        assert self.dtype is not None, f"the number {operand} has no dtype"
        return literal(operand, self.dtype)

    def function(self, function: Callable[..., Any], arguments: Sequence[Operand]) -> Any:
        """The result of a dialect function, a value or a tuple of some."""
        definition = _definition(function)
        self.outside = function.__globals__
        self.names = dict(zip([a.arg for a in definition.args.args], arguments, strict=True))
        result = self._run(definition.body)
        assert result is not None, f"{definition.name} returns nothing"
        return result if isinstance(result, tuple) else self.typed(result)

    def _run(self, body: Sequence[ast.stmt]) -> Any:
        for statement in body:
            if isinstance(statement, ast.Return):
                assert statement.value is not None
                return self.visit(statement.value)
            if isinstance(statement, ast.Assign):
                self._assign(statement.targets[0], self.visit(statement.value))
            elif isinstance(statement, ast.For):
                for item in self._known(statement.iter):
                    self._assign(statement.target, item)
                    self._run(statement.body)
            elif isinstance(statement, ast.If):
                known = self._known(statement.test)
                result = self._run(statement.body if known else statement.orelse)
                if result is not None:
                    return result
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                raise NotImplementedError(ast.unparse(statement))
        return None

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Tuple):
            for part, item in zip(target.elts, value, strict=True):
                self._assign(part, item)
        else:
            assert isinstance(target, ast.Name)
            self.names[target.id] = value

    def _known(self, node: ast.expr) -> Any:
        """A number, tuple or truth that is known here: evaluated by Python."""
        words = {"width": lambda value: 8 * value.dtype.itemsize}
        return eval(compile(ast.Expression(node), "<dialect>", "eval"), {**self.outside, **self.names, **words})

    def visit(self, node: ast.expr) -> Any:
        """The value, Python number or tuple of an expression."""
        method = getattr(self, "_" + type(node).__name__.lower(), None)
        if method is None:
            raise NotImplementedError(f"{ast.unparse(node)} in the scalar dialect")
        return method(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        return math.inf if node.id == "inf" else math.nan if node.id == "nan" else self.outside[node.id]

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.visit(item) for item in node.elts)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.visit(node.value)[self.visit(node.slice)]

    def _pair(self, a: Any, b: Any) -> tuple[Value, Value]:
        """Two operands of one dtype."""
        if isinstance(a, Value) and isinstance(b, Value):
            assert a.dtype == b.dtype, f"{a.dtype} meets {b.dtype}"
            return a, b
        if isinstance(a, Value):
            return a, literal(b, a.dtype)
        if isinstance(b, Value):
            return literal(a, b.dtype), b
        return self.typed(a), self.typed(b)

    def _binop(self, node: ast.BinOp) -> Any:
        a, b = self.visit(node.left), self.visit(node.right)
        if not isinstance(a, Value) and not isinstance(b, Value):
            return _PYTHON[type(node.op)](a, b)
        return self.into.binary(type(node.op), *self._pair(a, b))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        a = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            return self.into.negative(a) if isinstance(a, Value) else -a
        if not isinstance(a, Value):
            return not a if isinstance(node.op, ast.Not) else ~a
        return self.into.invert(a)

    def _boolop(self, node: ast.BoolOp) -> Any:
        name = "and" if isinstance(node.op, ast.And) else "or"
        values = [self.typed(self.visit(v)) for v in node.values]
        return functools.reduce(lambda a, b: self.into.both(name, a, b), values)

    def _compare(self, node: ast.Compare) -> Any:
        operands = [self.visit(v) for v in (node.left, *node.comparators)]
        parts = []
        for kind, a, b in zip(node.ops, operands, operands[1:], strict=False):
            if not isinstance(a, Value) and not isinstance(b, Value):
                parts.append(literal(_PYTHON[type(kind)](a, b), BOOL))
            else:
                parts.append(self.into.compare(type(kind), *self._pair(a, b)))
        return functools.reduce(lambda a, b: self.into.both("and", a, b), parts)

    def _ifexp(self, node: ast.IfExp) -> Any:
        condition = self.visit(node.test)
        if not isinstance(condition, Value):
            return self.visit(node.body if condition else node.orelse)
        return self.into.select(condition, *self._pair(self.visit(node.body), self.visit(node.orelse)))

    def _call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        name, args = node.func.id, [self.visit(a) for a in node.args]
        if name in _CASTS:
            (a,) = args
            return self.into.cast(a, _CASTS[name]) if isinstance(a, Value) else literal(a, _CASTS[name])
        if name == "width":
            return 8 * args[0].dtype.itemsize
        if not any(isinstance(a, Value) for a in args):
            args[0] = self.typed(args[0])
        return self.into.apply(name, args)
