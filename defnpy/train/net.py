"""What the training command needs to know of a net: the two records that a net's module fills in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import defnpy as dp

__all__ = ["Model", "Net"]


class Model(NamedTuple):
    """A net with its settings chosen: pure functions over its state, any container of tensors.

    init(key) -> state: all that training changes, before it begins.
    step(state, key, iteration, images, labels, lr) -> (state, loss): one iteration on the batch that ``key`` and
        ``iteration`` choose; the loss, float32 (), is that of the given state, from the gradient's own forward pass.
    loss(params, images, labels) -> float (), in the dtype of the params: what is differentiated.
    correct(state, images, labels) -> int (): how many of the images are given their label.
    parameters(state) -> params: the part of the state that the gradient moves; all of it for the simplest nets.

    images is uint8 (count, pixels), labels is uint8 (count,).
    """

    init: Callable[[dp.Tensor], Any]
    step: Callable[[Any, dp.Tensor, int, dp.Tensor, dp.Tensor, float], tuple[Any, dp.Tensor]]
    loss: Callable[[Any, dp.Tensor, dp.Tensor], dp.Tensor]
    correct: Callable[[Any, dp.Tensor, dp.Tensor], dp.Tensor]
    parameters: Callable[[Any], Any] = lambda state: state


@dataclass(frozen=True)
class Net:
    """A net that can be named on the command line.

    summary: one line for the help.
    own: the settings that only this net has, with their defaults. They shape the parameters or the function, so a
        resumed run keeps them.
    add_options: adds their options to a parser. An option that is not given must leave no trace
        (``default=argparse.SUPPRESS``), so that a resumed run can tell what was asked for.
    build: all settings, common and own, and height and width of the images -> the model.
    common: this net's defaults for settings that every net has (``batch_size``, ``iterations``).
    lr: the learning rate where none is given; or one for each value of the setting ``optimizer``.
    examples: options and what they are for, for the help.
    """

    name: str
    summary: str
    own: Mapping[str, Any]
    add_options: Callable[[argparse._ArgumentGroup], None]
    build: Callable[[Mapping[str, Any], tuple[int, int]], Model]
    common: Mapping[str, Any]
    lr: float | Mapping[str, float]
    examples: Sequence[tuple[str, str]] = ()

    def rate(self, settings: Mapping[str, Any]) -> float:
        """The learning rate that goes with other settings."""
        return self.lr if isinstance(self.lr, float) else self.lr[settings["optimizer"]]
