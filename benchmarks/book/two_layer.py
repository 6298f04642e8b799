"""A step of chapters 4 and 5, as their pages take it: loss, gradient and descent on a batch of 100.

All compute in float32. The book's NumPy makes a second forward pass to know the loss; the others take it from the
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..harness.work import Contender, Work
from ..peers.two_layer import data

RATE = 0.1


def with_defnpy(activation: str, hidden: int, batch: int) -> Callable[[], Any]:
    """The page's own functions."""
    import defnpy as dp
    from book_chapters.ch04 import two_layer_net as sigmoid_net
    from book_chapters.ch05 import two_layer_net as relu_net

    net = {"sigmoid": sigmoid_net, "relu": relu_net}[activation]

    @dp.defn
    def step(params, x, t):
        value, grads = dp.value_and_grad(net.loss_of_scores)(params, x, t)
        return dp.tree.map(lambda p, g: p - RATE * g, params, grads), value

    params, x, t = dp.tree.map(dp.asarray, data(hidden, batch))

    def call():
        nonlocal params
        params, loss = step(params, x, t)
        float(loss)
        return params

    return call


def with_the_books_numpy(activation: str, hidden: int, batch: int) -> Callable[[], Any]:
    """The book's lines, all arrays in float32."""
    import numpy as np

    from ..train.numpy_net import book_step

    params, x, labels = data(hidden, batch)
    t = np.eye(10, dtype=np.float32)[labels]

    def call():
        book_step(params, x, t, activation)
        return params

    return call


def with_numpy(activation: str, hidden: int, batch: int) -> Callable[[], Any]:
    """Written for speed: arrays reused in place, labels as indices."""
    from ..train.numpy_net import fair_step

    params, x, t = data(hidden, batch)

    def call():
        fair_step(params, x, t, activation)
        return params

    return call


def with_jax(activation: str, hidden: int, batch: int) -> Callable[[], Any]:
    """One jitted function; the old parameters are donated."""
    import jax
    import jax.numpy as jnp

    from ..train.jax_net import loss

    def iteration(params, x, t):
        value, grads = jax.value_and_grad(loss)(params, x, t, activation)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), value

    step = jax.jit(iteration, donate_argnums=0)
    params, x, t = jax.tree.map(jnp.asarray, data(hidden, batch))

    def call():
        nonlocal params
        params, value = step(params, x, t)
        float(value)
        return params

    return call


CONTENDERS = (
    Contender("the book's NumPy", with_the_books_numpy, "numpy"),
    Contender("NumPy", with_numpy, "numpy"),
    Contender("defnpy", with_defnpy, "defnpy"),
    Contender("JAX", with_jax, "jax"),
)


def _work(page: str, activation: str) -> Work:
    return Work(
        page,
        f"784-50-10, {activation}, batch 100: loss, gradient and SGD",
        CONTENDERS,
        variants=({"activation": activation, "hidden": 50, "batch": 100},),
        quick=({"activation": activation, "hidden": 20, "batch": 10},),
    )


WORKS = (_work("ch04.train_neuralnet", "sigmoid"), _work("ch05.train_neuralnet", "relu"))
