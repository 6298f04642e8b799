"""What is read in ways that no name in the function tells: by methods of bases, wrappers, operators, defaults."""

from __future__ import annotations

import functools

import pytest

import defnpy as dp


class Rate:
    def __init__(self):
        self.value = 2.0
        self.table = {"rate": 2.0}

    def of(self):
        return self.value

    def __getitem__(self, key):
        return self.table[key]

    def __getattr__(self, name):
        if name == "through":
            return self.value
        raise AttributeError(name)

    def __mul__(self, other):
        return other * self.value

    def __iter__(self):
        yield self.value

    def set(self, value):
        self.value = self.table["rate"] = value
        RATES.clear()
        RATES.add(value)


class Same(Rate):
    def of(self):
        return super().of()


def scaled(rate):
    """A decorator whose wrapper is what reads the rate."""

    def decorate(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) * rate.value

        return wrapper

    return decorate


class Counted:
    """A decorator that is an object."""

    def __init__(self, function, rate):
        functools.update_wrapper(self, function)
        self.rate = rate

    def __call__(self, x):
        return self.__wrapped__(x) * self.rate.value


RATE = Same()
TABLE = RATE.table
RATES = {2.0}
scaled_plus = scaled(RATE)(lambda x: x + 0.0)
counted_plus = Counted(lambda x: x + 0.0, RATE)


def with_default(x, rate=RATE):
    return x * rate.value


def with_keyword(x, *, table=TABLE):
    return x * table["rate"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * RATE.of(),
        lambda x: scaled_plus(x),
        lambda x: counted_plus(x),
        scaled_plus,
        lambda x: with_default(x),
        lambda x: with_keyword(x),
        with_default,
        lambda x: x * RATE["rate"],
        lambda x: x * RATE.through,
        lambda x: RATE * x,
        lambda x: x * sum(RATE),
        lambda x: x * max(RATES),
        lambda x: x * getattr(RATE, "value"),  # noqa: B009 (what is tested)
    ],
    ids=[
        "super", "wrapper", "object that wraps", "itself wrapped", "default", "keyword default", "own default",
        "getitem", "getattr method", "operator", "iteration", "set", "getattr",
    ],
)  # fmt: skip
def test_the_present_value_counts(function):
    compiled = dp.defn(function, backend="reference")
    try:
        for value in (2.0, 3.0, 5.0):
            RATE.set(value)
            assert compiled(1.0).item() == value
        assert compiled.cache_info().misses == 3
        compiled(1.0)
        assert compiled.cache_info().misses == 3
    finally:
        RATE.set(2.0)


class Anything:
    """An object that makes up every attribute, and can be called."""

    def __getattr__(self, name):
        return Anything()

    def __call__(self, x):
        return x


def test_an_object_that_has_every_attribute():
    anything = Anything()
    assert dp.defn(lambda x: anything(anything.some(x)), backend="reference")(2.0).item() == 2.0


def test_a_set_that_gives_way_to_a_number():
    global RATES
    before, compiled = RATES, dp.defn(lambda x: x * (RATES if isinstance(RATES, float) else max(RATES)))
    try:
        assert compiled(1.0).item() == 2.0
        RATES = 7.0
        assert compiled(1.0).item() == 7.0
    finally:
        RATES = before
