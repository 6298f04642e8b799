"""Scatter as a kernel of its own: the array is copied, then one update after the other is added or written."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.expr import Expr
from .emitted import Draft, Emitted
from .kernel import FoldStore, Index, Literal, Load, Loop, Operand, Statement, Store, Term
from .views import FLAT_VIEWS, VIEWS, viewed

__all__ = ["SCATTERS", "operand_of", "scatter_kernel"]

SCATTERS = ("scatter_add", "scatter_set")

Axis = tuple[str, str]  # the variable that goes along it, and the name of its size


def operand_of(arg: Expr) -> Expr:
    """The node in whose memory the kernel finds an operand, or the number that all its elements are."""
    number = viewed(arg, VIEWS)
    return number if number.op.name == "constant" else viewed(arg, FLAT_VIEWS)


def scatter_kernel(node: Expr, names: dict[Expr, str], title: str) -> Emitted:
    """The kernel of a ``scatter_add`` or ``scatter_set``. Later updates come later: of several at a place the last
    one stays."""
    draft = Draft(names)
    x, updates, *indices = node.args
    indexed = node.kwargs["axes"]
    out = draft.buffer(node, "out")
    everywhere = _axis(draft, x.size)
    block: list[Statement] = []
    before = _element(draft, x, [everywhere], block)
    copy = Loop(*everywhere, [*block, Store(out, _flat([everywhere]), before)])

    outer = [_axis(draft, n) for n in indices[0].shape]
    place = [_axis(draft, n) for n in x.shape]
    inner = [place[a] for a in range(x.ndim) if a not in indexed]
    checks: list[Statement] = []
    for axis, index in zip(indexed, indices, strict=True):
        value, length = _element(draft, index, outer, checks), place[axis][1]
        check = draft.bound(value, node, axis, length, signed=index.dtype.kind == "i")
        checks.append(check)
        place[axis] = check.name, length
    update: list[Statement] = []
    value = _element(draft, updates, [*outer, *inner], update)
    if node.op.name == "scatter_set":
        update.append(Store(out, _flat(place), value))
    else:
        update.append(FoldStore(out, _flat(place), x.dtype, "any" if x.dtype.kind == "b" else "sum", value))
    draft.note(node)
    return draft.finished(title, [copy, *_nested(outer, [*checks, *_nested(inner, update)])])


def _axis(draft: Draft, n: int) -> Axis:
    return f"i{len(draft.sizes)}", draft.size(n)


def _element(draft: Draft, node: Expr, axes: Sequence[Axis], block: list[Statement]) -> Operand:
    base = operand_of(node)
    if base.op.name == "constant":
        return Literal(base.dtype, base.kwargs["value"].value)
    name = draft.fresh()
    block.append(Load(name, node.dtype, draft.buffer(base, "in"), _flat(axes)))
    return name


def _flat(axes: Sequence[Axis]) -> Index:
    """The flat index of an element of an array with these axes."""
    return tuple(Term(variable, 1, tuple(size for _, size in axes[a + 1 :])) for a, (variable, _) in enumerate(axes))


def _nested(axes: Sequence[Axis], body: list[Statement]) -> list[Statement]:
    for variable, size in reversed(axes):
        body = [Loop(variable, size, body)]
    return body
