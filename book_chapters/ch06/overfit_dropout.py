"""Section 6.4.3: dropout against overfitting.

    in training h * mask, where each element of the mask is 0 with probability 0.2; afterwards h * 0.8

The net and the 300 images of overfit_weight_decay, for 301 epochs. In every update each unit goes missing with
probability 0.2, so none can rely on another. The gap between training and test narrows, because training becomes so
much harder: the net is far from done when the book stops.

In defnpy the masks come from a key and the number of the update. The share that is dropped is static, so the training
without dropout is another program, which draws no random numbers.
"""

from __future__ import annotations

from book_chapters.acceptance import Acceptance
from book_chapters.ch06.overfitting import keep, learn
from book_chapters.runner import Run, study
from defnpy.errors import ConfigError

OPTIONS = {"epochs": "of three updates each", "ratio": "share of units dropped in the second training"}
QUICK = {"epochs": 21}
ACCEPTANCE = (
    Acceptance("off train", 0.99, 1.0, original="1.000, 1.000"),
    Acceptance("off test", 0.73, 0.79, original="0.762, 0.764"),
    Acceptance("dropout train", 0.55, 0.75, original="0.617, 0.683"),
    Acceptance("dropout gap", 0.08, 0.18, original="0.129, 0.126"),
)


def main(run: Run, *, epochs: int = 301, ratio: float = 0.2) -> None:
    if not 0 <= ratio < 1:
        raise ConfigError(f"--ratio {ratio:g}: a share is from 0 to 1, and not all units can be dropped")
    keep(run, {"off": learn(run, "off", epochs), "dropout": learn(run, "dropout", epochs, dropout=ratio)})


if __name__ == "__main__":
    study(main)
