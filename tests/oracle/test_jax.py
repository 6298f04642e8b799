"""JAX as an outside oracle: values, gradients, forward derivatives, batches and Hessians of the whole collection.

Everything is float64 and eager on our side; backends are held against the eager evaluator elsewhere. The second part
names the conventions in which the two differ on purpose.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

import defnpy as dp

jax = pytest.importorskip("jax", reason="JAX is the oracle of these tests; it comes with the extra defnpy[bench]")

from tests.oracle import adapter  # noqa: E402
from tests.oracle.collection import COLLECTION  # noqa: E402
from tests.oracle.table import Entry  # noqa: E402

TRANSFORMATIONS = ("grad", "jvp", "vmap", "hessian")
EXAMPLES = 3  # of a batch


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    """float64 in JAX for the length of these tests."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def parts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


class Comparison:
    """One function with its arguments, weights that make a scalar of its results, and a direction."""

    def __init__(self, entry: Entry) -> None:
        self.function = entry.function
        self.chosen = [name for name in TRANSFORMATIONS if name not in entry.without]
        rng = numpy.random.default_rng(zlib.crc32(entry.name.encode()))
        examples = [entry.draw(rng) for _ in range(EXAMPLES)]
        self.args = examples[0]
        self.batch = [numpy.stack(column) for column in zip(*examples, strict=True)]
        self.places = [i for i, x in enumerate(self.args) if x.dtype.kind == "f"]
        self.floats = [self.args[i] for i in self.places]
        self.vector = numpy.concatenate([x.ravel() for x in self.floats])
        self.direction = [rng.standard_normal(x.shape) for x in self.floats]
        found = parts(self.function(dp, *map(dp.asarray, self.args)))
        self.weights = [rng.standard_normal(p.shape) for p in found]

    def scalar(self, np: Any, *args: Any) -> Any:
        """The weighted sum of the results."""
        found = parts(self.function(np, *args))
        return sum(np.sum(p * w) for p, w in zip(found, self.weights, strict=True))

    def of_floats(self, np: Any, function: Any) -> Any:
        """``function`` of the float arguments alone."""

        def called(*floats: Any) -> Any:
            args = [np.asarray(x) for x in self.args]
            for i, x in zip(self.places, floats, strict=True):
                args[i] = x
            return function(np, *args)

        return called

    def of_vector(self, np: Any) -> Any:
        """The scalar as a function of one vector of all numbers."""

        def called(vector: Any) -> Any:
            floats, start = [], 0
            for x in self.floats:
                floats.append(np.reshape(vector[start : start + x.size], x.shape))
                start += x.size
            return self.of_floats(np, self.scalar)(*floats)

        return called

    def results(self, library: Any, np: Any) -> Any:
        """A function of the batch, the floats, their direction and the vector: what each transformation gives."""

        def computed(batch: Any, floats: Any, direction: Any, vector: Any) -> dict[str, Any]:
            every = tuple(range(len(floats)))
            ways = {
                "grad": lambda: tuple(library.value_and_grad(self.of_floats(np, self.scalar), every)(*floats)),
                "jvp": lambda: library.jvp(self.of_floats(np, self.function), tuple(floats), tuple(direction)),
                "vmap": lambda: library.vmap(functools.partial(self.function, np))(*batch),
                "hessian": lambda: library.hessian(self.of_vector(np))(vector),
            }
            return {name: ways[name]() for name in self.chosen}

        return computed


def assert_equal(found: Any, expected: Any, name: str) -> None:
    if isinstance(expected, tuple):
        assert len(found) == len(expected), name
        for f, e in zip(found, expected, strict=True):
            assert_equal(f, e, name)
        return
    found, expected = numpy.asarray(found), numpy.asarray(expected)
    assert found.shape == expected.shape, name
    # Relative to the size of the whole: an element that cancels out has no digits of its own.
    size = numpy.max(numpy.abs(expected), initial=0.0)
    numpy.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * size + 1e-14, err_msg=name)


@functools.cache
def quick() -> dict[str, Any]:
    """The options that make XLA compile fast, as far as this JAX knows them: each program runs once."""
    known: dict[str, Any] = {}
    for option, value in (("xla_backend_optimization_level", 0), ("xla_cpu_use_fusion_emitters", False)):
        try:
            jax.jit(lambda x: x + 1, compiler_options={option: value})(1.0)
        except RuntimeError:
            continue
        known[option] = value
    return known


def check(entry: Entry) -> None:
    """The transformations of one function, in both libraries."""
    c = Comparison(entry)
    given = [c.batch, c.floats, c.direction, c.vector]
    ours = c.results(dp, dp)(*[[dp.asarray(x) for x in xs] if isinstance(xs, list) else dp.asarray(xs) for xs in given])
    # One program per function: XLA's compilation is what takes the time here.
    theirs = jax.jit(c.results(jax, adapter.np), compiler_options=quick())(*given)
    assert ours.keys() == theirs.keys() == set(c.chosen)
    for name in c.chosen:
        assert_equal(ours[name], theirs[name], name)


@pytest.mark.parametrize("entry", COLLECTION, ids=lambda entry: entry.name)
def test_as_jax_does(entry: Entry) -> None:
    check(entry)


def test_the_collection_is_large_and_its_names_differ() -> None:
    assert len(COLLECTION) >= 150
    assert len({entry.name for entry in COLLECTION}) == len(COLLECTION)


# -- where the two differ on purpose -----------------------------------------------------------------------------------

NAN = math.nan


@dataclass(frozen=True)
class Convention:
    """A gradient that is ours by choice, and why; beside it that of JAX 0.10, which is JAX's to change: not tested."""

    name: str
    function: Callable[..., Any]
    x: list[float]
    ours: list[float]
    theirs: list[float]
    why: str


CONVENTIONS = [
    Convention(
        "the norm of zeros",
        lambda np, x: np.linalg.vector_norm(x),
        [0.0, 0.0],
        [0.0, 0.0],
        [NAN, NAN],
        "0 is a subgradient; NaN spoils a whole training step",
    ),
    Convention(
        "a logarithm that where does not take",
        lambda np, x: np.sum(np.where(x > 0, np.log(x), 0.0)),
        [0.0, -1.0, 2.0],
        [0.0, 0.0, 0.5],
        [NAN, 0.0, 0.5],
        "what is not taken has no part in the derivative",
    ),
    Convention(
        "a quotient that where does not take",
        lambda np, x: np.sum(np.where(x != 0, 1 / x, 0.0)),
        [0.0, 1.0],
        [0.0, -1.0],
        [NAN, -1.0],
        "what is not taken has no part in the derivative",
    ),
    Convention(
        "abs at 0",
        lambda np, x: np.sum(np.abs(x)),
        [0.0, -2.0],
        [0.0, -1.0],
        [1.0, -1.0],
        "the middle of the two slopes",
    ),
    Convention(
        "hypot at 0",
        lambda np, x: np.hypot(x[0], x[1]),
        [0.0, 0.0],
        [0.0, 0.0],
        [0.5, 0.5],
        "that of the norm",
    ),
    Convention(
        "clip at its bounds",
        lambda np, x: np.sum(np.clip(x, 0.0, 1.0)),
        [0.0, 0.5, 1.0],
        [1.0, 1.0, 1.0],
        [0.5, 1.0, 0.5],
        "a value on the bound is kept, not replaced: x has the whole gradient on the closed interval",
    ),
    Convention(
        "cumulative_max of equal elements",
        lambda np, x: np.sum(np.cumulative_max(x)),
        [1.0, 1.0, 0.0],
        [3.0, 0.0, 0.0],
        [2.0, 1.0, 0.0],
        "the element reached first stays the largest; JAX's shares depend on how it splits the row",
    ),
    Convention(
        "x to the x at 0",
        lambda np, x: np.sum(x**x),
        [0.0],
        [0.0],
        [NAN],
        "0 * log(0) is taken as its limit, 0",
    ),
]


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
def test_a_convention(convention: Convention) -> None:
    gradient = dp.grad(functools.partial(convention.function, dp))(numpy.array(convention.x))
    numpy.testing.assert_array_equal(gradient, convention.ours)


# -- the comparison itself sees a difference, in each transformation ---------------------------------------------------


def misled(np: Any, x: Any, wrong: Any) -> Any:
    """A function that is another one in defnpy."""
    return wrong(x) if np is dp else np.sin(x)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda x: dp.sin(x) * (1 + 1e-9), "grad"),
        (lambda x: dp.sin(dp.stop_grad(x)) + (x - dp.stop_grad(x)) * dp.cos(x) * (1 + 1e-9), "grad"),
        (lambda x: dp.sin(x) + 0.5e-9 * (x - dp.stop_grad(x)) ** 2, "hessian"),
    ],
    ids=["value", "first order", "second order"],
)
def test_a_difference_is_seen(wrong: Any, name: str) -> None:
    entry = Entry("misled", functools.partial(misled, wrong=wrong), lambda rng: [rng.uniform(0.5, 1.0, (2,))])
    with pytest.raises(AssertionError, match=name):
        check(entry)
