"""Donated arguments: whose memory becomes an output's, and when it must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp

X = dp.spec((40, 3))


def taken(function: Any, *specs: Any, donated: tuple[int, ...] = (0,)) -> int:
    """How many outputs take the memory of an input."""
    from defnpy.lower.program import lower
    from defnpy.passes.pipeline import optimize

    return len(lower(optimize(dp.defn(function).expr(*specs)), 2, donated).donated)


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda p, g: p - 0.1 * g, 1),
        (lambda p, g: (p - g, p + g), 1),  # one of them
        (lambda p, g: p.T, 0),  # another shape
        (lambda p, g: dp.flip(p, axis=0) + g, 0),  # another element than the one that is stored
        (lambda p, g: p - dp.mean(p, axis=1, keepdims=True), 0),  # the row is read twice
        (lambda p, g: dp.sum(p - g, axis=0), 0),
        (lambda p, g: (p - g, dp.argmax(p, axis=1)), 1),  # the call comes first
        (lambda p, g: (p - g, dp.argmax(p - dp.sum(p - g), axis=1)), 0),  # read later, too
        (lambda p, g: (p * 1.0, p), 0),  # an output itself
        (lambda p, g: (p - g).astype("float64"), 0),
        (lambda p, g: p @ dp.ones((3, 3)), 0),  # a product cannot work in place
    ],
)
def test_what_can_be_taken(function: Any, count: int) -> None:
    assert taken(function, X, X) == count


def test_nothing_is_taken_that_was_not_given() -> None:
    assert taken(lambda p, g: p - g, X, X, donated=()) == 0
    assert taken(lambda p, g: p - g, X, X, donated=(1,)) == 1


@dp.defn(donate="params", backend="cpu")
def step(params: Any, g: Any, lr: float) -> Any:
    return dp.tree.map(lambda p: p - lr * g, params)


def fresh() -> Any:
    """A tensor whose memory nobody else holds."""
    return dp.defn(lambda x: x * 1.5, backend="cpu")(dp.ones((4, 5)))


def address(x: Any) -> int:
    return x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x._array.ctypes.data


def test_the_memory_goes_over() -> None:
    first = {"a": fresh(), "b": fresh()}
    places = sorted(map(address, first.values()))
    params: Any = first
    for _ in range(3):
        params = step(params, dp.ones((4, 5)), 0.5)
        assert sorted(map(address, params.values())) == places
    np.testing.assert_array_equal(params["a"], np.zeros((4, 5)))
    with pytest.raises(dp.errors.DonatedError, match=r"f32\[4,5\].*donated to step"):
        first["a"] + 1
    with pytest.raises(dp.errors.DonatedError):
        step(first, dp.ones((4, 5)), 0.5)


def test_memory_that_is_still_seen_is_copied() -> None:
    x = fresh()
    seen = np.asarray(x)
    y = step({"a": x}, dp.ones((4, 5)), 0.5)["a"]
    np.testing.assert_array_equal(seen, np.full((4, 5), 1.5))
    np.testing.assert_array_equal(y, np.ones((4, 5)))
    array = np.ones((4, 5), np.float32)
    assert step({"a": array}, dp.ones((4, 5)), 0.5)["a"][0, 0] == 0.5 and array[0, 0] == 1


def test_one_tensor_twice() -> None:
    x = fresh()
    y = step({"a": x, "b": x}, dp.ones((4, 5)), 0.5)
    np.testing.assert_array_equal(y["a"], np.ones((4, 5)))
    np.testing.assert_array_equal(y["b"], np.ones((4, 5)))
    z = fresh()
    np.testing.assert_array_equal(step({"a": z}, z, 1.0)["a"], np.zeros((4, 5)))


def test_an_argument_that_is_not_there() -> None:
    with pytest.raises(dp.errors.ConfigError, match="no positional argument 'weights' to donate"):
        dp.defn(lambda params: params, donate="weights")


def test_the_reference_uses_them_up_too() -> None:
    f = dp.defn(lambda x: x + 1, donate="x", backend="reference")
    x = dp.ones(3)
    assert f(x).tolist() == [2, 2, 2]
    with pytest.raises(dp.errors.DonatedError):
        x.tolist()


def test_other_kinds_of_parameters() -> None:
    def behind(a: Any, /, x: Any) -> Any:
        return a + x

    def before(x: Any, *rest: Any) -> Any:
        return x + rest[0]

    for function, args in ((behind, (dp.ones((4, 5)), fresh())), (before, (fresh(), dp.ones((4, 5))))):
        f = dp.defn(function, donate="x", backend="cpu")
        place = address(args[function is behind])
        y = f(*args)
        assert address(y) == place and y[0, 0] == 2.5
    with pytest.raises(dp.errors.ConfigError):
        dp.defn(before, donate="rest")


def test_a_step_that_may_fail_leaves_its_arguments_alone() -> None:
    table, i = dp.spec((50,), "int64"), dp.spec((400,), "int64")
    assert taken(lambda table, i: dp.take(table, i), table, i, donated=(1,)) == 0


def test_measuring_works_on_copies() -> None:
    explained = step.explain({"a": fresh()}, dp.ones((4, 5)), 0.5, measure=True)
    assert explained.seconds is not None and min(explained.seconds) > 0
