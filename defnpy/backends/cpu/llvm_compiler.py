"""LLVM: from a module's text to machine code, and to addresses where ``image`` does not understand the code.

Imported when something must be compiled: a process that finds all its kernels on disk works without it.

Several threads may compile at once. LLVM allows that for modules of different contexts, each with a target machine of
its own. llvmlite lets one thread at a time into LLVM, for Numba's modules share a context; the two calls that take all
the time go past that lock.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

import llvmlite.binding as llvm

__all__ = ["compile_module", "load", "optimized", "processor", "target_machine"]

_engines: list[Any] = []  # they own the machine code


_own = threading.local()


def target_machine(level: int = 3) -> Any:
    """This processor, for the thread that asks. level: how hard LLVM tries to find good instructions."""
    machines = vars(_own).setdefault("machines", {})
    if level not in machines:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machines[level] = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=llvm.get_host_cpu_features().flatten(),
            opt=level,
            reloc="pic",
            codemodel="small",
            jit=True,
        )
    return machines[level]


@functools.cache
def _unlocked(name: str) -> Any:
    """A function of llvmlite's library, without the lock."""
    locked = getattr(llvm.ffi.lib, name)
    function = getattr(ctypes.CDLL(llvm.ffi.lib._name), name)
    function.argtypes, function.restype = locked.argtypes, locked.restype
    return function


def processor() -> tuple[str, set[str]]:
    """What LLVM calls this processor and its features."""
    features = llvm.get_host_cpu_features()
    return llvm.get_host_cpu_name(), {name for name, there in features.items() if there}


def compile_module(text: str, level: int = 3) -> bytes:
    """The object file of a module for this processor; level 3 vectorizes, 0 takes the module as it is."""
    return _object_file(target_machine(), optimized(text, level))


def optimized(text: str, level: int = 3) -> Any:
    """The module after all of LLVM's passes; its text is for people to look at."""
    module = llvm.parse_assembly(text, llvm.create_context())
    machine = target_machine()
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    tuning = llvm.PipelineTuningOptions(speed_level=level)
    tuning.loop_vectorization = level == 3
    tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    _unlocked("LLVMPY_RunNewModulePassManager")(builder.getModulePassManager(), module, builder)
    return module


def _object_file(machine: Any, module: Any) -> bytes:
    lib = llvm.ffi.lib
    with llvm.ffi.OutputString() as error:
        buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)


def load(objects: list[bytes], symbols: list[str]) -> list[int]:
    """The addresses of ``symbols`` in some object files."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    for code in objects:
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return [int(engine.get_function_address(symbol)) for symbol in symbols]
