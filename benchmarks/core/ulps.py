"""How accurate and how fast the elementary functions of compiled kernels are: the table of docs/mathematics.md.

The functions of the scalar dialect (``defnpy/backends/cpu/mathematics.py``) are compiled as loops over arrays and held
against references of more bits: NumPy's float64 functions for float32, its long double ones for float64. The error
function has none there; its series and its continued fraction stand below.

    python -m benchmarks.core.ulps [--quick | --full]

--full goes through all 2**32 numbers of float32, which takes an hour.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from defnpy.backends.cpu import llvm_compiler, mathematics
from defnpy.backends.cpu.instructions import Instructions, Value, llvm_type

Array = np.ndarray[Any, Any]
WIDE = np.longdouble
HAS_WIDE = np.finfo(WIDE).nmant >= 63  # long double is no more than float64 on some machines
FLOATS = ("float32", "float64")


# -- a function of the dialect as a loop ------------------------------------------------------------------------------


def loop(name: str, dtype: np.dtype[Any], arity: int, symbol: str, library: bool = False) -> str:
    """A module with ``symbol(x..., out, n)``: the function on every element. library: the C library's function."""
    t, code = llvm_type(dtype), Instructions()
    operands = [Value(f"%a{i}", dtype) for i in range(arity)]
    suffix = "f" if dtype.itemsize == 4 else ""
    result = code.intrinsic(name + suffix, operands, dtype) if library else code.apply(name, operands)
    loads = [f"  %g{i} = getelementptr {t}, ptr %p{i}, i64 %i\n  %a{i} = load {t}, ptr %g{i}" for i in range(arity)]
    lines = [
        *code.declarations,
        f"define void @{symbol}({', '.join(f'ptr noalias %p{i}' for i in range(arity))}, ptr noalias %q, i64 %n) {{",
        "entry:",
        "  %any = icmp sgt i64 %n, 0",
        "  br i1 %any, label %loop, label %end",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
        *loads,
        *code.lines,
        f"  %out = getelementptr {t}, ptr %q, i64 %i",
        f"  store {t} {result.text}, ptr %out",
        "  %next = add nuw nsw i64 %i, 1",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %end",
        "end:",
        "  ret void",
        "}",
    ]
    return "\n".join(lines) + "\n"


_count = itertools.count()


def compiled(name: str, dtype: Any, arity: int = 1, library: bool = False) -> Callable[..., Array]:
    """The function on arrays: ``f(x...)`` or ``f(x..., out=out)``."""
    dtype = np.dtype(dtype)
    symbol = f"defnpy_ulps_{next(_count)}"
    text = loop(name, dtype, arity, symbol, library)
    (address,) = llvm_compiler.load([llvm_compiler.compile_module(text)], [symbol])
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(address)

    def call(*arrays: Any, out: Array | None = None) -> Array:
        xs = [np.ascontiguousarray(x, dtype) for x in arrays]
        result = np.empty(xs[0].shape, dtype) if out is None else out
        native(*[x.ctypes.data for x in xs], result.ctypes.data, result.size)
        return result

    return call


def optimized(name: str, dtype: Any, arity: int = 1) -> str:
    """What LLVM makes of the loop: its IR after all passes."""
    return str(llvm_compiler.optimized(loop(name, np.dtype(dtype), arity, "kernel")))


# -- references -------------------------------------------------------------------------------------------------------


def _erf_series(x: Array) -> Array:
    # erf(x) = 2/sqrt(pi) exp(-x²) sum of 2^n x^(2n+1) / (2n+1)!!: all terms have one sign.
    term = total = x
    for n in range(1, 140):
        term = term * 2 * x * x / (2 * n + 1)
        total = total + term
    return 2 / np.sqrt(WIDE(np.pi) + WIDE(1.2246467991473532e-16)) * _gauss(x) * total


def _gauss(x: Array) -> Array:
    """exp(-x²), the rounding of the square made good."""
    head = x.astype(np.float32).astype(WIDE)
    return np.exp(-head * head) * np.exp(-(x - head) * (x + head))


def _erfc_fraction(x: Array) -> Array:
    # Laplace's continued fraction for x >= 2, from its end.
    tail = x
    for n in range(200, 0, -1):
        tail = x + WIDE(n) / 2 / tail
    return _gauss(x) / tail / np.sqrt(WIDE(np.pi) + WIDE(1.2246467991473532e-16))


def erf(x: Array) -> Array:
    """The error function in long double."""
    a = np.abs(x.astype(WIDE))
    far = np.where(a < 30, 1 - _erfc_fraction(np.clip(a, 2, 30)), 1)
    result = np.copysign(np.where(a < 2, _erf_series(np.minimum(a, 2)), far), x)
    return np.where(np.isnan(x), x, result)


def erfc(x: Array) -> Array:
    """The complement of the error function in long double."""
    a = np.abs(x.astype(WIDE))
    far = np.where(a < 110, _erfc_fraction(np.clip(a, 2, 110)), 0)
    result = np.where(a < 2, 1 - _erf_series(np.minimum(a, 2)), far)
    result = np.where(x < 0, 2 - np.where(a < 2, 1 - _erf_series(np.minimum(a, 2)), far), result)
    return np.where(np.isnan(x), x, result)


def erfinv(x: Array) -> Array:
    """The inverse of the error function in long double: the compiled one after two Newton steps."""
    x = x.astype(WIDE)
    y = compiled("erfinv", "float64")(x).astype(WIDE)
    inside = (np.abs(x) < 1) & (np.abs(x) > 1e-300)
    safe = np.where(inside, x, 0.5)
    root = np.abs(np.where(inside, y, 0.4769362762044699))
    for _ in range(2):
        # Far out erf(y) - x cancels; the complement does not.
        error = np.where(np.abs(safe) < 0.5, erf(root) - np.abs(safe), (1 - np.abs(safe)) - erfc(root))
        slope = 2 / np.sqrt(WIDE(np.pi)) * _gauss(root)
        root = root - error / slope
    tiny = x * np.sqrt(WIDE(np.pi) + WIDE(1.2246467991473532e-16)) / 2
    result = np.where(inside, np.copysign(root, x), tiny)
    result = np.where(np.abs(x) == 1, np.copysign(WIDE(np.inf), x), result)
    return np.where(np.abs(x) > 1, WIDE(np.nan), result)


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.ones_like(e), e) / (1 + e)


@dataclass(frozen=True)
class Function:
    """name: in the dialect and in the C library. reference: on arrays of float64 or long double.

    ends: where most of the samples lie; half as many lie all over the dtype. library: whether C has it.
    """

    name: str
    reference: Callable[..., Array]
    ends: tuple[float, float] = (-8, 8)
    arity: int = 1
    library: bool = True


FUNCTIONS = {
    f.name: f
    for f in [
        Function("exp", np.exp, (-104, 89)),
        Function("exp2", np.exp2, (-150, 128)),
        Function("expm1", np.expm1, (-3, 3)),
        Function("log", np.log, (0, 3)),
        Function("log2", np.log2, (0, 3)),
        Function("log10", np.log10, (0, 3)),
        Function("log1p", np.log1p, (-1, 3)),
        Function("sigmoid", sigmoid, (-20, 20), library=False),
        Function("tanh", np.tanh, (-2, 2)),
        Function("sinh", np.sinh, (-4, 4)),
        Function("cosh", np.cosh, (-4, 4)),
        Function("asinh", np.arcsinh, (-8, 8)),
        Function("acosh", np.arccosh, (1, 5)),
        Function("atanh", np.arctanh, (-1, 1)),
        Function("sin", np.sin, (-100, 100)),
        Function("cos", np.cos, (-100, 100)),
        Function("tan", np.tan, (-100, 100)),
        Function("asin", np.arcsin, (-1, 1)),
        Function("acos", np.arccos, (-1, 1)),
        Function("atan", np.arctan, (-4, 4)),
        Function("atan2", np.arctan2, (-2, 2), 2),
        Function("erf", erf, (-6, 6)),
        Function("erfc", erfc, (-6, 27)),
        Function("erfinv", erfinv, (-1, 1), library=False),
        Function("pow", np.power, (0, 20), 2),
        Function("hypot", np.hypot, (-2, 2), 2),
        Function("logaddexp", np.logaddexp, (-20, 20), 2, library=False),
    ]
}


# -- samples and errors -----------------------------------------------------------------------------------------------


def specials(dtype: Any) -> Array:
    """Zeros, infinities, NaN, the smallest and largest numbers, and some where functions have their ends."""
    ends = np.finfo(dtype)
    positive = [0.0, ends.smallest_subnormal, ends.tiny, 0.5, 1.0, 2.0, 3.0, 10.0, 1e10, ends.max, np.inf]
    positive += [np.nextafter(1, 0, dtype=dtype), np.nextafter(1, 2, dtype=dtype), np.pi, np.pi / 2]
    # Nearest to a multiple of pi / 2 of all float32 and of all float64 (J.-M. Muller, "Elementary Functions", 2006).
    positive += [16367173 * 2.0**72, 6381956970095103 * 2.0**797]
    with np.errstate(over="ignore"):
        return np.array([*positive, *[-x for x in positive], np.nan], dtype)


def samples(function: Function, dtype: Any, count: int) -> list[Array]:
    """Operands: random bits, so all exponents and both signs alike; denser where the function has its features."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(7)
    whole = np.dtype(f"u{dtype.itemsize}")
    columns = []
    for _ in range(function.arity):
        bits = rng.integers(0, np.iinfo(whole).max, count // 4, whole, endpoint=True).view(dtype)
        small = rng.integers(0, 1 << np.finfo(dtype).nmant, count // 20, whole).view(dtype)
        near = rng.uniform(*function.ends, count - len(bits) - len(small))
        near[::4] = np.exp(rng.uniform(-30, 3, len(near[::4])))
        columns.append(np.concatenate([bits, small, near.astype(dtype)]))
    if function.name == "pow":
        columns[1] = rng.uniform(-1, 1, len(columns[0])) * np.finfo(dtype).maxexp
        with np.errstate(all="ignore"):
            columns[1] = np.nan_to_num(columns[1] / np.abs(np.log2(np.abs(columns[0]))), posinf=2, neginf=-2)
        columns[1] = columns[1].astype(dtype)
    ends = specials(dtype)
    grid = [g.ravel() for g in np.meshgrid(*[ends] * function.arity, indexing="ij")]
    return [np.concatenate([c, g]) for c, g in zip(columns, grid, strict=True)]


def ulps(found: Array, expected: Array, least: Array | None = None) -> Array:
    """The error in units of the last place of ``expected``, which has more bits; inf for a NaN, an infinity or the sign
    of a zero in the wrong place. least: the unit is that of no smaller a number.
    """
    ends = np.finfo(found.dtype)
    with np.errstate(all="ignore"):
        size = np.abs(expected) if least is None else np.maximum(np.abs(expected), least)
        exponent = np.clip(np.frexp(size)[1], ends.minexp + 1, ends.maxexp)
        error = np.abs(found.astype(expected.dtype) - expected) / np.ldexp(
            expected.dtype.type(1), exponent - ends.nmant - 1
        )
        rounded = expected.astype(found.dtype)
    same = (np.isnan(found) & np.isnan(expected)) | (np.isinf(found) & (found == rounded))
    error = np.where(same, 0, np.where(np.isnan(error), np.inf, error))
    sign = (np.signbit(found) != np.signbit(rounded)) & ~np.isnan(rounded) & (rounded == 0)
    return np.where(sign, np.inf, error).astype(np.float64)


def measure(function: Function, dtype: Any, operands: list[Array], native: Callable[..., Array] | None = None) -> Array:
    """The errors of the compiled function."""
    found = (native or compiled(function.name, dtype, function.arity))(*operands)
    wide = WIDE if np.dtype(dtype) == np.float64 or function.name.startswith("erf") else np.float64
    with np.errstate(all="ignore"):
        expected = function.reference(*[x.astype(wide) for x in operands])
        # log(exp(x) + exp(y)) near 0 is the difference of far larger numbers.
        least = np.maximum(*[np.abs(x.astype(wide)) for x in operands]) if function.name == "logaddexp" else None
        return ulps(found, expected, least)


def every_float32(step: int) -> Iterator[Array]:
    """All numbers of float32, or each ``step``-th."""
    size = 1 << 22
    for start in range(0, 1 << 32, size * step):
        stop = min(start + size * step, 1 << 32)
        yield np.arange(start, stop, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


# -- the table --------------------------------------------------------------------------------------------------------


def largest(function: Function, dtype: str, count: int, full: bool) -> float:
    """The largest error over the samples."""
    worst = float(measure(function, dtype, samples(function, dtype, count)).max())
    if full and dtype == "float32" and function.arity == 1:
        native = compiled(function.name, dtype)
        for x in every_float32(101 if function.name.startswith("erf") else 1):
            worst = max(worst, float(measure(function, dtype, [x], native).max()))
    return worst


def nanoseconds(function: Function, dtype: str, library: bool, repeats: int) -> float:
    """The time per element on one core, on arrays of 65536 numbers between -5 and 5; the best of some runs."""
    size = 1 << 16
    low, high = max(function.ends[0], -5), min(function.ends[1], 5)
    rng = np.random.default_rng(3)
    operands = [rng.uniform(low, high, size).astype(dtype) for _ in range(function.arity)]
    native, out = compiled(function.name, dtype, function.arity, library), np.empty(size, dtype)
    best = math.inf
    for _ in range(repeats):
        started = time.perf_counter()
        native(*operands, out=out)
        best = min(best, time.perf_counter() - started)
    return best / out.size * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples and repeats")
    parser.add_argument("--full", action="store_true", help="every number of float32")
    options = parser.parse_args()
    count, repeats = (2000, 3) if options.quick else (1_000_000, 40)
    print("| function | float32 | float64 | ns float32 | C | ns float64 | C |\n|---|---|---|---|---|---|---|")
    for function in FUNCTIONS.values():
        few = count // 20 if function.name.startswith("erf") else count
        cells = [
            f"{largest(function, dtype, few, options.full):.2f}" for dtype in FLOATS if dtype == "float32" or HAS_WIDE
        ]
        cells += [] if HAS_WIDE else ["not measured"]
        for dtype in FLOATS:
            cells.append(f"{nanoseconds(function, dtype, False, repeats):.2f}")
            cells.append(f"{nanoseconds(function, dtype, True, repeats):.2f}" if function.library else "")
        assert mathematics.find(function.name, np.dtype("float32")) is not None
        print(f"| {function.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
