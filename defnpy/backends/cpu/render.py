"""A Kernel as Python source: for Numba to compile, and for people to read, run and step through."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...lower.kernel import (
    Assign,
    Bound,
    Compute,
    Fold,
    FoldStore,
    Index,
    Kernel,
    Literal,
    Load,
    Loop,
    Operand,
    Position,
    Set,
    Statement,
    Store,
    While,
)
from .dialect import expression, fold, number

__all__ = ["canonical", "render"]

Name = Callable[[str], str]


def render(kernel: Kernel, *, name: Name = str, comments: bool = True) -> str:
    """The kernel as a Python function of flat arrays and sizes; it returns 0, or the code of a failed bounds check.

    One that threads can share takes the part ``first, last`` of its parallel loops as well.
    name: renames everything (see :func:`canonical`). comments: print the user's lines.
    """
    arguments = [name(b.name) for b in kernel.buffers] + [name(s) for s in kernel.sizes]
    if kernel.parallel:
        arguments += ["first", "last"]
    kinds = {b.name: str(b.dtype.kind) for b in kernel.buffers}
    lines = [f"def {name(kernel.name)}({', '.join(arguments)}):"]
    lines += [f"    {line}" for line in _block(kernel.body, name, comments, kinds, kernel.parallel)]
    return "\n".join([*lines, "    return 0", ""])


def canonical(kernel: Kernel) -> str:
    """The kernel with names that depend on nothing but its structure, and no comments: equal kernels print alike."""
    names: dict[str, str] = {}

    def rename(old: str) -> str:
        return names.setdefault(old, f"v{len(names)}")

    names[kernel.name] = "kernel"
    return render(kernel, name=rename, comments=False)


def _block(body: list[Statement], name: Name, comments: bool, kinds: dict[str, str], parallel: str) -> Iterator[str]:
    shown = ""
    for statement in body:
        note = getattr(statement, "note", "")
        if comments and note and note != shown:
            shown = note
            yield f"# {note}"
        if isinstance(statement, Loop):
            limits = "first, last" if statement.variable == parallel else name(statement.size)
            yield f"for {name(statement.variable)} in range({limits}):"
            yield from (f"    {line}" for line in _block(statement.body, name, comments, kinds, parallel))
        elif isinstance(statement, While):
            yield "while True:"
            yield from (f"    {line}" for line in _block(statement.test, name, comments, kinds, parallel))
            yield f"    if not {_operand(statement.condition, name)}:"
            yield "        break"
            yield from (f"    {line}" for line in _block(statement.body, name, comments, kinds, parallel))
        else:
            yield from _lines(statement, name, kinds)


def _lines(statement: Statement, name: Name, kinds: dict[str, str]) -> Iterator[str]:
    if isinstance(statement, Compute):
        args = tuple(_operand(a, name) for a in statement.args)
        text = expression(statement.op, args, statement.dtypes, statement.dtype, statement.params)
        yield f"{name(statement.name)} = {text}"
    elif isinstance(statement, Position):
        yield f"{name(statement.name)} = np.{statement.dtype}({_index(statement.index, name)})"
    elif isinstance(statement, Load):
        # A bool in memory is a byte.
        test = " != 0" if statement.dtype.kind == "b" else ""
        yield f"{name(statement.name)} = {name(statement.buffer)}[{_index(statement.index, name)}]{test}"
    elif isinstance(statement, Store):
        value = _operand(statement.value, name)
        stored = f"np.uint8({value})" if kinds[statement.buffer] == "b" else value
        yield f"{name(statement.buffer)}[{_index(statement.index, name)}] = {stored}"
    elif isinstance(statement, (Assign, Set)):
        yield f"{name(statement.name)} = {_operand(statement.value, name)}"
    elif isinstance(statement, Fold):
        yield f"{name(statement.name)} = {fold(statement.kind, name(statement.name), _operand(statement.value, name))}"
    elif isinstance(statement, FoldStore):
        place = f"{name(statement.buffer)}[{_index(statement.index, name)}]"
        if statement.dtype.kind == "b":
            yield f"{place} = np.uint8({fold(statement.kind, f'({place} != 0)', _operand(statement.value, name))})"
        else:
            yield f"{place} = {fold(statement.kind, place, _operand(statement.value, name))}"
    elif isinstance(statement, Bound):
        own, size = name(statement.name), name(statement.size)
        yield f"{own} = np.int64({_operand(statement.value, name)})"
        if statement.signed:
            yield f"if {own} < 0:"
            yield f"    {own} = {own} + {size}"
        yield f"if {own} < 0 or {own} >= {size}:"
        yield f"    {name(statement.buffer)}[0] = np.int64({_operand(statement.value, name)})"
        yield f"    return {statement.code}"


def _operand(operand: Operand, name: Name) -> str:
    return number(operand.value, operand.dtype) if isinstance(operand, Literal) else name(operand)


def _index(index: Index, name: Name) -> str:
    text = ""
    for term in index:
        factors = [name(s) for s in term.sizes]
        if term.variable:
            factors.insert(0, name(term.variable))
        if abs(term.factor) != 1 or not factors:
            factors.append(str(abs(term.factor)))
        product = " * ".join(factors)
        text += (" - " if term.factor < 0 else " + ") + product if text else ("-" if term.factor < 0 else "") + product
    return text or "0"
