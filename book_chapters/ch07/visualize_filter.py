"""Section 7.6.1: the filters of the first layer, before and after training.

    W1 (30, 1, 5, 5)        each filter from its lowest weight (white) to its highest (black)

Before training a filter is noise. After it, many are smooth blobs and edges: they answer to strokes of a direction. How
smooth they are is told by the correlation between a filter's neighbouring weights, 0 for noise.

The trained filters are those of ``ch07/params.npz``, which our own ``train_convnet`` made. ``--plot`` draws both grids.
In defnpy the untrained ones need no stored net: the same key draws them again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch07.filters import draw_grid
from book_chapters.ch07.load_params import OURS, load
from book_chapters.ch07.simple_convnet import init
from book_chapters.runner import Run, study

ACCEPTANCE = (
    Acceptance("filters", 30, 30, original="30"),
    Acceptance("neighbours before training", -0.15, 0.15, original="-"),
    Acceptance("neighbours after training", 0.3, 1.0, original="-"),
)

COLUMNS = 8


def neighbours(filters: Any) -> Any:
    """The correlation between weights that lie side by side, or one above the other: (count, height, width) -> ()."""
    pairs = [
        (filters[:, :, :-1], filters[:, :, 1:]),
        (filters[:, :-1], filters[:, 1:]),
    ]
    left, right = (dp.concat([dp.ravel(pair[i]) for pair in pairs]) for i in (0, 1))
    left, right = left - dp.mean(left), right - dp.mean(right)
    return dp.sum(left * right) / dp.sqrt(dp.sum(left**2) * dp.sum(right**2))


def main(run: Run) -> None:
    for when, params in (("before", init(run.key, dtype=run.dtype)), ("after", load(OURS, run.dtype))):
        filters = params["W1"][:, 0]
        smooth = neighbours(filters)
        lowest, highest = dp.min(filters).item(), dp.max(filters).item()
        run.say(f"{when:6s} training: weights {lowest:.3f} to {highest:.3f}, neighbours correlate {smooth.item():.2f}")
        run.figure("filters", filters.shape[0])
        run.figure(f"neighbours {when} training", smooth)
        flat = np.asarray(filters).reshape(filters.shape[0], -1)
        run.curve({f"filter {i}": weights for i, weights in enumerate(flat)}, when)
        run.picture(partial(draw_grid, images=filters, columns=COLUMNS, title=f"{when} training"), when)


if __name__ == "__main__":
    study(main)
