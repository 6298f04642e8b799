"""A step of training of a net with one hidden layer: gradient of the mean cross-entropy, then plain descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, at_most_of_best_peer

INPUTS, CLASSES, RATE = 784, 10, 0.1
Params = dict[str, np.ndarray]


def data(hidden: int, batch: int, dtype: str = "float32") -> tuple[Params, np.ndarray, np.ndarray]:
    """Weights from N(0, 0.01^2), biases 0; images uniform in [0, 1), labels int32."""
    rng = np.random.default_rng(0)
    params = {
        "W1": 0.01 * rng.standard_normal((INPUTS, hidden)),
        "b1": np.zeros(hidden),
        "W2": 0.01 * rng.standard_normal((hidden, CLASSES)),
        "b2": np.zeros(CLASSES),
    }
    x, t = rng.random((batch, INPUTS)), rng.integers(0, CLASSES, batch, dtype=np.int32)
    return {name: value.astype(dtype) for name, value in params.items()}, x.astype(dtype), t


def with_defnpy(hidden: int, batch: int) -> Callable[[], Any]:
    import defnpy as dp

    @dp.defn
    def loss(params, x, t):
        z = dp.relu(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]
        of_the_label = dp.sum(z * dp.one_hot(t, CLASSES, dtype=z.dtype), axis=-1)
        return dp.mean(dp.logsumexp(z, axis=-1) - of_the_label)

    @dp.defn
    def step(params, x, t):
        gradient = dp.grad(loss)(params, x, t)
        return dp.tree.map(lambda p, g: p - RATE * g, params, gradient)

    params, x, t = dp.tree.map(dp.asarray, data(hidden, batch))

    def call():
        nonlocal params
        params = step(params, x, t)
        return params

    return call


def with_jax(hidden: int, batch: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    def loss(params, x, t):
        z = jax.nn.relu(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]
        of_the_label = jnp.take_along_axis(z, t[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - of_the_label)

    @jax.jit
    def step(params, x, t):
        gradient = jax.grad(loss)(params, x, t)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradient)

    params, x, t = jax.tree.map(jnp.asarray, data(hidden, batch))

    def call():
        nonlocal params
        params = jax.block_until_ready(step(params, x, t))
        return params

    return call


def with_torch(hidden: int, batch: int) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import cross_entropy, linear, relu

    arrays, x, t = data(hidden, batch)
    params = {name: torch.tensor(value.T.copy() if value.ndim == 2 else value) for name, value in arrays.items()}
    for value in params.values():
        value.requires_grad_()
    x, t = torch.tensor(x), torch.tensor(t).long()
    leaves = list(params.values())
    optimizer = torch.optim.SGD(leaves, lr=RATE)

    def call():
        optimizer.zero_grad()
        z = linear(relu(linear(x, params["W1"], params["b1"])), params["W2"], params["b2"])
        cross_entropy(z, t).backward()
        optimizer.step()
        return {name: value.detach().T if value.ndim == 2 else value for name, value in params.items()}

    return call


def with_torch_compiled(hidden: int, batch: int) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import cross_entropy

    def loss(params, x, t):
        return cross_entropy(torch.relu(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"], t)

    @torch.compile
    def step(params, x, t):
        gradient = torch.func.grad(loss)(params, x, t)
        return {name: value - RATE * gradient[name] for name, value in params.items()}

    arrays, x, t = data(hidden, batch)
    params = {name: torch.tensor(value) for name, value in arrays.items()}
    x, t = torch.tensor(x), torch.tensor(t).long()

    def call():
        nonlocal params
        params = step(params, x, t)
        return params

    return call


def with_pytensor(hidden: int, batch: int) -> Callable[[], Any]:
    import pytensor
    import pytensor.tensor as pt

    pytensor.config.floatX = "float32"
    arrays, x, t = data(hidden, batch)
    params = {name: pytensor.shared(value, name) for name, value in arrays.items()}
    x, t = pytensor.shared(x), pytensor.shared(t)
    z = pt.maximum(x @ params["W1"] + params["b1"], np.float32(0)) @ params["W2"] + params["b2"]
    probabilities = pt.special.log_softmax(z, axis=1)
    loss = -pt.mean(probabilities[pt.arange(batch), t])
    gradient = pytensor.grad(loss, list(params.values()))
    updates = [(p, p - np.float32(RATE) * g) for p, g in zip(params.values(), gradient, strict=True)]
    step = pytensor.function([], [], updates=updates)

    def call():
        step()
        return {name: value.get_value(borrow=True) for name, value in params.items()}

    return call


def with_numpy(hidden: int, batch: int) -> Callable[[], Any]:
    """One forward pass, arrays reused in place, labels as indices."""
    params, x, t = data(hidden, batch)
    rows = np.arange(batch)

    def call():
        h = x @ params["W1"]
        h += params["b1"]
        np.maximum(h, 0, out=h)
        z = h @ params["W2"]
        z += params["b2"]
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        z[rows, t] -= 1
        z *= np.float32(1 / batch)
        dh = z @ params["W2"].T
        dh *= h > 0
        gradient = {"W1": x.T @ dh, "b1": dh.sum(axis=0), "W2": h.T @ z, "b2": z.sum(axis=0)}
        for name, value in gradient.items():
            value *= np.float32(RATE)
            params[name] -= value
        return params

    return call


NUMPY = Contender("NumPy", with_numpy, "numpy")
DEFNPY = Contender("defnpy", with_defnpy, "defnpy")
JAX = Contender("JAX", with_jax, "jax")
TORCH = Contender("torch", with_torch, "torch")
CONTENDERS = (
    NUMPY,
    DEFNPY,
    JAX,
    TORCH,
    Contender("torch.compile", with_torch_compiled, "torch", slow=True),
    Contender("PyTensor", with_pytensor, "pytensor", slow=True),
)

WORKS = (
    Work(
        "two_layer",
        "two-layer net 784-50-10, batch 100: gradient and SGD step",
        CONTENDERS,
        variants=({"hidden": 50, "batch": 100},),
        quick=({"hidden": 20, "batch": 10},),
        goals=(at_most_of_best_peer(0.5),),
    ),
    Work(
        "two_layer_wide",
        "the same with 1000 hidden units",
        CONTENDERS,
        variants=({"hidden": 1000, "batch": 100},),
        quick=({"hidden": 30, "batch": 10},),
        goals=(at_most_of_best_peer(0.9),),
    ),
    Work(
        "batch_curve",
        "the step of the two-layer net over the batch size",
        (NUMPY, DEFNPY, JAX, TORCH),
        variants=tuple({"batch": batch, "hidden": 50} for batch in (1, 4, 16, 64, 256, 1024, 4096)),
        quick=tuple({"batch": batch, "hidden": 20} for batch in (1, 4)),
        curve=True,
    ),
    Work(
        "first_step",
        "fresh process to the end of the first two-layer step",
        (DEFNPY, JAX),
        variants=tuple({"kernels": kernels, "hidden": 50, "batch": 100} for kernels in ("none", "on disk")),
        quick=({"kernels": "on disk", "hidden": 20, "batch": 10},),
        goals=(at_most_of_best_peer(0.5),),
        measure="start",
    ),
)
