"""Works, measured: contenders in turns, each in a process that sleeps while the others run.

Several libraries in one process disturb each other: the threads of one spin, waiting for work, while the next is timed.
So each contender has a process, and between two turns there is a pause, in which the threads of the last one go to
sleep. The order of the turns moves on by one from round to round.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .process import Failure, Process, environment
from .work import OURS, Absent, Contender, Point, Work


@dataclass
class Settings:
    """How a run measures.

    rounds: turns of each contender. fresh_rounds: the same where each turn is a new process. seconds: the length of a
    turn. pause: between two turns. cores: what contenders may use, save where a work says otherwise. pythons: package
    -> interpreter, for peers installed elsewhere. names: the contenders to measure, all if empty.
    """

    rounds: int = 9
    fresh_rounds: int = 5
    seconds: float = 0.2
    pause: float = 0.3  # threads of OpenMP spin for 0.2 s after their work
    quick: bool = False
    cores: int = 2
    pythons: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def rounds_of(self, work: Work) -> int:
        ordinary = self.rounds if work.measure == "call" else self.fresh_rounds
        return min(ordinary, 3) if work.long else ordinary


class Runner:
    """Measures works; ``faults`` collects what must not happen: defnpy failing, or contenders that disagree."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.faults: list[str] = []

    def run(self, work: Work) -> Iterator[Point]:
        """Measure each variant of a work."""
        with ExitStack() as stack:
            processes: dict[str, Process] = {}
            for variant in work.quick if self.settings.quick else work.variants:
                parameters = dict(variant)
                point = Point(parameters)
                contenders = [c for c in work.contenders if self._takes_part(c, point)]
                if work.measure == "call":
                    for contender in contenders:
                        if contender.name not in processes or not processes[contender.name].alive:
                            processes[contender.name] = stack.enter_context(
                                self._process(work, contender, self.folder / "shared")
                            )
                    self._in_turns(work, contenders, processes, point)
                else:
                    self._fresh(work, contenders, point)
                yield point

    def _takes_part(self, contender: Contender, point: Point) -> bool:
        if self.settings.names and contender.name not in self.settings.names:
            return False
        if self.settings.quick and contender.slow:
            point.absent[contender.name] = "compiles for long: not in a quick run"
            return False
        return True

    @contextmanager
    def _process(
        self, work: Work, contender: Contender, kernels: Path, *, jax_cache: bool = False
    ) -> Iterator[Process]:
        cores = work.cores or self.settings.cores
        found = environment(kernels, one_core=work.cores == 1, jax_cache=jax_cache)
        process = Process(self.settings.pythons.get(contender.package, sys.executable), cores, found)
        try:
            yield process
        finally:
            process.close()

    def _attempt(self, do: Callable[[Contender], None], work: Work, contender: Contender, point: Point) -> bool:
        """Do something with a contender; whether it went well. If not, it is out of this point, and the reason kept."""
        try:
            do(contender)
        except (Absent, Failure) as error:
            point.absent[contender.name] = str(error)
            point.samples.pop(contender.name, None)
            if isinstance(error, Failure) and contender.name == OURS:
                self.faults.append(f"{work.name}: {error}")
            return False
        return True

    def _in_turns(
        self, work: Work, contenders: list[Contender], processes: Mapping[str, Process], point: Point
    ) -> None:
        results: dict[str, list[np.ndarray]] = {}
        counts: dict[str, int] = {}

        def begin(contender: Contender) -> None:
            process = processes[contender.name]
            process.ask("prepare", address=contender.address, parameters=point.parameters)
            results[contender.name] = self._first_result(process)
            enough = {"calls": 1} if work.long else process.ask("calls", seconds=self.settings.seconds)
            counts[contender.name] = enough["calls"]

        def turn(contender: Contender) -> None:
            answer = processes[contender.name].ask("round", calls=counts[contender.name])
            point.samples.setdefault(contender.name, []).append(answer["seconds"])

        present = [c for c in contenders if self._attempt(begin, work, c, point)]
        self._rounds(turn, work, self._agreeing(work, present, results, point), point)

    def _rounds(self, turn: Callable[[Contender], None], work: Work, contenders: list[Contender], point: Point) -> None:
        for number in range(self.settings.rounds_of(work)):
            first = number % max(1, len(contenders))
            for contender in contenders[first:] + contenders[:first]:
                if contender.name not in point.absent:
                    time.sleep(self.settings.pause)
                    self._attempt(turn, work, contender, point)

    def _fresh(self, work: Work, contenders: list[Contender], point: Point) -> None:
        kernels = point.parameters["kernels"]
        parameters = {name: value for name, value in point.parameters.items() if name != "kernels"}
        results: dict[str, list[np.ndarray]] = {}

        @contextmanager
        def prepared(contender: Contender) -> Iterator[Process]:
            on_disk = kernels == "on disk"
            with tempfile.TemporaryDirectory(dir=self.folder) as empty:
                folder = self.folder / work.name if on_disk else Path(empty)
                with self._process(work, contender, folder, jax_cache=on_disk) as process:
                    process.ask("prepare", address=contender.address, parameters=parameters)
                    yield process

        def begin(contender: Contender) -> None:  # fills the caches, the system's too, and is not counted
            with prepared(contender) as process:
                results[contender.name] = self._first_result(process)

        def turn(contender: Contender) -> None:
            with prepared(contender) as process:
                first = process.ask("first", file="")
                if work.measure == "start":
                    figure = first["ended"] - process.started
                elif work.measure == "first call":
                    figure = first["seconds"]
                else:
                    figure = process.ask("memory", calls=5)["bytes"]
            point.samples.setdefault(contender.name, []).append(figure)

        present = [c for c in contenders if self._attempt(begin, work, c, point)]
        self._rounds(turn, work, self._agreeing(work, present, results, point), point)

    def _first_result(self, process: Process) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            file = Path(folder) / "result.npz"
            process.ask("first", file=str(file))
            with np.load(file) as arrays:
                return [arrays[name] for name in arrays.files]

    def _agreeing(
        self, work: Work, contenders: list[Contender], results: dict[str, Any], point: Point
    ) -> list[Contender]:
        """The contenders whose result is that of the first among them."""
        compared = [c for c in contenders if not c.yardstick]
        for contender in compared[1:]:
            reason = difference(results[compared[0].name], results[contender.name], work.tolerance)
            if reason:
                point.absent[contender.name] = f"not the result of {compared[0].name}: {reason}"
                self.faults.append(f"{work.name}: {contender.name} has {point.absent[contender.name]}")
        return [c for c in contenders if c.name not in point.absent]


def difference(expected: list[np.ndarray], found: list[np.ndarray], tolerance: float) -> str:
    """Why two results differ; empty if they do not."""
    shapes, others = [a.shape for a in expected], [a.shape for a in found]
    if shapes != others:
        return f"shapes {others}, not {shapes}"
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        a, b = a.astype(np.float64), b.astype(np.float64)
        distance, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(a))
        if not distance <= tolerance * size:  # a NaN differs too
            return f"array {number} is {distance:.2g} away from one of norm {size:.2g}"
    return ""
