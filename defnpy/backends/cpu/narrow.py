"""The few columns of a product that are left over when the others fill whole vectors: with 50 columns, the last two.

A vector of columns would be mostly empty. So vectors go along what is contiguous in a instead: along k where a lies in
rows (each sum is a vector of partial sums, added up at the end), along the rows of c where a is transposed. The columns
of b are few enough to be copied to the stack.
"""

from __future__ import annotations

from collections.abc import Iterator

from .vectors import Vector

__all__ = ["narrow"]

SUMS = 24  # vectors of sums: they fit into registers beside what is multiplied
ROWS, VECTORS = 8, 6  # at most, of a: rows beside each other, vectors of a transposed one (each has a mask)


def narrow(vector: Vector, count: int, depth: int, *, down: bool, turns: bool) -> Iterator[str]:
    """A function ``narrow`` for ``count`` columns. down, turns: whether a and b are transposed; of a b that is not,
    ``depth`` rows are copied at a time."""
    yield """
define internal void @narrow(ptr %a, i64 %lda, ptr %b, i64 %ldb, ptr %c, i64 %ldc, i64 %m, i64 %k, i1 %fresh) {"""
    yield from _down(vector, count, turns) if down else _along(vector, count, depth, turns)
    yield "}"


def _along(vector: Vector, count: int, depth: int, turns: bool) -> Iterator[str]:
    v, t, rows = vector.type, vector.kind, min(ROWS, SUMS // count)
    cells = [(i, j) for i in range(rows) for j in range(count)]
    yield f"""entry:
  %packed = alloca [{0 if turns else count * depth} x {t}], align 64
  %end = sub i64 %m, 1
  br label %part
part: ; elements p and on of the sums
  %p = phi i64 [ 0, %entry ], [ %p1, %part_end ]
  %left = sub i64 %k, %p
  %depth = call i64 @llvm.smin.i64(i64 %left, i64 {depth})
  %initial = icmp eq i64 %p, 0
  %new = and i1 %initial, %fresh
  %a_part = getelementptr {t}, ptr %a, i64 %p
  %b_offset = mul i64 %p, {1 if turns else "%ldb"}
  %b_part = getelementptr {t}, ptr %b, i64 %b_offset
  br label %{"rows" if turns else "pack"}"""
    if not turns:
        yield f"""pack:
  %r = phi i64 [ 0, %part ], [ %r1, %pack ]
  %row_offset = mul i64 %r, %ldb
  %row = getelementptr {t}, ptr %b_part, i64 %row_offset"""
        for j in range(count):
            yield f"  %from_{j} = getelementptr {t}, ptr %row, i64 {j}"
            yield f"  %element_{j} = load {t}, ptr %from_{j}"
            yield f"  %place_{j} = add i64 %r, {j * depth}"
            yield f"  %to_{j} = getelementptr {t}, ptr %packed, i64 %place_{j}"
            yield f"  store {t} %element_{j}, ptr %to_{j}"
        yield """  %r1 = add i64 %r, 1
  %packing = icmp slt i64 %r1, %depth
  br i1 %packing, label %pack, label %rows"""
    yield f"rows:\n  %i = phi i64 [ 0, %{'part' if turns else 'pack'} ], [ %i1, %store ]"
    for j in range(count):
        yield f"  %column_{j} = mul i64 {j}, {'%ldb' if turns else depth}"
        yield f"  %b_{j} = getelementptr {t}, ptr %{'b_part' if turns else 'packed'}, i64 %column_{j}"
    for i in range(rows):  # of the last rows some may be missing: the last one is computed again
        yield f"  %number_{i} = add i64 %i, {i}"
        yield f"  %here_{i} = call i64 @llvm.smin.i64(i64 %number_{i}, i64 %end)"
        yield f"  %a_offset_{i} = mul i64 %here_{i}, %lda"
        yield f"  %a_{i} = getelementptr {t}, ptr %a_part, i64 %a_offset_{i}"
        yield f"  %c_offset_{i} = mul i64 %here_{i}, %ldc"
        yield f"  %c_{i} = getelementptr {t}, ptr %c, i64 %c_offset_{i}"
    yield "  br label %sum\nsum:\n  %q = phi i64 [ 0, %rows ], [ %q1, %sum ]"
    for i, j in cells:
        yield f"  %s_{i}_{j} = phi {v} [ zeroinitializer, %rows ], [ %t_{i}_{j}, %sum ]"
    yield "  %rest = sub i64 %depth, %q"
    yield from vector.below("%rest", "mask")
    for j in range(count):
        yield f"  %b_at_{j} = getelementptr {t}, ptr %b_{j}, i64 %q"
        yield vector.load(f"y_{j}", f"b_at_{j}", "mask")
    for i in range(rows):
        yield f"  %a_at_{i} = getelementptr {t}, ptr %a_{i}, i64 %q"
        yield vector.load(f"x_{i}", f"a_at_{i}", "mask")
    for i, j in cells:
        yield vector.multiply_add(f"t_{i}_{j}", f"x_{i}", f"y_{j}", f"s_{i}_{j}")
    yield f"""  %q1 = add i64 %q, {vector.lanes}
  %again = icmp slt i64 %q1, %depth
  br i1 %again, label %sum, label %store
store:"""
    for i, j in cells:
        yield f"  %u_{i}_{j} = call reassoc {t} @llvm.vector.reduce.fadd.{vector.suffix}({t} -0.0, {v} %t_{i}_{j})"
        yield f"  %c_{i}_{j} = getelementptr {t}, ptr %c_{i}, i64 {j}"
        yield f"  %old_{i}_{j} = load {t}, ptr %c_{i}_{j}"
        yield f"  %kept_{i}_{j} = select i1 %new, {t} 0.0, {t} %old_{i}_{j}"
        yield f"  %z_{i}_{j} = fadd {t} %kept_{i}_{j}, %u_{i}_{j}"
    for i, j in cells:
        yield f"  store {t} %z_{i}_{j}, ptr %c_{i}_{j}"
    yield f"""  %i1 = add i64 %i, {rows}
  %more = icmp slt i64 %i1, %m
  br i1 %more, label %rows, label %part_end
part_end:
  %p1 = add i64 %p, %depth
  %deeper = icmp slt i64 %p1, %k
  br i1 %deeper, label %part, label %done
done:
  ret void"""


def _down(vector: Vector, count: int, turns: bool) -> Iterator[str]:
    v, t, across = vector.type, vector.kind, min(VECTORS, SUMS // count)
    rows = across * vector.lanes
    cells = [(i, j) for i in range(across) for j in range(count)]
    yield f"""entry:
  %sums = alloca [{count * rows} x {t}], align 64
  br label %rows
rows: ; rows i and on of c
  %i = phi i64 [ 0, %entry ], [ %i1, %rows_end ]
  %left = sub i64 %m, %i
  %a_rows = getelementptr {t}, ptr %a, i64 %i"""
    for i in range(across):
        yield f"  %left_{i} = sub i64 %left, {i * vector.lanes}"
        yield from vector.below(f"%left_{i}", f"mask_{i}")
    yield "  br label %sum\nsum:\n  %p = phi i64 [ 0, %rows ], [ %p1, %sum ]"
    for i, j in cells:
        yield f"  %s_{i}_{j} = phi {v} [ zeroinitializer, %rows ], [ %t_{i}_{j}, %sum ]"
    yield f"  %a_offset = mul i64 %p, %lda\n  %a_p = getelementptr {t}, ptr %a_rows, i64 %a_offset"
    for i in range(across):
        yield f"  %a_{i} = getelementptr {t}, ptr %a_p, i64 {i * vector.lanes}"
        yield vector.load(f"x_{i}", f"a_{i}", f"mask_{i}")
    for j in range(count):
        yield f"  %step_{j} = mul i64 {'%ldb' if turns else '%p'}, {j if turns else '%ldb'}"
        yield f"  %place_{j} = add i64 %step_{j}, {'%p' if turns else j}"
        yield f"  %b_{j} = getelementptr {t}, ptr %b, i64 %place_{j}"
        yield from vector.fill(f"y_{j}", f"b_{j}")
    for i, j in cells:
        yield vector.multiply_add(f"t_{i}_{j}", f"x_{i}", f"y_{j}", f"s_{i}_{j}")
    yield """  %p1 = add i64 %p, 1
  %again = icmp slt i64 %p1, %k
  br i1 %again, label %sum, label %keep
keep:"""
    for i, j in cells:
        yield f"  %sum_{i}_{j} = getelementptr {t}, ptr %sums, i64 {j * rows + i * vector.lanes}"
        yield vector.store(f"t_{i}_{j}", f"sum_{i}_{j}")
    yield f"""  %some = call i64 @llvm.smin.i64(i64 %left, i64 {rows})
  br label %out
out: ; from the vectors to the columns of c
  %r = phi i64 [ 0, %keep ], [ %r1, %out ]
  %number = add i64 %i, %r
  %c_offset = mul i64 %number, %ldc
  %c_row = getelementptr {t}, ptr %c, i64 %c_offset"""
    for j in range(count):
        yield f"  %from_{j} = add i64 %r, {j * rows}"
        yield f"  %from_at_{j} = getelementptr {t}, ptr %sums, i64 %from_{j}"
        yield f"  %u_{j} = load {t}, ptr %from_at_{j}"
        yield f"  %c_{j} = getelementptr {t}, ptr %c_row, i64 {j}"
        yield f"  %old_{j} = load {t}, ptr %c_{j}"
        yield f"  %kept_{j} = select i1 %fresh, {t} 0.0, {t} %old_{j}"
        yield f"  %z_{j} = fadd {t} %kept_{j}, %u_{j}"
        yield f"  store {t} %z_{j}, ptr %c_{j}"
    yield f"""  %r1 = add i64 %r, 1
  %writing = icmp slt i64 %r1, %some
  br i1 %writing, label %out, label %rows_end
rows_end:
  %i1 = add i64 %i, {rows}
  %more = icmp slt i64 %i1, %m
  br i1 %more, label %rows, label %done
done:
  ret void"""
