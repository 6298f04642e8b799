"""A campaign: numbered random programs through all checks, several to a compiled program."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import defnpy as dp
from defnpy.passes.pipeline import PASSES
from defnpy.testing.programs import Program, draw_program
from defnpy.testing.steps import table
from tests.fuzz.checks import Derived, Unreliable, compare, compiled, derive, joined
from tests.fuzz.dead import poisoned
from tests.fuzz.every import CHECKS
from tests.fuzz.shrink import Unprintable, fails, shrink, spelled

__all__ = ["Campaign", "numbered", "unoptimized"]

BATCH = 48  # so many graphs are compiled together
STEPS = 5
DEAD = 8  # of so many graphs one is compiled with a poisoned example, too
ALONE = [name for name in CHECKS if not name.startswith("cpu")]  # the checks of one graph at a time


def is_smooth(number: int) -> bool:
    """Two of three programs are smooth, so that differences can be taken."""
    return number % 3 != 0


def numbered(seed: int, number: int, steps: int = STEPS) -> Program:
    """A program by its number, the same on every run."""
    below = random.Random(f"{seed}:{number}").randrange
    return draw_program(below, steps=steps, smooth=is_smooth(number), table=True)


@contextlib.contextmanager
def unoptimized() -> Iterator[None]:
    """Machine code as it comes, without LLVM's optimizations: some seven times as many kernels in the same time.

    What defnpy makes of a graph is tested as well as before; what LLVM makes of that is not. Nothing goes to the cache.
    """
    compiler = importlib.import_module("defnpy.backends.cpu.llvm_compiler")
    as_it_is, target = compiler.compile_module, compiler.target_machine
    compiler.compile_module = lambda text, level=0: as_it_is(text, 0)
    compiler.target_machine = functools.partial(target, 0)
    try:
        with dp.config(cache_dir=""):
            yield
    finally:
        compiler.compile_module, compiler.target_machine = as_it_is, target


@dataclass
class Failure:
    """One program that fails one check, and where the shrunk program was written."""

    number: int
    check: str
    message: str
    file: str = ""


@dataclass
class Campaign:
    """Numbered programs of one seed, what was found, and what was counted."""

    seed: int
    out: Path | None = None
    steps: int = STEPS
    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    number: int = 0

    def run(self, first: int, graphs: int, seconds: float, report: Callable[[str], None] = lambda text: None) -> None:
        """Programs from number ``first`` on, until there are so many or the time is up."""
        began = told = time.perf_counter()
        self.number = first
        with dp.config(verify=False, backend="cpu"):  # the checks verify what they make
            while self.number < first + graphs and time.perf_counter() - began < seconds:
                self._batch(range(self.number, min(self.number + BATCH, first + graphs)))
                self.seconds = time.perf_counter() - began
                if time.perf_counter() - told > 10:
                    told = time.perf_counter()
                    report(self.summary())

    def _batch(self, numbers: range) -> None:
        batch = []
        for number in numbers:
            derived = self._derived(number)
            if derived is not None:
                batch.append((number, derived))
        passes = numbers.start // BATCH % 4 != 3  # every fourth program is compiled as it is
        name = "cpu" if passes else "cpu without passes"
        try:
            self._together(batch, name, passes)
        except Exception:  # one of them cannot be compiled, or is wrong: which one shows when each is compiled alone
            for number, derived in batch:
                self._try(number, derived, name)
        self._dead([row for row in batch if row[0] % DEAD == 0])
        self.number = numbers.stop

    def _dead(self, batch: list[tuple[int, Derived]]) -> None:
        """Programs with a poisoned example, compiled."""
        made = []
        try:
            for number, derived in batch:
                dead = poisoned(derived.program, number)
                if dead is not None:
                    made.append((number, dead))
                    self.counts["poisoned and compiled"] += 1
            if made:
                self._together(made, "cpu dead", True)
        except Exception:  # which one shows when each is compiled alone; LAPACK may refuse NaN
            for number, derived in batch:
                self._try(number, derived, "cpu dead")

    def _derived(self, number: int) -> Derived | None:
        """A program with its derivatives, through all checks but those of the compiler."""
        self.counts["graphs"] += 1
        program = numbered(self.seed, number, self.steps)
        try:
            derived = derive(program, number, is_smooth(number))
        except Exception as error:
            self._found(number, program, "jvp", f"{type(error).__name__}: {error}")
            return None
        self.ops.update({node.op.name for node in derived.graph.nodes()})
        self.counts["nodes"] += len(derived.graph.nodes())
        self.counts["with first derivatives"] += "first" in derived.labels
        self.counts["with second derivatives"] += "second" in derived.labels
        self.counts["against differences"] += derived.smooth and bool(derived.direction)
        for name in ALONE:
            self._try(number, derived, name)
        return derived

    def _try(self, number: int, derived: Derived, name: str) -> None:
        try:
            CHECKS[name](derived)
        except Unreliable:
            self.counts["ill-conditioned"] += 1
        except Exception as error:
            self._found(number, derived.program, name, f"{type(error).__name__}: {error}")

    def _together(self, batch: list[tuple[int, Derived]], name: str, passes: bool) -> None:
        graph, inputs = joined([derived for _, derived in batch])
        for run in PASSES if passes else ():
            graph = run(graph)
        found = compiled(graph, inputs)
        start = 0
        for number, derived in batch:
            part = found[start : start + len(derived.values)]
            start += len(derived.values)
            try:
                compare(derived, name, part, derived.values)
            except Unreliable:
                self.counts["ill-conditioned"] += 1
            except AssertionError as error:
                self._found(number, derived.program, name, f"{type(error).__name__}: {error}")

    def _found(self, number: int, program: Program, name: str, message: str) -> None:
        failure = Failure(number, name, message)
        self.failures.append(failure)
        if self.out is not None and len(self.failures) <= 40:
            failure.file = str(write(self.out, (self.seed, number, self.steps), program, name, message))

    def summary(self) -> str:
        """One line."""
        graphs = self.counts["graphs"]
        rate = graphs / self.seconds if self.seconds else 0.0
        return (
            f"seed {self.seed}: {graphs:,} graphs ({rate:.0f} a second, {self.counts['nodes'] / max(graphs, 1):.0f} "
            f"nodes each, {len(self.ops)} ops), {len(self.failures)} mismatches, "
            f"{self.counts['ill-conditioned']} ill-conditioned"
        )

    def coverage(self) -> str:
        """Every op that is drawn from, and in how many of the graphs, derivatives included, it was."""
        names = sorted({op.name for smooth in (False, True) for op, _ in table(smooth)}, key=lambda n: (self.ops[n], n))
        return "\n".join([f"{self.ops[name]:8,}  {name}" for name in names])

    def save(self, path: Path) -> None:
        """The figures as JSON."""
        figures: dict[str, Any] = {
            "seed": self.seed,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "counts": dict(self.counts),
            "ops": dict(self.ops.most_common()),
            "failures": [vars(failure) for failure in self.failures],
        }
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def write(out: Path, drawn: tuple[int, int, int], program: Program, name: str, message: str) -> Path:
    """The program, drawn by seed, number and steps, made small, as a file that runs."""
    seed, number, _ = drawn
    smooth = is_smooth(number)

    def wrong(candidate: Program) -> bool:
        with np.errstate(all="ignore"):
            return bool(fails(candidate, name, number, smooth))

    small = shrink(program, wrong) if wrong(program) else program
    try:
        text = spelled(small, name, number, smooth, fails(small, name, number, smooth) or message)
    except Unprintable:
        text = REDRAWN.format(message=message, drawn=drawn, number=number, name=name, smooth=smooth)
    path = out / f"{name.replace(' ', '_')}_{seed}_{number}.py"
    path.write_text(text, encoding="utf-8")
    return path


REDRAWN = '''"""Found by tests.fuzz.

{message}
"""

from tests.fuzz.campaign import numbered
from tests.fuzz.checks import derive
from tests.fuzz.every import CHECKS

if __name__ == "__main__":
    CHECKS[{name!r}](derive(numbered{drawn}, {number}, {smooth}))
'''
