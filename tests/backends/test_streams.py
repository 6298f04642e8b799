"""Outputs that go past the caches are the same bits, at every address and size, on any number of threads."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.backend import CpuBackend

rule = importlib.import_module("defnpy.lower.stream")


def compiled(f: Any, *args: Any) -> tuple[Any, int]:
    """The executable of ``f``, and how many of its steps stream."""
    executable = CpuBackend().compile(dp.defn(f).compile(*args).graph)
    steps = [s for segment in executable._linked.segments for s in segment.steps]
    return executable, sum(s.streamed >= 0 for s in steps)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "float32", "float64"])
def test_every_bit_arrives(dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "LARGE", 0)
    monkeypatch.setattr(importlib.import_module("defnpy.lower.threads"), "WORTH", 1.0)
    for n in (2, 63, 1024, 1025, 5000, 20_011):
        x = np.random.default_rng(n).integers(0, 2 if dtype == "bool" else 100, n).astype(dtype)
        with dp.config(threads=threads, backend="cpu"):
            f, streamed = compiled(lambda x: x ^ dp.flip(x) if dtype == "bool" else x * 2 + dp.flip(x), x)
            assert streamed == 1
            (found,) = f([x])
        y = x[::-1]
        np.testing.assert_array_equal(found, x ^ y if dtype == "bool" else x * 2 + y)


def test_wherever_the_output_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing around it is touched, and a line's beginning is no condition."""
    monkeypatch.setattr(rule, "LARGE", 0)
    x = np.random.default_rng(0).random(3000, dtype=np.float32)
    f, streamed = compiled(lambda x: x * 2 + 1, x)
    assert streamed == 1
    frame = f.borrowed()
    raw = np.empty(4096, np.float32)
    for offset in range(20):
        raw[:] = -1
        target = raw[offset : offset + 3000]
        frame.slots[f.input_slots[0]], frame.slots[f.output_slots[0]] = x.ctypes.data, target.ctypes.data
        assert f._run(frame.addresses[0], id([]), id([])) == 0
        np.testing.assert_array_equal(target, x * 2 + 1)
        assert (raw[:offset] == -1).all() and (raw[offset + 3000 :] == -1).all()
    f.give_back(frame)


def test_several_outputs_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "LARGE", 0)

    def f(x: Any, y: Any) -> Any:
        a = dp.exp(x) * y
        return a, a > 1, dp.sum(a), dp.cumulative_sum(a) + y

    x, y = np.random.default_rng(1).random((2, 10_000))
    expected = dp.defn(f)
    with dp.config(threads=2, backend="cpu"):
        found, streamed = compiled(f, x, y)
        assert streamed >= 1
        values = found([x, y])
    with dp.config(threads=2, backend="cpu"):
        monkeypatch.setattr(rule, "LARGE", 2**40)
        for a, e in zip(values, expected(x, y), strict=True):
            np.testing.assert_array_equal(a, e)
