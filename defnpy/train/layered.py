"""Nets made of the layers of ``defnpy.nn``, trained by an optimizer of ``defnpy.optim``: one compiled step for all."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import defnpy as dp
from defnpy import nn, optim

from ..data import batch_indices
from .net import Model
from .options import one_of, word_or_number

__all__ = ["CLASSES", "INITIALIZERS", "LEARNING_RATES", "State", "add_init", "add_optimizer", "initializer", "model"]

CLASSES = 10
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "nesterov": optim.Nesterov,
    "adagrad": optim.AdaGrad,
    "rmsprop": optim.RMSprop,
    "adam": optim.Adam,
}
# Those of chapter 6, where the optimizers are compared; RMSprop's first steps are ten times its rate.
LEARNING_RATES = {"sgd": 0.01, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01, "rmsprop": 0.001, "adam": 0.001}
# By the names of the book, whose Xavier initial value is sqrt(1 / inputs).
INITIALIZERS = {"he": nn.he_normal, "xavier": nn.lecun_normal}


class State(NamedTuple):
    """All that training changes: the parameters, what layers keep (running statistics), the optimizer's state."""

    params: Any
    layers: Any
    optimizer: Any


def model(
    net: nn.Layer, inputs: Callable[[Any, Any], Any], *, optimizer: str, batch_size: int, weight_decay: float = 0.0
) -> Model:
    """A net whose outputs are the scores of the classes, and whose loss is their cross-entropy.

    inputs(images, dtype) -> x: what the net takes, made of uint8 images (count, pixels).
    weight_decay: half of it times the sum of all squared weights (not biases) is part of the loss.
    """
    rule = OPTIMIZERS[optimizer]()

    def loss_of(params: Any, layers: Any, key: Any, images: Any, labels: Any) -> tuple[dp.Tensor, Any]:
        x = inputs(images, dp.tree.leaves(params)[0].dtype)
        scores, layers = net.apply(params, layers, x, key=key, train=True)
        value = nn.cross_entropy(scores, labels)
        if weight_decay:
            value = value + 0.5 * weight_decay * sum(dp.sum(w * w) for w in _weights(params))
        return value, layers

    @dp.defn
    def init(key: dp.Tensor) -> State:
        params, layers = net.init(key)
        return State(params, layers, rule.init(params))

    @dp.defn
    def step(
        state: State, key: dp.Tensor, iteration: int, images: dp.Tensor, labels: dp.Tensor, lr: float
    ) -> tuple[State, dp.Tensor]:
        keys = dp.random.split(key)
        rows = batch_indices(keys[0], iteration, images.shape[0], batch_size)
        x, t = dp.take(images, rows, axis=0), dp.take(labels, rows, axis=0)
        own = dp.random.fold_in(keys[1], iteration)
        (value, layers), grads = dp.value_and_grad(loss_of, has_aux=True)(state.params, state.layers, own, x, t)
        params, moved = dataclasses.replace(rule, lr=lr).update(state.params, grads, state.optimizer)
        return State(params, layers, moved), value

    @dp.defn
    def loss(params: Any, images: dp.Tensor, labels: dp.Tensor) -> dp.Tensor:
        key = dp.random.key(0)
        return loss_of(params, net.init(key)[1], key, images, labels)[0]

    @dp.defn
    def correct(state: State, images: dp.Tensor, labels: dp.Tensor) -> dp.Tensor:
        x = inputs(images, dp.tree.leaves(state.params)[0].dtype)
        scores, _ = net.apply(state.params, state.layers, x)
        return dp.sum(dp.argmax(scores, axis=-1) == labels)

    return Model(init, step, loss, correct, parameters=lambda state: state.params)


def _weights(params: Any) -> list[Any]:
    named = zip(dp.tree.paths(params), dp.tree.leaves(params), strict=True)
    return [leaf for path, leaf in named if path.endswith("['weight']")]


def initializer(setting: str | float) -> Any:
    """``he``, ``xavier``, or a number: the standard deviation of all weights."""
    return INITIALIZERS[setting] if isinstance(setting, str) else nn.normal(setting)


def add_optimizer(group: argparse._ArgumentGroup) -> None:
    """The option ``--optimizer``."""
    group.add_argument(
        "--optimizer",
        type=one_of(*OPTIMIZERS),
        metavar=f"{{{','.join(OPTIMIZERS)}}}",
        default=argparse.SUPPRESS,
        help="how a step follows from the gradient (default: adam)",
    )


def add_init(group: argparse._ArgumentGroup, meaning: str, *more: str) -> None:
    """The option ``--init``; ``more``: words it takes besides the initializers."""
    words = (*INITIALIZERS, *more)
    group.add_argument(
        "--init",
        type=word_or_number(*words),
        metavar=f"{{{','.join(words)},STD}}",
        default=argparse.SUPPRESS,
        help=meaning,
    )
