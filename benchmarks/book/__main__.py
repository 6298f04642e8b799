"""The book's pages beside float32 NumPy and JAX: time per training step and per script, on one core and on two.

    python -m benchmarks.book [PAGE ...] [--quick] [--cores 1 2] [--repeats 3] [--out FILE]

Contenders take turns, each in a process of its own, pinned to its cores; medians are compared. A script is timed from
the start of its process to its end, compilation included: defnpy's kernels are not on disk, JAX compiles anew.
OPENBLAS_CORETYPE is unset for all. Prints the tables; --out writes them too.
"""

from __future__ import annotations

import os

os.environ.pop("OPENBLAS_CORETYPE", None)  # before NumPy is imported: this process asks it for the BLAS in use

import argparse
import dataclasses
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..harness import machine, report
from ..harness.process import ROOT, environment
from ..harness.runner import Runner, Settings
from ..harness.work import Work
from ..harness.worker import pin
from .rows import CONTENDERS, GOALS, SCRIPTS, STEPS, Script

Times = dict[str, float]  # contender -> seconds


def steps(page: str, work: Work, cores: int, settings: Settings, faults: list[str]) -> Iterator[tuple[str, Times]]:
    """The label and the times of each variant of a step."""
    chosen = tuple(contender for contender in work.contenders if contender.name in CONTENDERS)
    with tempfile.TemporaryDirectory(prefix="defnpy-benchmarks-") as folder:
        runner = Runner(settings, Path(folder))
        for point in runner.run(dataclasses.replace(work, contenders=chosen, cores=cores)):
            yield f"{page} {report.label(point)}".strip(), point.medians
        faults += runner.faults


def script(row: Script, cores: int, repeats: int, iterations: int | None) -> Times:
    """The median wall time of the whole program for each contender that is installed, in turns."""
    present = [name for name in row.words if name != "JAX" or importlib.util.find_spec("jax")]
    samples: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(repeats):
        for name in present:
            extra = () if iterations is None else (row.iterations[name], str(iterations))
            with tempfile.TemporaryDirectory(prefix="defnpy-benchmarks-") as kernels:
                samples[name].append(run((*row.words[name], *extra), cores, Path(kernels)))
    return {name: statistics.median(values) for name, values in samples.items()}


def run(words: Sequence[str], cores: int, kernels: Path) -> float:
    """Wall seconds of one program on the first ``cores`` cores; ends this program if that one fails."""
    found = environment(kernels, one_core=cores == 1)
    before = os.sched_getaffinity(0)
    pin(cores)  # a child runs where its parent may
    try:
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *words], cwd=ROOT, env=found, capture_output=True, text=True)
        wall = time.perf_counter() - began
    finally:
        os.sched_setaffinity(0, before)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
    return wall


def table(title: str, unit: str, factor: float, rows: Sequence[tuple[str, int, Times]]) -> list[str]:
    """A table in Markdown, with defnpy's share of the others' times and whether it is as small as it should be."""
    heads = [f"{name} {unit}" for name in CONTENDERS] + [
        f"of {name}" + (f" (<= {goal:g})" if goal else "") for name, goal in GOALS.items()
    ]
    lines = [f"### {title}", "", f"| page | cores | {' | '.join(heads)} |"]
    lines.append("|---|---:|" + "---:|" * len(heads))
    for label, cores, times in rows:
        cells = [f"{times[name] * factor:.3g}" if name in times else "-" for name in CONTENDERS]
        cells += [share(times, name, goal) for name, goal in GOALS.items()]
        lines.append(f"| {label} | {cores} | {' | '.join(cells)} |")
    return [*lines, ""]


def share(times: Times, name: str, goal: float | None) -> str:
    """defnpy's time as a share of a contender's."""
    if name not in times or "defnpy" not in times:
        return "-"
    found = times["defnpy"] / times[name]
    return f"{found:.2f}" + ("" if goal is None or found <= goal else " NO")


def main() -> int:
    """Measure, print; 1 where defnpy failed or contenders disagree."""
    known = [*STEPS, *(row.page for row in SCRIPTS if row.page not in STEPS)]
    parser = argparse.ArgumentParser("python -m benchmarks.book", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"{', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, few iterations: does the program work?")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each script (default: 3)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables there")
    options = parser.parse_args()
    if unknown := [page for page in options.pages if page not in known]:
        parser.error(f"no row is called {unknown[0]!r}; rows are {', '.join(known)}")
    pages = options.pages or known
    settings = Settings()
    if options.quick:
        settings = Settings(rounds=2, seconds=0.01, pause=0.0, quick=True)
    of_steps: list[tuple[str, int, Times]] = []
    of_scripts: list[tuple[str, int, Times]] = []
    faults: list[str] = []
    for cores in options.cores[:1] if options.quick else options.cores:
        for page, work in STEPS.items():
            if page in pages:
                of_steps += [(label, cores, times) for label, times in steps(page, work, cores, settings, faults)]
        for row in SCRIPTS:
            if row.page in pages:
                repeats, iterations = (1, 20) if options.quick else (options.repeats, None)
                of_scripts.append((row.page, cores, script(row, cores, repeats, iterations)))
    lines = ["\n".join(machine.lines(machine.describe(max(options.cores), {}))), ""]
    lines += table("A step", "ms", 1e3, of_steps) if of_steps else []
    lines += table("A script, from the start of its process to its end", "s", 1.0, of_scripts) if of_scripts else []
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        report.write(options.out, text)
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
