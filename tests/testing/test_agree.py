"""Backends held against each other: silence where they agree, and the leaf that differs."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.op import REGISTRY
from defnpy.testing import BackendMismatch, assert_backends_agree

instructions = importlib.import_module("defnpy.backends.cpu.instructions")
X = dp.asarray([0.5, -1.0, 2.0], dtype="float64")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: dp.softmax(x),
        lambda x: {"n": dp.argmax(x), "s": "text", "y": [x > 0, x / 0]},
        lambda x: dp.log(x),  # NaN for both
        dp.grad(lambda x: dp.sum(dp.tanh(x) ** 2)),
    ],
)
def test_equal_answers_pass(function) -> None:
    assert_backends_agree(function, [X])


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    instructions._template.cache_clear()
    monkeypatch.setattr(REGISTRY["tanh"], "scalar", "tanh({x}) + ({x} if {x} > 1 else {x} * 0)")
    try:
        with pytest.raises(BackendMismatch) as caught:
            assert_backends_agree(lambda x: {"a": x, "b": dp.tanh(x)}, [X])
    finally:
        instructions._template.cache_clear()
    values = f"{np.tanh(2.0)} and {np.tanh(2.0) + 2}"
    assert str(caught.value) == (f"<lambda>: result['b'] at [2] is {values} by the reference and cpu, compiled by llvm")


def test_a_little_is_told_from_the_rounding_of_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    instructions._template.cache_clear()
    monkeypatch.setattr(REGISTRY["tanh"], "scalar", "tanh({x}) * 1.00000001")
    try:
        assert_backends_agree(dp.tanh, [X], tolerance=1e-6)
        with pytest.raises(BackendMismatch):
            assert_backends_agree(dp.tanh, [X])
    finally:
        instructions._template.cache_clear()
