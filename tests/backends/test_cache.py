"""The disk cache of machine code between processes: what a second one finds, and several that write at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import defnpy as dp
from defnpy.backends.cpu import cache
from defnpy.backends.cpu.render import canonical
from defnpy.lower.program import KernelStep, lower

ROOT = Path(__file__).resolve().parents[2]
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
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "kernels").glob("*/*.bin"))


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    assert run(tmp_path) == "False False"
    assert entries(tmp_path)
    loaded = run(tmp_path, PROGRAM.replace("kernels = f", "f.cache_clear()\nkernels = f"))
    assert loaded == "True False"


def test_writers_at_the_same_time_leave_whole_entries(tmp_path):
    environment = dict(os.environ, DEFNPY_CACHE_DIR=str(tmp_path))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
    assert run(tmp_path / "file") == run(tmp_path / "file") == "False False"


def test_no_folder_means_no_cache():
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


def test_kernels_of_numba_from_disk_find_the_functions_that_they_call(tmp_path, run_python):
    """A process that compiles nothing has Numba's helper functions all the same: nextafter is one."""
    program = "import defnpy as dp; print(dp.defn(lambda x: dp.nextafter(x, 2.0))(dp.ones(2)).tolist()[0] > 1)"
    env = {"DEFNPY_CACHE_DIR": str(tmp_path), "DEFNPY_RENDERER": "numba"}
    for _ in range(2):
        done = run_python("-c", program, env=env)
        assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
