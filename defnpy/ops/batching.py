"""What batching rules are made of. A rule computes an op for many examples at once.

``batch(batched, *x, **params)``: ``batched`` says for each operand whether it holds an example per entry of its first
axis; the others are the same for all examples. At least one operand is batched. The result has the batch axis first,
and after it the shape that the op gives for one example, with the same parameters.

The families give their ops a rule; it stands here, below them, and so reaches the linear ops through the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir.op import REGISTRY, Op

__all__ = ["aligned", "batch_size", "by_alignment", "by_axes", "everywhere", "from_axis", "repeated", "to_axis"]


def batch_size(batched: Sequence[bool], x: Sequence[Any]) -> int:
    """The number of examples."""
    return int(next(value.shape[0] for value, given in zip(x, batched, strict=True) if given))


def aligned(batched: Sequence[bool], x: Sequence[Any]) -> list[Any]:
    """The operands in shapes that broadcast as those of one example do: axes of size 1 behind the batch axis give every
    batched operand the same number of axes."""
    rank = max(value.ndim - given for value, given in zip(x, batched, strict=True))
    result = []
    for value, given in zip(x, batched, strict=True):
        missing = rank + 1 - value.ndim
        if given and missing:
            shape = (value.shape[0], *(1,) * missing, *value.shape[1:])
            value = REGISTRY["reshape"](value, shape=shape)
        result.append(value)
    return result


def everywhere(batched: Sequence[bool], x: Sequence[Any]) -> list[Any]:
    """The operands, those that are the same for all examples repeated along a batch axis."""
    size = batch_size(batched, x)
    return [value if given else repeated(value, size) for value, given in zip(x, batched, strict=True)]


def repeated(x: Any, size: int) -> Any:
    """``x`` for ``size`` examples that are equal."""
    return REGISTRY["broadcast_to"](x, shape=(size, *x.shape))


def to_axis(x: Any, axis: int) -> Any:
    """``x`` with its first axis moved to ``axis``."""
    return _moved(x, 0, axis)


def from_axis(x: Any, axis: int) -> Any:
    """``x`` with ``axis`` moved to the front."""
    return _moved(x, axis, 0)


def _moved(x: Any, source: int, target: int) -> Any:
    if source == target:
        return x
    order = [a for a in range(x.ndim) if a != source]
    order.insert(target, source)
    return REGISTRY["permute_dims"](x, axes=tuple(order))


def by_alignment(op: Op) -> Any:
    """The rule of the elementwise family: the op itself, on aligned operands."""
    return lambda batched, *x, **params: op(*aligned(batched, x), **params)


def by_axes(op: Op) -> Any:
    """The rule of the reductions: the op itself, over the same axes, each of them one further back."""
    return lambda batched, x, *, axis, **params: op(x, axis=tuple(a + 1 for a in axis), **params)
