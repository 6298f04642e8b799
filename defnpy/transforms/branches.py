"""``cond`` and ``switch`` over containers: one of several functions of the user is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..dtypes import DEFAULT_INT, promote_weak
from ..errors import DTypeError, ShapeError, TreeError
from ..ir.aval import Aval
from ..ir.trace import aval_of
from ..ops import control as ops
from ..ops.convert import cast
from ..ops.elementwise import where
from .closed import converted, joined, operands_as, results, stands, tensors, truth, wrong
from .stage import is_tensor, stage

__all__ = ["cond", "switch"]


def cond(pred: Any, *arguments: Any) -> Any:
    """``true_fun(*operands)`` where ``pred`` is true, else ``false_fun(*operands)``; the other one is not computed.

    Call it as ``cond(pred, true_fun, false_fun, *operands)``. With several predicates, of which the first true one
    decides: ``cond([(pred, function), ...], default, *operands)``.

    pred: one boolean or number (true unless 0). Operands and results are containers of tensors; the functions may also
    use values of their surroundings. They must return equal structures, shapes and dtypes (a Python number takes the
    other's dtype), otherwise a ``TreeError``, ``ShapeError`` or ``DTypeError`` says where they differ.

    The derivative is that of the function that was chosen: nothing in the others can spoil it.

    >>> import defnpy as dp
    >>> root = lambda x: dp.cond(x > 0, dp.sqrt, dp.zeros_like, x)
    >>> root(dp.asarray(4.0)), dp.grad(root)(0.0)
    (Tensor(2., dtype=float32), Tensor(0., dtype=float32))
    >>> sign = lambda x: dp.cond([(x > 0, lambda: 1), (x < 0, lambda: -1)], lambda: 0)
    >>> sign(dp.asarray(-3.0)), sign(dp.asarray(0.0))
    (Tensor(-1, dtype=int64), Tensor(0, dtype=int64))
    """
    several = isinstance(pred, (list, tuple))
    pairs = pred if several else [(pred, arguments[0])] if len(arguments) > 1 else []
    rest = arguments if several else arguments[1:]
    if not pairs or not rest or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise wrong(
            TreeError,
            "cond: takes a predicate and two functions, or pairs of both and a default",
            "dp.cond(pred, true_fun, false_fun, *operands) or dp.cond([(pred, function), ...], default, *operands)",
        )
    index: Any = DEFAULT_INT.type(len(pairs))
    for number, (value, _) in reversed(list(enumerate(pairs))):
        met = truth("cond", "the predicate", value)
        taken = DEFAULT_INT.type(number)
        index = (taken if met else index) if isinstance(met, np.generic) else where(met, taken, index)
    default, *operands = rest
    return _chosen("cond", index, [*[function for _, function in pairs], default], operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``: the other branches are not computed.

    index: one integer; below 0 the first branch is taken, above the end the last one. See :func:`cond` for the rest.

    >>> import defnpy as dp
    >>> dp.switch(1, [dp.exp, lambda x: 2 * x, dp.negative], dp.asarray(3.0))
    Tensor(6., dtype=float32)
    """
    if not is_tensor(index) or aval_of(index).dtype.kind not in "iu":
        kind = aval_of(index) if is_tensor(index) else type(index).__name__
        raise wrong(DTypeError, f"switch: the index must be one integer, not {kind}", "of two branches choose by cond")
    if aval_of(index).shape != ():
        raise wrong(
            ShapeError,
            f"switch: the index must be one integer, not {aval_of(index)}",
            "choose by element with dp.where",
            index,
        )
    if not branches:
        raise wrong(TreeError, "switch: there is no branch to choose", "dp.switch(index, [function, ...], *operands)")
    return _chosen("switch", cast(index, aval_of(index).dtype), list(branches), operands)


def _chosen(name: str, index: Any, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    for function in functions:
        if not callable(function):
            kind = str(aval_of(function)) if is_tensor(function) else type(function).__name__
            raise wrong(
                TreeError,
                f"{name}: a branch is {kind}, not a function",
                "write lambda: value; to choose between values that are computed anyway use dp.where",
            )
    staged = [stage(function, [stands(operand) for operand in operands], {}) for function in functions]
    shown = [s.rebuild(s.graph.outputs) for s in staged]
    for number, other in enumerate(shown[1:], 1):
        if tree.flatten(other)[1] != staged[0].structure:
            raise wrong(
                TreeError,
                f"{name}: branch {number} returns another structure than branch 0: "
                + tree.difference(shown[0], other, "result"),
                "return the same containers from every branch",
            )
    rows = zip(tree.paths(shown[0], "result"), *[tree.leaves(value) for value in shown], strict=True)
    avals = [aval for path, *row in rows if (aval := _common(name, path, row)) is not None]
    values = tensors(list(operands))
    graphs, outer = joined(staged, len(values))
    branches = tuple([converted(graph, avals) for graph in graphs])
    found = ops.cond(index, *operands_as(values, [aval_of(x) for x in values]), *outer, branches=branches)
    return staged[0].rebuild(results(found, branches[0]))


def _common(name: str, path: str, row: Sequence[Any]) -> Aval | None:
    """The shape and dtype of one leaf of all branches' results; None where it is no tensor."""
    first = row[0]
    if not is_tensor(first):
        for number, other in enumerate(row):
            if other is not first and (is_tensor(other) or other != first):
                raise wrong(
                    TreeError,
                    f"{name}: {path} is {first!r} in branch 0 and {other!r} in branch {number}",
                    "only tensors may differ between the branches",
                )
        return None
    avals = [aval_of(leaf) if is_tensor(leaf) else None for leaf in row]
    for number, (leaf, aval) in enumerate(zip(row, avals, strict=True)):
        if aval is None:
            raise wrong(
                TreeError,
                f"{name}: {path} is a tensor in branch 0 and {leaf!r} in branch {number}",
                "return a tensor from every branch",
            )
        if aval.shape != first.aval.shape:
            raise wrong(
                ShapeError,
                f"{name}: {path} is {first.aval} in branch 0 and {aval} in branch {number}",
                "return the same shapes from every branch: dp.broadcast_to(...), dp.reshape(...)",
                leaf,
            )
    known = [aval for aval in avals if aval is not None]
    strong = [number for number, aval in enumerate(known) if not aval.weak]
    kept = [known[number].dtype for number in strong]
    dtype, weak = promote_weak(kept[:1], [aval.dtype for aval in known if aval.weak])
    for number, (leaf, aval) in enumerate(zip(row, known, strict=True)):
        if strong and kept[0] != promote_weak(kept[:1], [aval.dtype])[0] if aval.weak else kept[:1] != [aval.dtype]:
            raise wrong(
                DTypeError,
                f"{name}: {path} is {known[strong[0]]} in branch {strong[0]} and {aval} in branch {number}",
                "return the same dtypes from every branch: convert one with x.astype(...)",
                leaf,
            )
    return Aval(known[0].shape, dtype, weak)
