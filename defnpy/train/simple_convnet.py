"""The convolutional net of chapter 7 of "Deep Learning from Scratch".

conv 30 @ 5x5 - relu - max pool 2x2 - affine 100 - relu - affine 10
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import defnpy as dp
from defnpy import nn

from ..errors import ConfigError
from . import layered
from .net import Model, Net
from .options import positive_integer

__all__ = ["NET", "layers"]


def layers(settings: Mapping[str, Any], size: tuple[int, int]) -> nn.Chain:
    """The layers for these settings, and for images of that height and width. Raises ``ConfigError`` for a filter that
    is larger than the image."""
    filters, side, hidden = settings["filters"], settings["filter_size"], settings["hidden"]
    height, width = (n - side + 1 for n in size)
    if height < 2 or width < 2:
        raise ConfigError(
            f"--filter-size {side}: on images of {size[0]} x {size[1]} pixels nothing is left for the pooling",
            hint=f"choose {min(size) - 1} at most",
        )
    weight = layered.initializer(settings["init"])
    return nn.Chain(
        nn.Conv(1, filters, side, dp.relu, weight=weight),
        nn.MaxPool(2),
        nn.Flatten(),
        nn.Dense(filters * (height // 2) * (width // 2), hidden, dp.relu, weight=weight),
        nn.Dense(hidden, layered.CLASSES, weight=weight),
    )


def _build(settings: Mapping[str, Any], size: tuple[int, int]) -> Model:
    return layered.model(
        layers(settings, size),
        lambda images, dtype: dp.reshape(images, (-1, 1, *size)).astype(dtype) * (1 / 255),
        optimizer=settings["optimizer"],
        batch_size=settings["batch_size"],
    )


def _add_options(group: argparse._ArgumentGroup) -> None:
    def add(option: str, meaning: str) -> None:
        group.add_argument(option, type=positive_integer, metavar="N", default=argparse.SUPPRESS, help=meaning)

    add("--filters", "filters of the convolution (default: 30)")
    add("--filter-size", "their height and width (default: 5)")
    add("--hidden", "width of the hidden layer (default: 100)")
    layered.add_init(group, "of the weights; STD: one standard deviation for all (default: 0.01)")
    layered.add_optimizer(group)


NET = Net(
    name="simple_convnet",
    summary="convolution, pooling and a hidden layer, Adam (chapter 7)",
    own={"filters": 30, "filter_size": 5, "hidden": 100, "init": 0.01, "optimizer": "adam"},
    add_options=_add_options,
    build=_build,
    common={"batch_size": 100, "iterations": 12_000},
    lr=layered.LEARNING_RATES,
    examples=(
        ("--epochs 1", "0.96 of the test images after 600 batches"),
        ("--init he --optimizer momentum", ""),
    ),
)
