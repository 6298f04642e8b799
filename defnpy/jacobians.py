"""Whole matrices of derivatives: Jacobians and Hessians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .defn import Defn, _transformed
from .derivatives import gradient_of
from .passes.pipeline import prepare
from .transforms.jacobian import jacobians

__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]


def _jacobian(called: str, function: Any, argnums: int | tuple[int, ...], backwards: bool | None) -> Callable[..., Any]:
    inner = function.function if isinstance(function, Defn) else function
    made: Callable[..., Any] = _transformed(function, jacobians(called, inner, argnums, prepare, backwards))
    return made


def jacfwd(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian, computed forwards: one direction for every number of the arguments, all of
    them in one batch. For few arguments and many results.

    See :func:`jacobian` for structure, shapes and dtypes.

    >>> import defnpy as dp
    >>> dp.jacfwd(lambda t: dp.stack([dp.cos(t), dp.sin(t)]))(0.0)
    Tensor([-0.,  1.], dtype=float32)
    """
    return _jacobian("jacfwd", function, argnums, False)


def jacrev(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian, computed backwards: one cotangent for every number of the results, all of
    them in one batch. For many arguments and few results.

    See :func:`jacobian` for structure, shapes and dtypes.

    >>> import defnpy as dp
    >>> dp.jacrev(lambda x: dp.sum(x * x, axis=0))(dp.asarray([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[[2., 0.],
             [6., 0.]],
    <BLANKLINE>
            [[0., 4.],
             [0., 8.]]], dtype=float32)
    """
    return _jacobian("jacrev", function, argnums, True)


def jacobian(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian: the derivative of every number of the result with respect to every number
    of the argument.

    For a result y and an argument x, both tensors, its shape is y.shape + x.shape. Where the result is a container,
    so is the Jacobian, and in the place of each leaf stands the container of the argument (a tuple of them for several
    ``argnums``), of the derivatives of this leaf. None stands for the derivatives of booleans, strings and functions,
    and for those with respect to them.

    It is computed forwards (:func:`jacfwd`) unless there are fewer results than arguments (then :func:`jacrev`). Of a
    ``@defn`` function it is compiled. Derivatives of higher order are Jacobians of Jacobians.

    >>> import defnpy as dp
    >>> dp.jacobian(lambda x: x * x)(dp.asarray([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]], dtype=float32)
    """
    return _jacobian("jacobian", function, argnums, None)


def hessian(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the Hessian of a scalar function: the Jacobian of its gradient, forwards over backwards.

    For a tensor x its shape is x.shape + x.shape; for containers it has the structure of the argument twice over. Its
    product with one direction costs far less: :func:`hvp`. Raises ``GradientError`` for a result that is not scalar.

    >>> import defnpy as dp
    >>> dp.hessian(lambda x: x[0] ** 2 * x[1])(dp.asarray([1.0, 2.0]))
    Tensor([[4., 2.],
            [2., 0.]], dtype=float32)
    """
    inner = function.function if isinstance(function, Defn) else function
    transformed = jacobians("hessian", gradient_of("hessian", inner, argnums), argnums, prepare, False)
    made: Callable[..., Any] = _transformed(function, transformed)
    return made
