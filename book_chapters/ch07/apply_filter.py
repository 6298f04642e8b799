"""Section 7.6.1: what sixteen trained filters make of a picture.

    y[k, i, j] = sum over a, b of W[k, a, b] x[i + a, j + b]        (256, 256) -> (16, 252, 252)

Each filter slides over a picture of 256x256 and leaves one of 252x252: bright where the picture looks like the filter.
The picture is a test card that formulas draw (``ch07/drawn_card.py``); the book takes a photograph.

In defnpy this is the convolution that the net trains with, compiled once more for another size of image. The page
checks it against NumPy, which multiplies every window with every filter.
"""

from __future__ import annotations

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch07.drawn_card import drawn_card
from book_chapters.ch07.filters import draw_grid
from book_chapters.ch07.load_params import OURS, load
from book_chapters.runner import Run, study

ACCEPTANCE = (
    Acceptance("responses", 16, 16, original="16"),
    Acceptance("side of a response", 252, 252, original="252"),
    Acceptance("difference from NumPy", 0, 1e-5, original="-"),
)

FILTERS = 16

respond = dp.defn(dp.conv)


def main(run: Run) -> None:
    card = drawn_card(run.dtype)
    filters = load(OURS, run.dtype)["W1"][:FILTERS]
    responses = respond(card[None, None], filters)[0]
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(card, np.float64), filters.shape[2:])
    expected = np.einsum("yxij,fij->fyx", windows, np.asarray(filters[:, 0], np.float64))
    difference = np.abs(np.asarray(responses) - expected).max()
    run.say(f"test card {card.shape}, filters {filters.shape}: responses {responses.shape}")
    run.say(f"largest difference from NumPy in float64: {difference:.1e}")
    run.figure("responses", responses.shape[0])
    run.figure("side of a response", responses.shape[1])
    run.figure("difference from NumPy", difference)
    run.picture(lambda figure: draw_grid(figure, card[None], 1, inches=4.0, cmap="gray"), "card")
    run.picture(lambda figure: draw_grid(figure, filters[:, 0], 4), "filters")
    run.picture(lambda figure: draw_grid(figure, responses, 4, inches=2.2), "responses")


if __name__ == "__main__":
    study(main)
