"""The table of primitives, row by row: whatever an op declares is held against everything else that it declares.

Nothing here names an op to be tested: a new declaration is in the table and tested from then on. The checks are plain
functions, and the last part of the file plants wrong declarations and sees each of them caught.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.aval import Avals
from defnpy.ir.op import REGISTRY, Case, Op
from defnpy.ops.families import elementwise, movement, reduction, uniform
from defnpy.shapes import DYNAMIC
from defnpy.testing import GradientCheckError, check_grads

# Leaves and items are made by a trace, not called.
OPS = [op for op in REGISTRY.values() if op.family not in ("leaf", "item")]
ROWS = [pytest.param(op, case, id=f"{op.name}-{i}") for op in OPS for i, case in enumerate(op.cases)]
FLOATS = ("float32", "float64")
# The same function in another order of operations, or from another mathematical library.
CLOSE = {"float32": {"rtol": 2e-6, "atol": 1e-7}, "float64": {"rtol": 1e-13, "atol": 1e-15}}
CLOSE_GRADIENT = {"float32": {"rtol": 2e-5, "atol": 1e-6}, "float64": {"rtol": 1e-12, "atol": 1e-14}}

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of NumPy, where a test shows it the extremes
    # Of an operand that does not count at the operands of one case: the bounds of clip, for one.
    pytest.mark.filterwarnings("ignore::defnpy.testing.VacuousCheckWarning"),
]


# -- the checks -----------------------------------------------------------------------------------------------------


def drawn(op: Op, case: Case, dtype: str) -> list[np.ndarray]:
    """The operands of a case, the same on every run."""
    seed = zlib.crc32(f"{op.name} {sorted(map(str, case.params.items()))}".encode())
    return [np.asarray(a) for a in case.arrays(np.random.default_rng(seed), np.dtype(dtype))]


def bound(op: Op, params: dict[str, Any]) -> Callable[..., Any]:
    """The op with its static parameters, as a function of tensors."""

    def call(*arrays: Any) -> Any:
        return op(*arrays, **params)

    call.__name__ = op.name
    return call


def assert_close(found: Any, expected: Any, **tolerance: float) -> None:
    """Equal shape and dtype; floats as close as asked for, everything else equal."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, **tolerance)
    else:
        np.testing.assert_array_equal(found, expected)


def results(value: Any) -> tuple[Any, ...]:
    """What a call gives, as a tuple: most ops have one result."""
    return value if isinstance(value, tuple) else (value,)


def check_backends(op: Op, case: Case, dtype: str) -> None:
    """The body, which eager calls run, and what the op is compiled to give the same."""
    tensors = [dp.asarray(a) for a in drawn(op, case, dtype)]
    function = bound(op, case.params)
    compiled = dp.defn(function, backend="cpu")(*tensors)
    for found, expected in zip(results(compiled), results(function(*tensors)), strict=True):
        tolerance = CLOSE[dtype]
        if op.family in ("convolution", "contraction"):  # a small sum of large terms is as exact as these
            largest = np.abs(expected).max(initial=1.0)
            tolerance = {"rtol": tolerance["rtol"], "atol": tolerance["atol"] * largest}
        assert_close(found, expected, **tolerance)


def check_aval(op: Op, case: Case, dtype: str) -> None:
    """What the op infers of its result is what the body returns."""
    arrays = drawn(op, case, dtype)
    graph = dp.defn(bound(op, case.params)).expr(*[dp.asarray(a) for a in arrays])
    values = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.nodes():
        if node not in values:
            values[node] = node.op.body(*[values[arg] for arg in node.args], **node.kwargs)
        parts = node.aval.parts if isinstance(node.aval, Avals) else (node.aval,)
        for part, result in zip(parts, map(np.asarray, results(values[node])), strict=True):
            shape = tuple(n if m == DYNAMIC else m for m, n in zip(part.shape, result.shape, strict=False))
            assert (shape, part.dtype) == (result.shape, result.dtype), f"{node.op.name} is inferred as {node.aval}"
    assert any(node.op is op for node in graph.nodes())


def check_gradient(op: Op, case: Case) -> None:
    """The rule against numerical differences: a random cotangent, first and second order, float64."""
    check_grads(bound(op, case.params), drawn(op, case, "float64"), order=2)


def check_forward(op: Op, case: Case) -> None:
    """Forward mode against differences, first and second order, and reverse over forward against forward over forward:
    random directions, float64."""
    arrays = drawn(op, case, "float64")
    rng = np.random.default_rng(2)
    numbers = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    first, second = ([rng.standard_normal(arrays[i].shape) for i in numbers] for _ in range(2))

    def placed(values: Any, others: Any) -> tuple[Any, ...]:
        rest = iter(values)
        return tuple(next(rest) if i in numbers else other for i, other in enumerate(others))

    def value(*xs: Any) -> Any:
        return [y for y in dp.tree.leaves(op(*placed(xs, arrays), **case.params)) if y.dtype.kind == "f"]

    def along(direction: Any, function: Any) -> Any:
        return lambda *xs: dp.jvp(function, xs, tuple(direction))[1]

    def moved(step: float) -> list[Any]:
        return [dp.asarray(arrays[i] + step * d) for i, d in zip(numbers, second, strict=True)]

    x = moved(0.0)
    for function in (value, along(first, value)):
        pairs = zip(function(*moved(1e-6)), function(*moved(-1e-6)), strict=True)
        expected = [(np.asarray(up) - np.asarray(down)) / 2e-6 for up, down in pairs]
        found = along(second, function)(*x)
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(e).max(initial=0.0)))
    weights = [rng.standard_normal(y.shape) for y in found]
    total = lambda *xs: sum(dp.sum(t * w) for t, w in zip(along(first, value)(*xs), weights, strict=True))  # noqa: E731
    gradient = dp.grad(total, tuple(range(len(x))))(*x) if weights else []
    backwards = sum(float(np.sum(np.asarray(g) * d)) for g, d in zip(gradient, second, strict=False))
    forwards = sum(float(np.sum(np.asarray(t) * w)) for t, w in zip(found, weights, strict=True))
    np.testing.assert_allclose(backwards, forwards, rtol=1e-9, atol=1e-9)


def gradients(op: Op, case: Case, dtype: str, backend: str | None) -> list[np.ndarray] | None:
    """The cotangents of the float operands for a random cotangent of the result, None where there is none to have."""
    arrays = drawn(op, case, dtype)
    numbers = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")
    tensors = [dp.asarray(a) for a in arrays]
    function = bound(op, case.params)
    ys = results(function(*tensors))
    chosen = [i for i, y in enumerate(ys) if y.dtype.kind == "f"]
    if not numbers or not chosen:
        return None
    rng = np.random.default_rng(1)
    cotangents = {i: dp.asarray(rng.standard_normal(ys[i].shape).astype(ys[i].dtype)) for i in chosen}

    def projected(*xs: Any) -> Any:
        found = results(function(*xs))
        return sum(dp.sum(found[i] * cotangent) for i, cotangent in cotangents.items())

    gradient = dp.grad(dp.defn(projected, backend=backend) if backend else projected, numbers)
    return [np.asarray(g) for g in gradient(*tensors)]


def check_compiled_gradient(op: Op, case: Case, dtype: str) -> None:
    """The gradient, compiled and computed op by op."""
    expected = gradients(op, case, dtype, None)
    found = gradients(op, case, dtype, "cpu")
    assert (found is None) == (expected is None)
    for f, e in zip(found or [], expected or [], strict=True):
        assert_close(f, e, **CLOSE_GRADIENT[dtype])


def has_smooth_float_case(op: Op) -> bool:
    """Whether a case exists at which differences can be compared with the rule."""
    return any(
        case.smooth and any(a.dtype.kind == "f" and a.size for a in drawn(op, case, "float64")) for case in op.cases
    )


# -- every op -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("op", "case"), ROWS)
def test_the_cpu_backend_gives_the_references_answer(op: Op, case: Case, dtype: str) -> None:
    check_backends(op, case, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("op", "case"), ROWS)
def test_the_inferred_shape_and_dtype_are_those_of_the_result(op: Op, case: Case, dtype: str) -> None:
    check_aval(op, case, dtype)


def is_smooth(op: Op, case: Case) -> bool:
    return op.vjp is not None and case.smooth and any(a.dtype.kind == "f" for a in drawn(op, case, "float64"))


@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if is_smooth(*row.values)])
def test_the_rule_agrees_with_differences(op: Op, case: Case) -> None:
    check_gradient(op, case)


@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if is_smooth(*row.values)])
def test_forward_mode_agrees_with_differences(op: Op, case: Case) -> None:
    check_forward(op, case)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if row.values[0].vjp is not None])
def test_the_compiled_gradient_is_the_eager_one(op: Op, case: Case, dtype: str) -> None:
    check_compiled_gradient(op, case, dtype)


@pytest.mark.parametrize(("op", "case"), [row for row in ROWS if row.values[0].vjp is None])
def test_what_has_no_rule_is_flat(op: Op, case: Case) -> None:
    """And the declaration says why."""
    assert op.not_differentiable
    for gradient in gradients(op, case, "float64", None) or []:
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op_has_cases_and_an_example(op: Op) -> None:
    assert op.cases
    assert op.scalar is not None or op.family != "elementwise"
    assert op.vjp is None or has_smooth_float_case(op)
    assert op.__doc__ and ">>> " in op.__doc__


# -- elementwise ops at the ends of their dtypes ----------------------------------------------------------------------

ELEMENTWISE = [op for op in OPS if op.family == "elementwise" and op.scalar is not None]
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def extremes(dtype: np.dtype[Any]) -> list[Any]:
    """The values of a dtype that a wrong template stumbles over."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        return sorted(
            {ends.min, ends.min + 1, 0, 1, 2, 7, 64, ends.max - 1, ends.max, *([-1, -2, -7] if ends.min else [])}
        )
    ends = np.finfo(dtype)
    positive = [0.0, ends.smallest_subnormal, ends.tiny, 0.3, 0.5, 1.0, 1.5, 2.5, 7.0, 100.0, ends.max, np.inf]
    return [*positive, *[-x for x in positive], np.nan]


def grid(op: Op, dtype: np.dtype[Any]) -> list[np.ndarray]:
    """Every combination of extremes, but for those that no library defines."""
    columns = [np.array(extremes(dtype), dtype)] * op.arity
    if op.name == "where":
        columns[0] = np.array([False, True])
    operands = [g.ravel() for g in np.meshgrid(*columns, indexing="ij")]
    keep = np.ones(operands[0].shape, bool)
    if op.name == "pow" and dtype.kind == "i":
        keep = operands[1] >= 0  # an integer to a negative power is an error: see tests/errors
    if "shift" in op.name and dtype.kind == "i":
        keep = operands[1] >= 0
    return [x[keep] for x in operands]


# Of the maximum of 0.0 and -0.0 IEEE 754 and NumPy leave the sign open.
SIGN_OF_ZERO_IS_OPEN = {"maximum", "minimum", "clip"}


def check_extremes(op: Op, dtype: str) -> None:
    """Both backends give the same, to a few units in the last place, down to the sign of zero and what is NaN."""
    operands = [dp.asarray(x) for x in grid(op, np.dtype(dtype))]
    expected = np.asarray(bound(op, {})(*operands))
    found = np.asarray(dp.defn(bound(op, {}), backend="cpu")(*operands))
    if expected.dtype.kind != "f":
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        return
    assert_close(found, expected, rtol=4e-6 if dtype == "float32" else 1e-13, atol=0)
    if op.name not in SIGN_OF_ZERO_IS_OPEN:
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        pytest.param(op, dtype, id=f"{op.name}-{dtype}")
        for op in ELEMENTWISE
        for dtype in (*FLOATS, "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool")
        if np.dtype(dtype).kind in op.kinds and op.name not in ("astype", "threefry2x32")  # each has its own test
    ],
)
def test_the_ends_of_every_dtype(op: Op, dtype: str) -> None:
    check_extremes(op, dtype)


DTYPES = (*FLOATS, *INTEGERS, "bool")


def castable(source: np.dtype[Any], target: np.dtype[Any]) -> np.ndarray:
    """The extremes of ``source`` that ``target`` holds: what becomes of other floats is left open, as in C."""
    values = np.array(extremes(source), source)
    if source.kind != "f" or target.kind not in "iu":
        return values
    ends = np.iinfo(target)
    return values[np.isfinite(values) & (values > float(ends.min) - 1) & (values < float(ends.max))]


@pytest.mark.parametrize("source", DTYPES)
def test_casts_at_the_ends_of_every_dtype(source: str) -> None:
    """Integers wrap, floats are rounded, truncated, or overflow to inf; one program casts to all dtypes."""
    for target in DTYPES:
        x = dp.asarray(castable(np.dtype(source), np.dtype(target)))
        found = dp.defn(lambda x, target=target: dp.astype(x, target), backend="cpu")(x)
        assert_close(found, dp.astype(x, target), rtol=0, atol=0)


def test_random_words_of_extreme_keys_and_counters() -> None:
    ends = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    operands = [dp.asarray(x.ravel()) for x in np.meshgrid(*[ends] * 4, indexing="ij")]
    op = REGISTRY["threefry2x32"]
    for word in (0, 1):
        found = dp.defn(bound(op, {"word": word}), backend="cpu")(*operands)
        np.testing.assert_array_equal(found, op(*operands, word=word))
        assert len(np.unique(np.asarray(found))) == 256  # a cipher: different counters, different words


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_no_axes_and_no_elements(op: Op) -> None:
    """One element has the value that it has in a row; none give none."""
    params: dict[str, Any] = {"astype": {"dtype": "int32"}, "threefry2x32": {"word": 0}}.get(op.name, {})
    row = drawn(op, op.cases[0], "float32")
    function = bound(op, params)
    compiled = dp.defn(function, backend="cpu")
    expected = np.asarray(function(*[dp.asarray(np.ravel(x)[:1]) for x in row]))
    for shape in ((), (0,), (2, 0, 3)):
        operands = [dp.asarray(np.resize(x, shape) if 0 not in shape else np.zeros(shape, x.dtype)) for x in row]
        for result in (function(*operands), compiled(*operands)):
            assert (result.shape, result.dtype) == (shape, expected.dtype)
            if shape == ():
                assert_close(np.asarray(result)[None], expected, **CLOSE["float32"])


REDUCTIONS = [op for op in OPS if op.family == "reduction"]


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        pytest.param(op, dtype, id=f"{op.name}-{dtype}")
        for op in REDUCTIONS
        for dtype in (*FLOATS, "int8", "int64", "uint8", "uint64", "bool")
        if np.dtype(dtype).kind in op.kinds
    ],
)
def test_reductions_of_extremes(op: Op, dtype: str) -> None:
    """Every pair of extremes, in both orders, as a row of its own: NaN wins, infinities meet, integers wrap."""
    kind = np.dtype(dtype)
    values = np.array(extremes(kind), kind)
    pairs = np.stack([x.ravel() for x in np.meshgrid(values, values)], axis=1)
    if op.name in ("argmax", "argmin", "max", "min"):
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]  # ties: argmax takes the first, and the sign of zero is open
    for axis, x in ((1, pairs), (0, pairs.T)):
        x = dp.asarray(x)
        found = dp.defn(lambda x, axis=axis: op(x, axis=axis), backend="cpu")(x)
        assert_close(found, op(x, axis=axis), rtol=1e-6, atol=0)


# -- planted faults: each check above catches what it is there for -----------------------------------------------------


@contextmanager
def planted(make: Callable[[], Op]) -> Iterator[Op]:
    """A wrong declaration, in the table for the length of the block."""
    op = make()
    assert REGISTRY[op.name] is op
    try:
        yield op
    finally:
        del REGISTRY[op.name]


def numpy_sine(x, /):
    return np.sin(x)


REAL = uniform(-3, 3)
INTEGER = uniform(-5, 6, "i")


def right_sine() -> Op:
    return elementwise(scalar="sin({x})", vjp=lambda g, y, x: (g * dp.cos(x),), kinds="f", cases=[REAL])(numpy_sine)


def test_a_right_declaration_passes_every_check() -> None:
    with planted(right_sine) as op:
        for case in op.cases:
            for dtype in FLOATS:
                check_backends(op, case, dtype)
                check_aval(op, case, dtype)
                check_compiled_gradient(op, case, dtype)
            check_gradient(op, case)
        check_extremes(op, "float32")
        assert has_smooth_float_case(op)


def test_a_wrong_template_is_caught() -> None:
    def wrong() -> Op:
        return elementwise(scalar="cos({x})", vjp=lambda g, y, x: (g,), kinds="f", cases=[REAL])(numpy_sine)

    with planted(wrong) as op, pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_backends(op, op.cases[0], "float32")


def test_a_template_that_is_wrong_at_the_ends_only_is_caught() -> None:
    def numpy_sign(x, /):
        return np.sign(x)

    def wrong() -> Op:  # NaN is not larger than 0
        scalar = "1 if {x} > 0 else (-1 if {x} < 0 else 0)"
        return elementwise(scalar=scalar, vjp=None, not_differentiable="flat", kinds="f", cases=[REAL])(numpy_sign)

    with planted(wrong) as op:
        check_backends(op, op.cases[0], "float64")
        with pytest.raises(AssertionError, match="nan location mismatch"):
            check_extremes(op, "float64")


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, y, x: (g * dp.sin(x),),
        lambda g, y, x: (g * g * dp.cos(x),),  # right for a cotangent of ones
        lambda g, y, x: (dp.cos(x),),  # as well
        lambda g, y, x: (g * dp.stop_grad(dp.cos(x)),),  # right in the first order
        lambda g, y, x: (None,),
    ],
    ids=["value", "square of the cotangent", "no cotangent", "second order", "nothing"],
)
def test_a_wrong_rule_is_caught(rule: Callable[..., Any]) -> None:
    def wrong() -> Op:
        return elementwise(scalar="sin({x})", vjp=rule, kinds="f", cases=[REAL])(numpy_sine)

    with planted(wrong) as op, pytest.raises(GradientCheckError, match="numpy_sine: the derivative of order"):
        check_gradient(op, op.cases[0])


@pytest.mark.parametrize(
    "rule",
    [
        lambda tangents, y, x: tangents[0] * dp.sin(x),
        lambda tangents, y, x: dp.cos(x),
        lambda tangents, y, x: tangents[0] * dp.stop_grad(dp.cos(x)),
        lambda tangents, y, x: None,
    ],
    ids=["value", "no tangent", "second order", "nothing"],
)
def test_a_wrong_rule_forwards_is_caught(rule: Callable[..., Any]) -> None:
    with planted(right_sine) as op:
        check_forward(op, op.cases[0])
        op.jvp = rule
        with pytest.raises(AssertionError):
            check_forward(op, op.cases[0])


def test_a_rule_for_the_wrong_operand_is_caught() -> None:
    def numpy_product(x, y, /):
        return np.multiply(x, y)

    def wrong() -> Op:
        rule = lambda g, z, x, y: (g * x, g * y)  # noqa: E731
        return elementwise(scalar="{x} * {y}", vjp=rule, kinds="f", cases=[REAL])(numpy_product)

    with planted(wrong) as op, pytest.raises(GradientCheckError):
        check_gradient(op, op.cases[0])


def test_a_wrong_shape_is_caught() -> None:
    def numpy_reverse(x, /):
        return np.transpose(x)

    def wrong() -> Op:
        case = Case(lambda rng, dtype: [rng.standard_normal((2, 3)).astype(dtype)])
        return movement(
            infer=lambda x: x, vjp=None, not_differentiable="not asked", batch=lambda batched, x: x, cases=[case]
        )(numpy_reverse)

    with planted(wrong) as op, pytest.raises(AssertionError, match=r"numpy_reverse is inferred as f32\[2,3\]"):
        check_aval(op, op.cases[0], "float32")


def test_a_wrong_dtype_is_caught() -> None:
    def numpy_sum(x, /, *, axis=None, keepdims=False):
        return np.sum(x, axis=axis, keepdims=keepdims, dtype=np.int64)

    def wrong() -> Op:  # 32-bit integers are summed in 64 bits
        return reduction(vjp=None, not_differentiable="not asked", domains=[INTEGER])(numpy_sum)

    with planted(wrong) as op, pytest.raises(AssertionError, match="numpy_sum is inferred as i32"):
        check_aval(op, op.cases[0], "float32")


def test_an_op_without_a_smooth_case_is_noticed() -> None:
    def wrong() -> Op:
        rule = lambda g, y, x: (g * dp.cos(x),)  # noqa: E731
        cases = [uniform(-3, 3, smooth=False), INTEGER]
        return elementwise(scalar="sin({x})", vjp=rule, kinds="f", cases=cases)(numpy_sine)

    with planted(wrong) as op:
        assert not has_smooth_float_case(op)


def test_the_table_is_as_it_was() -> None:
    """The planted ops are gone: later tests, and the other workers, see the real ones only."""
    assert not [name for name in REGISTRY if name.startswith("numpy_")]
