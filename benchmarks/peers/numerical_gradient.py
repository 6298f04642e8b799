"""Central differences over every parameter of the two-layer net, float64: two losses per parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness.work import Contender, Work, times_faster_than_best_peer
from .two_layer import CLASSES, data

STEP = 1e-4


def with_numpy(hidden: int, batch: int, names: list[str]) -> Callable[[], Any]:
    """The loop of the book."""
    params, x, t = data(hidden, batch, "float64")
    rows = np.arange(batch)

    def loss() -> float:
        h = x @ params["W1"]
        h += params["b1"]
        z = np.maximum(h, 0, out=h) @ params["W2"]
        z += params["b2"]
        z -= z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[rows, t]))

    def difference(flat: np.ndarray, i: int) -> float:
        kept = flat[i]
        flat[i] = kept + STEP
        above = loss()
        flat[i] = kept - STEP
        below = loss()
        flat[i] = kept
        return (above - below) / (2 * STEP)

    def call():
        flats = {name: params[name].reshape(-1) for name in names}
        return {name: [np.array([difference(flat, i) for i in range(flat.size)])] for name, flat in flats.items()}

    return call


def with_defnpy(hidden: int, batch: int, names: list[str]) -> Callable[[], Any]:
    import defnpy as dp

    params, x, t = dp.tree.map(dp.asarray, data(hidden, batch, "float64"))
    others = {name: value for name, value in params.items() if name not in names}
    chosen = {name: params[name] for name in names}

    @dp.defn
    def loss(chosen, others, x, t):
        p = {**chosen, **others}
        z = dp.relu(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        of_the_label = dp.sum(z * dp.one_hot(t, CLASSES, dtype=z.dtype), axis=-1)
        return dp.mean(dp.logsumexp(z, axis=-1) - of_the_label)

    def call():
        gradient = dp.testing.numerical_gradient(loss, chosen, others, x, t, h=STEP)
        return {name: value.reshape(-1) for name, value in gradient.items()}

    return call


WORKS = (
    Work(
        "numerical_gradient",
        "numerical gradient of the whole net 784-50-10, batch 100",
        (Contender("NumPy", with_numpy, "numpy"), Contender("defnpy", with_defnpy, "defnpy")),
        variants=({"hidden": 50, "batch": 100, "names": ["W1", "b1", "W2", "b2"]},),
        quick=({"hidden": 50, "batch": 100, "names": ["b1", "b2"]},),
        goals=(times_faster_than_best_peer(5),),
        long=True,
    ),
)
