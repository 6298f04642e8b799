"""Random numbers from keys: published bits, JAX's bits, the same bits on every backend, and the right distributions."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import DTypeError, ShapeError
from defnpy.ops.create import threefry2x32

BACKENDS = ("eager", "reference", "cpu")
KEY = dp.random.key(42)


def run(backend, function, *args):
    """Call eagerly or compiled."""
    return (function if backend == "eager" else dp.defn(function, backend=backend))(*args)


def same_bits(got, wanted):
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    assert got.tobytes() == wanted.tobytes()


# -- the block cipher -----------------------------------------------------------------------------------------------

# Random123's kat_vectors, threefry2x32 with 20 rounds: counter, key, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
def test_threefry_gives_the_published_answers(counter, key, wanted, backend):
    operands = [np.full((2,), word, np.uint32) for word in (*key, *counter)]

    def words(*operands):
        return [threefry2x32(*operands, word=w) for w in (0, 1)]

    for word, got in zip(wanted, run(backend, words, *operands), strict=True):
        assert got.dtype == "uint32" and got.tolist() == [word, word]


# -- JAX's answers, stored ------------------------------------------------------------------------------------------

SPLIT = [[1832780943, 270669613], [64467757, 2916123636], [2465931498, 255383827]]
FOLDED = {0: [1832780943, 270669613], 1: [64467757, 2916123636], 2**32 - 1: [2398536845, 3890976714]}
BITS = {
    "uint8": [[162, 217], [249, 215]],
    "uint16": [[5026, 12505], [63993, 49623]],
    "uint32": [[2098992034, 2919706841], [2646866425, 2409546199]],
    "uint64": [[7871734211187709741, 276886910877598708], [10591095138341673235, 13462782411356743825]],
}
UNIFORM = {
    "float32": [0.48870956897735596, 0.6797971725463867, 0.6162714958190918, 0.5610160827636719],
    "float64": [0.4267275666499091, 0.015010069515314584, 0.5741444178995352, 0.7298188969046309],
}
NORMAL = {
    "float32": [-0.02830461598932743, 0.4671318531036377, 0.2957029640674591, 0.15354591608047485],
    "float64": [-0.18471174528191162, -2.169824560397754, 0.18693555179382582, 0.6122653570510959],
}
RANDINT = {"int32": [786, 117, 859, 720, 242, 212], "int64": [920, 466, 594, 639, 611, 235]}


def test_keys():
    for seed, words in {
        0: (0, 0),
        7: (0, 7),
        2**32 - 1: (0, 2**32 - 1),
        2**40 + 5: (256, 5),
        -1: (2**32 - 1,) * 2,
    }.items():
        same_bits(dp.random.key(seed), np.array(words, np.uint32))
        same_bits(dp.random.key(dp.asarray(seed)), np.array(words, np.uint32))
        same_bits(run("cpu", lambda s: dp.random.key(s), dp.asarray(seed)), np.array(words, np.uint32))
    same_bits(dp.random.key(np.uint64(2**63)), np.array([2**31, 0], np.uint32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_stored_keys(backend):
    same_bits(run(backend, lambda k: dp.random.split(k, 3), KEY), np.array(SPLIT, np.uint32))
    same_bits(run(backend, lambda k: dp.random.split(k), KEY), np.array(SPLIT[:2], np.uint32))
    for data, words in FOLDED.items():
        same_bits(run(backend, lambda k, data=data: dp.random.fold_in(k, data), KEY), np.array(words, np.uint32))
        same_bits(run(backend, lambda k, n: dp.random.fold_in(k, n), KEY, dp.asarray(data)), np.array(words, np.uint32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
def test_stored_bits(dtype, backend):
    same_bits(run(backend, lambda k: dp.random.bits(k, (2, 2), dtype=dtype), KEY), np.array(BITS[dtype], dtype))
    assert run(backend, lambda k: dp.random.bits(k, dtype=dtype), KEY).item() == BITS[dtype][0][0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", UNIFORM)
def test_stored_floats(dtype, backend):
    same_bits(run(backend, lambda k: dp.random.uniform(k, (4,), dtype=dtype), KEY), np.array(UNIFORM[dtype], dtype))
    normal = run(backend, lambda k: dp.random.normal(k, (4,), dtype=dtype), KEY)
    np.testing.assert_allclose(normal, NORMAL[dtype], rtol=1e-6 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", RANDINT)
def test_stored_integers(dtype, backend):
    got = run(backend, lambda k: dp.random.randint(k, (6,), 3, 1000, dtype=dtype), KEY)
    same_bits(got, np.array(RANDINT[dtype], dtype))
    traced = run(
        backend, lambda k, a, b: dp.random.randint(k, (6,), a, b, dtype=dtype), KEY, dp.asarray(3), dp.asarray(1000)
    )
    same_bits(traced, got)


# -- JAX's answers, asked for ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")  # before the environment is looked at: importing JAX changes it
def jax():
    return pytest.importorskip("jax", reason="JAX is not installed (the bench extra)")


SHAPES = [(), (7,), (2, 3, 4), (4, 0)]


@pytest.mark.parametrize("seed", [0, 1, 123456789, 2**32 - 1])
def test_jax_gives_the_same_bits(seed, jax):
    ours, theirs = dp.random.key(seed), jax.random.key(seed)
    same_bits(ours, jax.random.key_data(theirs))
    for count in (1, 2, 9):
        same_bits(dp.random.split(ours, count), jax.random.key_data(jax.random.split(theirs, count)))
    for data in (0, 1, 77, 2**31, 2**32 - 1):
        same_bits(dp.random.fold_in(ours, data), jax.random.key_data(jax.random.fold_in(theirs, np.uint32(data))))
    for shape in SHAPES:
        for dtype in ("uint8", "uint16", "uint32"):
            same_bits(dp.random.bits(ours, shape, dtype=dtype), jax.random.bits(theirs, shape, dtype))
        same_bits(dp.random.uniform(ours, shape), jax.random.uniform(theirs, shape))
        for low, high in ((0, 10), (-5, 7), (0, 2**31 - 1), (-(2**31), 2**31 - 1), (4, 4), (9, 2)):
            got = dp.random.randint(ours, shape, low, high, dtype="int32")
            same_bits(got, jax.random.randint(theirs, shape, low, high, "int32"))
        np.testing.assert_allclose(
            dp.random.normal(ours, shape), jax.random.normal(theirs, shape), rtol=2e-6, atol=1e-7
        )


def test_jax_gives_the_same_interval(jax):
    """Scaling may be rounded differently by one unit: JAX fuses the multiplication with the addition."""
    got = dp.random.uniform(KEY, (50,), low=-2.5, high=7.0)
    np.testing.assert_allclose(got, jax.random.uniform(jax.random.key(42), (50,), "float32", -2.5, 7.0), atol=1e-6)


# -- one key, one answer --------------------------------------------------------------------------------------------


def draws(k):
    return {
        "bits": dp.random.bits(k, (3, 5)),
        "wide bits": dp.random.bits(k, (3, 5), dtype="uint64"),
        "uniform": dp.random.uniform(k, (3, 5)),
        "wide uniform": dp.random.uniform(k, (3, 5), dtype="float64", low=-1.0, high=3.0),
        "randint": dp.random.randint(k, (3, 5), -3, 12),
        "narrow randint": dp.random.randint(k, (3, 5), -3, 12, dtype="int32"),
        "split": dp.random.split(k, 4),
        "fold_in": dp.random.fold_in(k, 7),
        "permuted": dp.random.bits(k, (3, 5)).T,
    }


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_compiled_bits_are_eager_bits(backend):
    eager, f = draws(KEY), dp.defn(draws, backend=backend)
    for name, got in f(KEY).items():
        if name == "wide uniform":  # the one with rounding after the bits
            np.testing.assert_allclose(got, eager[name], rtol=1e-15, atol=1e-15)
        else:
            same_bits(got, eager[name])
    f(dp.random.key(1))
    assert f.cache_info().misses == 1  # a key is a value


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_compiled_normals_are_eager_normals(backend):
    for dtype, rtol in (("float32", 1e-6), ("float64", 1e-14)):
        got = run(backend, lambda k, dtype=dtype: dp.random.normal(k, (100,), dtype=dtype), KEY)
        np.testing.assert_allclose(got, dp.random.normal(KEY, (100,), dtype=dtype), rtol=rtol)


def test_an_element_depends_on_its_position_alone():
    wide = np.asarray(dp.random.bits(KEY, (100,)))
    same_bits(dp.random.bits(KEY, (10, 10)), wide.reshape(10, 10))
    same_bits(dp.random.bits(KEY, (7,)), wide[:7])


def test_equal_keys_equal_numbers_and_other_keys_other_numbers():
    same_bits(dp.random.normal(KEY, (5,)), dp.random.normal(dp.random.key(42), (5,)))
    keys = [KEY, dp.random.key(43), *dp.random.split(KEY), dp.random.fold_in(KEY, 0), dp.random.fold_in(KEY, 1)]
    first = [dp.random.bits(k).item() for k in keys]
    # fold_in(k, n) is element n of split(k, ...): the same counter under the same key.
    assert first[4:] == first[2:4] and len(set(first)) == 4


# -- distributions --------------------------------------------------------------------------------------------------

MANY = 200_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_of_the_normal_distribution(dtype):
    x = np.asarray(dp.random.normal(KEY, (MANY,), dtype=dtype), np.float64)
    assert np.isfinite(x).all()
    error = 5 / np.sqrt(MANY)  # five standard errors of the mean
    assert abs(x.mean()) < error and abs(x.var() - 1) < error * np.sqrt(2)
    assert abs((x**3).mean()) < error * np.sqrt(15) and abs((x**4).mean() - 3) < error * np.sqrt(96)
    # The tails: P(|x| > 3) = 0.0026998, and its expected number is 540 +- 23.
    assert abs((np.abs(x) > 3).sum() - MANY * 0.0026998) < 5 * 23.2


def test_the_normal_distribution_by_quantiles():
    x = np.sort(np.asarray(dp.random.normal(KEY, (MANY,), dtype="float64")))
    for p, quantile in ((0.001, -3.0902323), (0.1, -1.2815516), (0.25, -0.6744898), (0.5, 0.0), (0.9, 1.2815516)):
        density = np.exp(-(quantile**2) / 2) / np.sqrt(2 * np.pi)
        assert abs(x[int(p * MANY)] - quantile) < 5 * np.sqrt(p * (1 - p) / MANY) / density


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_numbers_fill_the_interval_evenly(dtype):
    x = np.asarray(dp.random.uniform(KEY, (MANY,), dtype=dtype))
    assert x.dtype == dtype and 0 <= x.min() < 1e-4 and 1 - 1e-4 < x.max() < 1
    counts = np.histogram(x, bins=50, range=(0, 1))[0]
    assert np.abs(counts - MANY / 50).max() < 5 * np.sqrt(MANY / 50)
    grid = x * 2.0 ** (23 if dtype == "float32" else 52)
    np.testing.assert_array_equal(grid, np.floor(grid))


@pytest.mark.parametrize(("low", "high"), [(-2.5, 7.0), (0.0, 1e-3), (5.0, 5.0), (1e6, 1e6 + 1)])
def test_uniform_numbers_stay_in_the_interval(low, high):
    x = np.asarray(dp.random.uniform(KEY, (10_000,), low=low, high=high), np.float64)
    assert x.min() >= np.float32(low) and x.max() <= np.float32(high)
    assert abs(x.mean() - (low + high) / 2) <= (high - low) * 0.02


def test_uniform_between_tensors():
    low = dp.asarray([0.0, 10.0, -5.0])
    x = np.asarray(dp.random.uniform(KEY, (1000, 3), low=low, high=low + 1))
    assert ((x >= low) & (x < np.asarray(low) + 1)).all()


def counts_of(x, low, high):
    x = np.asarray(x, np.int64)
    assert x.min() >= low and x.max() < high
    return np.bincount(x - low, minlength=high - low)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
@pytest.mark.parametrize(("low", "high"), [(0, 10), (3, 4), (5, 105), (0, 1000)])
def test_integers_are_spread_evenly(dtype, low, high):
    x = dp.random.randint(KEY, (MANY,), low, high, dtype=dtype)
    assert x.dtype == dtype
    wanted = MANY / (high - low)
    assert np.abs(counts_of(x, low, high) - wanted).max() < 5.5 * np.sqrt(wanted)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_small_integers_are_spread_evenly_too(dtype):
    wanted = MANY / 100
    counts = counts_of(dp.random.randint(KEY, (MANY,), 0, 100, dtype=dtype), 0, 100)
    assert np.abs(counts - wanted).max() < 5.5 * np.sqrt(wanted)


def test_negative_ranges_and_empty_ones():
    assert set(np.asarray(dp.random.randint(KEY, (500,), -3, 3)).tolist()) == {-3, -2, -1, 0, 1, 2}
    assert set(np.asarray(dp.random.randint(KEY, (50,), 4, 4)).tolist()) == {4}
    assert set(np.asarray(dp.random.randint(KEY, (50,), 4, -9, dtype="int32")).tolist()) == {4}
    wide = np.asarray(dp.random.randint(KEY, (1000,), -(2**63), 2**63 - 1))
    assert wide.min() < -(2**62) and wide.max() > 2**62


def test_neighbouring_keys_and_elements_do_not_correlate():
    keys = dp.random.split(KEY, 50)
    x = np.stack([np.asarray(dp.random.normal(keys[i], (2000,), dtype="float64")) for i in range(50)])
    between = np.corrcoef(x) - np.eye(50)
    assert np.abs(between).max() < 5.5 / np.sqrt(2000)
    assert abs(np.corrcoef(x[:, :-1].ravel(), x[:, 1:].ravel())[0, 1]) < 5 / np.sqrt(x.size)


# -- in programs ----------------------------------------------------------------------------------------------------


def test_a_training_step_draws_its_batch_by_key():
    @dp.defn(backend="cpu")
    def batch(key, step, x):
        return dp.take(x, dp.random.randint(dp.random.fold_in(key, step), (4,), 0, x.shape[0]), axis=0)

    x = dp.asarray(np.arange(100.0))
    drawn = [batch(KEY, n, x).tolist() for n in range(5)]
    assert batch.cache_info()[:3] == (4, 1, 1) and len({tuple(d) for d in drawn}) == 5
    wanted = np.asarray(x)[np.asarray(dp.random.randint(dp.random.fold_in(KEY, 3), (4,), 0, 100))]
    assert drawn[3] == wanted.tolist()


def test_the_gradient_flows_through_the_scale_of_noise():
    """z = m + s e: dz/dm = 1, dz/ds = e."""
    m, s = dp.grad(lambda m, s: dp.sum(m + s * dp.random.normal(KEY, (3,))), (0, 1))(1.0, 2.0)
    assert m.item() == 3.0
    np.testing.assert_allclose(s, dp.sum(dp.random.normal(KEY, (3,))), rtol=1e-6)


# -- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: dp.random.normal(7, (2,)), DTypeError, "a key is a u32[2] tensor, not 7"),
        (lambda: dp.random.split(dp.zeros(2)), DTypeError, "a key is a u32[2] tensor, not f32[2]"),
        (lambda: dp.random.bits(dp.random.split(KEY)), DTypeError, "a key is a u32[2] tensor, not u32[2,2]"),
        (lambda: dp.random.key(1.5), DTypeError, "a seed is one integer"),
        (lambda: dp.random.key([1, 2]), DTypeError, "not a tensor"),
        (lambda: dp.random.key(True), DTypeError, "a seed is one integer"),
        (lambda: dp.random.bits(KEY, (2,), dtype="int32"), DTypeError, "bits are unsigned integers, not int32"),
        (lambda: dp.random.uniform(KEY, (2,), dtype="int32"), DTypeError, "uniform numbers are floats, not int32"),
        (lambda: dp.random.normal(KEY, (2,), dtype="int32"), DTypeError, "normal numbers are floats, not int32"),
        (
            lambda: dp.random.randint(KEY, (2,), 0, 9, dtype="float32"),
            DTypeError,
            "randint draws integers, not float32",
        ),
        (lambda: dp.random.normal(KEY, (-1,)), ShapeError, "a shape has no negative sizes"),
        (lambda: dp.defn(lambda k: dp.random.bits(k, (2**17, 2**17))).expr(KEY), ShapeError, "more than 2**32"),
    ],
)
def test_what_is_refused(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert text in caught.value.what and __file__ in caught.value.where


def test_another_shape_compiles_nothing_new() -> None:
    """The counters are positions in row-major order, whatever the shape."""
    compiler = importlib.import_module("defnpy.backends.cpu.compile")
    dp.defn(lambda key: dp.random.normal(key, (31, 7)), backend="cpu")(KEY)
    known = dict(compiler._loaded)
    for shape in ((217,), (7, 31), (7, 1, 31)):
        dp.defn(lambda key, shape=shape: dp.random.normal(key, shape), backend="cpu")(KEY)
    assert compiler._loaded == known
