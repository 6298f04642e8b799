"""Flux's tutorial: layers as closures, as structs, from the library, or any function.

A layer is a function with numbers in it. The tutorial builds it three times: by a function that returns a closure, by
a struct that can be called, and finds that the library's ``Dense`` is no more than that; then it stacks them by hand,
by ``foldl``, by ``∘`` and by ``Chain``, where any function is a layer: Chain(x -> x^2, x -> x + 1)(5) is 26.

In defnpy numbers and function stand apart, because a closure's numbers can neither be seen, saved nor differentiated
without the library reaching into it:

    linear(key, 5, 3) -> params, function           function(params, x)
    Affine(W, b)                                    a dataclass that dp.tree knows: a container that can be called
    dp.nn.Dense(5, 3, dp.sigmoid)                   a description; init(key) and apply(params, state, x)

What the original leaves open or gets wrong:

- An output of the two-layer model is printed for an input that is not, of weights from a generator without a seed, so
  that nobody can repeat it. All weights are positive and the sigmoid grows, so every output for an input in [0, 1]^5
  lies between those for (0, ..., 0) and (1, ..., 1); that holds for any such weights, and is what this page checks.
- "We can access linear1.W" relies on the fields of a closure, an accident of Julia. Here parameters are returned.
- Randomness comes from a global generator. Here every layer has a key.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.runner import Run, study
from defnpy import nn

ACCEPTANCE = (
    Acceptance("inside the bounds", 1, 1, original="not repeatable"),
    Acceptance("spellings differ by", 0, 0, original="not compared"),
    Acceptance("chain of functions", 26, 26, original="26"),
)

Params = dict[str, dp.Tensor]


def two_layers(params: Params, x: Any) -> Any:
    """W2 sigmoid(W1 x + b1) + b2, written out; vectors are columns, as in Julia."""
    return params["W2"] @ dp.sigmoid(params["W1"] @ x + params["b1"]) + params["b2"]


def positive(key: dp.Tensor, inputs: int, hidden: int, outputs: int, dtype: Any = "float32") -> Params:
    """Parameters for :func:`two_layers` between 0 and 1, as Julia's ``rand`` gives them."""
    shapes = {"W1": (hidden, inputs), "b1": (hidden,), "W2": (outputs, hidden), "b2": (outputs,)}
    keys = dp.random.split(key, len(shapes))
    return {name: dp.random.uniform(keys[i], shape, dtype=dtype) for i, (name, shape) in enumerate(shapes.items())}


def linear(
    key: dp.Tensor, inputs: int, outputs: int, dtype: Any = "float32"
) -> tuple[Params, Callable[[Params, Any], Any]]:
    """A layer as the tutorial's first try: its parameters, and a function of them and x."""
    keys = dp.random.split(key)
    params = {
        "W": dp.random.uniform(keys[0], (outputs, inputs), dtype=dtype),
        "b": dp.random.uniform(keys[1], (outputs,), dtype=dtype),
    }
    return params, lambda params, x: params["W"] @ x + params["b"]


@dp.tree.register_dataclass
@dataclass(frozen=True)
class Affine:
    """A layer as the tutorial's second try: a struct that can be called. Its fields are its parameters."""

    W: Any
    b: Any

    @classmethod
    def random(cls, key: dp.Tensor, inputs: int, outputs: int, dtype: Any = "float32") -> Affine:
        """With numbers between 0 and 1."""
        params, _ = linear(key, inputs, outputs, dtype)
        return cls(params["W"], params["b"])

    def __call__(self, x: Any) -> Any:
        return self.W @ x + self.b


def compose(g: Callable[[Any], Any], f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """g ∘ f: first f, then g."""
    return lambda x: g(f(x))


def spellings(key: dp.Tensor, x: Any, dtype: Any = "float32") -> dict[str, Any]:
    """The same three layers put together in four ways, with the same parameters."""
    layers = [nn.Dense(10, 5, dp.sigmoid, dtype=dtype), nn.Dense(5, 2, dtype=dtype)]
    chain = nn.Chain(*layers, dp.softmax)
    params, state = chain.init(key)
    first, second = (layer.bind(params[i]) for i, layer in enumerate(layers))
    return {
        "by hand": dp.softmax(second(first(x))),
        "reduce": functools.reduce(lambda value, layer: layer(value), [first, second, dp.softmax], x),
        "compose": compose(dp.softmax, compose(second, first))(x),
        "chain": chain.apply(params, state, x)[0],
    }


def shown(vector: Any) -> str:
    """The numbers of a vector to four places."""
    return " ".join(f"{number:.4f}" for number in np.asarray(vector))


def main(run: Run) -> None:
    keys = dp.random.split(run.key, 5)

    model = positive(keys[0], 5, 3, 2, run.dtype)
    x = dp.random.uniform(keys[1], (1000, 5), dtype=run.dtype)
    low, high = (two_layers(model, dp.full((5,), end, dtype=run.dtype)) for end in (0.0, 1.0))
    y = np.asarray(dp.defn(dp.vmap(two_layers, (None, 0)))(model, x))
    run.say(f"two layers: {shown(low)} for zeros, {shown(high)} for ones,")
    run.say(f"            {shown(y.min(axis=0))} to {shown(y.max(axis=0))} for 1000 inputs between")
    run.figure("inside the bounds", int(((y >= np.asarray(low)) & (y <= np.asarray(high))).all()))

    params, layer = linear(keys[2], 5, 3, run.dtype)
    run.say(f"linear(key, 5, 3): parameters {dp.tree.map(lambda p: p.shape, params)}, output {layer(params, x[0])}")
    affine = Affine.random(keys[3], 10, 5, run.dtype)
    input_ = dp.ones((10,), dtype=run.dtype)
    run.say(f"Affine(10, 5): output {affine(input_)}")
    slope = dp.grad(lambda layer, x: dp.sum(layer(x)))(affine, input_)
    run.say(f"    its gradient is an Affine too: W {slope.W.shape}, b {slope.b.tolist()}")

    results = spellings(keys[4], input_, run.dtype)
    for name, value in results.items():
        run.say(f"softmax(Dense(5, 2)(Dense(10, 5, sigmoid)(x))) {name:8s} {shown(value)}")
    values = [np.asarray(v) for v in results.values()]
    run.figure("spellings differ by", max(float(np.abs(v - values[0]).max()) for v in values))
    run.figure("sum of the softmax", float(values[0].sum()))

    number = nn.Chain(lambda x: x**2, lambda x: x + 1)(5)
    run.say(f"Chain(x -> x², x -> x + 1)(5) = {number!r}, an {type(number).__name__}")
    run.figure("chain of functions", number)


if __name__ == "__main__":
    study(main)
