"""What a ``where`` costs in a gradient: each beside the same one without, and beside JAX's with it (if installed).

Below a ``where`` products leave out what is dead, behind a look at whether anything is infinite or NaN
(docs/design/0005). All that is computed here is finite, so that the look is all that may cost.

python -m benchmarks.core.masks [--quick]
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

RNG = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    """Random float32 of a size that keeps activations moderate."""
    return 0.1 * RNG.standard_normal(shape).astype(np.float32)


def net(m: Any, masked: bool) -> Callable[..., Any]:
    """Two layers with a relu, written with where or not."""

    def loss(p: Any, x: Any) -> Any:
        z = x @ p[0]
        return m.mean(m.square((m.where(z > 0, z, 0) if masked else m.maximum(z, 0)) @ p[1]))

    return loss


def rows(m: Any, masked: bool) -> Callable[..., Any]:
    """Ten layers below a loss of which some rows count."""
    known = RNG.random(32) > 0.3

    def loss(p: Any, x: Any) -> Any:
        for w in p:
            x = m.tanh(x @ w)
        each = m.sum(x * x, axis=1)
        return m.sum(m.where(known, each, 0) if masked else each)

    return loss


def attention(m: Any, masked: bool) -> Callable[..., Any]:
    """Four layers with a causal mask."""
    causal = np.tril(np.ones((32, 32), bool))

    def loss(p: Any, x: Any) -> Any:
        for q, k, v in p:
            scores = (x @ q) @ m.permute_dims(x @ k, (0, 2, 1))
            scores = m.where(causal, scores, -m.inf) if masked else scores
            weights = m.exp(scores - m.max(scores, axis=-1, keepdims=True))
            x = x + m.tanh(weights / m.sum(weights, axis=-1, keepdims=True) @ (x @ v))
        return m.mean(m.square(x))

    return loss


WORKS: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "two layers, a relu by where": (net, [drawn(784, 50), drawn(50, 10)], drawn(100, 784)),
    "ten layers, a mask of rows": (rows, [drawn(64, 64) for _ in range(10)], drawn(32, 64)),
    "attention, causal": (attention, [[drawn(64, 64) for _ in range(3)] for _ in range(4)], drawn(8, 32, 64)),
}


def medians(calls: dict[str, Callable[[], Any]], repeats: int, calls_each: int) -> dict[str, float]:
    """Microseconds of a call, medians of blocks in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            began = time.perf_counter()
            for _ in range(calls_each):
                call()
            times[name].append((time.perf_counter() - began) / calls_each * 1e6)
    return {name: statistics.median(found) for name, found in times.items()}


def compare(make: Callable[..., Any], parameters: Any, x: Any, repeats: int, each: int) -> dict[str, float]:
    """Microseconds of the gradient without a where, with it, and JAX's with it."""
    plain, masked = (dp.defn(dp.grad(make(dp, given))) for given in (False, True))
    p, data = dp.tree.map(dp.asarray, parameters), dp.asarray(x)
    calls: dict[str, Callable[[], Any]] = {"without": lambda: plain(p, data), "with": lambda: masked(p, data)}
    if importlib.util.find_spec("jax") is not None:
        import jax

        theirs = jax.jit(jax.grad(make(jax.numpy, True)))
        there = jax.tree.map(jax.numpy.asarray, (parameters, x))
        calls["JAX"] = lambda: jax.block_until_ready(theirs(*there))
    return medians(calls, repeats, each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few calls")
    repeats, each = (2, 2) if parser.parse_args().quick else (15, 100)
    print("| gradient, float32 | without us | with a where us | with / without | JAX with it us |")
    print("|---|---|---|---|---|")
    for name, work in WORKS.items():
        found = compare(*work, repeats, each)
        other = f"{found['JAX']:.0f}" if "JAX" in found else ""
        ratio = found["with"] / found["without"]
        print(f"| {name} | {found['without']:.1f} | {found['with']:.1f} | {ratio:.2f} | {other} |")


if __name__ == "__main__":
    main()
