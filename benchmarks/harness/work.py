"""What is measured: works, their contenders, and the goals they are held against.

A contender is a function ``prepare(**parameters)`` that imports its library, makes its data and returns a call without
arguments. The call returns only when its result is there, and what the first call returns is compared between the
contenders before anything is timed. Nothing here imports a contender's library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

OURS = "defnpy"

Parameters = Mapping[str, Any]


class Absent(Exception):
    """A contender cannot take part; the message says why."""


@dataclass(frozen=True)
class Contender:
    """A library at a work.

    prepare: called with the work's parameters in a process of the contender's own. package: what must be installed.
    slow: takes many seconds to compile, so a quick run leaves it out. yardstick: not a peer but a bound, such as a copy
    of the same size; its result is not compared.
    """

    name: str
    prepare: Callable[..., Callable[[], Any]]
    package: str
    slow: bool = False
    yardstick: bool = False

    @property
    def address(self) -> str:
        """Where a worker finds the function: ``module:name``."""
        return f"{self.prepare.__module__}:{self.prepare.__name__}"


@dataclass
class Point:
    """What was measured of a work at one choice of its parameters.

    samples: per contender one figure per round. absent: per contender that did not take part, why.
    """

    parameters: dict[str, Any]
    samples: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, float]:
        """The median over the rounds, for each contender."""
        return {name: median(values) for name, values in self.samples.items()}


@dataclass(frozen=True)
class Goal:
    """A bound on a figure of every point.

    figure: from a work, all its points and the one in question; None where it cannot be had.
    """

    text: str
    limit: float
    figure: Callable[[Work, list[Point], Point], float | None]
    at_least: bool = False
    unit: str = "x"

    def is_met(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True)
class Work:
    """One row of the table of goals.

    variants: the parameters of each point; quick: those of a quick run, which says whether a program works. The
    parameter ``kernels``, "none" or "on disk", is not passed on: it says what the caches on disk hold.
    measure: "call", seconds of a call; "start", seconds from the start of a fresh process to the end of its first call;
    "first call", of a fresh process; "memory", bytes by which calls raise the peak of a fresh process.
    cores: pin each contender to so many cores and threads; None for what the run has. tolerance: the largest relative
    distance (Euclidean, per array) from the first contender's result. long: one call is a turn, and three turns are
    enough. curve: there is no goal; figures are drawn over the first parameter.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    variants: tuple[Parameters, ...]
    quick: tuple[Parameters, ...]
    goals: tuple[Goal, ...] = ()
    measure: str = "call"
    cores: int | None = None
    tolerance: float = 1e-4
    long: bool = False
    curve: bool = False

    def best_peer(self, point: Point) -> tuple[str, float] | None:
        """Name and median of the peer with the smallest figure."""
        bounds = {contender.name for contender in self.contenders if contender.yardstick}
        peers = {n: m for n, m in point.medians.items() if n != OURS and n not in bounds}
        return min(peers.items(), key=lambda item: item[1]) if peers else None


def at_most_of_best_peer(limit: float) -> Goal:
    """defnpy's median over that of the best peer of the same run."""

    def figure(work: Work, points: list[Point], point: Point) -> float | None:
        peer = work.best_peer(point)
        return point.medians[OURS] / peer[1] if peer and OURS in point.samples else None

    return Goal(f"at most {limit:g} x the best peer", limit, figure)


def times_faster_than_best_peer(limit: float) -> Goal:
    """The best peer's median over defnpy's."""

    def figure(work: Work, points: list[Point], point: Point) -> float | None:
        peer = work.best_peer(point)
        return peer[1] / point.medians[OURS] if peer and OURS in point.samples else None

    return Goal(f"at least {limit:g} x faster", limit, figure, at_least=True)


def at_most_microseconds(limit: float) -> Goal:
    """defnpy's median in microseconds."""

    def figure(work: Work, points: list[Point], point: Point) -> float | None:
        return point.medians[OURS] * 1e6 if OURS in point.samples else None

    return Goal(f"at most {limit:g} us", limit, figure, unit="us")


def share_of_copy_bandwidth(limit: float, arrays: int) -> Goal:
    """Bytes per second of defnpy, which moves ``arrays`` arrays, over those of the best yardstick, which moves two."""

    def figure(work: Work, points: list[Point], point: Point) -> float | None:
        copies = [point.medians[c.name] for c in work.contenders if c.yardstick and c.name in point.samples]
        return arrays / 2 * min(copies) / point.medians[OURS] if copies and OURS in point.samples else None

    return Goal(f"at least {limit:g} of a copy's bandwidth", limit, figure, at_least=True)


def grows_at_most(limit: float) -> Goal:
    """defnpy's median at a point over that at the first point."""

    def figure(work: Work, points: list[Point], point: Point) -> float | None:
        if point is points[0] or any(OURS not in p.samples for p in (points[0], point)):
            return None
        return point.medians[OURS] / points[0].medians[OURS]

    return Goal(f"grows by less than {limit:g} x from the first to the last", limit, figure)
