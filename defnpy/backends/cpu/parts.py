"""A step as the native entry knows it, and how a part of it is run: for itself, or past the caches.

A large output that is written in order goes past the caches. Stored the ordinary way, each of its lines is first read
from memory, and drives out of the caches what others may still read.
"""

from __future__ import annotations

from .machine import words

__all__ = ["PARTS", "STEP"]

# The words of a step (see native.Step).
STEP = {"function": "ptr", "numbers": "ptr", "many": "i64", "sizes": "ptr", "extent": "i64", "parts": "i64",
        "grain": "i64", "streamed": "i64", "ahead": "i64", "width": "i64"}  # fmt: skip

BLOCK = 1024  # bytes of a stream that are computed at a time
AHEAD = 4096  # bytes from what is computed to what is asked for, about what arrives meanwhile

PARTS = f"""
declare i64 @llvm.umin.i64(i64, i64)
declare i32 @llvm.umax.i32(i32, i32)
declare i64 @llvm.cttz.i64(i64, i1)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

; The range [%first, %last) of a step.
define internal i32 @range(ptr %record, ptr %buffers, i64 %first, i64 %last, i64 %thread) {{
{words("record", STEP)}
  %ordinary = icmp slt i64 %streamed, 0
  br i1 %ordinary, label %whole, label %blocks
whole:
  %status = call i32 %function(ptr %buffers, ptr %sizes, i64 %first, i64 %last, i64 %thread)
  ret i32 %status
blocks:
  call void @stream(ptr %record, ptr %buffers, i64 %first, i64 %last, i64 %thread)
  ret i32 0
}}

; The same for a step that fills its buffer %streamed in order and cannot fail: block by block into memory that stays in
; the nearest cache, and from there past all caches, by whole lines. Meanwhile the lines that the buffers %ahead have a
; few blocks later are on their way.
define internal void @stream(ptr %record, ptr %buffers, i64 %first, i64 %last, i64 %thread) noinline {{
entry:
{words("record", STEP)}
  %block = alloca [{BLOCK} x i8], align 64
  %own = alloca ptr, i64 %many
  br label %copy
copy:
  %b = phi i64 [ 0, %entry ], [ %b1, %copy ]
  %given_at = getelementptr ptr, ptr %buffers, i64 %b
  %given = load ptr, ptr %given_at
  %own_at = getelementptr ptr, ptr %own, i64 %b
  store ptr %given, ptr %own_at
  %b1 = add i64 %b, 1
  %others = icmp ult i64 %b1, %many
  br i1 %others, label %copy, label %begin
begin: ; as ever up to the first whole line of the target
  %target_at = getelementptr ptr, ptr %buffers, i64 %streamed
  %target = load ptr, ptr %target_at
  %replaced_at = getelementptr ptr, ptr %own, i64 %streamed
  %start = ptrtoint ptr %target to i64
  %skipped = mul i64 %first, %width
  %address = add i64 %start, %skipped
  %short = sub i64 0, %address
  %missing = and i64 %short, 63
  %few = udiv i64 %missing, %width
  %line = add i64 %first, %few
  %head = call i64 @llvm.umin.i64(i64 %line, i64 %last)
  %h = call i32 %function(ptr %buffers, ptr %sizes, i64 %first, i64 %head, i64 %thread)
  %each = udiv i64 {BLOCK}, %width
  br label %look
look:
  %i = phi i64 [ %head, %begin ], [ %upto, %filled ]
  %upto = add i64 %i, %each
  %fits = icmp ule i64 %upto, %last
  br i1 %fits, label %fill, label %rest
fill: ; element %i of the buffer is the block's first
  %before = mul i64 %i, %width
  %back = sub i64 0, %before
  %shifted = getelementptr i8, ptr %block, i64 %back
  store ptr %shifted, ptr %replaced_at
  %s = call i32 %function(ptr %own, ptr %sizes, i64 %i, i64 %upto, i64 %thread)
  %into = getelementptr i8, ptr %target, i64 %before
  %distant = add i64 %before, {AHEAD}
  br label %send
send:
  %at = phi i64 [ 0, %fill ], [ %at1, %sent ]
  %from_at = getelementptr i8, ptr %block, i64 %at
  %to_at = getelementptr i8, ptr %into, i64 %at
  %words = load <8 x i64>, ptr %from_at, align 64
  store <8 x i64> %words, ptr %to_at, align 64, !nontemporal !0
  %later = add i64 %at, %distant
  br label %test
test:
  %bits = phi i64 [ %ahead, %send ], [ %fewer, %fetch ]
  %none = icmp eq i64 %bits, 0
  br i1 %none, label %sent, label %fetch
fetch:
  %number = call i64 @llvm.cttz.i64(i64 %bits, i1 true)
  %source_at = getelementptr ptr, ptr %buffers, i64 %number
  %source = load ptr, ptr %source_at
  %soon = getelementptr i8, ptr %source, i64 %later
  call void @llvm.prefetch.p0(ptr %soon, i32 0, i32 3, i32 1)
  %lower = sub i64 %bits, 1
  %fewer = and i64 %bits, %lower
  br label %test
sent:
  %at1 = add i64 %at, 64
  %lines = icmp ult i64 %at1, {BLOCK}
  br i1 %lines, label %send, label %filled
filled:
  br label %look
rest:
  %r = call i32 %function(ptr %buffers, ptr %sizes, i64 %i, i64 %last, i64 %thread)
  fence seq_cst ; other threads see the stream before they see that it is done
  ret void
}}
!0 = !{{i32 1}}

; Part %thread of a step: equal numbers of whole grains.
define internal i32 @part(ptr %record, ptr %buffers, i64 %thread) {{
{words("record", STEP)}
  %e1 = add i64 %extent, %parts
  %e2 = sub i64 %e1, 1
  %each = udiv i64 %e2, %parts
  %g1 = add i64 %each, %grain
  %g2 = sub i64 %g1, 1
  %grains = udiv i64 %g2, %grain
  %chunk = mul i64 %grains, %grain
  %from = mul i64 %chunk, %thread
  %upto = add i64 %from, %chunk
  %last = call i64 @llvm.umin.i64(i64 %upto, i64 %extent)
  %some = icmp ult i64 %from, %last
  br i1 %some, label %do, label %nothing
do:
  %status = call i32 @range(ptr %record, ptr %buffers, i64 %from, i64 %last, i64 %thread)
  ret i32 %status
nothing:
  ret i32 0
}}

; All parts of a step, one after the other: the same parts, and so the same bits, as threads do.
define internal i32 @each(ptr %record, ptr %buffers, i64 %parts) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %worst = phi i32 [ 0, %entry ], [ %now, %loop ]
  %status = call i32 @part(ptr %record, ptr %buffers, i64 %i)
  %now = call i32 @llvm.umax.i32(i32 %worst, i32 %status)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %parts
  br i1 %more, label %loop, label %end
end:
  ret i32 %now
}}
"""
