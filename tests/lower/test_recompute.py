"""Cheap arrays are computed where they are read; what is stored has a reason, and ``explain`` tells it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.lower import program, recompute
from defnpy.lower.fuse import schedule

X = dp.asarray(np.random.default_rng(0).standard_normal((12, 40)).astype(np.float32))
SQUARE = dp.asarray(np.random.default_rng(1).standard_normal((40, 40)).astype(np.float32))

AGAIN: dict[str, Any] = {
    "slices": lambda x: (x * 2 + 1)[1:] - (x * 2 + 1)[:-1],
    "every other": lambda x: (x * 2)[:, ::2] + (x * 2)[:, 1::2],
    "turned around": lambda x: (x * x)[::-1] + x,
    "transposed": lambda x: (x - 1).T + x.reshape(40, 12),
    "into columns": lambda x: (x - dp.sum(x, axis=0)) * dp.max(x - dp.sum(x, axis=0), axis=0),
    "beside a stored one": lambda x: (dp.exp(x), (dp.exp(x) * 2)[::-1] + (dp.exp(x) * 2)[:, ::-1]),
    "from fewer bytes": lambda x: (x > 0).astype("float32")[::-1] * x,
    "chain": lambda x: ((x * 2)[::-1] + 1)[:, ::-1] * 3,
    "counted": lambda x: (x + dp.arange(40, dtype="float32"))[:, ::-1] * 2,
}

STORED: dict[str, tuple[Any, str]] = {
    "expensive": (lambda x: dp.exp(x)[1:] - dp.exp(x)[:-1], "kept: exp is expensive, so computed once"),
    "expensive inside": (
        lambda x: (dp.exp(x) + 1)[1:] - (dp.exp(x) + 1)[:-1],
        "kept: computed again it would take too many operations, or read more than its own bytes",
    ),
    "two operands": (
        lambda x: (dp.exp(x), (x * dp.exp(x))[::-1] + x),
        "kept: computed again it would take too many operations, or read more than its own bytes",
    ),
    "more bytes": (
        lambda x: dp.any((x > 0)[::-1] & (x < 2), axis=0) & (x > 0),
        "kept: computed again it would take too many operations, or read more than its own bytes",
    ),
    "read by many": (
        lambda x: dp.sum(dp.windows(x * 2, 5), axis=2) * 3,
        "kept: cheap, but read several times",
    ),
    "reduction": (lambda x: x * dp.sum(x, axis=0), "kept: complete when its loops are over"),
    "product": (lambda x: dp.exp(x @ x.T), "kept: made by dot_general"),
    "operand": (lambda x: (x * 2) @ x.T, "kept: read as a whole by dot_general"),
    "source": (lambda x: (x * 2)[dp.astype(dp.abs(x[:, 0]), "int64")], "kept: read as a whole by gather"),
    "mixed": (lambda x: (x * 2).T.reshape(-1), "kept: read as a whole by reshape, which mixes its axes"),
    "parts": (lambda x: dp.concat([x, x])[1:] * 2, "kept: put together of parts"),
}


def check(function: Any, x: dp.Tensor) -> None:
    f = dp.defn(function, backend="cpu")
    wanted = evaluate(f.expr(x), [np.asarray(x)])
    for threads in (1, 3):
        with dp.config(threads=threads):
            for found, expected in zip(dp.tree.leaves(f(x)), wanted, strict=True):
                np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", AGAIN)
def test_cheap_arrays_are_computed_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    explained = dp.defn(AGAIN[name], backend="cpu").explain(X)
    told = [value.reason for value in explained.values]
    assert "not kept: cheap, and computed again where it is read" in told
    check(AGAIN[name], X)
    monkeypatch.setattr(program, "scheduled", schedule)  # without the rule there is more memory, or more is moved
    before = dp.defn(AGAIN[name], backend="cpu").explain(X)
    assert before.memory.temporaries > explained.memory.temporaries
    assert sum(step.bytes for step in before.steps) > sum(step.bytes for step in explained.steps)


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_has_a_reason(name: str) -> None:
    function, reason = STORED[name]
    explained = dp.defn(function, backend="cpu").explain(X)
    told = [value.reason for value in explained.values]
    assert reason in told and reason in str(explained)
    check(function, X)


def test_a_value_that_is_stored_anyway_is_read_and_not_computed_again() -> None:
    """An output, or what a product reads: nothing would be saved."""
    f = dp.defn(lambda x: (x * 2, (x * 2)[::-1] + 1), backend="cpu")
    assert f.explain(X).values == []
    assert f.explain(X).steps[-1].source.count("* np.float32(2.0)") == 0


def test_one_operation_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(x: Any, count: int) -> Any:
        for i in range(count):
            x = x * (i + 2.0) if i % 2 else x + (i + 2.0)
        return x[::-1] + x[:, ::-1]

    few, many = (dp.defn(lambda x, n=n: chain(x, n), backend="cpu") for n in (recompute.OPERATIONS, 7))
    assert few.explain(X).memory.temporaries == 0
    assert many.explain(X).memory.temporaries > 0


def test_donated_arguments_are_read_before_they_are_written_to() -> None:
    """What is computed again reads its operands later than it would have been read."""
    f = dp.defn(lambda x: (x * 2)[::-1] + x, donate="x", backend="cpu")
    given = np.asarray(SQUARE).copy()
    found = np.asarray(f(dp.asarray(given.copy())))
    np.testing.assert_array_equal(found, (given * 2)[::-1] + given)
