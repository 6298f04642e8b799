"""What is measured, row by row. To add a page, add its step to STEPS, its script to SCRIPTS, or both.

A step is a :class:`benchmarks.harness.work.Work` whose contenders are called NumPy, defnpy and JAX (others in it are
passed over); each of its variants is a row. A script is a command line for each contender.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..harness.work import Work
from ..peers import convnet, optimizers
from . import two_layer

__all__ = ["GOALS", "SCRIPTS", "STEPS", "Script"]

# defnpy's time is at most so much of the contender's.
GOALS = {"NumPy": 0.5, "JAX": 1.0}


@dataclass(frozen=True)
class Script:
    """A whole page: the words after ``python`` for each contender, whose options make it do the same work."""

    page: str
    words: dict[str, tuple[str, ...]]
    iterations: dict[str, str]


def _named(works: tuple[Work, ...], name: str) -> Work:
    return next(work for work in works if work.name == name)


STEPS: dict[str, Work] = {
    **{work.name: work for work in two_layer.WORKS},
    "ch06.optimizer_compare_mnist": _named(optimizers.WORKS, "optimizers"),
    "ch07.train_convnet": _named(convnet.WORKS, "convnet"),
}


def _training(page: str, activation: str) -> Script:
    numpy = ("-m", "benchmarks.train.numpy_net", "--style", "fair", "--activation", activation)
    jax = ("-m", "benchmarks.train.jax_net", "--activation", activation)
    words = {"NumPy": numpy, "defnpy": ("-m", f"book_chapters.{page}"), "JAX": jax}
    return Script(page, words, {"NumPy": "--iterations", "defnpy": "--iters", "JAX": "--iterations"})


SCRIPTS = (_training("ch04.train_neuralnet", "sigmoid"), _training("ch05.train_neuralnet", "relu"))
