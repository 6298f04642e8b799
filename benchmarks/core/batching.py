"""vmap beside JAX's: per-example gradients of the two-layer net, and values of it for many parameters at once.

python -m benchmarks.core.batching [--quick]

Both are compiled, and take turns. What they return is compared before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..peers.two_layer import CLASSES, data

Calls = dict[str, Callable[[], Any]]


def losses() -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """The loss of one example, in defnpy and in JAX (None where it is not installed)."""
    import defnpy as dp

    def ours(p, x, t):
        z = dp.relu(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        return dp.logsumexp(z, axis=-1) - dp.sum(z * dp.one_hot(t, CLASSES, dtype=z.dtype), axis=-1)

    if importlib.util.find_spec("jax") is None:
        return ours, None
    import jax

    def theirs(p, x, t):
        z = jax.nn.relu(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        return jax.nn.logsumexp(z) - z[t]

    return ours, theirs


def calls(transform: str, in_axes: tuple[int | None, ...], operands: tuple[Any, ...]) -> Calls:
    """The same work in each library: ``vmap`` of the loss or of its gradient."""
    import defnpy as dp

    ours, theirs = losses()
    one = dp.grad(dp.defn(ours)) if transform == "grad" else dp.defn(ours)
    batched, tensors = dp.vmap(one, in_axes), dp.tree.map(dp.asarray, operands)
    found: Calls = {"defnpy": lambda: batched(*tensors)}
    if theirs is not None:
        import jax

        compiled = jax.jit(jax.vmap(jax.grad(theirs) if transform == "grad" else theirs, in_axes))
        arrays = jax.tree_util.tree_map(jax.numpy.asarray, operands)
        found["JAX"] = lambda: jax.block_until_ready(compiled(*arrays))
    return found


def works(quick: bool) -> dict[str, Calls]:
    """Name and calls of each work."""
    hidden, batch = (20, 10) if quick else (50, 100)
    params, x, t = data(hidden, batch)
    nets = {name: np.stack([value * (1 + i / 10) for i in range(10)]) for name, value in params.items()}
    net = f"net 784-{hidden}-10"
    return {
        f"gradient of each of {batch} examples, {net}": calls("grad", (None, 0, 0), (params, x, t)),
        f"loss of each of {batch} examples, {net}": calls("value", (None, 0, 0), (params, x, t)),
        f"gradient of one example for each of 10 {net}": calls("grad", (0, None, None), (nets, x[0], t[0])),
    }


def compared(work: Calls) -> None:
    """Raises AssertionError when the libraries disagree."""
    results = {name: call() for name, call in work.items()}
    ours = results.pop("defnpy")
    for other in results.values():
        pairs = [(ours[name], other[name]) for name in ours] if isinstance(ours, dict) else [(ours, other)]
        for a, b in pairs:
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-5)


def medians(work: Calls, rounds: int) -> dict[str, float]:
    """Seconds of a call of each contender, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small net, few rounds")
    quick = parser.parse_args().quick
    print("| work, float32 | defnpy us | JAX us | defnpy / JAX |\n|---|---|---|---|")
    for name, work in works(quick).items():
        compared(work)
        found = medians(work, 3 if quick else 300)
        ours, theirs = found["defnpy"] * 1e6, found.get("JAX", float("nan")) * 1e6
        print(f"| {name} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |")
    if importlib.util.find_spec("jax") is None:
        print("\nJAX is not installed: its figures are left out.")


if __name__ == "__main__":
    main()
