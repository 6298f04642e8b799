"""A net with one hidden layer, as in chapters 4 and 5 of "Deep Learning from Scratch".

    z = activation(x W1 + b1) W2 + b2        loss = mean(logsumexp(z) - z[label])

Softmax and cross-entropy are one formula here: taking the logarithm of the softmax by hand leaves the log-sum-exp,
which neither overflows nor needs the book's 1e-7 inside the logarithm.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import defnpy as dp

from ..data import batch_indices
from .net import Model, Net
from .options import one_of, positive_integer

__all__ = ["NET", "correct", "init", "loss", "predict", "step"]

Params = dict[str, dp.Tensor]

CLASSES = 10
ACTIVATIONS = {"relu": dp.relu, "sigmoid": dp.sigmoid}


@dp.defn
def init(key: dp.Tensor, *, inputs: int, hidden: int, scale: float = 0.01) -> Params:
    """Weights from N(0, scale^2), biases 0: float32 W1 (inputs, hidden), b1 (hidden,), W2 (hidden, 10), b2 (10,)."""
    keys = dp.random.split(key, 2)
    return {
        "W1": scale * dp.random.normal(keys[0], (inputs, hidden), dtype=dp.float32),
        "b1": dp.zeros((hidden,), dtype=dp.float32),
        "W2": scale * dp.random.normal(keys[1], (hidden, CLASSES), dtype=dp.float32),
        "b2": dp.zeros((CLASSES,), dtype=dp.float32),
    }


@dp.defn
def predict(params: Params, images: dp.Tensor, *, activation: str) -> dp.Tensor:
    """One score per class, larger is likelier: (count, 10) for uint8 images (count, inputs)."""
    x = images.astype(params["W1"].dtype) * (1 / 255)
    hidden = ACTIVATIONS[activation](x @ params["W1"] + params["b1"])
    return hidden @ params["W2"] + params["b2"]


@dp.defn
def loss(params: Params, images: dp.Tensor, labels: dp.Tensor, *, activation: str) -> dp.Tensor:
    """Mean cross-entropy over the images: float (), log(10) for a net that knows nothing."""
    scores = predict(params, images, activation=activation)
    of_the_label = dp.sum(scores * dp.one_hot(labels, CLASSES, dtype=scores.dtype), axis=-1)
    return dp.mean(dp.logsumexp(scores, axis=-1) - of_the_label)


@dp.defn
def step(
    params: Params,
    key: dp.Tensor,
    iteration: int,
    images: dp.Tensor,
    labels: dp.Tensor,
    lr: float,
    *,
    batch_size: int,
    activation: str,
) -> tuple[Params, dp.Tensor]:
    """Descend along the gradient on a batch drawn from ``images``: the new parameters, and the loss of the old ones."""
    rows = batch_indices(key, iteration, images.shape[0], batch_size)
    x, t = dp.take(images, rows, axis=0), dp.take(labels, rows, axis=0)
    value, grads = dp.value_and_grad(partial(loss, activation=activation))(params, x, t)
    return dp.tree.map(lambda p, g: p - lr * g, params, grads), value


@dp.defn
def correct(params: Params, images: dp.Tensor, labels: dp.Tensor, *, activation: str) -> dp.Tensor:
    """How many of the images get their label: int64 ()."""
    return dp.sum(dp.argmax(predict(params, images, activation=activation), axis=-1) == labels)


def _add_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--activation",
        type=one_of(*ACTIVATIONS),
        metavar=f"{{{','.join(ACTIVATIONS)}}}",
        default=argparse.SUPPRESS,
        help="of the hidden layer (default: relu, as in chapter 5; chapter 4 uses sigmoid)",
    )
    group.add_argument(
        "--hidden",
        type=positive_integer,
        metavar="UNITS",
        default=argparse.SUPPRESS,
        help="width of the hidden layer (default: 50)",
    )


def _build(settings: Mapping[str, Any], size: tuple[int, int]) -> Model:
    activation, hidden = settings["activation"], settings["hidden"]
    return Model(
        init=lambda key: init(key, inputs=math.prod(size), hidden=hidden),
        step=partial(step, batch_size=settings["batch_size"], activation=activation),
        loss=partial(loss, activation=activation),
        correct=partial(correct, activation=activation),
    )


NET = Net(
    name="two_layer_net",
    summary="one hidden layer, softmax with cross-entropy, plain gradient descent (chapters 4 and 5 of the book)",
    own={"activation": "relu", "hidden": 50},
    add_options=_add_options,
    build=_build,
    common={"batch_size": 100, "iterations": 10_000},
    lr=0.1,
    examples=(("--activation sigmoid --seed 1", "as chapter 4"),),
)
