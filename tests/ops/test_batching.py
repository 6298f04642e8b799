"""The batching rule of every op against a Python loop over the examples, for each choice of batched operands."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.op import REGISTRY, Case, Op
from defnpy.ops.families import movement

OPS = [op for op in REGISTRY.values() if op.family not in ("leaf", "item")]
ROWS = [pytest.param(op, case, id=f"{op.name}-{i}") for op in OPS for i, case in enumerate(op.cases)]
SIZE = 3
CLOSE = {"rtol": 1e-12, "atol": 1e-13}  # the same sums in another order

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def examples(op: Op, case: Case) -> list[list[np.ndarray]]:
    """The operands of a case, drawn for each example. Where all would be alike, as indices are, which come from
    no generator, integers are shuffled, and floats grow from example to example (they may have to be in order)."""
    seed = zlib.crc32(f"{op.name} {sorted(map(str, case.params.items()))}".encode())
    rng = np.random.default_rng(seed)
    rows = [[np.asarray(a) for a in case.arrays(rng, np.dtype("float64"))] for _ in range(SIZE)]
    for k, first in enumerate(rows[0]):
        if all(np.array_equal(row[k], first, equal_nan=first.dtype.kind == "f") for row in rows):
            for i, row in enumerate(rows):
                row[k] = first + i if first.dtype.kind == "f" else rng.permutation(first.ravel()).reshape(first.shape)
    return rows


def choices(count: int) -> list[tuple[bool, ...]]:
    """Which operands are batched: every choice of up to three; of more, all and each alone."""
    if count > 3:
        return [(True,) * count, *[tuple(i == j for j in range(count)) for i in range(count)]]
    return [choice for choice in itertools.product([False, True], repeat=count) if any(choice)]


def bound(op: Op, params: dict[str, Any]) -> Callable[..., tuple[Any, ...]]:
    """The op with its static parameters, as a function of tensors to a tuple of its results."""

    def call(*arrays: Any) -> tuple[Any, ...]:
        found = op(*arrays, **params)
        return found if isinstance(found, tuple) else (found,)

    return call


def check_batching(op: Op, case: Case, backend: str | None = None, axis: int = 0) -> None:
    """Every choice of batched operands, along ``axis``, against the op called in a loop."""
    rows = examples(op, case)
    function = bound(op, case.params)
    for choice in choices(len(rows[0])):
        calls = [[row[i] if choice[i] else rows[0][i] for i in range(len(choice))] for row in rows]
        singly = [function(*map(dp.asarray, call)) for call in calls]
        operands = [
            np.stack([call[i] for call in calls], axis) if choice[i] else rows[0][i] for i in range(len(choice))
        ]
        batched = dp.vmap(
            function if backend is None else dp.defn(function, backend=backend),
            in_axes=tuple(axis if given else None for given in choice),
            out_axes=axis,
        )
        for result, parts in zip(batched(*map(dp.asarray, operands)), zip(*singly, strict=True), strict=True):
            found, expected = np.asarray(result), np.stack([np.asarray(part) for part in parts], axis)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype), choice
            np.testing.assert_allclose(found, expected, **CLOSE, err_msg=str(choice))


def differentiated(op: Op, rows: Any, params: dict[str, Any]) -> tuple[tuple[int, ...], list[Any], Callable[..., Any]]:
    """The numbers of the operands that are floats, the results that are, for one example, and the function of weights
    for these and of all operands that gives their weighted sum."""
    numbers = tuple(i for i, a in enumerate(rows[0]) if a.dtype.kind == "f")
    function = bound(op, params)
    ys = function(*map(dp.asarray, rows[0]))
    floats = [i for i, y in enumerate(ys) if y.dtype.kind == "f"]

    def projected(w: Any, *xs: Any) -> Any:
        found = function(*xs)
        return sum(dp.sum(found[i] * each) for i, each in zip(floats, w, strict=True))

    return numbers, [ys[i] for i in floats], projected


def check_batched_gradient(op: Op, case: Case) -> None:
    """The gradients of all examples at once, and the gradient through the batch, against a loop of gradients."""
    rows = examples(op, case)
    numbers, ys, projected = differentiated(op, rows, case.params)
    if not numbers or not ys:
        return
    rng = np.random.default_rng(1)
    weights = [tuple(dp.asarray(rng.standard_normal(y.shape)) for y in ys) for _ in rows]

    def total(w: Any, *xs: Any) -> Any:
        return dp.sum(dp.vmap(projected)(w, *xs))

    gradient = dp.grad(projected, tuple(n + 1 for n in numbers))
    loop = [gradient(w, *map(dp.asarray, row)) for w, row in zip(weights, rows, strict=True)]
    all_weights = tuple(dp.stack(column) for column in zip(*weights, strict=True))
    operands = [dp.asarray(np.stack(column)) for column in zip(*rows, strict=True)]
    inside = dp.vmap(gradient)(all_weights, *operands)
    through = dp.grad(total, tuple(n + 1 for n in numbers))(all_weights, *operands)
    for i in range(len(numbers)):
        expected = np.stack([np.asarray(gradients[i]) for gradients in loop])
        np.testing.assert_allclose(np.asarray(inside[i]), expected, **CLOSE)
        np.testing.assert_allclose(np.asarray(through[i]), expected, **CLOSE)


def test_every_op_has_a_rule_or_says_why_it_loops() -> None:
    undecided = [op.name for op in OPS if (op.batch is None) == (not op.loops)]
    assert not undecided, f"give batch= or, with the reason, loops= in the declaration of {undecided}"


@pytest.mark.parametrize(("op", "case"), ROWS)
def test_the_rule_agrees_with_a_loop(op: Op, case: Case) -> None:
    if case.arrays(np.random.default_rng(0), np.dtype("float64")):
        check_batching(op, case)
        check_batching(op, case, axis=-1)
    else:
        function = bound(op, case.params)
        assert dp.vmap(function, axis_size=2, out_axes=None)()[0].shape == function()[0].shape


NOT_ELEMENTWISE = [row for row in ROWS if row.values[0].family != "elementwise" and row.id.endswith("-0")]


@pytest.mark.parametrize(("op", "case"), NOT_ELEMENTWISE)
def test_compiled_the_rule_agrees_with_a_loop(op: Op, case: Case) -> None:
    if case.arrays(np.random.default_rng(0), np.dtype("float64")):
        check_batching(op, case, backend="cpu")


@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if row.values[0].vjp is not None])
def test_the_rules_of_the_gradient_agree_with_a_loop(op: Op, case: Case) -> None:
    check_batched_gradient(op, case)


def check_batched_second_order(op: Op, case: Case) -> None:
    """The products of all examples' Hessians with a direction, reverse over reverse, against a loop of them."""
    rows = examples(op, case)
    numbers, ys, projected = differentiated(op, rows, case.params)
    if not numbers or not ys:
        return
    rng = np.random.default_rng(1)
    weights = tuple([dp.asarray(rng.standard_normal(y.shape)) for y in ys])
    directions = [dp.asarray(rng.standard_normal(rows[0][i].shape)) for i in numbers]

    def along(*xs: Any) -> Any:
        gradients = dp.grad(projected, tuple(n + 1 for n in numbers))(weights, *xs)
        return sum(dp.sum(g * d) for g, d in zip(gradients, directions, strict=True))

    product = dp.grad(along, numbers)
    loop = [product(*map(dp.asarray, row)) for row in rows]
    batched = dp.vmap(product)(*[dp.asarray(np.stack(column)) for column in zip(*rows, strict=True)])
    for i in range(len(numbers)):
        expected = np.stack([np.asarray(products[i]) for products in loop])
        np.testing.assert_allclose(np.asarray(batched[i]), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if row.values[0].vjp is not None])
def test_the_rules_of_the_second_derivative_agree_with_a_loop(op: Op, case: Case) -> None:
    check_batched_second_order(op, case)


def test_a_wrong_rule_is_caught_by_the_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second derivative of sin is computed by sin itself."""
    op = REGISTRY["sin"]
    right = op.batch
    assert right is not None
    monkeypatch.setattr(op, "batch", lambda batched, x: dp.flip(right(batched, x), axis=0))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_batched_second_order(op, op.cases[0])


def test_an_op_without_a_rule_is_computed_one_by_one() -> None:
    op = REGISTRY["dot_general"]
    rule, op.batch = op.batch, None
    try:
        for case in op.cases:
            check_batching(op, case)
    finally:
        op.batch = rule


# -- planted faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda batched, x: dp.flip(x), "Mismatched elements"),  # turns the batch around as well
        (lambda batched, x: x, "Mismatched elements"),
        (lambda batched, x: dp.sum(x, axis=0), "numpy_flip"),
    ],
    ids=["also the batch", "nothing", "wrong shape"],
)
def test_a_wrong_rule_is_caught(rule: Any, message: str) -> None:
    def numpy_flip(x, /):
        return np.flip(x)

    case = Case(lambda rng, dtype: [rng.standard_normal((2, 3)).astype(dtype)])
    op = movement(infer=lambda x: x, vjp=None, not_differentiable="not asked", batch=rule, cases=[case])(numpy_flip)
    try:
        with pytest.raises(AssertionError, match=message):
            check_batching(op, case)
    finally:
        del REGISTRY[op.name]
