"""The process of one contender: it obeys one command per line on its standard input and sleeps between them.

    prepare {"address": "module:function", "parameters": {...}}   make the call, do not make it yet
    first   {"file": PATH}                                        make it once, save what it returned
    calls   {"seconds": S}                                        how many calls take S seconds
    round   {"calls": N}                                          mean seconds of N calls
    memory  {"calls": N}                                          bytes by which N calls raise the peak

Answers are JSON, one per line. Whatever the library prints goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEPT = 100_000


def pin(cores: int) -> None:
    """Run on the first so many cores that this process may use; must come before a library counts them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def numbers(value: Any) -> list[Any]:
    """The arrays in containers, dictionaries by sorted key, as NumPy arrays; of large ones, evenly spaced elements."""
    import numpy as np

    if value is None:
        return []
    if isinstance(value, dict):
        return [array for name in sorted(value) for array in numbers(value[name])]
    if isinstance(value, (list, tuple)):
        return [array for part in value for array in numbers(part)]
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    stride = max(1, array.size // KEPT) | 1  # odd, so that it walks through all columns of an array of even width
    return [np.array(array.reshape(-1)[::stride] if array.size > KEPT else array)]


def resident(name: str) -> int:
    """A figure of this process in bytes: ``VmRSS`` now, ``VmHWM`` at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


class Worker:
    """The commands; each returns what is answered."""

    call: Callable[[], Any]

    def prepare(self, address: str, parameters: dict[str, Any]) -> dict[str, Any]:
        module, name = address.split(":")
        self.call = getattr(importlib.import_module(module), name)(**parameters)
        return {}

    def first(self, file: str) -> dict[str, Any]:
        self.before = resident("VmRSS") if sys.platform == "linux" else 0
        began = time.monotonic()
        result = self.call()
        ended = time.monotonic()
        if file:
            import numpy as np

            np.savez(file, *numbers(result))
        return {"seconds": ended - began, "ended": ended}

    def calls(self, seconds: float) -> dict[str, Any]:
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds or count < 1:
            self.call()
            count += 1
        return {"calls": max(1, round(count * seconds / spent))}

    def round(self, calls: int) -> dict[str, Any]:
        call, repeats = self.call, range(calls)
        if calls > 1:  # threads wake, caches fill
            for _ in range(1 + calls // 10):
                call()
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        for _ in repeats:
            call()
        seconds = (time.perf_counter() - began) / calls
        gc.enable()
        return {"seconds": seconds}

    def memory(self, calls: int) -> dict[str, Any]:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
        for _ in range(calls):
            self.call()
        return {"bytes": resident("VmHWM") - self.before, "process": resident("VmHWM")}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("command")
        try:
            answer = worker.__getattribute__(name)(**command)
        except ImportError as error:
            answer = {"absent": str(error)}
        except Exception as error:
            last = str(error).strip().splitlines()
            kind = "absent" if type(error).__name__ == "Absent" else "failed"
            answer = {kind: f"{type(error).__name__}: {last[0] if last else ''}" if kind == "failed" else last[0]}
            if kind == "failed":
                traceback.print_exc()
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    pin(int(sys.argv[1]))
    main()
