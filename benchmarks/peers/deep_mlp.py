"""Deep nets of equal layers: the gradient of a squared error with respect to all weights, and how long it compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, at_most_of_best_peer, grows_at_most

BATCH = 32
Layers = list[tuple[np.ndarray, np.ndarray]]


def data(layers: int, width: int) -> tuple[Layers, np.ndarray, np.ndarray]:
    """Weights that neither shrink nor swell what passes, biases 0, inputs and targets standard normal."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    scale = np.float32(width**-0.5)
    params = [(scale * normal(width, width), np.zeros(width, np.float32)) for _ in range(layers)]
    return params, normal(BATCH, width), normal(BATCH, width)


def with_numpy(layers: int, width: int) -> Callable[[], Any]:
    params, x, t = data(layers, width)

    def call():
        h = [x]
        for w, b in params:
            z = h[-1] @ w
            z += b
            h.append(np.tanh(z, out=z))
        g = h[-1] - t
        g *= np.float32(2 / t.size)
        gradient = []
        for (w, _), before, after in zip(params[::-1], h[-2::-1], h[:0:-1], strict=True):
            g *= 1 - after * after
            gradient.append((before.T @ g, g.sum(axis=0)))
            g = g @ w.T
        return gradient[::-1]

    return call


def with_defnpy(layers: int, width: int) -> Callable[[], Any]:
    import defnpy as dp

    @dp.defn
    def loss(params, x, t):
        for w, b in params:
            x = dp.tanh(x @ w + b)
        return dp.mean((x - t) ** 2)

    gradient = dp.grad(loss)
    params, x, t = dp.tree.map(dp.asarray, data(layers, width))
    return lambda: gradient(params, x, t)


def with_jax(layers: int, width: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    def loss(params, x, t):
        for w, b in params:
            x = jnp.tanh(x @ w + b)
        return jnp.mean((x - t) ** 2)

    gradient = jax.jit(jax.grad(loss))
    params, x, t = jax.tree.map(jnp.asarray, data(layers, width))
    return lambda: jax.block_until_ready(gradient(params, x, t))


def with_torch(layers: int, width: int) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import mse_loss

    arrays, x, t = data(layers, width)
    params = [[torch.tensor(value, requires_grad=True) for value in layer] for layer in arrays]
    leaves = [value for layer in params for value in layer]
    x, t = torch.tensor(x), torch.tensor(t)

    def call():
        h = x
        for w, b in params:
            h = torch.tanh(torch.addmm(b, h, w))
        return torch.autograd.grad(mse_loss(h, t), leaves)

    return call


def with_torch_compiled(layers: int, width: int) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import mse_loss

    arrays, x, t = data(layers, width)
    params = [[torch.tensor(value, requires_grad=True) for value in layer] for layer in arrays]
    leaves = [value for layer in params for value in layer]
    x, t = torch.tensor(x), torch.tensor(t)

    @torch.compile
    def loss(x, t):
        for w, b in params:
            x = torch.tanh(torch.addmm(b, x, w))
        return mse_loss(x, t)

    return lambda: torch.autograd.grad(loss(x, t), leaves)


def compiling_defnpy(layers: int, width: int) -> Callable[[], Any]:
    """The first call compiles; a function of another kind has loaded the compiler before."""
    import defnpy as dp

    dp.defn(lambda x: dp.exp(x * x))(dp.ones(3))
    return with_defnpy(layers, width)


def compiling_jax(layers: int, width: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    jax.block_until_ready(jax.jit(lambda x: jnp.exp(x * x))(jnp.ones(3)))
    return with_jax(layers, width)


NUMPY = Contender("NumPy", with_numpy, "numpy")
DEFNPY = Contender("defnpy", with_defnpy, "defnpy")
JAX = Contender("JAX", with_jax, "jax")
TORCH = Contender("torch", with_torch, "torch")

WORKS = (
    Work(
        "deep_mlp",
        "net of layers of 64, tanh, batch 32, on one core: gradient",
        (NUMPY, DEFNPY, JAX, TORCH, Contender("torch.compile", with_torch_compiled, "torch", slow=True)),
        variants=tuple({"layers": layers, "width": 64} for layers in (50, 10, 2)),
        quick=({"layers": 2, "width": 8},),
        goals=(at_most_of_best_peer(0.55),),
        cores=1,
    ),
    Work(
        "depth_curve",
        "the gradient of the deep net over its depth, on one core",
        (NUMPY, DEFNPY, JAX, TORCH),
        variants=tuple({"layers": layers, "width": 64} for layers in (2, 5, 10, 20, 50, 100, 200, 500, 1000)),
        quick=tuple({"layers": layers, "width": 8} for layers in (2, 4)),
        cores=1,
        tolerance=1e-3,
        curve=True,
    ),
    Work(
        "compile_time",
        "tracing and compiling that gradient, no kernels on disk: the first call",
        (
            Contender("defnpy", compiling_defnpy, "defnpy"),
            Contender("JAX", compiling_jax, "jax"),
        ),
        variants=tuple({"kernels": "none", "layers": layers, "width": 64} for layers in (2, 10, 50)),
        quick=({"kernels": "none", "layers": 2, "width": 8},),
        goals=(grows_at_most(1.5),),
        measure="first call",
    ),
)
