"""Checking gradients: numerical differences, and reports that compare them with automatic ones.

All numerical work is done in float64: in float32 a difference quotient has an error of some percent, because the
rounding of the function's value is divided by the step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import tree
from .defn import Defn, value_and_grad
from .errors import GradientError
from .ir.trace import aval_of
from .tensor import wrap
from .transforms.stage import is_tensor

__all__ = [
    "GradientCheckError",
    "GradientReport",
    "ParameterReport",
    "check_grads",
    "gradient_report",
    "numerical_diff",
    "numerical_gradient",
]


class GradientCheckError(AssertionError):
    """An automatic gradient disagrees with numerical differences.

    >>> import defnpy as dp
    >>> wrong = lambda x: x * dp.stop_grad(x)
    >>> try:
    ...     dp.testing.check_grads(wrong, [2.0])
    ... except dp.testing.GradientCheckError as error:
    ...     print(str(error)[:39])
    <lambda>: the derivative of order 1 alo
    """


def numerical_diff(function: Callable[[float], Any], x: float, *, h: float = 1e-4) -> float:
    """The central difference (f(x + h) - f(x - h)) / 2h of a function of one Python float, in float64.

    Its error falls as h**2 until rounding, which grows as 1 / h, takes over.

    >>> from defnpy.testing import numerical_diff
    >>> numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5.0)
    0.1999999999990898
    """
    return (_number(function(np.float64(x + h))) - _number(function(np.float64(x - h)))) / (2 * h)


def _number(value: Any) -> float:
    array = np.asarray(value)
    if array.shape != ():
        raise GradientError(f"numerical differences need a scalar function, not one that returns shape {array.shape}")
    return float(array)


def numerical_gradient(
    function: Callable[..., Any],
    *args: Any,
    h: float = 1e-4,
    argnums: int | tuple[int, ...] = 0,
    dtype: Any = "float64",
) -> Any:
    """The gradient of a scalar function by central differences, one element at a time, over containers.

    Returns the structure of the differentiated argument, like :func:`defnpy.grad`: arrays for numbers, None for other
    leaves. All float arguments are converted to ``dtype`` first; "float32" is there to show why not to use it.

    >>> import defnpy as dp
    >>> dp.testing.numerical_gradient(lambda p: dp.sum(p["x"] ** 2), {"x": dp.asarray([3.0, 4.0])})
    {'x': array([6., 8.])}
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    values = [_converted(arg, np.dtype(dtype), integers=i in numbers) for i, arg in enumerate(args)]
    gradients = tuple(_difference_all(function, values, n, h) for n in numbers)
    return gradients[0] if isinstance(argnums, int) else gradients


def _converted(arg: Any, dtype: np.dtype[Any], *, integers: bool) -> Any:
    """An argument with writeable arrays: floats (and integers that are differentiated) in ``dtype``."""

    def convert(leaf: Any) -> Any:
        if not is_tensor(leaf):
            return leaf
        array = np.array(leaf)
        return array.astype(dtype) if array.dtype.kind == "f" or (integers and array.dtype.kind in "iu") else array

    return tree.map(convert, arg)


def _difference_all(function: Callable[..., Any], values: list[Any], number: int, h: float) -> Any:
    def at(leaf: Any) -> Any:
        if not is_tensor(leaf) or leaf.dtype.kind == "b":
            return None
        result = np.empty_like(leaf)
        step = leaf.dtype.type(h)
        flat, out = leaf.reshape(-1), result.reshape(-1)
        for i in range(flat.size):
            kept = flat[i]
            flat[i] = kept + step
            above = _call(function, values)
            flat[i] = kept - step
            below = _call(function, values)
            flat[i] = kept
            out[i] = (above - below) / (2 * step)
        return result

    return tree.map(at, values[number])


def _call(function: Callable[..., Any], values: list[Any]) -> Any:
    # Tensors of their own: the arrays below are changed in place between calls.
    tensors = [tree.map(lambda x: wrap(x.copy()) if isinstance(x, np.ndarray) else x, v) for v in values]
    result = np.asarray(function(*tensors))
    if result.shape != ():
        raise GradientError(f"numerical differences need a scalar function, not one that returns shape {result.shape}")
    return result[()]


@dataclass(frozen=True)
class ParameterReport:
    """Numerical against automatic gradient of one leaf.

    absolute and relative are the mean and the largest difference; the relative one is divided by the larger of the two
    magnitudes (0 where both are 0). worst is the index of the largest absolute difference.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda x: dp.sum(0 * x), [dp.ones(3)])
    >>> report.parameters[0].vacuous
    True
    """

    name: str
    shape: tuple[int, ...]
    mean_absolute: float
    max_absolute: float
    mean_relative: float
    max_relative: float
    worst: tuple[int, ...]
    numerical: float
    automatic: float
    vacuous: bool


@dataclass(frozen=True)
class GradientReport:
    """Numerical against automatic gradients, leaf by leaf; prints as a table.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda p: p["a"] * p["b"], [{"a": 2.0, "b": 3.0}])
    >>> list(report.to_dict())
    ["['a']", "['b']"]
    """

    parameters: tuple[ParameterReport, ...]
    h: float

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Name to figures, of plain Python types."""
        return {
            p.name: {field: getattr(p, field) for field in p.__dataclass_fields__ if field != "name"}
            for p in self.parameters
        }

    @property
    def max_absolute(self) -> float:
        """The largest absolute difference of all elements."""
        return max((p.max_absolute for p in self.parameters), default=0.0)

    def __str__(self) -> str:
        head = (
            "parameter",
            "shape",
            "mean abs",
            "max abs",
            "mean rel",
            "max rel",
            "worst at",
            "numerical",
            "automatic",
        )
        rows = [list(head)]
        for p in self.parameters:
            figures = (p.mean_absolute, p.max_absolute, p.mean_relative, p.max_relative)
            note = "  all zero: checks nothing" if p.vacuous else ""
            cells = [p.name, str(p.shape), *[f"{v:.2e}" for v in figures], str(p.worst)]
            rows.append([*cells, f"{p.numerical:.6g}", f"{p.automatic:.6g}{note}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(
            [f"numerical (central differences, float64, h = {self.h:g}) against automatic gradient", *lines]
        )


def gradient_report(
    function: Callable[..., Any], args: Sequence[Any], *, h: float = 1e-6, argnums: int | tuple[int, ...] = 0
) -> GradientReport:
    """Compare numerical and automatic gradients of a scalar function, element by element, both in float64.

    >>> import defnpy as dp
    >>> report = dp.testing.gradient_report(lambda p: dp.sum(dp.sin(p["x"])), [{"x": dp.ones((2, 2))}])
    >>> report.max_absolute < 1e-9
    True
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    wide = [_converted(arg, np.dtype("float64"), integers=i in numbers) for i, arg in enumerate(args)]
    numerical = numerical_gradient(function, *wide, h=h, argnums=numbers)
    automatic = value_and_grad(function, numbers)(*wide).grad
    reports = []
    for number, ours, theirs in zip(numbers, automatic, numerical, strict=True):
        root = f"arg{number}" if len(numbers) > 1 else ""
        for path, a, n in zip(tree.paths(ours, root), tree.leaves(ours), tree.leaves(theirs), strict=True):
            reports.append(_compare(path or "argument", np.asarray(n), np.asarray(a)))
    return GradientReport(tuple(reports), h)


def _compare(name: str, numerical: np.ndarray[Any, Any], automatic: np.ndarray[Any, Any]) -> ParameterReport:
    if numerical.size == 0:
        return ParameterReport(name, numerical.shape, 0.0, 0.0, 0.0, 0.0, (), 0.0, 0.0, True)
    difference = np.abs(numerical - automatic)
    difference = np.where(np.isnan(difference), np.inf, difference)
    scale = np.maximum(np.abs(numerical), np.abs(automatic))
    relative = np.divide(difference, scale, out=np.zeros_like(difference), where=scale > 0)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return ParameterReport(
        name,
        numerical.shape,
        float(difference.mean()),
        float(difference.max()),
        float(relative.mean()),
        float(relative.max()),
        tuple(int(i) for i in worst),
        float(numerical[worst]),
        float(automatic[worst]),
        not numerical.any() and not automatic.any(),
    )


def check_grads(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    order: int = 2,
    seed: int = 0,
    h: float = 1e-6,
    tolerance: float = 1e-5,
) -> None:
    """Check automatic derivatives against numerical ones, in float64, up to ``order``.

    The function may return a container of tensors of any shape. It is projected on a random cotangent, and the
    gradient on a random direction, so a rule that is right only for a cotangent of ones is caught; the second order
    checks the gradient function in the same way. Raises :class:`GradientCheckError` naming the order and both numbers.

    >>> import defnpy as dp
    >>> dp.testing.check_grads(lambda x: dp.tanh(x) * x, [dp.asarray([0.5, -1.0])])
    """
    rng = np.random.default_rng(seed)
    inner = function.function if isinstance(function, Defn) else function
    compiler = functools.partial(Defn, backend=function._backend) if isinstance(function, Defn) else None
    wide = [_converted(arg, np.dtype("float64"), integers=False) for arg in args]
    _check_order(inner, wide, order, 1, rng, h, tolerance, compiler)


def _check_order(
    function: Callable[..., Any],
    args: list[Any],
    order: int,
    level: int,
    rng: np.random.Generator,
    h: float,
    tolerance: float,
    compiler: Any,
) -> None:
    outputs = function(*_tensors(args))
    cotangent = tree.map(lambda y: _random_like(rng, y), outputs)

    def projected(*values: Any) -> Any:
        results = tree.leaves(function(*values))
        total: Any = 0.0
        for y, c in zip(results, tree.leaves(cotangent), strict=True):
            if c is not _NOTHING:
                total = total + (y * c).sum()
        return total

    every = tuple(range(len(args)))
    gradient_of = value_and_grad(compiler(projected) if compiler else projected, every)
    gradient = gradient_of(*_tensors(args)).grad
    direction = tree.map(lambda x: _random_like(rng, x), args)
    automatic = _inner(gradient, direction)
    step = h * max(1.0, _norm(args)) / max(1.0, _norm(direction))
    evaluate = compiler(projected) if compiler else projected
    above = float(np.asarray(evaluate(*_tensors(_moved(args, direction, step)))))
    below = float(np.asarray(evaluate(*_tensors(_moved(args, direction, -step)))))
    numerical = (above - below) / (2 * step)
    scale = max(1.0, abs(numerical), abs(automatic))
    noise = 4 * np.finfo(np.float64).eps * (abs(above) + abs(below)) / (2 * step)
    if not abs(numerical - automatic) <= tolerance * scale + noise:
        name = getattr(function, "__name__", "function")
        raise GradientCheckError(
            f"{name}: the derivative of order {level} along a random direction is {automatic!r} by the gradient, "
            f"{numerical!r} by differences (step {step:.1e}, seed of the direction in the call)"
        )
    if level < order:

        def next_level(*values: Any) -> Any:
            gradients = value_and_grad(projected, every)(*values).grad
            return [g for x, g in _beside(values, gradients) if is_tensor(x) and aval_of(x).dtype.kind == "f"]

        next_level.__name__ = getattr(function, "__name__", "function")
        _check_order(next_level, args, order, level + 1, rng, h, tolerance, compiler)


_NOTHING = "no derivative"


def _random_like(rng: np.random.Generator, value: Any) -> Any:
    if not is_tensor(value) or aval_of(value).dtype.kind != "f":
        return _NOTHING
    return rng.standard_normal(aval_of(value).shape)


def _tensors(args: list[Any]) -> list[Any]:
    return [tree.map(lambda x: wrap(np.array(x)) if is_tensor(x) else x, arg) for arg in args]


def _moved(args: list[Any], direction: list[Any], step: float) -> list[Any]:
    return tree.map(lambda x, d: x if d is _NOTHING else x + step * d, args, direction)


def _beside(values: Any, gradients: Any) -> list[tuple[Any, Any]]:
    """Each leaf beside its gradient."""
    leaves, structure = tree.flatten(tuple(values))
    whole: Any = structure
    return list(zip(leaves, whole.flatten_up_to(tuple(gradients)), strict=True))


def _inner(gradient: Any, direction: Any) -> float:
    moved = [(g, d) for d, g in _beside(direction, gradient) if d is not _NOTHING]
    return float(sum(float(np.sum(np.asarray(g) * d)) for g, d in moved))


def _norm(values: Any) -> float:
    floats = [np.asarray(x) for x in tree.leaves(values) if is_tensor(x) and aval_of(x).dtype.kind == "f"]
    return math.sqrt(sum(float(np.sum(x * x)) for x in floats))
