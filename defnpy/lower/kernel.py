"""The loop IR: one Kernel is a nest of loops over scalars, loads and stores. It is all that a renderer may see.

Sizes are runtime values: a kernel names them (``n0``, ``m1``) and a call supplies the numbers, so one kernel serves
every batch size (small sizes of windows are fixed). Buffers are flat; an index is a sum of terms, each a loop variable
times a product of sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..dtypes import DType
from ..ir.op import Op

__all__ = [
    "Assign",
    "Bound",
    "Buffer",
    "Compute",
    "Fold",
    "FoldStore",
    "Index",
    "Kernel",
    "Literal",
    "Load",
    "Loop",
    "Operand",
    "Position",
    "Set",
    "Statement",
    "Store",
    "Term",
    "While",
    "affine",
    "collapse",
    "executions",
    "identity",
    "leaves_many_over",
    "merged",
    "parallel_variable",
    "sizes_in",
    "slides",
    "structure",
    "walk",
]  # fmt: skip


@dataclass(frozen=True)
class Term:
    """``factor * variable * size * size ...``; without a variable it is a constant offset."""

    variable: str
    factor: int = 1
    sizes: tuple[str, ...] = ()


Index = tuple[Term, ...]


@dataclass(frozen=True)
class Buffer:
    """A flat array argument. role: "in", "out" or "scratch"."""

    name: str
    dtype: DType
    role: str


@dataclass(frozen=True)
class Literal:
    """A number of a dtype, as an operand."""

    dtype: DType
    value: Any


Operand = str | Literal


@dataclass
class Compute:
    """``name = op(args)``, one element; ``dtypes`` are those of the operands."""

    name: str
    dtype: DType
    op: Op
    args: tuple[Operand, ...]
    dtypes: tuple[DType, ...]
    params: dict[str, Any]
    note: str = ""


@dataclass
class Position:
    """``name = index``, a loop position as a number of ``dtype``."""

    name: str
    dtype: DType
    index: Index


@dataclass
class Load:
    """``name = buffer[index]``."""

    name: str
    dtype: DType
    buffer: str
    index: Index
    note: str = ""


@dataclass
class Bound:
    """``name = value`` counted from the front; outside of ``size`` the kernel ends with status ``code``.

    buffer: where it leaves the value then. signed: whether a negative value counts from the end.
    """

    name: str
    value: Operand
    size: str
    code: int
    buffer: str
    signed: bool


@dataclass
class Store:
    """``buffer[index] = value``."""

    buffer: str
    index: Index
    value: Operand


@dataclass
class Set:
    """``name = value``, the start of an accumulator."""

    name: str
    value: Literal


@dataclass
class Fold:
    """``name = kind(name, value)``, kind one of sum, prod, max, min, any, all."""

    name: str
    dtype: DType
    kind: str
    value: Operand


@dataclass
class FoldStore:
    """``buffer[index] = kind(buffer[index], value)``."""

    buffer: str
    index: Index
    dtype: DType
    kind: str
    value: Operand


@dataclass
class Loop:
    """``for variable in range(size)``."""

    variable: str
    size: str
    body: list[Statement] = field(default_factory=list)


@dataclass
class Assign:
    """``name = value``, a variable that changes."""

    name: str
    dtype: DType
    value: Operand


@dataclass
class While:
    """``while True``: the statements of ``test``, the end unless ``condition``, the statements of ``body``."""

    test: list[Statement]
    condition: Operand
    body: list[Statement]


Statement = Compute | Position | Load | Bound | Store | Set | Fold | FoldStore | Loop | Assign | While


@dataclass
class Kernel:
    """A function of buffers and sizes.

    sizes: names of the size arguments, in order. checks: whether it may end early with a status (see Bound).
    lines: the user's lines that it covers, as text. parallel: the loop variable whose range threads may share, or "".
    fixed: sizes that may be compiled into the code, and what they are. brief: sizes of a vector or two, the
    last of which is not full.
    """

    name: str
    buffers: list[Buffer]
    sizes: list[str]
    body: list[Statement]
    lines: tuple[str, ...] = ()
    parallel: str = ""
    fixed: dict[str, int] = field(default_factory=dict)
    brief: frozenset[str] = frozenset()

    @property
    def checks(self) -> bool:
        """Whether a call can end with a status other than 0."""
        return any(isinstance(s, Bound) for s in walk(self.body))

    @property
    def repeatable(self) -> bool:
        """Whether no status of its own ends it, and a second call on what one left gives what the first one would."""
        roles = {b.name: b.role for b in self.buffers}
        return not any(
            isinstance(s, (Bound, FoldStore)) or (isinstance(s, Load) and roles[s.buffer] == "out")
            for s in walk(self.body)
        )


def walk(body: list[Statement]) -> list[Statement]:
    """All statements, outer before inner."""
    found = []
    for statement in body:
        found.append(statement)
        if isinstance(statement, Loop):
            found += walk(statement.body)
        elif isinstance(statement, While):
            found += walk([*statement.test, *statement.body])
    return found


def executions(body: list[Statement], sizes: dict[str, int], times: int = 1) -> Iterator[tuple[Statement, int]]:
    """All statements but loops, and how often each is carried out: once, where only the running program knows."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from executions(statement.body, sizes, times * sizes[statement.size])
        elif isinstance(statement, While):
            yield from executions([*statement.test, *statement.body], sizes, times)
        else:
            yield statement, times


def parallel_variable(body: list[Statement], scratch: frozenset[str]) -> str:
    """The outermost loop variable whose range can be cut into parts that do not meet, or "".

    All that is written must lie inside of loops over it, at places that it tells apart, and no accumulator may live
    through its iterations. Buffers named in ``scratch`` belong to a part.
    """
    sizes: dict[str, set[str]] = {}
    for s in walk(body):
        if isinstance(s, Loop):
            sizes.setdefault(s.variable, set()).add(s.size)
    for variable, own in sizes.items():
        if len(own) == 1 and all(_divides(s, variable, scratch) for s in body):
            return variable
    return ""


def _divides(statement: Statement, variable: str, scratch: frozenset[str]) -> bool:
    """Whether a statement outside of all loops over ``variable`` allows to cut them."""
    if not isinstance(statement, Loop):
        return isinstance(statement, (Load, Compute, Position))
    if statement.variable != variable:
        return all(_divides(s, variable, scratch) for s in statement.body)
    begun = {s.name for s in walk(statement.body) if isinstance(s, Set)}
    for s in walk(statement.body):
        if isinstance(s, Fold) and s.name not in begun:
            return False
        if isinstance(s, (Store, FoldStore)) and s.buffer not in scratch:
            if not _tells_apart(s.index, variable):
                return False
    return True


def _tells_apart(index: Index, variable: str) -> bool:
    """Whether no place is reached with two values of a variable: no other one runs along the same axis."""
    own = [term.sizes for term in index if term.variable == variable]
    return len(own) == 1 and not any(t.variable not in ("", variable) and t.sizes == own[0] for t in index)


def affine(index: Index, factor: int, offset: int) -> Index:
    """``factor * index + offset``."""
    terms = tuple(Term(t.variable, t.factor * factor, t.sizes) for t in index)
    return (*terms, Term("", offset)) if offset else terms


def _indices(body: list[Statement]) -> Iterator[Index]:
    for statement in walk(body):
        if isinstance(statement, (Load, Store, FoldStore)):
            yield statement.index


def folded_before_stored(variable: str, size: str, body: list[Statement]) -> list[Statement]:
    """A loop; what it folds into one place of a buffer all along is a variable of its own, and stored behind it."""
    before: list[Statement] = []
    inside: list[Statement] = []
    behind: list[Statement] = []
    for s in body:
        along = [term.variable for term in s.index] if isinstance(s, FoldStore) else []
        if isinstance(s, FoldStore) and all(re.fullmatch(r"i\d+", v) and v != variable for v in along):
            name = f"{s.buffer}_total{variable[1:]}"
            before.append(Set(name, identity(s.kind, s.dtype)))
            inside.append(Fold(name, s.dtype, s.kind, s.value))
            behind.append(FoldStore(s.buffer, s.index, s.dtype, s.kind, name))
        else:
            inside.append(s)
    return [*before, Loop(variable, size, inside), *behind]


def collapse(body: list[Statement], products: dict[str, tuple[str, ...]]) -> list[Statement]:
    """Merge loops that are perfectly nested and walk all their buffers as one flat range.

    ``products`` collects the new sizes: name to the sizes that it is the product of.
    """
    result: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop):
            statement = Loop(statement.variable, statement.size, collapse(statement.body, products))
            inner = statement.body[0] if len(statement.body) == 1 else None
            if isinstance(inner, Loop) and _flat(statement, inner):
                parts = (statement.size, *products.get(inner.size, (inner.size,)))
                size = "".join(parts)
                products[size] = parts
                statement = Loop(inner.variable, size, [_without(s, statement.variable) for s in inner.body])
        result.append(statement)
    return result


def merged(body: list[Statement], variable: str) -> list[Statement] | None:
    """All loops over a variable, through which parts do not meet, as one; None where others are around them."""
    loops = [s for s in body if isinstance(s, Loop)]
    if not variable or len(loops) < 2 or any(s.variable != variable for s in loops):
        return None
    others = [s for s in body if not isinstance(s, Loop)]
    return [*others, Loop(variable, loops[0].size, [inner for loop in loops for inner in loop.body])]


def _flat(outer: Loop, inner: Loop) -> bool:
    """Whether ``outer.variable`` always appears as the more significant digit of ``inner.variable``."""
    parts = tuple(_digits(inner.size))
    positions = [s.index for s in walk(inner.body) if isinstance(s, Position)]
    for index in [*_indices(inner.body), *positions]:
        outers = [t for t in index if t.variable == outer.variable]
        inners = [t for t in index if t.variable == inner.variable]
        if not outers and not inners:
            continue
        if len(outers) != 1 or len(inners) != 1 or outers[0].factor != inners[0].factor:
            return False
        if sorted(outers[0].sizes) != sorted((*inners[0].sizes, *parts)):
            return False
    return True


def _digits(size: str) -> list[str]:
    """The sizes in a product's name: ``n0n1`` is n0 times n1."""
    return re.findall(r"[mn]\d+", size) or [size]


def _without(statement: Statement, variable: str) -> Statement:
    if isinstance(statement, (Load, Store, FoldStore, Position)):
        return replace(statement, index=tuple(t for t in statement.index if t.variable != variable))
    if isinstance(statement, Loop):
        return Loop(statement.variable, statement.size, [_without(s, variable) for s in statement.body])
    return statement


def structure(kernel: Kernel) -> str:
    """A text that is equal for kernels that differ in names and comments only."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    def index(terms: Index) -> str:
        return "+".join(f"{t.factor}*{t.variable and number(t.variable)}*{[number(n) for n in t.sizes]}" for t in terms)

    def operand(value: Operand) -> str:
        if isinstance(value, Literal):
            return f"{value.dtype.char}:{value.value.tobytes().hex()}"
        return str(number(value))

    def lines(body: list[Statement]) -> Iterator[str]:
        for s in body:
            kind = type(s).__name__
            if isinstance(s, Loop):
                yield f"for {number(s.variable)} {number(s.size)} {{"
                yield from lines(s.body)
                yield "}"
            elif isinstance(s, While):
                yield "while {"
                yield from lines(s.test)
                yield f"}} {operand(s.condition)} {{"
                yield from lines(s.body)
                yield "}"
            elif isinstance(s, Assign):
                yield f"{number(s.name)}:{s.dtype.char}:={operand(s.value)}"
            elif isinstance(s, Compute):
                args = ",".join(map(operand, s.args))
                dtypes = "".join([d.char for d in s.dtypes])
                op = f"{s.op.name}|{s.op.array_names}|{s.op.scalar}|{s.params}"
                yield f"{number(s.name)}:{s.dtype.char}={op}({args}:{dtypes})"
            elif isinstance(s, Position):
                yield f"{number(s.name)}:{s.dtype.char}={index(s.index)}"
            elif isinstance(s, Load):
                yield f"{number(s.name)}={number(s.buffer)}[{index(s.index)}]"
            elif isinstance(s, Bound):
                yield f"{number(s.name)}={operand(s.value)}<{number(s.size)}:{s.code},{number(s.buffer)},{s.signed}"
            elif isinstance(s, Set):
                yield f"{number(s.name)}={operand(s.value)}"
            elif isinstance(s, Fold):
                yield f"{number(s.name)}{s.kind}={operand(s.value)}"
            else:
                yield f"{kind}{getattr(s, 'kind', '')}{number(s.buffer)}[{index(s.index)}]={operand(s.value)}"

    head = [f"{number(b.name)}:{b.dtype.char}:{b.role == 'scratch'}" for b in kernel.buffers]
    head += [str(number(size)) for size in kernel.sizes] + [str(kernel.parallel and number(kernel.parallel))]
    head += [f"{number(size)}={value}" for size, value in kernel.fixed.items()]
    head += [f"{number(size)} is brief" for size in kernel.sizes if size in kernel.brief]
    return "\n".join([*head, *lines(kernel.body)])


def leaves_many_over(n: int) -> bool:
    """Whether a loop over n elements spends much of its time on those that do not fill a vector (of 16)."""
    return n < 32 and n % 16 >= 8


def slides(body: list[Statement]) -> bool:
    """Whether an index goes along an axis in steps, or with two variables: windows do, and every second element."""
    for index in _indices(body):
        along = [t.sizes for t in index if t.variable]
        if len(set(along)) < len(along) or any(abs(t.factor) != 1 for t in index if t.variable):
            return True
    return False


def sizes_in(body: list[Statement]) -> set[str]:
    """The names of the sizes that the statements use."""
    used: set[str] = set()
    for statement in walk(body):
        if isinstance(statement, (Loop, Bound)):
            used.add(statement.size)
        elif isinstance(statement, (Load, Store, FoldStore, Position)):
            for term in statement.index:
                used.update(term.sizes)
    return used


def identity(kind: str, dtype: DType) -> Literal:
    """What a reduction starts from."""
    if kind in ("sum", "any"):
        return Literal(dtype, dtype.type(0))
    if kind in ("prod", "all"):
        return Literal(dtype, dtype.type(1))
    if dtype.kind == "f":
        return Literal(dtype, dtype.type(-np.inf if kind == "max" else np.inf))
    limits = np.iinfo(dtype)
    return Literal(dtype, dtype.type(limits.min if kind == "max" else limits.max))
