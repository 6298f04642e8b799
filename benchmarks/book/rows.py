"""What is measured, row by row. To add a page, add its step to STEPS, its script to SCRIPTS, or both.

A step is a :class:`benchmarks.harness.work.Work` whose contenders have the names of CONTENDERS, or some of them (others
in it are passed over); each of its variants is a row. A script is a command line for each contender.

There are two kinds of NumPy, both in float32: the book's lines as they are, which is the same algorithm and has the
goal, and the same formulas written for speed, which reuse their arrays in place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..harness.work import Contender, Work
from ..peers import convnet, optimizers, regularised
from . import multi_layer, two_layer

__all__ = ["CONTENDERS", "GOALS", "SCRIPTS", "STEPS", "Script"]

# defnpy's time is at most so much of the contender's.
GOALS = {"the book's NumPy": 0.5, "NumPy": None, "JAX": 1.0}
CONTENDERS = ("the book's NumPy", "NumPy", "defnpy", "JAX")


@dataclass(frozen=True)
class Script:
    """A whole page: the words after ``python`` for each contender, whose options make it do the same work."""

    page: str
    words: dict[str, tuple[str, ...]]
    iterations: dict[str, str]


def _named(works: tuple[Work, ...], name: str, *more: Contender) -> Work:
    work = next(work for work in works if work.name == name)
    return replace(work, contenders=(*work.contenders, *more))


STEPS: dict[str, Work] = {
    **{work.name: work for work in two_layer.WORKS},
    "ch06.optimizer_compare_mnist": _named(optimizers.WORKS, "optimizers", multi_layer.OPTIMIZERS),
    "ch06.regularised": _named(regularised.WORKS, "regularised", multi_layer.REGULARISED),
    "ch07.train_convnet": _named(convnet.WORKS, "convnet"),
}


def _training(page: str, activation: str) -> Script:
    numpy = ("-m", "benchmarks.train.numpy_net", "--style", "fair", "--activation", activation)
    jax = ("-m", "benchmarks.train.jax_net", "--activation", activation)
    book = ("-m", "benchmarks.train.numpy_net", "--style", "book-float32", "--activation", activation)
    words = {"the book's NumPy": book, "NumPy": numpy, "defnpy": ("-m", f"book_chapters.{page}"), "JAX": jax}
    return Script(page, words, {name: "--iters" if name == "defnpy" else "--iterations" for name in words})


SCRIPTS = (_training("ch04.train_neuralnet", "sigmoid"), _training("ch05.train_neuralnet", "relu"))
