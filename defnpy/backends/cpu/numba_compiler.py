"""Kernel source to machine code, by Numba. The only module that imports it; loaded when something must be compiled."""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, compiler, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ...lower.kernel import Kernel
from . import prelude
from .assembly import entry
from .cache import Entry
from .instructions import Instructions, Value, llvm_type

__all__ = ["compile_source"]

# Functions of the C library that compiled code may call; anything else comes from Numba.
_C_LIBRARY = {
    name + suffix
    for name in "exp expm1 log log1p sin cos tan tanh pow fmod floor ceil trunc rint erf erfc sqrt fabs".split()
    for suffix in ("", "f")
} | {"memset", "memcpy"}


@intrinsic
def _fold_sum(context: Any, total: Any, value: Any) -> Any:
    """Addition that LLVM may reorder (floats only): the one liberty that sums take, so that they vectorize."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b = args
        if isinstance(signature.return_type, types.Float):
            return builder.fadd(a, b, flags=("reassoc",))
        return builder.add(a, b)

    if total != value:
        return None
    return total(total, total), build


def _dialect(name: str) -> Any:
    """A function of the scalar dialect, of one or two floats: the very instructions that the other renderer prints."""

    @functools.cache
    def definition(dtype: Any, count: int) -> tuple[str, Any]:
        """The symbol of the function for a dtype, and a library that defines it."""
        symbol = f"defnpy_{name}_{dtype}"
        code = Instructions()
        arguments = [Value(f"%x{i}", dtype) for i in range(count)]
        result = code.apply(name, arguments)
        t = llvm_type(dtype)
        head = f"define {t} @{symbol}({', '.join(f'{t} {a.text}' for a in arguments)}) alwaysinline {{"
        text = "\n".join([*code.declarations, head, *code.lines, f"  ret {llvm_type(result.dtype)} {result.text}", "}"])
        library = cpu_target.target_context.codegen().create_library(symbol)
        library.add_llvm_module(llvm.parse_assembly(text))
        library.finalize()
        return symbol, library

    def typed(*numbers: Any) -> Any:
        if not isinstance(numbers[0], types.Float) or any(x != numbers[0] for x in numbers):
            return None

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            dtype = np.dtype(str(signature.return_type))
            symbol, library = definition(dtype, len(args))
            context.active_code_library.add_linking_library(library)
            kinds = [a.type for a in args]
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kinds[0], kinds), symbol)
            return builder.call(function, args)

        return numbers[0](*numbers), build

    if name in _OF_TWO:
        return intrinsic(lambda context, x, y: typed(x, y))
    return intrinsic(lambda context, x: typed(x))


# What the printed source calls a function of the dialect: by its module and its name there.
_SPELLED = {
    "math": {name: name for name in "exp expm1 log log1p sin cos tanh erf erfc".split()},
    "np": {name: name for name in "exp2 log2 log10 tan sinh cosh logaddexp hypot nextafter".split()}
    | {f"arc{name}": f"a{name}" for name in "sin cos tan sinh cosh tanh tan2".split()}
    | {"power": "pow"},
}
_OF_TWO = {"logaddexp", "hypot", "nextafter", "atan2", "pow"}


@functools.cache
def _namespace() -> dict[str, Any]:
    functions: dict[str, Any] = {"np": np, "math": math}
    exec(compile(prelude.SOURCE, "<defnpy prelude>", "exec"), functions)
    functions["threefry2x32"] = numba.njit(error_model="numpy", forceinline=True)(functions["threefry2x32"])
    functions["fold_sum"] = _fold_sum
    functions |= {name: _dialect(name) for name in ("erfinv", "sigmoid")}
    for module, names in _SPELLED.items():  # the same modules, but for the functions of the dialect
        stand_in = ModuleType(module)
        vars(stand_in).update(vars(functions[module]))
        vars(stand_in).update({name: _dialect(function) for name, function in names.items()})
        functions[module] = stand_in
    return functions


def compile_source(filename: str, source: str, kernel: Kernel, prefix: str) -> Entry:
    """Compile ``def kernel(buffers..., sizes...)`` for flat buffers and 64-bit sizes.

    The buffers are promised not to overlap. Floats follow IEEE rules but for the order of sums. Not even a * b + c is
    contracted: a value computed twice, in two passes or two kernels, must be the same bits, or the maximum of a row
    may equal none of its elements.
    """
    namespace = dict(_namespace())
    exec(compile(source, filename, "exec"), namespace)
    flags: Any = compiler.Flags()
    flags.enable_looplift = False
    flags.enable_pyobject = False
    flags.nrt = False
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.noalias = True
    dtypes = [b.dtype for b in kernel.buffers]
    pointers = [types.CPointer(types.uint8 if dtype.kind == "b" else numba.from_dtype(dtype)) for dtype in dtypes]
    sizes = len(kernel.sizes)
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    result = compiler.compile_extra(
        cpu_target.typing_context,
        cpu_target.target_context,
        namespace["kernel"],
        (*pointers, *[types.int64] * (sizes + 2 * bool(kernel.parallel))),
        types.int64,
        flags,
        {},
    )
    library = result.library
    module = library._final_module
    called = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    module.link_in(llvm.parse_assembly(_entry(result.fndesc.llvm_func_name, kernel, prefix)))
    return Entry(prefix, library.codegen._tm.emit_object(module), bool(called - _C_LIBRARY))


def _entry(symbol: str, kernel: Kernel, prefix: str) -> str:
    """The function of the common signature, around what Numba compiled: ``status(result*, error**, arguments...)``."""
    arguments = [f"ptr %b{i}" for i in range(len(kernel.buffers))] + [f"i64 %n{i}" for i in range(len(kernel.sizes))]
    passed = [*arguments, "i64 %first", "i64 %last"] if kernel.parallel else arguments
    types_ = ", ".join(["ptr", "ptr", *(argument.split()[0] for argument in passed)])
    body = f"{prefix}body"
    return "\n".join(
        [
            f"declare i32 @{symbol}({types_})",
            f"define internal i32 @{body}({', '.join([*arguments, 'i64 %first', 'i64 %last'])}) {{",
            "  %result = alloca i64",
            "  %error = alloca ptr",
            f"  %ended = call i32 @{symbol}({', '.join(['ptr %result', 'ptr %error', *passed])})",
            "  %status = load i64, ptr %result",
            "  %code = trunc i64 %status to i32",
            "  ret i32 %code",
            "}",
            entry(f"{prefix}kernel", [body], kernel.buffers, len(kernel.sizes)),
        ]
    )
