"""The two-layer net against its formulas in NumPy, and a new net added as a module and an entry."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import defnpy as dp
from defnpy.data import batch_indices
from defnpy.train import NETS, two_layer_net
from defnpy.train.dataset import Dataset
from defnpy.train.loop import run
from defnpy.train.net import Model, Net


def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 12)).astype(np.uint8), rng.integers(0, 10, count).astype(np.uint8)


def parameters(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"W1": (12, 7), "b1": (7,), "W2": (7, 10), "b2": (10,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def formulas(
    params: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray, activation: str
) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
    """Scores, loss and gradients by hand, in float64."""
    p = {name: array.astype(np.float64) for name, array in params.items()}
    x, rows = images / 255, np.arange(len(images))
    a = x @ p["W1"] + p["b1"]
    h = np.maximum(a, 0) if activation == "relu" else 1 / (1 + np.exp(-a))
    z = h @ p["W2"] + p["b2"]
    y = np.exp(z - z.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(y[rows, labels]))
    dz = y.copy()
    dz[rows, labels] -= 1
    dz /= len(images)
    da = dz @ p["W2"].T * ((a > 0) if activation == "relu" else h * (1 - h))
    return z, float(loss), {"W1": x.T @ da, "b1": da.sum(axis=0), "W2": h.T @ dz, "b2": dz.sum(axis=0)}


def test_init() -> None:
    params = two_layer_net.init(dp.random.key(0), inputs=784, hidden=50)
    found = {name: np.asarray(leaf) for name, leaf in params.items()}
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "W1": ("float32", (784, 50)),
        "b1": ("float32", (50,)),
        "W2": ("float32", (50, 10)),
        "b2": ("float32", (10,)),
    }
    assert not found["b1"].any() and not found["b2"].any()
    assert found["W1"].std() == pytest.approx(0.01, rel=0.02) and found["W2"].std() == pytest.approx(0.01, rel=0.15)
    assert abs(found["W1"].mean()) < 2e-4


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
def test_scores_loss_and_gradients(activation: str, dtype: str, tolerance: float) -> None:
    images, labels = sample(9)
    arrays = parameters(dtype)
    params = {name: dp.asarray(array) for name, array in arrays.items()}
    scores, loss, grads = formulas(arrays, images, labels, activation)
    found = two_layer_net.predict(params, dp.asarray(images), activation=activation)
    np.testing.assert_allclose(np.asarray(found), scores, rtol=tolerance, atol=tolerance)
    value, found_grads = dp.value_and_grad(partial(two_layer_net.loss, activation=activation))(
        params, dp.asarray(images), dp.asarray(labels)
    )
    assert np.asarray(value).dtype == dtype and float(value) == pytest.approx(loss, rel=tolerance)
    for name, grad in grads.items():
        assert np.asarray(found_grads[name]).dtype == dtype
        np.testing.assert_allclose(np.asarray(found_grads[name]), grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_step(activation: str) -> None:
    images, labels = sample(200)
    arrays, key = parameters(), dp.random.key(2)
    rows = np.asarray(batch_indices(key, 11, 200, 32))
    _, loss, grads = formulas(arrays, images[rows], labels[rows], activation)
    params, value = two_layer_net.step(
        {name: dp.asarray(array) for name, array in arrays.items()},
        key,
        11,
        dp.asarray(images),
        dp.asarray(labels),
        0.25,
        batch_size=32,
        activation=activation,
    )
    assert float(value) == pytest.approx(loss, rel=2e-5)
    for name, grad in grads.items():
        assert np.asarray(params[name]).dtype == np.float32
        np.testing.assert_allclose(np.asarray(params[name]), arrays[name] - 0.25 * grad, rtol=2e-5, atol=2e-5)


def test_step_compiles_once_for_all_iterations_and_rates() -> None:
    images, labels = (dp.asarray(array) for array in sample(40))
    params = {name: dp.asarray(array) for name, array in parameters().items()}
    before = two_layer_net.step.cache_info()
    for iteration, lr in enumerate((0.1, 0.2, 1.0)):
        params, _ = two_layer_net.step(
            params, dp.random.key(0), iteration, images, labels, lr, batch_size=3, activation="relu"
        )
    assert two_layer_net.step.cache_info().misses == before.misses + 1


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_blocks_give_the_bits_of_single_steps_and_compile_once(backend: str) -> None:
    images, labels = (dp.asarray(array) for array in sample(40))
    step = partial(two_layer_net.step, batch_size=3, activation="relu")
    model = Model(lambda key: {}, step, two_layer_net.loss, two_layer_net.correct)
    dataset = Dataset(images, labels, [], [], (3, 4))
    params, losses, key = {name: dp.asarray(array) for name, array in parameters().items()}, [], dp.random.key(3)
    with dp.config(backend=backend):
        before = dp.compilations().programs
        *_, first, last = run(model, dataset, params, key, start=5, stop=217, epoch=150, lr=0.1)
        assert dp.compilations().programs == before + 1
        for iteration in range(5, 217):
            params, loss = step(params, key, iteration, images, labels, 0.1)
            losses.append(loss.item())
    assert first.done == 200 and last.done == 217
    assert first.losses == losses[145:195] and last.losses == losses[195:]
    for name, value in params.items():
        np.testing.assert_array_equal(last.state[name], value)


def test_loss_of_confident_scores_is_finite() -> None:
    images, labels = sample(4)
    params = {name: dp.asarray(1e4 * array) for name, array in parameters().items()}
    for activation in ("relu", "sigmoid"):
        value, grads = dp.value_and_grad(partial(two_layer_net.loss, activation=activation))(
            params, dp.asarray(images), dp.asarray(labels)
        )
        assert np.isfinite(float(value)) and all(np.isfinite(np.asarray(grad)).all() for grad in grads.values())


def test_correct_counts() -> None:
    images, labels = sample(50)
    arrays = parameters()
    params = {name: dp.asarray(array) for name, array in arrays.items()}
    right = int((formulas(arrays, images, labels, "relu")[0].argmax(axis=1) == labels).sum())
    assert int(two_layer_net.correct(params, dp.asarray(images), dp.asarray(labels), activation="relu")) == right


# ---------------------------------------------------------------------------------- a net is a module and an entry


@dp.defn
def linear_loss(state: dict, images: dp.Tensor, labels: dp.Tensor) -> dp.Tensor:
    scores = (images.astype(state["net"]["W"].dtype) / 255) @ state["net"]["W"]
    return dp.mean(dp.logsumexp(scores, axis=-1) - dp.sum(scores * dp.one_hot(labels, 10, dtype=scores.dtype), axis=-1))


@dp.defn
def linear_step(
    state: dict, key: dp.Tensor, iteration: int, images: dp.Tensor, labels: dp.Tensor, lr: float, *, momentum: float
) -> tuple:
    rows = batch_indices(key, iteration, images.shape[0], 20)
    value, grads = dp.value_and_grad(linear_loss)(state, dp.take(images, rows, axis=0), dp.take(labels, rows, axis=0))
    velocity = momentum * state["velocity"] - lr * grads["net"]["W"]
    return {"net": {"W": state["net"]["W"] + velocity}, "velocity": velocity}, value


@dp.defn
def linear_correct(state: dict, images: dp.Tensor, labels: dp.Tensor) -> dp.Tensor:
    return dp.sum(dp.argmax(images.astype(dp.float32) @ state["net"]["W"], axis=-1) == labels)


def add_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--momentum", type=float, default=argparse.SUPPRESS)


def zeros(key: dp.Tensor) -> dict:
    weights = dp.zeros((784, 10), dtype=dp.float32)
    return {"net": {"W": weights}, "velocity": weights}


LINEAR = Net(
    name="linear_net",
    summary="a matrix",
    own={"momentum": 0.5},
    add_options=add_options,
    build=lambda settings, size: Model(
        zeros, partial(linear_step, momentum=settings["momentum"]), linear_loss, linear_correct
    ),
    common={"batch_size": 20, "iterations": 70},
    lr=0.02,
)


def test_another_net_with_state_of_its_own(
    command: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(NETS, "linear_net", LINEAR)
    whole, half, rest = (tmp_path / f"{name}.npz" for name in ("whole", "half", "rest"))
    status, out, _ = command("linear_net", "--data-dir", small, "--save", whole)
    assert status == 0
    assert out.splitlines()[0] == (
        "linear_net: lr 0.02, batch_size 20, iterations 70, seed 0, backend cpu, momentum 0.5"
    )
    with np.load(whole) as file:
        assert sorted(file.files) == ["net/W", "settings", "velocity"]
        unbroken = file["net/W"].tobytes(), file["velocity"].tobytes()
    assert command("linear_net", "--data-dir", small, "--iterations", 31, "--save", half)[0] == 0
    assert command("linear_net", "--resume", half, "--iterations", 70, "--save", rest)[0] == 0
    with np.load(rest) as file:
        assert (file["net/W"].tobytes(), file["velocity"].tobytes()) == unbroken
    assert command("linear_net", "--momentum", 0.9, "--resume", half)[0] == 2
    assert command("linear", "--seed", 1)[2] == "error: unknown net 'linear'\nHint: did you mean linear_net?\n"
