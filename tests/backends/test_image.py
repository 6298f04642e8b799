"""Object files put into memory by ``image``: the code does what LLVM's own loader makes of it, or is refused."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import compile as compiler
from defnpy.backends.cpu import image, llvm_compiler

# Constants, a call of a function beside it, the address of one, calls of the C library.
TEXT = """
@weights = private constant [4 x double] [double 1.0, double 10.0, double 100.0, double 1000.0]
declare ptr @memcpy(ptr, ptr, i64)
declare i64 @labs(i64)
define internal double @weigh(ptr %x, i64 %i) noinline {
  %p = getelementptr double, ptr %x, i64 %i
  %value = load double, ptr %p
  %w = getelementptr double, ptr @weights, i64 %i
  %weight = load double, ptr %w
  %y = fmul double %value, %weight
  ret double %y
}
define i64 @PREFIXapply(ptr %function, ptr %x, i64 %i, ptr %y) noinline {
  %value = call double %function(ptr %x, i64 %i)
  store double %value, ptr %y
  %minus = sub i64 0, %i
  %z = call i64 @labs(i64 %minus)
  ret i64 %z
}
define i64 @PREFIXrun(ptr %x, ptr %y, i64 %i) {
  %copy = alloca [4 x double]
  %c = call ptr @memcpy(ptr %copy, ptr %x, i64 32)
  %z = call i64 @PREFIXapply(ptr @weigh, ptr %copy, i64 %i, ptr %y)
  ret i64 %z
}
"""

here = pytest.mark.skipif(
    sys.platform != "linux" or image.platform.machine() != "x86_64", reason="LLVM loads the code of this system"
)


def compiled(prefix: str) -> bytes:
    return llvm_compiler.compile_module(TEXT.replace("PREFIX", prefix), level=0)


@here
@pytest.mark.parametrize("load", [image.load, llvm_compiler.load], ids=["image", "llvm"])
def test_code_runs(load: Callable[[list[bytes], list[str]], list[int]]) -> None:
    prefixes = [f"{load.__module__.replace('.', '_')}_{i}_" for i in range(2)]
    addresses = load([compiled(prefix) for prefix in prefixes], [f"{prefix}run" for prefix in prefixes])
    assert len(set(addresses)) == 2
    x, y = np.array([3.0, 5.0, 7.0, 9.0]), np.zeros(1)
    for address in addresses:
        run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)
        for i in range(4):
            assert run(x.ctypes.data, y.ctypes.data, i) == i
            assert y[0] == x[i] * 10.0**i


def relocated(code: bytes, kind: int) -> bytes:
    """The object with its first relocation of code being of another kind."""
    (table,) = struct.unpack_from("<Q", code, 40)
    _, count, _ = struct.unpack_from("<HHH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, table + 64 * i) for i in range(count)]
    at = next(s[4] for s in sections if s[1] == 4 and sections[s[7]][2] & 4)
    changed = bytearray(code)
    struct.pack_into("<I", changed, at + 8, kind)
    return bytes(changed)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another machine": (lambda code: code[:18] + b"\xb7\0" + code[20:], "no object file"),
    "no object": (lambda code: b"rubbish" * 100, "no object file"),
    "another relocation": (lambda code: relocated(code, 10), "relocation 10"),
    "an unknown function": (lambda code: code.replace(b"\0labs\0", b"\0lobs\0"), "no function lobs"),
}


@here
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_understood_is_refused(damage: str) -> None:
    change, reason = DAMAGES[damage]
    with pytest.raises(image.Unsupported, match=reason):
        image.load([change(compiled("refused_"))], ["refused_run"])


@here
def test_data_that_can_be_written_to_is_refused() -> None:
    text = "@d = global i64 1\ndefine ptr @written() {\n  ret ptr @d\n}"
    with pytest.raises(image.Unsupported, match="written to"):
        image.load([llvm_compiler.compile_module(text, level=0)], ["written"])


@here
def test_a_symbol_that_is_not_there_is_refused() -> None:
    with pytest.raises(image.Unsupported, match="no symbol"):
        image.load([compiled("there_")], ["elsewhere"])


def test_what_is_refused_is_loaded_by_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[int]:
        raise image.Unsupported("for a test")

    monkeypatch.setattr(image, "load", refuse)
    monkeypatch.setattr(compiler, "_loaded", {})
    x = np.linspace(0, 1, 37, dtype=np.float32)
    found = dp.defn(lambda x: dp.sum(dp.tanh(x) * 3 - x), backend="cpu")(x)
    np.testing.assert_allclose(found.item(), np.sum(np.tanh(x) * 3 - x), rtol=1e-6)


@here
def test_kernels_on_disk_need_no_llvm(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np, defnpy as dp\n"
        "f = dp.defn(lambda x: dp.sum(dp.exp(x @ x.T), axis=0), backend='cpu')\n"
        "y = f(np.full((9, 7), 0.5, np.float32))\n"
        "np.testing.assert_allclose(np.asarray(y), 9 * np.exp(1.75), rtol=1e-6)\n"
        "print('llvmlite' in sys.modules)\n"
    )
    environment = {**compiler.os.environ, "DEFNPY_CACHE_DIR": str(tmp_path)}
    for expected in ("True", "False"):
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert (done.stderr, done.stdout.strip()) == ("", expected)
