"""``@defn``: what users decorate and call; and how a transformed function is called."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar

import numpy as np

from . import tree
from .backends.base import Backend
from .backends.reference import ReferenceBackend
from .compiled import Compiled, Entry, as_array, count_compilation, key_text, leaf_key, static_key
from .config import current as options
from .errors import ConfigError, TraceError
from .explain import Explanation
from .ir.expr import Graph, Value
from .ir.trace import NUMBERS, current
from .passes.pipeline import optimize, uncollected
from .source import capture, quote
from .tensor import Tensor, wrap
from .transforms.captures import watch
from .transforms.python import rewritten
from .transforms.stage import REGISTER, filled, is_tensor, keeps_tensors, parameter_names, stage, strengthen

__all__ = ["CacheInfo", "Defn", "RecompileWarning", "clear_cache", "defn"]

Seen = tuple[Callable[[Any], list[Any]] | None, dict[Any, Entry]]
P = ParamSpec("P")
R = TypeVar("R")

WARN_AT = 8  # compilations of one function before the user is told what keeps changing


class RecompileWarning(UserWarning):
    """One function is compiled again and again, for arguments that differ in shape, dtype or static value.

    >>> import warnings
    >>> import defnpy as dp
    >>> f = dp.defn(lambda x: x + 1, backend="reference")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     results = [f(dp.ones(n)) for n in range(8)]
    >>> print(caught[0].message)
    <lambda> was compiled 8 times; last because the argument x changed from f32[6] to f32[7]
    """


class CacheInfo(NamedTuple):
    """hits: calls that found a compiled program. misses: those that had to compile. size: programs held.
    seconds: time spent tracing and compiling.

    >>> import defnpy as dp
    >>> f = dp.defn(lambda x: x + 1, backend="reference")
    >>> f(1), f(2)
    (Tensor(2, dtype=int64), Tensor(3, dtype=int64))
    >>> f.cache_info()[:3]
    (1, 1, 1)
    """

    hits: int
    misses: int
    size: int
    seconds: float


class Defn(Generic[P, R]):
    """A function that is traced, compiled for the shapes and dtypes of its arguments, and kept. See :func:`defn`.

    >>> import defnpy as dp
    >>> dp.defn(abs)
    <defn abs>
    """

    def __init__(self, function: Callable[P, R], backend: str | None = None, donate: Sequence[str] = ()) -> None:
        self.__name__ = getattr(function, "__name__", "function")
        self.function = function
        self._backend = backend
        functools.update_wrapper(self, function)
        parameters = list(inspect.signature(function).parameters.values())
        self._positional = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        self._donate = tuple(donate)
        self._places = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        for name in self._donate:
            if name not in self._places:
                raise ConfigError(
                    f"{self.__name__} has no positional argument {name!r} to donate",
                    hint=f"its arguments are {', '.join(p.name for p in parameters)}",
                )
        self.derived: dict[str, Defn[Any, Any]] = {}  # its derivatives as programs of their own: see derivatives.py
        self._entries: dict[Any, Entry] = {}
        # The same programs, of calls with tensors and numbers alone, by the rest of the key, behind what finds the
        # leaves of the containers, None where there are none. Those of the last call are at hand.
        self._seen: dict[tree.Structure, Seen] = {}
        self._recent: Seen = (None, {})
        self._static: tuple[tuple[str, ...], tuple[Any, ...], Any] = ((), (), ())  # the last: names, values, key
        self._compiling = threading.RLock()
        _made.add(self)
        self._hits = 0
        self._misses = 0
        self._seconds = 0.0
        self._last: tuple[Any, list[str]] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if current() is not None:
            return self.function(*args, **kwargs)
        target = options().target if self._backend is None else self._target()
        names, values, static = self._static
        leaves_of, seen = self._recent
        try:
            leaves: Any = args if leaves_of is None else leaves_of(args)
            avals = [x.aval if type(x) is Tensor else NUMBERS[type(x)] for x in leaves]
            entry = seen[tuple(avals), target, static]
            arrays = entry.arrays(leaves) if entry.numbers else [x._ready for x in leaves]
        except (AttributeError, KeyError, OverflowError, ValueError):
            pass  # other containers or leaves, tensors that are not in order, or a call that was never made before
        else:
            if not (kwargs or names) or (tuple(kwargs) == names and all(map(is_, kwargs.values(), values))):
                captured = entry.constants
                if captured is None:
                    captured = entry.captured_arrays()
                if captured is not None:
                    self._hits += 1
                    if self._donate:
                        self._give(entry, leaves)
                    return entry.compiled.launch(arrays + captured if captured else arrays)
        return self._call(args, kwargs, target)

    def _target(self) -> tuple[Any, ...]:
        """What the program is compiled for, beside the arguments."""
        target = options().target
        return target if self._backend is None else (self._backend, *target[1:])

    def _call(self, args: Any, kwargs: dict[str, Any], target: tuple[Any, ...]) -> Any:
        positional, static = self._bound(args, kwargs) if kwargs else (args, kwargs)
        leaves, structure = tree.flatten(positional)
        key = self._key(leaves, structure, static, target)
        found = self._found(key)
        if found is None:
            with self._compiling:
                found = self._found(key)  # another thread may have compiled it meanwhile
                if found is None:
                    entry = self._compile(key, positional, static)
                    found = entry, entry.captured
                else:
                    self._hits += 1
        else:
            self._hits += 1
        entry, captured = found
        if static is kwargs and all(type(leaf) is Tensor or type(leaf) in NUMBERS for leaf in leaves):
            flat = len(leaves) == len(args) and all(map(is_, leaves, args))
            self._static = tuple(static), tuple(static.values()), key[3:]
            seen = self._seen.get(structure)
            if seen is None:
                seen = self._seen.setdefault(structure, ((None if flat else tree.follower(structure)), {}))
            seen[1][key[1], target, key[3:]] = entry  # before other threads can make another call the last one
            self._recent = seen
        arrays = entry.compiled.arrays(leaves, captured)
        if self._donate:
            self._give(entry, leaves)
        return entry.compiled.launch(arrays)

    def _found(self, key: Any) -> tuple[Entry, list[Any]] | None:
        """The program for a call and what it captures now, or None when the function must be traced."""
        entry = self._entries.get(key)
        captured = entry.captures() if entry is not None else None
        return None if entry is None or captured is None else (entry, captured)

    def _donated(self, positional: tuple[Any, ...]) -> list[bool]:
        """For every leaf of the arguments, whether it is donated."""
        return [
            name in self._donate
            for name, arg in itertools.zip_longest(self._places[: len(positional)], positional)
            for _ in range(len(tree.leaves(arg)))
        ]

    def _give(self, entry: Entry, leaves: Sequence[Any]) -> None:
        """Take the donated tensors' memory from them."""
        for leaf in {id(leaves[i]): leaves[i] for i in entry.donated}.values():
            if type(leaf) is Tensor:
                leaf._donate(self.__name__)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else Method(self, instance)

    def _bound(self, args: Any, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional arguments, some of which may have been given by name, and the static ones."""
        if self._positional.isdisjoint(kwargs):
            return args, kwargs
        bound = inspect.signature(self.function).bind(*args, **kwargs)
        behind = [value for name, value in bound.kwargs.items() if name in self._positional]
        if any(isinstance(leaf, (Value, np.ndarray)) for leaf in tree.leaves(behind)):
            bound = filled(bound)  # an array has to be at its position; options behind defaults are static
        return bound.args, bound.kwargs

    def _key(self, leaves: list[Any], structure: tree.Structure, static: dict[str, Any], target: Any) -> Any:
        named = [(name, static_key(static[name])) for name in sorted(static)] if static else ()
        avals = tuple([leaf.aval if type(leaf) is Tensor else leaf_key(leaf) for leaf in leaves])
        key = (structure, avals, target, *named)
        try:
            hash(key)
        except TypeError:
            raise self._unhashable(leaves, static) from None
        return key

    def _unhashable(self, leaves: list[Any], static: dict[str, Any]) -> Exception:
        for name, value in static.items():
            if any(isinstance(leaf, (Value, np.ndarray)) for leaf in tree.leaves(value)):
                return self._array_by_keyword(name)
            try:
                hash(value)
            except TypeError:
                return TraceError(
                    f"{self.__name__}: the static argument {name} is an unhashable {type(value).__name__}",
                    where=quote(capture()),
                    hint="pass a tuple instead of a list, or pass it by position to have it traced",
                )
        bad = next(leaf for leaf in leaves if type(leaf).__hash__ is None)
        return TraceError(
            f"{self.__name__}: {type(bad).__name__} is neither a tensor nor hashable",
            where=quote(capture()),
            hint=REGISTER if keeps_tensors(bad) else "pass something hashable: a tuple, a frozenset",
        )

    def _array_by_keyword(self, name: str) -> Exception:
        return TraceError(
            f"{self.__name__}: the keyword-only argument {name} is an array, but keyword-only arguments are static",
            where=quote(capture()),
            hint="pass it by position: those arguments are traced, and new values compile nothing",
        )

    def _compile(self, key: Any, positional: tuple[Any, ...], static: dict[str, Any]) -> Entry:
        for name, value in static.items():
            if any(isinstance(leaf, (Value, np.ndarray)) for leaf in tree.leaves(value)):
                raise self._array_by_keyword(name)
        started = time.perf_counter()
        with uncollected():
            compiled = self._compiled(positional, static, key[2][0])
        donated = [i for i, gone in enumerate(self._donated(positional)) if gone] if self._donate else []
        objects = [leaf for leaf in tree.leaves((positional, static)) if not is_tensor(leaf)]
        watched = watch(self.function, objects)
        outdated = self._entries[key].outdated() if key in self._entries else []
        entry = self._entries[key] = Entry(compiled, watched, [positional, static], donated)
        seconds = time.perf_counter() - started
        self._misses += 1
        self._seconds += seconds
        count_compilation(seconds)
        self._warn(key, positional, outdated)
        return entry

    def _compiled(self, positional: tuple[Any, ...], static: dict[str, Any], backend: str) -> Compiled:
        staged = stage(self.function, positional, static)
        traced = strengthen(staged.graph)
        graph = optimize(traced)
        numbers = [i for i, leaf in enumerate(tree.leaves(positional)) if is_tensor(leaf)]
        gone = self._donated(positional) if self._donate else []
        donated = [number for number, i in enumerate(numbers) if gone and gone[i]]
        executable = load_backend(backend).compile(graph, donated)
        return Compiled(staged, traced, graph, executable, positional, self.__name__)

    def _warn(self, key: Any, positional: tuple[Any, ...], outdated: list[str]) -> None:
        names = [
            path
            for name, arg in zip(parameter_names(self.function, len(positional)), positional, strict=True)
            for path in tree.paths(arg, name)
        ]
        before, self._last = self._last, (key, names)
        if self._misses != WARN_AT or before is None:
            return
        reason = _changed(before, (key, names))
        if not reason:
            reason = f"{' and '.join(outdated) or 'something'}, which it reads from around it, changed"
        warnings.warn(
            f"{self.__name__} was compiled {WARN_AT} times; last because {reason}",
            RecompileWarning,
            stacklevel=5,
        )

    # -- looking inside -----------------------------------------------------------------------------------------

    def expr(self, *args: Any, **static: Any) -> Graph:
        """The traced graph for these arguments (tensors or :func:`spec`); it prints as aligned lines."""
        return strengthen(stage(self.function, *self._bound(args, static)).graph)

    def compile(self, *args: Any, **static: Any) -> Compiled:
        """Compile for these arguments (tensors or :func:`spec`), now, and return the program."""
        return self._compiled(*self._bound(args, static), self._target()[0])

    def explain(self, *args: Any, measure: bool = False, **static: Any) -> Explanation:
        """What becomes of the function for these arguments (tensors or :func:`spec`), from the graph to the kernels.

        measure: also run every step by itself on the arguments, which must be tensors then, and tell its time. It
        prints as a text; see :class:`Explanation`.
        """
        positional, static = self._bound(args, static)
        compiled = self._compiled(positional, static, self._target()[0])
        return Explanation(self.__name__, compiled, compiled.measure(*positional) if measure else None)

    def source(self, *args: Any, **static: Any) -> str:
        """The generated program for these arguments (tensors or :func:`spec`), as text."""
        return self.compile(*args, **static).source()

    def cache_info(self) -> CacheInfo:
        """Hits, misses, the number of programs held, and the seconds spent compiling."""
        return CacheInfo(self._hits, self._misses, len(self._entries), self._seconds)

    def cache_clear(self) -> None:
        """Forget all compiled programs (the disk cache stays)."""
        self._entries.clear()
        self._seen.clear()
        self._recent = (None, {})

    def __repr__(self) -> str:
        return f"<defn {self.__name__}>"


class Method(functools.partial[Any]):
    """A :class:`Defn` bound to an object, as ``obj.method`` gives it: called and looked into like the function.

    >>> import defnpy as dp
    >>> class Scale:
    ...     rate = 2.0
    ...
    ...     @dp.defn
    ...     def apply(self, x):
    ...         return x * self.rate
    >>> Scale().apply.expr(dp.spec(3)).outputs[0].op.name
    'multiply'
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        found = getattr(self.func, name)
        return functools.partial(found, *self.args) if name in ("expr", "compile", "explain", "source") else found


_made: weakref.WeakSet[Defn[Any, Any]] = weakref.WeakSet()


def _forked() -> None:
    for function in _made:
        function._compiling = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _static_text(key: Any) -> str:
    if key is None:
        return "its default"
    kind, *values = key
    if isinstance(values[0] if values else None, tuple) or kind is tuple:
        return f"({', '.join(map(_static_text, values))})"
    return str(values[0]) if kind is float else repr(values[0])


def _changed(last: tuple[Any, list[str]], this: tuple[Any, list[str]]) -> str:
    """Which part of the key of a call differs from the one before, in words; nothing where none does."""
    (before, names_before), (now, names) = last, this
    if before[0] != now[0]:
        more = [name for name in names if name not in names_before]
        gone = [name for name in names_before if name not in names]
        if not (more or gone):
            return "the arguments are containers of another kind"
        return f"the arguments now have {', '.join(more[:3])}" if more else f"the arguments lack {', '.join(gone[:3])}"
    for name, old, new in zip(names, before[1], now[1], strict=True):
        if old != new:
            return f"the argument {name} changed from {key_text(old)} to {key_text(new)}"
    if before[2] != now[2]:
        options_of = "backend", "renderer", "number of threads", "option reproducible"
        for name, old, new in zip(options_of, before[2], now[2], strict=True):
            if old != new:
                return f"the {name} changed from {old} to {new}"
    old_static, new_static = dict(before[3:]), dict(now[3:])
    for name in {**old_static, **new_static}:
        if old_static.get(name) != new_static.get(name):
            old, new = (_static_text(keys.get(name)) for keys in (old_static, new_static))
            return f"the static argument {name} changed from {old} to {new}"
    return ""


def defn(
    function: Callable[P, R] | None = None,
    /,
    *,
    backend: str | None = None,
    donate: str | Sequence[str] = (),
    control_flow: Literal["python"] | None = None,
) -> Any:
    """Compile a pure function of tensors; to be used as ``@defn`` or ``@defn(backend="reference")``.

    Positional arguments are containers (dicts, lists, tuples, registered dataclasses) of tensors, NumPy arrays and
    Python numbers: they are traced, and new values of the same shapes and dtypes compile nothing. Keyword-only
    arguments are static: any hashable values, each new one compiles anew. Functions and strings among the leaves are
    static too. Tensors that the function captures from outside, attributes of objects among them, become hidden inputs:
    it always sees their present values. Called from another traced function it is inlined.

    donate: names of arguments whose tensors are given away: their memory becomes that of results of the same shape and
    dtype, so that a step ``params -> params`` needs no second copy of them. Using them afterwards is a
    ``DonatedError``. Memory that somebody else still sees (``np.asarray(x)``) is copied, never changed. The ``grad`` of
    such a function donates nothing.

    control_flow: with ``"python"``, the function's own ``if``, ``while``, ``for ... in range(...)`` and
    ``a if c else b`` may depend on traced values: its source is rewritten to calls of ``cond``, ``while_loop`` and
    ``fori_loop``. Without it, a traced condition is a ``TraceError``, as is, with it, what those cannot do (``break``).

    The decorated function has ``expr``, ``source``, ``explain``, ``compile`` and ``cache_info``.

    >>> import defnpy as dp
    >>> @dp.defn
    ... def affine(params, x, *, scale=1.0):
    ...     return (x @ params["W"] + params["b"]) * scale
    >>> affine({"W": dp.eye(2), "b": dp.ones(2)}, dp.asarray([1.0, 2.0]), scale=10.0)
    Tensor([20., 30.], dtype=float32)
    >>> affine.cache_info().misses
    1
    >>> @dp.defn(control_flow="python")
    ... def root(a):
    ...     x = a
    ...     while abs(x * x - a) > 1e-6 * a:
    ...         x = (x + a / x) / 2
    ...     return x
    >>> print(f"{root(dp.asarray(9.0)):.3f}")
    3.000
    """
    if backend is not None:
        load_backend(backend)
    if control_flow not in (None, "python"):
        raise ConfigError(f"unknown control flow {control_flow!r}", hint="choose 'python', or leave it away")
    change = rewritten if control_flow == "python" else lambda f: f
    names = (donate,) if isinstance(donate, str) else tuple(donate)
    if function is None:
        return lambda f: Defn(change(f), backend, names)
    return Defn(change(function), backend, names)


_backends: dict[str, Backend] = {"reference": ReferenceBackend()}


def load_backend(name: str) -> Backend:
    """The backend of that name; the compiling one is imported on its first use, so that ``import defnpy`` is light."""
    if name not in _backends:
        if name != "cpu":
            raise ConfigError(f"unknown backend {name!r}", hint="choose 'cpu' or 'reference'")
        from .backends.cpu.backend import CpuBackend

        _backends[name] = CpuBackend()
    return _backends[name]


def clear_cache() -> int:
    """Remove all compiled kernels from the disk cache (``DEFNPY_CACHE_DIR``); returns how many files there were.

    Programs in memory stay. The cache needs no care of its own: it is bounded to 256 MiB, the longest unused going
    first, and entries of other versions are never used.

    >>> import tempfile
    >>> import defnpy as dp
    >>> with tempfile.TemporaryDirectory() as folder, dp.config(cache_dir=folder, backend="cpu"):
    ...     y = dp.defn(lambda x: x * 123.0)(dp.ones(3))
    ...     dp.clear_cache() > 0, dp.clear_cache()
    (True, 0)
    """
    return load_backend("cpu").clear_cache()


def _evaluated(transformed: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run a transformed function at once, on the reference evaluator."""
    staged = stage(transformed, args, kwargs)
    graph = strengthen(staged.graph)
    leaves = [leaf for leaf in tree.leaves(tuple(args)) if is_tensor(leaf)]
    arrays = [as_array(x, node.dtype) for x, node in zip((*leaves, *staged.captured), graph.inputs, strict=True)]
    return staged.rebuild([wrap(x) for x in load_backend("reference").compile(graph)(arrays)])


def _transformed(function: Any, transformed: Callable[..., Any]) -> Any:
    """A transformed function as its user calls it: compiled when the original is, run at once otherwise."""
    if isinstance(function, Defn):
        return Defn(transformed, function._backend)

    @functools.wraps(transformed)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _evaluated(transformed, args, kwargs) if current() is None else transformed(*args, **kwargs)

    return wrapper
