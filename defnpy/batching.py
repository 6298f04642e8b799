"""``vmap``: a function of one example, computed for many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .defn import Defn, _transformed
from .transforms.vmap import vectorized

__all__ = ["vmap"]


def vmap(
    function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, *, axis_size: int | None = None
) -> Callable[..., Any]:
    """A function that computes ``function``, written for one example, for a batch of them: no loop, one array program.

    in_axes: along which axis of the arguments the examples lie. An int for all of them, or a tuple with an entry for
    each positional argument; where an argument is a container, its entry may be one too, with an int or None at any
    depth. None: the same for every example. Keyword-only arguments are the same for every example; others may be given
    by name, and have their entry all the same.
    out_axes: where the results get the batch axis, in the same way; None for a result that is the same for all.
    axis_size: the number of examples, needed only where nothing is mapped over.

    Of a ``@defn`` function the result is compiled; of a plain one it is computed at once with NumPy. It may be applied
    again, and to the result of ``grad`` or any other transformation, and they to it. With a batch of keys every example
    draws the numbers that it would draw alone. Raises ``ShapeError`` for sizes that differ and axes that do not exist,
    ``TreeError`` for in_axes and out_axes that do not have the structure of what they speak of.

    >>> import defnpy as dp
    >>> dp.vmap(dp.dot, in_axes=(0, None))(dp.asarray([[1.0, 2.0], [3.0, 4.0]]), dp.asarray([1.0, 10.0]))
    Tensor([21., 43.], dtype=float32)

    A gradient for every example:

    >>> def loss(w, x, y):
    ...     return (dp.sum(w * x) - y) ** 2
    >>> per_example = dp.vmap(dp.grad(loss), in_axes=(None, 0, 0))
    >>> per_example(dp.asarray([1.0, 1.0]), dp.asarray([[1.0, 2.0], [3.0, 4.0]]), dp.asarray([0.0, 7.0]))
    Tensor([[ 6., 12.],
            [ 0.,  0.]], dtype=float32)
    """
    inner = function.function if isinstance(function, Defn) else function
    return _transformed(function, vectorized(inner, in_axes, out_axes, axis_size))
