"""Which members of a group belong to which pass over a row, and which are kept for a later pass in scratch memory."""

from __future__ import annotations

from collections.abc import Iterator

from ..ir.expr import Expr
from .fuse import Group, Schedule
from .views import VIEWS, viewed

__all__ = ["folds", "plan_passes"]


def folds(group: Group, node: Expr) -> bool:
    """Whether ``node`` is a reduction among the members."""
    return node in group.folded


def pass_of(group: Group, node: Expr) -> int | None:
    """The pass over the row in which a member is stored or folded; None for those outside of the inner loops."""
    depth, phase, ndim = group.depth[node], group.phase[node], len(group.space)
    if folds(group, node):
        if group.folded[node] != ndim:
            return None
        return phase - 1 if depth == group.split else phase
    return phase if depth == ndim else None


def plan_passes(group: Group, plan: Schedule, stored: set[Expr]) -> tuple[list[list[Expr]], list[Expr]]:
    """For every pass the members stored, folded or spilled in it; and the spilled ones.

    A member that a later pass needs is read back if it is stored anyway, spilled if it is expensive, else recomputed.
    """
    by_pass = {node: pass_of(group, node) for node in group.depth}
    count = max((p for p in by_pass.values() if p is not None), default=-1) + 1
    roots = [
        [n for n, p in by_pass.items() if p == phase and (folds(group, n) or n in stored)] for phase in range(count)
    ]
    spilled: dict[Expr, None] = {}
    for phase in reversed(range(count)):
        for node in _read_back(group, plan, stored, roots[phase], phase):
            if node not in stored and node not in spilled:
                spilled[node] = None
                roots[group.phase[node]].append(node)
    order = {node: i for i, node in enumerate(group.depth)}
    return [sorted(members, key=order.__getitem__) for members in roots], list(spilled)


def _read_back(group: Group, plan: Schedule, stored: set[Expr], roots: list[Expr], phase: int) -> Iterator[Expr]:
    """The members of earlier passes that a pass reads instead of computing them again."""
    pending, seen = list(roots), set(roots)
    while pending:
        node = pending.pop()
        for arg in node.args:
            base = viewed(arg, VIEWS, plan.place)
            if base in seen:
                continue
            seen.add(base)
            if base in plan.inline:
                pending.append(base)
            elif base in group.depth and group.depth[base] == len(group.space) and not folds(group, base):
                if group.phase[base] < phase and (base in stored or not base.op.cheap):
                    yield base
                else:
                    pending.append(base)
