"""LLVM: from a module's text to machine code, and from machine code to addresses."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import llvmlite
import llvmlite.binding as llvm

__all__ = ["compile_module", "describe", "load", "target_machine", "vector_registers", "words"]

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


@functools.cache
def describe() -> str:
    """Everything that machine code depends on beside the module."""
    features = llvm.get_host_cpu_features().flatten()
    return " ".join([llvm.get_host_cpu_name(), features, llvmlite.__version__, llvm.get_process_triple()])


@functools.cache
def vector_registers() -> tuple[int, int]:
    """The bytes of a vector register, and how many of them beside each other a panel of sums may take."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 4
    return (32, 2) if features.get("avx2") else (16, 2)


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


def words(base: str, types: Mapping[str, str]) -> str:
    """The text that loads the words of 8 bytes that begin at ``base``, as values of these names and types."""
    return "\n".join(
        f"  %{name}_at = getelementptr i64, ptr %{base}, i64 {i}\n  %{name} = load {kind}, ptr %{name}_at"
        for i, (name, kind) in enumerate(types.items())
    )


def load(objects: list[bytes], symbols: list[str]) -> list[int]:
    """The addresses of ``symbols`` in some object files."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    for code in objects:
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return [int(engine.get_function_address(symbol)) for symbol in symbols]
