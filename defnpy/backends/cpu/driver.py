"""The program as a Python function: which kernel or library call comes next, on which memory.

It is printed twice from the same steps: ``readable`` passes arrays and runs anywhere; ``text`` passes addresses to the
compiled kernels and works out everything about the temporaries once, in ``prepare``.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import shapes
from ...errors import Mismatch
from ...ir.expr import Expr
from ...lower.emit import FAILED
from ...lower.fuse import VIEWS
from ...lower.program import CallStep, KernelStep, Program
from ...ops.contract import free_axes
from ..reference import located
from .dialect import number

__all__ = ["Driver", "address", "driver"]


@dataclass
class Driver:
    """The two prints, and the objects that ``text`` refers to by name."""

    text: str
    readable: str
    namespace: dict[str, Any]


def driver(program: Program) -> Driver:
    """Print the program."""
    fast = _Printer(program, addresses=True)
    text = fast.text()
    return Driver(text, _Printer(program, addresses=False).text(), fast.namespace)


def _documented_address(array: Any) -> int:
    return array.__array_interface__["data"][0]


_DATA = object.__basicsize__  # NumPy's C interface fixes it: the pointer to the elements follows the object's header
_at = ctypes.c_void_p.from_address


def _direct_address(array: Any) -> int:
    return _at(id(array) + _DATA).value or 0


def _address() -> Callable[[Any], int]:
    """The function that tells where an array's elements lie: by the array's C record, which takes a tenth of the time
    of the documented way, as long as both say the same here."""
    probes = [np.empty(n, np.float32) for n in (1, 7, 1000)] + [np.zeros((2, 3))[1:]]
    same = all(_direct_address(p) == _documented_address(p) for p in probes)
    return _direct_address if same and sys.implementation.name == "cpython" else _documented_address


address = _address()


def _own(result: Any, *operands: Any) -> Any:
    """The result of a library call as an array of its own: not an operand, nor a view into one."""
    array = np.asarray(result)
    if array.base is not None or any(array is x for x in operands) or not array.flags.c_contiguous:
        return np.array(array, order="C")
    return array


def _caller(node: Expr) -> Callable[..., Any]:
    """The reference body of a node, whose errors name the user's line."""
    params = node.kwargs

    def call(*operands: Any) -> Any:
        try:
            return _own(node.op.body(*operands, **params), *operands)
        except Mismatch as mismatch:
            raise located(node, mismatch) from None

    return call


@dataclass
class _Printer:
    program: Program
    addresses: bool
    lines: list[str] = field(default_factory=list)
    prepared: dict[str, str] = field(default_factory=dict)  # name to expression, worked out once per frame
    namespace: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        program = self.program
        self.temporary = {t.name for t in program.temporaries}
        self.namespace = {"np": np, "empty": np.empty, "dot": np.dot, "matmul": np.matmul, "address": address}
        self.known: set[str] = set()
        graph = program.graph
        used = {arg for node in graph.nodes() for arg in node.args} | set(graph.outputs)
        self.inputs = {program.names[node] for node in graph.inputs if node in used}
        for node in program.made:
            if not any(
                isinstance(s, CallStep) and s.node is node and node.op.family != "contraction" for s in program.steps
            ):
                make = "empty" if self.addresses else "np.empty"
                self.lines.append(f"{self.name(node)} = {make}({node.shape}, {self._dtype(node.dtype)})")
        number = 0
        for step in program.steps:
            if isinstance(step, KernelStep):
                self._launch(step, number)
                number += 1
            else:
                self._call(step.node)
        returned: list[str] = []
        seen: set[str] = set()
        for node in graph.outputs:
            name = self.name(node)
            returned.append(f"np.array({name})" if node.op.name == "parameter" or name in seen else name)
            seen.add(name)
        self.lines.append(f"return [{', '.join(returned)}]")
        names = [program.names[node] for node in graph.inputs]
        header = "inputs" if self.addresses else ", ".join(names)
        if not self.addresses:
            body = [f"{t.name} = np.empty({t.shape}, np.{t.dtype})" for t in program.temporaries]
            return "\n".join([f"def program({header}):", *[f"    {line}" for line in [*body, *self.lines]], ""])
        unpack = [f"{', '.join(names)}{',' if len(names) == 1 else ''} = inputs"] if names else []
        prepare = [f"{t.name} = arrays[{t.name!r}]" for t in program.temporaries]
        prepare += [f"{name} = {value}" for name, value in self.prepared.items()]
        frame = [*self.prepared, *[t.name for t in program.temporaries], "status"]
        lines = ["def prepare(arrays, status):"]
        lines += [f"    {line}" for line in prepare]
        lines += [f"    return ({', '.join(frame)},)", "", ""]
        if any(isinstance(s, CallStep) for s in program.steps):
            # NumPy would warn of overflow in a product; kernels and other libraries give inf and NaN without a word.
            self.lines = ["with quiet():", *[f"    {line}" for line in self.lines]]
            self.namespace["quiet"] = functools.partial(np.errstate, all="ignore")
        lines += [f"def program(inputs, {', '.join(frame)}):", *[f"    {line}" for line in [*unpack, *self.lines]], ""]
        return "\n".join(lines)

    def name(self, node: Expr) -> str:
        return self.program.names[node]

    def _dtype(self, dtype: Any) -> str:
        if not self.addresses:
            return f"np.{dtype}"
        self.namespace[f"{dtype}_"] = dtype
        return f"{dtype}_"

    # -- steps -----------------------------------------------------------------------------------------------------

    def _launch(self, step: KernelStep, number: int) -> None:
        emitted = step.emitted
        scratch = iter(step.scratch)
        names = [self.name(s) if isinstance(s, Expr) else next(scratch) for s in emitted.buffers]
        if self.addresses:
            arguments = [self._prepared("status", "address(status)"), self._prepared("error", "address(status) + 8")]
            arguments += [self._address(name) for name in names]
        else:
            arguments = [f"{name}.reshape(-1)" for name in names]
        arguments += [str(n) for n in emitted.sizes]
        call = f"{emitted.kernel.name}({', '.join(arguments)})"
        self.lines.append(call)
        if emitted.kernel.checks:
            if self.addresses:
                self.lines += ["if status[0]:", f"    fail({number}, status[0], {emitted.kernel.name}_{FAILED}[0])"]
            else:
                self.lines[-1] = f"assert {call} == 0, 'an index is out of bounds'"

    def _address(self, name: str) -> str:
        if name in self.temporary:
            return self._prepared(name, f"address({name})")
        key = f"at_{name}"
        if key not in self.known:
            self.known.add(key)
            self.lines.append(f"{key} = address({name})")
        return key

    def _prepared(self, name: str, expression: str) -> str:
        key = f"at_{name}"
        self.prepared.setdefault(key, expression)
        return key

    def _call(self, node: Expr) -> None:
        name = self.name(node)
        if node.op.family == "contraction":
            self._product(node)
            return
        arguments = ", ".join(self._once(self._view(arg)) for arg in node.args)
        if self.addresses:
            self.namespace[f"call_{name}"] = _caller(node)
            self.lines.append(f"{name} = call_{name}({arguments})")
        else:
            params = "".join(f", {k}={v!r}" for k, v in node.params)
            self.lines.append(
                f"{name} = np.array({node.op.name}({arguments}{params}), order='C')  # of defnpy's reference"
            )

    def _product(self, node: Expr) -> None:
        left, right = node.args
        contract, batch = node.kwargs["contract"], node.kwargs["batch"]
        rows = free_axes(left.ndim, contract[0], batch[0])
        columns = free_axes(right.ndim, contract[1], batch[1])
        stack = tuple(left.shape[a] for a in batch[0])
        inner = shapes.size(tuple(left.shape[a] for a in contract[0]))
        m = shapes.size(tuple(left.shape[a] for a in rows))
        n = shapes.size(tuple(right.shape[a] for a in columns))
        a = self._once(self._matrix(left, batch[0] + rows + contract[0], (*stack, m, inner)))
        b = self._once(self._matrix(right, batch[1] + contract[1] + columns, (*stack, inner, n)))
        out = self._once(self._reshaped(self.name(node), node.shape, (*stack, m, n)))
        module = "" if self.addresses else "np."
        if (m, inner) == (1, 1) or (inner, n) == (1, 1):
            # np.dot takes a matrix of one element for a number, and then 0 times NaN for 0.
            self.lines.append(f"{module}matmul({a}, {b}, out={out})")
            return
        self.lines.append(f"{module}matmul({a}, {b}, out={out})" if stack else f"{module}dot({a}, {b}, {out})")

    def _matrix(self, operand: Expr, order: shapes.Axes, shape: shapes.Shape) -> str:
        text = self._view(operand)
        if order != tuple(range(len(order))):
            text += ".T" if order == (1, 0) else f".transpose{order}"
        return self._reshaped(text, tuple(operand.shape[a] for a in order), shape)

    @staticmethod
    def _reshaped(text: str, old: shapes.Shape, new: shapes.Shape) -> str:
        return text if old == new else f"{text}.reshape({', '.join(map(str, new))})"

    def _view(self, node: Expr) -> str:
        """A node's memory as NumPy sees it through views."""
        if node.op.name == "constant":
            return f"np.asarray({number(node.kwargs['value'].value, node.dtype)})"
        if node in self.program.placed or node.op.name not in VIEWS:
            return self.name(node)
        inner = self._view(node.args[0])
        params = node.kwargs
        if node.op.name == "reshape":
            return f"{inner}.reshape({params['shape']})"
        if node.op.name == "permute_dims":
            return f"{inner}.T" if params["axes"] == (1, 0) else f"{inner}.transpose({params['axes']})"
        if node.op.name == "broadcast_to":
            return f"np.broadcast_to({inner}, {params['shape']})"
        if node.op.name == "slice":
            parts = zip(params["starts"], params["stops"], params["steps"], strict=True)
            return f"{inner}[{', '.join(f'{a}:{b}:{s}' for a, b, s in parts) or '...'}]"
        if node.op.name == "flip":
            steps = [slice(None, None, -1) if a in params["axis"] else slice(None) for a in range(node.ndim)]
            return f"{inner}[{', '.join('::-1' if s.step else ':' for s in steps) or '...'}]"
        return inner

    def _once(self, text: str) -> str:
        """An expression over a temporary alone, worked out before the first call."""
        if not self.addresses or text.isidentifier():
            return text
        if ".reshape(" in text and any(mark in text for mark in (".T", ".transpose(", "broadcast_to(", "[")):
            return text  # NumPy may have to copy, and the copy would be as old as the frame
        root = text.removeprefix("np.broadcast_to(").split(".")[0].split("[")[0].split(",")[0]
        if root not in self.temporary:
            return text
        for name, known in self.prepared.items():
            if known == text:
                return name
        name = f"view_{len(self.prepared)}"
        self.prepared[name] = text
        return name
