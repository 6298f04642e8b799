"""Large reductions to one number in two kernels: partial results of fixed parts, which threads share, then their fold.

The parts depend on sizes alone, so the result is the same bits for every number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..dtypes import DType
from .emit import Emitted
from .kernel import (
    Bound,
    Buffer,
    Fold,
    FoldStore,
    Index,
    Kernel,
    Load,
    Loop,
    Position,
    Set,
    Statement,
    Store,
    Term,
    parallel_variable,
    sizes_in,
    walk,
)

__all__ = ["Partial", "in_parts"]

PART = 16384  # points of the iteration space in a part
PARTS = 8  # a reduction of fewer parts stays one kernel


@dataclass(eq=False)
class Partial:
    """A temporary between the two kernels: ``count`` elements."""

    name: str
    count: int
    dtype: DType


def in_parts(emitted: Emitted) -> tuple[Emitted, Emitted] | None:
    """The two kernels of a reduction over one outer loop that is large enough, else None."""
    kernel = emitted.kernel
    found = _reduction(kernel)
    if found is None:
        return None
    before, loop, after = found
    sizes = emitted.lengths
    length = max(1, PART // max(1, _points(loop.body, sizes)))  # the inner loops may be empty
    count = sizes[loop.size] // length
    if count < PARTS:
        return None
    starts = [s for s in before if isinstance(s, Set)]
    partials = [Partial(f"{s.name}_partial", count, s.value.dtype) for s in starts]
    sizes |= {"n_parts": count, "n_part": length, "n_rest": sizes[loop.size] - count * length}
    values = [s for s in before if not isinstance(s, Set)]

    # All parts but what is left over: point i is number j of part p.
    place = (Term("p0", 1, ("n_part",)), Term("j0"))
    inner = Loop("j0", "n_part", [_moved(s, loop.variable, place) for s in loop.body])
    kept: list[Statement] = [Store(f"{s.name}_partial", (Term("p0"),), s.name) for s in starts]
    first: list[Statement] = [*values, Loop("p0", "n_parts", [*starts, inner, *kept])]

    # What is left over, the partial results, and all that needs the total.
    offset = (Term("", 1, ("n_parts", "n_part")), Term("j0"))
    rest = Loop("j0", "n_rest", [_moved(s, loop.variable, offset) for s in loop.body])
    folds = {s.name: s for s in walk(loop.body) if isinstance(s, Fold)}
    collected: list[Statement] = []
    for s in starts:
        fold = folds[s.name]
        name = f"{s.name}_part"
        collected.append(Load(name, s.value.dtype, f"{s.name}_partial", (Term("p0"),)))
        collected.append(Fold(s.name, fold.dtype, fold.kind, name))
    second: list[Statement] = [*values, *starts, Loop("p0", "n_parts", collected), rest, *after]
    return (
        _emitted(emitted, f"{kernel.name}_parts", first, sizes, partials, "out"),
        _emitted(emitted, kernel.name, second, sizes, partials, "in"),
    )


def _reduction(kernel: Kernel) -> tuple[list[Statement], Loop, list[Statement]] | None:
    """What stands before, in and after the only outer loop, if it folds into numbers that start before it."""
    loops = [i for i, s in enumerate(kernel.body) if isinstance(s, Loop)]
    if len(loops) != 1:
        return None
    (at,) = loops
    before, loop, after = kernel.body[:at], kernel.body[at], kernel.body[at + 1 :]
    assert isinstance(loop, Loop)
    starts = {s.name for s in before if isinstance(s, Set)}
    ends = {s.name for s in walk(loop.body) if isinstance(s, Fold)}
    ends -= {s.name for s in walk(loop.body) if isinstance(s, Set)}  # totals of a row
    stores = any(isinstance(s, (Store, FoldStore)) for s in before)
    if not starts or starts != ends or stores or any(isinstance(s, FoldStore) for s in walk(loop.body)):
        return None
    return before, loop, after


def _points(body: list[Statement], sizes: dict[str, int]) -> int:
    return max([sizes[s.size] * _points(s.body, sizes) for s in body if isinstance(s, Loop)], default=1)


def _moved(statement: Statement, variable: str, place: Index) -> Statement:
    """A statement with ``variable`` replaced by the sum of ``place``."""
    if isinstance(statement, Loop):
        return Loop(statement.variable, statement.size, [_moved(s, variable, place) for s in statement.body])
    if isinstance(statement, (Load, Store, Position)):
        index: list[Term] = []
        for term in statement.index:
            if term.variable != variable:
                index.append(term)
            else:
                index += [Term(p.variable, p.factor * term.factor, (*p.sizes, *term.sizes)) for p in place]
        return replace(statement, index=tuple(index))
    return statement


def _emitted(
    whole: Emitted, title: str, body: list[Statement], sizes: dict[str, int], partials: list[Partial], role: str
) -> Emitted:
    """The parts of ``whole`` that ``body`` uses, and the partial results as its further buffers."""
    named = {s.buffer for s in walk(body) if isinstance(s, (Load, Store, Bound))}
    pairs = [(b, source) for b, source in zip(whole.kernel.buffers, whole.buffers, strict=True) if b.name in named]
    buffers = [*[b for b, _ in pairs], *[Buffer(p.name, p.dtype, role) for p in partials]]
    used = sizes_in(body)
    own = {name: value for name, value in sizes.items() if name in used}
    scratch = frozenset(b.name for b in buffers if b.role == "scratch")
    kernel = Kernel(title, buffers, list(own), body, whole.kernel.lines, parallel_variable(body, scratch))
    return Emitted(kernel, [*[source for _, source in pairs], *partials], list(own.values()), whole.checks)
