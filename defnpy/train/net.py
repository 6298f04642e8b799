"""What the training command needs to know of a net: the two records that a net's module fills in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import defnpy as dp

__all__ = ["Model", "Net"]


class Model(NamedTuple):
    """A net with its settings chosen: pure functions over a container of parameters (any container of tensors).

    init(key, inputs) -> params: the parameters before training, for images of ``inputs`` pixels.
    step(params, key, iteration, images, labels, lr) -> (params, loss): one iteration on the batch that ``key`` and
        ``iteration`` choose; the loss, float32 (), is that of the given params, from the gradient's own forward pass.
    loss(params, images, labels) -> float (), in the dtype of the params.
    correct(params, images, labels) -> int (): how many of the images are given their label.

    images is uint8 (count, inputs), labels is uint8 (count,).
    """

    init: Callable[[dp.Tensor, int], Any]
    step: Callable[[Any, dp.Tensor, int, dp.Tensor, dp.Tensor, float], tuple[Any, dp.Tensor]]
    loss: Callable[[Any, dp.Tensor, dp.Tensor], dp.Tensor]
    correct: Callable[[Any, dp.Tensor, dp.Tensor], dp.Tensor]


@dataclass(frozen=True)
class Net:
    """A net that can be named on the command line.

    summary: one line for the help.
    own: the settings that only this net has, with their defaults. They shape the parameters or the function, so a
        resumed run keeps them.
    add_options: adds their options to a parser. An option that is not given must leave no trace
        (``default=argparse.SUPPRESS``), so that a resumed run can tell what was asked for.
    build: all settings, common and own -> the model.
    common: this net's defaults for settings that every net has (``lr``, ``batch_size``, ``iterations``).
    """

    name: str
    summary: str
    own: Mapping[str, Any]
    add_options: Callable[[argparse._ArgumentGroup], None]
    build: Callable[[Mapping[str, Any]], Model]
    common: Mapping[str, Any]
