"""The disk cache of machine code: what a second process finds, and what it does with entries that are not whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import cache
from defnpy.backends.cpu.render import canonical
from defnpy.lower.program import KernelStep, lower

PROGRAM = """
import sys
import defnpy as dp
import numpy as np
f = dp.defn(lambda x: dp.sum(dp.exp(x) * 2 + x, axis=-1))
x = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
result = np.asarray(f(x))
assert np.allclose(result, (np.exp(x) * 2 + x).sum(-1), rtol=1e-5)
kernels = f.compile(x).kernels()
print(all(k.cached for k in kernels), "numba" in sys.modules)
"""


def run(folder: Path, program: str = PROGRAM) -> str:
    """What a fresh process with that cache folder prints."""
    environment = dict(os.environ, DEFNPY_CACHE_DIR=str(folder))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "kernels").glob("*/*.bin"))


def test_a_second_process_loads_what_the_first_compiled_without_numba(tmp_path):
    run(tmp_path)
    assert entries(tmp_path)
    loaded = run(tmp_path, PROGRAM.replace("kernels = f", "f.cache_clear()\nkernels = f"))
    assert loaded == "True False"


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"garbage", lambda b: b[:-1] + b"\0\0"]
)
def test_a_damaged_entry_is_built_again(tmp_path, damage):
    run(tmp_path)
    before = {path: path.read_bytes() for path in entries(tmp_path)}
    for path, content in before.items():
        path.write_bytes(damage(content))
    run(tmp_path)
    for path in entries(tmp_path):
        assert cache.read(str(tmp_path), path.parent.name + path.stem) is not None


def test_writers_at_the_same_time_leave_whole_entries(tmp_path):
    environment = dict(os.environ, DEFNPY_CACHE_DIR=str(tmp_path))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for writer in writers:
        _, problem = writer.communicate(timeout=300)
        assert writer.returncode == 0, problem.decode()
    assert entries(tmp_path) and not list(tmp_path.rglob(".writing-*"))
    assert run(tmp_path) == "True False"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert run(tmp_path / "file") == "True True" or run(tmp_path / "file").endswith("True")


def test_no_folder_means_no_cache(tmp_path, monkeypatch):
    entry = cache.Entry("symbol", b"code", False)
    cache.write("", "ab" * 32, entry)
    assert cache.read("", "ab" * 32) is None


def test_an_entry_comes_back_as_it_was(tmp_path):
    entry = cache.Entry("symbol", b"line\nline\0", True)
    cache.write(str(tmp_path), "ab" * 32, entry)
    assert cache.read(str(tmp_path), "ab" * 32) == entry
    assert cache.read(str(tmp_path), "cd" * 32) is None
    assert cache.clear(str(tmp_path)) == 1
    assert cache.read(str(tmp_path), "ab" * 32) is None


def kernels(function, *args):
    program = lower(dp.defn(function).expr(*args))
    return [step.emitted.kernel for step in program.steps if isinstance(step, KernelStep)]


def test_equal_kernels_have_one_canonical_text_whatever_the_names_and_sizes():
    (one,) = kernels(lambda alpha: alpha * 2.0 + 1.0, dp.ones((3, 4)))
    (two,) = kernels(lambda beta: beta * 2.0 + 1.0, dp.ones((7, 9)))
    (other,) = kernels(lambda beta: beta * 3.0 + 1.0, dp.ones((7, 9)))
    assert canonical(one) == canonical(two) != canonical(other)


def test_the_dtype_is_part_of_the_name_of_an_entry(tmp_path):
    f = dp.defn(lambda x: -x, backend="cpu")
    with dp.config(cache_dir=str(tmp_path)):
        f(dp.ones(5, dtype="float32"))
        f(dp.ones(5, dtype="float64"))
    assert len(entries(tmp_path)) in (0, 1, 2)  # kernels that this process has loaded before are not written again
    names = {cache.digest("source", dtype) for dtype in ("float32", "float64")}
    assert len(names) == 2


def test_what_is_known_of_a_kernel():
    report = dp.defn(lambda x: dp.exp(x)).compile(dp.ones(3)).kernels()
    assert len(report) == 1
    assert report[0].name == "kernel_0" and "math.exp" in report[0].source and report[0].seconds > 0
    assert any("dp.exp(x)" in line for line in report[0].lines)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_outputs_are_the_callers_own(backend):
    f = dp.defn(lambda x: (x, x.reshape(4), x.T, x * 1, x), backend=backend)
    x = np.arange(4.0).reshape(2, 2)
    first = [np.asarray(y) for y in f(x)]
    kept = [y.copy() for y in first]
    x[:] = 9
    f(x)
    for now, then in zip(first, kept, strict=True):
        np.testing.assert_array_equal(now, then)
    for i, a in enumerate(first):
        assert not np.shares_memory(a, x)
        assert not any(np.shares_memory(a, b) for b in first[i + 1 :])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, ::2],
        lambda x: x.T,
        np.asfortranarray,
        lambda x: x.astype(">f8"),
        lambda x: x[::-1],
    ],
)
def test_inputs_of_any_layout(change):
    f = dp.defn(lambda x: (x @ x.T, dp.sum(x * 2, axis=0)), backend="cpu")
    x = change(np.arange(12.0).reshape(3, 4))
    product, total = f(x)
    np.testing.assert_allclose(product, x @ x.T)
    np.testing.assert_allclose(total, (x * 2).sum(0))
