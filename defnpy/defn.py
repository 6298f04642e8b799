"""``@defn`` and the differentiation of functions: what users decorate and call."""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np

from . import tree
from .backends.base import Backend, Executable, KernelReport
from .backends.reference import ReferenceBackend
from .config import current as options
from .dtypes import DType, as_dtype
from .errors import ConfigError, DTypeError, TraceError, TreeError
from .ir.aval import Aval
from .ir.expr import Graph, Value
from .ir.trace import aval_of, current, function
from .passes.pipeline import optimize
from .shapes import as_shape
from .source import capture, quote
from .tensor import Tensor, adopt, wrap
from .transforms.captures import Watched, watch
from .transforms.grad import ValueAndGrad, value_and_gradient
from .transforms.stage import Staged, is_tensor, parameter_names, stage, strengthen

__all__ = ["CacheInfo", "Compiled", "Defn", "RecompileWarning", "Spec", "defn", "grad", "spec", "value_and_grad"]

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


class Spec(Value):
    """The shape and dtype of an argument, in place of one. See :func:`spec`."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"spec({self.aval})"


@function
def spec(shape: int | Sequence[int], dtype: Any = "float32") -> Spec:
    """A stand-in for a tensor of ``shape`` and ``dtype``, for ``f.compile``, ``f.expr`` and ``f.source``.

    >>> import defnpy as dp
    >>> dp.spec((2, 3))
    spec(f32[2,3])
    """
    return Spec(Aval(as_shape(shape), as_dtype(dtype)))


class Compiled:
    """A program for arguments of fixed shapes and dtypes; made by ``f.compile``. Call it like the function.

    Values that the function captured from outside are those of the moment of compilation.

    >>> import defnpy as dp
    >>> double = dp.defn(lambda x: 2 * x, backend="reference").compile(dp.spec((2,)))
    >>> double(dp.asarray([1.0, 2.0]))
    Tensor([2., 4.], dtype=float32)
    """

    def __init__(self, staged: Staged, graph: Graph, executable: Executable, args: Sequence[Any], name: str) -> None:
        leaves, self._structure = tree.flatten(tuple(args))
        self._example = tuple(args)
        self._keys = [_leaf_key(leaf) for leaf in leaves]
        self._carried = not all(map(is_tensor, leaves))
        self._names = tree.paths(tuple(args), "args")
        self._staged = staged
        self._executable = executable
        self._name = name
        self._avals = [Aval(node.shape, node.dtype) for node in graph.outputs]
        self._input_dtypes = [node.dtype for node in graph.inputs]
        self.graph = graph

    def __call__(self, *args: Any) -> Any:
        leaves, structure = tree.flatten(args)
        if structure != self._structure:
            raise TreeError(
                f"{self._name} was compiled for other containers: {tree.difference(self._example, args, 'args')}",
                where=quote(capture()),
            )
        for name, expected, leaf in zip(self._names, self._keys, leaves, strict=True):
            if _leaf_key(leaf) != expected:
                raise TreeError(
                    f"{self._name} was compiled for {name}: {_key_text(expected)}, not {_key_text(_leaf_key(leaf))}",
                    where=quote(capture()),
                    hint="call the function itself, which compiles for new shapes, or compile it for these",
                )
        return self.run(leaves, self._staged.captured)

    def run(self, leaves: Sequence[Any], captured: Sequence[Any]) -> Any:
        """Run on the leaves of checked arguments and the captured values."""
        if self._carried:
            leaves = [leaf for leaf in leaves if is_tensor(leaf)]
        arrays = [
            x._array if type(x) is Tensor and x._array.flags.c_contiguous else _array(x, d)
            for x, d in zip((*leaves, *captured), self._input_dtypes, strict=True)
        ]
        outputs = self._executable(arrays)
        return self._staged.rebuild(list(map(adopt, outputs, self._avals)))

    def source(self) -> str:
        """The generated program as text."""
        return self._executable.source()

    def kernels(self) -> list[KernelReport]:
        """What is known of each compiled kernel."""
        return self._executable.kernels()


def _array(value: Any, dtype: DType) -> np.ndarray[Any, Any]:
    if type(value) is Tensor:
        return np.ascontiguousarray(value._array).reshape(value.shape)
    if isinstance(value, Value):
        raise TraceError(
            f"{value!r} stands for a tensor and has no elements",
            where=quote(capture()),
            hint="call with a tensor, or compile for a spec: f.compile(dp.spec(...))",
        )
    try:
        return np.asarray(value, dtype=dtype, order="C")
    except OverflowError:
        raise DTypeError(f"{value} does not fit {dtype}", where=quote(capture()), hint="write it as a float") from None


def _leaf_key(leaf: Any) -> Hashable:
    if type(leaf) is Tensor:
        return leaf.aval
    if is_tensor(leaf):
        return aval_of(leaf)
    return leaf


def _static_key(value: Any) -> Hashable:
    """A static value with its type: 1, 1.0 and True are equal, and so are 0.0 and -0.0, but they are not the same."""
    if isinstance(value, tuple):
        return (type(value), *map(_static_key, value))
    return (type(value), repr(value)) if isinstance(value, float) else (type(value), value)


def _key_text(key: Hashable) -> str:
    return str(key) if isinstance(key, Aval) else repr(key)


class _Entry:
    """A compiled program in a function's cache, with what it captured."""

    def __init__(self, compiled: Compiled, watched: list[Watched], kept: list[Any]) -> None:
        self.compiled = compiled
        self.captured = compiled._staged.captured
        self._watched = watched
        self._fixed = frozenset(map(id, compiled._staged.read))
        self._kept = kept  # static arguments, kept alive because the key knows some of them by identity
        places: dict[int, list[tuple[int, int]]] = {}
        for w, variable in enumerate(watched):
            for i, leaf in enumerate(variable.leaves):
                if isinstance(leaf, (Tensor, np.ndarray)):
                    places.setdefault(id(leaf), []).append((w, i))
        self._places = [places.get(id(value), []) for value in self.captured]

    def captures(self) -> list[Any] | None:
        """The captured values as they are now, or None when the function must be traced again."""
        if not self._watched:
            return self.captured
        values = []
        for variable in self._watched:
            found = variable.values(self._fixed)
            if found is None:
                return None
            values.append(found)
        result = []
        for value, places in zip(self.captured, self._places, strict=True):
            now = [values[w][i] for w, i in places] or [value]
            if any(other is not now[0] for other in now):
                return None  # several names held one tensor, and no longer do
            result.append(now[0])
        return result


class Defn(Generic[P, R]):
    """A function that is traced, compiled for the shapes and dtypes of its arguments, and kept. See :func:`defn`.

    >>> import defnpy as dp
    >>> dp.defn(abs)
    <defn abs>
    """

    def __init__(self, function: Callable[P, R], backend: str | None = None) -> None:
        self.__name__ = getattr(function, "__name__", "function")
        self.function = function
        self._backend = backend
        functools.update_wrapper(self, function)
        parameters = list(inspect.signature(function).parameters.values())
        self._positional = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        self._entries: dict[Any, _Entry] = {}
        self._hits = 0
        self._misses = 0
        self._seconds = 0.0
        self._last: tuple[Any, list[str]] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if current() is not None:
            return self.function(*args, **kwargs)
        positional, static = self._bound(args, kwargs) if kwargs else (args, kwargs)
        leaves, structure = tree.flatten(positional)
        key = self._key(leaves, structure, static)
        entry = self._entries.get(key)
        captured = entry.captures() if entry is not None else None
        if entry is None or captured is None:
            entry = self._compile(key, positional, static)
            captured = entry.captured
        else:
            self._hits += 1
        return entry.compiled.run(leaves, captured)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _bound(self, args: Any, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional arguments, some of which may have been given by name, and the static ones."""
        if self._positional.isdisjoint(kwargs):
            return args, kwargs
        bound = inspect.signature(self.function).bind(*args, **kwargs)
        return bound.args, bound.kwargs

    def _key(self, leaves: list[Any], structure: tree.Structure, static: dict[str, Any]) -> Any:
        backend = self._backend or options().backend
        named = [(name, _static_key(static[name])) for name in sorted(static)] if static else ()
        avals = tuple([leaf.aval if type(leaf) is Tensor else _leaf_key(leaf) for leaf in leaves])
        key = (structure, avals, backend, *named)
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
            f"{self.__name__}: {type(bad).__name__} is neither a tensor nor hashable", where=quote(capture())
        )

    def _array_by_keyword(self, name: str) -> Exception:
        return TraceError(
            f"{self.__name__}: the keyword-only argument {name} is an array, but keyword-only arguments are static",
            where=quote(capture()),
            hint="pass it by position: those arguments are traced, and new values compile nothing",
        )

    def _compile(self, key: Any, positional: tuple[Any, ...], static: dict[str, Any]) -> _Entry:
        for name, value in static.items():
            if any(isinstance(leaf, (Value, np.ndarray)) for leaf in tree.leaves(value)):
                raise self._array_by_keyword(name)
        started = time.perf_counter()
        compiled = self._compiled(positional, static, key[2])
        entry = self._entries[key] = _Entry(compiled, watch(self.function), [positional, static])
        self._misses += 1
        self._seconds += time.perf_counter() - started
        self._warn(key, positional)
        return entry

    def _compiled(self, positional: tuple[Any, ...], static: dict[str, Any], backend: str) -> Compiled:
        staged = stage(self.function, positional, static)
        graph = optimize(strengthen(staged.graph))
        executable = load_backend(backend).compile(graph)
        return Compiled(staged, graph, executable, positional, self.__name__)

    def _warn(self, key: Any, positional: tuple[Any, ...]) -> None:
        names = [
            path
            for name, arg in zip(parameter_names(self.function, len(positional)), positional, strict=True)
            for path in tree.paths(arg, name)
        ]
        before, self._last = self._last, (key, names)
        if self._misses != WARN_AT or before is None:
            return
        warnings.warn(
            f"{self.__name__} was compiled {WARN_AT} times; last because {_changed(before[0], key, names)}",
            RecompileWarning,
            stacklevel=4,
        )

    # -- looking inside -----------------------------------------------------------------------------------------

    def expr(self, *args: Any, **static: Any) -> Graph:
        """The traced graph for these arguments (tensors or :func:`spec`); it prints as aligned lines."""
        return strengthen(stage(self.function, *self._bound(args, static)).graph)

    def compile(self, *args: Any, **static: Any) -> Compiled:
        """Compile for these arguments (tensors or :func:`spec`), now, and return the program."""
        return self._compiled(*self._bound(args, static), self._backend or options().backend)

    def source(self, *args: Any, **static: Any) -> str:
        """The generated program for these arguments (tensors or :func:`spec`), as text."""
        return self.compile(*args, **static).source()

    def cache_info(self) -> CacheInfo:
        """Hits, misses, the number of programs held, and the seconds spent compiling."""
        return CacheInfo(self._hits, self._misses, len(self._entries), self._seconds)

    def cache_clear(self) -> None:
        """Forget all compiled programs (the disk cache stays)."""
        self._entries.clear()

    def __repr__(self) -> str:
        return f"<defn {self.__name__}>"


def _static_text(key: Any) -> str:
    if key is None:
        return "its default"
    kind, *values = key
    if isinstance(values[0] if values else None, tuple) or kind is tuple:
        return f"({', '.join(map(_static_text, values))})"
    return str(values[0]) if kind is float else repr(values[0])


def _changed(before: Any, now: Any, names: list[str]) -> str:
    """Which part of the key of a call differs from the one before, in words."""
    if before[0] != now[0]:
        return "the containers of the arguments differ in structure"
    for name, old, new in zip(names, before[1], now[1], strict=True):
        if old != new:
            return f"the argument {name} changed from {_key_text(old)} to {_key_text(new)}"
    if before[2] != now[2]:
        return f"the backend changed from {before[2]} to {now[2]}"
    old_static, new_static = dict(before[3:]), dict(now[3:])
    for name in {**old_static, **new_static}:
        if old_static.get(name) != new_static.get(name):
            old, new = (_static_text(keys.get(name)) for keys in (old_static, new_static))
            return f"the static argument {name} changed from {old} to {new}"
    return "a value that it captures from outside changed its shape, dtype or number"


def defn(function: Callable[P, R] | None = None, /, *, backend: str | None = None) -> Any:
    """Compile a pure function of tensors; to be used as ``@defn`` or ``@defn(backend="reference")``.

    Positional arguments are containers (dicts, lists, tuples, registered dataclasses) of tensors, NumPy arrays and
    Python numbers: they are traced, and new values of the same shapes and dtypes compile nothing. Keyword-only
    arguments are static: any hashable values, each new one compiles anew. Functions and strings among the leaves are
    static too. Tensors that the function captures from outside become hidden inputs: it always sees their present
    values. Called from another traced function it is inlined.

    The decorated function has ``expr``, ``source``, ``compile`` and ``cache_info``.

    >>> import defnpy as dp
    >>> @dp.defn
    ... def affine(params, x, *, scale=1.0):
    ...     return (x @ params["W"] + params["b"]) * scale
    >>> affine({"W": dp.eye(2), "b": dp.ones(2)}, dp.asarray([1.0, 2.0]), scale=10.0)
    Tensor([20., 30.], dtype=float32)
    >>> affine.cache_info().misses
    1
    """
    if backend is not None:
        load_backend(backend)
    if function is None:
        return lambda f: Defn(f, backend)
    return Defn(function, backend)


_backends: dict[str, Backend] = {"reference": ReferenceBackend()}


def load_backend(name: str) -> Backend:
    """The backend of that name; the compiling one is imported on its first use, so that ``import defnpy`` is light."""
    if name not in _backends:
        if name != "cpu":
            raise ConfigError(f"unknown backend {name!r}", hint="choose 'cpu' or 'reference'")
        from .backends.cpu.backend import CpuBackend

        _backends[name] = CpuBackend()
    return _backends[name]


def _evaluated(transformed: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run a transformed function at once, on the reference evaluator."""
    staged = stage(transformed, args, kwargs)
    graph = strengthen(staged.graph)
    leaves = [leaf for leaf in tree.leaves(tuple(args)) if is_tensor(leaf)]
    arrays = [_array(x, node.dtype) for x, node in zip((*leaves, *staged.captured), graph.inputs, strict=True)]
    return staged.rebuild([wrap(x) for x in load_backend("reference").compile(graph)(arrays)])


def _transformed(function: Any, transformed: Callable[..., Any]) -> Any:
    """A transformed function as its user calls it: compiled when the original is, run at once otherwise."""
    if isinstance(function, Defn):
        return Defn(transformed, function._backend)

    @functools.wraps(transformed)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _evaluated(transformed, args, kwargs) if current() is None else transformed(*args, **kwargs)

    return wrapper


def value_and_grad(
    function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., ValueAndGrad]:
    """A function that returns ``(value, grad)`` of a scalar function, from one forward pass.

    The gradient has the structure of the differentiated argument (a tuple of those for several ``argnums``): a tensor
    of the leaf's shape and dtype for every float, a float one for every integer, None for functions, strings and
    booleans. A leaf that the result does not depend on has gradient zero. With ``has_aux`` the function returns
    ``(value, aux)``, and so does this one in place of the value. Raises ``GradientError`` for a result that is not
    scalar. Of a ``@defn`` function the result is compiled; of a plain one it is computed at once with NumPy.

    >>> import defnpy as dp
    >>> def loss(p, x):
    ...     return dp.sum((p["w"] * x - 1.0) ** 2)
    >>> value, g = dp.value_and_grad(loss)({"w": 2.0}, dp.asarray([1.0, 2.0]))
    >>> value, g
    (Tensor(10., dtype=float32), {'w': Tensor(14., dtype=float32)})
    """
    inner = function.function if isinstance(function, Defn) else function
    return _transformed(function, value_and_gradient(inner, argnums, has_aux))


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
    inner = function.function if isinstance(function, Defn) else function
    both = value_and_gradient(inner, argnums, has_aux)

    @functools.wraps(inner)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return _transformed(function, gradient)
