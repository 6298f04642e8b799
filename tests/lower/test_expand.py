"""Convolution, pooling and padding in terms of simpler ops: what is left over, and how it is cut into kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.reference import evaluate
from defnpy.ir.check import verify
from defnpy.ir.expr import Graph
from defnpy.lower import convolve
from defnpy.lower.expand import expand
from defnpy.lower.kernel import FoldStore, Loop, Store, walk
from defnpy.lower.products import arrange
from defnpy.lower.program import CallStep, KernelStep, ProductStep, lower
from defnpy.lower.taps import TAPS
from defnpy.ops.window import max_select, max_unpool
from defnpy.passes.pipeline import optimize

IMAGES, FILTERS, OUTPUTS = dp.spec((4, 2, 8, 8)), dp.spec((6, 2, 3, 3)), dp.spec((4, 6, 6, 6))
MADE = {"pad", "concat", "conv", "conv_transpose", "conv_weight", "max_pool", "max_select", "max_unpool"}


def graph_of(function: Callable[..., Any], *specs: Any) -> Graph:
    return optimize(dp.defn(function).expr(*specs))


def program(function: Callable[..., Any], *specs: Any, threads: int = 1) -> Any:
    return lower(graph_of(function, *specs), threads)


def steps(function: Callable[..., Any], *specs: Any) -> str:
    """A letter for each step: K a kernel, P a matrix product, C a library call."""
    letters = {KernelStep: "K", ProductStep: "P", CallStep: "C"}
    return "".join(letters[type(step)] for step in program(function, *specs).steps)


def gradients(function: Callable[..., Any], count: int = 2) -> Callable[..., Any]:
    return dp.grad(lambda *xs: dp.sum(dp.sin(function(*xs))), argnums=tuple(range(count)))


CASES: dict[str, tuple[Callable[..., Any], list[Any], str]] = {
    "convolution": (lambda x, w: dp.conv(x, w), [IMAGES, FILTERS], "KP"),
    "a kernel of one element": (lambda x, w: dp.conv(x, w), [IMAGES, dp.spec((6, 2, 1, 1))], "P"),
    "padded": (lambda x, w: dp.conv(x, w, padding=1), [IMAGES, FILTERS], "KKP"),
    "bias and relu": (lambda x, w, b: dp.relu(dp.conv(x, w) + b), [IMAGES, FILTERS, dp.spec((6, 1, 1))], "KPK"),
    "relu and pool": (lambda x: dp.max_pool(dp.relu(x + 1), 2), [IMAGES], "K"),
    "pool": (lambda x: dp.max_pool(x, 2), [IMAGES], "K"),
    "a large window": (lambda x: dp.max_pool(x, 5), [IMAGES], "K"),
    "padded pool": (lambda x: dp.max_pool(x, 3, strides=2, padding=1), [IMAGES], "KK"),
    "mean pool": (lambda x: dp.mean_pool(x, 2), [IMAGES], "K"),
    "gradient of a pool": (gradients(lambda x: dp.max_pool(dp.relu(x), 2), 1), [IMAGES], "K"),
    "transposed": (lambda y, w: dp.conv_transpose(y, w), [OUTPUTS, FILTERS], "KKKP"),
    "transposed, without padding": (lambda y, w: dp.conv_transpose(y, w, padding=2), [OUTPUTS, FILTERS], "KKP"),
    "transposed, more padding than a window": (
        lambda y, w: dp.conv_transpose(y, w, padding=3),
        [OUTPUTS, FILTERS],
        "PKK",
    ),
    "transposed, dilated": (lambda y, w: dp.conv_transpose(y, w, padding=1, dilation=2), [OUTPUTS, FILTERS], "KKKP"),
    "transposed, apart": (lambda y, w: dp.conv_transpose(y, w, strides=2), [OUTPUTS, FILTERS], "PK"),
    "transposed into few": (lambda y, w: dp.conv_transpose(y, w), [OUTPUTS, dp.spec((6, 1, 3, 3))], "PK"),
    "a kernel for each channel": (lambda x, w: dp.conv(x, w, groups=2), [IMAGES, dp.spec((6, 1, 3, 3))], "KK"),
    "the same, padded, with a bias": (
        lambda x, w, b: dp.relu(dp.conv(x, w, groups=2, padding=1) + b),
        [IMAGES, dp.spec((2, 1, 3, 3)), dp.spec((2, 1, 1))],
        "KK",
    ),
    "the same, of every second": (
        lambda x, w: dp.conv(x, w, groups=2, strides=(2, 3), padding=(1, (0, 2)), dilation=(1, 2)),
        [IMAGES, dp.spec((2, 1, 3, 3))],
        "KKK",
    ),
    "two channels in a group": (
        lambda x, w: dp.conv(x, w, groups=2),
        [dp.spec((4, 4, 8, 8)), dp.spec((4, 2, 3, 3))],
        "KK",
    ),
    "along one axis": (
        lambda x, w: dp.conv(x, w, groups=3, strides=2),
        [dp.spec((2, 3, 9)), dp.spec((3, 1, 4))],
        "KKK",
    ),
    "transposed, each channel": (
        lambda y, w: dp.conv_transpose(y, w, groups=2),
        [OUTPUTS, dp.spec((6, 1, 3, 3))],
        "KKK",
    ),
    "transposed, each channel, apart": (
        lambda y, w: dp.conv_transpose(y, w, groups=2, strides=(2, 3), padding=1, size=(12, 18)),
        [OUTPUTS, dp.spec((6, 1, 3, 3))],
        "KKK",
    ),
    "transposed, each channel, cut off": (
        lambda y, w: dp.conv_transpose(y, w, groups=2, strides=2, padding=3),
        [OUTPUTS, dp.spec((6, 1, 3, 3))],
        "PKK",
    ),
    "transposed in groups": (
        lambda y, w: dp.conv_transpose(y, w, groups=2),
        [dp.spec((4, 8, 6, 6)), dp.spec((8, 2, 4, 4))],
        "KKKPK",
    ),
    "transposed by one element": (lambda y, w: dp.conv_transpose(y, w), [OUTPUTS, dp.spec((6, 2, 1, 1))], "KP"),
    "concat": (lambda x, y: dp.concat([x * 2, dp.exp(y)]), [dp.spec((2, 3)), dp.spec((4, 3))], "KK"),
    "parts of one kernel": (lambda x: dp.concat([x * 2, dp.exp(x)], axis=1), [dp.spec((2, 3))], "K"),
    "the same twice": (lambda x: dp.concat([x, x]), [dp.spec((2, 3))], "K"),
    "pad": (lambda x: dp.exp(dp.pad(x * 2, low=1, high=2, interior=1)), [dp.spec((2, 3))], "KK"),
    "windows": (lambda x: dp.sum(dp.windows(x, 3), axis=1), [dp.spec(8)], "K"),
    "windows added up": (lambda x: dp.overlap_add(x * 2, 8), [dp.spec((6, 3))], "K"),
    "expensive windows": (lambda x: dp.overlap_add(dp.exp(x), 8), [dp.spec((6, 3))], "KK"),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_to_libraries(name: str) -> None:
    function, specs, expected = CASES[name]
    assert steps(function, *specs) == expected


@pytest.mark.parametrize("name", CASES)
def test_the_simpler_graph_means_the_same(name: str) -> None:
    function, specs, _ = CASES[name]
    graph = graph_of(function, *specs)
    simpler = expand(graph)
    verify(simpler)
    assert not MADE & {node.op.name for node in simpler.nodes()}
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s.shape).astype(np.float32) for s in specs]
    for found, wanted in zip(evaluate(simpler, arrays), evaluate(graph, arrays), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_graph_without_such_ops_stays_as_it_is() -> None:
    graph = graph_of(lambda x: dp.exp(x) + 1, IMAGES)
    assert expand(graph) is graph


def test_a_convolution_and_its_weights_gradient_share_the_columns() -> None:
    made = program(gradients(lambda x, w: dp.conv(x, w)), IMAGES, FILTERS)
    columns = [t for t in made.temporaries if t.shape == (4, 2, 3, 3, 6, 6)]
    assert len(columns) == 1  # those of the images; their gradient has columns of its own, of the outputs
    products = [s.product for s in made.steps if isinstance(s, ProductStep)]
    assert sorted((p.outer, p.inner, p.k) for p in products) == [(4, 1, 18), (4, 1, 36), (4, 1, 54)]


def test_groups_are_inner_pairs_and_no_kernel_is_copied() -> None:
    made = program(lambda x, w: dp.conv(x, w, groups=2), dp.spec((4, 10, 8, 8)), dp.spec((6, 5, 3, 3)))
    (product,) = [s.product for s in made.steps if isinstance(s, ProductStep)]
    assert (product.outer, product.inner, product.m, product.n, product.k) == (4, 2, 3, 36, 45)
    assert (product.left.stack, product.left.inner) == (0, 135)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("strides", [1, 2])
def test_the_gradient_of_a_kernel_for_each_channel_is_a_sum_for_each_element(outputs: int, strides: int) -> None:
    def f(x: Any, w: Any) -> Any:
        return dp.conv(x, w, groups=5, strides=strides, padding=1)

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 5, 7, 6)), rng.standard_normal((5 * outputs, 1, 3, 2))
    found = dp.defn(gradients(f), backend="cpu")(x, w)
    for one, other in zip(found, gradients(f)(x, w), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-12, atol=1e-12)
    assert "P" not in steps(gradients(f), dp.spec(x.shape), dp.spec(w.shape))


@pytest.mark.parametrize("geometry", [
    {"x": (3, 12, 9, 10), "w": (5, 12, 3, 3), "padding": 1},
    {"x": (2, 12, 9, 16), "w": (5, 12, 2, 3), "padding": ((1, 0), (0, 2)), "strides": (1, 2), "dilation": (2, 1)},
    {"x": (2, 11, 4, 5, 6), "w": (4, 11, 2, 1, 3)},
    {"x": (2, 40, 30), "w": (4, 40, 3), "dilation": 2},
])  # fmt: skip
def test_columns_for_one_row_of_the_kernel_serve_all(geometry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = geometry.pop("x"), geometry.pop("w")
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal(x), rng.standard_normal(w)

    def f(x: Any, w: Any) -> Any:
        return dp.conv(x, w, **geometry)

    monkeypatch.setattr(convolve, "LARGE", 0)
    made = program(f, *map(dp.spec, (x, w)))
    (product,) = [s.product for s in made.steps if isinstance(s, ProductStep)]
    assert (product.outer, product.inner, product.summed) == (x[0], w[2], True)
    made = program(dp.grad(lambda x, w: dp.sum(dp.sin(f(x, w))), argnums=1), *map(dp.spec, (x, w)))
    columns = x[0] * x[1] * np.prod(w[2:]) * np.prod(dp.defn(f).expr(*map(dp.spec, (x, w))).outputs[0].shape[2:])
    assert max(np.prod(t.shape) for t in made.temporaries) < columns
    found = dp.defn(gradients(f), backend="cpu")(*arrays)
    for one, other in zip(found, gradients(f)(*arrays), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.asarray(dp.defn(f, backend="cpu")(*arrays)), np.asarray(f(*arrays)), atol=1e-11)


def test_padding_is_filled_by_the_loop_that_copies_and_threads_share_both() -> None:
    for function, spec in (
        (lambda x: dp.exp(dp.pad(x, low=(0, 0, 1, 1), high=(0, 0, 1, 1))), dp.spec((8, 16, 28, 28))),
        (lambda x: dp.pad(x * 2, low=(0, 1), high=(0, 0)), dp.spec((4000, 30))),
    ):
        step = program(function, spec, threads=2).steps[0]
        assert step.threads == 2
        (loop,) = [s for s in step.emitted.kernel.body if isinstance(s, Loop)]
        assert loop.variable == step.emitted.kernel.parallel


def test_the_parts_of_a_sum_over_a_batch_do_not_depend_on_threads() -> None:
    function = dp.grad(lambda x, w: dp.sum(dp.conv(x, w) ** 2), argnums=1)
    for batch, parts in ((100, 10), (64, 16), (7, 7), (101, 1)):
        specs = [dp.spec((batch, 2, 8, 8)), FILTERS]
        for threads in (1, 3):
            made = program(function, *specs, threads=threads)
            (summed,) = [s.product for s in made.steps if isinstance(s, ProductStep) and s.product.k == 36]
            assert (summed.outer, summed.inner) == (parts, batch // parts)


def test_an_operand_in_no_order_that_blas_reads_is_copied_into_one() -> None:
    x, y = dp.spec((5, 6, 4)), dp.spec((4, 5, 6))
    graph = graph_of(lambda x, y: dp.tensordot(x, y, axes=([0, 2], [1, 0])), x, y)
    (node,) = [n for n in graph.nodes() if n.op.name == "dot_general"]
    plan = arrange(node)
    assert plan is not None and any(plan.copies)
    assert steps(lambda x, y: dp.tensordot(x, y, axes=([0, 2], [1, 0])), x, y).count("C") == 0


def test_windows_that_do_not_meet_are_stored_others_are_added() -> None:
    def statements(strides: int) -> list[Any]:
        made = program(lambda g, x: max_unpool(g, x, window=2, strides=strides), *shapes_of(strides))
        return [s for step in made.steps if isinstance(step, KernelStep) for s in walk(step.emitted.kernel.body)]

    def shapes_of(strides: int) -> list[Any]:
        count = (8 - 2) // strides + 1
        return [dp.spec((1, 2, count, count)), dp.spec((1, 2, 8, 8))]

    assert not [s for s in statements(2) if isinstance(s, FoldStore)]
    assert len([s for s in statements(2) if isinstance(s, Store)]) == 4
    assert [s.kind for s in statements(1) if isinstance(s, FoldStore)] == ["sum"]


def test_only_small_windows_are_compared_one_by_one() -> None:
    wide = TAPS + 1
    x, pooled = dp.spec((2, 1, wide)), dp.spec((2, 1, 1))
    assert steps(lambda g, x: max_unpool(g, x, window=wide), pooled, x) == "C"
    assert steps(lambda v, x: max_select(v, x, window=wide), x, x) == "C"


def test_what_is_around_the_parts_is_filled_by_the_first_kernel() -> None:
    made = program(lambda x, y: dp.exp(dp.pad(x, low=1)) + y, dp.spec((2, 3)), dp.spec((3, 4)))
    first = made.steps[0].emitted.kernel
    assert [s.buffer for s in walk(first.body) if isinstance(s, Store)] == [first.buffers[0].name] * 2


def test_threads_share_windows_by_image_not_by_what_meets() -> None:
    """Two windows may add to one place: only the axes in front of them can be cut."""
    many = program(lambda x: dp.overlap_add(x, (9, 9)), dp.spec((50, 8, 8, 2, 2)), threads=2)
    (step,) = many.steps
    assert step.emitted.kernel.parallel == "i0" and step.extent == 50
    alone = program(lambda x: dp.overlap_add(x, (900,)), dp.spec((899, 2)), threads=2)
    assert [s.emitted.kernel.parallel for s in alone.steps] == [""]


def test_small_sizes_of_windows_are_compiled_into_the_code() -> None:
    def kernel(batch: int, side: int) -> Any:
        made = program(lambda x: dp.max_pool(x, 2), dp.spec((batch, 3, side, side)))
        return made.steps[0].emitted.kernel

    assert kernel(10, 8).fixed == kernel(200, 8).fixed != kernel(10, 16).fixed
    loops = [s.size for s in walk(kernel(10, 8).body) if isinstance(s, Loop)]
    assert set(kernel(10, 8).fixed) >= set(loops[1:])
