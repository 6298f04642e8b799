"""From kernels to functions to call: compiled once, kept in the disk cache, loaded.

Two renderers compile one kernel: ``assembly`` prints LLVM IR, which is what makes a process start at once; ``render``
prints Python for Numba. LLVM and Numba are imported only when they must compile something.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...config import current as options
from ...lower.kernel import Kernel, structure
from . import cache, image, machine
from .assembly import assemble
from .render import canonical

__all__ = ["Function", "functions", "machine_code"]


@dataclass(frozen=True)
class Function:
    """A loaded kernel. address: of the C function of the common signature (see ``assembly``).

    seconds: what it took to compile or load. cached: whether the machine code came from the disk cache.
    """

    address: int
    seconds: float
    cached: bool


@dataclass(frozen=True)
class _Module:
    """What is compiled as one. key: all that the code depends on beside this machine. build: compiles it, given the
    prefix of its symbols."""

    key: str
    symbols: tuple[str, ...]
    build: Callable[[str], cache.Entry]


_loaded: dict[str, list[Function]] = {}
_lock = threading.RLock()


def _forked() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def functions(kernels: Sequence[Kernel]) -> list[Function]:
    """The compiled kernels; those that differ in names only are compiled once."""
    build = {"llvm": _assembled, "numba": _by_numba}[options().renderer]
    return [f for (f,) in _functions([build(kernel) for kernel in kernels])]


def machine_code(text: str, symbols: tuple[str, ...]) -> list[int]:
    """The addresses of the functions that a module of LLVM IR, written by hand, defines under ``symbols``."""

    def build(prefix: str) -> cache.Entry:
        from .llvm_compiler import compile_module

        return cache.Entry(prefix, compile_module(_prefixed(text, prefix), level=0), False)

    return [f.address for f in _functions([_Module(text, symbols, build)])[0]]


def _prefixed(text: str, prefix: str) -> str:
    """The text, its own functions under the prefix: the loader looks even internal names up among all objects."""
    for symbol in re.findall(r"^define .*?@(\w+)\(", text, re.MULTILINE):
        text = re.sub(rf"@{symbol}\b", f"@{prefix}{symbol}", text)
    return text


def _assembled(kernel: Kernel) -> _Module:
    def build(prefix: str) -> cache.Entry:
        from .llvm_compiler import compile_module

        return cache.Entry(prefix, compile_module(assemble(kernel, f"{prefix}kernel")), False)

    return _Module("llvm\n" + structure(kernel), ("kernel",), build)


def _by_numba(kernel: Kernel) -> _Module:
    source = canonical(kernel)

    def build(prefix: str) -> cache.Entry:
        from .numba_compiler import compile_source

        filename = f"<defnpy kernel {prefix}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        return compile_source(filename, source, kernel, prefix)

    return _Module(f"numba {_numba_version()}\n" + structure(kernel), ("kernel",), build)


def _numba_version() -> str:
    return machine.version("numba")


@functools.cache
def _stamp() -> str:
    """What this package's compiler is: sizes and times of its files."""
    stats = [(path.name, path.stat()) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)


def _functions(modules: Sequence[_Module]) -> list[list[Function]]:
    names = [cache.digest(module.key, _stamp(), machine.describe()) for module in modules]
    with _lock:
        missing = {name: module for name, module in zip(names, modules, strict=True) if name not in _loaded}
        entries: dict[str, tuple[cache.Entry, float, bool]] = {}
        folder = options().cache_dir
        for name, module in missing.items():
            started = time.perf_counter()
            prefix = f"defnpy_{name[:24]}_"
            entry = cache.read(folder, name)
            cached = entry is not None and entry.symbol == prefix
            if entry is None or not cached:
                entry = module.build(prefix)
                cache.write(folder, name, entry)
            entries[name] = entry, time.perf_counter() - started, cached
        if entries:
            _load(missing, entries)
        return [_loaded[name] for name in names]


def _addresses(codes: list[bytes], symbols: list[str], needs_numba: bool) -> list[int]:
    """Of symbols in some object files; LLVM loads those that this package cannot."""
    if not needs_numba:
        with contextlib.suppress(image.Unsupported):
            return image.load(codes, symbols)
    else:
        from numba.core.registry import cpu_target

        cpu_target.target_context  # noqa: B018 - making it registers the helper functions that the code calls
    from . import llvm_compiler

    return llvm_compiler.load(codes, symbols)


def _load(modules: dict[str, _Module], entries: dict[str, tuple[cache.Entry, float, bool]]) -> None:
    started = time.perf_counter()
    symbols = [f"{entries[name][0].symbol}{symbol}" for name, module in modules.items() for symbol in module.symbols]
    needs_numba = any(entry.needs_numba for entry, _, _ in entries.values())
    addresses = iter(_addresses([entry.code for entry, _, _ in entries.values()], symbols, needs_numba))
    each = (time.perf_counter() - started) / len(entries)
    for name, module in modules.items():
        _, seconds, cached = entries[name]
        _loaded[name] = [Function(next(addresses), seconds + each, cached) for _ in module.symbols]
