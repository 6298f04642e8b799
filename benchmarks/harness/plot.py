"""The curves, and every work beside its peers, as one picture. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .report import Results
from .work import OURS, Work


def draw(works: Mapping[str, Work], results: Results, file: Path) -> bool:
    """Write the picture; False if matplotlib is not installed or nothing was measured."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    curves = [name for name in results.points if works[name].curve]
    others = [name for name in results.points if not works[name].curve and _relative(works, results, name)]
    panels = len(curves) + bool(others)
    if not panels:
        return False
    names = list(dict.fromkeys(c.name for name in (*others, *curves) for c in works[name].contenders))
    colours = {name: f"C{number}" for number, name in enumerate(sorted(names, key=lambda n: n != OURS))}
    figure, axes = pyplot.subplots(1, panels, figsize=(6 * panels, 5), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], curves, strict=False):
        points = results.points[name]
        parameter = next(iter(points[0].parameters))
        for peer in (contender.name for contender in works[name].contenders):
            found = [(p.parameters[parameter], p.medians[peer]) for p in points if peer in p.samples]
            if found:
                axis.loglog(*zip(*found, strict=True), "o-", label=peer, color=colours[peer])
        axis.set(title=works[name].title, xlabel=parameter, ylabel="seconds")
        axis.grid(alpha=0.3)
        axis.legend()
    if others:
        axis = axes[0][-1]
        labels: list[str] = []
        for name in others:
            for title, relative in _relative(works, results, name):
                for peer, ratio in relative.items():
                    axis.plot(ratio, len(labels), "o", color=colours[peer])
                labels.append(title)
        axis.axvline(1, color=colours[OURS], label=OURS)
        for peer in names:
            if peer != OURS:
                axis.plot([], [], "o", color=colours[peer], label=peer)
        axis.set(title=f"time (or memory) over that of {OURS}", xscale="log", yticks=range(len(labels)))
        axis.set_yticklabels(labels)
        axis.invert_yaxis()
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return True


def _relative(works: Mapping[str, Work], results: Results, name: str) -> list[tuple[str, dict[str, float]]]:
    """For each point that defnpy took part in: a label, and the others' medians over defnpy's."""
    found = []
    for number, point in enumerate(results.points[name]):
        if OURS in point.samples:
            title = name if len(results.points[name]) == 1 else f"{name} {number + 1}"
            ours = point.medians[OURS]
            found.append((title, {n: m / ours for n, m in point.medians.items() if n != OURS and m > 0 and ours > 0}))
    return found
