"""Loops: over numbers and over small arrays beside the same ones written by hand for Numba (and by JAX, if installed),
and how the way back grows with its length.

python -m benchmarks.core.loops [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import defnpy as dp

F64 = "float64"


def least(run: Callable[[], Any], repeats: int) -> float:
    """The least time of a call, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def counted(x: Any, n: Any) -> Any:
    """A recurrence of one number, n times."""
    return dp.fori_loop(0, n, lambda i, x: 3.7 * x * (1.0 - x) + 1e-3 * i, x)


def until(x: Any, n: Any) -> Any:
    """The same as long as a test says so."""

    def step(state: Any) -> Any:
        x, i = state
        return 3.7 * x * (1.0 - x) + 1e-9 * i, i + 1

    return dp.while_loop(lambda state: state[1] < n, step, (x, 0))[0]


def by_hand() -> Callable[[float, int], float]:
    """The loop of ``until`` for Numba."""
    import numba

    @numba.njit
    def loop(x: float, n: int) -> float:
        i = 0
        while i < n:
            x = 3.7 * x * (1.0 - x) + 1e-9 * i
            i += 1
        return x

    return loop


def elementwise(elements: int, n: int) -> dict[str, Callable[[], Any]]:
    """A recurrence of each of some numbers, n times: calls by who computes it."""
    import numba

    x = np.linspace(0.1, 0.9, elements, dtype=np.float32)
    given = dp.asarray(x)
    ours = dp.defn(lambda x: dp.fori_loop(0, n, lambda i, c: c * 0.999 + 0.001 * c * c * x, x))

    @numba.njit
    def by_hand(x: Any) -> Any:
        c = x.copy()
        for _ in range(n):
            for j in range(len(c)):
                c[j] = c[j] * np.float32(0.999) + np.float32(0.001) * c[j] * c[j] * x[j]
        return c

    calls: dict[str, Callable[[], Any]] = {"defnpy": lambda: ours(given), "Numba by hand": lambda: by_hand(x)}
    if importlib.util.find_spec("jax") is not None:
        import jax

        theirs = jax.jit(lambda x: jax.lax.fori_loop(0, n, lambda i, c: c * 0.999 + 0.001 * c * c * x, x))
        there = jax.numpy.asarray(x)
        calls["JAX"] = lambda: theirs(there).block_until_ready()
    return calls


def compare(elements: int, n: int, repeats: int) -> None:
    """Print the nanoseconds of an iteration, medians of calls in turns."""
    calls = elementwise(elements, n)
    expected = np.asarray(calls["defnpy"]())
    for call in calls.values():
        np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-3)  # some round once less
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(least(call, 1))
    found = ", ".join(f"{name} {statistics.median(times) / n * 1e9:.1f} ns" for name, times in seconds.items())
    print(f"  {elements:>6,} elements, an iteration: {found}")


def reverse(lengths: list[int], repeats: int) -> float:
    """Print the seconds of the gradient through ``until``; the exponent of their growth at the long end."""

    def wave(x: Any, n: Any) -> Any:
        return dp.while_loop(lambda c: c[1] < n, lambda c: (dp.sin(c[0]) + 0.1 * x, c[1] + 1), (x, 0))[0]

    gradient = dp.defn(dp.grad(wave))
    x = dp.asarray(0.3, dtype=F64)
    seconds = []
    for n in lengths:
        gradient(x, n)
        seconds.append(least(lambda n=n: gradient(x, n), repeats))
        print(f"  {n:>9,} steps  {seconds[-1] * 1e3:9.3f} ms  {seconds[-1] / n * 1e9:7.1f} ns a step")
    return math.log(seconds[-1] / seconds[-2]) / math.log(lengths[-1] / lengths[-2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter loops")
    quick = parser.parse_args().quick
    n, repeats = (100_000, 5) if quick else (1_000_000, 10)
    x, steps = dp.asarray(0.3, dtype=F64), dp.asarray(n)
    ours, hand = dp.defn(until), by_hand()
    assert np.isclose(float(ours(x, steps)), hand(0.3, n))
    own, other = least(lambda: ours(x, steps), repeats), least(lambda: hand(0.3, n), repeats)
    print(f"while_loop of one number, {n:,} steps")
    print(f"  defnpy {own * 1e3:.3f} ms, Numba by hand {other * 1e3:.3f} ms: ratio {own / other:.2f}")
    fori = dp.defn(counted)
    fori(x, steps)
    print(f"  the same by fori_loop {least(lambda: fori(x, steps), repeats) * 1e3:.3f} ms")
    print("fori_loop over an array, element by element")
    for elements in (2, 8, 32, 100, 1000):
        compare(elements, 1000 if quick else 20_000, repeats)
    print("gradient through a while_loop whose length only the data decide")
    lengths = [100, 1000, 10_000] if quick else [100, 1000, 10_000, 100_000]
    exponent = reverse(lengths, repeats)
    print(f"  time grows as n**{exponent:.2f} from {lengths[-2]:,} to {lengths[-1]:,} steps")


if __name__ == "__main__":
    main()
