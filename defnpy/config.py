"""One record of options: read from the environment once, changed for a block with ``with config(...)``."""

from __future__ import annotations

import dataclasses
import os
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType

from .errors import ConfigError

__all__ = ["BACKENDS", "RENDERERS", "Options", "config", "current"]

BACKENDS = ("cpu", "reference")
RENDERERS = ("llvm", "numba")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything that can be chosen.

    backend: ``"cpu"`` (compiled kernels) or ``"reference"`` (NumPy, op by op).
    cache_dir: folder of the disk cache for compiled kernels; ``""`` switches it off.
    verify: check the graph after the trace and after every pass (slow; on in the test suite).
    renderer: who compiles the kernels of the cpu backend: ``"llvm"`` (at once) or ``"numba"`` (from the Python source
        that ``f.source()`` shows; slower to start, as fast to run).
    threads: how many threads may share a large step, by default one for every core that the process may use.
    reproducible: results do not depend on ``threads``, not even in the last bits of large matrix products.
    """

    backend: str = "cpu"
    cache_dir: str = ""
    verify: bool = False
    renderer: str = "llvm"
    threads: int = dataclasses.field(default_factory=cores)
    reproducible: bool = False
    target: tuple[str, str, int, bool] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for kind, chosen, known in (("backend", self.backend, BACKENDS), ("renderer", self.renderer, RENDERERS)):
            if chosen not in known:
                raise ConfigError(f"unknown {kind} {chosen!r}", hint=f"choose one of {', '.join(map(repr, known))}")
        if type(self.threads) is not int or self.threads < 1:
            raise ConfigError(f"threads must be a positive integer, not {self.threads!r}")
        if not isinstance(self.cache_dir, (str, os.PathLike)):
            raise ConfigError(f"cache_dir must be a path, not {self.cache_dir!r}")
        object.__setattr__(self, "cache_dir", os.fspath(self.cache_dir))
        # What a compiled program depends on: part of the key of every call.
        object.__setattr__(self, "target", (self.backend, self.renderer, self.threads, self.reproducible))
        for name, switch in (("verify", self.verify), ("reproducible", self.reproducible)):
            if not isinstance(switch, bool):
                raise ConfigError(f"{name} must be True or False, not {switch!r}")


def default_cache_dir() -> str:
    """``$XDG_CACHE_HOME/defnpy``, or ``~/.cache/defnpy``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "defnpy")


def _choice(kind: str, known: tuple[str, ...]) -> str:
    """The backend or renderer that the environment names; the first one where it names none."""
    variable = f"DEFNPY_{kind.upper()}"
    chosen = os.environ.get(variable, known[0])
    if chosen not in known:
        raise ConfigError(
            f"{variable}={chosen!r} names no {kind}", hint=f"set it to one of {', '.join(known)}, or unset it"
        )
    return chosen


def _switch(name: str) -> bool:
    """Whether the environment switches an option on."""
    variable = f"DEFNPY_{name.upper()}"
    value = os.environ.get(variable, "0")
    if value not in ("0", "1"):
        raise ConfigError(f"{variable}={value!r} is neither 0 nor 1", hint=f"set {variable}=1 or unset it")
    return value == "1"


def _from_environment() -> Options:
    backend = _choice("backend", BACKENDS)
    verify = _switch("verify")
    renderer = _choice("renderer", RENDERERS)
    threads = os.environ.get("DEFNPY_NUM_THREADS", "")
    if threads and not (threads.isdecimal() and int(threads) > 0):
        raise ConfigError(
            f"DEFNPY_NUM_THREADS={threads!r} is no positive number", hint="set it to 1 or more, or unset it"
        )
    folder = os.environ.get("DEFNPY_CACHE_DIR", default_cache_dir())
    count = int(threads) if threads else cores()
    return Options(backend, folder, verify, renderer, count, _switch("reproducible"))


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
        names = [field.name for field in dataclasses.fields(Options) if field.init]
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
