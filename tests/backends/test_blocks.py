"""Large arrays that are read the wrong way round: block by block, every element once."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu.assembly import LARGE, _turned
from defnpy.lower.program import KernelStep, lower

FUNCTIONS = {
    "copy": lambda x: x.T + 0.0,
    "two": lambda x: x.T * 2 + dp.flip(x, axis=0).T,
    "mixed": lambda x: x.T + dp.reshape(x, (x.shape[1], x.shape[0])),
    "counted": lambda x: x.T + dp.astype(dp.iota(shape=(x.shape[1], x.shape[0]), axis=1), x.dtype),
    "total": lambda x: dp.sum(x.T * dp.reshape(x, (x.shape[1], x.shape[0]))),
    "bytes and words": lambda x: dp.where(x.T > 0, 1.0, dp.reshape(x, (x.shape[1], x.shape[0]))),
    "channels last": lambda x: dp.permute_dims(dp.stack([x, -x, x * x]), (1, 2, 0)) * 1.5,
}
SHAPES = [(90, 97), (3, 5000), (3000, 3), (129, 64), (6, 7)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_element_once(name, shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    found = np.asarray(dp.defn(FUNCTIONS[name], backend="cpu")(x))
    expected = np.asarray(FUNCTIONS[name](dp.asarray(x)))
    if name == "total":
        np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == "float32" else 1e-12)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_blocks(threads):
    x = np.arange(300.0 * 301).reshape(300, 301)
    assert x.size > LARGE
    with dp.config(threads=threads):
        np.testing.assert_array_equal(dp.defn(lambda x: x.T * 2, backend="cpu")(x), x.T * 2)


def loops(function):
    (step,) = lower(dp.defn(function, backend="cpu").compile(dp.spec((90, 97))).graph).steps
    assert isinstance(step, KernelStep)
    return step.emitted.kernel.body


def test_what_goes_by_blocks():
    assert _turned(loops(FUNCTIONS["mixed"])[-1]) is not None
    for straight in (lambda x: dp.flip(x, axis=0) * 2, lambda x: x + x[:, :1], lambda x: x[::2, ::3] * 2):
        assert _turned(loops(straight)[-1]) is None
