"""A step of training of chapter 6's regularised nets, batch 100: loss, gradient and plain descent.

    weight decay   784, six times 100, 10; relu; 0.05 times the sum of squared weights in the loss
    dropout        the same net; each hidden unit is dropped with probability 0.2, from masks that the step draws
    batch norm     784, five times 100, 10; batch normalisation (epsilon 1e-6) before relu; running averages go along

The share that is dropped is an argument of the step, and 0 in the first call: so the first results, which are compared,
do not depend on how a library draws random numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, at_most_of_best_peer

HIDDEN = {"weight decay": 6, "dropout": 6, "batch norm": 5}
RATE, DECAY, RATIO, EPSILON, MOMENTUM = 0.01, 0.1, 0.2, 1e-6, 0.9
Layers = list[dict[str, np.ndarray]]


def data(net: str, batch: int) -> tuple[Layers, Layers, np.ndarray, np.ndarray]:
    """Layers, running averages of each hidden one (batch norm alone), images uniform in [0, 1), labels int32."""
    rng = np.random.default_rng(0)
    sizes = (784, *(100,) * HIDDEN[net], 10)
    layers = [
        {
            "weight": (np.sqrt(2 / n) * rng.standard_normal((n, m))).astype(np.float32),
            "bias": np.zeros(m, np.float32),
        }
        for n, m in itertools.pairwise(sizes)
    ]
    running: Layers = []
    if net == "batch norm":
        for layer in layers[:-1]:
            layer["gamma"] = np.ones(100, np.float32)
            layer["beta"] = np.zeros(100, np.float32)
            running.append({"mean": np.zeros(100, np.float32), "var": np.zeros(100, np.float32)})
    return layers, running, rng.random((batch, 784), dtype=np.float32), rng.integers(0, 10, batch, dtype=np.int32)


def compared(layers: Any, running: Any) -> Any:
    """What must be equal: all but the biases before a batch norm, which takes them away again: theirs is rounding."""
    kept = [{k: v for k, v in layer.items() if "gamma" not in layer or k != "bias"} for layer in layers]
    return kept, running


def with_defnpy(net: str, batch: int) -> Callable[[], Any]:
    import defnpy as dp

    def loss(params, running, key, ratio, x, t):
        after = []
        for i, layer in enumerate(params[:-1]):
            x = x @ layer["weight"] + layer["bias"]
            if net == "batch norm":
                mean, var = dp.mean(x, axis=0), dp.var(x, axis=0)
                now = {"mean": mean, "var": var}
                after.append(dp.tree.map(lambda a, b: MOMENTUM * a + (1 - MOMENTUM) * b, running[i], now))
                x = layer["gamma"] * ((x - mean) / dp.sqrt(var + EPSILON)) + layer["beta"]
            x = dp.relu(x)
            if net == "dropout":
                x = dp.where(dp.random.uniform(dp.random.fold_in(key, i), x.shape) >= ratio, x, 0)
        z = x @ params[-1]["weight"] + params[-1]["bias"]
        of_the_label = dp.sum(z * dp.one_hot(t, 10, dtype=z.dtype), axis=-1)
        value = dp.mean(dp.logsumexp(z, axis=-1) - of_the_label)
        if net == "weight decay":
            value = value + 0.5 * DECAY * sum(dp.sum(layer["weight"] ** 2) for layer in params)
        return value, after

    @dp.defn(donate=("params", "running"))
    def step(params, running, key, ratio, x, t):
        (value, running), gradient = dp.value_and_grad(loss, has_aux=True)(params, running, key, ratio, x, t)
        return dp.tree.map(lambda p, g: p - RATE * g, params, gradient), running, value

    layers, running, x, t = dp.tree.map(dp.asarray, data(net, batch))
    keys = (dp.random.key(i) for i in itertools.count())
    ratios = itertools.chain([dp.asarray(0.0)], itertools.repeat(dp.asarray(RATIO)))

    def call():
        nonlocal layers, running
        layers, running, _ = step(layers, running, next(keys), next(ratios), x, t)
        return compared(layers, running)

    return call


def with_jax(net: str, batch: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    def loss(params, running, key, ratio, x, t):
        after = []
        for i, layer in enumerate(params[:-1]):
            x = x @ layer["weight"] + layer["bias"]
            if net == "batch norm":
                mean, var = jnp.mean(x, axis=0), jnp.var(x, axis=0)
                now = {"mean": mean, "var": var}
                after.append(jax.tree.map(lambda a, b: MOMENTUM * a + (1 - MOMENTUM) * b, running[i], now))
                x = layer["gamma"] * ((x - mean) / jnp.sqrt(var + EPSILON)) + layer["beta"]
            x = jax.nn.relu(x)
            if net == "dropout":
                x = jnp.where(jax.random.uniform(jax.random.fold_in(key, i), x.shape) >= ratio, x, 0)
        z = x @ params[-1]["weight"] + params[-1]["bias"]
        value = jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, t[:, None], axis=1)[:, 0])
        if net == "weight decay":
            value = value + 0.5 * DECAY * sum(jnp.sum(layer["weight"] ** 2) for layer in params)
        return value, after

    def step(params, running, key, ratio, x, t):
        (value, running), gradient = jax.value_and_grad(loss, has_aux=True)(params, running, key, ratio, x, t)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradient), running, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    layers, running, x, t = jax.tree.map(jnp.asarray, data(net, batch))
    keys = (jax.random.PRNGKey(i) for i in itertools.count())
    ratios = itertools.chain([jnp.float32(0.0)], itertools.repeat(jnp.float32(RATIO)))

    def call():
        nonlocal layers, running
        layers, running, _ = jax.block_until_ready(compiled(layers, running, next(keys), next(ratios), x, t))
        return compared(layers, running)

    return call


def with_numpy(net: str, batch: int) -> Callable[[], Any]:
    """float32 throughout, updates in place, one forward pass, the book's formulas for the way back."""
    layers, running, images, t = data(net, batch)
    rows, rate = np.arange(batch), np.float32(RATE)
    rng = np.random.default_rng(1)
    ratios = itertools.chain([0.0], itertools.repeat(RATIO))

    def call():
        ratio, x, kept = np.float32(next(ratios)), images, []
        for i, layer in enumerate(layers[:-1]):
            a = x @ layer["weight"] + layer["bias"]
            saved = [x]
            if net == "batch norm":
                mean = a.mean(axis=0)
                a -= mean
                var = (a * a).mean(axis=0)
                deviation = np.sqrt(var + np.float32(EPSILON))
                a /= deviation
                saved += [a, deviation]
                for name, now in (("mean", mean), ("var", var)):
                    running[i][name] = np.float32(MOMENTUM) * running[i][name] + np.float32(1 - MOMENTUM) * now
                a = layer["gamma"] * a + layer["beta"]
            mask = a > 0
            if net == "dropout":
                mask &= rng.random(a.shape, dtype=np.float32) >= ratio
            x = a * mask
            kept.append((*saved, mask))
        z = x @ layers[-1]["weight"] + layers[-1]["bias"]
        z -= z.max(axis=1, keepdims=True)
        value = -float(np.mean(z[rows, t]))
        np.exp(z, out=z)
        total = z.sum(axis=1, keepdims=True)
        value += float(np.mean(np.log(total)))
        if net == "weight decay":
            value += 0.5 * DECAY * sum(float(np.sum(layer["weight"] ** 2)) for layer in layers)
        z /= total
        z[rows, t] -= 1
        g = z * np.float32(1 / batch)
        for i in reversed(range(len(layers))):
            layer = layers[i]
            if i < len(layers) - 1:
                x, *normal, mask = kept[i]
                g = g * mask
                if normal:
                    a, deviation = normal
                    d_gamma, d_beta = (g * a).sum(axis=0), g.sum(axis=0)
                    d = g * layer["gamma"]
                    g = (d - d.mean(axis=0) - a * (d * a).mean(axis=0)) / deviation
                    layer["gamma"] -= rate * d_gamma
                    layer["beta"] -= rate * d_beta
            weight_gradient, bias_gradient = x.T @ g, g.sum(axis=0)
            if net == "weight decay":
                weight_gradient += np.float32(DECAY) * layer["weight"]
            g = g @ layer["weight"].T if i else g
            layer["weight"] -= rate * weight_gradient
            layer["bias"] -= rate * bias_gradient
        return compared(layers, running)

    return call


WORKS = (
    Work(
        "regularised",
        "chapter 6's nets with weight decay, dropout, batch norm, batch 100: loss, gradient and descent",
        (
            Contender("NumPy", with_numpy, "numpy"),
            Contender("defnpy", with_defnpy, "defnpy"),
            Contender("JAX", with_jax, "jax"),
        ),
        variants=tuple({"net": name, "batch": 100} for name in HIDDEN),
        quick=({"net": "batch norm", "batch": 8},),
        goals=(at_most_of_best_peer(1.0),),
        tolerance=1e-4,
    ),
)
