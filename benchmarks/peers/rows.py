"""Row by row and down the columns: softmax, layer norm, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, at_most_of_best_peer


def data(shape: list[int]) -> np.ndarray:
    """Standard normal."""
    return np.random.default_rng(0).standard_normal(tuple(shape), dtype=np.float32)


def with_numpy(what: str, shape: list[int]) -> Callable[[], Any]:
    x = data(shape)

    def softmax():
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        e /= e.sum(axis=-1, keepdims=True)
        return e

    def layer_norm():
        centred = x - x.mean(axis=-1, keepdims=True)
        centred /= np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + np.float32(1e-5))
        return centred

    def sum_of_squares():
        return np.dot(x.reshape(-1), x.reshape(-1))

    def sum_axis_0():
        return x.sum(axis=0)

    return locals()[what]


def with_defnpy(what: str, shape: list[int]) -> Callable[[], Any]:
    import defnpy as dp

    def layer_norm(x):
        centred = x - dp.mean(x, axis=-1, keepdims=True)
        return centred / dp.sqrt(dp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)

    functions = {
        "softmax": lambda x: dp.softmax(x, axis=-1),
        "layer_norm": layer_norm,
        "sum_of_squares": lambda x: dp.sum(x * x),
        "sum_axis_0": lambda x: dp.sum(x, axis=0),
    }
    x, compiled = dp.asarray(data(shape)), dp.defn(functions[what])
    return lambda: compiled(x)


def with_jax(what: str, shape: list[int]) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    functions = {
        "softmax": lambda x: jax.nn.softmax(x, axis=-1),
        "layer_norm": lambda x: jax.nn.standardize(x, axis=-1, epsilon=1e-5),
        "sum_of_squares": lambda x: jnp.sum(x * x),
        "sum_axis_0": lambda x: jnp.sum(x, axis=0),
    }
    x, compiled = jnp.asarray(data(shape)), jax.jit(functions[what])
    return lambda: compiled(x).block_until_ready()


def _torch_function(what: str, shape: list[int]) -> tuple[Callable[[Any], Any], Any]:
    import torch

    functions = {
        "softmax": lambda x: torch.softmax(x, dim=-1),
        "layer_norm": lambda x: torch.nn.functional.layer_norm(x, (x.shape[-1],)),
        "sum_of_squares": lambda x: torch.sum(x * x),
        "sum_axis_0": lambda x: torch.sum(x, dim=0),
    }
    return functions[what], torch.from_numpy(data(shape))


def with_torch(what: str, shape: list[int]) -> Callable[[], Any]:
    function, x = _torch_function(what, shape)
    return lambda: function(x)


def with_torch_compiled(what: str, shape: list[int]) -> Callable[[], Any]:
    import torch

    function, x = _torch_function(what, shape)
    compiled = torch.compile(function)
    return lambda: compiled(x)


CONTENDERS = (
    Contender("NumPy", with_numpy, "numpy"),
    Contender("defnpy", with_defnpy, "defnpy"),
    Contender("JAX", with_jax, "jax"),
    Contender("torch", with_torch, "torch"),
    Contender("torch.compile", with_torch_compiled, "torch", slow=True),
)


def _work(name: str, title: str, shape: list[int], limit: float) -> Work:
    return Work(
        name,
        title,
        CONTENDERS,
        variants=({"what": name, "shape": shape},),
        quick=({"what": name, "shape": [4] * len(shape)},),
        goals=(at_most_of_best_peer(limit),),
    )


WORKS = (
    _work("softmax", "softmax of the rows of 4096x1024", [4096, 1024], 0.9),
    _work("layer_norm", "layer norm of the rows of 4096x1024", [4096, 1024], 0.9),
    _work("sum_of_squares", "sum of squares, 4M elements", [1 << 22], 1.1),
    _work("sum_axis_0", "sum over axis 0 of 4096x1024", [4096, 1024], 1.1),
)
