"""Which nodes of a graph become one kernel: a schedule of groups and library calls.

The rule, in full. Nodes are taken in the order in which library calls need them.

* Movement ops (reshape, permute, broadcast, slice, flip), numbers and iota are never computed on their own: their
  readers index through them. Only where a buffer is needed (an output, a library operand) does one become a copy.
* A 0-d node made of inputs and other such nodes is recomputed by each reader (up to ``INLINE`` operations), and so are
  the arrays that the caller names (``recompute``).
* An elementwise node, a gather or a reduction joins the group that made its latest operand, when they share the loops:
  the group's space equals the node's (a reduction's: its operand's) and every operand from inside the group is needed
  at the very element that the loop stands at. Otherwise it may join a later group of the same space, or it starts one.
* A group of cheap nodes gets loops inside its own, and is one of rows then, when a node needs its results along them.
* In a group whose reduced axes come last, the results of a reduction (one number per row) feed further passes over the
  same row: a softmax is one kernel. All other reductions fill a buffer and end their group's use of them.
* An array put together of parts (pad and concat are such) is never computed on its own either: each part is stored at
  its place by the kernel that computes it.
* What is computed of ``after(x, gate)`` joins no group before the one that makes the gate.
* A loop over single numbers is a kernel of its own, and so is a scatter.
* Everything else is a library call: matrix products go to BLAS, other ops to their reference body. So do ops on arrays
  whose size only the running program knows.

Groups run in the order in which they were started, so an operand must come from an earlier or the same group; that
keeps the schedule free of cycles and the whole walk linear.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from .. import shapes
from ..ir.aval import Avals
from ..ir.expr import Expr, Graph, is_open, topological
from ..ops.mark import stop_grad
from ..shapes import Shape
from .guards import guards
from .products import COPIED, arrange
from .scalars import fits, source_of
from .scatter import SCATTERS, operand_of
from .views import (
    ELSEWHERE,
    FLAT_VIEWS,
    VIEWS,
    ZERO,
    Space,
    folded_shape,
    mixes,
    operand_axes,
    operand_space,
    plain,
    through_one,
    viewed,
)

__all__ = ["FILLED", "FOLDS", "VIEWS", "Call", "Group", "Part", "Schedule", "schedule", "viewed"]

INLINE = 48  # operations of a 0-d chain that each reader may repeat
MEMBERS = 96  # nodes of one group: a kernel that a person can still read
LOOK_BACK = 8  # groups tried for a node that does not fit its operand's

FILLED = -1  # the depth of what is built up in a buffer: a reduction, or an array put together of parts

FOLDS = ("sum", "prod", "max", "min", "any", "all", "overlap_add")


@dataclass(eq=False)
class Group:
    """Nodes computed by one kernel: loops over ``space``.

    split: how many leading axes make a row, once a reduction over the other axes is used inside the group.
    depth: for each member, how many of the loops it stands in: all of them (one value per point of the space),
    ``split`` (one per row), 0 (one, after all loops), or ``FILLED`` for a reduction into a buffer, of no use inside.
    phase: for a member in all loops, the pass over the row in which it is first known; for a row value, the number
    of passes after which it is known. folded: for a reduction, the depth at which its operand stands.
    """

    space: Shape
    position: int
    split: int | None = None
    depth: dict[Expr, int] = field(default_factory=dict)
    phase: dict[Expr, int] = field(default_factory=dict)
    folded: dict[Expr, int] = field(default_factory=dict)


@dataclass(eq=False)
class Call:
    """A node computed by a library.

    results: the nodes of its values: itself, or of an op with several results those ``item`` nodes that are used.
    """

    node: Expr
    position: int
    results: list[Expr]


@dataclass(frozen=True)
class Part:
    """Where a value is stored: at ``starts`` in ``steps`` of the buffer of ``whole``."""

    whole: Expr
    starts: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass
class Schedule:
    """The items in order.

    facts: what the schedule was made from.
    place: where each computed node is computed; of an array put together of parts, the last of the groups that do it.
    inline: nodes that their readers recompute.
    stored: computed nodes that somebody reads from memory. parts: members of groups that stand for a part of another
    node. fillers: who writes what no part covers.
    """

    facts: Facts
    items: list[Group | Call]
    place: dict[Expr, Group | Call]
    inline: set[Expr]
    stored: set[Expr]
    parts: dict[Expr, Part]
    fillers: dict[Expr, Group]


def _counts(node: Expr) -> bool:
    """Whether a node is a number that is not negative."""
    node = viewed(node, VIEWS)
    return node.op.name == "constant" and bool(node.kwargs["value"].value >= 0)


def _dynamic(graph: Graph) -> set[Expr]:
    """The nodes that give or read an array of a size that only the running program knows."""
    nodes = graph.nodes()
    return {node for node in nodes if is_open(node)} if any(node.op.graphs for node in nodes) else set()


def schedule(graph: Graph, again: Collection[Expr] = (), facts: Facts | None = None) -> Schedule:
    """Assign every node to a group, a call, or its readers; elementwise nodes in ``again`` to these.

    facts: those of an earlier schedule of the graph, if there is one.
    """
    return _Scheduler(graph, again, facts or Facts(graph)).run()


class Facts:
    """What is so of a graph, however it is cut.

    dynamic: the nodes of a size that only the running program knows. own: the calls that are kernels of their own.
    guards: the calls that are mostly not made, and the operands that their results are then.
    kind: for each node, what is done with it. needed: those that must lie in memory: outputs, and what calls read.
    order: the nodes as calls need them, the rest at the end: what is computed late can join later loops.
    counts: how many elements the sums of the graph add up.
    """

    def __init__(self, graph: Graph) -> None:
        nodes = graph.nodes()
        self.dynamic = _dynamic(graph)
        scatters = {node for node in nodes if node.op.name in SCATTERS} - self.dynamic
        self.own = scatters | {node for node in nodes if node.op.graphs and fits(node)}
        self.guards = guards(graph) if any(node.op.graphs for node in nodes) else {}
        self.kind = {node: self._kind(node) for node in nodes}
        self.needed = self._buffers(graph)
        self.gated = any(node.op.name == "after" for node in nodes)
        self.order = self._order(graph)
        sums = [node for node in nodes if node.op.name == "sum" and node.size and node not in self.dynamic]
        self.counts = {node.args[0].size // node.size for node in sums}

    def _kind(self, node: Expr) -> str:
        op = node.op
        if op.name in ("parameter", "constant", "iota"):
            return "leaf"
        if op.name == "item":
            return "item"
        if node in self.own:
            return "own"
        if node in self.dynamic:
            return "call"
        if op.name in VIEWS:
            return "view"
        if op.name == "place":
            return "parts"
        if op.name == "pow" and node.dtype.kind in "iu" and not _counts(node.args[1]):
            return "call"  # a negative exponent must be an error
        if op.name == "gather" or (op.family == "elementwise" and op.scalar is not None):
            return "map"
        return "fold" if op.name in FOLDS else "call"

    def _buffers(self, graph: Graph) -> set[Expr]:
        """Nodes that must lie in memory whatever the fusion: outputs, and what library calls read."""
        needed = {*graph.outputs, *[x for node, kept in self.guards.items() for x in (node.args[0], *kept)]}
        for node, kind in self.kind.items():
            if kind == "own":
                needed.update(base for base in map(self.seen(node, ()), node.args) if base.op.name != "constant")
            elif kind == "call":
                read = [self._viewed(arg, node) for arg in node.args]
                # A call is handed numbers as they are.
                needed.update(base for base in read if base.op.name != "constant")
                plan = arrange(node) if node.op.family == "contraction" else None
                if plan is not None:
                    copied = [arg for arg, copy in zip(node.args, plan.copies, strict=True) if copy == COPIED]
                    needed.update(viewed(arg, FLAT_VIEWS) for arg in copied)
            if node.op.name == "gather":
                source = node.args[0]
                while source.op.name in VIEWS and not (source.op.name == "reshape" and mixes(source)):
                    source = source.args[0]
                if source.op.name not in (*VIEWS, "iota", "constant"):
                    needed.add(source)
            if node.op.name == "reshape" and mixes(node):
                needed.add(self._viewed(node.args[0], node))
        return needed

    def _viewed(self, arg: Expr, reader: Expr) -> Expr:
        return viewed(arg, VIEWS if self.kind[reader] == "call" else FLAT_VIEWS)

    def seen(self, call: Expr, place: Collection[Expr]) -> Callable[[Expr], Expr]:
        """Where a call finds an operand."""
        if call not in self.own:
            return functools.partial(viewed, views=VIEWS, place=place)
        return source_of if call.op.graphs else operand_of

    def _order(self, graph: Graph) -> list[Expr]:
        """See above. Operands that could be computed at any time come last of their reader's.

        Where a checkpoint asks for little memory, the last of several outputs comes first: the gradient of a net's last
        layer is known first, and then nobody needs any more what it is made of.
        """
        outputs = graph.outputs[::-1] if self.gated else graph.outputs
        nodes = topological((*graph.effects, *outputs)) if self.gated else graph.nodes()
        light: set[Expr] = set()
        for node in nodes:
            if self.kind[node] in ("map", "view", "leaf") and light.issuperset(node.args):
                light.add(node)
        calls = [n for n in nodes if self.kind[n] in ("call", "own")]
        return topological([*calls, *graph.effects, *outputs], last=light)


class _Scheduler:
    def __init__(self, graph: Graph, again: Collection[Expr], facts: Facts) -> None:
        self.graph = graph
        self.again = again
        self.facts = facts
        self.needed = facts.needed
        self.items: list[Group | Call] = []
        self.place: dict[Expr, Group | Call] = {}
        self.cost: dict[Expr, int] = {}  # of inline nodes; of arrays that are to be computed again it does not matter
        self.parts: dict[Expr, Part] = {}
        self.fillers: dict[Expr, Group] = {}
        self.stored = set(graph.outputs)

    def _kind(self, node: Expr) -> str:
        return self.facts.kind.get(node, "view")  # a part that is put into its place is seen like one

    def run(self) -> Schedule:
        for node in self.facts.order:
            kind = self._kind(node)
            if kind in ("call", "own"):
                call = Call(node, len(self.items), [] if isinstance(node.aval, Avals) else [node])
                self.place[node] = call
                self.items.append(call)
                self.stored.update(map(self.facts.seen(node, self.place), node.args))
            elif kind == "item":
                producer = self.place[node] = self.place[node.args[0]]
                assert isinstance(producer, Call)
                producer.results.append(node)
            elif kind == "parts":
                self._put_together(node)
            elif kind == "fold" or (kind == "map" and not self._inlined(node)):
                self._group(node)
            elif kind in ("view", "leaf") and node in self.needed and node.op.name != "parameter":
                self._group(node)  # a copy
        return Schedule(self.facts, self.items, self.place, set(self.cost), self.stored, self.parts, self.fillers)

    def _inlined(self, node: Expr) -> bool:
        if node in self.again:
            self.cost[node] = 0
            return True
        if node.size != 1 or node in self.needed or node.op.name == "gather":
            return False
        cost = 1 if node.op.name != "threefry2x32" else 12
        for arg in node.args:
            base = viewed(arg, VIEWS, self.place)
            if base in self.cost:
                cost += self.cost[base]
            elif base.op.family != "leaf" or base.size != 1:
                return False
        if cost > INLINE:
            return False
        self.cost[node] = cost
        return True

    # -- groups ---------------------------------------------------------------------------------------------------

    def _put_together(self, node: Expr) -> None:
        """Have every operand stored in its part of the buffer."""
        groups = []
        for arg, starts, steps in zip(node.args, node.kwargs["starts"], node.kwargs["steps"], strict=True):
            part = Expr(stop_grad, (arg,), (), arg.aval, node.loc, node.trace)  # a copy of its own, even of equal parts
            self.parts[part] = Part(node, starts, steps)
            self._group(part)
            self.stored.add(part)
            groups.append(self.place[part])
        for group in groups:
            assert isinstance(group, Group)
            group.depth[node], group.phase[node] = FILLED, 0
        self.place[node] = max(groups, key=lambda group: group.position)
        if sum(arg.size for arg in node.args) < node.size:
            self.fillers[node] = min(groups, key=lambda group: group.position)  # type: ignore[assignment]

    def _group(self, node: Expr) -> None:
        space = folded_shape(node) if self._kind(node) == "fold" else node.shape
        latest = max((self._position(base) for base, _ in self._reads(node, plain(space))), default=-1)
        if self.facts.gated:
            latest = max(latest, self._gate(node))
        for position in self._candidates(latest):
            item = self.items[position]
            if isinstance(item, Group) and (self._join(item, node, space) or self._grown(item, node, space)):
                return
        group = Group(space, len(self.items))
        self.items.append(group)
        if not self._join(group, node, space):
            raise AssertionError(f"{node.op.name} does not fit a group of its own")

    def _grown(self, group: Group, node: Expr, space: Shape) -> bool:
        """Put a node into a group of its rows, which gets the loops along a row in addition."""
        if group.split is not None or {*group.depth.values()} != {len(group.space)} or group.folded:
            return False
        if shapes.size(group.space) == 1 or not all(member.op.cheap for member in group.depth):
            return False
        rows = next((d for d in range(1, len(space)) if _is_row(group.space, space, d)), None)
        if rows is None:
            return False
        before = group.space, group.depth
        group.space, group.split, group.depth = space, rows, dict.fromkeys(group.depth, rows)
        if self._join(group, node, space):
            return True
        group.space, group.depth = before
        group.split = None
        return False

    def _gate(self, node: Expr) -> int:
        """The position before which a node must not be computed, although its operands are there: see ``after``."""
        position, pending = -1, list(node.args)
        while pending:
            arg = pending.pop()
            if arg in self.place:
                continue
            if arg.op.name == "after":
                gate = arg.args[1]
                known = [self._position(base) for base, _ in self._leaves(gate, plain(gate.shape))]
                position = max(position, *known, -1)
            if arg.op.name in VIEWS:
                pending.append(arg.args[0])
            elif arg in self.cost:
                pending += arg.args
        return position

    def _candidates(self, latest: int) -> Iterator[int]:
        if latest >= 0:
            yield latest
        yield from range(len(self.items) - 1, max(latest, len(self.items) - 1 - LOOK_BACK), -1)

    def _position(self, base: Expr) -> int:
        item = self.place.get(base)
        return -1 if item is None else item.position

    def _reads(self, node: Expr, space: Space) -> Iterator[tuple[Expr, Space]]:
        """What a node reads, with the index of each read: through views and inline nodes, down to computed values."""
        if self._kind(node) == "fold":
            yield from self._leaves(node.args[0], tuple([space[loop] for loop in operand_axes(node)]))
        elif self._kind(node) in ("view", "leaf"):
            yield from self._leaves_of_copy(node, space)
        elif node.op.name == "gather":
            # Any element may be meant, so the source must be complete: no index of the loops is as good as this one.
            anywhere = (ELSEWHERE,) * node.args[0].ndim
            yield from ((base, (ELSEWHERE, *seen)) for base, seen in self._leaves(node.args[0], anywhere))
            for index in node.args[1:]:
                yield from self._leaves(index, space[: index.ndim])
        else:
            for arg in node.args:
                yield from self._leaves(arg, operand_space(arg.shape, node.shape, space))

    def _leaves_of_copy(self, node: Expr, space: Space) -> Iterator[tuple[Expr, Space]]:
        if node.op.name in VIEWS:
            yield from self._leaves(*through_one(node, space))

    def _leaves(self, arg: Expr, space: Space) -> Iterator[tuple[Expr, Space]]:
        if arg.op.name == "constant":
            return
        if arg in self.place:  # a view that was copied is read as the copy
            yield arg, space
            return
        if arg.op.name in VIEWS:
            inner, seen = through_one(arg, space)
            yield from self._leaves(inner, seen)
        elif arg in self.cost:
            for inner in arg.args:
                yield from self._leaves(inner, operand_space(inner.shape, arg.shape, space))
        elif arg.op.name != "iota":
            yield arg, space

    def _join(self, group: Group, node: Expr, space: Shape) -> bool:
        """Put a node into a group if it fits: see the rule at the top."""
        if len(group.depth) >= MEMBERS:
            return False
        fold = self._kind(node) == "fold"
        for depth in self._depths(group, space):
            if fold and depth not in (len(group.space), group.split):
                continue
            if node.op.name == "overlap_add" and depth != len(group.space):
                continue
            split, target = self._target(group, node, depth) if fold else (group.split, depth)
            phase = self._phase(group, node, row_space(space, group.space, depth), depth, split)
            if phase is None:
                continue
            group.split = split
            group.depth[node] = target
            # A reduction is known after its pass, everything else in it.
            group.phase[node] = phase + 1 if fold and target == split else phase
            if fold:
                group.folded[node] = depth
            self.place[node] = group
            index = row_space(space, group.space, depth)
            self.stored.update(base for base, _ in self._reads(node, index) if self.place.get(base) is not group)
            return True
        return False

    @staticmethod
    def _depths(group: Group, space: Shape) -> Iterator[int]:
        """The depths at which a value of shape ``space`` could stand: its shape is that of the loops around it."""
        known = {len(group.space), *group.depth.values()} | ({group.split} if group.split is not None else set())
        for depth in sorted(known - {FILLED, None}, reverse=True):
            if _is_row(space, group.space, depth):
                yield depth

    @staticmethod
    def _target(group: Group, node: Expr, depth: int) -> tuple[int | None, int]:
        """The group's split and the depth of the result, for a reduction of values at ``depth``."""
        if node.op.name == "overlap_add":
            return group.split, FILLED
        axes = node.kwargs["axis"]
        if depth == len(group.space):
            kept = [a for a in range(depth) if a not in axes and group.space[a] != 1]
            for split in range(depth) if group.split is None else [group.split]:
                if [a for a in range(split) if group.space[a] != 1] == kept:
                    return split, split
        return group.split, 0 if node.size == 1 and group.split else FILLED

    def _phase(self, group: Group, node: Expr, index: Space, depth: int, split: int | None) -> int | None:
        """The pass in which a node at ``depth`` can be computed, or None if it cannot be in this group."""
        phase = 0
        for base, read in self._reads(node, index):
            if self._position(base) > group.position:
                return None
            inside = group.depth.get(base)
            if inside is None:
                continue
            ended = inside == 0 and bool(group.split)  # known when all loops are over
            if inside == FILLED or inside > depth or (ended and depth != 0):
                return None
            if read != row_space(base.shape, group.space, inside):
                return None
            phase = max(phase, group.phase[base])
        return phase


@functools.lru_cache(maxsize=4096)
def row_space(shape: Shape, space: Shape, depth: int) -> Space:
    """How a value of one element per point of the first ``depth`` loops is indexed by them."""
    axes = iter(a for a in range(depth) if space[a] != 1)
    return tuple(ZERO if n == 1 else next(axes) for n in shape)


@functools.lru_cache(maxsize=4096)
def _is_row(shape: Shape, space: Shape, depth: int) -> bool:
    """Whether ``shape`` is that of the first ``depth`` loops, then nothing or axes of size 1."""
    if depth == len(space):
        return shape == space
    alone = shapes.size(shape) == 1 and shapes.size(space[:depth]) == 1
    return alone or (shape[:depth] == space[:depth] and all(n == 1 for n in shape[depth:]))
