"""The table of rules: true to the registry, and to the page that is made of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import defnpy as dp
from defnpy.ir.op import REGISTRY
from defnpy.ops.families import elementwise, uniform

PAGE = """# The rules of every op

This page is made by `dp.rules().markdown()` and held true by `tests/test_rules.py`. `vjp` is the derivative backwards,
`jvp` forwards, `batching` what `vmap` does. "vjp transposed": forward mode reads the rule backwards in the other
direction. `cases` are the operands of the op's tests, on which all backends are compared with the reference; `against
differences` counts those at which its derivatives of both modes are compared with differences, to second order, with
random cotangents.

"""


def test_every_op_is_in_the_table() -> None:
    table = dp.rules()
    assert [op.name for op in table] == sorted(name for name, op in REGISTRY.items() if op.cases)
    assert len(table) == len(list(table)) > 100


def test_no_op_is_without_a_rule_or_a_reason() -> None:
    for op in dp.rules():
        assert op.vjp == "rule" or (op.vjp.startswith("flat: ") and len(op.vjp) > 15), op
        assert op.batch == "rule" or (op.batch.startswith("one by one: ") and len(op.batch) > 20), op
        assert op.cases and op.dtypes
        assert bool(op.differences) == (op.vjp == "rule"), op


def test_the_page_is_the_table(root: Path) -> None:
    text = (root / "docs" / "rules.md").read_text(encoding="utf-8")
    command = "python -m tests.test_rules"
    assert text == PAGE + dp.rules().markdown(), f"docs/rules.md is out of date: run {command}"


def test_a_row_says_what_the_op_declares() -> None:
    declared = dict(REGISTRY)
    try:

        @elementwise(
            scalar="{x}", vjp=lambda g, y, x: (g,), kinds="f", cases=[uniform(0, 1), uniform(0, 1, smooth=False)]
        )
        def planted(x, /):
            return x

        row = dp.rules()["planted"]
        assert (row.vjp, row.jvp, row.batch, row.dtypes) == ("rule", "rule", "rule", "float")
        assert (row.cases, row.differences) == (6, 3)
    finally:
        REGISTRY.clear()
        REGISTRY.update(declared)
    with pytest.raises(KeyError):
        dp.rules()["planted"]


def test_plain_data_text_and_a_rich_table() -> None:
    table = dp.rules()
    assert json.loads(json.dumps(table.to_dict()))["floor"]["vjp"] == "flat: it is flat almost everywhere"
    lines = str(table).splitlines()
    assert lines[0].split() == ["op", "family", "vjp", "jvp", "batching", "dtypes", "cases", "against", "differences"]
    assert len(lines) == len(table) + 1
    console = pytest.importorskip("rich.console").Console(width=200, file=io.StringIO(), record=True)
    console.print(table)
    assert "vjp transposed" in console.export_text()


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "rules.md").write_text(PAGE + dp.rules().markdown(), encoding="utf-8")
