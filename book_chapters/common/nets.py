"""Nets of affine layers as pure functions over a dict of parameters (book: ``common/multi_layer_net*.py``).

    params = init(key, (784, 100, 10), "he")      {"W1": (784, 100), "b1": (100,), "W2": ...}
    scores = predict(params, x)
    value  = loss(params, x, t, decay)

With batch normalisation there are ``gamma1``, ``beta1`` ... among the parameters, and the running statistics are a
state that goes in and comes out: ``apply``. The number of layers is read from the parameters while tracing; activation,
and whether the net trains, are static.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import defnpy as dp
from defnpy.errors import ConfigError

from . import layers
from .functions import cross_entropy_with_logits

__all__ = ["ACTIVATIONS", "apply", "depth", "init", "init_state", "loss", "predict", "squared_weights", "weight_scale"]

Params = dict[str, dp.Tensor]
State = dict[str, dict[str, dp.Tensor]]

ACTIVATIONS = {"relu": layers.relu, "sigmoid": layers.sigmoid, "tanh": dp.tanh}
HE, XAVIER = ("he", "relu"), ("xavier", "sigmoid")


def weight_scale(scheme: float | str, inputs: int) -> float:
    """The standard deviation of weights that ``inputs`` numbers go through.

    A number is taken as it is; "he" (or "relu") is sqrt(2 / inputs), "xavier" (or "sigmoid") sqrt(1 / inputs).

    >>> weight_scale("he", 50), weight_scale("xavier", 100), weight_scale(0.01, 50)
    (0.2, 0.1, 0.01)
    """
    if isinstance(scheme, (int, float)):
        return float(scheme)
    name = scheme.lower()
    if name not in HE + XAVIER:
        raise ConfigError(f"unknown scheme of initial weights {scheme!r}", hint="a number, 'he' or 'xavier'")
    return math.sqrt((2.0 if name in HE else 1.0) / inputs)


def init(
    key: dp.Tensor, sizes: Sequence[int], scheme: float | str, *, dtype: Any = "float32", batch_norm: bool = False
) -> Params:
    """Weights from N(0, scale^2), one key each; biases 0. With batch_norm gamma 1 and beta 0 after all but the last.

    sizes: inputs, hidden layers, outputs.
    """
    keys = dp.random.split(key, len(sizes) - 1)
    params = {}
    for i, (n, m) in enumerate(itertools.pairwise(sizes), 1):
        params[f"W{i}"] = weight_scale(scheme, n) * dp.random.normal(keys[i - 1], (n, m), dtype=dtype)
        params[f"b{i}"] = dp.zeros((m,), dtype=dtype)
        if batch_norm and i < len(sizes) - 1:
            params[f"gamma{i}"] = dp.ones((m,), dtype=dtype)
            params[f"beta{i}"] = dp.zeros((m,), dtype=dtype)
    return params


def init_state(params: Params) -> State:
    """Running statistics for every gamma among the parameters; empty without batch normalisation."""
    return {
        name.removeprefix("gamma"): layers.batch_norm_state(value.shape[0], value.dtype)
        for name, value in params.items()
        if name.startswith("gamma")
    }


def depth(params: Params) -> int:
    """The number of affine layers."""
    return sum(name.startswith("W") for name in params)


def apply(
    params: Params,
    state: State,
    key: Any,
    x: Any,
    *,
    train: bool,
    activation: str = "relu",
    dropout: float = 0.0,
) -> tuple[Any, State]:
    """Scores of x (N, inputs), and the new running statistics.

    Each hidden layer: affine, batch normalisation if there is a gamma, activation, dropout if its ratio is above 0
    (its mask from ``key`` and the number of the layer, in training; otherwise ``key`` is not looked at).
    """
    last = depth(params)
    new: State = {}
    for i in range(1, last):
        x = layers.affine(x, params[f"W{i}"], params[f"b{i}"])
        if f"gamma{i}" in params:
            name = str(i)
            x, new[name] = layers.batch_norm(x, params[f"gamma{i}"], params[f"beta{i}"], state[name], train=train)
        x = ACTIVATIONS[activation](x)
        if dropout:
            x = layers.dropout(dp.random.fold_in(key, i) if train else None, x, ratio=dropout, train=train)
    return layers.affine(x, params[f"W{last}"], params[f"b{last}"]), new


def predict(params: Params, x: Any, *, activation: str = "relu") -> Any:
    """Scores of a net without batch normalisation and dropout."""
    return apply(params, {}, None, x, train=False, activation=activation)[0]


def squared_weights(params: Params) -> Any:
    """Half the sum of the squares of all W (not of b, gamma and beta): what weight decay multiplies."""
    return 0.5 * sum(dp.sum(value**2) for name, value in params.items() if name.startswith("W"))


def loss(params: Params, x: Any, t: Any, decay: Any = 0.0, *, activation: str = "relu") -> Any:
    """Cross-entropy of the scores plus ``decay`` times :func:`squared_weights`; decay may be traced."""
    return cross_entropy_with_logits(predict(params, x, activation=activation), t) + decay * squared_weights(params)
