"""A net of any depth, as in chapter 6 of "Deep Learning from Scratch": what its sections compare is an option here.

affine - [batch norm] - activation - [dropout], for each hidden layer; then affine to the scores of the classes
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

import defnpy as dp
from defnpy import nn

from ..errors import ConfigError
from . import layered
from .net import Model, Net
from .options import number_from_0, one_of, positive_integer, ratio

__all__ = ["NET", "layers"]

ACTIVATIONS = {"relu": dp.relu, "sigmoid": dp.sigmoid, "tanh": dp.tanh}
SUITED = {"relu": "he", "sigmoid": "xavier", "tanh": "xavier"}


def layers(settings: Mapping[str, Any], inputs: int) -> nn.Chain:
    """The layers for these settings, and for images of so many pixels."""
    activation, init = settings["activation"], settings["init"]
    weight = layered.initializer(SUITED[activation] if init == "auto" else init)
    found: list[Any] = []
    for _ in range(settings["layers"]):
        found.append(nn.Dense(inputs, settings["hidden"], weight=weight))
        if settings["batch_norm"]:
            found.append(nn.BatchNorm(settings["hidden"], eps=1e-6))  # the book's
        found.append(ACTIVATIONS[activation])
        if settings["dropout"]:
            found.append(nn.Dropout(settings["dropout"]))
        inputs = settings["hidden"]
    return nn.Chain(*found, nn.Dense(inputs, layered.CLASSES, weight=weight))


def _build(settings: Mapping[str, Any], size: tuple[int, int]) -> Model:
    if settings["batch_norm"] and settings["batch_size"] == 1:
        raise ConfigError("--batch-norm: one image has no variance", hint="choose a --batch-size of 2 or more")
    return layered.model(
        layers(settings, math.prod(size)),
        lambda images, dtype: images.astype(dtype) * (1 / 255),
        optimizer=settings["optimizer"],
        batch_size=settings["batch_size"],
        weight_decay=settings["weight_decay"],
    )


def _add_options(group: argparse._ArgumentGroup) -> None:
    def add(option: str, **more: Any) -> None:
        group.add_argument(option, default=argparse.SUPPRESS, **more)

    add("--layers", type=positive_integer, metavar="N", help="hidden layers (default: 4)")
    add("--hidden", type=positive_integer, metavar="UNITS", help="width of the hidden layers (default: 100)")
    add(
        "--activation",
        type=one_of(*ACTIVATIONS),
        metavar=f"{{{','.join(ACTIVATIONS)}}}",
        help="of the hidden layers (default: relu)",
    )
    layered.add_init(
        group, "of the weights; STD: one standard deviation for all (default: auto, he for relu, else xavier)", "auto"
    )
    add("--batch-norm", action=argparse.BooleanOptionalAction, help="normalise before every activation (default: no)")
    add("--dropout", type=ratio, metavar="RATIO", help="of activations, while training (default: 0)")
    add("--weight-decay", type=number_from_0, metavar="LAMBDA", help="0.5 LAMBDA sum(W²) in the loss (default: 0)")
    layered.add_optimizer(group)


NET = Net(
    name="multi_layer_net",
    summary="hidden layers with batch norm, dropout, weight decay, six optimizers (chapter 6)",
    own={
        "layers": 4,
        "hidden": 100,
        "activation": "relu",
        "init": "auto",
        "batch_norm": False,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "optimizer": "adam",
    },
    add_options=_add_options,
    build=_build,
    common={"batch_size": 100, "iterations": 10_000},
    lr=layered.LEARNING_RATES,
    examples=(
        ("--optimizer sgd --batch-norm", "as section 6.3"),
        ("--init 0.01 --optimizer sgd", "too small: nothing is learned (section 6.2)"),
        ("--layers 6 --dropout 0.2 --weight-decay 1e-4", "against overfitting (section 6.4)"),
    ),
)
