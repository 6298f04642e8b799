"""Loops: a loop over numbers beside the same one written by hand for Numba, and how the way back grows with its length.

python -m benchmarks.core.loops [--quick]
"""

from __future__ import annotations

import argparse
import math
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
    print("gradient through a while_loop whose length only the data decide")
    lengths = [100, 1000, 10_000] if quick else [100, 1000, 10_000, 100_000]
    exponent = reverse(lengths, repeats)
    print(f"  time grows as n**{exponent:.2f} from {lengths[-2]:,} to {lengths[-1]:,} steps")


if __name__ == "__main__":
    main()
