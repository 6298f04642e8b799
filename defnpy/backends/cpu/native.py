"""The native entry of a program: it runs step after step, and shares large steps with other threads, without Python.

Written in LLVM IR by hand, compiled once per machine and kept in the disk cache like any kernel. A step is a function
of the kernels' common signature (see ``assembly``) and its arguments; products are such functions too (``blas``).

Threads: one worker per further core waits for a job, at first awake (some ten microseconds), then asleep in the kernel
(a futex). The calling thread publishes the parts of one step and takes part itself; a worker that comes late, because
other programs hold its core, finds nothing left to do, and nobody waits for it. Which part is done by whom changes
nothing in the result. A step that comes while another thread's is being shared runs alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import Array
from .compile import Source, machine_code
from .machine import words
from .parts import PARTS, STEP

__all__ = ["Launch", "Pool", "Step", "Steps", "guard", "pool", "run", "source", "threaded"]

# What the native entry reads of a frame, word by word; most: the buffers of the step that has most.
_FRAME = {"steps": "ptr", "count": "i64", "slots": "ptr", "given": "i64", "made": "i64", "pool": "ptr", "most": "i64"}

_FUTEX = {"x86_64": 202, "aarch64": 98}
_PAUSE = {"x86_64": "@llvm.x86.sse2.pause()", "aarch64": "@llvm.aarch64.hint(i32 1)"}
_SPINS = 4000

# Words of the pool, those that threads wait for on cache lines of their own. The first is the job: its number, how many
# parts it has, and the next one to take, in one word, so that a part can only be taken of the job that it belongs to.
_PARTS = 2**16 - 1
_POOL = {"job": 0, "number": 4, "pending": 64, "lock": 128, "asleep": 192, "record": 256, "buffers": 264, "size": 272,
         "status": 280}  # fmt: skip
_POOL_BYTES = 320


def _addresses(*fields: str) -> str:
    """The text that names the places of words of the pool, ``%lock_at`` for one."""
    return "\n".join(f"  %{field}_at = getelementptr i8, ptr %pool, i64 {_POOL[field]}" for field in fields)


def source() -> Source:
    """The module."""
    text = PARTS + (_threads() if threaded() else _ALONE) + _steps() + _GUARD
    return Source(text, ("run", "guard", "start") if threaded() else ("run", "guard"))


def threaded() -> bool:
    """Whether this system has what the workers are made of; elsewhere every step runs on the calling thread."""
    return sys.platform == "linux" and platform.machine() in _FUTEX


_ALONE = """
define internal i32 @share(ptr %pool, ptr %record, ptr %buffers, i64 %parts) {
  %whole = call i32 @each(ptr %record, ptr %buffers, i64 %parts)
  ret i32 %whole
}
"""


def _threads() -> str:
    """The workers' life, and how a step is shared with them."""
    machine = platform.machine()
    return f"""
declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare void {_PAUSE[machine].replace(" 1", "")}

; Take parts of job %number and do them, until none is left.
define internal void @work(ptr %pool, i32 %number) {{
entry:
{_addresses("pending", "record", "buffers", "status")}
  br label %look
look:
  %job = load atomic i64, ptr %pool seq_cst, align 8
  %high = lshr i64 %job, 32
  %now = trunc i64 %high to i32
  %low = and i64 %job, 4294967295
  %parts = lshr i64 %low, 16
  %part = and i64 %low, {_PARTS}
  %same = icmp eq i32 %now, %number
  %left = icmp ult i64 %part, %parts
  %some = and i1 %same, %left
  br i1 %some, label %take, label %end
take:
  %next = add i64 %job, 1
  %taken = cmpxchg ptr %pool, i64 %job, i64 %next seq_cst seq_cst
  %got = extractvalue {{ i64, i1 }} %taken, 1
  br i1 %got, label %do, label %look
do: ; the job cannot end before this part does, so its words stay as they are
  %record = load ptr, ptr %record_at
  %buffers = load ptr, ptr %buffers_at
  %status = call i32 @part(ptr %record, ptr %buffers, i64 %part)
  %s = atomicrmw umax ptr %status_at, i32 %status seq_cst
  %p = atomicrmw sub ptr %pending_at, i32 1 seq_cst
  br label %look
end:
  ret void
}}

; A worker's life.
define ptr @worker(ptr %pool) {{
entry:
{_addresses("asleep", "number")}
  br label %wait
wait:
  %seen = phi i32 [ 0, %entry ], [ %now, %job ]
  br label %spin
spin:
  %turns = phi i32 [ 0, %wait ], [ %more, %again ], [ 0, %sleep ]
  %now = load atomic i32, ptr %number_at seq_cst, align 4
  %changed = icmp ne i32 %now, %seen
  br i1 %changed, label %job, label %idle
idle:
  %more = add i32 %turns, 1
  %tired = icmp uge i32 %turns, {_SPINS}
  br i1 %tired, label %sleep, label %again
again:
  call void {_PAUSE[machine]}
  br label %spin
sleep:
  %a = atomicrmw add ptr %asleep_at, i32 1 seq_cst
  %slept = call i64 (i64, ...) @syscall(i64 {_FUTEX[machine]}, ptr %number_at, i32 128, i32 %seen, ptr null, ptr null,
                                        i32 0)
  %b = atomicrmw sub ptr %asleep_at, i32 1 seq_cst
  br label %spin
job:
  call void @work(ptr %pool, i32 %now)
  br label %wait
}}

; Begin the life of a worker.
define i32 @start(ptr %pool) {{
  %handle = alloca i64
  %status = call i32 @pthread_create(ptr %handle, ptr null, ptr @worker, ptr %pool)
  ret i32 %status
}}

; Run a step in %parts parts, on this thread and all workers that come in time.
define internal i32 @share(ptr %pool, ptr %record, ptr %buffers, i64 %parts) {{
entry:
{_addresses("lock", "size")}
  %size = load i64, ptr %size_at
  %several = icmp ugt i64 %size, 1
  br i1 %several, label %try, label %alone
try:
  %taken = cmpxchg ptr %lock_at, i32 0, i32 1 seq_cst seq_cst
  %got = extractvalue {{ i32, i1 }} %taken, 1
  br i1 %got, label %publish, label %alone
alone:
  %whole = call i32 @each(ptr %record, ptr %buffers, i64 %parts)
  ret i32 %whole
publish:
{_addresses("number", "pending", "asleep", "record", "buffers", "status")}
  store ptr %record, ptr %record_at
  store ptr %buffers, ptr %buffers_at
  store atomic i32 0, ptr %status_at seq_cst, align 4
  %count = trunc i64 %parts to i32
  store atomic i32 %count, ptr %pending_at seq_cst, align 4
  %old = load atomic i64, ptr %pool seq_cst, align 8
  %before = lshr i64 %old, 32
  %after = add i64 %before, 1
  %high = shl i64 %after, 32
  %low = shl i64 %parts, 16
  %job = or i64 %high, %low
  store atomic i64 %job, ptr %pool seq_cst, align 8
  %sleepers = load atomic i32, ptr %asleep_at seq_cst, align 4
  %any = icmp ne i32 %sleepers, 0
  br i1 %any, label %wake, label %work
wake:
  %woken = call i64 (i64, ...) @syscall(i64 {_FUTEX[machine]}, ptr %number_at, i32 129, i32 2147483647, ptr null,
                                        ptr null, i32 0)
  br label %work
work:
  %number = trunc i64 %after to i32
  call void @work(ptr %pool, i32 %number)
  br label %wait
wait:
  %turns = phi i32 [ 0, %work ], [ %more, %again ]
  %left = load atomic i32, ptr %pending_at seq_cst, align 4
  %over = icmp eq i32 %left, 0
  br i1 %over, label %end, label %patience
patience:
  %more = add i32 %turns, 1
  %r = and i32 %turns, 1023
  %long = icmp eq i32 %r, 1023
  br i1 %long, label %yield, label %pause
yield:
  %y = call i32 @sched_yield()
  br label %again
pause:
  call void {_PAUSE[machine]}
  br label %again
again:
  br label %wait
end:
  %status = load atomic i32, ptr %status_at seq_cst, align 4
  store atomic i32 0, ptr %lock_at seq_cst, align 4
  ret i32 %status
}}

"""


_GUARD = """
; A step that stops the program where one of the integers in its buffer is positive.
define i32 @guard(ptr %buffers, ptr %sizes, i64 %first, i64 %last, i64 %thread) {
entry:
  %indices = load ptr, ptr %buffers
  br label %head
head:
  %i = phi i64 [ %first, %entry ], [ %i1, %next ]
  %some = icmp slt i64 %i, %last
  br i1 %some, label %look, label %end
look:
  %at = getelementptr i64, ptr %indices, i64 %i
  %index = load i64, ptr %at
  %chosen = icmp sgt i64 %index, 0
  br i1 %chosen, label %stop, label %next
next:
  %i1 = add i64 %i, 1
  br label %head
stop:
  ret i32 1
end:
  ret i32 0
}
"""


def _steps() -> str:
    """The entry. A list of CPython keeps the pointer to its items before its last word, an array the address of its
    elements right behind the header that every object has."""
    return f"""
; The addresses of the elements of NumPy arrays in a Python list, into slots.
define internal void @addresses(ptr %list, i64 %count, ptr %slots) {{
entry:
  %items_at = getelementptr i8, ptr %list, i64 {list.__basicsize__ - 16}
  %items = load ptr, ptr %items_at
  %any = icmp ne i64 %count, 0
  br i1 %any, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %item_at = getelementptr ptr, ptr %items, i64 %i
  %item = load ptr, ptr %item_at
  %data_at = getelementptr i8, ptr %item, i64 {object.__basicsize__}
  %data = load ptr, ptr %data_at
  %slot = getelementptr ptr, ptr %slots, i64 %i
  store ptr %data, ptr %slot
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  ret void
}}

; Run the steps of a frame on the arrays of two lists. The result is 0, or the number + 1 and the status of the step
; that stopped.
define i64 @run(ptr %frame, ptr %inputs, ptr %outputs) {{
entry:
{words("frame", _FRAME)}
  %gathered = alloca ptr, i64 %most
  call void @addresses(ptr %inputs, i64 %given, ptr %slots)
  %behind = getelementptr ptr, ptr %slots, i64 %given
  call void @addresses(ptr %outputs, i64 %made, ptr %behind)
  %any = icmp ne i64 %count, 0
  br i1 %any, label %step, label %end
step:
  %k = phi i64 [ 0, %entry ], [ %k1, %next ]
  %base = mul i64 %k, {8 * len(STEP)}
  %record = getelementptr i8, ptr %steps, i64 %base
{words("record", STEP)}
  br label %gather
gather:
  %i = phi i64 [ 0, %step ], [ %i1, %gather ]
  %number_at = getelementptr i64, ptr %numbers, i64 %i
  %number = load i64, ptr %number_at
  %slot = getelementptr ptr, ptr %slots, i64 %number
  %pointer = load ptr, ptr %slot
  %into = getelementptr ptr, ptr %gathered, i64 %i
  store ptr %pointer, ptr %into
  %i1 = add i64 %i, 1
  %rest = icmp ult i64 %i1, %many
  br i1 %rest, label %gather, label %launch
launch:
  %several = icmp ugt i64 %parts, 1
  br i1 %several, label %shared, label %alone
shared:
  %s1 = call i32 @share(ptr %pool, ptr %record, ptr %gathered, i64 %parts)
  br label %after
alone:
  %s2 = call i32 @range(ptr %record, ptr %gathered, i64 0, i64 %extent, i64 0)
  br label %after
after:
  %status = phi i32 [ %s1, %shared ], [ %s2, %alone ]
  %failed = icmp ne i32 %status, 0
  br i1 %failed, label %failure, label %next
next:
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, %count
  br i1 %more, label %step, label %end
failure:
  %k2 = add i64 %k, 1
  %high = shl i64 %k2, 32
  %low = zext i32 %status to i64
  %result = or i64 %high, %low
  ret i64 %result
end:
  ret i64 0
}}
"""


@dataclass(frozen=True)
class _Entry:
    run: Any
    guard: int
    start: Any


_lock = threading.RLock()
_entry: _Entry | None = None
_pool: Pool | None = None
_single: Pool | None = None


def _native() -> _Entry:
    global _entry
    with _lock:
        if _entry is None:
            run_at, guard_at, *start_at = machine_code(source())
            signature = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
            begin = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
            _entry = _Entry(signature(run_at), guard_at, begin(start_at[0]) if start_at else None)
        return _entry


def run() -> Any:
    """The native function ``run(frame, id(inputs), id(outputs))``; both are lists of NumPy arrays."""
    return _native().run


def guard() -> int:
    """The address of a step that stops where one of the integers in its only buffer is positive."""
    return _native().guard


class Pool:
    """The workers. wanted, size: how many threads were asked for and share a step, the calling one included."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.size = wanted, 1
        memory = np.zeros(_POOL_BYTES + 64, np.uint8)
        # Workers look at it until the process is gone, longer than Python keeps anything.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
        start = -memory.ctypes.data % 64
        self._words = memory[start : start + _POOL_BYTES].view(np.int64)
        self.address = self._words.ctypes.data
        for number in range(1, wanted if threaded() else 1):
            if _native().start(self.address) != 0:
                break  # the system gives no more threads: work with those that there are
            self.size = number + 1
        self._words[_POOL["size"] // 8] = self.size

    def alone(self) -> None:
        """Share nothing any more: a forked process has none of its parent's workers."""
        self.wanted = self.size = 1
        self._words[_POOL["size"] // 8] = 1
        self._words[_POOL["lock"] // 8] = 0


def pool(size: int) -> Pool:
    """The process's pool, of at least ``size`` threads where the system allows; one thread is a pool of its own."""
    global _pool, _single
    with _lock:
        if size == 1:
            _single = _single or Pool(1)
            return _single
        if _pool is None or _pool.wanted < size:
            if _pool is not None:
                _retired.append(_pool)
            elif hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forked)
            _pool = Pool(size)
        return _pool


_retired: list[Pool] = []  # smaller pools, whose workers sleep on


def _forked() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    for known in [*_retired, *([_pool] if _pool is not None else [])]:
        known.alone()


@dataclass
class Step:
    """A native step: its function, the slots of its buffers, its size arguments, and how threads share it.

    parts: into how many the extent is cut; 0 for one for every thread.
    streamed, ahead: the number of the buffer that goes past the caches, or -1, and a bit for each of those that
    are read alongside. width: the bytes of their elements.
    """

    address: int
    buffers: list[int]
    sizes: list[int]
    extent: int
    threads: int
    grain: int
    parts: int = 0
    streamed: int = -1
    ahead: int = 0
    width: int = 1


class Steps:
    """Native steps in a row, as a table that the native entry reads."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._kept = [(np.array(s.buffers, np.int64), np.array(s.sizes, np.int64)) for s in steps]
        rows = [
            (s.address, buffers.ctypes.data, len(buffers), sizes.ctypes.data, s.extent, s.parts or s.threads, s.grain,
             s.streamed, s.ahead, s.width)
            for s, (buffers, sizes) in zip(steps, self._kept, strict=True)
        ]  # fmt: skip
        self.table = np.array(rows, np.int64).reshape(len(rows), len(STEP))
        self.most = max([len(s.buffers) for s in steps], default=0)
        self.threads = max([s.threads for s in steps], default=1)
        self.shared = any(max(s.threads, s.parts) > 1 for s in steps)


class Launch:
    """Steps on the addresses in ``slots``, the first of which are arguments and outputs.

    address: what ``run`` takes. It leads to memory that is there as long as this object is.
    """

    def __init__(self, steps: Steps, slots: Array, given: int, made: int) -> None:
        shared = pool(steps.threads).address if steps.shared else 0
        table = steps.table
        found = (table.ctypes.data, len(table), slots.ctypes.data, given, made, shared, steps.most)
        words = np.array(found, np.int64)
        self._kept = steps, slots, words
        self.address = words.ctypes.data
