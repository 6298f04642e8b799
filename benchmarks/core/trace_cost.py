"""What a node costs: to trace, to simplify, to lower; and a gradient of it; what all passes over 100,000 nodes take.
JAX's trace stands beside, if installed.

python -m benchmarks.core.trace_cost [--quick]
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import defnpy as dp
from defnpy.lower.program import lower
from defnpy.passes.pipeline import PASSES, optimize
from defnpy.passes.simplify import simplify


def chain(x: Any, length: int) -> Any:
    """``2 * length`` nodes, none equal to another."""
    for _ in range(length):
        x = x * 1.5 + x
    return x


def wave(x: Any, length: int) -> Any:
    """``4 * length`` nodes, whose derivative needs all of them."""
    for _ in range(length):
        x = dp.sin(x * 1.5) * x + x
    return x


def median(run: Callable[[], Any], repeats: int) -> float:
    """The median time of a call, in seconds, without garbage collection."""
    times = []
    gc.collect()
    gc.disable()
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    gc.enable()
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short chain, few repeats")
    quick = parser.parse_args().quick
    length, repeats = (100, 3) if quick else (2000, 9)
    nodes = 2 * length
    x = dp.ones(4)
    function = dp.defn(lambda x: chain(x, length))
    gradient = dp.grad(dp.defn(lambda x: dp.sum(chain(x, length))))
    graph = function.expr(x)
    rows = [
        ("trace", lambda: function.expr(x)),
        ("trace with gradient (per forward node)", lambda: gradient.expr(x)),
        ("simplify", lambda: simplify(graph)),
        ("lower", lambda: lower(graph)),
    ]
    print("| work | us per node (median) |\n|---|---|")
    for name, run in rows:
        print(f"| defnpy: {name} | {median(run, repeats) / nodes * 1e6:.2f} |")
    large = 1000 if quick else 100_000
    waves = dp.grad(dp.defn(lambda x: dp.sum(wave(x, large // 8))))
    for name, function in (("a chain", dp.defn(lambda x: chain(x, large // 2))), ("a gradient", waves)):
        graph = function.expr(x)
        seconds, count = median(lambda graph=graph: optimize(graph), 3), len(graph.nodes())
        of = f"{name} of {count:,} nodes"
        print(f"| defnpy: all {len(PASSES)} passes over {of}: {seconds:.2f} s | {seconds / count * 1e6:.2f} |")
    if importlib.util.find_spec("jax") is None:
        print("\nJAX is not installed: its row is left out.")
        return
    import jax
    import jax.numpy as jnp

    y = jnp.ones(4)
    seconds = median(lambda: jax.make_jaxpr(lambda x: chain(x, length))(y), repeats)
    print(f"| JAX: trace (make_jaxpr) | {seconds / nodes * 1e6:.2f} |")


if __name__ == "__main__":
    main()
