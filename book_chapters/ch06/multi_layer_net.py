"""The training step that the pages of chapter 6 share (book: ``common/multi_layer_net_extend.py``).

    state = start(key, sizes, "he", optimizer)
    state, loss = step(state, optimizer, decay, key, iteration, images, labels)

Everything that training changes is in the state, and one compiled function maps it to the next one. What shapes that
function is static: activation, share of dropout, size of the batch. What only changes numbers is traced: parameters of
any initial scale, learning rate, weight decay. So sixteen initialisations or a hundred learning rates need one
compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import defnpy as dp
from book_chapters.common import nets
from book_chapters.common.data import scaled
from book_chapters.common.functions import cross_entropy_with_logits
from book_chapters.common.trainer import batch

__all__ = ["CLASSES", "PIXELS", "State", "correct", "loss", "start", "step"]

PIXELS, CLASSES = 784, 10


class State(NamedTuple):
    """params: of the net. running: statistics of its batch normalisations. optimizer: what the optimizer remembers."""

    params: Any
    running: Any
    optimizer: Any


def start(
    key: dp.Tensor,
    sizes: Sequence[int],
    scheme: float | str,
    optimizer: Any,
    *,
    batch_norm: bool = False,
    dtype: Any = "float32",
) -> State:
    """The state before training: weights by ``scheme`` (see ``nets.init``), an optimizer that has seen nothing."""
    params = nets.init(key, sizes, scheme, dtype=dtype, batch_norm=batch_norm)
    return State(params, nets.init_state(params), optimizer.init(params))


def loss(
    params: Any, running: Any, key: Any, x: Any, t: Any, decay: Any, *, activation: str, dropout: float
) -> tuple[Any, Any]:
    """The loss in training, cross-entropy + decay / 2 sum W^2, and the running statistics after the batch."""
    scores, running = nets.apply(params, running, key, x, train=True, activation=activation, dropout=dropout)
    return cross_entropy_with_logits(scores, t) + decay * nets.squared_weights(params), running


@partial(dp.defn, donate=("state",))
def step(
    state: State,
    optimizer: Any,
    decay: Any,
    key: dp.Tensor,
    iteration: Any,
    images: dp.Tensor,
    labels: dp.Tensor,
    *,
    batch_size: int = 100,
    activation: str = "relu",
    dropout: float = 0.0,
    after: bool = False,
) -> tuple[State, dp.Tensor]:
    """One iteration, on a batch that key and iteration choose: the new state, and the loss of the old parameters.

    images are bytes (count, 784). The memory of the old state becomes that of the new one.

    after: tell the loss that the batch has after the update instead, as the book does. It costs a second forward pass,
    and it is lower: the parameters have just moved to make it so.
    """
    keys = dp.random.split(key, 2)
    x, t = batch(keys[0], iteration, batch_size, images, labels)
    given = dp.random.fold_in(keys[1], iteration), scaled(x, state.params["W1"].dtype), t, decay
    objective = partial(loss, activation=activation, dropout=dropout)
    (value, running), grads = dp.value_and_grad(objective, has_aux=True)(state.params, state.running, *given)
    params, kept = optimizer.update(state.params, grads, state.optimizer)
    if after:
        value, _ = objective(params, state.running, *given)
    return State(params, running, kept), value


@dp.defn
def correct(
    params: Any, running: Any, images: dp.Tensor, labels: dp.Tensor, *, activation: str = "relu", dropout: float = 0.0
) -> dp.Tensor:
    """How many images (bytes) get their label, by the net after training: running statistics, nothing dropped."""
    x = scaled(images, params["W1"].dtype)
    scores, _ = nets.apply(params, running, None, x, train=False, activation=activation, dropout=dropout)
    return dp.sum(dp.argmax(scores, axis=-1) == labels)
