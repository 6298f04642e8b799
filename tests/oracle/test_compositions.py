"""Transformations of transformations, over the whole collection: each against a way to the same numbers that avoids
one of the two. JAX is not needed here."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy
import pytest

import defnpy as dp
from tests.oracle.collection import COLLECTION
from tests.oracle.table import Entry

EXAMPLES = 2


class Setting:
    """A function of the collection as one of a list of floats, and some examples."""

    def __init__(self, entry: Entry) -> None:
        rng = numpy.random.default_rng(zlib.crc32(entry.name.encode()))
        self.examples = [tuple(map(dp.asarray, entry.draw(rng))) for _ in range(EXAMPLES)]
        self.places = tuple(i for i, x in enumerate(self.examples[0]) if x.dtype.kind == "f")
        self.function = functools.partial(entry.function, dp)
        found = self.function(*self.examples[0])
        self.weights = [rng.standard_normal(y.shape) for y in (found if isinstance(found, tuple) else (found,))]
        self.direction = tuple(
            dp.asarray(rng.standard_normal(x.shape)) if i in self.places else None
            for i, x in enumerate(self.examples[0])
        )

    def scalar(self, *args: Any) -> Any:
        found = self.function(*args)
        parts = found if isinstance(found, tuple) else (found,)
        return sum(dp.sum(y * w) for y, w in zip(parts, self.weights, strict=True))


def assert_close(found: Any, expected: Any) -> None:
    found, expected = numpy.asarray(found), numpy.asarray(expected)
    assert found.shape == expected.shape
    size = numpy.max(numpy.abs(expected), initial=0.0)
    numpy.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * size + 1e-14)


@pytest.mark.parametrize("entry", COLLECTION, ids=lambda entry: entry.name)
def test_gradients_of_a_batch(entry: Entry) -> None:
    """vmap of grad, and grad through vmap, against the gradient of every example."""
    s = Setting(entry)
    gradient = dp.grad(s.scalar, s.places)
    single = [gradient(*example) for example in s.examples]
    batch = [dp.stack(column) for column in zip(*s.examples, strict=True)]
    inside = dp.vmap(gradient)(*batch)
    through = dp.grad(lambda *args: dp.sum(dp.vmap(s.scalar)(*args)), s.places)(*batch)
    for i in range(len(s.places)):
        expected = numpy.stack([numpy.asarray(g[i]) for g in single])
        assert_close(inside[i], expected)
        assert_close(through[i], expected)


@pytest.mark.parametrize("entry", COLLECTION, ids=lambda entry: entry.name)
def test_second_derivatives_along_a_direction(entry: Entry) -> None:
    """Forwards over backwards against backwards over backwards, and backwards over forwards."""
    s = Setting(entry)
    example, gradient = s.examples[0], dp.grad(s.scalar, s.places)
    moved = [s.direction[i] for i in s.places]

    def slope(*args: Any) -> Any:
        """The derivative along the direction, by the gradient."""
        parts = gradient(*args)
        return sum(dp.sum(g * v) for g, v in zip(parts, moved, strict=True))

    def forwards(*args: Any) -> Any:
        return dp.jvp(s.scalar, args, s.direction)[1]

    expected = dp.grad(slope, s.places)(*example)
    over = dp.jvp(lambda *args: gradient(*args), example, s.direction)[1]
    under = dp.grad(forwards, s.places)(*example)
    for e, f, g in zip(expected, over, under, strict=True):
        assert_close(f, e)
        assert_close(g, e)
