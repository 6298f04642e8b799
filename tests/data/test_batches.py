"""Batches: in range, spread evenly, the same for the same key and iteration, traced or not."""

from __future__ import annotations

import numpy as np

import defnpy as dp
from defnpy.data import batch_indices


def test_range_and_determinism() -> None:
    key = dp.random.key(3)
    rows = np.asarray(batch_indices(key, 5, 7, 10_000))
    assert rows.shape == (10_000,) and rows.dtype == np.int32
    assert rows.min() == 0 and rows.max() == 6
    np.testing.assert_array_equal(rows, np.asarray(batch_indices(key, 5, 7, 10_000)))


def test_the_rows_are_those_of_jax_for_the_same_key() -> None:
    # jax.random.randint(jax.random.fold_in(jax.random.key(0), 7), (100,), 0, 60_000), JAX 0.10.2
    rows = np.asarray(batch_indices(dp.random.key(0), 7, 60_000, 100))
    assert rows[:6].tolist() == [18272, 40407, 23959, 49688, 170, 4033] and rows[99] == 33740


def test_iterations_and_keys_give_other_batches() -> None:
    key = dp.random.key(3)
    drawn = [batch_indices(key, 0, 60_000, 100), batch_indices(key, 1, 60_000, 100)]
    drawn.append(batch_indices(dp.random.key(4), 0, 60_000, 100))
    assert len({np.asarray(rows).tobytes() for rows in drawn}) == 3


def test_uniform_with_replacement() -> None:
    rows = np.asarray(batch_indices(dp.random.key(0), 0, 10, 100_000))
    share = np.bincount(rows, minlength=10) / 100_000
    np.testing.assert_allclose(share, 0.1, atol=0.005)  # five standard deviations
    small = np.asarray(batch_indices(dp.random.key(0), 0, 50, 50))
    assert len(set(small.tolist())) < 50


def test_traced_iteration_draws_the_same() -> None:
    @dp.defn
    def draw(key: dp.Tensor, iteration: int) -> dp.Tensor:
        return batch_indices(key, iteration, 1000, 32)

    key = dp.random.key(1)
    for iteration in (0, 1, 12_345):
        np.testing.assert_array_equal(draw(key, iteration), np.asarray(batch_indices(key, iteration, 1000, 32)))
