"""The book's NumPy for a step of chapter 6's nets, as its layers and optimizers compute it, all arrays in float32.

Layer after layer forwards and backwards, the gradient of the images included, which nobody reads; every result in a new
array but the parameters; and the loss twice, within the gradient and once more after the update. The other contenders
of these rows (``benchmarks.peers``) take the loss from the gradient's own pass and do not differentiate by the images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender
from ..peers import optimizers, regularised

Arrays = dict[str, np.ndarray]
f32 = np.float32


class Net:
    """Layers that keep in ``loss`` what ``gradient`` will need."""

    def __init__(self, layers: list[Arrays], running: list[Arrays], decay: float) -> None:
        self.layers, self.running, self.decay = layers, running, f32(decay)
        self.rng = np.random.default_rng(1)
        self.kept: list[dict[str, Any]] = []

    def loss(self, x: np.ndarray, t: np.ndarray, ratio: float | None) -> float:
        """Cross-entropy of softmax and one-hot labels, and the weights' decay."""
        self.kept = []
        for i, layer in enumerate(self.layers):
            kept: dict[str, Any] = {"x": x}
            x = np.dot(x, layer["weight"]) + layer["bias"]
            if i < len(self.layers) - 1:
                if "gamma" in layer:
                    x = self.normalise(x, layer, self.running[i], kept)
                kept["not positive"] = x <= 0
                x = x.copy()
                x[kept["not positive"]] = 0
                if ratio is not None:
                    kept["alive"] = self.rng.random(x.shape, dtype=f32) >= ratio
                    x = x * kept["alive"]
            self.kept.append(kept)
        shifted = np.exp(x - np.max(x, axis=-1, keepdims=True))
        self.y = shifted / np.sum(shifted, axis=-1, keepdims=True)
        rows = np.arange(len(t))
        value = -np.sum(np.log(self.y[rows, t.argmax(axis=1)] + f32(1e-7))) / len(t)
        if self.decay:
            for layer in self.layers:
                value += f32(0.5) * self.decay * np.sum(layer["weight"] ** 2)
        return float(value)

    @staticmethod
    def normalise(x: np.ndarray, layer: Arrays, running: Arrays, kept: dict[str, Any]) -> np.ndarray:
        """Batch normalisation; the running averages go along."""
        mean = x.mean(axis=0)
        centred = x - mean
        var = np.mean(centred**2, axis=0)
        deviation = np.sqrt(var + f32(regularised.EPSILON))
        kept |= {"centred": centred, "deviation": deviation, "normal": centred / deviation}
        for name, now in (("mean", mean), ("var", var)):
            momentum = f32(regularised.MOMENTUM)
            running[name] = momentum * running[name] + (1 - momentum) * now
        return layer["gamma"] * kept["normal"] + layer["beta"]

    def gradient(self, x: np.ndarray, t: np.ndarray, ratio: float | None) -> list[Arrays]:
        """By every parameter, with a forward pass of its own."""
        self.loss(x, t, ratio)
        g = (self.y - t) / f32(len(t))
        gradients = []
        for layer, kept in zip(reversed(self.layers), reversed(self.kept), strict=True):
            found = {}
            if "alive" in kept:
                g = g * kept["alive"]
            if "not positive" in kept:
                g[kept["not positive"]] = 0
            if "gamma" in layer:
                found = {"gamma": np.sum(kept["normal"] * g, axis=0), "beta": g.sum(axis=0)}
                g = self.normalise_backward(layer["gamma"] * g, kept)
            found |= {"weight": np.dot(kept["x"].T, g), "bias": np.sum(g, axis=0)}
            if self.decay:
                found["weight"] = found["weight"] + self.decay * layer["weight"]
            g = np.dot(g, layer["weight"].T)
            gradients.append(found)
        return gradients[::-1]

    @staticmethod
    def normalise_backward(g: np.ndarray, kept: dict[str, Any]) -> np.ndarray:
        """Through the normal values, the deviation, the variance and the mean, one after the other."""
        n, centred, deviation = len(g), kept["centred"], kept["deviation"]
        of_deviation = -np.sum((g * centred) / (deviation * deviation), axis=0)
        of_variance = f32(0.5) * of_deviation / deviation
        of_centred = g / deviation + f32(2 / n) * centred * of_variance
        return of_centred - np.sum(of_centred, axis=0) / f32(n)


def optimizer_of(name: str) -> Callable[[Arrays, Arrays, Arrays, Arrays, int], None]:
    """An update of one layer's parameters, of the first and the second thing that it remembers, and of the count."""
    rate, eps = f32(optimizers.RATES[name]), f32(optimizers.EPSILON)

    def update(params: Arrays, gradients: Arrays, first: Arrays, second: Arrays, count: int) -> None:
        corrected = rate * f32(np.sqrt(1 - 0.999**count) / (1 - 0.9**count))
        for key, g in gradients.items():
            if name == "sgd":
                params[key] -= rate * g
            elif name == "momentum":
                first[key] = f32(0.9) * first[key] - rate * g
                params[key] += first[key]
            elif name == "adagrad":
                second[key] += g * g
                params[key] -= rate * g / (np.sqrt(second[key]) + eps)
            else:
                first[key] += f32(1 - 0.9) * (g - first[key])
                second[key] += f32(1 - 0.999) * (g**2 - second[key])
                params[key] -= corrected * first[key] / (np.sqrt(second[key]) + eps)

    return update


def zeros_like(layers: list[Arrays]) -> list[Arrays]:
    return [{name: np.zeros_like(value) for name, value in layer.items()} for layer in layers]


def with_an_optimizer(optimizer: str, batch: int) -> Callable[[], Any]:
    """``optimizer_compare_mnist``."""
    layers, x, labels = optimizers.data(batch)
    net, t, update = Net(layers, [], 0.0), np.eye(10, dtype=f32)[labels], optimizer_of(optimizer)
    first, second = zeros_like(layers), zeros_like(layers)
    counts = itertools.count(1)

    def call():
        count = next(counts)
        for layer in zip(layers, net.gradient(x, t, None), first, second, strict=True):
            update(*layer, count)
        net.loss(x, t, None)
        return layers

    return call


def regularisation(net: str, batch: int) -> Callable[[], Any]:
    """``overfit_weight_decay``, ``overfit_dropout``, ``batch_norm_test``."""
    layers, running, x, labels = regularised.data(net, batch)
    model = Net(layers, running, regularised.DECAY if net == "weight decay" else 0.0)
    t = np.eye(10, dtype=f32)[labels]
    ratios = itertools.chain([0.0], itertools.repeat(regularised.RATIO))

    def call():
        ratio = next(ratios) if net == "dropout" else None
        for params, gradient in zip(layers, model.gradient(x, t, ratio), strict=True):
            for key, g in gradient.items():
                params[key] -= f32(regularised.RATE) * g
        after = [dict(averages) for averages in running]
        model.loss(x, t, ratio)
        return regularised.compared(layers, after)

    return call


OPTIMIZERS = Contender("the book's NumPy", with_an_optimizer, "numpy")
REGULARISED = Contender("the book's NumPy", regularisation, "numpy")
