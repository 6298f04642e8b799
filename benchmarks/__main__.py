"""Speed and memory beside the peers.

    python -m benchmarks [goals|curves|all] [WORK ...] [--quick]   measure; all is the default
    python -m benchmarks list                                      the works and their contenders
    python -m benchmarks show results.json                         the tables of an earlier run again
    python -m benchmarks train|import_time|trace_cost|batching [...]
                                                                   the programs in benchmarks/train and benchmarks/core

Peers that are not installed are left out, with the reason. `pip install jax` for one; PyTorch's CPU build is
`pip install torch==2.13.0`; PyTensor asks for a Numba of its own, so give it its own environment and name that with
`--python pytensor=/path/to/bin/python`. OPENBLAS_CORETYPE is unset for every contender.
"""

from __future__ import annotations

import os

os.environ.pop("OPENBLAS_CORETYPE", None)  # before NumPy is imported: this process asks it for the BLAS in use

import argparse
import importlib
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .catalogue import WORKS
from .harness import machine, report
from .harness.plot import draw
from .harness.runner import Runner, Settings
from .harness.work import Work

PROGRAMS = {
    "train": "benchmarks.train.two_layer_net",
    "import_time": "benchmarks.core.import_time",
    "trace_cost": "benchmarks.core.trace_cost",
    "batching": "benchmarks.core.batching",
}
OUTPUT = Path(__file__).parent / "output"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", default="all", help="what to do, or the first WORK")
    parser.add_argument("works", nargs="*", metavar="WORK", help="only these works (see `list`)")
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds: do the programs work?")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="turns of each contender (default: 9)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="length of a turn (default: 0.2)")
    parser.add_argument("--cores", type=int, default=Settings.cores, help="cores for each contender (default: 2)")
    parser.add_argument("--only", nargs="+", default=[], metavar="CONTENDER", help="only these contenders")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PACKAGE=PATH", help="the interpreter that has a peer"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="folder of results.json, results.md and results.png"
    )
    return parser


def _chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Work]:
    words = list(options.works)
    if options.command in WORKS:
        words.insert(0, options.command)
    elif options.command not in ("goals", "curves", "all"):
        parser.error(f"{options.command!r} is neither a command nor a work; see `python -m benchmarks list`")
    for word in words:
        if word not in WORKS:
            parser.error(f"no work is called {word!r}; see `python -m benchmarks list`")
    kinds = {"goals": (False,), "curves": (True,)}.get(options.command, (False, True))
    return [work for work in WORKS.values() if (work.name in words if words else work.curve in kinds)]


def _measure(works: Sequence[Work], settings: Settings, command: str, output: Path) -> int:
    facts = machine.describe(settings.cores, settings.pythons)
    print("\n".join(machine.lines(facts)), flush=True)
    results = report.Results(command, facts, settings.quick)
    with tempfile.TemporaryDirectory(prefix="defnpy-benchmarks-") as folder:
        runner = Runner(settings, Path(folder))
        for work in works:
            began, others = time.perf_counter(), machine.Others()
            found = results.points.setdefault(work.name, [])
            for point in runner.run(work):
                found.append(point)
                results.save(output / "results.json")  # an interrupted run keeps what it has
            if (busy := others.cores()) is not None:
                results.others[work.name] = busy
            print(f"{work.name} took {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        results.save(output / "results.json")
    _tell(results, output)
    for fault in runner.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if runner.faults else 0


def _tell(results: report.Results, output: Path) -> None:
    report.show(WORKS, results)
    drawn = draw(WORKS, results, output / "results.png")
    text = report.markdown(WORKS, results, machine.lines(results.machine), "results.png" if drawn else "")
    report.write(output / "results.md", text)
    print(f"written: {', '.join(sorted(str(file) for file in output.glob('results.*')))}")


def main() -> int:
    """Understand the words, and do it; the status to exit with."""
    words = sys.argv[1:]
    if words and words[0] in PROGRAMS:
        sys.argv = [f"python -m benchmarks {words[0]}", *words[1:]]
        importlib.import_module(PROGRAMS[words[0]]).main()
        return 0
    parser = _parser()
    options = parser.parse_args(words)
    if options.command == "list":
        for work in WORKS.values():
            print(f"{work.name:20s} {work.title}: {', '.join(c.name for c in work.contenders)}")
        return 0
    if options.command == "show":
        if len(options.works) != 1:
            parser.error("show needs one file: results.json of an earlier run")
        _tell(report.Results.load(Path(options.works[0])), options.output)
        return 0
    if options.cores < 1 or options.rounds < 1 or not options.seconds > 0:
        parser.error("--cores, --rounds and --seconds must be positive")
    if any("=" not in pair for pair in options.python):
        parser.error("--python needs PACKAGE=PATH")
    settings = Settings(
        rounds=options.rounds,
        seconds=options.seconds,
        cores=options.cores,
        pythons=dict(pair.split("=", 1) for pair in options.python),
        names=frozenset(options.only),
    )
    if options.quick:
        settings.quick, settings.rounds, settings.fresh_rounds = True, 2, 1
        settings.seconds, settings.pause = 0.01, 0.0
    command = shlex.join(["python", "-m", "benchmarks", *words])
    return _measure(_chosen(parser, options), settings, command, options.output)


if __name__ == "__main__":
    sys.exit(main())
