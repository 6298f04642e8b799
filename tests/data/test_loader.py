"""Batches of a loader, and labels as rows and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.data import DataLoader, one_cold, one_hot
from defnpy.errors import DataError

X = np.arange(22).reshape(11, 2)
T = dp.arange(11)


def rows(loader: DataLoader, number: int = 0) -> list[int]:
    return [int(t) for _, batch in loader.epoch(number) for t in batch]


def test_batches_in_the_order_of_the_arrays() -> None:
    loader = DataLoader((X, T), 4)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [x.shape for x, _ in batches] == [(4, 2), (4, 2), (3, 2)]
    assert all(isinstance(leaf, dp.Tensor) for leaf in dp.tree.leaves(batches))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X)
    assert rows(loader) == rows(loader, 5) == list(range(11))


def test_drop_last_leaves_out_what_fills_no_batch() -> None:
    loader = DataLoader((X, T), 4, drop_last=True)
    assert len(loader) == len(list(loader)) == 2
    assert rows(loader) == list(range(8))
    assert len(DataLoader((X, T), 11, drop_last=True)) == 1


def test_a_key_shuffles_every_epoch_otherwise_and_always_the_same() -> None:
    loader = DataLoader((X, T), 4, key=dp.random.key(0))
    epochs = [rows(loader, n) for n in range(3)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3 and list(range(11)) not in epochs
    assert epochs == [rows(DataLoader((X, T), 4, key=dp.random.key(0)), n) for n in range(3)]
    assert [int(t) for _, batch in loader for t in batch] == epochs[0]
    assert rows(DataLoader((X, T), 4, key=dp.random.key(1))) != epochs[0]
    for x, t in loader:  # rows of all arrays stay together
        np.testing.assert_array_equal(x, X[np.asarray(t)])
    # Leaving rows out happens after the shuffle: other ones in every epoch.
    short = DataLoader((X, T), 4, key=dp.random.key(0), drop_last=True)
    assert [rows(short, n) for n in range(3)] == [epoch[:8] for epoch in epochs]


def test_every_order_is_likely_alike() -> None:
    loader = DataLoader(np.arange(3), 3, key=dp.random.key(7))
    seen = [tuple(next(iter(loader.epoch(n))).tolist()) for n in range(600)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 6 and 60 < min(counts) and max(counts) < 140


def test_a_batch_has_the_form_of_the_data_and_is_a_copy() -> None:
    data = {"images": X.astype(np.float32), "labels": [T]}
    batch = next(iter(DataLoader(data, 2)))
    assert not dp.tree.difference(batch, data)
    data["images"][:] = -1.0
    np.testing.assert_array_equal(batch["images"], X[:2])


@pytest.mark.parametrize(
    ("data", "size", "options", "what"),
    [
        ((X, T[:9]), 2, {}, "DataLoader: data[0] of shape (11, 2), data[1] of shape (9,)"),
        ((dp.asarray(1.0),), 2, {}, "DataLoader: data[0] of shape ()"),
        ((), 2, {}, "DataLoader: no arrays"),
        (X, 0, {}, "DataLoader: batches of 0 rows"),
        (X, 12, {"drop_last": True}, "DataLoader: 11 rows make no batch of 12"),
        (X[:0], 2, {}, "DataLoader: 0 rows make no batch of 2"),
    ],
)
def test_what_makes_no_batches(data: Any, size: int, options: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError) as caught:
        DataLoader(data, size, **options)
    assert caught.value.what == what and caught.value.hint


def test_one_hot_and_one_cold_are_inverse() -> None:
    labels = [3, 1, 7]
    values = np.array([[7, 3], [1, 1]])
    rows = one_hot(values, labels)
    assert rows.shape == (2, 2, 3) and rows.dtype == "float32" and np.asarray(rows).sum() == 4
    np.testing.assert_array_equal(one_cold(rows, labels), values)
    np.testing.assert_array_equal(one_cold(rows), [[2, 0], [1, 1]])
    np.testing.assert_array_equal(one_hot(values, range(8)), dp.one_hot(dp.asarray(values), 8))


def test_words() -> None:
    rows = one_hot(["b", "a"], ["a", "b"], dtype="int32")
    assert rows.tolist() == [[0, 1], [1, 0]] and rows.dtype == "int32"
    assert one_cold(rows, ["a", "b"]).tolist() == ["b", "a"]


def test_in_traced_code() -> None:
    both = dp.defn(lambda values: (one_hot(values, (4, 2)), one_cold(one_hot(values, (4, 2)), (4, 2))))
    rows, labels = both(dp.asarray([2, 4, 2]))
    assert rows.tolist() == [[0, 1], [1, 0], [0, 1]] and labels.tolist() == [2, 4, 2]


def test_flux_counts_from_one_and_we_do_not() -> None:
    """Without labels Julia's onecold of a digit's row is one more than the digit."""
    assert one_cold(one_hot([5], range(10))).tolist() == [5]


@pytest.mark.parametrize(
    ("values", "labels", "what"),
    [
        ([3, 10, 11], 10, "one_hot: 10, 11 in the values and not in the labels"),
        (["maybe"], ["yes", "no"], "one_hot: 'maybe' in the values and not in the labels"),
        ([-1], range(3), "one_hot: -1 in the values and not in the labels"),
    ],
)
def test_a_value_that_is_no_label(values: Any, labels: Any, what: str) -> None:
    with pytest.raises(DataError) as caught:
        one_hot(values, labels)
    assert caught.value.what == what and caught.value.hint.startswith("the labels are ")


def test_labels_that_do_not_fit_the_scores() -> None:
    with pytest.raises(DataError) as caught:
        one_cold(dp.ones((2, 3)), "ab")
    assert caught.value.what == "one_cold: 3 scores and labels of shape ()"
