"""What goes wrong outside of defnpy: files, memory, several processes, programs at the edge of what fits."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import cache, native
from defnpy.backends.cpu.backend import CpuBackend

compiler = importlib.import_module("defnpy.backends.cpu.compile")
ROOT = Path(__file__).resolve().parents[2]
RENDERERS = ("llvm", "numba")


@pytest.fixture(params=RENDERERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty disk cache, in a process that has loaded no kernel, for each renderer."""
    native.run()
    monkeypatch.setattr(compiler, "_loaded", {})
    with dp.config(cache_dir=str(tmp_path / "cache"), backend="cpu", renderer=request.param):
        yield tmp_path / "cache"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_loaded", {})


def kernels() -> list[bool]:
    """Compile some kernels anew and run them; of each whether it came from the disk."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    f = dp.defn(lambda x: (dp.max(x * 2.0, axis=0) + 1.0) * x)
    np.testing.assert_array_equal(f(x), ((x * 2).max(axis=0) + 1) * x)
    found = [k.cached for k in f.compile(x).kernels()]
    assert len(found) > 1
    return found


def files(folder: Path) -> list[Path]:
    return sorted((folder / "kernels").glob("*/*.bin"))


def kernels_of_the_next_process(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    forget(monkeypatch)
    return kernels()


def test_entries_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels()
    assert len(files(folder)) > 1
    assert all(kernels_of_the_next_process(monkeypatch))


@pytest.mark.parametrize("damage", ["empty", "half", "rubbish", "another's", "text"])
def test_an_entry_that_is_not_what_it_should_be(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """Cut short, overwritten, or the whole entry of something else under this name."""
    kernels()
    one, two, *_ = files(folder)
    whole = one.read_bytes()
    other = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "rubbish": os.urandom(5000),
        "another's": two.read_bytes()[:-40] + bytes(40),
        "text": b"defnpy kernel 1\n" + b"not a checksum",
    }[damage]
    one.write_bytes(other)
    assert kernels_of_the_next_process(monkeypatch).count(False) == 1
    assert one.read_bytes() != other  # written again
    assert all(kernels_of_the_next_process(monkeypatch))


def test_an_entry_of_another_kernel_is_not_mistaken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole entry under a wrong name: its symbol is not the one that is looked for."""
    kernels()
    one, two, *_ = files(folder)
    one.write_bytes(two.read_bytes())
    assert kernels_of_the_next_process(monkeypatch).count(False) == 1


@pytest.mark.parametrize("what", ["folder", "file", "kernels"])
def test_a_cache_that_disappears_or_never_was_one(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "folder":
        kernels()
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
    elif what == "file":
        folder.write_text("not a folder")
    else:
        folder.mkdir()
        (folder / "kernels").write_text("not a folder")
    assert not any(kernels_of_the_next_process(monkeypatch))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no file modes")
def test_a_folder_that_may_only_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entries are used, others compiled each time. Root may write everywhere, so it is mkstemp that refuses."""
    kernels()

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError("read-only")

    monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
    assert all(kernels_of_the_next_process(monkeypatch))
    before = files(folder)
    dp.defn(lambda x: x * 77.0)(np.ones(3, np.float32))
    assert files(folder) == before


def test_no_cache_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    native.run()
    with dp.config(cache_dir="", backend="cpu"):
        for _ in range(2):
            assert not any(kernels_of_the_next_process(monkeypatch))
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys
import numpy as np
import defnpy as dp
sys.stdin.readline()  # both begin at once
f = dp.defn(lambda x: dp.softmax(dp.tanh(x) @ x.T) + dp.sum(x, axis=1))
x = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
print(np.asarray(f(x)).tobytes().hex())
"""


@pytest.mark.parametrize("renderer", RENDERERS)
def test_processes_that_compile_the_same_at_once(tmp_path: Path, renderer: str) -> None:
    environment = dict(os.environ, DEFNPY_CACHE_DIR=str(tmp_path), DEFNPY_RENDERER=renderer)
    command = [sys.executable, "-c", PROGRAM]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = []
    for process in processes:
        out, problem = process.communicate(timeout=120)
        assert process.returncode == 0, problem
        results.append(out)
    assert len(set(results)) == 1
    assert files(tmp_path) and not list(tmp_path.rglob(".writing-*"))


# -- programs at the edge -------------------------------------------------------------------------------------------


def most_buffers(f: Any, *args: Any) -> int:
    linked = CpuBackend().compile(f.compile(*args).graph)._linked
    return max(len(step.buffers) for segment in linked.segments for step in segment.steps)


def test_a_kernel_of_very_many_buffers() -> None:
    """Members of a kernel are limited, what each of them reads and writes is not: there is no limit to run into."""
    conditions = [np.arange(4) > i % 4 for i in range(96)]
    values = [np.full(4, i, np.float32) for i in range(192)]

    def function(conditions: Any, values: Any) -> Any:
        return [dp.where(c, values[2 * i], values[2 * i + 1]) for i, c in enumerate(conditions)]

    f = dp.defn(function, backend="cpu")
    assert most_buffers(f, conditions, values) == 96 * 4
    for i, found in enumerate(f(conditions, values)):
        np.testing.assert_array_equal(found, np.where(conditions[i], values[2 * i], values[2 * i + 1]))


def test_very_many_numbers() -> None:
    numbers = [np.float32(i % 7) for i in range(1500)]
    f = dp.defn(lambda *xs: (sum(xs[1:], xs[0]), sum([dp.exp(-x) for x in xs[1:]], dp.exp(-xs[0]))), backend="cpu")
    total, other = f(*numbers)
    assert total.item() == sum(numbers) and other.item() == pytest.approx(sum(np.exp(-x) for x in numbers), rel=1e-4)


HUGE = {
    "a result": lambda x: dp.zeros((1 << 45,)) + x,
    "a value between two steps": lambda x: dp.argmax(dp.zeros((1 << 45,)) + x),
    "an operand of a product": lambda x: (dp.zeros((1 << 22, 1 << 22)) + x)[0] @ (dp.zeros((1 << 22, 1 << 22)) + x),
    "more elements than a number holds": lambda x: dp.zeros((1 << 40, 1 << 40)) + x,
    "more bytes than a number holds": lambda x: dp.argmax(dp.zeros((1 << 62,)) + x),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", HUGE)
def test_memory_that_there_is_not(name: str, threads: int) -> None:
    """An error that says how much was asked for; and the function and the process go on."""
    with dp.config(threads=threads, backend="cpu"):
        f = dp.defn(HUGE[name])
        for _ in range(2):
            with pytest.raises((MemoryError, ValueError), match=r"[TE]iB|too big|memory can hold"):
                f(np.float32(1))
        assert dp.defn(lambda x: x + 1)(1.0).item() == 2.0
