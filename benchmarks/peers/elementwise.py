"""Chains of operations, element by element, that are fused into one loop; and the call that does next to nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, at_most_microseconds, at_most_of_best_peer, share_of_copy_bandwidth


def data(elements: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays in [-2, 2)."""
    rng = np.random.default_rng(0)
    return 4 * rng.random(elements, dtype=np.float32) - 2, 4 * rng.random(elements, dtype=np.float32) - 2


def costly(m: Any, x: Any, y: Any) -> Any:
    """Seven arithmetic operations and three functions that a processor does not have."""
    return m.tanh(x * y + 0.5) * m.exp(-x * x) + m.sin(y)


def cheap(m: Any, x: Any, y: Any) -> Any:
    """Six arithmetic operations: memory is the limit."""
    return (x * y + 0.5) * (x - y) + x / 4


def turned(m: Any, x: Any, y: Any) -> Any:
    """A square matrix transposed, and another one."""
    side = math.isqrt(x.shape[0])
    return x.reshape(side, side).T + y.reshape(side, side)


def tiny(m: Any, x: Any, y: Any) -> Any:
    """One operation."""
    return x + 1


FUNCTIONS = {"costly": costly, "cheap": cheap, "turned": turned, "tiny": tiny}


def with_numpy(chain: str, elements: int) -> Callable[[], Any]:
    x, y = data(elements)
    function = FUNCTIONS[chain]
    return lambda: function(np, x, y)


def with_defnpy(chain: str, elements: int) -> Callable[[], Any]:
    import defnpy as dp

    x, y = map(dp.asarray, data(elements))
    function = FUNCTIONS[chain]
    if chain == "tiny":
        compiled = dp.defn(lambda x: function(dp, x, None))
        return lambda: compiled(x)
    compiled = dp.defn(lambda x, y: function(dp, x, y))
    return lambda: compiled(x, y)


def with_jax(chain: str, elements: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    x, y = map(jnp.asarray, data(elements))
    function = FUNCTIONS[chain]
    if chain == "tiny":
        compiled = jax.jit(lambda x: function(jnp, x, None))
        return lambda: compiled(x).block_until_ready()
    compiled = jax.jit(lambda x, y: function(jnp, x, y))
    return lambda: compiled(x, y).block_until_ready()


def with_torch(chain: str, elements: int) -> Callable[[], Any]:
    import torch

    x, y = map(torch.from_numpy, data(elements))
    function = FUNCTIONS[chain]
    return torch.no_grad()(lambda: function(torch, x, y))


def with_torch_compiled(chain: str, elements: int) -> Callable[[], Any]:
    import torch

    x, y = map(torch.from_numpy, data(elements))
    function = FUNCTIONS[chain]
    if chain == "tiny":
        compiled = torch.compile(lambda x: function(torch, x, None))
        return lambda: compiled(x)
    compiled = torch.compile(lambda x, y: function(torch, x, y))
    return lambda: compiled(x, y)


def copy_with_numpy(chain: str, elements: int) -> Callable[[], Any]:
    """Into memory that is there already, half of it by a second thread."""
    x, y = data(elements)
    half, pool = elements // 2, ThreadPoolExecutor(1)

    def call():
        other = pool.submit(np.copyto, y[half:], x[half:])
        np.copyto(y[:half], x[:half])
        other.result()

    return call


def copy_with_torch(chain: str, elements: int) -> Callable[[], Any]:
    """Into memory that is there already, by all threads of torch."""
    import torch

    x, y = map(torch.from_numpy, data(elements))
    return lambda: y.copy_(x)


NUMPY = Contender("NumPy", with_numpy, "numpy")
DEFNPY = Contender("defnpy", with_defnpy, "defnpy")
JAX = Contender("JAX", with_jax, "jax")
TORCH = Contender("torch", with_torch, "torch")
TORCH_COMPILED = Contender("torch.compile", with_torch_compiled, "torch", slow=True)
COPIES = (
    Contender("a copy (NumPy)", copy_with_numpy, "numpy", yardstick=True),
    Contender("a copy (torch)", copy_with_torch, "torch", yardstick=True),
)
MILLIONS_4 = 1 << 22

WORKS = (
    Work(
        "chain_costly",
        "tanh(x*y+.5)*exp(-x*x)+sin(y), 4M elements",
        (NUMPY, DEFNPY, JAX, TORCH, TORCH_COMPILED),
        variants=({"chain": "costly", "elements": MILLIONS_4},),
        quick=({"chain": "costly", "elements": 1000},),
        goals=(at_most_of_best_peer(0.9),),
        tolerance=1e-5,
    ),
    Work(
        "chain_cheap",
        "(x*y+.5)*(x-y)+x/4, 4M elements",
        (NUMPY, DEFNPY, JAX, TORCH, TORCH_COMPILED, *COPIES),
        variants=({"chain": "cheap", "elements": MILLIONS_4},),
        quick=({"chain": "cheap", "elements": 1000},),
        goals=(at_most_of_best_peer(0.7), share_of_copy_bandwidth(0.9, arrays=3)),
        tolerance=1e-5,
    ),
    Work(
        "transposed",
        "a square matrix transposed and another one, added",
        (NUMPY, DEFNPY, JAX, TORCH, TORCH_COMPILED),
        variants=tuple({"chain": "turned", "elements": side * side} for side in (1000, 2048)),
        quick=({"chain": "turned", "elements": 900},),
        tolerance=1e-6,
    ),
    Work(
        "elements_curve",
        "the cheap chain over the number of elements",
        (NUMPY, DEFNPY, JAX, TORCH),
        variants=tuple({"elements": 10**power, "chain": "cheap"} for power in range(2, 9)),
        quick=tuple({"elements": 10**power, "chain": "cheap"} for power in (2, 3)),
        tolerance=1e-5,
        curve=True,
    ),
    Work(
        "call",
        "call of a compiled a + 1 on 4 numbers",
        (NUMPY, DEFNPY, JAX, TORCH, TORCH_COMPILED),
        variants=({"chain": "tiny", "elements": 4},),
        quick=({"chain": "tiny", "elements": 4},),
        goals=(at_most_microseconds(3),),
        tolerance=1e-6,
    ),
)
