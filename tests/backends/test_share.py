"""What a program needs is compiled side by side: the same code, whoever compiles it; errors reach the caller."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import llvm_compiler

compiler = importlib.import_module("defnpy.backends.cpu.compile")


def network(x: np.ndarray, w: np.ndarray) -> object:
    return dp.softmax(dp.tanh(x @ w)), dp.sum(dp.exp(x)), dp.cumulative_sum(x, axis=0), dp.max(w, axis=1)


def kept(folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a disk cache after a program was compiled, by name."""
    monkeypatch.setattr(compiler, "_loaded", {})
    monkeypatch.setattr(compiler, "_addresses", {})
    x = np.ones((40, 30), np.float32)
    with dp.config(cache_dir=str(folder), backend="cpu", threads=threads):
        dp.defn(network).compile(x, np.ones((30, 20), np.float32))
    return {path.name: path.read_bytes() for path in folder.rglob("*.bin")}


def test_threads_compile_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = kept(tmp_path / "alone", 1, monkeypatch)
    assert len(alone) > 3
    shared = kept(tmp_path / "shared", 3, monkeypatch)
    assert {name: code for name, code in shared.items() if name in alone} == alone


def test_several_threads_compile_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calling thread does not end its first module before another thread is in LLVM, too."""
    before, inside, caller = llvm_compiler.compile_module, threading.Event(), threading.current_thread()
    count = threading.active_count()

    def compile_module(text: str, level: int = 3) -> bytes:
        if threading.current_thread() is not caller:
            inside.set()
        while not inside.is_set() and threading.active_count() > count:
            inside.wait(0.01)
        return before(text, level)

    monkeypatch.setattr(llvm_compiler, "compile_module", compile_module)
    kept(tmp_path, 2, monkeypatch)
    assert inside.is_set()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_any_thread_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    def compile_module(text: str, level: int = 3) -> bytes:
        raise RuntimeError("no code today")

    monkeypatch.setattr(llvm_compiler, "compile_module", compile_module)
    with pytest.raises(RuntimeError, match="no code today"):
        kept(tmp_path, threads, monkeypatch)


def test_every_name_is_worked_on_once() -> None:
    done: list[str] = []
    names = [str(i) for i in range(1000)]
    compiler._share(done.append, names, 4)
    assert sorted(done) == sorted(names)
