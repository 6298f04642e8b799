"""A compiled program as its callers see it: checked arguments in, containers of tensors out."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import tree
from .backends.base import Executable, MemoryReport, StepReport, ValueReport
from .dtypes import DType, as_dtype
from .errors import DTypeError, TraceError, TreeError
from .ir.aval import Aval
from .ir.expr import Graph, Value
from .ir.trace import aval_of, function
from .shapes import DYNAMIC, as_shape
from .source import capture, quote
from .tensor import Tensor, adopt, wrap
from .transforms.captures import Watched
from .transforms.stage import Staged, is_tensor

__all__ = [
    "Compilations",
    "Compiled",
    "Entry",
    "Spec",
    "as_array",
    "compilations",
    "count_compilation",
    "key_text",
    "leaf_key",
    "spec",
    "static_key",
]


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

    def __init__(
        self, staged: Staged, traced: Graph, graph: Graph, executable: Executable, args: Sequence[Any], name: str
    ) -> None:
        leaves, self._structure = tree.flatten(tuple(args))
        self._example = tuple(args)
        self._keys = [leaf_key(leaf) for leaf in leaves]
        self._carried = not all(map(is_tensor, leaves))
        self._names = tree.paths(tuple(args), "args")
        self._staged = staged
        self._executable = executable
        self._name = name
        self._avals = [Aval(node.shape, node.dtype) for node in graph.outputs]
        self._adopt = wrapped if any(DYNAMIC in aval.shape for aval in self._avals) else adopt
        self._input_dtypes = [node.dtype for node in graph.inputs]
        mixed = any(leaf is not None for leaf in staged.carried)
        self._rebuild = staged.rebuild if mixed else staged.structure.unflatten
        self._single = staged.structure.is_leaf() and len(self._avals) == 1
        self.traced = traced
        self.graph = graph

    def __call__(self, *args: Any) -> Any:
        return self.run(self._checked(args), self._staged.captured)

    def _checked(self, args: tuple[Any, ...]) -> list[Any]:
        """The leaves of arguments that the program was compiled for."""
        leaves, structure = tree.flatten(args)
        if structure != self._structure:
            raise TreeError(
                f"{self._name} was compiled for other containers: {tree.difference(self._example, args, 'args')}",
                where=quote(capture()),
            )
        for name, expected, leaf in zip(self._names, self._keys, leaves, strict=True):
            if leaf_key(leaf) != expected:
                raise TreeError(
                    f"{self._name} was compiled for {name}: {key_text(expected)}, not {key_text(leaf_key(leaf))}",
                    where=quote(capture()),
                    hint="call the function itself, which compiles for new shapes, or compile it for these",
                )
        return leaves

    def run(self, leaves: Sequence[Any], captured: Sequence[Any]) -> Any:
        """Run on the leaves of checked arguments and the captured values."""
        return self.launch(self.arrays(leaves, captured))

    def arrays(self, leaves: Sequence[Any], captured: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """What :meth:`launch` takes."""
        if self._carried:
            leaves = [leaf for leaf in leaves if is_tensor(leaf)]
        return [as_array(x, d) for x, d in zip((*leaves, *captured), self._input_dtypes, strict=True)]

    def launch(self, arrays: list[np.ndarray[Any, Any]]) -> Any:
        """Run on the arrays of the graph's inputs, contiguous and of their dtypes."""
        outputs = self._executable(arrays)
        if self._single:
            return adopt(outputs[0], self._avals[0])
        return self._rebuild(map(self._adopt, outputs, self._avals))

    def source(self) -> str:
        """The generated program as text."""
        return self._executable.source()

    def steps(self) -> list[StepReport]:
        """What is known of each kernel, matrix product and library call, in order."""
        return self._executable.steps()

    def kernels(self) -> list[StepReport]:
        """The kernels among the steps."""
        return [step for step in self.steps() if step.kind == "kernel"]

    def memory(self) -> MemoryReport:
        """The bytes that a call needs."""
        return self._executable.memory()

    def values(self) -> list[ValueReport]:
        """What lies in memory between the steps, and what is computed again instead, with the reasons."""
        return self._executable.values()

    def measure(self, *args: Any, repeats: int = 20) -> list[float]:
        """Seconds of every step on these arguments, each run by itself, the least of some repeats."""
        arrays = self.arrays(self._checked(args), self._staged.captured)
        return self._executable.measure(arrays, repeats)


def wrapped(array: np.ndarray[Any, Any], aval: Aval) -> Tensor:
    """A result whose size was not known before: a tape of a loop."""
    return wrap(array)


def as_array(value: Any, dtype: DType) -> np.ndarray[Any, Any]:
    """The elements of an argument as a contiguous array of ``dtype``."""
    if type(value) is Tensor:
        if hasattr(value, "_ready"):
            return value._ready
        # Its elements are laid out in order once, not in every call.
        value._array = value._ready = adopt(np.ascontiguousarray(value._array).reshape(value.shape), value.aval)._array
        return value._ready
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


def leaf_key(leaf: Any) -> Any:
    """What a program depends on of a leaf: the aval of a tensor or number, any other leaf itself."""
    if type(leaf) is Tensor:
        return leaf.aval
    if is_tensor(leaf):
        return aval_of(leaf)
    return leaf


def static_key(value: Any) -> Hashable:
    """A static value with its type: 1, 1.0 and True are equal, and so are 0.0 and -0.0, but they are not the same."""
    if isinstance(value, tuple):
        return (type(value), *map(static_key, value))
    return (type(value), repr(value)) if isinstance(value, float) else (type(value), value)


def key_text(key: Hashable) -> str:
    """A part of a key in words."""
    return str(key) if isinstance(key, Aval) else repr(key)


class Entry:
    """A compiled program in a function's cache, with what it captured; which leaves are donated, by number."""

    def __init__(self, compiled: Compiled, watched: list[Watched], kept: list[Any], donated: list[int]) -> None:
        self.compiled = compiled
        self.donated = donated
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
        self.numbers = not all(isinstance(key, Aval) and not key.weak for key in compiled._keys)
        self._dtypes = compiled._input_dtypes[: len(compiled._input_dtypes) - len(self.captured)]
        self.constants = None if watched else self.captured_arrays()  # the captured values', where they cannot change

    def arrays(self, leaves: Sequence[Any]) -> list[Any]:
        """The arrays of arguments that are tensors, in order, and numbers."""
        return [x._ready if type(x) is Tensor else np.array(x, d) for x, d in zip(leaves, self._dtypes, strict=True)]

    def captured_arrays(self) -> list[Any] | None:
        """The arrays of :meth:`captures`, or None when they must be looked at one by one."""
        captured = self.captures()
        if not captured:
            return captured
        if not all(type(value) is Tensor for value in captured):
            return None
        return [as_array(value, value.dtype) for value in captured]

    def outdated(self) -> list[str]:
        """The variables around the function that no longer hold what the program was compiled for."""
        return [v.name for v in self._watched if not v.unchanged() and v.values(self._fixed) is None]

    def captures(self) -> list[Any] | None:
        """The captured values as they are now, or None when the function must be traced again."""
        for variable in self._watched:
            if not variable.unchanged():
                break
        else:
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


class Compilations(NamedTuple):
    """programs: how many were compiled for calls since the process began. seconds: what that took, tracing included.

    >>> import defnpy as dp
    >>> before = dp.compilations()
    >>> dp.defn(lambda x: x + 1, backend="reference")(1)
    Tensor(2, dtype=int64)
    >>> dp.compilations().programs - before.programs
    1
    """

    programs: int
    seconds: float


_counting = threading.Lock()
_compilations = Compilations(0, 0.0)


def count_compilation(seconds: float) -> None:
    """Add a program and the seconds that compiling it took."""
    global _compilations
    with _counting:
        _compilations = Compilations(_compilations.programs + 1, _compilations.seconds + seconds)


def compilations() -> Compilations:
    """How many programs all functions of this process have compiled for their calls, and the seconds that took.

    The difference of two such counts tells what a part of a program compiled; ``f.cache_info()`` tells it of one
    function.

    >>> import defnpy as dp
    >>> dp.compilations().seconds >= 0
    True
    """
    return _compilations
