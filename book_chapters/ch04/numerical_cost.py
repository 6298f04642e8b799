"""Section 4.5.2, what it would cost: training with numerical gradients.

    784-50-10 has 39,760 parameters, so one gradient by differences takes 79,520 evaluations of the loss.

The book's ``network.numerical_gradient`` takes 15 seconds for a batch of 100, forty thousand times as long as going
backwards through the net, and 10,000 iterations would take 41 hours. This page measures both, and compares them.

In defnpy a difference quotient (both of its sides) is one compiled call, so a numerical gradient costs what its
evaluations cost, and little more. The three gradients agree: numerical and automatic, of the same loss, to rounding;
the book's formula but for the 1e-7 that it leaves out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance
from book_chapters.ch04 import two_layer_net as net
from book_chapters.common.data import scaled
from book_chapters.common.gradcheck import chosen_places, compare, numerical_grad
from book_chapters.runner import Run, study
from defnpy.errors import GradientError

OPTIONS = {"samples": "so many elements of each parameter, 1000 for one, in place of all", "batch_size": "images"}
QUICK = {"samples": 16}
ACCEPTANCE = (
    Acceptance("evaluations", 79_520, 79_520, original="79520"),
    Acceptance("W1 numerical against the formula", high=1e-9, original="7.09e-11"),
    Acceptance("b2 numerical against the formula", high=3e-8, original="2.42e-08"),
    Acceptance("largest numerical against automatic", high=1e-8, original="not compared"),
    Acceptance("numerical gradient, CPU seconds", high=14.8, original="14.8"),
    Acceptance("gradient, ms", high=0.6 * 0.364, original=".364"),
)
ITERATIONS = 10_000


def milliseconds(call: Callable[[], Any], repeats: int = 200) -> float:
    """The median time of a call, its result waited for."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2] * 1000


def main(run: Run, *, samples: int = 10**6, batch_size: int = 100) -> None:
    data = run.mnist()
    dtype = run.dtype_or(dp.float64)
    if dtype != dp.float64:
        raise GradientError("numerical gradients in float32 are noise", hint="leave --dtype away: this page takes f64")
    params = net.init(run.key, dtype=dtype)
    x, t = scaled(dp.asarray(data.train_images[:batch_size]), dtype), dp.asarray(data.train_labels[:batch_size])
    loss, gradient = dp.defn(net.loss), dp.value_and_grad(dp.defn(net.loss))
    places = chosen_places(params, samples, run.seed)
    count = 2 * sum(value.size for value in params.values())
    checked = 2 * sum(len(found) for found in places.values())

    loss(params, x, t), gradient(params, x, t)  # compile
    loss_ms, gradient_ms = (milliseconds(lambda f=f: f(params, x, t)) for f in (loss, gradient))
    few = {name: found[:1] for name, found in places.items()}
    numerical_grad(net.loss, params, x, t, places=few)
    began = time.process_time()  # the processor's seconds, as in the original's figure: others may be at work too
    numerical_grad(net.loss, params, x, t, places=places)
    seconds = (time.process_time() - began) * count / checked
    run.say(f"evaluations: {count:,} for one gradient ({checked:,} made)")
    run.say(f"loss {loss_ms:.3f} ms, loss and gradient {gradient_ms:.3f} ms, numerical gradient {seconds:.2f} s of CPU")
    run.say(
        f"that is {seconds * 1000 / gradient_ms:,.0f} times as long; {ITERATIONS:,} iterations would take "
        f"{seconds * ITERATIONS / 3600:.1f} hours in place of {gradient_ms * ITERATIONS / 1000:.1f} seconds"
    )
    comparison = compare(net.loss, params, x, t, formula=net.gradient_by_hand, samples=min(samples, 64), seed=run.seed)
    run.say(comparison)
    run.figure("evaluations", count)
    run.figure("loss, ms", round(loss_ms, 4))
    run.figure("gradient, ms", round(gradient_ms, 4))
    run.figure("numerical gradient, CPU seconds", round(seconds, 3))
    run.figure("times as long", round(seconds * 1000 / gradient_ms))
    run.figure("hours", round(seconds * ITERATIONS / 3600, 2))
    for row in comparison.rows:
        run.figure(f"{row.name} numerical against the formula", row.formula_mean)
    run.figure("largest numerical against automatic", comparison.max_automatic)


if __name__ == "__main__":
    study(main)
