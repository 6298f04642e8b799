"""Strategies: what they promise of every example, and that a property finds a planted fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.debug import verify
from defnpy.errors import DefnpyError
from defnpy.ir.op import REGISTRY
from defnpy.testing import (
    GradientCheckError,
    broadcastable_shapes,
    check_grads,
    containers,
    dtypes,
    given_tensors,
    graphs,
    shapes,
    tensors,
)

few = settings(max_examples=40)


@few
@given(shapes(min_dims=1, max_dims=2, min_side=0, max_side=3))
def test_shapes(shape):
    assert 1 <= len(shape) <= 2 and all(0 <= n <= 3 for n in shape)


@few
@given(st.integers(1, 4).flatmap(broadcastable_shapes))
def test_shapes_that_broadcast(found):
    assert len(np.broadcast_shapes(*found)) <= 3


@few
@given(dtypes(), dtypes("integral", "bool"))
def test_dtypes(real, other):
    assert real.kind == "f" and other.kind in "biu"


@few
@given(tensors(dtype=dtypes("real floating", "integral", "bool"), low=-1, high=2))
def test_tensors(x):
    assert isinstance(x, dp.Tensor) and x.size <= 64
    values = np.asarray(x)
    assert x.dtype.kind == "b" or ((values >= -1) & (values <= 2)).all()


@few
@given(tensors((3, 2), away_from=[0.0, 1.0]))
def test_tensors_away_from_kinks(x):
    assert all((np.abs(np.asarray(x) - kink) >= 0.125).all() for kink in (0.0, 1.0))


@few
@given(tensors((4,), at=[0.0, 7.0], away_from=[0.0]))
def test_tensors_at_kinks(x):
    assert np.isin(np.asarray(x), [0.0, 7.0]).any()


@few
@given(tensors((3, 3), distinct=True))
def test_distinct_elements(x):
    assert np.unique(np.asarray(x)).size == 9


def test_too_many_distinct_elements_are_refused():
    @given(tensors((50,), distinct=True, low=0, high=1))
    def run(x):
        raise AssertionError("never reached")

    with pytest.raises(DefnpyError, match="there are no 50 distinct elements in"):
        run()


@few
@given(containers(tensors((1,))))
def test_containers(made):
    assert isinstance(made, (dict, list, tuple)) and 1 <= len(dp.tree.leaves(made)) <= 4


@settings(max_examples=30)
@given(graphs(steps=4, table=True))
def test_graphs(program):
    verify(program.graph)
    found = evaluate(program.graph, program.inputs)
    assert [(y.shape, y.dtype) for y in found] == [(n.shape, n.dtype) for n in program.graph.outputs]


# -- properties of gradients ------------------------------------------------------------------------------------------


def quotient(x, y):
    check_grads(lambda x, y: dp.tanh(x) / y, [x, y])


def test_a_property_of_gradients_holds_and_finds_a_planted_fault(monkeypatch):
    property_ = given_tensors(2, away_from=[0.0], max_examples=25)(quotient)
    property_()
    assert property_.__name__ == "quotient"
    right = REGISTRY["tanh"].vjp
    # Wrong for large operands only, which an example by hand may not have.
    monkeypatch.setattr(REGISTRY["tanh"], "vjp", lambda g, y, x: (right(g, y, x)[0] + dp.where(x > 2.5, g, 0 * g),))
    monkeypatch.setattr(REGISTRY["tanh"], "jvp", None)
    with pytest.raises(GradientCheckError):
        given_tensors(2, away_from=[0.0], max_examples=200)(quotient)()


def test_given_shapes_and_options():
    seen = []

    @given_tensors(2, shape=(2, 3), low=0, high=1, dtype="float32", max_examples=10)
    def run(x, y):
        seen.append((x.shape, y.shape, x.dtype.name))

    run()
    assert set(seen) == {((2, 3), (2, 3), "float32")}


def test_without_hypothesis_the_error_says_so(root: Path, tmp_path: Path):
    (tmp_path / "hypothesis.py").write_text("raise ImportError('absent')\n", encoding="utf-8")
    code = (
        "import defnpy as dp\ntry: dp.testing.shapes()\nexcept dp.errors.DefnpyError as e: print(e.what, '|', e.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": f"{tmp_path}:{root}"}, capture_output=True, text=True
    )
    assert done.stdout == (
        "the strategies of defnpy.testing need the package hypothesis, which is not installed | "
        "pip install hypothesis, or defnpy with its extra: pip install 'defnpy[test]'\n"
    )
