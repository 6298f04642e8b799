"""Matrix products by panels of our own beside those by OpenBLAS, on one core: what ``panels.suits`` decides by.

python -m benchmarks.core.products [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
from typing import Any

import numpy as np

import defnpy as dp
from defnpy.backends.cpu import panels

SIZES = [(32, 64, 64), (100, 784, 50), (784, 100, 50), (100, 50, 10), (100, 1000, 10), (100, 784, 1000),
         (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (100, 4320, 100), (576, 25, 30),
         (30, 57600, 25), (30, 576, 25)]  # fmt: skip


def seconds(m: int, k: int, n: int, transposed: tuple[bool, bool], by_panels: bool, rounds: int) -> float:
    """The median time of the step alone."""
    rng = np.random.default_rng(0)
    a = dp.asarray(rng.standard_normal((k, m) if transposed[0] else (m, k)).astype("float32"))
    b = dp.asarray(rng.standard_normal((n, k) if transposed[1] else (k, n)).astype("float32"))

    def product(a: Any, b: Any) -> Any:
        return (a.T if transposed[0] else a) @ (b.T if transposed[1] else b)

    decide = panels.suits
    panels.suits = lambda product: by_panels
    try:
        with dp.config(threads=1, backend="cpu"):
            compiled = dp.defn(product).compile(a, b)
    finally:
        panels.suits = decide
    return statistics.median(compiled.measure(a, b)[0] for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes, once")
    quick = parser.parse_args().quick
    os.environ.pop("OPENBLAS_CORETYPE", None)  # read when the library is loaded, which is later
    sizes, rounds = (SIZES[:2], 1) if quick else (SIZES, 5)
    print("| m, k, n | transposed | panels us | OpenBLAS us | ratio |\n|---|---|---:|---:|---:|")
    for m, k, n in sizes:
        for transposed in ((False, False), (False, True), (True, False)):
            own, blas = (seconds(m, k, n, transposed, choice, rounds) * 1e6 for choice in (True, False))
            which = "".join(name for name, is_so in zip("ab", transposed, strict=True) if is_so) or "-"
            print(f"| {m}, {k}, {n} | {which} | {own:.2f} | {blas:.2f} | {own / blas:.2f} |", flush=True)


if __name__ == "__main__":
    main()
