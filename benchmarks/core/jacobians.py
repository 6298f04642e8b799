"""Whole Jacobians and Hessians, defnpy's beside JAX's (if installed), each jit-compiled and called on warm arrays.

The Jacobian of a map from 100 numbers to 100 (two dense layers), forwards and backwards; the Hessian of functions of 50
numbers: a logistic regression on 200 examples, and Rosenbrock's valley.

python -m benchmarks.core.jacobians [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import defnpy as dp


def functions(m: Any, put: Callable[[Any], Any]) -> dict[str, tuple[Any, Any]]:
    """Map, kind of derivative and point by name, written for one array namespace."""
    rng = np.random.default_rng(0)
    first, second, images = (put(rng.standard_normal(s) / 10) for s in ((100, 100), (100, 100), (200, 50)))
    labels, x, w = put((rng.random(200) > 0.5) * 1.0), put(rng.standard_normal(100)), put(rng.standard_normal(50) / 5)

    def layers(x: Any) -> Any:
        return m.tanh(second @ m.tanh(first @ x))

    def logistic(w: Any) -> Any:
        z = images @ w
        losses = m.log1p(m.exp(-m.abs(z))) + m.maximum(z, 0) - labels * z
        return m.mean(losses) + 0.1 * m.sum(w * w)

    def valley(w: Any) -> Any:
        return m.sum(100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)

    return {
        "jacfwd of 100 -> 100": ("jacfwd", layers, x),
        "jacrev of 100 -> 100": ("jacrev", layers, x),
        "hessian of a logistic regression, 50": ("hessian", logistic, w),
        "hessian of Rosenbrock's valley, 50": ("hessian", valley, w),
    }


def timed(run: Callable[[], Any], repeats: int) -> float:
    """The median time of a call, in microseconds."""
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    repeats = 5 if parser.parse_args().quick else 500
    peer: Any = None
    if importlib.util.find_spec("jax") is not None:
        import jax as peer

        peer.config.update("jax_enable_x64", True)
    print("| derivative | dtype | defnpy us | JAX us | largest difference |\n|---|---|---|---|---|")
    for dtype in ("float32", "float64"):
        ours = functions(dp, lambda a, dtype=dtype: dp.asarray(a.astype(dtype)))
        theirs = functions(peer.numpy, lambda a, dtype=dtype: peer.numpy.asarray(a.astype(dtype))) if peer else {}
        for name, (kind, function, point) in ours.items():
            compiled = dp.defn(getattr(dp, kind)(function))
            row = f"| {name} | {dtype} | {timed(lambda f=compiled, x=point: f(x), repeats):.1f} |"
            if peer is None:
                print(row + " not installed | |")
                continue
            _, function, there = theirs[name]
            jitted = peer.jit(getattr(peer, kind)(function))
            spent = timed(lambda f=jitted, x=there: f(x).block_until_ready(), repeats)
            difference = np.abs(np.asarray(compiled(point)) - np.asarray(jitted(there))).max()
            print(f"{row} {spent:.1f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
