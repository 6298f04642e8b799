"""What a net is made of: shapes, parameters and bytes, found by tracing it, without computing anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..compiled import Spec, spec
from ..ir.expr import Value
from ..transforms.stage import is_tensor, stage
from .layer import Chain, Layer

__all__ = ["Row", "Summary", "summary"]


@dataclass(frozen=True)
class Row:
    """A layer of a net: its place, its text, the shape that it gives, and its parameters in numbers and in bytes.

    >>> import defnpy as dp
    >>> dp.nn.summary(dp.nn.Dense(3, 2), (1, 3)).rows[0].parameters
    8
    """

    place: str
    layer: str
    shape: tuple[int, ...]
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Summary:
    """The rows of a net, and their sums; it prints as a table. See :func:`summary`.

    >>> import defnpy as dp
    >>> dp.nn.summary(dp.nn.Dense(3, 2), (1, 3)).parameters
    8
    """

    input: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """How many numbers training moves."""
        return sum(row.parameters for row in self.rows)

    @property
    def bytes(self) -> int:
        """The bytes of the parameters."""
        return sum(row.bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("", "layer", "output", "parameters", "bytes")
        lines = [head, ("", "input", _shape(self.input), "", "")]
        lines += [(r.place, r.layer, _shape(r.shape), f"{r.parameters:,}", f"{r.bytes:,}") for r in self.rows]
        lines.append(("", "total", "", f"{self.parameters:,}", f"{self.bytes:,}"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = []
        for line in lines:
            left = [text.ljust(width) for text, width in zip(line[:3], widths, strict=False)]
            right = [text.rjust(width) for text, width in zip(line[3:], widths[3:], strict=True)]
            texts.append("  ".join(left + right).rstrip())
        return "\n".join(texts)


def summary(layer: Layer, x: Any) -> Summary:
    """The layers of a net for inputs like ``x``: a tensor, a ``dp.spec``, or the shape of one, float32.

    The layers of a chain stand one in a row, those of a chain within it too.

    >>> import defnpy as dp
    >>> net = dp.nn.Chain(dp.nn.Flatten(), dp.nn.Dense(784, 50, dp.relu), dp.nn.Dense(50, 10))
    >>> print(dp.nn.summary(net, (100, 28, 28)))
       layer                 output         parameters    bytes
       input                 (100, 28, 28)
    0  Flatten()             (100, 784)              0        0
    1  Dense(784, 50, relu)  (100, 50)          39,250  157,000
    2  Dense(50, 10)         (100, 10)             510    2,040
       total                                    39,760  159,040
    """
    given = x if isinstance(x, (Value, np.ndarray)) else spec(x)
    key = spec((2,), "uint32")
    rows = []
    value: Any = given
    for place, inner in _flat(layer, ""):
        params, state = _shapes(lambda key, inner=inner: inner.init(key), key)
        value = _shapes(lambda p, s, x, inner=inner: inner.apply(p, s, x)[0], params, state, value)
        leaves = [leaf for leaf in tree.leaves(params) if is_tensor(leaf)]
        sizes = [math.prod(leaf.shape) for leaf in leaves]
        nbytes = sum(size * leaf.dtype.itemsize for size, leaf in zip(sizes, leaves, strict=True))
        rows.append(Row(place, repr(inner), getattr(value, "shape", ()), sum(sizes), nbytes))
    return Summary(tuple(given.shape), tuple(rows))


def _shapes(function: Any, *args: Any) -> Any:
    """What a function returns, in shapes and dtypes."""
    staged = stage(function, args, {})
    return staged.rebuild([Spec(node.aval) for node in staged.graph.outputs])


def _flat(layer: Layer, place: str) -> Iterator[tuple[str, Layer]]:
    if not isinstance(layer, Chain):
        yield place, layer
        return
    for number, inner in enumerate(layer.layers):
        yield from _flat(inner, f"{place}.{number}" if place else str(number))


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
