"""Results as JSON, as a table on the terminal and as Markdown."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from .work import OURS, Point, Work


@dataclass
class Results:
    """A run: the command, the machine, and by the name of each work its points.

    others: by the name of each work the cores that other processes kept busy meanwhile.
    """

    command: str
    machine: dict[str, Any]
    quick: bool
    points: dict[str, list[Point]] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        """Write all as JSON, whole or not at all."""
        write(file, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Results:
        """What was saved."""
        kept = json.loads(file.read_text(encoding="utf-8"))
        points = {name: [Point(**point) for point in found] for name, found in kept.pop("points").items()}
        return cls(**kept, points=points)


def write(file: Path, text: str) -> None:
    """A text file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def figure(value: float, measure: str) -> str:
    """Three digits and a unit."""
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if measure == "memory" else ((1, "s"), (1e-3, "ms"), (1e-6, "us"))
    scale, unit = next((u for u in units if abs(value) >= u[0]), units[-1])
    return f"{value / scale:#.3g} {unit}".replace(". ", " ")


def spread(values: list[float], measure: str) -> str:
    """The median of some figures, with the quartiles where there are at least four."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    text = figure(middle, measure)
    return f"{text} ({(low / middle - 1) * 100:+.0f} {(high / middle - 1) * 100:+.0f} %)" if len(values) > 3 else text


def label(point: Point) -> str:
    """The parameters in which the points of a work may differ."""
    shown = {name: value for name, value in point.parameters.items() if name not in ("chain", "what", "width")}
    return ", ".join(f"{name} {' '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in shown.items())


@dataclass(frozen=True)
class Row:
    """One goal at one point, or a point without a goal."""

    title: str
    ours: str
    peer: str
    figure: str
    goal: str
    verdict: str


def rows(works: Mapping[str, Work], results: Results) -> Iterator[Row]:
    """The table of goals; curves are no part of it. A quick run, whose sizes are others, judges nothing."""
    for name, points in results.points.items():
        work = works[name]
        for point in () if work.curve else points:
            title = f"{work.title} ({label(point)})" if len(points) > 1 else work.title
            ours = spread(point.samples[OURS], work.measure) if OURS in point.samples else point.absent.get(OURS, "-")
            best = work.best_peer(point)
            peer = f"{best[0]} {spread(point.samples[best[0]], work.measure)}" if best else "none"
            for goal in work.goals:
                value = goal.figure(work, points, point)
                if value is None and point is points[0] and len(points) > 1:
                    yield Row(title, ours, peer, "", "", "")
                    continue
                text = "?" if value is None else f"{value:.3g} {goal.unit}"
                verdict = "?" if value is None or results.quick else "met" if goal.is_met(value) else "MISSED"
                yield Row(title, ours, peer, text, goal.text, verdict)


def all_figures(works: Mapping[str, Work], results: Results) -> tuple[list[str], list[list[str]]]:
    """A head and one line per point with the median of every contender."""
    names = list(dict.fromkeys(c.name for name in results.points for c in works[name].contenders))
    names.sort(key=lambda name: name != OURS)
    lines = []
    for name, points in results.points.items():
        measure = works[name].measure
        for point in points:
            cells = [spread(point.samples[n], measure) if n in point.samples else "" for n in names]
            lines.append([f"{name}: {label(point)}", *cells])
    return ["work", *names], lines


def left_out(results: Results) -> list[str]:
    """Who did not take part in what, and why, a line per reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, points in results.points.items():
        for point in points:
            for contender, reason in point.absent.items():
                works = found.setdefault((contender, reason), [])
                if name not in works:
                    works.append(name)
    return [f"{contender} left out of {', '.join(works)}: {reason}" for (contender, reason), works in found.items()]


def disturbed(results: Results) -> list[str]:
    """Which works were measured beside other work, one line if any."""
    found = [f"{name} ({cores:.1f})" for name, cores in results.others.items() if cores > QUIET]
    return [f"not on a quiet machine, cores that others kept busy: {', '.join(found)}"] if found else []


QUIET = 0.1
HEAD = ("work", OURS, "best peer", "figure", "goal", "")


def markdown(works: Mapping[str, Work], results: Results, machine: list[str], picture: str = "") -> str:
    """The block for RESULTS.md."""

    def table(head: list[str], lines: list[list[str]]) -> list[str]:
        cells = [" | ".join(text.replace("|", "\\|") for text in line) for line in (head, *lines)]
        return [f"| {cells[0]} |", "|" + "---|" * len(head), *(f"| {line} |" for line in cells[1:])]

    judged = [[r.title, r.ours, r.peer, r.figure, r.goal, r.verdict] for r in rows(works, results)]
    parts = ["## Beside the peers", "", f"`{results.command}`", "", "```text", *machine, "```", ""]
    parts += [
        "Medians over rounds in which the contenders take turns, each in a process of its own; in brackets how far the",
        "quartiles are from the median.",
        "",
    ]
    if judged:
        parts += [*table(list(HEAD), judged), ""]
    parts += [*table(*all_figures(works, results)), ""]
    parts += [f"- {line}" for line in left_out(results) + disturbed(results)]
    parts += ["", f"![curves]({picture})"] if picture else []
    return "\n".join(parts).rstrip() + "\n"


def show(works: Mapping[str, Work], results: Results) -> None:
    """Both tables on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 220)
    judged = Table(*HEAD, title="Goals (not judged: a quick run)" if results.quick else "Goals")
    for row in rows(works, results):
        style = {"MISSED": "red", "met": "green"}.get(row.verdict, "")
        judged.add_row(row.title, row.ours, row.peer, row.figure, row.goal, row.verdict, style=style)
    head, lines = all_figures(works, results)
    every = Table(*head, title="Every contender: median (quartiles)")
    for cells in lines:
        every.add_row(*cells)
    for table in (judged, every):
        if table.row_count:
            console.print(table, markup=False)
    for line in left_out(results) + disturbed(results):
        console.print(line, markup=False, highlight=False)
