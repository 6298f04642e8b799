"""The derivatives of functions, as functions: gradients, directional derivatives, linear maps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .defn import Defn, _evaluated, _transformed
from .errors import GradientError
from .ir.trace import current
from .passes.pipeline import prepare
from .source import capture, quote
from .transforms.grad import ValueAndGrad, value_and_gradient
from .transforms.linearize import LinearMap, directional, linearized
from .transforms.stage import by_position

__all__ = ["Linear", "ValueAndJvp", "grad", "hvp", "jvp", "linearize", "value_and_grad", "value_and_jvp", "vjp"]


def value_and_grad(
    function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., ValueAndGrad]:
    """A function that returns ``(value, grad)`` of a scalar function, from one forward pass.

    The gradient has the structure of the differentiated argument (a tuple of those for several ``argnums``): a tensor
    of the leaf's shape and dtype for every float, a float one for every integer, None for functions, strings and
    booleans. A leaf that the result does not depend on has gradient zero. With ``has_aux`` the function returns
    ``(value, aux)``, and so does this one in place of the value. Raises ``GradientError`` for a result that is not
    scalar. Of a ``@defn`` function the result is compiled; of a plain one it is computed at once with NumPy.

    Formulas that overflow or cancel on the way, such as ``log(softmax(x))``, are differentiated in their stable form.

    >>> import defnpy as dp
    >>> def loss(p, x):
    ...     return dp.sum((p["w"] * x - 1.0) ** 2)
    >>> value, g = dp.value_and_grad(loss)({"w": 2.0}, dp.asarray([1.0, 2.0]))
    >>> value, g
    (Tensor(10., dtype=float32), {'w': Tensor(14., dtype=float32)})
    """
    made: Callable[..., ValueAndGrad] = _transformed(
        function, value_and_gradient(_inner(function), argnums, has_aux, prepare)
    )
    return made


def grad(
    function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of a scalar function; with ``has_aux``, ``(gradient, aux)``.

    See :func:`value_and_grad` for arguments and structure. It can be applied again for higher derivatives.

    >>> import defnpy as dp
    >>> f = lambda x: 3 * x**2 + 2 * x + 1
    >>> dp.grad(f)(2.0), dp.grad(dp.grad(f))(1.0)
    (Tensor(14., dtype=float32), Tensor(6., dtype=float32))
    """
    made: Callable[..., Any] = _transformed(function, gradient_of("grad", _inner(function), argnums, has_aux))
    return made


def gradient_of(
    called: str, inner: Callable[..., Any], argnums: int | tuple[int, ...], has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a plain function, to be called under a trace. called: what the user called, for messages."""
    both = value_and_gradient(inner, argnums, has_aux, prepare, called)

    @functools.wraps(inner)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient


def _inner(function: Any) -> Any:
    return function.function if isinstance(function, Defn) else function


def _program(function: Any, called: str, transformed: Callable[..., Any]) -> Callable[..., Any]:
    """A transformed function as its user calls it; of a ``@defn`` function the one made before, which is compiled."""
    if not isinstance(function, Defn):
        made: Callable[..., Any] = _transformed(function, transformed)
        return made
    if called not in function.derived:
        function.derived[called] = _transformed(function, transformed)
    return function.derived[called]


def jvp(
    function: Callable[..., Any], /, primals: Sequence[Any], tangents: Sequence[Any], **static: Any
) -> tuple[Any, Any]:
    """The value of a function and its derivative along a direction, in one walk: ``(value, tangent)``.

    primals: the arguments, a tuple with one container for each. tangents: the direction, of the same structure; None
    in place of a leaf stands for zero. Shapes are those of the primals. The tangent has the structure of the value,
    zero where a float does not move, None for booleans and for integers that do not move. static: keyword-only
    arguments of the function.

    The cost is a small multiple of the function's own, for any number of results; for the derivative with respect to
    many arguments see :func:`vjp` and :func:`grad`.

    >>> import defnpy as dp
    >>> dp.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, None))
    (Tensor(6., dtype=float32), Tensor(3., dtype=float32))
    """
    _check_pairs("jvp", primals, tangents)

    def along(primals: Any, tangents: Any, **static: Any) -> tuple[Any, Any]:
        return directional("jvp", _inner(function), primals, tangents, static, prepare)

    found: tuple[Any, Any] = _program(function, "jvp", along)(tuple(primals), tuple(tangents), **static)
    return found


def _check_pairs(called: str, primals: Any, tangents: Any) -> None:
    for what, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, (tuple, list)):
            raise GradientError(
                f"{called}: the {what} are a tuple with one entry for each argument, not {type(value).__name__}",
                where=quote(capture()),
                hint=f"write ({what[:-1]},) for a single one",
            )
    if len(primals) != len(tangents):
        raise GradientError(
            f"{called}: there are {len(primals)} primals and {len(tangents)} tangents",
            where=quote(capture()),
            hint="give None for an argument that does not move",
        )


class ValueAndJvp(NamedTuple):
    """What the function of :func:`value_and_jvp` returns."""

    value: Any
    tangent: Any


def value_and_jvp(function: Callable[..., Any]) -> Callable[..., ValueAndJvp]:
    """:func:`jvp` of ``function``, to be passed on: a function of primals and tangents that returns their
    ``(value, tangent)`` by name, as that of :func:`value_and_grad` returns ``(value, grad)``.

    >>> import defnpy as dp
    >>> dp.value_and_jvp(lambda x, y: x * y)((2.0, 3.0), (1.0, None)).tangent
    Tensor(3., dtype=float32)
    """
    return lambda primals, tangents, **static: ValueAndJvp(*jvp(function, primals, tangents, **static))


class Linear:
    """A linear map between containers of tensors, the derivative of a function at a point. See :func:`vjp` and
    :func:`linearize`, which make it.

    >>> import defnpy as dp
    >>> dp.linearize(dp.sin, 0.0)[1]
    <linear map of sin>
    """

    def __init__(self, function: Any, kept: list[Any], inner: LinearMap) -> None:
        self._function = function
        self._kept = kept
        self._inner = inner

    def __call__(self, *given: Any) -> Any:
        inner = self._inner
        takes = 1 if inner.backwards else inner.source.structure.num_children
        if len(given) != takes:
            wanted = f"{takes} {inner.source.noun}{'s' * (takes != 1)}"
            raise GradientError(
                f"{inner.called}: the linear map takes {wanted}, got {len(given)}", where=quote(capture())
            )
        direction = given[0] if inner.backwards else given
        if current() is not None:
            return inner(self._kept, direction)
        if not isinstance(self._function, Defn):
            return _evaluated(inner, (self._kept, direction), {})
        if inner.program is None:
            inner.program = _transformed(self._function, inner.__call__)
        return inner.program(self._kept, direction)

    def __repr__(self) -> str:
        return f"<linear map of {getattr(self._function, '__name__', 'a function')}>"


def _at_a_point(
    called: str, function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, Linear]:
    def at(*args: Any, **static: Any) -> Any:
        return tuple(linearized(called, _inner(function), args, static, prepare, backwards=called == "vjp"))

    args, static = by_position(_inner(function), args, named)
    value, kept, inner = _program(function, called, at)(*args, **static)
    return value, Linear(function, kept, inner)


def vjp(function: Callable[..., Any], /, *args: Any, **static: Any) -> tuple[Any, Linear]:
    """The value of a function and the map that pulls cotangents back: ``(value, pullback)``.

    ``pullback(cotangent)`` takes a container of the structure of the value, None in place of a leaf standing for zero,
    and returns a tuple with one container for each argument: the derivatives of the sum of value times cotangent, as
    :func:`grad` gives them. It can be called any number of times; what it needs of the way forward is kept, and
    computed once. static: keyword-only arguments of the function.

    >>> import defnpy as dp
    >>> value, pullback = dp.vjp(lambda x, y: x * y, dp.asarray([1.0, 2.0]), 3.0)
    >>> pullback(dp.asarray([1.0, 10.0]))
    (Tensor([ 3., 30.], dtype=float32), Tensor(21., dtype=float32))
    """
    return _at_a_point("vjp", function, args, static)


def linearize(function: Callable[..., Any], /, *args: Any, **static: Any) -> tuple[Any, Linear]:
    """The value of a function and its derivative there, a linear map of tangents: ``(value, derivative)``.

    ``derivative(*tangents)`` takes one container for each argument and returns the tangent that :func:`jvp` gives, but
    computes the function no second time: for many directions at one point. static: keyword-only arguments of the
    function.

    >>> import defnpy as dp
    >>> value, derivative = dp.linearize(lambda x: x**3, 2.0)
    >>> value, derivative(1.0), derivative(10.0)
    (Tensor(8., dtype=float32), Tensor(12., dtype=float32), Tensor(120., dtype=float32))
    """
    return _at_a_point("linearize", function, args, static)


def hvp(
    function: Callable[..., Any], /, primals: Sequence[Any], tangents: Sequence[Any], **static: Any
) -> tuple[Any, ...]:
    """The Hessian of a scalar function times a direction, without the Hessian: the derivative of its gradient along it.

    Arguments are those of :func:`jvp`; the result is a tuple with one container for each argument. It costs a small
    multiple of the function. Raises ``GradientError`` for a result that is not scalar.

    >>> import defnpy as dp
    >>> dp.hvp(lambda x: dp.sum(x**3), (dp.asarray([1.0, 2.0]),), (dp.asarray([1.0, 10.0]),))
    (Tensor([  6., 120.], dtype=float32),)
    """
    _check_pairs("hvp", primals, tangents)
    count = len(primals)
    gradient = _program(function, f"gradient {count}", gradient_of("hvp", _inner(function), tuple(range(count))))
    found: tuple[Any, ...] = jvp(gradient, primals, tangents, **static)[1]
    return found
