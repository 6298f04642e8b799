"""One record of options: read from the environment once, changed for a block with ``with config(...)``."""

from __future__ import annotations

import dataclasses
import os
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType

from .errors import ConfigError

__all__ = ["BACKENDS", "Options", "config", "current"]

BACKENDS = ("cpu", "reference")


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything that can be chosen.

    backend: ``"cpu"`` (compiled kernels) or ``"reference"`` (NumPy, op by op).
    cache_dir: folder of the disk cache for compiled kernels; ``""`` switches it off.
    verify: check the graph after the trace and after every pass (slow; on in the test suite).
    """

    backend: str = "cpu"
    cache_dir: str = ""
    verify: bool = False

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(
                f"unknown backend {self.backend!r}", hint=f"choose one of {', '.join(map(repr, BACKENDS))}"
            )
        if not isinstance(self.cache_dir, (str, os.PathLike)):
            raise ConfigError(f"cache_dir must be a path, not {self.cache_dir!r}")
        object.__setattr__(self, "cache_dir", os.fspath(self.cache_dir))
        if not isinstance(self.verify, bool):
            raise ConfigError(f"verify must be True or False, not {self.verify!r}")


def default_cache_dir() -> str:
    """``$XDG_CACHE_HOME/defnpy``, or ``~/.cache/defnpy``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "defnpy")


def _from_environment() -> Options:
    backend = os.environ.get("DEFNPY_BACKEND", "cpu")
    if backend not in BACKENDS:
        raise ConfigError(
            f"DEFNPY_BACKEND={backend!r} names no backend",
            hint=f"set it to one of {', '.join(BACKENDS)}, or unset it",
        )
    verify = os.environ.get("DEFNPY_VERIFY", "0")
    if verify not in ("0", "1"):
        raise ConfigError(f"DEFNPY_VERIFY={verify!r} is neither 0 nor 1", hint="set DEFNPY_VERIFY=1 or unset it")
    return Options(backend, os.environ.get("DEFNPY_CACHE_DIR", default_cache_dir()), verify == "1")


_environment: Options | None = None
_current: ContextVar[Options | None] = ContextVar("defnpy_options", default=None)


def current() -> Options:
    """The options in force here: those of the innermost ``with config(...)``, else the environment's."""
    global _environment
    options = _current.get()
    if options is not None:
        return options
    if _environment is None:
        _environment = _from_environment()
    return _environment


class config:
    """Change options inside a ``with`` block (per thread and per async task).

    Keyword arguments are the fields of :class:`Options`. Raises ``ConfigError`` for unknown names or values.

    >>> import defnpy as dp
    >>> with dp.config(backend="reference") as options:
    ...     options.backend
    'reference'
    """

    def __init__(self, **changes: object) -> None:
        names = [field.name for field in dataclasses.fields(Options)]
        for name in changes:
            if name not in names:
                raise ConfigError(f"unknown option {name!r}", hint=f"the options are {', '.join(names)}")
        self._options = dataclasses.replace(current(), **changes)  # type: ignore[arg-type]
        self._tokens: list[Token[Options | None]] = []

    def __enter__(self) -> Options:
        self._tokens.append(_current.set(self._options))
        return self._options

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())
