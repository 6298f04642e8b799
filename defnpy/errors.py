"""Exception classes and the three-part message: what, where, way out.

Every error a user can cause is a :class:`DefnpyError`. Each class also derives from the built-in
exception a NumPy user would catch (``ValueError``, ``TypeError``, ``IndexError``), so that existing
``except`` clauses keep working.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DTypeError",
    "DataError",
    "DefnpyError",
    "GradientError",
    "ImmutableError",
    "IndexingError",
    "LeakError",
    "Mismatch",
    "ShapeError",
    "TraceError",
    "TrainingError",
    "TreeError",
]


class Mismatch(Exception):
    """What is wrong, and nothing else: raised by pure functions that know neither op nor place.

    ``Op.__call__`` turns it into ``error`` (a :class:`DefnpyError` class) with the op and the user's line.
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
    """Shapes or axes do not fit the operation."""


class DTypeError(DefnpyError, TypeError):
    """A dtype is unknown, or not accepted by the operation."""


class IndexingError(DefnpyError, IndexError):
    """An index is out of bounds or of a kind that cannot index."""


class ImmutableError(DefnpyError, TypeError):
    """Somebody tried to write into a tensor."""


class TraceError(DefnpyError, TypeError):
    """A traced value was used where Python needs a concrete one (``if``, ``float()``, NumPy ...)."""


class LeakError(DefnpyError, RuntimeError):
    """A traced value outlived the function that made it."""


class GradientError(DefnpyError, TypeError):
    """A derivative was asked for where none is defined (a non-scalar output, an op without a rule)."""


class TreeError(DefnpyError, ValueError):
    """Containers of different structure met where equal ones are needed."""


class ConfigError(DefnpyError, ValueError):
    """An option or environment variable has a value that is not known."""


class DataError(DefnpyError, ValueError):
    """A data file is missing, truncated or of another format."""


class TrainingError(DefnpyError, ArithmeticError):
    """Training cannot go on: the loss is no longer finite."""
