"""The pages about Flux: cases F8 to F12, G7 to G10 and H1 to H8 of the documents that defnpy was started from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from book_chapters.flux import layers, mnist_convnet, parameters
from book_chapters.runner import Run, study
from defnpy import nn
from defnpy.data import DataLoader, mnist, one_cold, one_hot

KEY = dp.random.key(0)


def quiet(**options: Any) -> Run:
    return Run("page", echo=lambda text: None, **options)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data = mnist.load()
    labels = data.train_labels[:512]
    return mnist_convnet.pictures(data.train_images)[:512], np.asarray(one_hot(labels, range(10))), labels


@pytest.mark.parametrize(
    ("lr", "said"),
    [
        ("1e9", "error: the loss is "),
        ("nan", "error: argument --lr: expected a number above 0, not 'nan'"),
        ("-1", "error: argument --lr: expected a number above 0, not '-1'"),
    ],
)
def test_a_diverging_run_ends_with_status_2_and_writes_nothing(
    lr: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        study(mnist_convnet.main, ["--lr", lr, "--images", "512", "--epochs", "1", "--out", str(tmp_path / "made")])
    assert ended.value.code == 2 and not (tmp_path / "made").exists()
    assert capsys.readouterr().err.startswith(said)


# -- F: layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_f8_outputs_lie_between_those_of_the_corners(seed: int) -> None:
    run = quiet(seed=seed)
    layers.main(run)
    assert run.figures["inside the bounds"] == 1
    # The check can fail: with a negative weight the output leaves the box.
    model = layers.positive(KEY, 5, 3, 2)
    model["W1"] = -model["W1"]
    low, high = (layers.two_layers(model, dp.full((5,), end)) for end in (0.0, 1.0))
    assert (np.asarray(low) > np.asarray(high)).all()


def test_f9_a_layer_as_parameters_and_a_function() -> None:
    params, layer = layers.linear(KEY, 5, 3)
    same, _ = layers.linear(KEY, 5, 3)
    other, _ = layers.linear(dp.random.key(1), 5, 3)
    assert params["W"].shape == (3, 5) and layer(params, dp.ones(5)).shape == (3,)
    np.testing.assert_array_equal(params["W"], same["W"])
    assert (np.asarray(params["W"]) != np.asarray(other["W"])).any()


def test_f10_and_g9_a_struct_that_can_be_called() -> None:
    affine = layers.Affine.random(KEY, 10, 5)
    assert affine(dp.ones(10)).shape == (5,)
    assert dp.tree.paths(affine) == [".W", ".b"]
    grads = dp.grad(dp.defn(lambda layer, x: dp.sum(layer(x))))(affine, dp.arange(10.0))
    np.testing.assert_array_equal(grads.W, [np.arange(10.0)] * 5)


def test_f11_all_spellings_agree_to_the_bit() -> None:
    found = layers.spellings(KEY, dp.random.uniform(dp.random.key(1), (10,)))
    assert list(found) == ["by hand", "reduce", "compose", "chain"]
    for value in found.values():
        assert value.shape == (2,) and np.asarray(value).tolist() == found["chain"].tolist()
    assert found["chain"].sum().item() == pytest.approx(1.0, abs=1e-6)


def test_f12_any_function_is_a_layer() -> None:
    value = nn.Chain(lambda x: x**2, lambda x: x + 1)(5)
    assert value == 26 and type(value) is int
    assert layers.compose(lambda x: x + 1, lambda x: x**2)(5) == 26
    assert functools.reduce(lambda v, f: f(v), [lambda x: x**2, lambda x: x + 1], 5) == 26


# -- G: parameters --------------------------------------------------------------------------------------------------


def test_g7_implicit_parameters_are_refused_and_the_explicit_form_is_shown() -> None:
    message = parameters.implicit(dp.asarray(2.0), dp.asarray(3.0))
    assert message.startswith("grad: there is no argument 0 to differentiate: the call has 0 positional arguments\n")
    assert "dp.grad(lambda: W * 4 + b)()" in message
    assert message.endswith("Hint: parameters are arguments: grad(lambda params: ...)(params)")
    with pytest.raises(dp.errors.GradientError) as caught:  # Flux: gradient(() -> f(4), params)
        dp.grad(lambda: dp.asarray(1.0), {"W": 2.0})  # type: ignore[arg-type]
        dp.grad(lambda: dp.asarray(1.0), {"W": 2.0})()  # type: ignore[arg-type]
    assert caught.value.hint == "what is differentiated is an argument of the result: grad(f)(x)"
    grads = dp.grad(parameters.line)({"W": 2.0, "b": 3.0}, 4.0)
    assert {name: g.item() for name, g in grads.items()} == {"W": 4.0, "b": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_g8_a_step_lowers_the_loss_and_changes_nothing(seed: int) -> None:
    params, x, y = parameters.regression(dp.random.key(seed))
    before = np.array(params["W"])
    new, first = parameters.step(params, x, y, 0.1)
    _, second = parameters.step(new, x, y, 0.1)
    assert second.item() < first.item()
    np.testing.assert_array_equal(params["W"], before)


def test_g10_a_layer_without_bias_and_its_place() -> None:
    layer = nn.Dense(3, 1, bias=None, weight=nn.ones)
    params, _ = layer.init(KEY)
    assert {name: p.tolist() for name, p in params.items()} == {"weight": [[1.0]] * 3}
    array = nn.Dense(3, 1, bias=nn.constant([7.0]), weight=nn.ones)  # Flux's bias may be an array
    assert array.apply(array.init(KEY)[0], (), dp.ones(3))[0].tolist() == [10.0]
    run = quiet()
    parameters.main(run)
    assert run.figures["leaves without a bias"] == 1 and run.figures["slope by W"] == 4.0


# -- H: the convnet on MNIST ----------------------------------------------------------------------------------------


def test_h1_images_labels_and_batches(digits: Any) -> None:
    x, t, labels = digits
    loader = DataLoader((x, t), 128)
    first, rows = next(iter(loader))
    assert len(loader) == 4 and first.shape == (128, 1, 28, 28) and rows.shape == (128, 10)
    np.testing.assert_array_equal(one_cold(rows, range(10)), labels[:128])
    shuffled = DataLoader((x, t), 128, key=KEY)
    assert next(iter(shuffled))[1].tolist() != rows.tolist()


def test_h2_the_net() -> None:
    table = nn.summary(mnist_convnet.net(), (1, 1, 28, 28))
    assert [row.shape[1:] for row in table.rows] == [
        (8, 14, 14), (16, 7, 7), (32, 4, 4), (32, 2, 2), (32, 1, 1), (32,), (10,)
    ]  # fmt: skip
    assert [row.parameters for row in table.rows] == [208, 1168, 4640, 9248, 0, 0, 330]
    assert table.parameters == 15_594 and "15,594" in str(table)


def test_h3_labels_are_given_or_count_from_0() -> None:
    scores = dp.asarray([[0.0] * 5 + [1.0] + [0.0] * 4])
    assert one_cold(scores, range(10)).tolist() == one_cold(scores).tolist() == [5]
    assert one_cold(scores, range(1, 11)).tolist() == [6]  # what the story prints for a 5


def test_h4_the_logarithm_of_a_softmax_is_traced_into_its_stable_form() -> None:
    far = dp.asarray([0.0, 200.0])
    loss = mnist_convnet.softmax_then_logarithm
    assert loss(far).item() == np.inf  # float32, as it is written
    assert dp.defn(loss)(far).item() == nn.cross_entropy(far, dp.asarray(0)).item() == 200.0
    assert dp.grad(loss)(far).tolist() == dp.grad(dp.defn(loss))(far).tolist() == [-1.0, 1.0]


def test_h5_h6_h7_three_loops_give_the_same_bits(digits: Any) -> None:
    x, t, _ = digits
    run, loader = quiet(), DataLoader((x, t), 128)
    assert mnist_convnet.loops_differ_by(run, mnist_convnet.net(), loader, 0.1) == 0.0


def test_h8_metrics_come_with_the_step(digits: Any) -> None:
    x, t, labels = digits
    model = mnist_convnet.net()
    step, gradient, scores = mnist_convnet.functions(model, 0.1, "float32")
    params, _ = model.init(KEY)
    first = dp.asarray(x[:128])
    z = np.asarray(scores(params, first), np.float64)
    loss = np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(128), labels[:128]])
    right = np.mean(z.argmax(axis=1) == labels[:128])
    seen: list[dict[str, dp.Tensor]] = []
    loader = DataLoader((x, t), 128)
    mnist_convnet.fit(step, (params, dp.optim.SGD().init(params)), loader, range(2), seen.append)
    assert len(seen) == 2 * len(loader)
    assert seen[0]["loss"].item() == pytest.approx(loss, rel=1e-5) and seen[0]["accuracy"].item() == right
    assert step.cache_info().misses == 1 and gradient.cache_info().misses == 0


def test_h5_it_learns(digits: Any) -> None:
    x, t, labels = digits
    model = mnist_convnet.net()
    step, _, scores = mnist_convnet.functions(model, 0.1, "float32")
    params, _ = model.init(KEY)
    loader = DataLoader((x, t), 32, key=KEY)
    state = mnist_convnet.fit(step, (params, dp.optim.SGD().init(params)), loader, range(12))
    assert mnist_convnet.accuracy(scores, state[0], x, labels) > 0.6
