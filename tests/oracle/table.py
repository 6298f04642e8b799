"""What the collection is made of: a function written once, for any namespace of NumPy's kind, and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy

Draw = Callable[[numpy.random.Generator], list[numpy.ndarray]]


@dataclass(frozen=True)
class Entry:
    """One function of the collection.

    function: ``function(np, *arguments)`` gives an array or a tuple of arrays; ``np`` is defnpy, or JAX by its names.
    draw: makes the arguments: floats, which are differentiated, and integers, which are not.
    without: the transformations that are not compared, with the reason.
    """

    name: str
    function: Callable[..., Any]
    draw: Draw
    without: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.name


def reals(*shapes: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> Draw:
    """Arrays of numbers from ``low`` to ``high``."""
    return lambda rng: [rng.uniform(low, high, shape) for shape in shapes]


def positive(*shapes: tuple[int, ...]) -> Draw:
    return reals(*shapes, low=0.3, high=2.0)


def whole(high: int, *shape: int) -> Draw:
    """Integers below ``high``."""
    return lambda rng: [rng.integers(0, high, shape)]


def distinct(*shape: int) -> Draw:
    """Numbers in random order, no two of them close."""
    size = int(numpy.prod(shape))
    return lambda rng: [(rng.permutation(size).reshape(shape) - size / 2 + 0.25) / 3.0]


def regular(*shape: int) -> Draw:
    """Matrices far from singular, with singular values far from each other."""

    def draw(rng: numpy.random.Generator) -> list[numpy.ndarray]:
        x = rng.uniform(-0.3, 0.3, shape)
        n = min(shape[-2:])
        x[..., range(n), range(n)] += 1.0 + numpy.arange(n)
        return [x]

    return draw


def definite(*shape: int) -> Draw:
    """Symmetric positive definite matrices."""

    def draw(rng: numpy.random.Generator) -> list[numpy.ndarray]:
        (x,) = regular(*shape)(rng)
        return [x @ numpy.swapaxes(x, -1, -2)]

    return draw


def together(*draws: Draw) -> Draw:
    """The arguments of all, in order."""
    return lambda rng: [x for draw in draws for x in draw(rng)]
