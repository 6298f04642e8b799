"""The parts of the training command one by one: blocks, files replaced whole, checkpoints, Ctrl-C, curves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import defnpy as dp
from defnpy.errors import DataError
from defnpy.train import checkpoint
from defnpy.train.atomic import replacing
from defnpy.train.interrupt import Interrupt
from defnpy.train.loop import BLOCK, blocks
from defnpy.train.plot import running_mean


@given(start=st.integers(0, 500), length=st.integers(0, 700), epoch=st.integers(1, 300))
def test_blocks_cover_every_iteration_once_and_stop_at_epochs(start: int, length: int, epoch: int) -> None:
    cut = list(blocks(start, start + length, epoch))
    assert [iteration for block in cut for iteration in block] == list(range(start, start + length))
    assert all(1 <= len(block) <= BLOCK for block in cut)
    ends = {block.stop for block in cut}
    assert ends >= {end for end in range(start + 1, start + length + 1) if end % epoch == 0}
    assert not cut or len(cut[0]) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(DataError) as caught, replacing(path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"{path}: cannot be written (No space left on device)"


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    one, two, three = dp.asarray(np.float32([[1, 2]])), dp.asarray(np.float64([3])), dp.asarray(1)
    params = {"W": one, "more": {"b.c": two}, "pair": (three, one)}
    checkpoint.save(path, params, 12, {"lr": 0.5, "data_dir": None})
    saved = checkpoint.load(path)
    assert saved.iteration == 12 and saved.settings == {"lr": 0.5, "data_dir": None}
    assert set(saved.arrays) == {"W", "more/b.c", "pair/0", "pair/1"}
    again = checkpoint.restore(saved.arrays, params, path)
    assert dp.tree.paths(again) == dp.tree.paths(params)
    for one, other in zip(dp.tree.leaves(params), dp.tree.leaves(again), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_checkpoint_that_lacks_a_parameter_or_has_one_too_many(tmp_path: Path) -> None:
    path, one = tmp_path / "run.npz", dp.asarray(np.float32([1]))
    for arrays, like, message in (
        ({}, {"W": one}, "W is absent\nHint: for this net and this data it must be float32 of shape (1,)"),
        (
            {"W": np.float32([1]), "b": np.float64([1])},
            {"W": one},
            "b is float64 of shape (1,)\nHint: for this net and this data it must be absent",
        ),
    ):
        with pytest.raises(DataError) as caught:
            checkpoint.restore(arrays, like, path)
        assert str(caught.value) == f"{path}: {message}"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as Python has it: a shell starts programs in its background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_first_ctrl_c_is_a_wish_and_the_second_an_order() -> None:
    with Interrupt() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1)  # a moment in which the signal is delivered
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50), st.integers(1, 20))
def test_running_mean(values: list[float], width: int) -> None:
    expected = [np.mean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_mean(values, width), expected, atol=1e-9)
