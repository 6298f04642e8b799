"""The nets of chapters 6 and 7 as the training command knows them: their options, their state, and that they learn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy import nn
from defnpy.train import NETS, layered, multi_layer_net, simple_convnet

MULTI, CONV = "multi_layer_net", "simple_convnet"
EVERYTHING = ("--batch-norm", "--dropout", 0.2, "--weight-decay", 1e-3, "--layers", 2, "--hidden", 20)
SMALL_CONV = ("--filters", 4, "--hidden", 16, "--batch-size", 50)
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(command: Train, small: Path) -> Train:
    """Run a net on the small data in this process."""
    return lambda net, *words: command(net, "--data-dir", small, *words)


def losses(path: Path) -> list[float]:
    return list(json.loads(path.read_text())["losses"])


def arrays(path: Path) -> dict[str, bytes]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].tobytes() for name in file.files if name != "settings"}


# -- what they are --------------------------------------------------------------------------------------------------


def settings(net: str, **own: Any) -> dict[str, Any]:
    return {**NETS[net].common, **NETS[net].own, **own}


def test_the_nets_of_the_book() -> None:
    conv = simple_convnet.layers(settings(CONV), (28, 28))
    table = nn.summary(conv, (100, 1, 28, 28))
    assert [row.shape[1:] for row in table.rows] == [(30, 24, 24), (30, 12, 12), (4320,), (100,), (10,)]
    assert table.parameters == 433_890  # as the book's params.pkl
    odd = simple_convnet.layers(settings(CONV, filters=2, filter_size=3), (9, 12))
    assert [row.shape[1:] for row in nn.summary(odd, (5, 1, 9, 12)).rows[:2]] == [(2, 7, 10), (2, 3, 5)]
    deep = multi_layer_net.layers(settings(MULTI, layers=2, batch_norm=True, dropout=0.5), 784)
    assert [type(layer).__name__ for layer in deep.layers] == [
        *("Dense", "BatchNorm", "Function", "Dropout") * 2, "Dense"
    ]  # fmt: skip
    assert nn.summary(deep, (2, 784)).parameters == 784 * 100 + 100 + 200 + 100 * 100 + 100 + 200 + 1010
    plain = multi_layer_net.layers(settings(MULTI), 784)
    assert nn.summary(plain, (2, 784)).parameters == 109_310 + 500


@pytest.mark.parametrize(
    ("own", "std"),
    [
        ({}, math.sqrt(2 / 784)),
        ({"activation": "sigmoid"}, math.sqrt(1 / 784)),
        ({"activation": "tanh", "init": "he"}, math.sqrt(2 / 784)),
        ({"init": "xavier"}, math.sqrt(1 / 784)),
        ({"init": 0.01}, 0.01),
    ],
)
def test_weights_before_training(own: dict[str, Any], std: float) -> None:
    params, _ = multi_layer_net.layers(settings(MULTI, **own), 784).init(dp.random.key(0))
    assert np.std(params[0]["weight"]) == pytest.approx(std, rel=0.02)
    assert not np.asarray(params[0]["bias"]).any()


@pytest.mark.parametrize("optimizer", layered.OPTIMIZERS)
def test_the_learning_rate_goes_with_the_optimizer(run: Train, optimizer: str) -> None:
    options = ("--optimizer", optimizer, "--iterations", 1, "--hidden", 5)
    first = run(MULTI, *options)[1].splitlines()[0]
    assert first.startswith(f"multi_layer_net: lr {layered.LEARNING_RATES[optimizer]}, batch_size 100, iterations 1,")
    assert first.endswith(f"optimizer {optimizer}")
    assert run(MULTI, *options, "--lr", 0.25)[1].startswith("multi_layer_net: lr 0.25, ")


# -- one step -------------------------------------------------------------------------------------------------------


def test_a_step_is_the_gradient_s_and_the_optimizer_s_and_leaves_its_state_alone(small: Path) -> None:
    net = nn.Chain(nn.Dense(12, 10, weight=nn.he_normal))
    model = layered.model(
        net, lambda images, dtype: images.astype(dtype), optimizer="momentum", batch_size=4, weight_decay=0.1
    )
    rng = np.random.default_rng(0)
    images, labels = dp.asarray(rng.integers(0, 9, (20, 12)).astype(np.uint8)), dp.asarray(np.arange(20) % 10)
    state = model.init(dp.random.key(0))
    before = np.array(state.params[0]["weight"])
    batch_key = dp.random.split(dp.random.key(1))[0]
    rows = np.asarray(dp.data.batch_indices(batch_key, 7, 20, 4))

    def loss(weight: dp.Tensor) -> dp.Tensor:
        scores = images[rows].astype("float32") @ weight
        return nn.cross_entropy(scores, labels[rows]) + 0.05 * dp.sum(weight**2)

    value, g = dp.value_and_grad(loss)(dp.asarray(before))
    new, found = model.step(state, dp.random.key(1), 7, images, labels, 0.5)
    assert found.item() == pytest.approx(value.item(), rel=1e-5)
    np.testing.assert_allclose(new.params[0]["weight"], before - 0.5 * np.asarray(g), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new.optimizer["velocity"][0]["weight"], -0.5 * np.asarray(g), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state.params[0]["weight"], before)


def test_dropout_draws_anew_in_every_iteration() -> None:
    net = nn.Chain(nn.Dense(12, 40), nn.Dropout(0.5), nn.Dense(40, 10))
    model = layered.model(net, lambda images, dtype: images.astype(dtype), optimizer="sgd", batch_size=1)
    images, labels = dp.ones((1, 12), dtype="uint8"), dp.asarray([3])  # one image: only dropout differs
    drawn = []
    for iteration in (0, 1, 1):
        _, value = model.step(model.init(dp.random.key(0)), dp.random.key(1), iteration, images, labels, 0.1)
        drawn.append(value.item())
    assert drawn[0] != drawn[1] == drawn[2]


# -- whole runs -----------------------------------------------------------------------------------------------------


def test_every_optimizer_learns(run: Train, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for optimizer in layered.OPTIMIZERS:
        assert run(MULTI, "--layers", 2, "--optimizer", optimizer, "--epochs", 8, "--json", path)[0] == 0
        found = losses(path)
        assert np.mean(found[-10:]) < 0.75 * np.mean(found[:5]), optimizer


def test_everything_at_once_learns(run: Train, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert run(MULTI, *EVERYTHING, "--epochs", 40, "--json", path)[0] == 0
    assert json.loads(path.read_text())["test_accuracy"] > 0.75


def test_the_convnet_learns(run: Train, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert run(CONV, *SMALL_CONV, "--epochs", 8, "--lr", 0.003, "--json", path)[0] == 0
    assert json.loads(path.read_text())["test_accuracy"] > 0.75


@pytest.mark.parametrize(
    ("net", "own"),
    [(MULTI, EVERYTHING), (MULTI, (*EVERYTHING, "--optimizer", "nesterov")), (CONV, SMALL_CONV)],
    ids=["adam", "nesterov", "convnet"],
)
def test_resume_gives_the_bits_of_an_unbroken_run(
    run: Train, tmp_path: Path, net: str, own: tuple[object, ...]
) -> None:
    whole, half, rest = (tmp_path / f"{name}.npz" for name in ("whole", "half", "rest"))
    report = tmp_path / "run.json"
    assert run(net, *own, "--iterations", 15, "--save", whole, "--json", report)[0] == 0
    unbroken = losses(report)
    assert run(net, *own, "--iterations", 6, "--save", half)[0] == 0
    assert run(net, "--resume", half, "--iterations", 15, "--save", rest, "--json", report)[0] == 0
    assert losses(report) == unbroken[6:]
    assert arrays(rest) == arrays(whole) and arrays(half) != arrays(whole)


def test_what_is_saved(run: Train, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    assert run(MULTI, "--batch-norm", "--layers", 1, "--hidden", 5, "--iterations", 3, "--save", path)[0] == 0
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name].shape for name in file.files if name != "settings"}
        count = file["optimizer/count"]
        moved = file["layers/1/mean"]
    params = {
        "0/weight": (784, 5),
        "0/bias": (5,),
        "1/gamma": (5,),
        "1/beta": (5,),
        "3/weight": (5, 10),
        "3/bias": (10,),
    }
    assert found == {
        **{f"params/{name}": shape for name, shape in params.items()},
        **{f"optimizer/{moment}/{name}": shape for moment in ("first", "second") for name, shape in params.items()},
        "optimizer/count": (),
        "layers/1/mean": (5,),
        "layers/1/var": (5,),
    }
    assert count == 3 and moved.any()


def test_resume_keeps_what_makes_the_run(run: Train, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    assert run(MULTI, "--layers", 1, "--hidden", 5, "--iterations", 2, "--save", path)[0] == 0
    for words, shown, was in (
        (("--optimizer", "sgd"), "--optimizer sgd", "adam"),
        (("--batch-norm",), "--batch-norm True", "False"),
        (("--init", 0.5), "--init 0.5", "auto"),
    ):
        status, _, err = run(MULTI, "--resume", path, "--iterations", 4, *words)
        assert status == 2 and err.startswith(f"error: {shown}: {path} was begun with {was}\n")
    assert run(CONV, "--resume", path)[2] == (
        f"error: {path} holds a run of multi_layer_net, not of simple_convnet\n"
        f"Hint: python -m defnpy.train multi_layer_net --resume {path}\n"
    )


@pytest.mark.parametrize(("net", "own"), [(MULTI, EVERYTHING), (CONV, SMALL_CONV)])
def test_both_backends_agree(run: Train, tmp_path: Path, net: str, own: tuple[object, ...]) -> None:
    found = {}
    for backend in ("cpu", "reference"):
        words = ("--iterations", 12, "--backend", backend, "--json", tmp_path / "run.json")
        assert run(net, *own, *words)[0] == 0
        found[backend] = losses(tmp_path / "run.json")
    np.testing.assert_allclose(found["cpu"], found["reference"], rtol=2e-3)


@pytest.mark.parametrize("net", [MULTI, CONV])
def test_check_gradients_of_a_large_net_samples(run: Train, net: str) -> None:
    own = ("--batch-norm", "--activation", "sigmoid") if net == MULTI else ()
    status, out, _ = run(net, *own, "--iterations", 1, "--check-gradients")
    assert status == 0
    report = out[: out.index(f"{net}:")]
    assert report.startswith("gradients of the loss of the first 8 images\n")
    assert "[0]['weight']" in report and "[0]['bias']" in report and "WRONG" not in report


# -- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((MULTI, "--dropout", "1"), "argument --dropout: expected a number from 0 to below 1, not '1'"),
        ((MULTI, "--dropout", "x"), "argument --dropout: expected a number from 0 to below 1, not 'x'"),
        ((MULTI, "--weight-decay", "-1"), "argument --weight-decay: expected a number from 0, not '-1'"),
        ((MULTI, "--init", "hee"), "argument --init: expected he, xavier, auto or a number above 0, not 'hee'"),
        ((CONV, "--init", "auto"), "argument --init: expected he, xavier or a number above 0, not 'auto'"),
        ((CONV, "--dropout", "0.5"), "unrecognized arguments: --dropout 0.5"),
        (
            (MULTI, "--optimizer", "lbfgs"),
            "argument --optimizer: expected sgd or momentum or nesterov or adagrad or rmsprop or adam, not 'lbfgs'",
        ),
        ((MULTI, "--batch-norm", "--batch-size", "1"), "--batch-norm: one image has no variance"),
        (
            (CONV, "--filter-size", "28"),
            "--filter-size 28: on images of 28 x 28 pixels nothing is left for the pooling",
        ),
    ],
)
def test_mistakes(run: Train, words: tuple[str, ...], message: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "") and err.startswith(f"error: {message}\nHint: ")


def test_a_diverging_run(run: Train) -> None:
    status, _, err = run(MULTI, "--optimizer", "sgd", "--lr", 1e6)
    assert status == 2 and err.startswith("error: the loss is ") and "learning rate 1e+06" in err


def test_list(command: Train, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command("--list")
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and [line.split()[0] for line in lines] == ["two_layer_net", MULTI, CONV]


@pytest.mark.parametrize("net", [MULTI, CONV])
def test_help(command: Train, capsys: pytest.CaptureFixture[str], net: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command(net, "--help")
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "adam 0.001" in " ".join(text.split())
    for name in NETS[net].own:
        assert f"--{name.replace('_', '-')}" in text
    examples = text[text.index("examples:") :].splitlines()[1:]
    assert len(examples) >= 6 and all(line.startswith(f"  python -m defnpy.train {net}") for line in examples)
