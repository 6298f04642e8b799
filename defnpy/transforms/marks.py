"""``stop_grad``, ``scale_grad`` and ``clip_grad`` over containers: every tensor in them is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import tree
from ..ops import mark as ops
from .stage import is_tensor

__all__ = ["clip_grad", "scale_grad", "stop_grad"]


def _each(op: Callable[..., Any], x: Any, **params: Any) -> Any:
    return tree.map(lambda leaf: op(leaf, **params) if is_tensor(leaf) else leaf, x)


def stop_grad(x: Any, /) -> Any:
    """``x``, a tensor or a container of some, treated as a constant by every derivative.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: x * dp.stop_grad(x))(3.0)
    Tensor(3., dtype=float32)
    """
    return _each(ops.stop_grad, x)


def scale_grad(x: Any, /, *, factor: float) -> Any:
    """``x``, a tensor or a container of some, whose derivative is ``factor`` times what it would be: for -1 the
    gradient is reversed.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: dp.scale_grad(x, factor=10.0) ** 2)(3.0)
    Tensor(60., dtype=float32)
    """
    return _each(ops.scale_grad, x, factor=factor)


def clip_grad(x: Any, /, *, low: float, high: float) -> Any:
    """``x``, a tensor or a container of some, whose gradient is limited to [low, high], element by element, on the way
    back through here. Raises ``ShapeError`` where ``low`` is above ``high``.

    Only cotangents are limited: a tangent, going forwards, is no gradient and passes as it is.

    >>> import defnpy as dp
    >>> dp.grad(lambda x: dp.sum(dp.clip_grad(x, low=-1, high=1) ** 2))(dp.asarray([0.25, -3.0]))
    Tensor([ 0.5, -1. ], dtype=float32)
    """
    return _each(ops.clip_grad, x, low=low, high=high)
