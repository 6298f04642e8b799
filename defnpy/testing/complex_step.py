"""Derivatives by a step into the complex plane, which rounding does not spoil.

For an analytic function f(x + ih) = f(x) + ih f'(x) - h² f''(x) / 2 + ..., so that f'(x) is the imaginary part of
f(x + ih) divided by h, to a relative error of h². Nothing is subtracted, and h can be as small as one likes (W. Squire
and G. Trapp, Using complex variables to estimate derivatives of real functions, SIAM Review 40, 1998).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..defn import Defn
from ..dtypes import DType
from ..errors import GradientError
from ..ir.expr import Expr, Graph
from ..source import quote
from ..transforms.stage import is_tensor, stage
from .arguments import converted, tensors
from .conditions import refuse_random

__all__ = ["complex_step_gradient"]

Array = np.ndarray[Any, Any]

# The ops whose reference bodies compute with complex numbers as with real ones (NumPy orders them by the real part).
ANALYTIC = frozenset(
    """
    acos acosh add after asin asinh astype atan atanh broadcast_to concat conv conv_transpose
    conv_weight cos cosh cumulative_max cumulative_min cumulative_prod cumulative_sum det divide
    dot_general exp exp2 expm1 flip gather inv log log10 log1p log2 max max_pool max_select
    max_unpool min multiply negative overlap_add pad permute_dims pow prod reciprocal reshape sin
    sinh slice solve sort sqrt subtract sum tan tanh windows
    """.split()
)

# Those that choose between analytic pieces, by the real part.
PIECES: dict[str, Callable[..., Any]] = {
    "abs": lambda x: np.where(x.real < 0, -x, x),
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "maximum": lambda x, y: np.where(x.real >= y.real, x, y),
    "minimum": lambda x, y: np.where(x.real <= y.real, x, y),
    "clip": lambda x, low, high: np.where(x.real < low.real, low, np.where(x.real > high.real, high, x)),
    "where": lambda c, x, y: np.where(c.real != 0, x, y),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "stop_grad": lambda x: x.real,
}


def complex_step_gradient(
    function: Callable[..., Any], *args: Any, h: float = 1e-30, argnums: int | tuple[int, ...] = 0
) -> Any:
    """The gradient of a scalar function by complex steps, one element at a time, over containers: to full precision.

    The function is traced, and the reference bodies of its ops are run with complex128 numbers. Ops that choose between
    formulas (abs, relu, maximum, where) do so by the real part. Raises ``GradientError`` for an op that does not
    compute with complex numbers, naming the line that called it. Returns what :func:`numerical_gradient` returns.

    >>> import numpy as np
    >>> import defnpy as dp
    >>> x = dp.asarray([0.5, 1.0], dtype="float64")
    >>> g = dp.testing.complex_step_gradient(lambda x: dp.sum(dp.exp(x) / x), x)
    >>> bool(np.all(np.abs(g - dp.grad(lambda x: dp.sum(dp.exp(x) / x))(x)) < 1e-15))
    True
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    values = [converted(arg, np.dtype("float64"), integers=i in numbers) for i, arg in enumerate(args)]
    inner = function.function if isinstance(function, Defn) else function
    refuse_random(inner, inner(*tensors(values)), inner(*tensors(values)))
    staged = stage(inner, tensors(values), {})
    _check(staged.graph)
    leaves = [leaf for value in values for leaf in tree.leaves(value)]
    arrays = [np.asarray(x) for x in (*filter(is_tensor, leaves), *staged.captured)]
    position = 0
    gradients = []
    for number, value in enumerate(values):
        parts, structure = tree.flatten(value)
        found: list[Any] = []
        for leaf in parts:
            moves = is_tensor(leaf) and number in numbers and leaf.dtype.kind == "f"
            found.append(_of_input(staged.graph, arrays, position, h) if moves else None)
            position += is_tensor(leaf)
        gradients.append(tree.unflatten(structure, found))
    return gradients[argnums] if isinstance(argnums, int) else tuple(gradients[n] for n in numbers)


def _check(graph: Graph) -> None:
    (output,) = graph.outputs
    if output.shape != ():
        raise GradientError(f"complex steps need a scalar function, not one that returns shape {output.shape}")
    active: set[Expr] = {node for node in graph.inputs if node.dtype.kind == "f"}
    for node in graph.nodes():
        if active.isdisjoint(node.args) or node.op.vjp is None:
            continue
        if node.op.name not in ANALYTIC and node.op.name not in PIECES:
            raise GradientError(
                f"complex steps: {node.op.name} does not compute with complex numbers",
                where=quote(node.loc),
                hint="compare with differences instead: gradient_report, numerical_gradient",
            )
        active.add(node)


def _of_input(graph: Graph, arrays: list[Array], number: int, h: float) -> Array:
    """The derivatives with respect to the elements of one input."""
    result = np.empty(arrays[number].shape)
    for place in np.ndindex(result.shape):
        moved = arrays[number].astype(np.complex128)
        moved[place] += 1j * h
        result[place] = _evaluate(graph, [*arrays[:number], moved, *arrays[number + 1 :]]).imag / h
    return result


def _evaluate(graph: Graph, inputs: list[Array]) -> Any:
    """The value of the output, complex where it depends on a complex input."""
    values: dict[Expr, Any] = dict(zip(graph.inputs, inputs, strict=True))
    with np.errstate(all="ignore"):
        for node in graph.nodes():
            if node in values:
                continue
            operands = [values[arg] for arg in node.args]
            if not any(np.iscomplexobj(x) for x in operands):
                values[node] = np.asarray(node.op.body(*operands, **node.kwargs))
            elif node.op.vjp is None:  # flat: what it gives does not move
                values[node] = np.asarray(node.op.body(*[x.real for x in operands], **node.kwargs))
            elif node.op.name == "astype":
                values[node] = _cast(operands[0], node.dtype)
            else:
                body = PIECES.get(node.op.name, node.op.body)
                values[node] = np.asarray(body(*operands, **node.kwargs))
    return values[graph.outputs[0]][()]


def _cast(x: Array, dtype: DType) -> Array:
    return x if dtype == np.float64 else x.real.astype(dtype)
