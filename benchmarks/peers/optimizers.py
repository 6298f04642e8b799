"""A step of training of chapter 6's net (784, four times 100, 10; relu, He): loss, gradient, one of four optimizers.

Adagrad's and Adam's epsilon is 1e-7. Adam is in the form of the book; torch adds its epsilon after the correction, so
that one is given which makes the first step the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, at_most_of_best_peer

SIZES = (784, 100, 100, 100, 100, 10)
RATES = {"sgd": 0.01, "momentum": 0.01, "adagrad": 0.01, "adam": 0.001}
EPSILON = 1e-7
Layers = list[dict[str, np.ndarray]]


def data(batch: int) -> tuple[Layers, np.ndarray, np.ndarray]:
    """Weights (inputs, outputs) from N(0, 2 / inputs), biases 0; images uniform in [0, 1), labels int32."""
    rng = np.random.default_rng(0)
    layers = [
        {
            "weight": (np.sqrt(2 / n) * rng.standard_normal((n, m))).astype(np.float32),
            "bias": np.zeros(m, np.float32),
        }
        for n, m in itertools.pairwise(SIZES)
    ]
    return layers, rng.random((batch, SIZES[0]), dtype=np.float32), rng.integers(0, 10, batch, dtype=np.int32)


def with_defnpy(optimizer: str, batch: int) -> Callable[[], Any]:
    import defnpy as dp

    kinds = {"sgd": dp.optim.SGD, "momentum": dp.optim.Momentum, "adagrad": dp.optim.AdaGrad, "adam": dp.optim.Adam}
    rule = kinds[optimizer](lr=RATES[optimizer])
    hidden = [dp.nn.Dense(n, m, dp.relu) for n, m in itertools.pairwise(SIZES[:-1])]
    net = dp.nn.Chain(*hidden, dp.nn.Dense(*SIZES[-2:]))

    def loss(params, x, t):
        return dp.nn.cross_entropy(net.apply(params, ((),) * len(net), x)[0], t)

    @dp.defn(donate=("params", "state"))
    def step(params, state, x, t):
        value, gradient = dp.value_and_grad(loss)(params, x, t)
        return *rule.update(params, gradient, state), value

    arrays, x, t = data(batch)
    params, x, t = dp.tree.map(dp.asarray, (tuple(arrays), x, t))
    state = rule.init(params)

    def call():
        nonlocal params, state
        params, state, _ = step(params, state, x, t)
        return params

    return call


def with_jax(optimizer: str, batch: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    rate = RATES[optimizer]

    def loss(params, x, t):
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["weight"] + layer["bias"])
        z = x @ params[-1]["weight"] + params[-1]["bias"]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, t[:, None], axis=1)[:, 0])

    def update(params, g, first, second, count):
        count = count + 1
        if optimizer == "sgd":
            params = jax.tree.map(lambda p, g: p - rate * g, params, g)
        elif optimizer == "momentum":
            first = jax.tree.map(lambda v, g: 0.9 * v - rate * g, first, g)
            params = jax.tree.map(lambda p, v: p + v, params, first)
        elif optimizer == "adagrad":
            second = jax.tree.map(lambda h, g: h + g * g, second, g)
            params = jax.tree.map(lambda p, g, h: p - rate * g / (jnp.sqrt(h) + EPSILON), params, g, second)
        else:
            first = jax.tree.map(lambda m, g: m + 0.1 * (g - m), first, g)
            second = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), second, g)
            scale = rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
            params = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + EPSILON), params, first, second)
        return params, first, second, count

    @jax.jit
    def step(state, x, t):
        params, first, second, count = state
        value, gradient = jax.value_and_grad(loss)(params, x, t)
        return update(params, gradient, first, second, count), value

    params, x, t = jax.tree.map(jnp.asarray, data(batch))
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, zeros, jnp.float32(0))

    def call():
        nonlocal state
        state, _ = jax.block_until_ready(step(state, x, t))
        return state[0]

    return call


def with_torch(optimizer: str, batch: int) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import cross_entropy

    arrays, x, t = data(batch)
    params = [{name: torch.tensor(value, requires_grad=True) for name, value in layer.items()} for layer in arrays]
    x, t = torch.tensor(x), torch.tensor(t).long()
    leaves, rate = [value for layer in params for value in layer.values()], RATES[optimizer]
    rule = {
        "sgd": lambda: torch.optim.SGD(leaves, lr=rate, fused=True),
        "momentum": lambda: torch.optim.SGD(leaves, lr=rate, momentum=0.9, fused=True),
        "adagrad": lambda: torch.optim.Adagrad(leaves, lr=rate, eps=EPSILON, fused=True),
        "adam": lambda: torch.optim.Adam(leaves, lr=rate, eps=EPSILON / (1 - 0.999) ** 0.5, fused=True),
    }[optimizer]()

    def call():
        rule.zero_grad()
        h = x
        for layer in params[:-1]:
            h = torch.relu(torch.addmm(layer["bias"], h, layer["weight"]))
        cross_entropy(torch.addmm(params[-1]["bias"], h, params[-1]["weight"]), t).backward()
        rule.step()
        return params

    return call


def with_numpy(optimizer: str, batch: int) -> Callable[[], Any]:
    """float32 throughout, updates in place, one forward pass."""
    params, x, t = data(batch)
    rows, rate, count = np.arange(batch), np.float32(RATES[optimizer]), 0
    first = [{name: np.zeros_like(value) for name, value in layer.items()} for layer in params]
    second = [{name: np.zeros_like(value) for name, value in layer.items()} for layer in params]

    def value_and_gradient() -> tuple[float, Layers]:
        activations = [x]
        for layer in params[:-1]:
            activations.append(np.maximum(activations[-1] @ layer["weight"] + layer["bias"], 0))
        z = activations[-1] @ params[-1]["weight"] + params[-1]["bias"]
        z -= z.max(axis=1, keepdims=True)
        of_the_label = z[rows, t]
        np.exp(z, out=z)
        total = z.sum(axis=1, keepdims=True)
        value = float(np.mean(np.log(total[:, 0]) - of_the_label))
        z /= total
        z[rows, t] -= 1
        z *= np.float32(1 / batch)
        gradients = []
        for h, layer in zip(reversed(activations), reversed(params), strict=True):
            gradients.append({"weight": h.T @ z, "bias": z.sum(axis=0)})
            z = (z @ layer["weight"].T) * (h > 0) if h is not x else z
        return value, gradients[::-1]

    def call():
        nonlocal count
        count += 1
        scale = rate * np.float32(np.sqrt(1 - 0.999**count) / (1 - 0.9**count))
        for i, layer in enumerate(value_and_gradient()[1]):
            for name, g in layer.items():
                p, m, v = params[i][name], first[i][name], second[i][name]
                if optimizer == "sgd":
                    p -= rate * g
                elif optimizer == "momentum":
                    m *= np.float32(0.9)
                    m -= rate * g
                    p += m
                elif optimizer == "adagrad":
                    v += g * g
                    p -= rate * g / (np.sqrt(v) + np.float32(EPSILON))
                else:
                    m += np.float32(0.1) * (g - m)
                    v += np.float32(0.001) * (g * g - v)
                    p -= scale * m / (np.sqrt(v) + np.float32(EPSILON))
        return params

    return call


WORKS = (
    Work(
        "optimizers",
        "five layers of chapter 6, batch 128: loss, gradient and optimizer",
        (
            Contender("NumPy", with_numpy, "numpy"),
            Contender("defnpy", with_defnpy, "defnpy"),
            Contender("JAX", with_jax, "jax"),
            Contender("torch", with_torch, "torch"),
        ),
        variants=tuple({"optimizer": name, "batch": 128} for name in RATES),
        quick=({"optimizer": "adam", "batch": 8},),
        goals=(at_most_of_best_peer(1.0),),
        tolerance=1e-3,
    ),
)
