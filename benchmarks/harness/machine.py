"""What a figure depends on: the processor, the threads, the BLAS, the versions."""

from __future__ import annotations

import ctypes
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .process import ROOT, THREADS, UNSET

PACKAGES = ("defnpy", "numpy", "numba", "llvmlite", "scipy-openblas32", "jax", "jaxlib", "torch", "pytensor")
ASK = """
import importlib.metadata, json, sys
print(json.dumps({d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}))
"""


def describe(cores: int, pythons: Mapping[str, str]) -> dict[str, Any]:
    """Everything that is printed above a table, as plain values."""
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    for package, python in pythons.items():
        found = json.loads(subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True).stdout)
        versions[package] = f"{found.get(package, 'missing')} ({python})"
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": f"{cores} of {available} available",
        "threads": ", ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ)
        or "each library's own choice",
        "blas": _blas(),
        "load": f"{os.getloadavg()[0]:.2f} in the minute before",
        "python": f"{platform.python_version()} on {platform.platform()}",
        "versions": versions,
        "unset": f"{UNSET} is unset for every contender",
    }


class Others:
    """How many cores other processes (and other tenants of the host) kept busy while this one measured. Linux only."""

    def __init__(self) -> None:
        self._began, self._busy = time.monotonic(), self._foreign()

    def cores(self) -> float | None:
        """The average since this was made. Children must have ended, or their work counts as foreign."""
        now = self._foreign()
        if now is None or self._busy is None:
            return None
        return max(0.0, (now - self._busy) / (time.monotonic() - self._began))

    @staticmethod
    def _foreign() -> float | None:
        """Seconds of processor time that neither this process nor its ended children used."""
        file = Path("/proc/stat")
        if not file.exists():
            return None
        user, nice, system, _, _, hard, soft, steal, *_ = map(int, file.read_text().split("\n", 1)[0].split()[1:])
        busy = (user + nice + system + hard + soft + steal) / os.sysconf("SC_CLK_TCK")
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return busy - sum(usage.ru_utime + usage.ru_stime for usage in used)


def lines(machine: Mapping[str, Any]) -> list[str]:
    """The description as text, one fact per line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [f"{name:10s} {value if name != 'versions' else versions}" for name, value in machine.items()]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return (git("rev-parse", "--short", "HEAD") or "not a clone") + changed
    except OSError:
        return "no git here"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    family = f"family {fields.get('cpu family')}, model {fields.get('model')}"
    return f"{fields['model name']} ({family}), cache {fields.get('cache size', 'unknown')}"


def _blas() -> str:
    """NumPy's BLAS, and the kernels and threads that it chose on this processor, where it can be asked."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    text = f"NumPy's {built.get('name')} {built.get('version')}"
    for file in Path(np.__file__).parents[1].glob("numpy.libs/*openblas*"):
        library = ctypes.CDLL(str(file))
        for suffix in ("64_", ""):
            if hasattr(library, f"scipy_openblas_get_corename{suffix}"):
                corename = getattr(library, f"scipy_openblas_get_corename{suffix}")
                corename.restype = ctypes.c_char_p
                threads = getattr(library, f"scipy_openblas_get_num_threads{suffix}")()
                return f"{text}, kernels for {corename().decode()}, {threads} threads"
    return text
