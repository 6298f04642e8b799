"""Softmax, layer norm and cross-entropy, with integer labels too, are one kernel each, and so are their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.lower import partial
from defnpy.lower.program import KernelStep, lower

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 40)).astype(np.float32)
LABELS = RNG.integers(-40, 40, 12)


def log_softmax_at(x: Any, labels: Any) -> Any:
    return dp.log_softmax(x)[dp.arange(x.shape[0]), labels]


LOSSES: dict[str, Any] = {
    "indexed": lambda x, i: -dp.mean(log_softmax_at(x, i)),
    "summed": lambda x, i: -dp.sum(log_softmax_at(x, i)),
    "one by one": lambda x, i: -log_softmax_at(x, i),
    "along": lambda x, i: -dp.mean(dp.take_along_axis(dp.log_softmax(x), i[:, None], axis=1)),
    "of a softmax": lambda x, i: -dp.mean(dp.log(dp.softmax(x)[dp.arange(12), i])),
    "the book's": lambda x, i: -dp.mean(dp.log(dp.softmax(x)[dp.arange(12), i] + 1e-7)),
    "by logsumexp": lambda x, i: dp.mean(dp.logsumexp(x, axis=1) - x[dp.arange(12), i]),
    "scaled": lambda x, i: -dp.mean(dp.log_softmax(x / 2.0 + 1.0)[dp.arange(12), i]),
    "smoothed": lambda x, i: -dp.mean(0.9 * log_softmax_at(x, i) + 0.1 * dp.mean(dp.log_softmax(x), axis=1)),
    "of the library": lambda x, i: dp.nn.cross_entropy(x, i % 40),
}

ROWS: dict[str, Any] = {
    "softmax": dp.softmax,
    "log_softmax": dp.log_softmax,
    "layer norm": lambda x: (
        (x - dp.mean(x, axis=-1, keepdims=True)) / dp.sqrt(dp.var(x, axis=-1, keepdims=True) + 1e-5)
    ),
}


def steps(function: Any, *args: Any) -> list[str]:
    program = lower(dp.defn(function).compile(*args).graph)
    return [type(step).__name__ for step in program.steps]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient_are_one_kernel(name: str) -> None:
    loss = LOSSES[name]

    def total(x: Any, i: Any) -> Any:
        return dp.sum(loss(x, i))

    for f in (loss, lambda x, i: dp.grad(total)(x, i), lambda x, i: dp.value_and_grad(total)(x, i)):
        assert steps(f, X, LABELS) == ["KernelStep"]
    value, gradient = dp.defn(lambda x, i: dp.value_and_grad(total)(x, i), backend="cpu")(X, LABELS)
    wanted, slope = dp.value_and_grad(total)(X.astype(np.float64), LABELS)
    np.testing.assert_allclose(value.item(), wanted.item(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient), np.asarray(slope), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_a_function_of_rows_and_its_gradient_are_one_kernel(name: str) -> None:
    rows = ROWS[name]
    assert steps(rows, X) == ["KernelStep"]
    assert steps(lambda x, g: dp.grad(lambda x: dp.sum(rows(x) * g))(x), X, X[::-1]) == ["KernelStep"]


def test_layer_norm_with_its_parameters_is_one_kernel() -> None:
    def norm(parameters: Any, g: Any) -> Any:
        x, scale, shift = parameters
        return dp.sum((ROWS["layer norm"](x) * scale + shift) * g)

    parameters = (X, X[0], X[1])
    assert steps(lambda p, g: dp.grad(norm)(p, g), parameters, X[::-1]) == ["KernelStep"]


def test_a_batch_of_sequences() -> None:
    def loss(x: Any, i: Any) -> Any:
        return -dp.mean(dp.take_along_axis(dp.log_softmax(x), i[..., None], axis=-1))

    x, i = X.reshape(3, 4, 40), LABELS.reshape(3, 4)
    assert steps(loss, x, i) == steps(lambda x, i: dp.value_and_grad(loss)(x, i), x, i) == ["KernelStep"]
    assert steps(lambda x, i: loss(x.reshape(3, 4, 40), i), X, i) == ["KernelStep"]  # a gather reads through that


def test_second_derivatives() -> None:
    x = dp.asarray(X[:, :7].astype(np.float64))
    i = dp.asarray(LABELS % 7)
    for name in ("indexed", "along", "of a softmax"):
        dp.testing.check_grads(dp.defn(lambda x, loss=LOSSES[name]: dp.sin(loss(x, i))), [x], order=2)


def test_few_classes() -> None:
    """Two of them are enough for a label to be read from the scores, not from the whole log-softmax."""
    f = LOSSES["indexed"]
    assert steps(lambda x, i: dp.value_and_grad(f)(x, i), X[:, :2], LABELS % 2) == ["KernelStep"]


@pytest.mark.parametrize("bad", [40, -41])
@pytest.mark.parametrize("name", ["indexed", "one by one", "along", "the book's"])
def test_a_label_out_of_bounds(name: str, bad: int) -> None:
    labels = np.where(np.arange(12) == 9, bad, LABELS)
    f = dp.defn(lambda x, i: dp.value_and_grad(lambda x: dp.sum(LOSSES[name](x, i)))(x), backend="cpu")
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 1 of size 40"):
        f(X, labels)
    assert np.isfinite(f(X, LABELS)[0].item())


def test_a_large_batch_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals over rows are taken in parts, though the rows need scratch memory and check their labels."""
    n, classes = 1500, 40
    x, labels = RNG.standard_normal((n, classes)).astype(np.float32), RNG.integers(0, classes, n)
    monkeypatch.setattr(partial, "PART", 128 * classes)

    def f(x: Any, i: Any) -> Any:
        return dp.value_and_grad(lambda x: -dp.mean(log_softmax_at(x, i)))(x)

    program = lower(dp.defn(f).compile(x, labels).graph, threads=3)
    first, second = program.steps
    assert isinstance(first, KernelStep) and isinstance(second, KernelStep)
    assert (first.threads, second.threads) == (3, 1)
    assert {b.name for b in first.emitted.kernel.buffers if b.role == "scratch"}
    results = []
    for threads in (1, 3):
        with dp.config(threads=threads):
            compiled = dp.defn(f, backend="cpu")
            results.append(compiled(x, labels))
            for at in (3, n - 1):  # in a part, and in what is left over
                wrong = np.where(np.arange(n) == at, classes + at, labels)
                with pytest.raises(IndexError, match=f"index {classes + at} is out of bounds for axis 1"):
                    compiled(x, wrong)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    wanted, slope = dp.value_and_grad(lambda x: -dp.mean(log_softmax_at(x, labels)))(x.astype(np.float64))
    np.testing.assert_allclose(results[0][0].item(), wanted.item(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(results[0][1]), np.asarray(slope), rtol=1e-4, atol=1e-7)
