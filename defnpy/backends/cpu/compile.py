"""From a kernel's source to a function to call: Numba compiles it once, the disk cache keeps it, LLVM loads it.

Numba is imported only when something must be compiled; loading what the cache holds needs llvmlite alone.
"""

from __future__ import annotations

import ctypes
import functools
import linecache
import platform
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import llvmlite.binding as llvm

from ...config import current as options
from ...dtypes import DType
from ...lower.kernel import Kernel
from . import cache, prelude
from .render import canonical

__all__ = ["Function", "function"]


@dataclass(frozen=True)
class Function:
    """A loaded kernel. pointer: the C function ``(result*, error**, buffers..., sizes...)``, which fills ``*result``.

    seconds: what it took to compile or load. cached: whether the machine code came from the disk cache.
    """

    pointer: Any
    seconds: float
    cached: bool


_loaded: dict[str, Function] = {}
_engines: list[Any] = []  # they own the machine code
_lock = threading.RLock()


def function(kernel: Kernel) -> Function:
    """The compiled kernel; kernels that differ in names only are compiled once."""
    source = canonical(kernel)
    dtypes = [b.dtype for b in kernel.buffers]
    name = cache.digest(source, " ".join(map(str, dtypes)), str(len(kernel.sizes)), prelude.SOURCE, _machine())
    with _lock:
        if name not in _loaded:
            _loaded[name] = _load_or_compile(name, source, dtypes, len(kernel.sizes))
        return _loaded[name]


def _load_or_compile(name: str, source: str, dtypes: list[DType], sizes: int) -> Function:
    started = time.perf_counter()
    folder = options().cache_dir
    entry = cache.read(folder, name)
    cached = entry is not None
    if entry is None:
        entry = _compile(name, source, dtypes, sizes)
        cache.write(folder, name, entry)
    address = _load(entry)
    arguments = [ctypes.c_void_p] * (2 + len(dtypes)) + [ctypes.c_int64] * sizes
    pointer = ctypes.CFUNCTYPE(ctypes.c_int32, *arguments)(address)
    return Function(pointer, time.perf_counter() - started, cached)


@functools.cache
def _machine() -> str:
    """Everything outside of the source that machine code depends on."""
    features = llvm.get_host_cpu_features().flatten()
    versions = [version(package) for package in ("numba", "llvmlite")]
    return " ".join(
        [llvm.get_host_cpu_name(), features, *versions, platform.python_version(), llvm.get_process_triple()]
    )


@functools.cache
def _target_machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


def _load(entry: cache.Entry) -> int:
    if entry.needs_numba:
        import numba  # noqa: F401 - importing it registers the helper functions that the code calls
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(entry.code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(entry.symbol))


def _compile(name: str, source: str, dtypes: list[DType], sizes: int) -> cache.Entry:
    from .numba_compiler import compile_source

    filename = f"<defnpy kernel {name[:12]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return compile_source(filename, source, dtypes, sizes)
