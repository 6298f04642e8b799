"""The table of acceptance figures: what is kept, what is printed, and that a figure out of range is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from book_chapters import results
from book_chapters.pages import Page, discover
from book_chapters.runner import REFUSED

SIGMOID = "ch03.sigmoid"


def test_pages_run_and_their_figures_stand_beside_the_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main([SIGMOID, "--seeds", "0", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "| ch03.sigmoid | y(0) | 0.5 | 0.5 +- 1e-06 | 0.5 | yes |" in table
    assert (tmp_path / "RESULTS.md").read_text() in table
    kept = json.loads((tmp_path / "results.json").read_text())["pages"]
    assert kept[SIGMOID]["0"]["figures"]["y(0)"] == 0.5
    assert results.main(["--show", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == table


def planted(value: object) -> results.Results:
    run = {"figures": {"y(0)": value}, "wall_s": 1.0, "cpu_s": 2.0, "compile_s": 0.5, "compilations": 1}
    return {SIGMOID: {"0": run}}


@pytest.mark.parametrize(("value", "met"), [(0.5, "yes"), (0.6, "NO"), ("nan", "NO"), (None, "-")])
def test_a_figure_out_of_its_range_is_seen(value: object, met: str) -> None:
    row = next(line for line in results.markdown(planted(value), discover()).splitlines() if "y(0)" in line)
    assert row.endswith(f"| {met} |")


def test_a_page_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(results, "discover", lambda: [Page("ch03.nothing", "Not there")])
    assert results.main(["all", "--out", str(tmp_path)]) == REFUSED
    assert "error: ch03.nothing --seed 0 ended with status 1" in capsys.readouterr().err


def test_the_shipped_table_is_that_of_the_shipped_numbers() -> None:
    kept = results.load(results.FOLDER / "results.json")
    shipped = (results.FOLDER / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    rows = {line for line in shipped if line.startswith(("| ch", "| flux"))}
    printed = results.markdown(kept, discover()).splitlines()
    assert rows == {line for line in printed if line.startswith(("| ch", "| flux"))}
    assert not [line for line in rows if line.endswith("| NO |")]
