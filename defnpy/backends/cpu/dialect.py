"""The scalar dialect on the CPU: how a template, a number and a function name are spelled for Numba.

Everything printed here is also plain Python over NumPy scalars. Run as such, functions are those of ``math`` and NumPy;
Numba gets those of the dialect under the same names.
"""

from __future__ import annotations

import ast
import functools
import math

import numpy as np

from ...dtypes import DType
from ...ir.op import Op

__all__ = ["FUNCTIONS", "cast", "expression", "fold", "number"]

FUNCTIONS = {
    "exp": "math.exp({0})",
    "expm1": "math.expm1({0})",
    "log": "math.log({0})",
    "log1p": "math.log1p({0})",
    "sqrt": "math.sqrt({0})",
    "sin": "math.sin({0})",
    "cos": "math.cos({0})",
    "tanh": "math.tanh({0})",
    "floor": "np.floor({0})",
    "ceil": "np.ceil({0})",
    "trunc": "np.trunc({0})",
    "rint": "np.rint({0})",
    "abs": "abs({0})",
    "maximum": "{0} if {0} >= {1} or {0} != {0} else {1}",
    "minimum": "{0} if {0} <= {1} or {0} != {0} else {1}",
    "pow": "np.power({0}, {1})",
    "mod": "{0} % {1}",
    "floordiv": "{0} // {1}",
    "erfinv": "erfinv({0})",
    "sigmoid": "sigmoid({0})",
    "exp2": "np.exp2({0})",
    "log2": "np.log2({0})",
    "log10": "np.log10({0})",
    "logaddexp": "np.logaddexp({0}, {1})",
    "tan": "np.tan({0})",
    "sinh": "np.sinh({0})",
    "cosh": "np.cosh({0})",
    "hypot": "np.hypot({0}, {1})",
    "copysign": "np.copysign({0}, {1})",
    "signbit": "np.signbit({0})",
    "nextafter": "np.nextafter({0}, {1})",
    "asin": "np.arcsin({0})",
    "acos": "np.arccos({0})",
    "atan": "np.arctan({0})",
    "asinh": "np.arcsinh({0})",
    "acosh": "np.arccosh({0})",
    "atanh": "np.arctanh({0})",
    "atan2": "np.arctan2({0}, {1})",
    "erf": "math.erf({0})",
    "erfc": "math.erfc({0})",
    "threefry2x32": "threefry2x32({0}, {1}, {2}, {3})",
}

# What integers need beside: the shifts and quotients that the machine leaves open, as NumPy closes them.
_INTEGER = {
    ("invert", "b"): "not {0}",
    ("invert", "i"): "~{0}",
    ("invert", "u"): "~{0}",
    ("shl", "i"): "{0} << {1} if ZERO <= {1} < BITS else ZERO",
    ("shl", "u"): "{0} << {1} if {1} < BITS else ZERO",
    ("shr", "i"): "{0} >> {1} if ZERO <= {1} < BITS else (-ONE if {0} < ZERO else ZERO)",
    ("shr", "u"): "{0} >> {1} if {1} < BITS else ZERO",
    ("pow", "i"): "{0} ** {1}",
    ("pow", "u"): "{0} ** {1}",
    ("floordiv", "i"): "-{0} if {1} == -ONE else {0} // {1}",
    ("mod", "i"): "ZERO if {1} == -ONE else {0} % {1}",
}


def number(value: object, dtype: DType) -> str:
    """A number with its dtype: a bare one would be float64 or int64 and widen what it meets."""
    if dtype.kind == "b":
        return "True" if value else "False"
    if dtype.kind == "f":
        plain = float(value)  # type: ignore[arg-type]
        if math.isnan(plain):
            return f"np.{dtype}(np.nan)"
        if math.isinf(plain):
            return f"np.{dtype}({'-' if plain < 0 else ''}np.inf)"
        # The shortest digits that give back the same bits.
        return f"np.{dtype}({dtype.type(plain)!s})"
    return f"np.{dtype}({int(value)})"  # type: ignore[call-overload]


def cast(text: str, source: DType, target: DType) -> str:
    """``text`` of dtype ``source`` converted to ``target``."""
    if source == target:
        return text
    if target.kind == "b":
        return f"({text}) != {number(0, source)}"
    return f"np.{target}({text})"


class _Spell(ast.NodeTransformer):
    """Numbers get the operands' dtype, functions their name on this target."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.parse(number(node.value, self.dtype), mode="eval").body

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "inf":
            return ast.parse(number(math.inf, self.dtype), mode="eval").body
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node.value = self.visit(node.value)  # the number of a result has no dtype
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        assert isinstance(node.func, ast.Name)
        template = _INTEGER.get((node.func.id, self.dtype.kind)) or FUNCTIONS[node.func.id]
        template = template.replace("BITS", number(8 * self.dtype.itemsize, self.dtype))
        template = template.replace("ONE", number(1, self.dtype)).replace("ZERO", number(0, self.dtype))
        arguments = [self.visit(a) for a in node.args]
        return ast.parse(template.format(*[f"({ast.unparse(a)})" for a in arguments]), mode="eval").body


@functools.lru_cache(maxsize=4096)
def _template(op: Op, dtype: DType, params: tuple[tuple[str, object], ...]) -> str:
    assert op.scalar is not None
    names = op.array_names
    holes = {name: f"__{name}__" for name in names}
    tree = ast.parse(op.scalar.format(**holes, **dict(params)), mode="eval")
    text = ast.unparse(ast.fix_missing_locations(_Spell(dtype).visit(tree)))
    for name in names:
        text = text.replace(f"__{name}__", "{" + name + "}")
    return text


def expression(
    op: Op, args: tuple[str, ...], dtypes: tuple[DType, ...], dtype: DType, params: dict[str, object]
) -> str:
    """One element of ``op`` as a Python expression of ``dtype``."""
    if op.name == "astype":
        return cast(args[0], dtypes[0], dtype)
    text = _template(op, dtypes[-1], tuple(sorted(params.items())))
    text = text.format(**dict(zip(op.array_names, args, strict=True)))
    # Numba computes small integers in 64 bits, and bits of booleans as integers.
    if (dtype.kind in "iu" and dtype != np.dtype("int64")) or (dtype.kind == "b" and op.name.startswith("bitwise")):
        return f"np.{dtype}({text})" if dtype.kind != "b" else f"bool({text})"
    return text


def fold(kind: str, total: str, value: str) -> str:
    """One step of a reduction."""
    if kind == "sum":
        return f"fold_sum({total}, {value})"
    if kind == "prod":
        return f"{total} * {value}"
    if kind == "max":
        return f"{total} if {total} >= {value} or {total} != {total} else {value}"
    if kind == "min":
        return f"{total} if {total} <= {value} or {total} != {total} else {value}"
    return f"{total} {'or' if kind == 'any' else 'and'} {value}"
