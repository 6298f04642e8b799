"""From kernels to functions to call: compiled once, kept in the disk cache, loaded.

Two renderers compile one kernel: ``assembly`` prints LLVM IR, which is what makes a process start at once; ``render``
prints Python for Numba. LLVM and Numba are imported only when they must compile something. What a program needs is
compiled side by side, by as many threads as it runs on.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...config import current as options
from ...lower.kernel import Kernel, structure
from . import cache, image, machine
from .assembly import assemble
from .render import canonical

__all__ = ["Function", "Source", "functions", "machine_code"]


@dataclass(frozen=True)
class Function:
    """A loaded kernel. address: of the C function of the common signature (see ``assembly``).

    seconds: what it took to compile or load. cached: whether the machine code came from the disk cache.
    """

    address: int
    seconds: float
    cached: bool


class Source(NamedTuple):
    """A module of LLVM IR that is written by hand, and the functions that it defines for others."""

    text: str
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class _Module:
    """What is compiled as one. key: all that the code depends on beside this machine. build: compiles it, given the
    prefix of its symbols. alone: while nothing else is compiled."""

    key: str
    symbols: tuple[str, ...]
    build: Callable[[str], cache.Entry]
    alone: bool = False


_Found = tuple[cache.Entry, float, bool]  # the seconds that it took, and whether it was in the disk cache

_loaded: dict[str, list[Function]] = {}
_addresses: dict[Source, list[int]] = {}
_lock = threading.RLock()


def _forked() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def functions(kernels: Sequence[Kernel], sources: Iterable[Source] = ()) -> list[Function]:
    """The compiled kernels; those that differ in names only are compiled once. sources: what will be asked of
    :func:`machine_code` next, to be compiled together with them."""
    build = {"llvm": _assembled, "numba": _by_numba}[options().renderer]
    new = [source for source in sources if source not in _addresses]
    found = _functions([*map(build, kernels), *map(_written, new)])
    _addresses.update(zip(new, [[f.address for f in fs] for fs in found[len(kernels) :]], strict=True))
    return [f for (f,) in found[: len(kernels)]]


def machine_code(source: Source) -> list[int]:
    """The addresses of its functions."""
    if source not in _addresses:
        functions([], [source])
    return _addresses[source]


def _written(source: Source) -> _Module:
    def build(prefix: str) -> cache.Entry:
        from .llvm_compiler import compile_module

        return cache.Entry(prefix, compile_module(_prefixed(source.text, prefix), level=0), False)

    return _Module(source.text, source.symbols, build)


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

    return _Module(f"numba {_numba_version()}\n" + structure(kernel), ("kernel",), build, alone=True)


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
        if missing:
            _load(missing, _entries(missing))
        return [_loaded[name] for name in names]


def _entries(modules: dict[str, _Module]) -> dict[str, _Found]:
    """Read from the disk cache, or compiled and put there."""
    folder, threads = options().cache_dir, options().threads
    prefixes = {name: f"defnpy_{name[:24]}_" for name in modules}
    found: dict[str, _Found] = {}

    def build(name: str) -> None:
        started = time.perf_counter()
        entry = modules[name].build(prefixes[name])
        cache.write(folder, name, entry)
        found[name] = entry, time.perf_counter() - started, False

    for name, prefix in prefixes.items():
        started = time.perf_counter()
        entry = cache.read(folder, name)
        if entry is not None and entry.symbol == prefix:
            found[name] = entry, time.perf_counter() - started, True
    missing = [name for name in modules if name not in found]
    _share(build, [name for name in missing if not modules[name].alone], threads)
    _share(build, [name for name in missing if modules[name].alone], 1)
    return found


def _share(work: Callable[[str], None], names: Sequence[str], threads: int) -> None:
    """Do the work for all names, on this thread and others."""
    left, errors = iter(names), []

    def life() -> None:
        try:
            for name in left:  # shared by all: each takes the next one
                work(name)
        except BaseException as error:
            errors.append(error)

    others = [threading.Thread(target=life) for _ in range(min(threads, len(names)) - 1)]
    for thread in others:
        thread.start()
    life()
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]


def _linked(codes: list[bytes], symbols: list[str], needs_numba: bool) -> list[int]:
    """Of symbols in some object files; LLVM loads those that this package cannot."""
    if not needs_numba:
        with contextlib.suppress(image.Unsupported):
            return image.load(codes, symbols)
    else:
        from numba.core.registry import cpu_target

        cpu_target.target_context  # noqa: B018 - making it registers the helper functions that the code calls
    from . import llvm_compiler

    return llvm_compiler.load(codes, symbols)


def _load(modules: dict[str, _Module], entries: dict[str, _Found]) -> None:
    started = time.perf_counter()
    symbols = [f"{entries[name][0].symbol}{symbol}" for name, module in modules.items() for symbol in module.symbols]
    needs_numba = any(entry.needs_numba for entry, _, _ in entries.values())
    addresses = iter(_linked([entry.code for entry, _, _ in entries.values()], symbols, needs_numba))
    each = (time.perf_counter() - started) / len(entries)
    for name, module in modules.items():
        _, seconds, cached = entries[name]
        _loaded[name] = [Function(next(addresses), seconds + each, cached) for _ in module.symbols]
