"""Matrix products of moderate size by code of our own: what a BLAS spends on copying and choosing exceeds them.

``c = a @ b`` is computed in panels: some vectors of columns of b, beside each other, times a few rows of a. The sums of
a panel stay in registers while k runs; a row of b is loaded once for all rows of a, an element of a is multiplied into
every vector. Nothing is copied, but a transposed b, which is turned block by block into rows on the stack.

The code depends on the processor (how long vectors are, and how many registers hold them) and on n, which decides the
widths of the panels. It is a module of LLVM IR with the signature of ``cblas_sgemm``, so that the same grid of calls
drives both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...dtypes import DType
from ...lower.products import Product
from . import machine
from .narrow import narrow
from .vectors import Vector

__all__ = ["Shape", "columns", "shape_of", "suits", "text"]

# Rows of a that a panel of so many vectors takes at a time, then what is left over: enough sums to hide how long one
# takes, and no more than there are registers.
ROWS = {1: (12, 4), 2: (8, 3), 3: (8, 4), 4: (6, 2)}
CUBE = 512  # from here on in all three sizes, copying a and b into the order of the loops pays
LONG = 6  # vectors along a that make up for what few columns cost beside their sums
FEW = 64  # rows of a that do not make up for turning a few columns of b, of as many elements at least
FILLED = 0.6  # the share of the vectors' lanes that columns must fill
DEPTH = 512  # rows of b that are summed at a time: their panel stays in the caches while the rows of a pass by
SHORT = 128  # rows of b, all of them, whose panel is done before the processor has guessed where the next one lies
AHEAD = 256  # bytes between what is turned and what is fetched meanwhile
BLOCK = 8  # rows and columns of b that are turned at a time: longer vectors take LLVM long and gain little


@dataclass(frozen=True)
class Shape:
    """lanes: elements of a vector. width: vectors of a full panel. full: whether there is one; rest: vectors of the
    last panel, the last of which may be cut short, or 0. turns: whether b is transposed. hurries: whether a panel is
    done so soon that the next one must be fetched meanwhile. thin: columns left over that are not worth a vector, or 0;
    down: whether a is transposed, which matters for those."""

    lanes: int
    width: int
    full: bool
    rest: int
    turns: bool
    hurries: bool
    down: bool
    thin: int


def suits(product: Product) -> bool:
    """Whether panels are the faster way, by what was measured (``benchmarks/core/products.py``).

    Three cases are the BLAS's: all three sizes large, where its copies pay; columns that leave the lanes of vectors
    empty; and a b that is hardly worth turning, of few columns for few rows of a.
    """
    lanes = machine.vector_registers()[0] // product.node.dtype.itemsize
    wide = product.n - _thin(product, lanes)
    filled = wide / (-(-wide // lanes) * lanes)
    turning = product.right.transposed and product.n <= 2 * lanes and product.m < FEW <= product.k
    return min(product.m, product.n, product.k) < CUBE and filled >= FILLED and not turning


def columns(dtype: DType) -> int:
    """The columns of a full panel: where columns are shared, parts are whole panels."""
    size, width = machine.vector_registers()
    return size // dtype.itemsize * width


def shape_of(product: Product) -> Shape:
    """The panels of a product on this processor."""
    dtype, n = product.node.dtype, product.n
    size, width = machine.vector_registers()
    lanes, full = size // dtype.itemsize, columns(dtype)
    turns, down, thin = product.right.transposed, product.left.transposed, _thin(product, lanes)
    hurries = not turns and product.k <= SHORT and n > full
    wide = n - thin
    return Shape(lanes, width, wide >= full, -(-(wide % full) // lanes), turns, hurries, down and thin > 0, thin)


def _thin(product: Product, lanes: int) -> int:
    """The columns for which vectors go along a: few, behind full vectors, and a must be long enough that way."""
    over = product.n % lanes
    length = product.m if product.left.transposed else product.k
    return over if product.n > lanes and over <= lanes // 4 and length >= LONG * lanes else 0


def text(name: str, dtype: DType, shape: Shape) -> str:
    """The module: a function ``name`` as ``cblas_sgemm`` would be, for alpha 1, beta 0 or 1 and c in rows."""
    return "\n".join(_Panels(name, {4: "float", 8: "double"}[dtype.itemsize], dtype.itemsize, shape).lines())


class _Panels:
    def __init__(self, name: str, kind: str, itemsize: int, shape: Shape) -> None:
        self.name, self.t, self.itemsize, self.shape = name, kind, itemsize, shape
        self.vector, self.lanes = Vector(kind, itemsize, shape.lanes), shape.lanes
        self.columns = self.lanes * shape.width

    def lines(self) -> Iterator[str]:
        t, turns, thin = self.t, self.shape.turns, self.shape.thin
        yield from self.vector.declarations()
        yield "declare i64 @llvm.smin.i64(i64, i64)"
        yield "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
        if thin:
            v, suffix = self.vector.type, self.vector.suffix
            yield f"declare {t} @llvm.vector.reduce.fadd.{suffix}({t}, {v})"
            yield from narrow(self.vector, thin, DEPTH, down=self.shape.down, turns=turns)
        widths = {self.shape.width} if self.shape.full else set()
        for width in sorted(widths | ({self.shape.rest} - {0})):
            yield from self.panel(width)
        if self.shape.turns:
            yield from self.turn()
        yield f"""
define void @{self.name}(i32 %order, i32 %mode_a, i32 %mode_b, i32 %m32, i32 %n32, i32 %k32, {t} %alpha,
    ptr %a, i32 %lda32, ptr %b, i32 %ldb32, {t} %beta, ptr %c, i32 %ldc32) {{
entry:
  %turned = alloca [{DEPTH * self.columns if turns else 0} x {t}], align 64
  %m = sext i32 %m32 to i64
  %all = sext i32 %n32 to i64
  %over = {f"urem i64 %all, {self.lanes}" if thin else "add i64 0, 0"}
  %n = sub i64 %all, %over
  %k = sext i32 %k32 to i64
  %lda = sext i32 %lda32 to i64
  %ldb = sext i32 %ldb32 to i64
  %ldc = sext i32 %ldc32 to i64
  %ta = icmp eq i32 %mode_a, 112
  %a_row = select i1 %ta, i64 1, i64 %lda
  %a_step = select i1 %ta, i64 %lda, i64 1
  %zero = fcmp oeq {t} %beta, 0.0
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %panel, label %end
panel: ; columns j and on
  %j = phi i64 [ 0, %entry ], [ %j1, %next ]
  %left = sub i64 %n, %j
  %full = icmp sge i64 %left, {self.columns}
  %count = select i1 %full, i64 {self.columns}, i64 %left
  %b_first = mul i64 %j, {"%ldb" if turns else 1}
  %b_panel = getelementptr {t}, ptr %b, i64 %b_first
  %c_panel = getelementptr {t}, ptr %c, i64 %j
  br label %part
part: ; rows p and on of b
  %p = phi i64 [ 0, %panel ], [ %p1, %done ]
  %k_left = sub i64 %k, %p
  %last = icmp sle i64 %k_left, {DEPTH}
  %depth = select i1 %last, i64 %k_left, i64 {DEPTH}
  %first = icmp eq i64 %p, 0
  %fresh = and i1 %first, %zero
  %b_offset = mul i64 %p, {1 if turns else "%ldb"}
  %b_part = getelementptr {t}, ptr %b_panel, i64 %b_offset
  %a_offset = mul i64 %p, %a_step
  %a_part = getelementptr {t}, ptr %a, i64 %a_offset
  {"call void @turn(ptr %b_part, i64 %ldb, i64 %count, i64 %depth, ptr %turned)" if turns else ""}
  br i1 %full, label %whole, label %cut
whole:
  {self.call(self.shape.width) if self.shape.full else ""}
  br label %done
cut:
  {self.call(self.shape.rest) if self.shape.rest else ""}
  br label %done
done:
  %p1 = add i64 %p, %depth
  %deeper = icmp slt i64 %p1, %k
  br i1 %deeper, label %part, label %next
next:
  %j1 = add i64 %j, {self.columns}
  %more = icmp slt i64 %j1, %n
  br i1 %more, label %panel, label %end
end:
  {self.left_over() if thin else ""}
  ret void
}}"""

    def left_over(self) -> str:
        t, turns = self.t, self.shape.turns
        return f"""%some_over = icmp ne i64 %over, 0
  br i1 %some_over, label %few, label %finish
few:
  %b_few = mul i64 %n, {"%ldb" if turns else 1}
  %b_over = getelementptr {t}, ptr %b, i64 %b_few
  %c_over = getelementptr {t}, ptr %c, i64 %n
  call void @narrow(ptr %a, i64 %lda, ptr %b_over, i64 %ldb, ptr %c_over, i64 %ldc, i64 %m, i64 %k, i1 %zero)
  br label %finish
finish:"""

    def call(self, width: int) -> str:
        rows = f"ptr %turned, i64 {self.columns}" if self.shape.turns else "ptr %b_part, i64 %ldb"
        return (
            f"call void @panel_{width}(ptr %a_part, i64 %a_row, i64 %a_step, {rows}, ptr %c_panel, "
            f"i64 %ldc, i64 %m, i64 %depth, i64 %count, i1 %fresh)"
        )

    def panel(self, width: int) -> Iterator[str]:
        """All rows of a times ``width`` vectors of columns, the last one cut to ``count`` columns in all."""
        yield f"""
define internal void @panel_{width}(ptr %a, i64 %a_row, i64 %a_step, ptr %b, i64 %b_row, ptr %c, i64 %c_row, i64 %m,
    i64 %k, i64 %count, i1 %fresh) {{
entry:
  %end = sub i64 %m, 1
  %inside = sub i64 %count, {(width - 1) * self.lanes}"""
        yield from self.vector.below("%inside", "mask")
        yield f"  br label %enough_{ROWS[width][0]}"
        before, reached = "entry", "0"
        for rows in ROWS[width]:
            yield from self.block(width, rows, before, reached)
            before, reached = f"enough_{rows}", f"%i_{rows}"
        yield "enough_0:\n  ret void\n}"

    def block(self, width: int, rows: int, before: str, reached: str) -> Iterator[str]:
        """As long as there are ``rows`` rows (any, of the least number): their sums over k, in registers."""
        t, v, r = self.t, self.vector.type, rows
        following = dict(zip(ROWS[width], (*ROWS[width][1:], 0), strict=True))[rows]
        cells = [(i, j) for i in range(rows) for j in range(width)]
        last = width - 1
        yield f"""enough_{r}:
  %i_{r} = phi i64 [ {reached}, %{before} ], [ %next_{r}, %store_{r} ]
  %next_{r} = add i64 %i_{r}, {rows}
  %some_{r} = icmp {"sle i64 %next" if following else "slt i64 %i"}_{r}, %m
  br i1 %some_{r}, label %rows_{r}, label %enough_{following}
rows_{r}:"""
        for i in range(rows):
            yield f"  %r_{r}_{i} = add i64 %i_{r}, {i}"
            # Of the least number of rows some may be missing. Then the last one is computed several times, all alike.
            yield f"  %n_{r}_{i} = call i64 @llvm.smin.i64(i64 %r_{r}_{i}, i64 %end)"
            yield f"  %o_{r}_{i} = mul i64 %n_{r}_{i}, %a_row"
            yield f"  %a_{r}_{i} = getelementptr {t}, ptr %a, i64 %o_{r}_{i}"
            yield f"  %d_{r}_{i} = mul i64 %n_{r}_{i}, %c_row"
            yield f"  %c_{r}_{i} = getelementptr {t}, ptr %c, i64 %d_{r}_{i}"
        for i, j in cells:
            yield f"  %w_{r}_{i}_{j} = getelementptr {t}, ptr %c_{r}_{i}, i64 {j * self.lanes}"
        # The sums begin with what lies in c. Where that is not kept it is not read: it need not be in the caches.
        if self.shape.hurries:  # the first rows of a fetch the next panel, the others find it there
            yield f"  %initial_{r} = icmp eq i64 %i_{r}, 0"
            yield f"  %ahead_{r} = select i1 %initial_{r}, i64 {self.columns}, i64 0"
        yield f"  br i1 %fresh, label %sum_{r}, label %kept_{r}"
        yield f"kept_{r}:"
        for i, j in cells:
            yield self.vector.load(f"old_{r}_{i}_{j}", f"w_{r}_{i}_{j}", "mask" if j == last else "")
        yield f"  br label %sum_{r}"
        yield f"sum_{r}:"
        yield f"  %p_{r} = phi i64 [ 0, %rows_{r} ], [ 0, %kept_{r} ], [ %p1_{r}, %sum_{r} ]"
        for i, j in cells:
            begin = f"[ zeroinitializer, %rows_{r} ], [ %old_{r}_{i}_{j}, %kept_{r} ]"
            yield f"  %s_{r}_{i}_{j} = phi {v} {begin}, [ %t_{r}_{i}_{j}, %sum_{r} ]"
        yield f"  %q_{r} = mul i64 %p_{r}, %b_row"
        yield f"  %e_{r} = mul i64 %p_{r}, %a_step"
        for j in range(width):
            yield f"  %f_{r}_{j} = add i64 %q_{r}, {j * self.lanes}"
            yield f"  %g_{r}_{j} = getelementptr {t}, ptr %b, i64 %f_{r}_{j}"
            yield self.vector.load(f"b_{r}_{j}", f"g_{r}_{j}", "mask" if j == last else "")
            if self.shape.hurries:
                yield f"  %next_{r}_{j} = getelementptr {t}, ptr %g_{r}_{j}, i64 %ahead_{r}"
                yield f"  call void @llvm.prefetch.p0(ptr %next_{r}_{j}, i32 0, i32 3, i32 1)"
        for i in range(rows):
            yield f"  %h_{r}_{i} = getelementptr {t}, ptr %a_{r}_{i}, i64 %e_{r}"
            yield from self.vector.fill(f"z_{r}_{i}", f"h_{r}_{i}")
        for i, j in cells:
            yield self.vector.multiply_add(f"t_{r}_{i}_{j}", f"z_{r}_{i}", f"b_{r}_{j}", f"s_{r}_{i}_{j}")
        yield f"  %p1_{r} = add i64 %p_{r}, 1"
        yield f"  %again_{r} = icmp slt i64 %p1_{r}, %k"
        yield f"  br i1 %again_{r}, label %sum_{r}, label %store_{r}"
        yield f"store_{r}:"
        for i, j in cells:
            yield self.vector.store(f"t_{r}_{i}_{j}", f"w_{r}_{i}_{j}", "mask" if j == last else "")
        yield f"  br label %enough_{r}"

    def turn(self) -> Iterator[str]:
        """``count`` rows of ``depth`` elements become ``depth`` rows of ``columns``: square blocks, each turned by
        exchanging halves, quarters ... of pairs of vectors. Rows beyond are whatever lay there."""
        t, size = self.t, min(self.lanes, BLOCK)
        block = Vector(t, self.itemsize, size)
        v = block.type
        if size != self.lanes:
            yield next(block.declarations())
        yield """
define internal void @turn(ptr %b, i64 %ldb, i64 %count, i64 %depth, ptr %turned) {
entry:
  %end = sub i64 %count, 1
  br label %columns
columns:
  %j = phi i64 [ 0, %entry ], [ %j1, %columns_end ]
  br label %block
block:
  %p = phi i64 [ 0, %columns ], [ %p1, %block ]
  %left = sub i64 %depth, %p"""
        yield from block.below("%left", "mask")
        for i in range(size):  # a row beyond the last is read as the last one
            yield f"  %j_{i} = add i64 %j, {i}"
            yield f"  %is_{i} = icmp slt i64 %j_{i}, %end"
            yield f"  %l_{i} = select i1 %is_{i}, i64 %j_{i}, i64 %end"
            yield f"  %o_{i} = mul i64 %l_{i}, %ldb"
            yield f"  %q_{i} = add i64 %o_{i}, %p"
            yield f"  %r_{i} = getelementptr {t}, ptr %b, i64 %q_{i}"
            yield f"  %ahead_{i} = getelementptr {t}, ptr %r_{i}, i64 {AHEAD // self.itemsize}"
            yield f"  call void @llvm.prefetch.p0(ptr %ahead_{i}, i32 0, i32 3, i32 1)"
            yield block.load(f"x{size}_{i}", f"r_{i}", "mask")
        distance = size
        while distance > 1:
            half = distance // 2
            upper = ", ".join(f"i32 {lane if not lane & half else size + lane - half}" for lane in range(size))
            lower = ", ".join(f"i32 {lane + half if not lane & half else size + lane}" for lane in range(size))
            for i in range(size):
                if not i & half:
                    pair = f"{v} %x{distance}_{i}, {v} %x{distance}_{i + half}"
                    yield f"  %x{half}_{i} = shufflevector {pair}, <{size} x i32> <{upper}>"
                    yield f"  %x{half}_{i + half} = shufflevector {pair}, <{size} x i32> <{lower}>"
            distance = half
        for i in range(size):
            yield f"  %m_{i} = add i64 %p, {i}"
            yield f"  %s_{i} = mul i64 %m_{i}, {self.columns}"
            yield f"  %t_{i} = add i64 %s_{i}, %j"
            yield f"  %d_{i} = getelementptr {t}, ptr %turned, i64 %t_{i}"
            yield block.store(f"x1_{i}", f"d_{i}")
        yield f"""  %p1 = add i64 %p, {size}
  %deeper = icmp slt i64 %p1, %depth
  br i1 %deeper, label %block, label %columns_end
columns_end:
  %j1 = add i64 %j, {size}
  %more = icmp slt i64 %j1, %count
  br i1 %more, label %columns, label %done
done:
  ret void
}}"""
