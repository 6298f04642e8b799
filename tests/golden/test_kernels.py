"""How many kernels a program has, which operands it copies, and that the printed program is the one that runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.lower.program import KernelStep, ProductStep, lower
from defnpy.train import two_layer_net

PARAMS = {"W1": dp.spec((784, 50)), "b1": dp.spec(50), "W2": dp.spec((50, 10)), "b2": dp.spec(10)}
IMAGES, LABELS = dp.spec((100, 784), "uint8"), dp.spec(100, "uint8")


@dp.defn
def softmax(x):
    return dp.softmax(x)


@dp.defn
def step(params, images, labels, lr):
    value, grads = dp.value_and_grad(partial(two_layer_net.loss, activation="relu"))(params, images, labels)
    return dp.tree.map(lambda p, g: p - lr * g, params, grads), value


def test_the_printed_step_is_the_step() -> None:
    """What is printed is what runs: executed as plain Python, it takes the step that the reference takes."""
    rng = np.random.default_rng(3)
    params = {name: dp.asarray(rng.standard_normal(s.shape).astype("float32") * 0.05) for name, s in PARAMS.items()}
    images = dp.asarray(rng.integers(0, 256, (100, 784), dtype=np.uint8))
    labels = dp.asarray(rng.integers(0, 10, 100, dtype=np.uint8))
    namespace: dict[str, Any] = {}
    exec(step.source(params, images, labels, dp.asarray(0.1)), namespace)
    leaves = [np.asarray(x) for x in dp.tree.leaves((params, images, labels, dp.asarray(0.1)))]
    found = namespace["program"](*leaves)
    with dp.config(backend="reference"):
        expected = dp.tree.leaves(step(params, images, labels, dp.asarray(0.1)))
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# -- one kernel -----------------------------------------------------------------------------------------------------


def layer_norm(x, scale, shift):
    centred = x - dp.mean(x, axis=-1, keepdims=True)
    variance = dp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / dp.sqrt(variance + 1e-5) * scale + shift


def rms_norm(x, scale):
    return x / dp.sqrt(dp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * scale


def cross_entropy(scores, labels):
    return dp.mean(dp.logsumexp(scores, axis=-1) - dp.sum(scores * dp.one_hot(labels, 4), axis=-1))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4,)], ids=str)
@pytest.mark.parametrize(
    ("function", "more"),
    [
        (lambda x: dp.softmax(x), []),
        (lambda x: dp.log_softmax(x), []),
        (lambda x: dp.logsumexp(x, axis=-1), []),
        (lambda x: dp.softmax(x * 2 + 1) * 3, []),
        (layer_norm, [(4,), (4,)]),
        (rms_norm, [(4,)]),
        (lambda x: dp.std(x, axis=-1), []),
        (lambda x, y: dp.mean((dp.tanh(x) - y) ** 2), [(4,)]),
    ],
    ids=["softmax", "log_softmax", "logsumexp", "scaled softmax", "layer norm", "rms norm", "std", "squared error"],
)
def test_exactly_one_kernel(function: Callable[..., Any], more: list[Any], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    arrays = [dp.asarray(rng.standard_normal(s).astype("float32")) for s in (shape, *more)]
    compiled = dp.defn(function, backend="cpu").compile(*arrays)
    steps = lower(compiled.graph).steps
    assert [type(s) for s in steps] == [KernelStep]
    assert [k.name for k in compiled.kernels()] == ["kernel_0"]
    np.testing.assert_allclose(compiled(*arrays), function(*arrays), rtol=1e-5, atol=1e-6)


def test_a_loss_and_its_gradient_are_one_kernel() -> None:
    specs = [dp.spec((100, 4)), dp.spec(100, "int64")]
    steps = lower(dp.defn(dp.value_and_grad(cross_entropy)).compile(*specs).graph).steps
    assert [type(s) for s in steps] == [KernelStep]


def test_exponentials_of_a_softmax_are_computed_once_per_element() -> None:
    """They are expensive: later passes over the row read them back."""
    source = softmax.source(dp.spec((3, 4)))
    assert source.count("math.exp(") == 1


# -- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shapes", "call"),
    [
        (lambda x, y: x @ y, [(3, 4), (4, 5)], "np.dot(x, y, _)"),
        (lambda x, y: x @ y.T, [(3, 4), (5, 4)], "np.dot(x, y.T, _)"),
        (lambda x, y: x.T @ y, [(4, 3), (4, 5)], "np.dot(x.T, y, _)"),
        (lambda x, y: x.T @ y.T, [(4, 3), (5, 4)], "np.dot(x.T, y.T, _)"),
        (lambda x, y: dp.tensordot(x, y, axes=([0], [1])), [(4, 3), (5, 4)], "np.dot(x.T, y.T, _)"),
        (lambda x, y: dp.matmul(x, y.mT), [(2, 3, 4), (2, 5, 4)], "np.matmul(x, y.transpose(0, 2, 1), out=_)"),
        (lambda x, y: x @ dp.permute_dims(y, (1, 0))[:, 1:], [(3, 4), (5, 4)], "np.dot(x, y.T[0:4:1, 1:5:1], _)"),
    ],
    ids=["plain", "right", "left", "both", "tensordot", "stacks", "slice of a transposed"],
)
def test_a_product_copies_no_operand(function: Callable[..., Any], shapes: list[Any], call: str) -> None:
    """One call of BLAS on views of the operands, and nothing before or after it."""
    rng = np.random.default_rng(0)
    arrays = [dp.asarray(rng.standard_normal(s)) for s in shapes]
    compiled = dp.defn(lambda x, y: function(x, y), backend="cpu").compile(*arrays)
    program = lower(compiled.graph)
    assert [type(s) for s in program.steps] == [ProductStep]
    assert program.temporaries == []
    lines = [re.sub(r"\b[a-z]\)$", "_)", line.strip()) for line in compiled.source().split("\n")]
    assert call in lines
    np.testing.assert_allclose(compiled(*arrays), function(*[np.asarray(a) for a in arrays]), rtol=1e-12)


def test_the_gradient_of_a_product_transposes_without_a_copy() -> None:
    def loss(x, w, c):
        return dp.sum((x @ w) * c)

    specs = [dp.spec((3, 4)), dp.spec((4, 5)), dp.spec((3, 5))]
    compiled = dp.defn(dp.grad(loss, (0, 1))).compile(*specs)
    program = lower(compiled.graph)
    assert [type(s) for s in program.steps] == [ProductStep, ProductStep]
    calls = [line.strip() for line in compiled.source().split("\n") if "np.dot(" in line]
    assert sorted(calls) == ["np.dot(c, w.T, a)", "np.dot(x.T, c, b)"]
