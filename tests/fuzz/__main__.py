"""``python -m tests.fuzz``: random graphs in every way they can be computed, for as long as one likes."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from pathlib import Path

from tests.fuzz.campaign import STEPS, Campaign, unoptimized


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign; returns 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000, help="how many graphs (1000)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long, whatever is left")
    parser.add_argument("--seed", type=int, default=0, help="a seed is a campaign of its own (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first graph, to go on with a campaign (0)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"the most steps of a program ({STEPS})")
    parser.add_argument("--out", type=Path, default=None, help="a folder for failures, shrunk, and for figures")
    parser.add_argument("--optimized", action="store_true", help="let LLVM optimize: a seventh of the speed")
    parser.add_argument("--coverage", action="store_true", help="print how many graphs each op was in")
    options = parser.parse_args(arguments)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(options.seed, options.out, options.steps)
    with contextlib.nullcontext() if options.optimized else unoptimized():
        campaign.run(options.first, options.graphs, options.minutes * 60, lambda text: print(text, flush=True))
    print(campaign.summary())
    if options.coverage:
        print(campaign.coverage())
    for failure in campaign.failures:
        print(f"{failure.number} {failure.check}: {failure.message} {failure.file}")
    if options.out is not None:
        campaign.save(options.out / f"figures_{options.seed}_{options.first}.json")
    return bool(campaign.failures)


if __name__ == "__main__":
    sys.exit(main())
