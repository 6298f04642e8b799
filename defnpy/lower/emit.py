"""From a group of nodes to a Kernel: where each value is computed, loaded and stored in the loop nest."""

from __future__ import annotations

import re

import numpy as np

from ..dtypes import DType
from ..ir.expr import Expr
from ..ops.convert import astype
from ..shapes import Shape
from ..source import Location
from .counts import Counts
from .emitted import FAILED, Emitted, computed
from .fuse import FILLED, Group, Schedule
from .kernel import (
    Bound,
    Buffer,
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
    Term,
    affine,
    collapse,
    folded_before_stored,
    identity,
    leaves_many_over,
    merged,
    parallel_variable,
    sizes_in,
    slides,
)
from .rows import folds, plan_passes
from .views import FLAT_VIEWS, VIEWS, fold_kind, folded_index, folded_shape, indexed, operand_axes, viewed

__all__ = ["FAILED", "Emitted", "emit"]

SHORT = 64  # a loop over so many elements is better compiled for their number


def emit(group: Group, plan: Schedule, stored: set[Expr], names: dict[Expr, str], title: str) -> Emitted:
    """The kernel of ``group``; ``stored`` are its members that somebody reads from memory."""
    return _Emitter(group, plan, stored, names).run(title)


class _Emitter:
    def __init__(self, group: Group, plan: Schedule, stored: set[Expr], names: dict[Expr, str]) -> None:
        self.group = group
        self.plan = plan
        self.stored = stored
        self.names = names
        self.ndim = len(group.space)
        self.split = self.ndim if group.split is None else group.split
        self.buffers: dict[Expr | str, Buffer] = {}
        self.sources: list[Expr | int] = []
        self.sizes: dict[str, int] = {}
        self.checks: list[tuple[Expr, int]] = []
        self.places: dict[Location, None] = {}
        self.blocks: list[list[Statement]] = [[]]
        self.known: list[dict[tuple[Expr, tuple[Index, ...]], tuple[Operand, int]]] = [{}]
        self.used: set[str] = set()
        self.passes, spilled = plan_passes(group, plan, stored)
        self.scratch = dict.fromkeys(spilled, "")  # members written to a row of scratch memory, and its name
        self.written: set[Expr] = set()
        self.variable_depth: dict[str, int] = {}
        self.lengths: dict[tuple[Expr, int], str] = {}
        self.counts = Counts(group.space, plan.facts.counts, self.sizes)
        self.loop_index: list[Index] = [() if n == 1 else (Term(f"i{a}"),) for a, n in enumerate(group.space)]

    def run(self, title: str) -> Emitted:
        rows = self.group.split is not None
        prologue: list[Statement] = []
        for node, depth in self.group.depth.items():
            if depth == FILLED and self._folds(node):
                prologue.append(self._fill(node, self._result_index(node), identity(fold_kind(node), node.dtype)))
            elif self.plan.fillers.get(node) is self.group:
                prologue.append(self._fill_around(node))
            elif depth == 0 and rows and self.split and self._folds(node):
                self._start(node, 0)
        self._open(0, self.split)
        self._row_values(0)
        for phase, members in enumerate(self.passes):
            for node in filter(self._per_row, members):
                self._start(node, self.split)
            self._open(self.split, self.ndim)
            for node in members:
                self._root(node)
            self._close(self.split)
            if rows:
                for node in filter(self._per_row, members):
                    self._remember(node, self._natural(node), self._accumulator(node), self.split)
                self._row_values(phase + 1)
        self._close(0)
        if rows and self.split:
            self._end_values()
        self.blocks[0][:0] = self.counts.statements
        return self._finished(title, prologue)

    # -- what is computed when -------------------------------------------------------------------------------------

    def _folds(self, node: Expr) -> bool:
        return folds(self.group, node)

    def _per_row(self, node: Expr) -> bool:
        """Whether a member is a reduction with one result per row."""
        return self._folds(node) and self.group.depth[node] == self.group.split

    def _root(self, node: Expr) -> None:
        if self._folds(node):
            self._fold(node, self.ndim)
            return
        value, _ = self._value(node, self._natural(node))
        if node in self.stored:
            self._store(node, value, self.ndim)
        if node in self.scratch:
            self.blocks[self.ndim].append(Store(*self._scratch(node), value))

    def _row_values(self, phase: int) -> None:
        """Store and fold the row values that are known after ``phase`` passes."""
        if self.group.split is None:
            return
        for node, depth in self.group.depth.items():
            if self.group.phase[node] != phase:
                continue
            if self._folds(node) and depth != self.split:
                if self.group.folded[node] == self.split:
                    self._fold(node, self.split)
            elif depth == self.split and node in self.stored:
                value, _ = self._value(node, self._natural(node))
                self._store(node, value, self.split)

    def _end_values(self) -> None:
        for node, depth in self.group.depth.items():
            if depth != 0:
                continue
            if self._folds(node):
                self._remember(node, self._natural(node), self._accumulator(node), 0)
            if node in self.stored:
                value, _ = self._value(node, self._natural(node))
                self._store(node, value, 0)

    # -- loops -----------------------------------------------------------------------------------------------------

    def _open(self, first: int, last: int) -> None:
        for axis in range(first, last):
            if self.group.space[axis] == 1:
                self.blocks.append(self.blocks[axis])
                self.known.append(self.known[axis])
            else:
                self.blocks.append([])
                self.known.append({})

    def _close(self, depth: int) -> None:
        while len(self.blocks) > depth + 1:
            axis = len(self.blocks) - 2
            body = self.blocks.pop()
            self.known.pop()
            if self.group.space[axis] != 1 and body:
                size = self._size(f"n{axis}", self.group.space[axis])
                self.blocks[axis] += folded_before_stored(f"i{axis}", size, body)

    def _size(self, name: str, value: int) -> str:
        self.sizes[name] = value
        return name

    # -- values ----------------------------------------------------------------------------------------------------

    def _natural(self, node: Expr) -> tuple[Index, ...]:
        """How a member is indexed by the loops that it stands in."""
        depth = self.group.depth[node]
        if depth == FILLED or self._folds(node):
            return self._result_index(node)
        return self._by_loops(node.shape, depth)

    def _by_loops(self, shape: Shape, depth: int) -> tuple[Index, ...]:
        axes = iter([a for a in range(depth) if self.group.space[a] != 1])
        return tuple(() if n == 1 else self.loop_index[next(axes)] for n in shape)

    def _result_index(self, fold: Expr) -> tuple[Index, ...]:
        """How the result of a reduction is indexed by the loops around its operand."""
        return folded_index(fold, self._operand_index(fold, self.group.folded[fold]))

    def _operand_index(self, fold: Expr, depth: int) -> tuple[Index, ...]:
        loops = self._by_loops(folded_shape(fold), depth)
        return tuple(loops[loop] for loop in operand_axes(fold))

    def _remember(self, node: Expr, index: tuple[Index, ...], value: Operand, depth: int) -> None:
        self.known[depth][node, index] = (value, depth)

    def _recall(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int] | None:
        for known in reversed(self.known):
            if (node, index) in known:
                return known[node, index]
        return None

    def _value(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int]:
        """The scalar of ``node`` at ``index``, and the depth of the loop that it is computed in."""
        found = self._recall(node, index)
        if found is not None:
            return found
        if node.op.name == "constant":
            return Literal(node.dtype, node.kwargs["value"].value), 0
        if node in self.group.depth:
            result = self._member(node, index)
        elif node in self.plan.place or node.op.name == "parameter":
            result = self._load(node, self._flat(node, index), node.dtype)
        elif node.op.name == "iota":
            result = self._position(node, index)
        elif node.op.name in VIEWS:
            return self._through_view(node, index)
        else:
            result = self._compute(node, index)
        self._remember(node, index, *result)
        return result

    def _member(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int]:
        depth = self.group.depth[node]
        inner_pass = len(self.blocks) - 1 == self.ndim and self.group.split is not None
        if depth == self.ndim and inner_pass and node in self.written:
            if node in self.scratch:
                return self._load_from(*self._scratch(node), node)
            if node in self.stored:
                return self._load(node, self._flat(node, index), node.dtype)
        if node.op.name in VIEWS:
            return self._through_view(node, index)
        if node.op.name == "iota":
            return self._position(node, index)
        if node.op.name == "gather":
            return self._gather(node, index)
        return self._compute(node, index)

    def _compute(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int]:
        args, depth = [], 0
        for arg in node.args:
            lead = node.ndim - arg.ndim
            own = tuple(() if n == 1 else index[a + lead] for a, n in enumerate(arg.shape))
            value, at = self._value(arg, own)
            if node.op.name == "divide" and arg is node.args[1] and isinstance(value, Literal):
                value = self.counts.divisor(value)
            args.append(value)
            depth = max(depth, at)
        name = self._fresh(node)
        self.blocks[depth] += computed(node, name, args, self._note(node), lambda: self._fresh(node))
        return name, depth

    def _through_view(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int]:
        inner = node.args[0]
        seen = indexed(node, index)
        if seen is not None:
            return self._value(inner, seen)
        base = viewed(inner, FLAT_VIEWS, self.plan.place)
        return self._load(base, self._flat(node, index), node.dtype)

    def _position(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int]:
        axis = node.kwargs["axis"]
        along = self._flat(node, index) if axis is None else index[axis]
        if not along:
            return Literal(node.dtype, node.dtype.type(0)), 0
        name, depth = self._fresh(node), self._depth(along)
        self.blocks[depth].append(Position(name, node.dtype, along))
        return name, depth

    def _gather(self, node: Expr, index: tuple[Index, ...]) -> tuple[Operand, int]:
        source, *indices = node.args
        axes = node.kwargs["axes"]
        own = index[: indices[0].ndim]
        rest = iter(index[indices[0].ndim :])
        full: list[Index] = []
        positions = dict(zip(axes, indices, strict=True))
        for axis, n in enumerate(source.shape):
            if axis not in positions:
                full.append(next(rest))
                continue
            counted = _known_place(positions[axis], own, n)
            if counted is not None:
                full.append(counted)
                continue
            value, depth = self._value(positions[axis], own)
            name = self._fresh(positions[axis], "at")
            self.checks.append((node, axis))
            size = self._size(f"m{len(self.sizes)}", n)
            signed = positions[axis].dtype.kind == "i"
            self.blocks[depth].append(Bound(name, value, size, len(self.checks), self._failed(), signed))
            self.variable_depth[name] = depth
            full.append((Term(name),))
        return self._value(source, tuple(full))

    # -- memory ----------------------------------------------------------------------------------------------------

    def _buffer(self, key: Expr, role: str) -> str:
        found = self.buffers.get(key)
        if found is None:
            found = self.buffers[key] = Buffer(self.names[key], key.dtype, role)
            self.sources.append(key)
        return found.name

    def _failed(self) -> str:
        """The buffer of one element in which a failed check leaves the index."""
        if FAILED not in self.buffers:
            self.buffers[FAILED] = Buffer(FAILED, np.dtype("int64"), "scratch")
            self.sources.append(1)
        return FAILED

    def _flat(self, node: Expr, index: tuple[Index, ...]) -> Index:
        """The flat row-major index of an element of ``node``."""
        sizes = [""] * node.ndim
        for axis in range(node.ndim):
            loop = self._loop_of(index[axis])
            if loop is not None and self.group.space[loop] == node.shape[axis]:
                sizes[axis] = self._size(f"n{loop}", node.shape[axis])
        terms: list[Term] = []
        for axis, along in enumerate(index):
            if along:
                later = [a for a in range(axis + 1, node.ndim) if node.shape[a] != 1]
                stride = tuple([sizes[a] or self._length(node, a) for a in later])
                terms += [Term(t.variable, t.factor, (*t.sizes, *stride)) for t in along]
        return tuple(terms)

    @staticmethod
    def _loop_of(index: Index) -> int | None:
        """The loop axis whose variable an index is, if it is no more than that."""
        if len(index) != 1 or index[0].factor != 1 or index[0].sizes or index[0].variable[:1] != "i":
            return None
        return int(index[0].variable[1:]) if index[0].variable[1:].isdigit() else None

    def _length(self, node: Expr, axis: int) -> str:
        """The name of the size of an axis that no loop runs along."""
        name = self.lengths.get((node, axis))
        if name is None:
            name = self.lengths[node, axis] = self._size(f"m{len(self.sizes)}", node.shape[axis])
        return name

    def _depth(self, index: Index) -> int:
        depths = [0]
        for term in index:
            if term.variable in self.variable_depth:
                depths.append(self.variable_depth[term.variable])
            elif term.variable:
                depths.append(int(term.variable[1:]) + 1)
        return max(depths)

    def _load(self, node: Expr, index: Index, dtype: DType) -> tuple[Operand, int]:
        role = "out" if node in self.group.depth else "in"
        return self._load_from(self._buffer(node, role), index, node)

    def _load_from(self, buffer: str, index: Index, node: Expr) -> tuple[Operand, int]:
        depth = max(self._depth(index), self.ndim if buffer in self.scratch.values() else 0)
        name = self._fresh(node)
        self.blocks[depth].append(Load(name, node.dtype, buffer, index))
        return name, depth

    def _store(self, node: Expr, value: Operand, depth: int) -> None:
        whole, index = self._placed(node)
        self.blocks[depth].append(Store(self._buffer(whole, "out"), self._flat(whole, index), value))
        self.written.add(node)

    def _scratch(self, node: Expr) -> tuple[str, Index]:
        inner = [a for a in range(self.split, self.ndim) if self.group.space[a] != 1]
        if not self.scratch[node]:
            name = f"{self.names[node]}_row"
            self.scratch[node] = name
            self.buffers[name] = Buffer(name, node.dtype, "scratch")
            self.sources.append(int(np.prod([self.group.space[a] for a in inner], dtype=np.int64)))
        self.written.add(node)
        index = tuple(
            Term(f"i{a}", 1, tuple(self._size(f"n{b}", self.group.space[b]) for b in inner if b > a)) for a in inner
        )
        return self.scratch[node], index

    def _fill(self, node: Expr, index: tuple[Index, ...], value: Literal) -> Statement:
        """Write a number into a whole buffer, before all loops; along ``index`` where it is one plain loop."""
        loops: list[tuple[str, str]] = []
        own: list[Index] = []
        for axis, (n, along) in enumerate(zip(node.shape, index, strict=True)):
            if n == 1:
                own.append(())
                continue
            loop = self._loop_of(along)
            if loop is not None and self.group.space[loop] == n:
                loops.append((f"i{loop}", self._size(f"n{loop}", n)))
            else:
                loops.append((f"j{axis}", self._length(node, axis)))
            own.append((Term(loops[-1][0]),))
        statement: Statement = Store(self._buffer(node, "out"), self._flat(node, tuple(own)), value)
        for variable, size in reversed(loops):
            statement = Loop(variable, size, [statement])
        return statement

    def _fill_around(self, node: Expr) -> Statement:
        """Write what no part covers; the parts follow."""
        inside = next(p for p in self.group.depth if p in self.plan.parts and self.plan.parts[p].whole is node)
        value = node.kwargs["value"].value
        return self._fill(node, self._placed(inside)[1], Literal(node.dtype, value))

    def _placed(self, node: Expr) -> tuple[Expr, tuple[Index, ...]]:
        """The node in whose buffer a member is stored, and the index there."""
        index = self._natural(node)
        part = self.plan.parts.get(node)
        if part is None:
            return node, index
        moved = zip(part.whole.shape, index, part.starts, part.steps, strict=True)
        return part.whole, tuple(() if n == 1 else affine(i, step, start) for n, i, start, step in moved)

    def _start(self, fold: Expr, depth: int) -> None:
        self.blocks[depth].append(Set(self._accumulator(fold), identity(fold_kind(fold), fold.dtype)))

    def _fold(self, fold: Expr, depth: int) -> None:
        operand = fold.args[0]
        value, _ = self._value(operand, self._operand_index(fold, depth))
        if operand.dtype != fold.dtype:
            value = self._cast(fold, value, operand.dtype, depth)
        kind = fold_kind(fold)
        if self.group.depth[fold] == FILLED:
            index = self._flat(fold, self._result_index(fold))
            self.blocks[depth].append(FoldStore(self._buffer(fold, "out"), index, fold.dtype, kind, value))
        else:
            self.blocks[depth].append(Fold(self._accumulator(fold), fold.dtype, kind, value))

    def _cast(self, fold: Expr, value: Operand, dtype: DType, depth: int) -> Operand:
        name = self._fresh(fold, "wide")
        self.blocks[depth].append(
            Compute(name, fold.dtype, astype, (value,), (dtype,), {"dtype": fold.dtype, "weak": False})
        )
        return name

    # -- names -----------------------------------------------------------------------------------------------------

    def _accumulator(self, fold: Expr) -> str:
        return f"{self.names[fold]}_total"

    def _fresh(self, node: Expr, suffix: str = "") -> str:
        base = f"{self.names[node]}_{suffix}"
        name, number = base, 1
        while name in self.used:
            number += 1
            name = f"{base}{number}"
        self.used.add(name)
        return name

    def _note(self, node: Expr) -> str:
        if node.loc is None:
            return ""
        self.places[node.loc] = None
        return node.loc.position.text

    def _finished(self, title: str, prologue: list[Statement]) -> Emitted:
        products: dict[str, tuple[str, ...]] = {}
        scratch = frozenset(b.name for b in self.buffers.values() if b.role == "scratch")
        body = collapse([*prologue, *self.blocks[0]], products)
        parallel = parallel_variable(body, scratch)
        if prologue:
            # A buffer is best filled by the very loop that computes it; else its loops must be the same ones at least,
            # for threads to share both.
            apart = [*prologue, *self.blocks[0]]
            joined = merged(apart, parallel_variable(apart, scratch))
            if joined is None and not parallel:
                joined = [*prologue, *collapse(self.blocks[0], products)]
            elif joined is not None:
                joined = collapse(joined, products)
            if joined is not None and parallel_variable(joined, scratch):
                body, parallel = joined, parallel_variable(joined, scratch)
        for name, parts in products.items():
            self.sizes[name] = int(np.prod([self.sizes[p] for p in parts], dtype=np.int64))
        used = sizes_in(body)
        sizes = {name: value for name, value in self.sizes.items() if name in used}
        # What is known of windows and their images makes loops over them several times as fast.
        short = {name: n for name, n in sizes.items() if n <= SHORT and not re.match(r"n0(n|$)", name)}
        fixed, brief = short if slides(body) else {}, frozenset(k for k, n in short.items() if leaves_many_over(n))
        lines = tuple(dict.fromkeys(place.position.text for place in self.places if place.position.text))
        kernel = Kernel(title, list(self.buffers.values()), list(sizes), body, lines, parallel, fixed, brief)
        return Emitted(kernel, self.sources, list(sizes.values()), self.checks)


def _known_place(indices: Expr, index: tuple[Index, ...], length: int) -> Index | None:
    """The place that a gather takes along an axis, where it counts or names a number: it needs no bounds check."""
    axis = indices.kwargs["axis"] if indices.op.name == "iota" else None
    if axis is not None and indices.shape[axis] <= length:
        return index[axis]
    number = viewed(indices, VIEWS)
    if number.op.name == "constant" and -length <= number.kwargs["value"].value < length:
        return affine((), 1, int(number.kwargs["value"].value) % length)
    return None
