"""Flux's guide: parameters made explicit, a step that mutates nothing, a layer without bias.

    params <- params - 0.1 dL/dparams        loss(params, x, y): what is differentiated is an argument

The guide tells Flux which arrays are parameters (``Flux.params(W, b)``), differentiates a function of no argument, and
looks gradients up by the identity of the array. What is differentiated is then written nowhere in the function, and
an array that was replaced instead of changed in place is silently no parameter any more; Flux has since dropped the
form. In defnpy parameters are an argument, and the gradient has their form. Who writes it the old way is shown the new.

A step of descent is ``W .-= 0.1 .* dW`` in the guide: the old W is gone, and with it the chance to compare. Here a
step is a function from parameters to new parameters.

Last, a layer of the reader's own learns to do without a bias (``bias=false, init=ones``), is made known to the library
by ``@functor``, and is moved to the GPU. Here ``Dense(3, 1, bias=None, weight=ones)`` has W alone, and moving is a map
over the tree of parameters; the only device there is, is the CPU, and another one is an error rather than a wish.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.runner import Run, study
from defnpy import nn
from defnpy.errors import GradientError

ACCEPTANCE = (
    Acceptance("slope by W", 4, 4, original="4.0"),
    Acceptance("slope by b", 1, 1, original="1.0"),
    Acceptance("loss falls by", 0.01, original="about 0.5, of 3"),
    Acceptance("leaves without a bias", 1, 1, original="1"),
)

Params = dict[str, Any]


def line(params: Params, x: Any) -> Any:
    """W x + b."""
    return params["W"] * x + params["b"]


def implicit(W: dp.Tensor, b: dp.Tensor) -> str:
    """What defnpy says to a function that finds its parameters around it."""
    try:
        dp.grad(lambda: W * 4 + b)()
    except GradientError as error:
        return str(error)
    raise AssertionError("a function of no argument has no gradient")


def regression(key: dp.Tensor, dtype: Any = "float32") -> tuple[Params, dp.Tensor, dp.Tensor]:
    """A 2x5 matrix, a bias, an input and its output, all between 0 and 1."""
    shapes: dict[str, tuple[int, ...]] = {"W": (2, 5), "b": (2,), "x": (5,), "y": (2,)}
    keys = dp.random.split(key, len(shapes))
    drawn = {name: dp.random.uniform(keys[i], shape, dtype=dtype) for i, (name, shape) in enumerate(shapes.items())}
    return {"W": drawn["W"], "b": drawn["b"]}, drawn["x"], drawn["y"]


def loss(params: Params, x: Any, y: Any) -> Any:
    """The squared distance of W x + b from y."""
    return dp.sum((y - (params["W"] @ x + params["b"])) ** 2)


@dp.defn
def step(params: Params, x: Any, y: Any, lr: float) -> tuple[Params, Any]:
    """New parameters, and the loss of the old ones."""
    value, grads = dp.value_and_grad(loss)(params, x, y)
    return dp.tree.map(lambda p, g: p - lr * g, params, grads), value


def main(run: Run) -> None:
    params: Params = {"W": dp.asarray(2.0, dtype=run.dtype), "b": dp.asarray(3.0, dtype=run.dtype)}
    run.say("a function of no argument:")
    run.say(implicit(params["W"], params["b"]))
    grads = dp.grad(line)(params, 4.0)
    run.say(f"the parameters as an argument: {grads}\n")
    run.figure("slope by W", grads["W"])
    run.figure("slope by b", grads["b"])

    params, x, y = regression(run.key, run.dtype)
    new, before = step(params, x, y, 0.1)
    _, after = step(new, x, y, 0.1)
    run.say(f"loss {float(before):.4f}, after a step {float(after):.4f}")
    run.say(f"the old parameters are still there: {float(loss(params, x, y)):.4f}")
    run.figure("loss falls by", float(before) - float(after))

    layer = nn.Dense(3, 1, bias=None, weight=nn.ones, dtype=run.dtype)
    own, _ = layer.init(run.key)
    run.say(f"\n{layer!r}: {own}")
    run.figure("leaves without a bias", len(dp.tree.leaves(own)))
    moved = dp.tree.map(lambda p: p.to_device("cpu"), own)
    run.say(f"on the {moved['weight'].device}: {layer.apply(moved, (), dp.ones((3,), dtype=run.dtype))[0]}")
    try:
        dp.tree.map(lambda p: p.to_device("cuda"), own)
    except ValueError as error:
        run.say(f"to_device('cuda'): {error}")


if __name__ == "__main__":
    study(main)
