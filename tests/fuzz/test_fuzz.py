"""The fuzz program itself: a short campaign finds nothing, and each planted fault is found, shrunk and written down.

The long campaign is run by hand: ``python -m tests.fuzz --graphs 100000``.
"""

from __future__ import annotations

import ast
import importlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.ir.expr import Expr
from defnpy.ir.op import REGISTRY, Op
from defnpy.ir.trace import tracing
from defnpy.passes.pipeline import PASSES
from defnpy.testing.steps import Maker, table
from tests.fuzz.__main__ import main
from tests.fuzz.campaign import ALONE, Campaign, is_smooth, numbered, unoptimized
from tests.fuzz.checks import Mismatch, Unreliable, derive, passes_of
from tests.fuzz.dead import poisoned
from tests.fuzz.every import CHECKS
from tests.fuzz.shrink import fails, shrink, spelled

simplification = importlib.import_module("defnpy.passes.simplify")
instructions = importlib.import_module("defnpy.backends.cpu.instructions")


def test_a_short_campaign_finds_nothing() -> None:
    campaign = Campaign(seed=0)
    with unoptimized():
        campaign.run(0, 144, 60)
    assert campaign.failures == []
    assert campaign.counts["graphs"] == 144
    for what in ("with first derivatives", "with second derivatives", "against differences"):
        assert campaign.counts[what] > 40, what
    assert len(campaign.ops) > 60


def test_the_whole_table_is_drawn_from() -> None:
    """Every op that is not a leaf or a side effect, and in smooth programs every one that can be differentiated."""
    wanted = {op.name for op in REGISTRY.values() if op.cases and not op.effect}
    assert {op.name for op, _ in table(False)} == wanted
    assert {op.name for op, _ in table(True)} >= {name for name in wanted if REGISTRY[name].vjp is not None} - {"relu"}
    reached = {node.op.name for number in range(1000) for node in numbered(0, number).graph.nodes()}
    assert len(reached & wanted) > 0.8 * len(wanted)


class Chosen(Maker):
    """Draws one op of the table."""

    def pick(self, options: Any) -> Any:
        fitting = [option for option in options if isinstance(option, tuple) and option[0] is self.op]
        return fitting[0] if fitting else super().pick(options)


@pytest.mark.parametrize("smooth", [False, True])
def test_every_op_of_the_table_is_drawn(smooth: bool) -> None:
    """Each one becomes part of a program when it is its turn."""
    below = random.Random(0).randrange
    for op, _ in table(smooth):
        assert any(drawn(op, below, smooth) for _ in range(10)), op  # large results are left out


def drawn(op: Op, below: Any, smooth: bool) -> bool:
    with tracing() as trace:
        maker = Chosen(below, trace, smooth=smooth, table=True)
        maker.op = op
        maker.inputs()
        maker.from_table()
        return any(node.op is op for node in trace.graph([item.x for item in maker.pool]).nodes())


def test_every_pass_is_switched_on_and_off() -> None:
    chosen = [passes_of(seed) for seed in range(len(PASSES) ** 2)]
    assert {alone for _, (alone,), _ in chosen} == set(PASSES)
    assert {run for _, _, most in chosen for run in set(PASSES) - set(most)} == set(PASSES)
    assert all(every == PASSES for every, _, _ in chosen)


# -- what a where leaves out ------------------------------------------------------------------------------------------


def test_a_poisoned_example_is_among_the_inputs_and_what_is_expected_is_finite() -> None:
    made = [dead for number in range(60) if (dead := poisoned(numbered(0, number), number)) is not None]
    assert len(made) > 40
    assert sum(any(not np.isfinite(x).all() for x in dead.inputs) for dead in made) > 25
    for dead in made:
        assert all(np.isfinite(value).all() for value in dead.values)
    assert sum("second" in dead.labels for dead in made) > 25


def test_without_masks_dead_examples_are_found_to_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cotangents that forget their conditions: what other systems do."""
    module = importlib.import_module("defnpy.transforms.cotangent")
    monkeypatch.setattr(module.Cotangent, "of", classmethod(lambda cls, part, node, strict=False: cls(part)))
    number = found_by("dead")
    assert number is not None
    program, smooth = numbered(0, number), is_smooth(number)
    small = shrink(program, lambda p: bool(fails(p, "dead", number, smooth)))
    message = fails(small, "dead", number, smooth)
    assert "nan" in message and len(small.graph.nodes()) <= 8
    with pytest.raises(Mismatch):
        exec(compile(spelled(small, "dead", number, smooth, message), "case.py", "exec"), {"__name__": "__main__"})


# -- planted faults ---------------------------------------------------------------------------------------------------

NUMBERS = 400


def found_by(name: str) -> int | None:
    """The number of the first program that fails one check."""
    for number in range(NUMBERS):
        if fails(numbered(0, number), name, number, is_smooth(number)):
            return number
    return None


def wrong_vjp(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(REGISTRY["tanh"], "vjp", lambda g, y, x: (g * (1 - y * y) * 1.01,))


def wrong_second_vjp(patch: pytest.MonkeyPatch) -> None:
    """Right in value, cut off from x: the second derivative is zero."""
    patch.setattr(REGISTRY["tanh"], "vjp", lambda g, y, x: (g * dp.stop_grad(1 - y * y),))


def wrong_jvp(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        REGISTRY["multiply"], "jvp", lambda tangents, y, a, b: None if tangents[0] is None else tangents[0] * b
    )


def wrong_batch(patch: pytest.MonkeyPatch) -> None:
    """The examples in the wrong order."""
    right = REGISTRY["sum"].batch
    patch.setattr(REGISTRY["sum"], "batch", lambda batched, x, **params: dp.flip(right(batched, x, **params), axis=0))


def wrong_pass(patch: pytest.MonkeyPatch) -> None:
    def flip_does_not_matter(trace: Any, node: Expr) -> Any:
        return node.args[0] if node.op.name == "flip" else None

    patch.setattr(simplification, "RULES", (*simplification.RULES, flip_does_not_matter))


def wrong_kernel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(REGISTRY["sigmoid"], "scalar", "1 / (1 + exp({x}))")


def wrong_renderer(patch: pytest.MonkeyPatch) -> None:
    """Differences are printed as sums."""
    patch.setattr(importlib.import_module("defnpy.backends.cpu.compile"), "_loaded", {})  # known kernels
    patch.setattr(instructions, "_FLOAT", {**instructions._FLOAT, ast.Sub: "fadd"})


def wrong_memory(patch: pytest.MonkeyPatch) -> None:
    """All temporaries in one place."""

    def crowded(requests: Any) -> tuple[list[int], int]:
        return [0] * len(requests), max((r.size for r in requests), default=0)

    patch.setattr(importlib.import_module("defnpy.lower.program"), "plan", crowded)


FAULTS = [
    (wrong_vjp, "difference"),
    (wrong_second_vjp, "difference"),
    (wrong_jvp, "jvp"),
    (wrong_batch, "vmap"),
    (wrong_pass, "passes"),
    (wrong_kernel, "cpu"),
    (wrong_renderer, "cpu"),
    (wrong_memory, "cpu"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda x: getattr(x, "__name__", x))
def test_a_planted_fault_is_found_shrunk_and_written_down(
    fault: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with unoptimized():
        instructions._template.cache_clear()
        try:
            fault(monkeypatch)
            number = found_by(name)
            assert number is not None
            program, smooth = numbered(0, number), is_smooth(number)
            small = shrink(program, lambda p: bool(fails(p, name, number, smooth)))
            message = fails(small, name, number, smooth)
            assert len(small.graph.nodes()) <= min(6, len(program.graph.nodes()))
            text = spelled(small, name, number, smooth, message)
            with pytest.raises(Mismatch) as caught:
                exec(compile(text, "case.py", "exec"), {"__name__": "__main__"})
            assert str(caught.value) in message
        finally:
            monkeypatch.undo()
            instructions._template.cache_clear()
        exec(compile(text, "case.py", "exec"), {"__name__": "__main__"})  # without the fault all is well


def test_programs_are_not_blamed_for_one_fault_by_the_other_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong batching rule is no wrong derivative."""
    wrong_batch(monkeypatch)
    for name in set(ALONE) - {"vmap"}:
        for number in range(40):
            assert not fails(numbered(0, number), name, number, is_smooth(number))


def test_a_program_that_amplifies_rounding_is_not_blamed() -> None:
    """tan near its pole: the passes keep the formula, but its last bits mean nothing."""

    def steep(x: Any) -> list[Any]:
        y = x * 1e9
        return [dp.sum(dp.sin(y) - dp.sin(y + 1.0))]

    from tests.fuzz.shrink import program_of

    derived = derive(program_of(steep, [np.array([0.1, 0.2, 0.3])], 1e-7), 0, smooth=True)
    with pytest.raises(Unreliable):
        CHECKS["difference"](derived)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--graphs", "48", "--seed", "3", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("seed 3: 48 graphs (")
    assert (tmp_path / "figures_3_0.json").exists()


def test_the_command_writes_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(REGISTRY["tanh"], "vjp", lambda g, y, x: (g * 2 * (1 - y * y),))
    assert main(["--graphs", "48", "--out", str(tmp_path)]) == 1
    files = sorted(tmp_path.glob("*_0_*.py"))
    assert files
    done = subprocess.run([sys.executable, str(files[0])], cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True)
    assert done.returncode == 0 and done.stdout.endswith(b": all is well\n")  # where the rule is right
