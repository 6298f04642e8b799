"""Section 6.2.2: how the activations of five layers spread, for different initial weights.

    h <- activation(h W)        five times, W ~ N(0, w^2),   w = 1, 0.01, sqrt(1/n), sqrt(2/n)

1000 rows of normal numbers go through layers of n = 100 units. Sigmoids of wide weights sit at 0 and 1, where their
gradient is 0; those of narrow weights all say 0.5, so a hundred of them say no more than one; sqrt(1/n) (Xavier) keeps
a spread. With relu the activations die out layer by layer unless the variance is doubled (He).

The book asks the reader to edit the script for each combination; here all twelve are one table, and ``--activation``
and ``--std`` choose what is drawn. In defnpy the five layers are one compiled function per activation: the width is an
argument.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.runner import Run, study
from defnpy.errors import ConfigError

__all__ = ["ACTIVATIONS", "WIDTHS", "activations"]

ROWS, UNITS, LAYERS = 1000, 100, 5
ACTIVATIONS = {"sigmoid": dp.sigmoid, "relu": dp.relu, "tanh": dp.tanh}
WIDTHS = {"1": 1.0, "0.01": 0.01, "xavier": math.sqrt(1 / UNITS), "he": math.sqrt(2 / UNITS)}
OPTIONS = {
    "activation": f"whose histograms are drawn: {', '.join(ACTIVATIONS)}",
    "std": f"of the weights whose histograms are drawn: {', '.join(WIDTHS)}",
}


def _spread(figure: str, mean: float, deviation: float, original: float) -> Acceptance:
    """Three deviations: relu's deep layers differ much from draw to draw, as their rows come to resemble each other.

    Mean and deviation are those of 200 runs of the original with different seeds.
    """
    text = f"{original:g} ({mean:.3g} +- {deviation:.2g} in 200 runs)"
    return near(figure, mean, 3 * deviation, text)


ACCEPTANCE = (
    near("sigmoid 1 std of layer 1", 0.458, 0.03),
    near("sigmoid 1 std of layer 5", 0.437, 0.03),
    near("sigmoid 1 outside (.05, .95) of layer 1", 0.765, 0.05),
    near("sigmoid 0.01 std of layer 1", 0.025, 0.03),
    near("sigmoid 0.01 std of layer 5", 0.012, 0.03),
    near("sigmoid xavier std of layer 1", 0.208, 0.03),
    near("sigmoid xavier std of layer 5", 0.116, 0.03),
    near("tanh 0.01 std of layer 1", 0.099, 0.03),
    near("tanh 0.01 std of layer 5", 0.00001, 0.03),
    near("tanh xavier std of layer 1", 0.626, 0.03),
    near("tanh xavier std of layer 5", 0.314, 0.03),
    near("relu 0.01 mean of layer 1", 0.040, 0.008),
    near("relu xavier mean of layer 1", 0.397, 0.08),
    _spread("relu xavier mean of layer 5", 0.0975, 0.016, 0.117),
    near("relu he mean of layer 1", 0.561, 0.11),
    near("relu he std of layer 1", 0.828, 0.16),
    _spread("relu he mean of layer 5", 0.551, 0.090, 0.660),
    _spread("relu he std of layer 5", 0.822, 0.115, 1.001),
    near("relu 1 mean of layer 1", 3.97, 0.79),
    _spread("relu 1 mean of layer 5", 9750, 1590, 11659),
)
REPORTED = {acceptance.figure for acceptance in ACCEPTANCE}


@dp.defn
def activations(key: dp.Tensor, width: Any, *, activation: str, dtype: Any = "float32") -> list[dp.Tensor]:
    """The outputs of the five layers, (1000, 100) each."""
    input_key, *keys = [dp.random.fold_in(key, i) for i in range(LAYERS + 1)]
    x = dp.random.normal(input_key, (ROWS, UNITS), dtype=dtype)
    outputs = []
    for key in keys:
        x = ACTIVATIONS[activation](x @ (width * dp.random.normal(key, (UNITS, UNITS), dtype=dtype)))
        outputs.append(x)
    return outputs


def draw(figure: Any, outputs: list[np.ndarray]) -> None:
    """A histogram per layer, from 0 to 1."""
    for i, (axes, h) in enumerate(zip(figure.subplots(1, LAYERS, sharey=True), outputs, strict=True)):
        axes.hist(h.ravel(), 30, range=(0, 1))
        axes.set(title=f"{i + 1}-layer")


def main(run: Run, *, activation: str = "sigmoid", std: str = "1") -> None:
    for word, known in ((activation, ACTIVATIONS), (std, WIDTHS)):
        if word not in known:
            raise ConfigError(f"{word!r} is none of {', '.join(known)}")
    run.say("activation  std      layer      mean       std   outside (.05, .95)")
    columns: dict[str, list[Any]] = {
        "activation": [],
        "std": [],
        "layer": [],
        "mean": [],
        "deviation": [],
        "outside": [],
    }
    for name in ACTIVATIONS:
        for width, value in WIDTHS.items():
            found = activations(run.key, value, activation=name, dtype=run.dtype)
            outputs = [np.asarray(h) for h in found]
            if (name, width) == (activation, std):
                run.picture(partial(draw, outputs=outputs))
            for layer, h in enumerate(outputs, 1):
                outside = float(np.mean((h < 0.05) | (h > 0.95)))
                row = (name, width, layer, float(h.mean()), float(h.std()), outside)
                for column, item in zip(columns.values(), row, strict=True):
                    column.append(item)
                run.say("{:11s} {:8s} {:5d} {:9.4g} {:9.4g}  {:8.1%}".format(*row))
                for what, item in (("mean", row[3]), ("std", row[4]), ("outside (.05, .95)", outside)):
                    if (figure := f"{name} {width} {what} of layer {layer}") in REPORTED:
                        run.figure(figure, item)
    run.curve(columns)


if __name__ == "__main__":
    study(main)
