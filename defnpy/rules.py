"""The table of rules: what the compiler knows of every op, and what the tests compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .ir.op import REGISTRY, Op

__all__ = ["OpRules", "Rules", "rules"]

KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}


@dataclass(frozen=True)
class OpRules:
    """One op of the table.

    vjp, jvp, batch: "rule" where the op has its own; otherwise what is done instead, or why nothing is. dtypes: the
    kinds that it computes in. cases: the operands of its tests, on which all backends, and its shapes and dtypes, are
    compared; differences: those of them on which its derivatives are compared with differences, to second order.

    >>> import defnpy as dp
    >>> dp.rules()["tanh"].vjp
    'rule'
    """

    name: str
    family: str
    vjp: str
    jvp: str
    batch: str
    dtypes: str
    cases: int
    differences: int

    def cells(self) -> list[str]:
        """The row of a table."""
        return [str(value) for value in vars(self).values()]


HEAD = ["op", "family", "vjp", "jvp", "batching", "dtypes", "cases", "against differences"]


@dataclass(frozen=True)
class Rules:
    """The rules of all ops, by name; prints as a table, and as a rich one where rich prints it.

    >>> import defnpy as dp
    >>> dp.rules()["floor"].vjp
    'flat: it is flat almost everywhere'
    """

    ops: tuple[OpRules, ...]

    def __iter__(self) -> Iterator[OpRules]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)

    def __getitem__(self, name: str) -> OpRules:
        for op in self.ops:
            if op.name == name:
                return op
        raise KeyError(name)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Name to row, of plain Python types."""
        return {op.name: {key: value for key, value in asdict(op).items() if key != "name"} for op in self.ops}

    def __str__(self) -> str:
        rows = [HEAD, *[op.cells() for op in self.ops]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(*HEAD)
        for op in self.ops:
            table.add_row(*op.cells())
        return table

    def markdown(self) -> str:
        """The table in Markdown: ``docs/rules.md`` is made of it."""
        rows = [HEAD, ["---"] * len(HEAD), *[[f"`{op.name}`", *op.cells()[1:]] for op in self.ops]]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def rules() -> Rules:
    """What every op declares: its derivative backwards and forwards, batching, dtypes, and what its tests compare.

    >>> import defnpy as dp
    >>> table = dp.rules()
    >>> [op.name for op in table if op.vjp == "rule" and not op.differences]
    []
    >>> table["sort"].jvp, table["sort"].batch
    ('vjp transposed', 'rule')
    """
    return Rules(tuple([_row(op) for op in sorted(REGISTRY.values(), key=lambda op: op.name) if op.cases]))


def _row(op: Op) -> OpRules:
    vjp = "rule" if op.vjp is not None else f"flat: {op.not_differentiable}"
    jvp = "rule" if op.jvp is not None else "vjp transposed" if op.vjp is not None else "flat"
    batch = "rule" if op.batch is not None else f"one by one: {op.loops}"
    dtypes = " ".join(name for kind, name in KINDS.items() if kind in op.kinds)
    return OpRules(op.name, op.family, vjp, jvp, batch, dtypes, len(op.cases), _against_differences(op))


def _against_differences(op: Op) -> int:
    """The cases at whose operands the op has a derivative that is not that of an integer, as the table's test picks."""
    if op.vjp is None:
        return 0
    rng = np.random.default_rng(0)
    float64 = np.dtype("float64")
    return sum(
        case.smooth and any(np.asarray(a).dtype.kind == "f" for a in case.arrays(rng, float64)) for case in op.cases
    )
