"""What a call of a kernel needs to know beside the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..dtypes import DType
from ..ir.expr import Expr
from ..ir.op import REGISTRY
from ..source import Location
from .kernel import Bound, Buffer, Compute, Kernel, Literal, Operand, Statement

__all__ = ["FAILED", "Draft", "Emitted", "computed"]

FAILED = "failed_index"  # the buffer in which a check leaves the index that is out of bounds


def computed(node: Expr, name: str, args: Sequence[Operand], note: str, fresh: Callable[[], str]) -> list[Statement]:
    """What computes one element of an elementwise node. The third and the fourth power are two products each, which
    round no worse than a power of any exponent does and take a twentieth of its time."""
    x, *rest = args
    exponent = rest[0].value if node.op.name == "pow" and isinstance(rest[0], Literal) else 0
    if exponent in (3, 4) and node.dtype.kind == "f" and node.args[0].dtype == node.dtype:
        square, product = fresh(), REGISTRY["multiply"]
        pairs = [(square, (x, x)), (name, (square, x if exponent == 3 else square))]
        return [Compute(n, node.dtype, product, pair, (node.dtype,) * 2, {}, note) for n, pair in pairs]
    return [Compute(name, node.dtype, node.op, tuple(args), tuple([a.dtype for a in node.args]), node.kwargs, note)]


@dataclass
class Emitted:
    """A kernel and what a call must pass.

    buffers: for every buffer of the kernel the node whose memory it is, the number of elements of a scratch row, or
        another temporary.
    sizes: the values of the size arguments. checks: the node and axis behind each status code of a bounds check.
    """

    kernel: Kernel
    buffers: list[Any]
    sizes: list[int]
    checks: list[tuple[Expr, int]]

    @property
    def lengths(self) -> dict[str, int]:
        """The sizes by name."""
        return dict(zip(self.kernel.sizes, self.sizes, strict=True))


@dataclass
class Draft:
    """A kernel in the making that holds one node: see the fields of :class:`Emitted`."""

    names: dict[Expr, str]
    buffers: dict[Expr | str, Buffer] = field(default_factory=dict)
    sources: list[Any] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    checks: list[tuple[Expr, int]] = field(default_factory=list)
    places: dict[Location, None] = field(default_factory=dict)
    count: int = 0

    def finished(self, title: str, body: list[Statement]) -> Emitted:
        """The kernel with these statements."""
        lines = tuple(dict.fromkeys(place.position.text for place in self.places if place.position.text))
        kernel = Kernel(title, list(self.buffers.values()), list(self.sizes), body, lines)
        return Emitted(kernel, self.sources, list(self.sizes.values()), self.checks)

    def buffer(self, node: Expr, role: str) -> str:
        """The name of the buffer of a node."""
        if node not in self.buffers:
            self.buffers[node] = Buffer(self.names.get(node, f"b{len(self.buffers)}"), node.dtype, role)
            self.sources.append(node)
        return self.buffers[node].name

    def scratch(self, dtype: DType, count: int) -> str:
        """The name of a new buffer of so many elements that only the kernel sees."""
        name = self.fresh()
        self.buffers[name] = Buffer(name, dtype, "scratch")
        self.sources.append(count)
        return name

    def size(self, value: int) -> str:
        """The name of a new size argument."""
        name = f"m{len(self.sizes)}"
        self.sizes[name] = value
        return name

    def fresh(self) -> str:
        """The name of a new variable, which no buffer has."""
        self.count += 1
        return f"p{self.count}"

    def bound(self, value: Operand, node: Expr, axis: int, length: str, *, signed: bool) -> Bound:
        """The check of an index of ``node`` along ``axis``."""
        if FAILED not in self.buffers:
            self.buffers[FAILED] = Buffer(FAILED, np.dtype("int64"), "scratch")
            self.sources.append(1)
        self.checks.append((node, axis))
        return Bound(self.fresh(), value, length, len(self.checks), FAILED, signed)

    def note(self, node: Expr) -> str:
        """The user's line behind a node."""
        if node.loc is None:
            return ""
        self.places[node.loc] = None
        return node.loc.position.text
