"""Matrix products by panels: every edge of a panel, every transposition, against float64 products by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import panels

# Rows around 6 and 12, columns around vectors and panels of every width, sums around the depth of a pass; and a few
# columns over, with a long enough for vectors along it in either direction, in one pass and in two.
SIZES = [(100, 50, 129), (97, 33, 600), (103, 20, 96), (129, 67, 9),
         (1, 1, 1), (7, 10, 5), (13, 16, 3), (6, 17, 40), (100, 50, 10), (5, 63, 9), (12, 64, 8), (11, 65, 7),
         (3, 130, 30), (29, 33, 511), (30, 31, 513), (2, 48, 1100), (64, 600, 17)]  # fmt: skip


@pytest.fixture(autouse=True)
def _by_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "suits", lambda product: True)


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_every_size(dtype: str, transposed: str) -> None:
    rng = np.random.default_rng(0)

    def f(a: Any, b: Any) -> Any:
        return (a.T if "a" in transposed else a) @ (b.T if "b" in transposed else b)

    for m, n, k in SIZES:
        a = random(rng, (k, m) if "a" in transposed else (m, k), dtype)
        b = random(rng, (n, k) if "b" in transposed else (k, n), dtype)
        expected = f(a.astype("float64"), b.astype("float64"))
        bound = k * np.finfo(dtype).eps * (f(np.abs(a), np.abs(b))).max()
        np.testing.assert_allclose(np.asarray(dp.defn(f, backend="cpu")(a, b)), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("threads", [2, 3])
def test_shared_by_rows_and_by_columns_the_bits_are_the_same(threads: int) -> None:
    rng = np.random.default_rng(1)
    for m, n, k in ((201, 50, 300), (201, 55, 300), (20, 1000, 200), (20, 1026, 200)):
        a, b = random(rng, (m, k), "float32"), random(rng, (k, n), "float32")
        with dp.config(threads=1, backend="cpu"):
            alone = np.asarray(dp.defn(lambda a, b: a @ b)(a, b))
        with dp.config(threads=threads, backend="cpu"):
            f = dp.defn(lambda a, b: a @ b)
            assert f.compile(a, b).steps()[0].threads > 1
            np.testing.assert_array_equal(np.asarray(f(a, b)), alone)


def test_batches_slices_and_sums_of_products() -> None:
    rng = np.random.default_rng(2)
    a, b = random(rng, (5, 7, 40), "float64"), random(rng, (5, 40, 9), "float64")
    for f in (
        lambda a, b: a @ b,
        lambda a, b: a[1:4, 2:, :33] @ b[1:4, 3:36, ::1],
        lambda a, b: dp.tensordot(a, b.mT, axes=((0, 2), (0, 2))),
        lambda a, b: dp.einsum("pik,pjk->ij", a @ b, a @ b),
    ):
        found = np.asarray(dp.defn(f, backend="cpu")(a, b))
        np.testing.assert_allclose(found, np.asarray(f(dp.asarray(a), dp.asarray(b))), rtol=1e-12, atol=1e-12)


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    a, b = np.ones((8, 20), np.float32), np.ones((20, 21), np.float32)
    a[3, 4], b[7, 20] = np.inf, np.nan
    found = np.asarray(dp.defn(lambda a, b: a @ b, backend="cpu")(a, b))
    assert np.isnan(found[:, 20]).all()
    assert np.isposinf(found[3, :20]).all()
    rest = np.delete(found[:, :20], 3, axis=0)
    np.testing.assert_array_equal(rest, 20)


@pytest.mark.parametrize("registers", [(16, 2), (32, 2), (64, 4)])
def test_the_text_of_every_processor(registers: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter vectors than this machine's run on it as well; longer ones are only written."""
    from defnpy.backends.cpu import blas, machine

    if registers > machine.vector_registers():
        pytest.skip("this processor has no such vectors")
    monkeypatch.setattr(machine, "vector_registers", lambda: registers)
    blas._panels.cache_clear()
    rng = np.random.default_rng(3)
    a, b = random(rng, (19, 35), "float32"), random(rng, (35, 37), "float32")
    found = dp.defn(lambda a, b: (a @ b, b.T @ a.T), backend="cpu")(a, b)
    for y, expected in zip(found, (a @ b, b.T @ a.T), strict=True):
        np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-4, atol=1e-4)
