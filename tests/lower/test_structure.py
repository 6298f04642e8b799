"""The text by which kernels are told apart: equal for other names, different for anything that the machine code depends
on. Two kernels of one text share their code, so a text that leaves something out is a wrong answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.assembly import assemble
from defnpy.ir.op import REGISTRY
from defnpy.lower.kernel import (
    Bound,
    Buffer,
    Compute,
    Fold,
    FoldStore,
    Kernel,
    Literal,
    Load,
    Loop,
    Position,
    Set,
    Store,
    Term,
    structure,
    walk,
)
from defnpy.lower.program import KernelStep, lower
from defnpy.passes.pipeline import optimize

F32, F64 = np.dtype("float32"), np.dtype("float64")


def kernels(function: Callable[..., Any], *specs: Any) -> list[Kernel]:
    program = lower(optimize(dp.defn(function).expr(*specs)))
    return [s.emitted.kernel for s in program.steps if isinstance(s, KernelStep)]


def kernel(function: Callable[..., Any], *specs: Any) -> Kernel:
    (made,) = kernels(function, *specs)
    return made


def renamed(made: Kernel) -> Kernel:
    """The same kernel under other names, without comments."""
    names: dict[str, str] = {"": ""}

    def name(old: str) -> str:
        return names.setdefault(old, f"other{len(names)}")

    def index(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple(Term(name(t.variable), t.factor, tuple(map(name, t.sizes))) for t in terms)

    def operand(value: Any) -> Any:
        return value if isinstance(value, Literal) else name(value)

    def statement(s: Any) -> Any:
        if isinstance(s, Loop):
            return Loop(name(s.variable), name(s.size), [statement(inner) for inner in s.body])
        changes: dict[str, Any] = {}
        for field, value in vars(s).items():
            if field in ("name", "buffer", "size"):
                changes[field] = name(value)
            elif field == "index":
                changes[field] = index(value)
            elif field == "value":
                changes[field] = operand(value)
            elif field == "args":
                changes[field] = tuple(map(operand, value))
            elif field == "note":
                changes[field] = "another line"
        return replace(s, **changes)

    return Kernel(
        "another",
        [Buffer(name(b.name), b.dtype, b.role) for b in made.buffers],
        [name(s) for s in made.sizes],
        [statement(s) for s in made.body],
        ("another line",),
        name(made.parallel),
        {name(size): value for size, value in made.fixed.items()},
    )


KERNELS: dict[str, Callable[[], Kernel]] = {
    "chain": lambda: kernel(lambda x, y: dp.where(x > y, x * 2.5, y), dp.spec((6, 5)), dp.spec(5)),
    "softmax": lambda: kernel(lambda x: dp.softmax(x), dp.spec((6, 5))),
    "columns": lambda: kernel(lambda x: dp.max(x, axis=0), dp.spec((6, 5))),
    "gather": lambda: kernel(lambda x, i: x[i] * 2, dp.spec((6, 5)), dp.spec(3, "int64")),
    "positions": lambda: kernel(lambda x: x + dp.arange(5), dp.spec(5, "int64")),
    "views": lambda: kernel(lambda x: x[::2].T + dp.flip(x, axis=1)[1::2].T, dp.spec((6, 5))),
    "bits": lambda: kernel(lambda k: dp.random.bits(k, (4,)), dp.spec(2, "uint32")),
}


@pytest.mark.parametrize("name", KERNELS)
def test_names_and_comments_do_not_count(name: str) -> None:
    made = KERNELS[name]()
    other = renamed(made)
    assert other.body != made.body and structure(other) == structure(made)
    # And rightly so: LLVM is given the same text.
    assert assemble(other, "kernel") == assemble(made, "kernel")


def one(made: Kernel, kind: type) -> Any:
    return next(s for s in walk(made.body) if isinstance(s, kind))


def change(name: str, which: type, /, **changes: Any) -> tuple[Kernel, Kernel]:
    """A kernel, and the same with one field of one statement changed in place."""
    made = KERNELS[name]()
    other = copy.deepcopy(made)
    statement = one(other, which)
    for field, value in changes.items():
        value = value(getattr(statement, field)) if callable(value) else value
        assert value != getattr(statement, field)
        setattr(statement, field, value)
    return made, other


def literal(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(Literal(a.dtype, a.dtype.type(a.value + 1)) if isinstance(a, Literal) else a for a in args)


def computed(change_args: Callable[[Compute], Any]) -> tuple[Kernel, Kernel]:
    made = KERNELS["chain"]()
    other = copy.deepcopy(made)
    statement = next(s for s in walk(other.body) if isinstance(s, Compute) and s.op.name == "multiply")
    change_args(statement)
    return made, other


def swap(s: Compute) -> None:
    s.args = s.args[::-1]


def number(s: Compute) -> None:
    s.args = literal(s.args)


def other_op(s: Compute) -> None:
    s.op = REGISTRY["divide"]


def dtype(s: Compute) -> None:
    s.dtype = F64


def operand_dtypes(s: Compute) -> None:
    s.dtypes = (F64, F64)


def params(s: Compute) -> None:
    s.params = {**s.params, "word": 1}


DIFFERENCES: dict[str, Callable[[], tuple[Kernel, Kernel]]] = {
    "order of operands": lambda: computed(swap),
    "number": lambda: computed(number),
    "op": lambda: computed(other_op),
    "dtype of a result": lambda: computed(dtype),
    "dtypes of operands": lambda: computed(operand_dtypes),
    "parameter of an op": lambda: computed(params),
    "factor": lambda: change("views", Load, index=lambda i: (replace(i[0], factor=i[0].factor + 1), *i[1:])),
    "size in an index": lambda: change("chain", Load, index=lambda i: (replace(i[0], sizes=("n0",)), *i[1:])),
    "offset": lambda: change("chain", Load, index=lambda i: (*i, Term("", 1))),
    "buffer read": lambda: change("chain", Load, buffer=lambda b: "y" if b == "x" else "x"),
    "place written": lambda: change("chain", Store, index=lambda i: (*i, Term("", 1))),
    "value written": lambda: change("softmax", Store, value=lambda v: Literal(F32, F32.type(0))),
    "start of a total": lambda: change("softmax", Set, value=Literal(F32, F32.type(1))),
    "kind of a fold": lambda: change("softmax", Fold, kind="min"),
    "kind of a fold into a buffer": lambda: change("columns", FoldStore, kind="min"),
    "position": lambda: change("positions", Position, index=lambda i: (*i, Term("", 1))),
    "dtype of a position": lambda: change("positions", Position, dtype=np.dtype("int32")),
    "code of a check": lambda: change("gather", Bound, code=7),
    "size of a check": lambda: change("gather", Bound, size="m9"),
    "sign of a check": lambda: change("gather", Bound, signed=False),
    "size of a loop": lambda: change("chain", Loop, size="m9"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_anything_else_counts(name: str) -> None:
    made, other = DIFFERENCES[name]()
    assert structure(made) != structure(other)


def test_zeros_of_either_sign_and_numbers_of_either_type_differ() -> None:
    def made(value: Any) -> str:
        return structure(kernel(lambda x: dp.maximum(x, value), dp.spec((6, 5), "float64")))

    assert made(0.0) == made(0.0) != made(-0.0)
    assert made(1.0) != made(np.nextafter(1.0, 2.0))
    assert made(np.nan) == made(np.nan) != made(np.inf)


def test_buffers_sizes_and_what_threads_share_count() -> None:
    made = KERNELS["softmax"]()
    for change in (
        lambda k: k.buffers.reverse(),
        lambda k: k.buffers.__setitem__(0, replace(k.buffers[0], dtype=F64)),
        lambda k: k.buffers.__setitem__(1, replace(k.buffers[1], role="out")),  # a scratch row lies once per thread
        lambda k: k.sizes.reverse(),
        lambda k: setattr(k, "parallel", ""),
        lambda k: setattr(k, "parallel", "i1"),
        lambda k: setattr(k, "fixed", {"n1": 5}),
    ):
        other = copy.deepcopy(made)
        change(other)
        assert structure(other) != structure(made)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((lambda x: dp.sum(x, axis=0), dp.spec((6, 5))), (lambda x: dp.sum(x, axis=1), dp.spec((6, 5)))),
        ((lambda x: x * 2, dp.spec((6, 5))), (lambda x: x * 2, dp.spec((6, 5), "float64"))),
        ((lambda x: x + x.T, dp.spec((5, 5))), (lambda x: x + x, dp.spec((5, 5)))),
        ((lambda x: x[::2] * 1.5, dp.spec(8)), (lambda x: x[::4] * 1.5, dp.spec(8))),
        ((lambda x: dp.astype(x, "int8"), dp.spec(8)), (lambda x: dp.astype(x, "int16"), dp.spec(8))),
    ],
    ids=["axis", "dtype", "transposed", "step", "cast"],
)
def test_kernels_of_other_functions_differ(one: Any, two: Any) -> None:
    assert structure(kernel(*one)) != structure(kernel(*two))


@pytest.mark.parametrize("sizes", [((6, 5), 5), ((60, 50), 50), ((3, 4), 4)])
def test_sizes_do_not_count(sizes: Any) -> None:
    shape, n = sizes
    made = kernel(lambda x, b: dp.softmax(x * b), dp.spec(shape), dp.spec(n))
    assert structure(made) == structure(kernel(lambda x, b: dp.softmax(x * b), dp.spec((2, 2)), dp.spec(2)))
