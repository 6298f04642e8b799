"""Which arrays are computed again by the loops that read them, rather than stored for them.

The rule, in full. An array that some loops make and others read is not stored, but computed again by each of these, if

* it takes at most ``OPERATIONS`` elementwise operations, all of them cheap (``Op.cheap``), on values that lie in memory
  anyway, on numbers, or on values of less than 1 / ``SMALL`` of its elements, which are stored then;
* what is read for an element has together no more bytes than the element, so that a write is saved and no read added;
* nobody reads an element several times (through a broadcast, or windows that meet).

Everything else that is read elsewhere is stored: what is expensive is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..ir.expr import Expr, Graph
from .fuse import Call, Group, Schedule, schedule
from .views import VIEWS, mixes

__all__ = ["reasons", "scheduled"]

OPERATIONS = 6
SMALL = 8


def scheduled(graph: Graph) -> Schedule:
    """The schedule of a graph in which cheap arrays are computed where they are read."""
    plan = schedule(graph)
    again = _Choice(graph, plan).chosen()
    return schedule(graph, again, plan.facts) if again else plan


def reasons(graph: Graph) -> list[tuple[Expr, str]]:
    """For every value that lies in memory between the steps, or could, why that is so."""
    first = schedule(graph)
    choice = _Choice(graph, first)
    again = choice.chosen()
    plan, users, outputs = schedule(graph, again, first.facts), graph.users(), set(graph.outputs)
    told = []
    for node in users:
        if node in again and node in first.stored:
            told.append((node, "not kept: cheap, and computed again where it is read"))
        elif node in plan.stored and node in plan.place and node not in outputs:
            told.append((node, _reason(node, plan, users) or choice.reason(node, users)))
    return told


def _reason(node: Expr, plan: Schedule, users: dict[Expr, list[Expr]]) -> str:
    """Why a value must be stored; empty where it could be computed again."""
    if isinstance(plan.place[node], Call):
        return f"kept: made by {node.op.name}"
    if node in plan.facts.needed:
        return f"kept: read as a whole by {', '.join(_whole_readers(node, plan, users))}"
    if node.op.family == "reduction":
        return "kept: complete when its loops are over"
    if node.op.name == "place":
        return "kept: put together of parts"
    if not _cheap(node):
        return f"kept: {node.op.name} is expensive, so computed once"
    return ""


def _whole_readers(node: Expr, plan: Schedule, users: dict[Expr, list[Expr]]) -> dict[str, None]:
    """The ops that need a value in memory, behind whatever views."""
    found: dict[str, None] = {}
    pending = list(users[node])
    while pending:
        user = pending.pop()
        if isinstance(plan.place.get(user), Call) or user.op.name == "gather":
            found[user.op.name] = None
        elif user.op.name == "reshape" and mixes(user):
            found["reshape, which mixes its axes"] = None
        elif user.op.name in VIEWS:
            pending += users[user]
    return found


class _Choice:
    def __init__(self, graph: Graph, plan: Schedule) -> None:
        self.graph = graph
        self.plan = plan
        self.again: set[Expr] = set()

    def chosen(self) -> set[Expr]:
        """The arrays that fulfil the rule."""
        between = [node for node, item in self.plan.place.items() if isinstance(item, Group) and self._may(node)]
        if between:
            users = self.graph.users()
            order = {node: i for i, node in enumerate(users)}
            for node in sorted(between, key=order.__getitem__):
                made = self._made(node)
                if made and max(self._points(node, users), default=0) <= node.size:
                    self.again |= made
        return self.again

    def reason(self, node: Expr, users: dict[Expr, list[Expr]]) -> str:
        """Why a cheap array is stored."""
        if max(self._points(node, users), default=0) > node.size:
            return "kept: cheap, but read several times"
        return "kept: computed again it would take too many operations, or read more than its own bytes"

    def _may(self, node: Expr) -> bool:
        """Whether a node is an array of a cheap operation, stored for no other reason than that loops read it."""
        plan = self.plan
        return node in plan.stored and node not in plan.facts.needed and node not in plan.parts and _cheap(node)

    def _made(self, node: Expr) -> set[Expr]:
        """What is computed for an element, from values in memory; nothing if that is too much work."""
        made, bytes_read = {node}, 0
        pending, seen = [node], {node}
        while pending:
            last = pending.pop()
            for arg in last.args[:1] if last.op.name in VIEWS else last.args:
                if arg in seen or arg.op.name == "constant":
                    continue
                seen.add(arg)
                if self._in_memory(arg):
                    bytes_read += arg.dtype.itemsize if arg.size * SMALL > node.size else 0
                elif arg.size * SMALL <= node.size and arg in self.plan.place:
                    continue  # one number per row or column, stored from now on
                elif arg.op.name in VIEWS or arg.op.name == "iota" or arg in self.plan.inline:
                    pending.append(arg)
                elif _cheap(arg):
                    pending.append(arg)
                    made.add(arg)
                else:
                    return set()
        return made if len(made) <= OPERATIONS and bytes_read <= node.dtype.itemsize else set()

    def _in_memory(self, node: Expr) -> bool:
        return node.op.name == "parameter" or (node in self.plan.stored and node not in self.again)

    def _points(self, node: Expr, users: dict[Expr, list[Expr]]) -> Iterator[int]:
        """How many elements each reader of a node asks for."""
        pending = [(node, user) for user in users[node]]
        while pending:
            read, user = pending.pop()
            placed = user in self.plan.place
            if user.op.name in VIEWS and not placed:
                if user.args[0] is read:  # nobody reads a gate
                    pending += [(user, reader) for reader in users[user]]
            elif user in self.plan.inline:
                pending += [(user, reader) for reader in users[user]]
            else:
                yield user.size if user.op.family == "elementwise" or user.op.name in VIEWS else read.size


def _cheap(node: Expr) -> bool:
    return node.op.family == "elementwise" and node.op.cheap and node.size > 1 and node.op.name != "threefry2x32"
