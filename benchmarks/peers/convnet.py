"""A step of training of the convnet of chapter 7: gradient of the mean cross-entropy, then Adam.

1x28x28 images, 30 filters of 5x5, relu, max of 2x2 windows, 100 hidden units, relu, 10 classes. Adam is the form of
Kingma and Ba's algorithm 1, with epsilon 1e-7, in all contenders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Absent, Contender, Work, at_most_of_best_peer

FILTERS, SIZE, HIDDEN, CLASSES = 30, 5, 100, 10
POOLED = (28 - SIZE + 1) // 2
RATE, DECAY1, DECAY2, EPSILON = 0.001, 0.9, 0.999, 1e-7
Params = dict[str, np.ndarray]


def data(batch: int) -> tuple[Params, np.ndarray, np.ndarray]:
    """Weights from N(0, 0.01^2), biases 0; images uniform in [0, 1), labels int32."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (0.01 * rng.standard_normal(shape)).astype(np.float32)

    params = {
        "W1": normal(FILTERS, 1, SIZE, SIZE),
        "b1": np.zeros(FILTERS, np.float32),
        "W2": normal(FILTERS * POOLED * POOLED, HIDDEN),
        "b2": np.zeros(HIDDEN, np.float32),
        "W3": normal(HIDDEN, CLASSES),
        "b3": np.zeros(CLASSES, np.float32),
    }
    x = rng.random((batch, 1, 28, 28), dtype=np.float32)
    return params, x, rng.integers(0, CLASSES, batch, dtype=np.int32)


def initial(params: Params) -> tuple[Params, Params, Params, np.float32]:
    """Parameters, both moments, and the number of steps made."""
    zeros = {name: np.zeros_like(value) for name, value in params.items()}
    return params, zeros, {name: value.copy() for name, value in zeros.items()}, np.float32(0)


def with_defnpy(batch: int) -> Callable[[], Any]:
    import defnpy as dp

    if not (hasattr(dp, "conv") and hasattr(dp, "max_pool")):
        raise Absent("defnpy has no conv and max_pool yet")

    @dp.defn
    def loss(params, x, t):
        h = dp.conv(x, params["W1"]) + dp.reshape(params["b1"], (1, FILTERS, 1, 1))
        h = dp.max_pool(dp.relu(h), (2, 2))
        h = dp.relu(dp.reshape(h, (x.shape[0], -1)) @ params["W2"] + params["b2"])
        z = h @ params["W3"] + params["b3"]
        of_the_label = dp.sum(z * dp.one_hot(t, CLASSES, dtype=z.dtype), axis=-1)
        return dp.mean(dp.logsumexp(z, axis=-1) - of_the_label)

    @dp.defn
    def step(state, x, t):
        params, first, second, count = state
        gradient = dp.grad(loss)(params, x, t)
        count = count + 1
        first = dp.tree.map(lambda m, g: DECAY1 * m + (1 - DECAY1) * g, first, gradient)
        second = dp.tree.map(lambda v, g: DECAY2 * v + (1 - DECAY2) * g * g, second, gradient)
        scale1, scale2 = 1 / (1 - DECAY1**count), 1 / (1 - DECAY2**count)
        params = dp.tree.map(
            lambda p, m, v: p - RATE * (m * scale1) / (dp.sqrt(v * scale2) + EPSILON), params, first, second
        )
        return params, first, second, count

    params, x, t = data(batch)
    state, x, t = dp.tree.map(dp.asarray, (initial(params), x, t))

    def call():
        nonlocal state
        state = step(state, x, t)
        return state[0]

    return call


def with_jax(batch: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    def loss(params, x, t):
        h = jax.lax.conv(x, params["W1"], (1, 1), "VALID") + params["b1"].reshape(1, FILTERS, 1, 1)
        h = jax.nn.relu(h)
        h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        h = jax.nn.relu(h.reshape(len(x), -1) @ params["W2"] + params["b2"])
        z = h @ params["W3"] + params["b3"]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, t[:, None], axis=1)[:, 0])

    return _jax_call(loss, batch)


def with_jax_reshape(batch: int) -> Callable[[], Any]:
    """The maximum as one over two axes of a reshaped array: its gradient is quicker than that of ``reduce_window``."""
    import jax
    import jax.numpy as jnp

    def loss(params, x, t):
        h = jax.lax.conv(x, params["W1"], (1, 1), "VALID") + params["b1"].reshape(1, FILTERS, 1, 1)
        h = jax.nn.relu(h).reshape(len(x), FILTERS, POOLED, 2, POOLED, 2).max(axis=(3, 5))
        h = jax.nn.relu(h.reshape(len(x), -1) @ params["W2"] + params["b2"])
        z = h @ params["W3"] + params["b3"]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, t[:, None], axis=1)[:, 0])

    return _jax_call(loss, batch)


def _jax_call(loss: Callable[..., Any], batch: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    def step(state, x, t):
        params, first, second, count = state
        gradient = jax.grad(loss)(params, x, t)
        count = count + 1
        first = jax.tree.map(lambda m, g: DECAY1 * m + (1 - DECAY1) * g, first, gradient)
        second = jax.tree.map(lambda v, g: DECAY2 * v + (1 - DECAY2) * g * g, second, gradient)
        scale1, scale2 = 1 / (1 - DECAY1**count), 1 / (1 - DECAY2**count)
        params = jax.tree.map(
            lambda p, m, v: p - RATE * (m * scale1) / (jnp.sqrt(v * scale2) + EPSILON), params, first, second
        )
        return params, first, second, count

    compiled = jax.jit(step)
    params, x, t = data(batch)
    state, x, t = jax.tree.map(jnp.asarray, (initial(params), x, t))

    def call():
        nonlocal state
        state = jax.block_until_ready(compiled(state, x, t))
        return state[0]

    return call


def with_torch(batch: int) -> Callable[[], Any]:
    return _torch_call(batch, compiled=False)


def with_torch_compiled(batch: int) -> Callable[[], Any]:
    return _torch_call(batch, compiled=True)


def _torch_call(batch: int, *, compiled: bool) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import conv2d, cross_entropy, max_pool2d

    def loss(params, x, t):
        h = max_pool2d(torch.relu(conv2d(x, params["W1"], params["b1"])), 2)
        h = torch.relu(h.flatten(1) @ params["W2"] + params["b2"])
        return cross_entropy(h @ params["W3"] + params["b3"], t)

    arrays, x, t = data(batch)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in arrays.items()}
    x, t = torch.tensor(x), torch.tensor(t).long()
    optimizer = torch.optim.Adam(params.values(), lr=RATE, betas=(DECAY1, DECAY2), eps=EPSILON, fused=True)
    value_of = torch.compile(loss) if compiled else loss

    def call():
        optimizer.zero_grad()
        value_of(params, x, t).backward()
        optimizer.step()
        return params

    return call


def with_numpy(batch: int) -> Callable[[], Any]:
    """As the book, windows copied into the rows of a matrix; but in float32, and without the images' gradient."""
    params, x, t = data(batch)
    _, first, second, _ = initial(params)
    rows, count = np.arange(batch), 0
    side = 2 * POOLED

    def gradient_of() -> Params:
        windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (SIZE, SIZE), axis=(1, 2))
        columns = windows.reshape(-1, SIZE * SIZE)
        kernel = params["W1"].reshape(FILTERS, -1).T
        a1 = np.maximum(columns @ kernel + params["b1"], 0)
        pooling = a1.reshape(batch, POOLED, 2, POOLED, 2, FILTERS).transpose(0, 5, 1, 3, 2, 4)
        pooling = pooling.reshape(-1, 4)
        largest = pooling.argmax(axis=1)
        h1 = np.take_along_axis(pooling, largest[:, None], axis=1).reshape(batch, -1)
        h2 = np.maximum(h1 @ params["W2"] + params["b2"], 0)
        z = h2 @ params["W3"] + params["b3"]
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        z[rows, t] -= 1
        z *= np.float32(1 / batch)
        d2 = (z @ params["W3"].T) * (h2 > 0)
        d1 = np.zeros_like(pooling)
        d1[np.arange(len(d1)), largest] = (d2 @ params["W2"].T).reshape(-1)
        d1 = d1.reshape(batch, FILTERS, POOLED, POOLED, 2, 2).transpose(0, 2, 4, 3, 5, 1)
        d1 = d1.reshape(batch * side * side, FILTERS) * (a1 > 0)
        return {
            "W1": (columns.T @ d1).T.reshape(params["W1"].shape),
            "b1": d1.sum(axis=0),
            "W2": h1.T @ d2,
            "b2": d2.sum(axis=0),
            "W3": h2.T @ z,
            "b3": z.sum(axis=0),
        }

    def call():
        nonlocal count
        count += 1
        for name, gradient in gradient_of().items():
            m, v = first[name], second[name]
            m += np.float32(1 - DECAY1) * (gradient - m)
            v += np.float32(1 - DECAY2) * (gradient * gradient - v)
            scale1, scale2 = np.float32(1 / (1 - DECAY1**count)), np.float32(1 / (1 - DECAY2**count))
            params[name] -= np.float32(RATE) * (m * scale1) / (np.sqrt(v * scale2) + np.float32(EPSILON))
        return params

    return call


DEFNPY = Contender("defnpy", with_defnpy, "defnpy")
JAX = Contender("JAX", with_jax, "jax")
JAX_RESHAPE = Contender("JAX, reshape", with_jax_reshape, "jax", slow=True)
TORCH = Contender("torch", with_torch, "torch")
TORCH_COMPILED = Contender("torch.compile", with_torch_compiled, "torch", slow=True)

WORKS = (
    Work(
        "convnet",
        "convnet of chapter 7, batch 100: gradient and Adam",
        (Contender("NumPy", with_numpy, "numpy"), DEFNPY, JAX, JAX_RESHAPE, TORCH, TORCH_COMPILED),
        variants=({"batch": 100},),
        quick=({"batch": 4},),
        goals=(at_most_of_best_peer(0.6),),
        tolerance=1e-3,  # Adam's first step is the sign of the gradient, save where that is tiny
    ),
    Work(
        "memory",
        "memory of the convnet's step: peak over what was resident before the first",
        (DEFNPY, JAX, JAX_RESHAPE, TORCH, TORCH_COMPILED),
        variants=({"kernels": "on disk", "batch": 100},),
        quick=({"kernels": "on disk", "batch": 4},),
        goals=(at_most_of_best_peer(1.0),),
        measure="memory",
    ),
)
