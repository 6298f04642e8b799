"""Which outputs go past the caches."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.lower.program import KernelStep, lower

rule = importlib.import_module("defnpy.lower.stream")
X = np.ones((30, 40), np.float32)


def streams(f: Callable[..., Any], *args: Any, donated: tuple[int, ...] = ()) -> list[Any]:
    """The streams of a program's kernels."""
    program = lower(dp.defn(f).compile(*args).graph, 2, donated)
    return [step.stream for step in program.steps if isinstance(step, KernelStep)]


@pytest.fixture
def anything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "LARGE", 0)


def test_by_the_bytes_that_a_step_moves() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y + 1

    small, large = (np.empty(rule.LARGE // 12 + more, np.float32) for more in (0, 1))
    assert streams(f, small, small) == [None]
    assert streams(f, large, large) == [rule.Stream(target=2, width=4, alongside=(0, 1))]


@pytest.mark.usefixtures("anything_is_large")
def test_what_is_read_alongside() -> None:
    """Not a number for all, nor a row for all rows, nor elements of another size."""
    assert streams(lambda x, y: x * y, X, np.float32(2)) == [rule.Stream(2, 4, (0,))]
    assert streams(lambda x, y: dp.astype(x, "float64") * y, X, X.astype(float)) == [rule.Stream(2, 8, (1,))]
    assert streams(lambda x: x > 0, X) == [rule.Stream(1, 1, ())]
    assert streams(lambda x: dp.sum(x, axis=1), X) == [rule.Stream(1, 4, ())]


@pytest.mark.usefixtures("anything_is_large")
@pytest.mark.parametrize(
    "f",
    [
        lambda x: dp.softmax(x),  # rows
        lambda x: x.T * 2,
        lambda x: x * x[0],  # two loops
        lambda x: dp.sum(x, axis=0),  # added to
        lambda x: dp.sum(x),
    ],
)
def test_not_streamed(f: Callable[..., Any]) -> None:
    found = streams(f, X)
    assert found and not any(found)


@pytest.mark.usefixtures("anything_is_large")
def test_an_output_in_the_memory_of_an_argument_is_in_the_caches_already() -> None:
    assert streams(lambda x: x + 1, X, donated=(0,)) == [None]


@pytest.mark.usefixtures("anything_is_large")
def test_a_step_that_may_end_early_is_not_streamed() -> None:
    assert streams(lambda x, i: x[i], X[0], np.arange(5)) == [None]
