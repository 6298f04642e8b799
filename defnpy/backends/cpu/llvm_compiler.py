"""LLVM: from a module's text to machine code, and to addresses where ``image`` does not understand the code.

Imported when something must be compiled: a process that finds all its kernels on disk works without it.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm

__all__ = ["compile_module", "load", "processor", "target_machine"]

_engines: list[Any] = []  # they own the machine code


@functools.cache
def target_machine() -> Any:
    """This processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="small",
        jit=True,
    )


def processor() -> tuple[str, set[str]]:
    """What LLVM calls this processor and its features."""
    features = llvm.get_host_cpu_features()
    return llvm.get_host_cpu_name(), {name for name, there in features.items() if there}


def compile_module(text: str, level: int = 3) -> bytes:
    """The object file of a module for this processor; level 3 vectorizes, 0 takes the module as it is."""
    module = llvm.parse_assembly(text)
    machine = target_machine()
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    tuning = llvm.PipelineTuningOptions(speed_level=level)
    tuning.loop_vectorization = level == 3
    tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def load(objects: list[bytes], symbols: list[str]) -> list[int]:
    """The addresses of ``symbols`` in some object files."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    for code in objects:
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return [int(engine.get_function_address(symbol)) for symbol in symbols]
