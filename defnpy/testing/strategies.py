"""Strategies for property-based tests with Hypothesis, which is imported when one of them is called.

Elements lie on a grid of eighths: few enough to shrink well, exact in every float dtype, and any margin from a kink is
kept by leaving grid points out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import (
    as_dtype,
    bool_,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from ..errors import DefnpyError
from ..tensor import wrap
from .programs import Program, draw_program

__all__ = ["broadcastable_shapes", "containers", "dtypes", "given_tensors", "graphs", "shapes", "tensors"]

GRID = 8  # points per unit
MARGIN = 1 / GRID  # how far from a kink elements stay


def _hypothesis() -> Any:
    try:
        import hypothesis
        import hypothesis.strategies
    except ImportError as error:
        raise DefnpyError(
            "the strategies of defnpy.testing need the package hypothesis, which is not installed",
            hint="pip install hypothesis, or defnpy with its extra: pip install 'defnpy[test]'",
        ) from error
    return hypothesis


def shapes(*, min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 4) -> Any:
    """A strategy of shapes; ``min_side=0`` makes empty tensors, too.

    >>> from hypothesis import find
    >>> from defnpy.testing import shapes
    >>> find(shapes(max_dims=2), lambda shape: len(shape) == 2 and shape[1] > 2)
    (1, 3)
    """
    st = _hypothesis().strategies
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def broadcastable_shapes(count: int = 2, *, max_dims: int = 3, min_side: int = 1, max_side: int = 4) -> Any:
    """A strategy of tuples of ``count`` shapes that broadcast with each other.

    >>> from hypothesis import find
    >>> from defnpy.testing import broadcastable_shapes
    >>> find(broadcastable_shapes(2), lambda pair: pair[0] == (2,) and len(pair[1]) == 2)
    ((2,), (1, 2))
    """
    st = _hypothesis().strategies

    @st.composite
    def several(draw: Any) -> tuple[tuple[int, ...], ...]:
        whole = draw(shapes(max_dims=max_dims, min_side=min_side, max_side=max_side))
        found = []
        for _ in range(count):
            kept = whole[draw(st.integers(0, len(whole))) :]
            found.append(tuple([1 if draw(st.booleans()) else n for n in kept]))
        return tuple(found)

    return several()


def dtypes(*kinds: str) -> Any:
    """A strategy of dtypes, of the kinds that ``isdtype`` knows; by default "real floating".

    >>> from hypothesis import find
    >>> from defnpy.testing import dtypes
    >>> find(dtypes("integral"), lambda dtype: dtype.itemsize < 4)
    dtype('int16')
    """
    every = (float64, float32, int64, int32, int16, int8, uint64, uint32, uint16, uint8, bool_)
    chosen = [dtype for dtype in every if isdtype(dtype, kinds or "real floating")]
    return _hypothesis().strategies.sampled_from(chosen)


def tensors(
    shape: Any = None,
    dtype: Any = "float64",
    *,
    low: float = -3.0,
    high: float = 3.0,
    away_from: Sequence[float] = (),
    at: Sequence[float] = (),
    distinct: bool = False,
) -> Any:
    """A strategy of tensors with elements in [low, high].

    shape: a shape or a strategy of shapes, by default :func:`shapes`. dtype: a dtype or a strategy of them. away_from:
    kinks of the function under test, from which elements keep a distance of 1/8. at: kinks at which some elements lie,
    one at least. distinct: no two elements are equal, as at the kinks of ``max`` and ``sort``.

    >>> from hypothesis import find
    >>> from defnpy.testing import tensors
    >>> find(tensors((2,), away_from=[0.0]), lambda x: x[0] > 0)
    Tensor([ 0.125, -0.125], dtype=float64)
    """
    st = _hypothesis().strategies
    wanted = shapes() if shape is None else shape if isinstance(shape, st.SearchStrategy) else st.just(tuple(shape))
    kinds = dtype if isinstance(dtype, st.SearchStrategy) else st.just(as_dtype(dtype))
    points = [k / GRID for k in range(math.ceil(low * GRID), math.floor(high * GRID) + 1)]
    free = [p for p in sorted(points, key=abs) if all(abs(p - kink) >= MARGIN for kink in away_from)]

    @st.composite
    def one(draw: Any) -> Any:
        size, kind = draw(wanted), draw(kinds)
        allowed = _allowed(free, kind.kind)
        count = math.prod(size)
        if distinct and count > len(allowed):
            raise DefnpyError(f"there are no {count} distinct elements in [{low}, {high}]", hint="widen low and high")
        elements = draw(st.lists(st.sampled_from(allowed), min_size=count, max_size=count, unique=distinct))
        if at and count:
            for place in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count)):
                elements[place] = draw(st.sampled_from(list(at)))
        return wrap(np.array(elements, kind).reshape(size))

    return one()


def _allowed(points: list[float], kind: str) -> list[Any]:
    """The points that a kind of dtype holds, the simplest first."""
    if kind == "f":
        return list(points)
    return [False, True] if kind == "b" else sorted({int(p) for p in points if kind != "u" or p >= 0}, key=abs)


def containers(leaves: Any = None, *, max_leaves: int = 4) -> Any:
    """A strategy of dicts, lists and tuples, one in the other, with at least one leaf.

    >>> from hypothesis import find
    >>> from defnpy.testing import containers, tensors
    >>> find(containers(tensors((1,))), lambda made: isinstance(made, dict) and len(made) == 2)
    {'a': Tensor([0.], dtype=float64), 'b': Tensor([0.], dtype=float64)}
    """
    st = _hypothesis().strategies
    leaves = tensors() if leaves is None else leaves

    def inside(children: Any) -> Any:
        some = {"min_size": 1, "max_size": 3}
        dicts = st.dictionaries(st.sampled_from(["a", "b", "w"]), children, **some)
        return st.one_of(dicts, st.lists(children, **some), st.lists(children, **some).map(tuple))

    return inside(st.recursive(leaves, inside, max_leaves=max_leaves)).filter(lambda made: _count(made) <= max_leaves)


def _count(made: Any) -> int:
    parts = made.values() if isinstance(made, dict) else made if isinstance(made, (list, tuple)) else None
    return 1 if parts is None else sum(map(_count, parts))


def graphs(*, steps: int = 10, smooth: bool = False, table: bool = False) -> Any:
    """A strategy of random programs: closed graphs (``graph``) with arrays for their inputs (``inputs``).

    smooth: one number that is differentiable everywhere. table: with any op of the registry, linear algebra and loops.

    >>> from hypothesis import find
    >>> from defnpy.testing import graphs
    >>> program = find(graphs(), lambda program: len(program.graph.nodes()) > 2)
    >>> len(program.inputs) == len(program.graph.inputs)
    True
    """
    st = _hypothesis().strategies

    @st.composite
    def programs(draw: Any) -> Program:
        return draw_program(lambda n: draw(st.integers(0, n - 1)), steps=steps, smooth=smooth, table=table)

    return programs()


def given_tensors(
    count: int = 1, *, broadcastable: bool = True, max_examples: int | None = None, **options: Any
) -> Callable[[Any], Any]:
    """Make a function of ``count`` tensors a property that Hypothesis tests.

    Their shapes broadcast with each other, unless a ``shape`` is given or ``broadcastable`` is false. The other options
    are those of :func:`tensors`. max_examples: how many are drawn, by default as many as Hypothesis is set to.

    >>> import defnpy as dp
    >>> @dp.testing.given_tensors(2, away_from=[0.0], max_examples=20)
    ... def test_quotients(x, y):
    ...     dp.testing.check_grads(lambda x, y: x / y, [x, y])
    >>> test_quotients()
    """
    hypothesis = _hypothesis()
    st = hypothesis.strategies

    @st.composite
    def several(draw: Any) -> tuple[Any, ...]:
        if "shape" in options or not broadcastable:
            return tuple([draw(tensors(**options)) for _ in range(count)])
        return tuple([draw(tensors(shape, **options)) for shape in draw(broadcastable_shapes(count))])

    def decorate(function: Callable[..., Any]) -> Any:
        def run(drawn: tuple[Any, ...]) -> None:
            function(*drawn)

        run.__name__, run.__qualname__ = function.__name__, function.__qualname__
        run.__module__, run.__doc__ = function.__module__, function.__doc__
        # No deadline: the first example may wait for a compiler.
        settings = hypothesis.settings(deadline=None, max_examples=max_examples or hypothesis.settings().max_examples)
        return settings(hypothesis.given(several())(run))

    return decorate
