"""Windows on the CPU backend: convolution, pooling, padding and joining, compiled, against the reference."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import llvm_compiler
from defnpy.backends.cpu.assembly import assemble
from defnpy.backends.cpu.backend import CpuBackend
from defnpy.ops.conv import conv_weight
from defnpy.ops.window import max_pool, max_select, max_unpool

rng = np.random.default_rng(0)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def check(function: Callable[..., Any], *arrays: np.ndarray, tolerance: float = 1e-4) -> None:
    """Compiled for one thread and for three, the function gives the reference's answer, and the same bits each time."""
    expected = dp.tree.leaves(function(*map(dp.asarray, arrays)))
    before = None
    for threads in (1, 3):
        with dp.config(threads=threads):
            found = dp.tree.leaves(dp.defn(lambda *xs: function(*xs), backend="cpu")(*arrays))
        for y, z in zip(found, expected, strict=True):
            assert (y.shape, y.dtype) == (z.shape, z.dtype)
            np.testing.assert_allclose(np.asarray(y), np.asarray(z), rtol=tolerance, atol=tolerance)
        if before is not None:
            for y, z in zip(found, before, strict=True):
                np.testing.assert_array_equal(np.asarray(y), np.asarray(z))
        before = found


GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strides": {"strides": 2},
    "padding": {"padding": 1},
    "same": {"padding": "same", "strides": 2},
    "on one side": {"padding": ((2, 0), (0, 1))},
    "dilation": {"dilation": (2, 1)},
    "all": {"strides": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2)},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolution_and_its_derivatives(geometry: str, groups: int, dtype: str) -> None:
    params = {**GEOMETRIES[geometry], "groups": groups}
    x, w = normal(3, 4, 9, 8, dtype=dtype), normal(6, 4 // groups, 3, 2, dtype=dtype)

    def loss(x: Any, w: Any) -> Any:
        return dp.sum(dp.sin(dp.conv(x, w, **params)))

    check(lambda x, w: dp.conv(x, w, **params), x, w)
    check(dp.grad(loss, argnums=(0, 1)), x, w)
    check(dp.grad(lambda x, w: sum(dp.sum(g * g) for g in dp.grad(loss, argnums=(0, 1))(x, w)), argnums=(0, 1)), x, w,
          tolerance=2e-3)  # fmt: skip


@pytest.mark.parametrize(
    ("x", "w", "params"),
    [
        ((2, 3, 11), (4, 3, 4), {"strides": 3}),
        ((2, 2, 5, 4, 3), (4, 1, 2, 2, 2), {"groups": 2, "padding": 1}),
        ((1, 1, 5, 5), (1, 1, 5, 5), {}),
        ((1, 3, 6, 6), (2, 3, 1, 1), {"strides": 2}),
        ((5, 4, 3, 3), (4, 1, 2, 2), {"groups": 4}),
        ((0, 2, 5, 5), (3, 2, 2, 2), {}),
    ],
    ids=["one axis", "three axes", "one window", "one element", "by channel", "empty"],
)
def test_convolutions_of_other_shapes(x: Any, w: Any, params: dict[str, Any]) -> None:
    check(lambda x, w: dp.conv(x, w, **params), normal(*x), normal(*w))
    check(dp.grad(lambda x, w: dp.sum(dp.conv(x, w, **params) ** 2), argnums=(0, 1)), normal(*x), normal(*w))


def test_conv_transpose_and_conv_weight_by_themselves() -> None:
    check(lambda y, w: dp.conv_transpose(y, w, strides=2, padding=1, size=8), normal(3, 5, 4, 4), normal(5, 2, 3, 3))
    check(lambda x, y: conv_weight(x, y, size=3, dilation=2), normal(9, 2, 8, 8), normal(9, 5, 4, 4))


def test_integers_are_left_to_the_reference() -> None:
    check(lambda x, w: dp.conv(x, w), rng.integers(-5, 5, (2, 2, 5, 5)), rng.integers(-5, 5, (3, 2, 2, 2)))


POOLS: dict[str, dict[str, Any]] = {
    "side by side": {"window": 2},
    "apart": {"window": 2, "strides": 3},
    "overlapping": {"window": (3, 2), "strides": (2, 1)},
    "padded": {"window": 3, "padding": 1},
    "padded and overlapping": {"window": (3, 2), "strides": 2, "padding": ((1, 1), (0, 1))},
    "dilated": {"window": 2, "strides": 3, "dilation": 2},
    "dilated and overlapping": {"window": 2, "strides": 2, "dilation": 2},
    "large": {"window": (5, 5), "strides": 2},
}


def image(kind: str) -> np.ndarray:
    x = normal(2, 3, 9, 8)
    if kind == "ties":
        return np.round(x)
    if kind == "special":
        x[rng.random(x.shape) < 0.2] = np.nan
        x[rng.random(x.shape) < 0.4] = -np.inf
    return (3 * x).astype(np.int64) if kind == "integers" else x


@pytest.mark.parametrize("kind", ["numbers", "ties", "special", "integers"])
@pytest.mark.parametrize("name", POOLS)
def test_pooling_and_its_derivatives(name: str, kind: str) -> None:
    params, x = POOLS[name], image(kind)
    pooled = max_pool(dp.asarray(x), **params).shape
    check(lambda x: max_pool(x, **params), x)
    check(lambda g, x: max_unpool(g, x, **params), normal(*pooled), x)
    check(lambda v, x: max_select(v, x, **params), normal(*x.shape), x)
    if kind != "integers":
        check(dp.grad(lambda x: dp.sum(dp.sin(max_pool(dp.relu(x), **params)))), np.nan_to_num(x, neginf=-1.0))


def test_mean_pooling() -> None:
    check(lambda x: dp.mean_pool(x, 2), normal(2, 3, 7, 6))
    check(dp.grad(lambda x: dp.sum(dp.mean_pool(x, 3, strides=2, padding=1) ** 2)), normal(2, 3, 7, 6))


def test_windows_of_what_is_computed_and_back() -> None:
    check(lambda x: dp.windows(dp.exp(x), (2, 3), strides=(2, 1)) * 2, normal(3, 5, 7))
    check(lambda x: dp.overlap_add(dp.exp(x), (5, 8), strides=(2, 1)), normal(3, 2, 6, 2, 3))
    check(lambda x: dp.overlap_add(x, 6, dilation=2), normal(2, 3))
    check(lambda x: dp.sum(dp.windows(x, 3), axis=-1) + dp.max(dp.windows(x, 3), axis=-1), normal(4, 10))


def test_arrays_put_together_of_parts() -> None:
    x, y = normal(3, 4), normal(3, 2)
    check(lambda x, y: dp.concat([x, y * 2, x], axis=1), x, y)
    check(lambda x: dp.concat([x, dp.exp(x), x]) + 1, x)
    check(lambda x, y: dp.concat([dp.sum(x, axis=1), y[:, 0]]), x, y)
    check(lambda x: dp.stack([x, dp.sin(x)], axis=2) @ dp.ones((2, 3)), x)
    check(lambda x: dp.pad(dp.pad(x, low=1), high=(2, 0), interior=1, value=7), x)
    check(lambda x: dp.relu(dp.concat([x, x * 2], axis=1)) * dp.concat([x, x], axis=1), x)
    check(lambda x: dp.sum(dp.concat([x, x * 2]), axis=0), x)
    check(lambda x: dp.concat([x, dp.reshape(x, (6, 2))[:4].T]), normal(3, 4))
    check(lambda x: dp.concat([x[:0], x, x[1:]]), x)
    check(dp.grad(lambda x, y: dp.sum(dp.concat([x, y], axis=1) ** 2), argnums=(0, 1)), x, y)
    check(lambda x: dp.concat([x > 0, x < 1]), x)
    check(lambda x: dp.pad(dp.sum(x), low=()), x)


def test_products_whose_operands_must_be_copied() -> None:
    check(lambda x, y: dp.tensordot(x, y, axes=([0, 2], [1, 0])), normal(5, 6, 4), normal(4, 5, 6))
    check(lambda x, y: dp.tensordot(x, y, axes=([0, 2], [0, 2])), normal(5, 6, 40), normal(5, 3, 40))
    check(lambda x, y: x[:, ::2] @ y[::3, ::2], normal(6, 8), normal(12, 5))
    check(lambda x: dp.flip(x, axis=1) @ dp.ones((8, 3)), normal(6, 8))
    check(lambda x, y: dp.windows(x, 3) @ y, normal(20), normal(3, 4))


@pytest.mark.parametrize("renderer", ["llvm", "numba"])
def test_a_convnet_under_both_renderers(renderer: str) -> None:
    def loss(w: Any, b: Any, v: Any, x: Any) -> Any:
        h = dp.max_pool(dp.relu(dp.conv(x, w) + b), 2)
        return dp.mean(dp.logsumexp(dp.reshape(h, (x.shape[0], -1)) @ v, axis=1))

    arrays = normal(4, 1, 3, 3), normal(4, 1, 1), normal(4 * 25, 3), normal(6, 1, 12, 12)
    with dp.config(renderer=renderer):
        check(dp.grad(loss, argnums=(0, 1, 2)), *arrays)


def test_the_printed_program_runs_alone() -> None:
    def function(x: Any, w: Any) -> Any:
        return dp.max_pool(dp.relu(dp.conv(x, w, padding=1)), 2)

    x, w = normal(2, 2, 6, 6), normal(3, 2, 3, 3)
    compiled = dp.defn(function, backend="cpu").compile(x, w)
    scope: dict[str, Any] = {}
    exec(compiled.source(), scope)
    (found,) = scope["program"](x, w)
    np.testing.assert_allclose(found, np.asarray(function(dp.asarray(x), dp.asarray(w))), rtol=1e-4, atol=1e-5)


def test_the_compiler_says_nothing(run_python: Any) -> None:
    """A vector width asked for at a loop that cannot have it made LLVM print a remark."""
    program = """
import defnpy as dp
f = dp.defn(lambda x: dp.sum(dp.sin(dp.windows(x, (2,), strides=(4,), dilation=(2,))) * 0.3))
print(f(dp.ones((2, 0, 9))).item())
"""
    done = run_python("-c", program, env={"DEFNPY_CACHE_DIR": ""})
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.0\n", "")


@pytest.mark.parametrize("n", [8, 11, 13, 24, 28, 31, 36, 66])
@pytest.mark.parametrize("strides", [2, 3])
def test_few_steps_along_an_image(n: int, strides: int) -> None:
    """The kernel of a small image knows its size: whole vectors of steps and the rest are two loops."""
    check(lambda x: max_pool(x, window=2, strides=strides), normal(2, 3, n, n))
    check(lambda x: x[..., ::strides] * 2 + x[..., : -(-n // strides)], normal(5, n, n))


@pytest.mark.parametrize("n", [12, 24, 28, 32])
def test_few_steps_are_vectorized(n: int) -> None:
    """Vectors are loaded as a whole and taken apart. A loop of so few turns was unrolled before LLVM looked for
    vectors, and its elements were loaded one by one."""
    compiled = CpuBackend().compile(dp.defn(lambda x: dp.max_pool(x, 2)).expr(dp.spec((4, 3, n, n))))
    (step,) = compiled._linked.kernels
    module = llvm_compiler.optimized(assemble(step.emitted.kernel, "pool"))
    assert "shufflevector" in str(module) and not re.search(r"fcmp \w+ float", str(module))
