"""What becomes of a function, told step by step: the traced graph, every pass, the kernels and what each costs."""

from __future__ import annotations

from collections.abc import Iterator

from .backends.base import MemoryReport, StepReport, ValueReport
from .compiled import Compiled
from .ir.show import difference, show
from .passes.pipeline import PASSES

__all__ = ["Explanation"]


class Explanation:
    """Made by ``f.explain(*args)``; prints as a text.

    traced: the graph as it was traced. passes: the name of each pass and its effect, as a diff (empty: no change).
    steps: kernels, matrix products, calls and guards (:class:`StepReport`); seconds: of each, if they were measured.
    memory: bytes of a call. values: what lies in memory between the steps or is computed again, and why
    (:class:`ValueReport`).

    >>> import defnpy as dp
    >>> f = dp.defn(lambda x: dp.sum(x * 1.0 + 2.0), backend="cpu")
    >>> explained = f.explain(dp.spec((1000,)))
    >>> explained.steps[0].kind, explained.steps[0].bytes, explained.steps[0].flops
    ('kernel', 4004, 2000)
    >>> print(str(explained).split("== steps")[0])  # doctest: +ELLIPSIS
    == traced
    inputs:
      x                        f32[1000]
    let:
      a = multiply x 1.0       f32[1000]
      b = add a 2.0            f32[1000]
      c = sum b axis=(0,) keepdims=False  f32[]
    return c
    <BLANKLINE>
    ...
    == stabilize: no change
    <BLANKLINE>
    == simplify
    --- before
    +++ after
    @@ -1,7 +1,6 @@
     inputs:
       x                        f32[1000]
     let:
    -  a = multiply x 1.0       f32[1000]
    -  b = add a 2.0            f32[1000]
    -  c = sum b axis=(0,) keepdims=False  f32[]
    -return c
    +  a = add x 2.0            f32[1000]
    +  b = sum a axis=(0,) keepdims=False  f32[]
    +return b
    <BLANKLINE>
    <BLANKLINE>
    """

    def __init__(self, name: str, compiled: Compiled, seconds: list[float] | None) -> None:
        self.name = name
        self.traced = compiled.traced
        self.passes: list[tuple[str, str]] = []
        graph = compiled.traced
        for run in PASSES:
            before, graph = graph, run(graph)
            self.passes.append((run.__name__, difference(before, graph)))
        self.steps: list[StepReport] = compiled.steps()
        self.memory: MemoryReport = compiled.memory()
        self.values: list[ValueReport] = compiled.values()
        self.seconds = seconds

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return f"<explanation of {self.name}: {len(self.steps)} steps; print it>"

    def _lines(self) -> Iterator[str]:
        yield from ("== traced", show(self.traced), "")
        for name, changes in self.passes:
            yield from (f"== {name}", changes, "") if changes else (f"== {name}: no change", "")
        yield from ("== steps", *self._table(), "")
        if self.values:
            rows = [[value.name, _size(value.bytes), value.reason] for value in self.values]
            yield from ("== between the steps", *_aligned(rows), "")
        memory = self.memory
        yield f"memory: arguments {_size(memory.arguments)}, outputs {_size(memory.outputs)}, temporaries " + _size(
            memory.temporaries
        )
        yield f"peak of a call, beside its arguments: {_size(memory.outputs + memory.temporaries)}"
        for step in self.steps:
            if step.kind == "kernel":
                yield from ("", f"== {step.name}", *[f"# covers: {line}" for line in step.lines], step.source.rstrip())

    def _table(self) -> list[str]:
        head = ["step", "kind", "bytes", "flops", "threads", "compiled"]
        rows = [head + (["time", "GB/s", "GFLOP/s"] if self.seconds else [])]
        for i, step in enumerate(self.steps):
            counted = step.kind in ("kernel", "product")
            made = f"{step.seconds * 1e3:.1f} ms{', cached' if step.cached else ''}" if step.kind == "kernel" else ""
            what = step.kind if step.kind == "kernel" else f"{step.kind} {step.source}"
            row = [
                step.name,
                what,
                *([_size(step.bytes), f"{step.flops:,}", str(step.threads)] if counted else [""] * 3),
            ]
            row.append(made)
            if self.seconds:
                seconds = self.seconds[i]
                row.append(f"{seconds * 1e6:.1f} us")
                row += [f"{n / seconds / 1e9:.1f}" if counted else "" for n in (step.bytes, step.flops)]
            rows.append(row)
        return _aligned(rows)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines of cells in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _size(count: int) -> str:
    """Bytes in a unit that fits."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
