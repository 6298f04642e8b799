"""A Kernel as LLVM IR: the same loops that ``render`` prints as Python, ready for the machine without Numba.

Every kernel is called the same way: ``status = kernel(buffers*, sizes*, first, last, thread)``. It works on the part
``[first, last)`` of the loops over its parallel variable, so that threads can share it; each has its own scratch rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...dtypes import DType
from ...lower.kernel import (
    Assign,
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
    While,
)
from .instructions import Instructions, Value, literal, llvm_type
from .machine import words

__all__ = ["SIGNATURE", "assemble", "entry"]

SIGNATURE = "ptr %buffers, ptr %sizes, i64 %first, i64 %last, i64 %thread"
INDEX = np.dtype("int64")
BOOL = np.dtype("bool")

# A long loop is vectorized with masks instead of a second and a third loop for what is left over: as fast, and half the
# time to compile. So is one of few turns, most of which would be left over.
LONG = 60  # instructions
MASKED = '!0 = !{!"llvm.loop.vectorize.predicate.enable", i1 true}'
ROLLED = '!1 = !{!"llvm.loop.unroll.disable"}'  # a loop in which unrolling saves nothing

# Rows that are added to sums in memory come by eights: a sum is read and written once for so many of them.
ROWS = 8
FEW = 4  # statements for each element, at most

# A kernel that takes every second element is vectorized four by four: wider, LLVM gathers the elements one by one.
# What is left over of a few turns is a loop of its own, or none of them would be vectorized.
FOURS = 4
# (Said of the loop instead of the function, LLVM would tell the user where it cannot.)
NARROW = '"prefer-vector-width"="128"'

# Loops that walk through a large buffer the wrong way round go block by block, so that a cache line is used as a whole
# while it is there. (2048 x 2048 elements and others transposed, added: 12 ms, 3 so.)
LARGE = 2**13  # turns

# Memory is slow to answer, and nothing but the positions tells which rows come. Those of so many bytes or more are
# asked for so many turns before they are read (100 rows of 784 bytes out of 47 MB: 7 us, 16 without).
AHEAD, WORTH_ASKING, CACHE_LINE = 4, 256, 64


def memory_type(dtype: DType) -> str:
    """A dtype in memory: a bool is a byte."""
    return "i8" if dtype.kind == "b" else llvm_type(dtype)


def assemble(kernel: Kernel, symbol: str) -> str:
    """The module that defines ``symbol``; it depends on the kernel's structure only, not on its names.

    A kernel with functions that are much cheaper for the arguments they mostly get (sin of an angle below 2**17) is
    there twice: a hopeful body, and the whole one, called where the former met another argument.
    """
    bodies = [_Assembler(kernel, f"{symbol}_body", hopeful=kernel.repeatable)]
    texts = [bodies[0].function()]
    if bodies[0].code.doubts:
        bodies.append(_Assembler(kernel, f"{symbol}_whole", bodies[0].blocks))
        texts.append(bodies[1].function())
    declarations = dict.fromkeys(line for body in bodies for line in body.code.declarations)
    texts += [text for body in bodies for text in body.code.functions.values()]
    hints = [MASKED, ROLLED, *[hint for body in bodies for hint in body.hints]]
    whole = entry(symbol, [body.symbol for body in bodies], kernel.buffers, len(kernel.sizes))
    return "\n".join([*declarations, *texts, whole, *hints]) + "\n"


def entry(symbol: str, bodies: Sequence[str], buffers: list[Buffer], sizes: int) -> str:
    """The function of the common signature that unpacks its arguments for ``body(buffers..., sizes..., first, last)``,
    of several for one after the other until one's status is 0.

    A scratch buffer lies once for every thread, as many bytes apart as the size after the kernel's own says.
    """
    pointers, numbers = [f"p{i}" for i in range(len(buffers))], [f"n{i}" for i in range(sizes)]
    scratch = [i for i, buffer in enumerate(buffers) if buffer.role == "scratch"]
    each = [f"each{i}" for i in scratch]
    lines = [
        words("buffers", dict.fromkeys(pointers, "ptr")),
        words("sizes", dict.fromkeys(numbers + each, "i64")),
    ]
    for i in scratch:
        lines.append(f"  %before{i} = mul i64 %each{i}, %thread")
        lines.append(f"  %row{i} = getelementptr inbounds i8, ptr %p{i}, i64 %before{i}")
        pointers[i] = f"row{i}"
    arguments = [*[f"ptr %{p}" for p in pointers], *[f"i64 %{n}" for n in numbers], "i64 %first", "i64 %last"]
    head = f"define i32 @{symbol}({SIGNATURE}) nounwind {{"
    calls = []
    for i, body in enumerate(bodies):
        calls.append(f"  %status{i} = call i32 @{body}({', '.join(arguments)})")
        if i < len(bodies) - 1:
            calls.append(f"  %good{i} = icmp eq i32 %status{i}, 0\n  br i1 %good{i}, label %done, label %call{i + 1}")
            calls.append(f"done:\n  ret i32 0\ncall{i + 1}:")
    return "\n".join([head, *lines, *calls, f"  ret i32 %status{len(bodies) - 1}", "}"])


def _steps(loop: Loop) -> bool:
    """Whether a loop goes along a buffer in steps."""
    places = [s.index for s in loop.body if isinstance(s, (Load, Store, FoldStore))]
    return any(abs(t.factor) > 1 and not t.sizes for index in places for t in index if t.variable == loop.variable)


def _looked_up(loop: Loop, known: Collection[str]) -> Iterator[tuple[Load, Bound, Load, Loop]]:
    """The rows that a loop reads, one in each turn, at a position that it loads: that load, its check, then the load of
    an element of the row, and the loop over the row. All else that they depend on is ``known`` before."""
    loads = {s.name: s for s in loop.body if isinstance(s, Load) and Term(loop.variable) in s.index}
    bounds = {s.name: s for s in loop.body if isinstance(s, Bound) and s.value in loads}
    for inner in [s for s in loop.body if isinstance(s, Loop)]:
        for s in inner.body:
            if isinstance(s, Load) and Term(inner.variable) in s.index:
                for bound in [bounds[t.variable] for t in s.index if t.variable in bounds]:
                    position = loads[str(bound.value)]
                    needed = {t.variable for t in (*position.index, *s.index)} - {"", inner.variable, bound.name}
                    if needed <= set(known):
                        yield position, bound, s, inner


def _adds_rows(loop: Loop) -> bool:
    """Whether a loop does nothing but add rows to sums that stand in memory, and that cheaply."""
    within = loop.body[0]
    if len(loop.body) != 1 or not isinstance(within, Loop) or len(within.body) > FEW:
        return False
    sums = [s for s in within.body if isinstance(s, FoldStore)]
    return bool(sums) and all(
        (isinstance(s, FoldStore) and s.kind == "sum" and all(t.variable != loop.variable for t in s.index))
        or isinstance(s, Load)
        or (isinstance(s, Compute) and s.op.cheap)
        for s in within.body
    )


def _turned(loop: Loop) -> Loop | None:
    """The loop within, if the two do nothing but walk through their elements, through some of them the wrong way round:
    the one within goes along a buffer in steps in which the one around takes its neighbours."""
    within = loop.body[0]
    if len(loop.body) > 1 or not isinstance(within, Loop):
        return None
    if not all(isinstance(s, (Load, Compute, Position, Fold, Store)) for s in within.body):
        return None
    places = [s.index for s in within.body if isinstance(s, (Load, Store)) and Term(loop.variable) in s.index]
    return within if any(t.variable == within.variable and t.sizes for index in places for t in index) else None


@dataclass
class _Turn:
    """A turn of a loop that is being written. step: to the next one. hint: what LLVM is told of the loop."""

    number: int
    step: str = "1"
    hint: str = ""

    @property
    def index(self) -> str:
        """Its number."""
        return f"%i{self.number}"


class _Assembler:
    def __init__(self, kernel: Kernel, symbol: str, blocks: int = 1, hopeful: bool = False) -> None:
        self.kernel = kernel
        self.symbol = symbol
        self.code = Instructions(hopeful=hopeful, symbol=symbol, inline=False)
        self.values: dict[str, Value] = {size: Value(f"%{self._size(i)}", INDEX) for i, size in enumerate(kernel.sizes)}
        self.buffers = {b.name: (f"%b{i}", b.dtype) for i, b in enumerate(kernel.buffers)}
        self.totals: dict[str, Value] = {}  # accumulators: the stack slot of each
        self.slots: list[str] = []
        self.block = "entry"
        self.blocks = blocks  # numbers of blocks are those of hints too, which the module's functions share
        self.values |= {size: Value(str(value), INDEX) for size, value in kernel.fixed.items()}
        self.hints: list[str] = []
        self.limits: dict[str, tuple[str, str]] = {}  # of a loop that is run in blocks
        self.narrow = False

    @staticmethod
    def _size(i: int) -> str:
        return f"n{i}"

    def function(self) -> str:
        """The text of the body. Its status is 0, the code of a failed check, or 1 where hope failed."""
        self._run(self.kernel.body)
        buffers = [f"ptr noalias nonnull {name}" for name, _ in self.buffers.values()]
        sizes = [f"i64 %{self._size(i)}" for i in range(len(self.kernel.sizes))]
        head = ", ".join([*buffers, *sizes, "i64 %first", "i64 %last"])
        end = ["  ret i32 0"]
        if self.code.doubts:
            self.slots.append("  %doubt = alloca i32\n  store i32 0, ptr %doubt")
            end = ["  %doubted = load i32, ptr %doubt\n  ret i32 %doubted"]
        lines = [
            # Not even an internal name may be shared: the loader looks symbols up among all objects.
            f"define internal i32 @{self.symbol}({head}) noinline nounwind {NARROW if self.narrow else ''} {{",
            "entry:",
            *self.slots,
            *self.code.lines,
            *end,
            "}",
        ]
        return "\n".join(lines)

    # -- control flow ----------------------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self.code.lines.append(f"  {text}")

    def _open(self, label: str) -> None:
        self.code.lines.append(f"{label}:")
        self.block = label

    def _run(self, body: list[Statement], repeated: bool = False) -> None:
        """repeated: whether it is the body of a loop, which LLVM vectorizes if nothing in it branches."""
        straight = repeated and not any(isinstance(s, (Loop, While, Bound)) for s in body)
        for statement in body:
            self.code.inline = straight
            if isinstance(statement, Loop):
                self._loop(statement)
            elif isinstance(statement, While):
                self._while(statement)
            else:
                self._statement(statement)

    def _loop(self, loop: Loop) -> None:
        first, last = self._limits(loop)
        if _adds_rows(loop):
            whole = self.code.emit(f"and i64 {last}, -{ROWS}", INDEX).text
            self._turns(loop, first, whole, rows=ROWS)
            first = whole
        within = _turned(loop)
        if within is not None:
            self._blocks(loop, within)
            return
        count = self.kernel.fixed.get(loop.size, 0)
        if count > FOURS and count % FOURS and (first, last) == ("0", str(count)) and _steps(loop):
            first = str(count - count % FOURS)
            self._turns(loop, "0", first)
        self._turns(loop, first, last)

    def _blocks(self, loop: Loop, within: Loop) -> None:
        """A loop that goes through the one within block by block: as many turns as elements are in a cache line."""
        itemsize = max(self.buffers[s.buffer][1].itemsize for s in within.body if isinstance(s, (Load, Store)))
        first, last = self._limits(within)
        turns = self.code.emit(f"mul i64 {self.values[loop.size].text}, {self.values[within.size].text}", INDEX)
        few = self.code.emit(f"icmp ult i64 {turns.text}, {LARGE}", BOOL)
        step = self.code.select(few, Value(last, INDEX), literal(CACHE_LINE // itemsize, INDEX))
        with self._repeated(first, last) as block:
            block.step = step.text
            behind = self.code.emit(f"add nuw nsw i64 {block.index}, {step.text}", INDEX)
            upto = self.code.intrinsic("llvm.umin.i64", [behind, Value(last, INDEX)], INDEX)
            self.limits[within.variable] = block.index, upto.text
            self._turns(loop, *self._limits(loop))
            del self.limits[within.variable]

    @contextlib.contextmanager
    def _repeated(self, first: str, last: str) -> Iterator[_Turn]:
        """What is written meanwhile, for an index from first to last."""
        self.blocks += 1
        n = self.blocks
        self._line(f"%any{n} = icmp slt i64 {first}, {last}")
        self._line(f"br i1 %any{n}, label %loop{n}, label %end{n}")
        before = self.block
        self._open(f"loop{n}")
        mark = len(self.code.lines)
        turn = _Turn(n)
        yield turn
        self._line(f"%next{n} = add nuw nsw i64 {turn.index}, {turn.step}")
        self._line(f"%more{n} = icmp slt i64 %next{n}, {last}")
        self._line(f"br i1 %more{n}, label %loop{n}, label %end{n}{turn.hint}")
        self.code.lines.insert(mark, f"  {turn.index} = phi i64 [ {first}, %{before} ], [ %next{n}, %{self.block} ]")
        self._open(f"end{n}")

    def _limits(self, loop: Loop) -> tuple[str, str]:
        if loop.variable in self.limits:
            return self.limits[loop.variable]
        split = loop.variable == self.kernel.parallel
        return ("%first", "%last") if split else ("0", self.values[loop.size].text)

    def _turns(
        self, loop: Loop, first: str, last: str, rows: int = 1, outer: str = "", turns: Sequence[Value] = ()
    ) -> None:
        """The turns of a loop from first to last. rows: how many of them run through the loop within at once. outer,
        turns: the variable of such a loop around, and its values."""
        with self._repeated(first, last) as turn:
            turn.step = str(rows)
            mark = len(self.code.lines)
            self.values[loop.variable] = Value(turn.index, INDEX)
            for found in _looked_up(loop, self.values):
                self._ask_ahead(loop.variable, last, *found)
            if rows > 1:
                within = loop.body[0]
                assert isinstance(within, Loop)
                together = [self.code.emit(f"add nuw nsw i64 {turn.index}, {k}", INDEX) for k in range(rows)]
                self._turns(within, *self._limits(within), outer=loop.variable, turns=together)
            elif turns:
                for value in turns:
                    self.values[outer] = value
                    self._run(loop.body, repeated=True)
            else:
                self._run(loop.body, repeated=True)
            turn.hint = self._hint(loop, turn.number, len(self.code.lines) - mark)

    def _hint(self, loop: Loop, n: int, instructions: int) -> str:
        """What LLVM is told of a loop, the number ``n``."""
        if self.blocks != n:
            return ""  # there is one within
        if _steps(loop):
            self.narrow = True
            if loop.size not in self.kernel.fixed:
                return ""
            kind = 1  # unrolled as a whole it would not be vectorized
        elif instructions > LONG or loop.size in self.kernel.brief:
            kind = 0
        else:
            return ""
        self.hints.append(f"!{n} = distinct !{{!{n}, !{kind}}}")
        return f", !llvm.loop !{n}"

    def _ask_ahead(self, variable: str, last: str, position: Load, bound: Bound, row: Load, inner: Loop) -> None:
        """Ask for the row of a later turn, at a position out of bounds for the last one: that turn will tell."""
        before = dict(self.values)
        size, itemsize = self.values[bound.size], self.buffers[row.buffer][1].itemsize
        later = self.code.emit(f"add nuw nsw i64 {self.values[variable].text}, {AHEAD}", INDEX)
        length = self.code.emit(f"mul nuw nsw i64 {self.values[inner.size].text}, {itemsize}", INDEX)
        comes = self.code.emit(f"icmp slt i64 {later.text}, {last}", BOOL)
        worth = self.code.emit(f"icmp uge i64 {length.text}, {WORTH_ASKING}", BOOL)
        both = self.code.both("and", comes, worth)
        self.blocks += 1
        n = self.blocks
        self._line(f"br i1 {both.text}, label %later{n}, label %asked{n}")
        self._open(f"later{n}")
        self.values |= {variable: later, inner.variable: literal(0, INDEX)}
        found = self.code.cast(self._load(*self._place(position.buffer, position.index)), INDEX)
        greatest = self.code.emit(f"sub i64 {size.text}, 1", INDEX)
        self.values[bound.name] = self.code.intrinsic("llvm.umin.i64", [found, greatest], INDEX)
        start, _ = self._place(row.buffer, row.index)
        self._line(f"br label %ask{n}")
        self._open(f"ask{n}")
        self._line(f"%line{n} = phi i64 [ 0, %later{n} ], [ %after{n}, %ask{n} ]")
        self._line(f"%there{n} = getelementptr i8, ptr {start.text}, i64 %line{n}")
        self.code.declarations["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None
        self._line(f"call void @llvm.prefetch.p0(ptr %there{n}, i32 0, i32 3, i32 1)")
        self._line(f"%after{n} = add nuw nsw i64 %line{n}, {CACHE_LINE}")
        self._line(f"%left{n} = icmp ult i64 %after{n}, {length.text}")
        self.hints.append(f"!{n} = distinct !{{!{n}, !1}}")
        self._line(f"br i1 %left{n}, label %ask{n}, label %asked{n}, !llvm.loop !{n}")
        self._open(f"asked{n}")
        self.values = before

    def _while(self, loop: While) -> None:
        self.blocks += 1
        n = self.blocks
        self._line(f"br label %test{n}")
        self._open(f"test{n}")
        self._run(loop.test)
        condition, asked = self._operand(loop.condition).text, len(self.code.lines)
        self._line(f"br i1 {condition}, label %do{n}, label %end{n}")
        self._open(f"do{n}")
        self._run(loop.body)
        self._line(f"br label %test{n}")
        if self.code.doubts:  # wrong numbers may never meet the condition
            self.code.lines[asked] = (
                f"  %doubts{n} = load i32, ptr %doubt\n  %hopes{n} = icmp eq i32 %doubts{n}, 0\n"
                f"  %goes{n} = and i1 {condition}, %hopes{n}\n  br i1 %goes{n}, label %do{n}, label %end{n}"
            )
        self._open(f"end{n}")

    def _bound(self, s: Bound) -> None:
        raw = self.code.cast(self._operand(s.value), INDEX)
        index, size = raw, self.values[s.size]
        if s.signed:
            below = self.code.emit(f"icmp slt i64 {raw.text}, 0", BOOL)
            moved = self.code.emit(f"add i64 {raw.text}, {size.text}", INDEX)
            index = self.code.select(below, moved, raw)
        # As unsigned numbers, negative ones are larger than any size.
        inside = self.code.emit(f"icmp ult i64 {index.text}, {size.text}", BOOL)
        self.blocks += 1
        n = self.blocks
        self._line(f"br i1 {inside.text}, label %inside{n}, label %outside{n}")
        self._open(f"outside{n}")
        self._line(f"store i64 {raw.text}, ptr {self.buffers[s.buffer][0]}")
        self._line(f"ret i32 {s.code}")
        self._open(f"inside{n}")
        self.values[s.name] = index

    # -- statements ------------------------------------------------------------------------------------------------

    def _statement(self, s: Statement) -> None:
        if isinstance(s, Compute):
            self.values[s.name] = self.code.op(s.op, [self._operand(a) for a in s.args], s.dtype, s.params)
        elif isinstance(s, Position):
            self.values[s.name] = self.code.cast(self._index(s.index), s.dtype)
        elif isinstance(s, Load):
            self.values[s.name] = self._load(*self._place(s.buffer, s.index))
        elif isinstance(s, Store):
            self._store(self._operand(s.value), *self._place(s.buffer, s.index))
        elif isinstance(s, (Assign, Set)):
            slot = self.totals.get(s.name)
            if slot is None:
                dtype = s.dtype if isinstance(s, Assign) else s.value.dtype
                slot = self.totals[s.name] = Value(f"%total{len(self.slots)}", dtype)
                self.slots.append(f"  {slot.text} = alloca {llvm_type(slot.dtype)}")
            self._line(f"store {llvm_type(slot.dtype)} {self._operand(s.value).text}, ptr {slot.text}")
        elif isinstance(s, Fold):
            slot = self.totals[s.name]
            total = self._fold(s.kind, self._operand(s.name), self._operand(s.value))
            self._line(f"store {llvm_type(slot.dtype)} {total.text}, ptr {slot.text}")
        elif isinstance(s, FoldStore):
            place, dtype = self._place(s.buffer, s.index)
            self._store(self._fold(s.kind, self._load(place, dtype), self._operand(s.value)), place, dtype)
        elif isinstance(s, Bound):
            self._bound(s)

    def _fold(self, kind: str, total: Value, value: Value) -> Value:
        t, floating = llvm_type(total.dtype), total.dtype.kind == "f"
        if kind == "sum":
            # The one liberty: a float sum may be reordered, so that it vectorizes.
            add = "fadd reassoc" if floating else "add"
            return self.code.emit(f"{add} {t} {total.text}, {value.text}", total.dtype)
        if kind == "prod":
            return self.code.emit(f"{'fmul' if floating else 'mul'} {t} {total.text}, {value.text}", total.dtype)
        if kind in ("max", "min"):
            if floating:  # NaN if either is
                return self.code.intrinsic(f"llvm.{kind}imum.f{8 * total.dtype.itemsize}", [total, value], total.dtype)
            name = ("s" if total.dtype.kind == "i" else "u") + kind
            return self.code.intrinsic(f"llvm.{name}.{t}", [total, value], total.dtype)
        return self.code.both("or" if kind == "any" else "and", total, value)

    def _operand(self, operand: Operand) -> Value:
        if isinstance(operand, Literal):
            return literal(operand.value, operand.dtype)
        if operand in self.totals:
            slot = self.totals[operand]
            return self.code.emit(f"load {llvm_type(slot.dtype)}, ptr {slot.text}", slot.dtype)
        return self.values[operand]

    # -- memory ----------------------------------------------------------------------------------------------------

    def _index(self, index: Index) -> Value:
        total = Value("0", INDEX)
        for term in index:
            factors = [self.values[name] for name in ((term.variable,) if term.variable else ()) + term.sizes]
            if term.factor != 1 or not factors:
                factors.append(literal(term.factor, INDEX))
            product = factors[0]
            for factor in factors[1:]:
                product = self.code.emit(f"mul nsw i64 {product.text}, {factor.text}", INDEX)
            total = product if total.text == "0" else self.code.emit(f"add nsw i64 {total.text}, {product.text}", INDEX)
        return total

    def _place(self, buffer: str, index: Index) -> tuple[Value, DType]:
        pointer, dtype = self.buffers[buffer]
        at = self._index(index)
        place = self.code.emit(f"getelementptr inbounds {memory_type(dtype)}, ptr {pointer}, i64 {at.text}", INDEX)
        return place, dtype

    def _load(self, place: Value, dtype: DType) -> Value:
        value = self.code.emit(f"load {memory_type(dtype)}, ptr {place.text}", dtype)
        if dtype.kind != "b":
            return value
        return self.code.emit(f"icmp ne i8 {value.text}, 0", dtype)

    def _store(self, value: Value, place: Value, dtype: DType) -> None:
        if dtype.kind == "b":
            value = self.code.emit(f"zext i1 {value.text} to i8", dtype)
        self._line(f"store {memory_type(dtype)} {value.text}, ptr {place.text}")
