"""``import defnpy`` beside ``import numpy``: fresh processes, interleaved, medians.

    python -m benchmarks.core.import_time [--quick]

The goal is at most 2.5 times NumPy's own import (defnpy's includes it). Both find their modules compiled to
bytecode, as Python leaves them after the first import.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

PROGRAM = "import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """How long one import takes in a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three runs instead of fifteen")
    repeats = 3 if parser.parse_args().quick else 15
    for module in ("numpy", "defnpy"):
        seconds(module)  # the files are in the page cache afterwards, for both
    found: dict[str, list[float]] = {"numpy": [], "defnpy": []}
    for _ in range(repeats):
        for module in found:
            found[module].append(seconds(module))
    numpy, defnpy = (statistics.median(found[m]) for m in ("numpy", "defnpy"))
    print("| import | ms (median) | ratio |\n|---|---|---|")
    print(f"| numpy | {numpy * 1e3:.1f} | 1 |\n| defnpy | {defnpy * 1e3:.1f} | {defnpy / numpy:.2f} |")


if __name__ == "__main__":
    main()
