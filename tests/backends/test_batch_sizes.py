"""Sizes are arguments of kernels: another batch compiles nothing, though the loss is a mean over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp

BATCHES = (100, 101, 37, 64, 48, 250)
W, B = dp.ones((20, 5)), dp.ones(5)


def rows(count: int) -> dp.Tensor:
    return dp.asarray(np.random.default_rng(count).standard_normal((count, 20)).astype(np.float32))


def cross_entropy(w: Any, b: Any, x: Any) -> Any:
    return dp.nn.cross_entropy(dp.tanh(x @ w + b), dp.one_hot(dp.argmax(x, axis=1) % 5, 5))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mean": lambda w, b, x: dp.mean(dp.exp(x)),
    "mean of columns": lambda w, b, x: dp.mean(dp.exp(x), axis=0),
    "by hand": lambda w, b, x: dp.sum((x @ w + b) ** 2) / x.shape[0],
    "gradient of a mean": dp.grad(lambda w, b, x: dp.mean(dp.relu(x @ w + b)), (0, 1)),
    "cross-entropy and its gradient": dp.value_and_grad(cross_entropy, (0, 1)),
    "batch normalisation": dp.grad(
        lambda w, b, x: dp.sum((x - dp.mean(x, axis=0)) / dp.std(x, axis=0, correction=0) @ w * b), 2
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_batch_compiles_nothing(name: str, tmp_path: Path) -> None:
    function = FUNCTIONS[name]
    f = dp.defn(lambda w, b, x: function(w, b, x), backend="cpu")
    reference = dp.defn(lambda w, b, x: function(w, b, x), backend="reference")
    printed = []
    with dp.config(cache_dir=tmp_path):
        for count in BATCHES:
            x = rows(count)
            for found, expected in zip(dp.tree.leaves(f(W, B, x)), dp.tree.leaves(reference(W, B, x)), strict=True):
                np.testing.assert_allclose(found, expected, rtol=3e-5, atol=1e-6)
            printed.append([step.source for step in f.explain(W, B, x).steps if step.kind == "kernel"])
            if count == BATCHES[0]:
                kept = sorted(tmp_path.rglob("*"))
    assert sorted(tmp_path.rglob("*")) == kept
    assert all(kernels == printed[0] for kernels in printed)


def test_a_number_that_counts_nothing_stays_in_the_kernel() -> None:
    f = dp.defn(lambda x: dp.exp(x / 255.0) / 4.0, backend="cpu")
    (step,) = f.explain(rows(100)).steps
    assert "/ np.float32(255.0)" in step.source and "/ np.float32(4.0)" in step.source


def test_a_divisor_that_happens_to_be_a_size_is_right() -> None:
    f = dp.defn(lambda x: x / 20.0 + x / 100.0 + x / 2000.0, backend="cpu")
    x = rows(100)
    np.testing.assert_array_equal(
        f(x), np.asarray(x) / np.float32(20) + np.asarray(x) / np.float32(100) + np.asarray(x) / np.float32(2000)
    )
    np.testing.assert_array_equal(f(x[:50]), np.asarray(f(x))[:50])
