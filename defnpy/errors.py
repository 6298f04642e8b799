"""Exception classes and the three-part message: what, where, way out.

Every error a user can cause is a :class:`DefnpyError`. Each class also derives from the built-in
exception a NumPy user would catch (``ValueError``, ``TypeError``, ``IndexError``), so that existing
``except`` clauses keep working.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "ConfigError",
    "DTypeError",
    "DataError",
    "DefnpyError",
    "DonatedError",
    "GradientError",
    "ImmutableError",
    "IndexingError",
    "LeakError",
    "LinAlgError",
    "Mismatch",
    "ShapeError",
    "TraceError",
    "TrainingError",
    "TreeError",
]


class Mismatch(Exception):
    """What is wrong, and nothing else: raised by pure functions that know neither op nor place.

    ``trace.call`` turns it into ``error`` (a :class:`DefnpyError` class) with the op and the user's line.

    >>> Mismatch("the inner sizes differ", hint="transpose one").error.__name__
    'ShapeError'
    """

    def __init__(self, what: str, hint: str = "", error: type[DefnpyError] | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.error = ShapeError if error is None else error


class DefnpyError(Exception):
    """Base class. ``str(error)`` is the whole message; the three parts stay readable as attributes.

    >>> print(DefnpyError("add: shapes differ", where="at line 3", hint="reshape one of them"))
    add: shapes differ
    at line 3
    Hint: reshape one of them
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(self.where)
        if self.hint:
            parts.append(f"Hint: {self.hint}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(cls: type[DefnpyError], what: str, where: str, hint: str) -> DefnpyError:
    return cls(what, where=where, hint=hint)


class ShapeError(DefnpyError, ValueError):
    """Shapes or axes do not fit the operation.

    >>> import defnpy as dp
    >>> try:
    ...     dp.ones(3) + dp.ones(4)
    ... except dp.errors.ShapeError as error:
    ...     print(error.what)
    add(f32[3], f32[4]): shapes (3,) and (4,) do not broadcast: 3 and 4 in axis -1
    """


class DTypeError(DefnpyError, TypeError):
    """A dtype is unknown, or not accepted by the operation.

    >>> import defnpy as dp
    >>> try:
    ...     dp.logical_not(dp.asarray([1, 2]))
    ... except dp.errors.DTypeError as error:
    ...     print(error.what)
    logical_not(i64[2]): takes bool, not int64
    """


class IndexingError(DefnpyError, IndexError):
    """An index is out of bounds or of a kind that cannot index.

    >>> import defnpy as dp
    >>> try:
    ...     dp.ones(3)[5]
    ... except dp.errors.IndexingError as error:
    ...     print(error.what)
    index(f32[3], 5): index 5 is out of bounds for axis 0 of size 3
    """


class ImmutableError(DefnpyError, TypeError):
    """Somebody tried to write into a tensor.

    >>> import defnpy as dp
    >>> try:
    ...     dp.ones(3)[0] = 1.0
    ... except dp.errors.ImmutableError as error:
    ...     print(error.what)
    a tensor cannot change: assignment to an element is refused
    """


class TraceError(DefnpyError, TypeError):
    """A traced value was used where Python needs a concrete one (``if``, ``float()``, NumPy ...).

    >>> import defnpy as dp
    >>> try:
    ...     dp.grad(lambda x: x if x > 0 else -x)(1.0)
    ... except dp.errors.TraceError as error:
    ...     print(error.what)
    the truth of a traced value bool[] is not known while tracing
    """


class DonatedError(DefnpyError, RuntimeError):
    """A tensor is used whose memory was given away with ``donate=``.

    >>> import defnpy as dp
    >>> @dp.defn(donate="x")
    ... def twice(x):
    ...     return 2 * x
    >>> x = dp.ones(3)
    >>> y = twice(x)
    >>> try:
    ...     x + 1
    ... except dp.errors.DonatedError as error:
    ...     print(error.what)
    this tensor (f32[3]) was donated to twice, which has used its memory for its results
    """


class LeakError(DefnpyError, RuntimeError):
    """A traced value outlived the function that made it.

    >>> import defnpy as dp
    >>> kept = []
    >>> value = dp.grad(lambda x: kept.append(x) or x)(1.0)
    >>> try:
    ...     kept[0] + 1
    ... except dp.errors.LeakError as error:
    ...     print(error.what)
    a traced value f64~[] is used after the function that made it has returned
    """


class GradientError(DefnpyError, TypeError):
    """A derivative was asked for where none is defined (a non-scalar output, an op without a rule).

    >>> import defnpy as dp
    >>> try:
    ...     dp.grad(lambda x: x * x)(dp.ones(3))
    ... except dp.errors.GradientError as error:
    ...     print(error.what)
    grad: <lambda> must return a scalar, not f32[3]
    """


class LinAlgError(DefnpyError, np.linalg.LinAlgError):
    """A matrix has no such inverse, factor or solution; it is NumPy's exception too.

    >>> import defnpy as dp
    >>> try:
    ...     dp.linalg.inv(dp.ones((2, 2)))
    ... except dp.errors.LinAlgError as error:
    ...     print(error.what)
    inv(f32[2,2]): the matrix is singular
    """


class TreeError(DefnpyError, ValueError):
    """Containers of different structure met where equal ones are needed.

    >>> import defnpy as dp
    >>> try:
    ...     dp.tree.map(lambda x, y: x, {"a": 1}, {"b": 1})
    ... except dp.errors.TreeError as error:
    ...     print(error.what)
    tree.map: container 2 differs from the first: ['a'] is only in the first, ['b'] only in the second
    """


class ConfigError(DefnpyError, ValueError):
    """An option or environment variable has a value that is not known.

    >>> import defnpy as dp
    >>> try:
    ...     dp.config(backend="quantum")
    ... except dp.errors.ConfigError as error:
    ...     print(error.what)
    unknown backend 'quantum'
    """


class DataError(DefnpyError, ValueError):
    """A data file is missing, truncated or of another format.

    >>> from defnpy.errors import DataError
    >>> issubclass(DataError, ValueError)
    True
    """


class TrainingError(DefnpyError, ArithmeticError):
    """Training cannot go on: the loss is no longer finite.

    >>> from defnpy.errors import TrainingError
    >>> issubclass(TrainingError, ArithmeticError)
    True
    """
