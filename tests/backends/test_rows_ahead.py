"""Rows at looked-up positions, which kernels ask memory for before they read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.assembly import assemble
from defnpy.backends.cpu.backend import CpuBackend

TABLE = np.arange(50 * 70, dtype=np.float32).reshape(50, 70)  # rows of 280 bytes
NARROW = np.arange(50 * 3, dtype=np.float32).reshape(50, 3)


@dp.defn
def doubled(table: Any, rows: Any) -> Any:
    return dp.take(table, rows, axis=0) * 2


def asks(f: Any, *args: Any) -> bool:
    executable = CpuBackend().compile(f.compile(*args).graph)
    return any("llvm.prefetch" in assemble(step.emitted.kernel, "f") for step in executable._linked.kernels)


def test_what_asks() -> None:
    rows = np.array([3, 1, 2])
    assert asks(doubled, TABLE, rows)
    assert not asks(dp.defn(lambda table: table[1:] * 2), TABLE)
    assert not asks(dp.defn(lambda x, rows: dp.take(x, rows) * 2), TABLE[0], rows)  # elements, no rows


@pytest.mark.filterwarnings("ignore::defnpy.RecompileWarning")
@pytest.mark.parametrize("table", [TABLE, NARROW, TABLE.astype(np.uint8)], ids=["wide", "narrow", "bytes"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 1000])
def test_rows_are_those_of_numpy(table: np.ndarray[Any, Any], threads: int, count: int) -> None:
    rows = np.random.default_rng(count).integers(-50, 50, count)
    with dp.config(threads=threads, backend="cpu"):
        found = doubled(table, rows)
    np.testing.assert_array_equal(np.asarray(found), table[rows] * 2)


@pytest.mark.parametrize("place", [0, 3, 4, 9])
@pytest.mark.parametrize("row", [50, -51, 2**62, -(2**63)])
def test_a_row_that_is_not_there_is_told_in_its_turn(place: int, row: int) -> None:
    rows = np.arange(10)
    rows[place] = row
    with dp.config(backend="cpu"), pytest.raises(IndexError, match=str(row)):
        doubled(TABLE, rows)


def test_rows_at_two_positions_of_which_each_turn_loads_both() -> None:
    rng = np.random.default_rng(0)
    table, i, j = rng.random((6, 7, 100)), rng.integers(-6, 6, 20), rng.integers(-7, 7, 20)
    f = dp.defn(lambda table, i, j: table[i, j] * 2)
    assert not asks(f, table, i, j)
    with dp.config(backend="cpu"):
        np.testing.assert_array_equal(np.asarray(f(table, i, j)), table[i, j] * 2)
