"""The main job beside its peers: wall time of the whole run, from the start of the process to its end.

    python -m benchmarks.train.two_layer_net [--quick] [--repeats 3] [--seeds 0 1 2]

Every contender trains the net 784-50-10 for 10,000 iterations of batch 100 and evaluates it 17 times on all 70,000
images, in a process of its own. The contenders take turns, so that a slow minute hurts them all; medians are compared.
OPENBLAS_CORETYPE is unset for all, and each library chooses its number of threads. Prints a block for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OURS = ("-m", "defnpy.train", "two_layer_net")
# Main job against peer, as the issue that set the targets words them: at most so much of the peer's time.
TARGETS = (("NumPy float64, as the book", 0.2), ("NumPy float32", 0.6), ("JAX", 1.0))


@dataclass(frozen=True)
class Contender:
    """A program, the words after its name, and how it finds its compiled kernels: "cold", "warm", or none to find."""

    name: str
    words: tuple[str, ...]
    kernels: str = ""
    needs: str = ""


CONTENDERS = (
    Contender("defnpy, kernels on disk", OURS, "warm"),
    Contender("defnpy, no kernels yet", OURS, "cold"),
    Contender("NumPy float64, as the book", ("-m", "benchmarks.train.numpy_net", "--style", "book")),
    Contender("NumPy float32", ("-m", "benchmarks.train.numpy_net", "--style", "fair")),
    Contender("JAX", ("-m", "benchmarks.train.jax_net"), "cold", "jax"),
    Contender("JAX, its cache on disk", ("-m", "benchmarks.train.jax_net"), "warm", "jax"),
    Contender("JAX, scan over an epoch", ("-m", "benchmarks.train.jax_net", "--scan"), "cold", "jax"),
)


@dataclass
class Timing:
    """Seconds of every repeat, and the last test accuracy."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


def run(words: Sequence[str], kernels: Path, iterations: int) -> tuple[float, float, dict[str, Any]]:
    """Wall seconds, CPU seconds and the JSON of one run in a fresh process, its compiled kernels in ``kernels``."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, *words, "--iterations", str(iterations), "--json", str(report)]
        if "benchmarks.train.jax_net" in words:
            command += ["--cache", str(kernels)]
        unset = ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        environment["DEFNPY_CACHE_DIR"] = str(kernels)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall, cpu, json.loads(report.read_text(encoding="utf-8"))


def compete(contenders: Sequence[Contender], repeats: int, iterations: int, kernels: Path) -> dict[str, Timing]:
    """Time every contender ``repeats`` times, in turns."""
    timings = {contender.name: Timing() for contender in contenders}
    for contender in contenders:
        if contender.kernels == "warm":
            run(contender.words, kernels / contender.name, iterations=1)
    for repeat in range(repeats):
        for contender in contenders:
            warm = contender.kernels == "warm"
            folder = kernels / (contender.name if warm else f"{contender.name} {repeat}")
            wall, cpu, report = run(contender.words, folder, iterations)
            timing = timings[contender.name]
            timing.wall.append(wall)
            timing.cpu.append(cpu)
            timing.report = report
            print(f"{contender.name:28s} {wall:7.2f} s wall {cpu:7.2f} s CPU", file=sys.stderr)
    return timings


def accuracies(seeds: Sequence[int], iterations: int, kernels: Path) -> dict[str, list[float]]:
    """The test accuracy of the main job for each activation and seed."""
    return {
        activation: [
            run((*OURS, "--activation", activation, "--seed", str(seed)), kernels, iterations)[2]["test_accuracy"]
            for seed in seeds
        ]
        for activation in ("relu", "sigmoid")
    }


def machine() -> str:
    """Processor, cores, and the versions of everything that computes."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    names = ("numpy", "numba", "llvmlite", "jax")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if importlib.util.find_spec(name)]
    cores = len(os.sched_getaffinity(0))
    return f"{model or platform.processor()}, {cores} cores, Python {platform.python_version()}, {', '.join(versions)}"


def markdown(
    timings: dict[str, Timing], by_seed: dict[str, list[float]], seeds: Sequence[int], iterations: int, skipped: str
) -> str:
    """The block for RESULTS.md."""
    medians = {name: statistics.median(timing.wall) for name, timing in timings.items()}
    ours = medians[CONTENDERS[0].name]
    repeats = len(timings[CONTENDERS[0].name].wall)
    lines = [
        "## Training: two_layer_net, the whole run",
        "",
        f"`python -m benchmarks.train.two_layer_net --repeats {repeats}`, {datetime.date.today()}; {machine()}.",
        f"{iterations:,} iterations of batch 100 and all evaluations on 60,000 and 10,000 images; wall time from the",
        f"start of the process to its end, median of {repeats}, contenders in turns, OPENBLAS_CORETYPE unset for all.",
        "The loss comes from the gradient's own forward pass; only the book's style computes a second one, as it does.",
        "",
        "| contender | wall s | CPU s | slower than defnpy, kernels on disk | test accuracy, seed 0 |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, timing in timings.items():
        lines.append(
            f"| {name} | {medians[name]:.2f} | {statistics.median(timing.cpu):.2f} | {medians[name] / ours:.2f} x "
            f"| {timing.report['test_accuracy']:.4f} |"
        )
    lines += [skipped] if skipped else []
    lines += [
        "",
        "| defnpy takes, of the time of | kernels on disk | no kernels yet | target |",
        "|---|---:|---:|---:|",
    ]
    cold = medians[CONTENDERS[1].name]
    for name, target in TARGETS:
        if name in medians:
            lines.append(f"| {name} | {ours / medians[name]:.2f} | {cold / medians[name]:.2f} | {target:.1f} |")
    for contender, label in zip(CONTENDERS[:2], ("on disk", "not on disk"), strict=True):
        report = timings[contender.name].report
        lines += [
            "",
            f"Kernels {label}: first step after {report['first_step_seconds']:.2f} s (imports not counted), "
            f"then {report['images_per_second']:,.0f} images/s.",
        ]
    lines += [
        "",
        "| test accuracy | " + " | ".join(f"seed {seed}" for seed in seeds) + " |",
        "|---|" + "---:|" * len(seeds),
    ]
    for activation, values in by_seed.items():
        lines.append(f"| {activation} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 iterations, once, seed 0: does the program work?")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    iterations, repeats, seeds = (20, 1, [0]) if options.quick else (10_000, options.repeats, options.seeds)
    present = [c for c in CONTENDERS if not c.needs or importlib.util.find_spec(c.needs)]
    absent = [c.name for c in CONTENDERS if c not in present]
    skipped = f"\nNot measured, as JAX is not installed: {'; '.join(absent)}." if absent else ""
    with tempfile.TemporaryDirectory() as folder:
        timings = compete(present, repeats, iterations, Path(folder))
        by_seed = accuracies(seeds, iterations, Path(folder) / CONTENDERS[0].name)
    print(markdown(timings, by_seed, seeds, iterations, skipped))


if __name__ == "__main__":
    main()
