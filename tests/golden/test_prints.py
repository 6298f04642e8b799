"""Full-text prints of graphs and kernels, kept in the files beside this one.

A change of a print is a change of what people read: look at the new text, then write it with
``DEFNPY_UPDATE_GOLDEN=1 python -m pytest tests/golden``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import defnpy as dp

FOLDER = Path(__file__).parent


@dp.defn
def softmax(x):
    return dp.softmax(x, axis=-1)


@dp.defn
def layer_norm(x, gamma, beta):
    mean = dp.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    deviation = dp.sqrt(dp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * gamma + beta


@dp.defn
def loss(params, x, t):
    h = dp.relu(x @ params["W1"] + params["b1"])
    z = h @ params["W2"] + params["b2"]
    return dp.mean(dp.logsumexp(z, axis=-1) - dp.sum(z * dp.one_hot(t, 10), axis=-1))


@dp.defn
def step(params, x, t, lr):
    value, grads = dp.value_and_grad(loss)(params, x, t)
    return dp.tree.map(lambda p, g: p - lr * g, params, grads), value


PARAMS = {"W1": dp.spec((784, 50)), "b1": dp.spec(50), "W2": dp.spec((50, 10)), "b2": dp.spec(10)}
BATCH = (dp.spec((100, 784)), dp.spec((100,), "uint8"))
PRINTS = {
    "softmax.graph": lambda: repr(softmax.expr(dp.spec((4, 10)))),
    "softmax.source": lambda: softmax.source(dp.spec((4, 10))),
    "softmax_gradient.graph": lambda: repr(_gradient()),
    "layer_norm.source": lambda: layer_norm.source(dp.spec((8, 16)), dp.spec(16), dp.spec(16)),
    "two_layer_loss.graph": lambda: repr(loss.expr(PARAMS, *BATCH)),
    "two_layer_step.source": lambda: step.source(PARAMS, *BATCH, 0.1),
}


def _gradient():
    return dp.grad(dp.defn(lambda x: dp.sum(softmax(x) ** 2))).compile(dp.spec((4, 10))).graph


@pytest.mark.parametrize("name", PRINTS)
def test_print(name):
    path = FOLDER / f"{name}.txt"
    text = PRINTS[name]() + "\n"
    if os.environ.get("DEFNPY_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (softmax, (dp.spec((4, 10)),)),
        (dp.defn(lambda x: dp.log_softmax(x)), (dp.spec((4, 10)),)),
        (dp.defn(lambda x: dp.logsumexp(x, axis=1)), (dp.spec((4, 10)),)),
        (layer_norm, (dp.spec((8, 16)), dp.spec(16), dp.spec(16))),
        (dp.defn(lambda x, y: dp.tanh(x * y + 0.5) * dp.exp(-x * x) + dp.sin(y)), (dp.spec((9,)), dp.spec((9,)))),
        (dp.defn(lambda x, b: (dp.relu(x + b), dp.sum(dp.relu(x + b), axis=0))), (dp.spec((9, 5)), dp.spec(5))),
        (dp.defn(lambda x: dp.mean((x - dp.mean(x)) ** 2)), (dp.spec((9, 5)),)),
    ],
    ids=["softmax", "log_softmax", "logsumexp", "layer_norm", "chain", "bias_relu_and_sum", "variance"],
)
def test_one_kernel(function, args):
    assert len(function.compile(*args).kernels()) == 1


def test_a_transposed_operand_is_not_copied():
    source = dp.defn(lambda x, y: x.T @ y.T).source(dp.spec((784, 100)), dp.spec((50, 784)))
    assert "np.dot(x.T, y.T, " in source and "kernel" not in source


def test_the_printed_program_runs_alone():
    import numpy as np

    x = np.linspace(-2, 2, 40, dtype=np.float32).reshape(4, 10)
    names: dict[str, object] = {}
    exec(softmax.source(dp.spec((4, 10))), names)
    (alone,) = names["program"](x)  # type: ignore[operator]
    np.testing.assert_allclose(alone, softmax(x), rtol=1e-6)
