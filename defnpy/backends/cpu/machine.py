"""This machine: what its code depends on, known without LLVM."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["describe", "vector_registers", "version", "words"]

_INFORMATION = Path("/proc/cpuinfo")
_FEATURES = ("flags", "Features")  # of x86, of ARM
_MODEL = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part", "CPU revision")


@functools.cache
def _processor() -> tuple[str, frozenset[str]]:
    """Which processor this is, and its features: what Linux says of the first one; elsewhere what LLVM says."""
    if sys.platform == "linux" and _INFORMATION.exists():
        with _INFORMATION.open() as lines:
            block = itertools.takewhile(str.strip, lines)
            fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in block)}
        for name in _FEATURES:
            if name in fields:
                return " ".join(fields.get(part, "") for part in _MODEL), frozenset(fields[name].split())
    from .llvm_compiler import processor

    model, features = processor()
    return model, frozenset(features)


@functools.cache
def describe() -> str:
    """Everything that machine code depends on beside the module."""
    model, features = _processor()
    return " ".join([sys.platform, platform.machine(), model, *sorted(features), version("llvmlite")])


@functools.cache
def version(package: str) -> str:
    """What a package says of itself in its file, found without importing it (nor the packages that read versions)."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).with_name("_version.py").read_text() if spec and spec.origin else ""


@functools.cache
def vector_registers() -> tuple[int, int]:
    """The bytes of a vector register, and how many of them beside each other a panel of sums may take."""
    _, features = _processor()
    if "avx512f" in features:
        return 64, 4
    return (32, 2) if "avx2" in features else (16, 2)


def words(base: str, types: Mapping[str, str]) -> str:
    """The text that loads the words of 8 bytes that begin at ``base``, as values of these names and types."""
    return "\n".join(
        f"  %{name}_at = getelementptr i64, ptr %{base}, i64 {i}\n  %{name} = load {kind}, ptr %{name}_at"
        for i, (name, kind) in enumerate(types.items())
    )
