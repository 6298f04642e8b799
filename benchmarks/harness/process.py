"""The runner's side of a worker: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .work import Absent

ROOT = Path(__file__).parents[2]
# Pins NumPy's BLAS to the kernels of an older processor; makes Python compile its modules at every start.
UNSET = ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE")
PATIENCE = 900.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Failure(Exception):
    """A contender raised, died or gave no answer; the message tells the last that is known of it."""


def environment(kernels: Path, *, one_core: bool = False, jax_cache: bool = False) -> dict[str, str]:
    """What every contender finds: caches in a folder of this run, nothing of :data:`UNSET`.

    JAX keeps compiled functions on disk only where it is told to, as by default it does not.
    """
    made = {name: value for name, value in os.environ.items() if name not in UNSET and not name.startswith("JAX_")}
    made |= {
        "JAX_PLATFORMS": "cpu",
        "DEFNPY_CACHE_DIR": str(kernels / "defnpy"),
        "NUMBA_CACHE_DIR": str(kernels / "numba"),
        "TORCHINDUCTOR_CACHE_DIR": str(kernels / "torch"),
        "PYTENSOR_FLAGS": f"base_compiledir={kernels / 'pytensor'}",
    }
    if jax_cache:
        made |= {
            "JAX_COMPILATION_CACHE_DIR": str(kernels / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return made | (dict.fromkeys(THREADS, "1") if one_core else {})


class Process:
    """A worker. started: when, on the clock that the worker's "ended" is read from."""

    def __init__(self, python: str, cores: int, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.harness.worker", str(cores)],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # or `close` would flush what a dead process did not take
        )

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """One command, one answer. Raises Absent or Failure."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failure(f"the process ended: {self._last_words()}") from None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
            raise Failure(f"no answer to {command} in {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failure(f"the process ended with status {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "absent" in answer:
            raise Absent(answer["absent"])
        if "failed" in answer:
            print(self._last_words(12), file=sys.stderr)
            raise Failure(answer["failed"])
        return answer

    def _last_words(self, lines: int = 1) -> str:
        self._errors.seek(0)
        return "\n".join(self._errors.read().strip().splitlines()[-lines:])

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
