"""Batches that do not fit: exact messages of vmap."""

from __future__ import annotations

from typing import Any

import pytest

import defnpy as dp
from defnpy.errors import ShapeError, TraceError, TreeError

P = {"w": dp.ones((3, 2)), "b": dp.ones(4)}
X = dp.ones((4, 2))


def model(p, x):
    return dp.sum(p["w"] * x)


WAYS = {"plain": lambda f: f, "defn": lambda f: dp.defn(f, backend="reference")}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param](model)


def check(error: type[Exception], call: Any, text: str, marked: str, place: Any) -> None:
    """``call`` is a lambda on one line, which holds the call of vmap's result, ``marked``, alone."""
    with pytest.raises(error) as caught:
        call()
    first, *rest = text.split("\n")
    assert str(caught.value) == "\n".join([first, place(call, marked, marked), *rest])


def test_sizes_differ(way, place):
    def call():
        dp.vmap(way)(P, X)

    text = (
        "vmap: the sizes of the mapped axes differ: 4 along axis 0 of p['b'], 3 along axis 0 of p['w'], "
        "4 along axis 0 of x\n"
        "Hint: mapped axes have one entry per example; what is the same for all examples has None in in_axes"
    )
    check(ShapeError, call, text, "dp.vmap(way)(P, X)", place)


def test_size_differs_from_axis_size(way, place):
    def call():
        dp.vmap(way, (None, 0), axis_size=5)(P, X)

    text = (
        "vmap: the sizes of the mapped axes differ: axis_size=5, 4 along axis 0 of x\n"
        "Hint: mapped axes have one entry per example; what is the same for all examples has None in in_axes"
    )
    check(ShapeError, call, text, "dp.vmap(way, (None, 0), axis_size=5)(P, X)", place)


def test_axis_out_of_range(way, place):
    def call():
        dp.vmap(way, (None, 2))(P, X)

    text = (
        "vmap: x is f32[4,2] and cannot be mapped over axis 2: axis 2 does not exist: the tensor has 2 axes\n"
        "Hint: what is the same for all examples has None in in_axes"
    )
    check(ShapeError, call, text, "dp.vmap(way, (None, 2))(P, X)", place)


def test_a_number_has_no_axis(way, place):
    def call():
        dp.vmap(way, (None, 0))(P, 1.0)

    text = (
        "vmap: x is f64~[] and cannot be mapped over axis 0: axis 0 does not exist: the tensor has 0 axes\n"
        "Hint: what is the same for all examples has None in in_axes"
    )
    check(ShapeError, call, text, "dp.vmap(way, (None, 0))(P, 1.0)", place)


def test_nothing_mapped(way, place):
    def call():
        dp.vmap(way, (None, None))(P, X)

    text = (
        "vmap: no argument of model is mapped over, so the number of examples is not known\n"
        "Hint: give one of them an axis in in_axes, or say axis_size="
    )
    check(ShapeError, call, text, "dp.vmap(way, (None, None))(P, X)", place)


def test_axes_for_other_arguments(way, place):
    def call():
        dp.vmap(way, (None, 0, 0))(P, X)

    text = (
        "vmap: in_axes is (None, 0, 0) and does not have the structure of the arguments "
        "({'w': f32[3,2], 'b': f32[4]}, f32[4,2])\n"
        "Hint: in_axes may end earlier, with an int or None for everything below, but not go another way"
    )
    check(TreeError, call, text, "dp.vmap(way, (None, 0, 0))(P, X)", place)


def test_axes_for_another_container(way, place):
    def call():
        dp.vmap(way, ({"w": 0}, None))(P, X)

    text = (
        "vmap: in_axes is ({'w': 0}, None) and does not have the structure of the arguments "
        "({'w': f32[3,2], 'b': f32[4]}, f32[4,2])\n"
        "Hint: in_axes may end earlier, with an int or None for everything below, but not go another way"
    )
    check(TreeError, call, text, 'dp.vmap(way, ({"w": 0}, None))(P, X)', place)


def test_axes_of_the_result(way, place):
    def call():
        dp.vmap(way, (None, 0), out_axes=(0, 0))(P | {"w": P["w"][0]}, X)

    text = (
        "vmap: out_axes is (0, 0) and does not have the structure of the result f32[4]\n"
        "Hint: out_axes may end earlier, with an int or None for everything below, but not go another way"
    )
    check(TreeError, call, text, 'dp.vmap(way, (None, 0), out_axes=(0, 0))(P | {"w": P["w"][0]}, X)', place)


def test_no_axis_for_the_result(way, place):
    def call():
        dp.vmap(way, (None, 0), 1)(P, X)

    text = "vmap: a result f32[4] has no axis 1 for the batch: axis 1 does not exist: the tensor has 1 axis"
    check(ShapeError, call, text, "dp.vmap(way, (None, 0), 1)(P, X)", place)


def test_a_result_that_differs_cannot_be_the_same_for_all(way, place):
    with pytest.raises(ShapeError) as caught:
        dp.vmap(way, (None, 0), None)(P, X)
    assert str(caught.value) == (
        "vmap: out_axes is None for a result f32[4] that differs from example to example\n"
        + place(model, 'return dp.sum(p["w"] * x)', 'dp.sum(p["w"] * x)')
        + "\nHint: None is for results that no mapped argument enters; say out_axes=0"
    )


@pytest.mark.parametrize("axes", [(None, "a"), (None, 1.0), (None, True)])
def test_axes_are_ints(axes):
    with pytest.raises(TreeError, match=f"vmap: in_axes consists of ints and None, not of {axes[1]!r}"):
        dp.vmap(model, axes)(P, X)


@pytest.mark.parametrize("size", [-1, 2.0, "a"])
def test_axis_size_is_a_number(size):
    with pytest.raises(ShapeError, match=f"vmap: axis_size is a number of examples, not {size!r}"):
        dp.vmap(model, (None, 0), axis_size=size)(P, X)


def test_errors_inside_speak_of_one_example(place):
    def wrong(x):
        return dp.ones(3) @ x

    with pytest.raises(ShapeError, match=r"matmul\(f32\[3\], f32\[2\]\): the inner sizes differ: 3 and 2"):
        dp.vmap(wrong)(X)


def test_no_truth_of_a_batch():
    with pytest.raises(TraceError, match="the truth of a traced value bool"):
        dp.vmap(lambda x: x if x > 0 else -x)(dp.ones(3))
