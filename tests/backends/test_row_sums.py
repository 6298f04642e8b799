"""Sums of rows into memory, which take several rows at once: every row counts once, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.assembly import ROWS, assemble
from defnpy.lower.program import KernelStep, lower

SUMS: dict[str, Callable[..., Any]] = {
    "rows": lambda x: dp.sum(x, axis=0),
    "squares": lambda x: dp.sum(x * x, axis=0),
    "both": lambda x: (dp.sum(x, axis=0), dp.sum(x * x, axis=0)),
    "of three axes": lambda x: dp.sum(x.reshape(-1, 3, x.shape[1]), axis=0),
}


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_every_row_counts_once(name: str, dtype: str) -> None:
    for count in (3, 3 * (ROWS - 1), 3 * ROWS, 3 * ROWS + 3, 303):
        x = np.random.default_rng(count).integers(-9, 9, (count, 70)).astype(dtype)  # exact in every order
        expected = dp.tree.leaves(SUMS[name](dp.asarray(x)))
        for threads in (1, 2):
            with dp.config(backend="cpu", threads=threads):
                for found, e in zip(dp.tree.leaves(dp.defn(SUMS[name])(x)), expected, strict=True):
                    np.testing.assert_array_equal(found, e)


def test_several_rows_are_read_for_one_sum() -> None:
    """As many loads of x in the loop as rows, and one more in that over the rows left over."""

    def loads(f: Callable[..., Any]) -> int:
        program = lower(dp.defn(f).compile(np.ones((40, 50), np.float32)).graph)
        (step,) = (s for s in program.steps if isinstance(s, KernelStep))
        return assemble(step.emitted.kernel, "f").count("load float")

    assert loads(SUMS["rows"]) == 2 * (ROWS + 1)  # x and the sum
    assert loads(lambda x: dp.max(x, axis=0)) == 2  # only sums
    assert loads(lambda x: dp.sum(dp.tanh(x), axis=0)) == 2  # and only what is cheap
