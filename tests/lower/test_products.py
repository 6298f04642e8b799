"""Matrix products over views: what is found for BLAS names exactly the elements of the operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.ir.expr import Expr, Graph
from defnpy.lower.products import Matrix, Product, product, strided
from defnpy.lower.program import CallStep, KernelStep, ProductStep, lower
from defnpy.passes.pipeline import optimize

X, Y, Z = dp.spec((3, 4)), dp.spec((4, 5)), dp.spec((5, 4))
A, B = dp.spec((2, 3, 4)), dp.spec((2, 4, 5))


def contraction(function: Callable[..., Any], *specs: Any) -> tuple[Graph, Expr]:
    """The graph of a function as it was traced, and its only product."""
    graph = dp.defn(function).expr(*specs)
    (node,) = [n for n in graph.nodes() if n.op.family == "contraction"]
    return graph, node


def found(function: Callable[..., Any], *specs: Any) -> Product | None:
    return product(contraction(function, *specs)[1], ())


def elements(matrix: Matrix, shape: tuple[int, ...], memory: np.ndarray) -> np.ndarray:
    """The matrices that BLAS sees in the memory of the base, by the formula in the description of ``Matrix``."""
    p, q, i, j = np.indices(shape)
    if matrix.transposed:
        i, j = j, i
    places = matrix.offset + p * matrix.stack + q * matrix.inner + i * matrix.leading + j
    assert places.min() >= 0 and places.max() < memory.size, "BLAS would read outside of the operand"
    return memory.reshape(-1)[places]


def legal(matrix: Matrix, rows: int, columns: int) -> bool:
    """What BLAS demands of a leading dimension."""
    return matrix.leading >= max(1, rows if matrix.transposed else columns)


def check(function: Callable[..., Any], *arrays: np.ndarray) -> Product | None:
    """The product through the description, and the compiled function, against NumPy's answer."""
    graph, node = contraction(function, *arrays)
    made = product(node, ())
    inner = Graph(graph.inputs, [node], (), graph.names)
    (expected,) = evaluate(inner, [np.ascontiguousarray(a) for a in arrays])
    if made is not None:
        memory = dict(zip(graph.inputs, arrays, strict=True))
        left = elements(made.left, (made.outer, made.inner, made.m, made.k), memory[made.left.base])
        right = elements(made.right, (made.outer, made.inner, made.k, made.n), memory[made.right.base])
        result = np.sum(left @ right, axis=1) if made.summed else left @ right
        np.testing.assert_allclose(result.reshape(node.shape), expected, rtol=1e-12, atol=1e-12)
        assert legal(made.left, made.m, made.k) and legal(made.right, made.k, made.n)
        assert made.flops == 2 * made.outer * made.inner * made.m * made.n * made.k
    compiled = dp.defn(lambda *xs: function(*xs), backend="cpu")(*arrays)
    np.testing.assert_allclose(np.asarray(compiled), np.asarray(function(*map(dp.asarray, arrays))), rtol=1e-12)
    return made


# -- by hand --------------------------------------------------------------------------------------------------------


def described(made: Product | None) -> Any:
    """Pairs and sizes, then transposition, offset, distance of matrices and leading dimension of both."""
    if made is None:
        return None
    assert not made.summed
    sides = []
    for m in (made.left, made.right):
        assert made.outer == 1 or made.inner == 1 or m.stack == made.inner * m.inner
        sides.append((m.transposed, m.offset, m.inner if made.inner > 1 else m.stack, m.leading))
    return (made.batch, made.m, made.n, made.k), *sides


@pytest.mark.parametrize(
    ("function", "specs", "expected"),
    [
        (lambda x, y: x @ y, (X, Y), ((1, 3, 5, 4), (False, 0, 4), (False, 0, 5))),
        (lambda x, y: x @ y.T, (X, Z), ((1, 3, 5, 4), (False, 0, 4), (True, 0, 4))),
        (lambda x, y: x.T @ y, (Y, dp.spec((4, 3))), ((1, 5, 3, 4), (True, 0, 5), (False, 0, 3))),
        (lambda x, y: x.T @ y.T, (Y, X), ((1, 5, 3, 4), (True, 0, 5), (True, 0, 4))),
        (lambda x, y: x[1:] @ y[:, 2:], (X, Y), ((1, 2, 3, 4), (False, 4, 4), (False, 2, 5))),
        (lambda x, y: x[::2] @ y, (X, Y), ((1, 2, 5, 4), (False, 0, 8), (False, 0, 5))),
        (lambda x, y: x @ y[0], (X, dp.spec((2, 4, 5))), ((1, 3, 5, 4), (False, 0, 4), (False, 0, 5))),
        (lambda x, y: x @ y[1].T, (X, dp.spec((2, 5, 4))), ((1, 3, 5, 4), (False, 0, 4), (True, 20, 4))),
        (lambda x, y: dp.reshape(x, (3, 4)) @ y, (dp.spec(12), Y), ((1, 3, 5, 4), (False, 0, 4), (False, 0, 5))),
        (lambda x, y: x[:, 1] @ y, (dp.spec((4, 3)), Y), ((1, 1, 5, 4), (True, 1, 3), (False, 0, 5))),
    ],
    ids=["plain", "right", "left", "both", "offsets", "every second row", "first of a stack", "second of a stack",
         "reshape", "a column as a row"],
)  # fmt: skip
def test_what_blas_is_told(function: Callable[..., Any], specs: tuple[Any, ...], expected: Any) -> None:
    made = described(found(function, *specs))
    assert made is not None
    # Of a single matrix the distance to the next one means nothing.
    assert (made[0], *[(side[0], side[1], side[3]) for side in made[1:]]) == expected


def test_stacks_of_matrices() -> None:
    assert described(found(lambda x, y: x @ y, A, B)) == ((2, 3, 5, 4), (False, 0, 12, 4), (False, 0, 20, 5))
    swapped = found(lambda x, y: x @ y.mT, A, dp.spec((2, 5, 4)))
    assert described(swapped) == ((2, 3, 5, 4), (False, 0, 12, 4), (True, 0, 20, 4))
    # The stack may run backwards, the lines of a matrix may not.
    backwards = found(lambda x, y: dp.flip(x, axis=0) @ y, A, B)
    assert described(backwards) == ((2, 3, 5, 4), (False, 12, -12, 4), (False, 0, 20, 5))
    # One matrix for all pairs is read again and again.
    shared = found(lambda x, y: x @ dp.broadcast_to(y, (2, 4, 5)), A, Y)
    assert described(shared) == ((2, 3, 5, 4), (False, 0, 12, 4), (False, 0, 0, 5))


NOT_FOR_BLAS = {
    "integers": (lambda x, y: x @ y, (dp.spec((3, 4), "int32"), dp.spec((4, 5), "int32"))),
    "no rows": (lambda x, y: x @ y, (dp.spec((0, 4)), Y)),
    "nothing to sum": (lambda x, y: x @ y, (dp.spec((3, 0)), dp.spec((0, 5)))),
    "no pairs": (lambda x, y: x @ y, (dp.spec((0, 3, 4)), dp.spec((0, 4, 5)))),
    "rows backwards": (lambda x, y: dp.flip(x, axis=0) @ y, (X, Y)),
    "columns backwards": (lambda x, y: dp.flip(x, axis=1) @ y, (X, Y)),
    "every second column": (lambda x, y: x[:, ::2] @ y, (dp.spec((3, 8)), Y)),
    "a row repeated": (lambda x, y: dp.broadcast_to(x, (3, 4)) @ y, (dp.spec((1, 4)), Y)),
    "a number repeated": (lambda x, y: dp.broadcast_to(x, (3, 4)) @ y, (dp.spec(()), Y)),
    "axes that a reshape mixes": (lambda x, y: dp.reshape(x.T, (3, 4)) @ y, (dp.spec((6, 2)), Y)),
    "axes that do not merge": (
        lambda x, y: dp.tensordot(dp.permute_dims(x, (0, 2, 1)), y, axes=([1, 2], [0, 1])),
        (dp.spec((3, 4, 5)), dp.spec((5, 4, 2))),
    ),
    "a constant": (lambda x, y: x @ dp.full((4, 5), 2.0) + y, (X, dp.spec((3, 5)))),
}


@pytest.mark.parametrize("name", NOT_FOR_BLAS)
def test_what_blas_cannot_do_is_left_to_the_reference(name: str) -> None:
    function, specs = NOT_FOR_BLAS[name]
    _, node = contraction(function, *specs)
    assert product(node, ()) is None
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.integers(-4, 5, s.aval.shape)).astype(s.aval.dtype) for s in specs]
    compiled = dp.defn(lambda *xs: function(*xs), backend="cpu")(*arrays)
    np.testing.assert_allclose(compiled, function(*map(dp.asarray, arrays)), rtol=1e-6)


def test_batch_axes_out_of_order_are_a_grid_of_pairs() -> None:
    """In the order of memory two axes are one stack, in another order two distances are needed."""
    x, y = dp.spec((2, 3, 4, 5)), dp.spec((2, 3, 5, 6))
    assert found(lambda x, y: x @ y, x, y) is not None
    swapped = found(lambda x, y: dp.permute_dims(x, (1, 0, 2, 3)) @ dp.permute_dims(y, (1, 0, 2, 3)), x, y)
    assert swapped is not None and (swapped.outer, swapped.inner) == (3, 2)
    assert (swapped.left.stack, swapped.left.inner) == (20, 60)


def test_contracted_axes_apart_in_memory_are_a_sum_of_products() -> None:
    x = np.random.default_rng(0).integers(-3, 4, (3, 2, 40)).astype(float)
    y = np.random.default_rng(1).integers(-3, 4, (2, 5, 40)).astype(float)
    made = check(lambda x, y: dp.tensordot(x[:, :, 3:], y[:, :, 3:], axes=([1, 2], [0, 2])), x, y)
    assert made is not None and made.summed and (made.outer, made.inner, made.k) == (1, 2, 37)


def test_a_view_that_lies_in_memory_is_an_operand_like_any_other() -> None:
    graph = dp.defn(lambda x, y: (x[::2].T, x[::2].T @ y)).expr(dp.spec((8, 3)), Y)
    view, node = graph.outputs
    through, itself = product(node, ()), product(node, {view})
    assert through is not None and itself is not None
    assert (through.left.base, itself.left.base) == (graph.inputs[0], view)
    assert (through.left.transposed, itself.left.transposed) == (True, False)
    base, seen, _ = strided(view, ()) or (None, None, None)
    assert base is graph.inputs[0] and seen is not None and seen.strides == (1, 6)


def test_one_program_of_all_kinds_of_products() -> None:
    def function(x: Any, y: Any, i: Any) -> Any:
        return dp.exp(x) @ y, x[::-1] @ y, i @ i.T, (x.T @ x)[1:] @ y

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4)), rng.standard_normal((4, 5)), np.arange(6).reshape(2, 3)]
    steps = [type(s) for s in lower(optimize(dp.defn(function).expr(*arrays))).steps]
    assert ProductStep in steps and KernelStep in steps and steps.count(CallStep) == 1  # of integers
    for ours, theirs in zip(dp.defn(function)(*arrays), function(*map(dp.asarray, arrays)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_single_rows_columns_and_elements(m: int, n: int, k: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    for left, right in ((x, y), (x, y.T.copy()), (x.T.copy(), y), (x.T.copy(), y.T.copy())):
        a = (lambda v: v) if left.shape == x.shape else (lambda v: v.T)
        b = (lambda v: v) if right.shape == y.shape else (lambda v: v.T)
        result = dp.defn(lambda x, y, a=a, b=b: a(x) @ b(y), backend="cpu")(left, right)
        np.testing.assert_allclose(result, np.asarray(a(left)) @ np.asarray(b(right)), rtol=1e-5, atol=1e-6)


def test_infinite_and_undefined_elements_pass_through() -> None:
    x, y = np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([[np.inf, 1.0], [2.0, 3.0]])
    result = np.asarray(dp.defn(lambda x, y: x @ y, backend="cpu")(x, y))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(result, x @ y)
    assert np.isnan(np.asarray(dp.defn(lambda x, y: x @ y, backend="cpu")(np.zeros((1, 1)), np.full((1, 1), np.nan))))


def test_what_was_in_the_memory_of_the_result_before_does_not_count() -> None:
    """BLAS adds 0 times the old result; 0 times NaN would be NaN."""
    f = dp.defn(lambda x: ((x @ x) @ x) @ x, backend="cpu")
    for _ in range(3):
        assert np.isnan(np.asarray(f(np.full((20, 20), np.nan)))).all()
        np.testing.assert_array_equal(f(np.eye(20)), np.eye(20))


# -- by chance ------------------------------------------------------------------------------------------------------


@st.composite
def operands(draw: st.DrawFn, rows: bool) -> tuple[np.ndarray, list[tuple[str, Any]], tuple[int, ...]]:
    """A base, a chain of views, and the shape that comes out of it: two or three axes."""
    rank = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    base = np.random.default_rng(draw(st.integers(0, 9))).integers(-5, 6, shape).astype(float)
    seen, chain = base, []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["permute", "slice", "flip", "broadcast", "reshape", "axis"]))
        if kind == "permute":
            value: Any = tuple(draw(st.permutations(range(seen.ndim))))
            seen = seen.transpose(value)
        elif kind == "slice":
            value = []
            for n in seen.shape:
                start = draw(st.integers(0, n - 1))
                value.append(slice(start, draw(st.integers(start + 1, n)), draw(st.integers(1, 2))))
            value = tuple(value)
            seen = seen[value]
        elif kind == "flip":
            value = draw(st.integers(0, seen.ndim - 1))
            seen = np.flip(seen, value)
        elif kind == "broadcast" and seen.ndim < 3:
            value = (draw(st.integers(1, 3)), *seen.shape)
            seen = np.broadcast_to(seen, value)
        elif kind == "axis" and seen.ndim < 3:
            value = (*seen.shape, 1)
            seen = np.reshape(seen, value)
            kind = "reshape"
        elif kind == "reshape" and seen.ndim > 1:
            value = (seen.shape[0] * seen.shape[1], *seen.shape[2:])
            seen = np.reshape(seen, value)
        else:
            continue
        chain.append((kind, value))
    return base, chain, seen.shape


def view(x: Any, chain: list[tuple[str, Any]]) -> Any:
    for kind, value in chain:
        if kind == "permute":
            x = dp.permute_dims(x, value)
        elif kind == "slice":
            x = x[value]
        elif kind == "flip":
            x = dp.flip(x, axis=value)
        elif kind == "broadcast":
            x = dp.broadcast_to(x, value)
        else:
            x = dp.reshape(x, value)
    return x


SEEN: dict[bool, int] = {True: 0, False: 0}


@given(st.data())
@settings(max_examples=300, suppress_health_check=[*HealthCheck])
def test_any_chain_of_views(data: st.DataObject) -> None:
    """A view of anything times what fits it, over any of its axes."""
    base, chain, shape = data.draw(operands(True))
    axis = data.draw(st.integers(0, len(shape) - 1))
    other, more, other_shape = data.draw(operands(False))
    fitting = [a for a, n in enumerate(other_shape) if n == shape[axis]]
    if not fitting:
        other, more, other_shape = base, chain, shape
        fitting = [axis]
    place = data.draw(st.sampled_from(fitting))

    def function(x: Any, y: Any) -> Any:
        return dp.tensordot(view(x, chain), view(y, more), axes=([axis], [place]))

    SEEN[check(function, base, np.array(other)) is not None] += 1


def test_the_chains_are_of_both_kinds() -> None:
    if sum(SEEN.values()):  # that test ran before, in this process
        assert min(SEEN.values()) > 30
