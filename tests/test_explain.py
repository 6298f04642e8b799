"""f.explain: graph, passes, steps, memory and times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp

X = dp.asarray(np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32))
W = dp.ones((32, 16))


@dp.defn(backend="cpu")
def net(x: Any, w: Any) -> Any:
    return dp.log(dp.softmax(dp.tanh(x @ w)))


def test_every_part_is_told() -> None:
    explained = net.explain(dp.spec((64, 32)), dp.spec((32, 16)))
    assert [s.kind for s in explained.steps] == ["product", "kernel"]
    product, kernel = explained.steps
    assert product.flops == 2 * 64 * 32 * 16 and product.bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert kernel.bytes == 2 * 4 * 64 * 16 and any("dp.tanh(x @ w)" in line for line in kernel.lines)
    assert explained.memory.arguments == 4 * (64 * 32 + 32 * 16) and explained.memory.outputs == 4 * 64 * 16
    assert explained.memory.temporaries >= 4 * 64 * 16
    changes = dict(explained.passes)
    assert "log" in changes["stabilize"] and explained.seconds is None
    text = str(explained)
    for part in (
        "== traced",
        "== stabilize",
        "== steps",
        "product (64, 32) @ (32, 16)",
        "def kernel_",
        "peak of a call",
    ):
        assert part in text
    assert "GFLOP/s" not in text and "print it" in repr(explained)


def test_times() -> None:
    explained = net.explain(X, W, measure=True)
    assert explained.seconds is not None and len(explained.seconds) == 2 and min(explained.seconds) > 0
    assert "GFLOP/s" in str(explained)


def test_times_of_calls_and_of_the_reference() -> None:
    f = dp.defn(lambda x: dp.argmax(x * 2, axis=1) + 1)
    for backend in ("cpu", "reference"):
        with dp.config(backend=backend):
            explained = f.explain(X, measure=True)
            assert explained.seconds is not None and len(explained.seconds) == len(explained.steps)
            assert "call argmax" in str(explained)


def test_times_need_tensors() -> None:
    with pytest.raises(dp.errors.TraceError, match="has no elements"):
        net.explain(dp.spec((64, 32)), dp.spec((32, 16)), measure=True)


def test_an_index_out_of_bounds_is_the_users_error() -> None:
    with pytest.raises(dp.errors.IndexingError):
        dp.defn(lambda x, i: x[i], backend="cpu").explain(X, dp.asarray([70]), measure=True)
