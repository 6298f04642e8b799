"""The training loop: when it evaluates, what it reports, how it ends when a loss is no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from book_chapters.ch04 import two_layer_net
from book_chapters.common.data import book_weights, load_npz, parts, save_npz, scaled
from book_chapters.common.trainer import accuracy, batch, mean_of_last, train
from defnpy.errors import DataError, TrainingError


def counting(state: int, iteration: int) -> tuple[int, dp.Tensor]:
    return state + 1, dp.asarray(float(iteration))


@pytest.mark.parametrize(
    ("iters", "every", "seen"), [(10_000, 600, 17), (12_000, 600, 20), (601, 3, 201), (191, 10, 20)]
)
def test_evaluations_come_after_iterations_0_every_2_every(iters: int, every: int, seen: int) -> None:
    """The book's counts: 17 lines of chapter 4, 20 epochs of chapter 7, 201 and 20 of chapter 6."""
    trained = train(counting, 0, iters, every=every, evaluate=lambda iteration, state: state)
    assert [at for at, _ in trained.evaluations] == [every * i for i in range(seen)]
    assert [state for _, state in trained.evaluations] == [every * i + 1 for i in range(seen)], "after the update"
    assert trained.state == iters and trained.losses == [float(i) for i in range(iters)]


def test_a_loss_that_is_no_number_ends_the_run_by_name() -> None:
    def diverges(state: int, iteration: int) -> tuple[int, dp.Tensor]:
        return state, dp.asarray(1.0 if iteration < 150 else float("inf"))

    with pytest.raises(TrainingError, match="the loss is inf at iteration 151"):
        train(diverges, 0, 1000)


@pytest.mark.parametrize(("iters", "every"), [(1, 0), (250, 0), (250, 40), (250, 1), (201, 200), (7, 3)])
def test_a_compiled_loop_does_what_single_steps_do(iters: int, every: int) -> None:
    @dp.defn
    def step(state: Any, iteration: Any) -> Any:
        state = {"x": state["x"] * 0.5 + iteration, "count": state["count"] + 1}
        return state, dp.sum(state["x"])

    def evaluate(iteration: int, state: Any) -> list[float]:
        return state["x"].tolist()

    start = {"x": dp.asarray([1.0, 2.0]), "count": dp.asarray(0)}
    single, looped = (train(step, start, iters, every=every, evaluate=evaluate, compiled=c) for c in (False, True))
    assert looped.losses == single.losses and len(looped.losses) == iters
    assert looped.evaluations == single.evaluations and len(looped.evaluations) == (-(-iters // every) if every else 0)
    assert int(looped.state["count"]) == iters and looped.state["x"].tolist() == single.state["x"].tolist()


def test_a_compiled_loop_names_the_loss_that_is_no_number() -> None:
    def diverges(state: Any, iteration: Any) -> Any:
        return state, dp.where(iteration < 150, 1.0, dp.inf)

    with pytest.raises(TrainingError, match="the loss is inf at iteration 151"):
        train(diverges, dp.asarray(0.0), 1000, compiled=True)


def test_a_batch_is_a_function_of_key_and_iteration() -> None:
    x, y = dp.arange(50), 2 * dp.arange(50)
    drawn = [batch(dp.random.key(1), i, 8, x, y) for i in (3, 3, 4)]
    assert drawn[0][0].tolist() == drawn[1][0].tolist() != drawn[2][0].tolist()
    assert (2 * drawn[0][0]).tolist() == drawn[0][1].tolist(), "the same rows of both"
    compiled = dp.defn(lambda i: batch(dp.random.key(1), i, 8, x))
    assert compiled(3)[0].tolist() == drawn[0][0].tolist()


def test_the_tail_is_counted() -> None:
    """The book's SimpleConvNet.accuracy drops what does not fill a batch: 60 images give 0.0."""
    images, labels = dp.eye(7), dp.asarray([0, 1, 2, 3, 4, 5, 0])
    assert accuracy(lambda x: x, images, labels, rows=5) == pytest.approx(6 / 7)
    assert [x.shape[0] for x, _ in parts(images, labels, rows=3)] == [3, 3, 1]


def test_the_mean_of_the_last_losses() -> None:
    assert mean_of_last([5.0, 1.0, 3.0], 2) == 2.0 and mean_of_last([5.0], 100) == 5.0


def test_images_are_scaled_by_255_whatever_their_neighbours() -> None:
    images = dp.asarray(np.array([[[0, 51]], [[102, 10]]], np.uint8))
    assert scaled(images, "float64").tolist() == [[0.0, 0.2], [0.4, 10 / 255]]


def test_a_step_changes_nothing_that_it_was_given() -> None:
    params = two_layer_net.init(dp.random.key(0))
    before = {name: value.tolist() for name, value in params.items()}
    images = dp.asarray(np.random.default_rng(0).integers(256, size=(20, 784)).astype(np.uint8))
    labels = dp.asarray(np.arange(20, dtype=np.uint8) % 10)
    args: tuple[Any, ...] = (dp.random.key(1), 0, images, labels, 0.1)
    new, loss = two_layer_net.step(params, *args, batch_size=10)
    again, _ = two_layer_net.step(params, *args, batch_size=10)
    assert {name: value.tolist() for name, value in params.items()} == before
    assert new["W2"].tolist() == again["W2"].tolist() != before["W2"]
    assert loss.item() == pytest.approx(np.log(10), abs=0.1)


# --- weights in files -----------------------------------------------------------------------------------------------


def test_weights_are_written_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_npz(tmp_path / "w.npz", {"W": dp.ones((2, 2)), "command": "as it was made"})
    found = load_npz(tmp_path / "w.npz")
    assert found["W"].tolist() == [[1, 1], [1, 1]] and str(found["command"]) == "as it was made"
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]


def test_missing_and_damaged_files_are_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="no such file"):
        load_npz(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(tmp_path / "bad.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(tmp_path / "objects.npz")
    with pytest.raises(DataError, match="cannot be written"):
        save_npz(tmp_path / "nowhere" / "w.npz", {})


def test_the_books_weights_are_looked_for_where_the_environment_says(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("DEFNPY_BOOK_WEIGHTS", str(tmp_path))
    assert book_weights("w.npz") is None
    (tmp_path / "w.npz").write_bytes(b"")
    assert book_weights("w.npz") == tmp_path / "w.npz"
