"""What every page promises: the section it belongs to, ranges that name its figures, public names of defnpy only."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import defnpy
from book_chapters import options
from book_chapters.acceptance import Acceptance
from book_chapters.pages import Page, discover

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "book_chapters").rglob("*.py"))
# Sub-packages that are public beside the names of ``defnpy`` itself.
PUBLIC = {"defnpy", "defnpy.data", "defnpy.nn", "defnpy.optim", "defnpy.errors", "defnpy.testing", "defnpy.train"}


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_only_public_names_are_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        private = [m for m in modules if m.split(".")[0] == "defnpy" and m not in PUBLIC]
        assert not private, f"line {node.lineno} imports from {private}"


@pytest.mark.parametrize("page", discover(), ids=lambda page: page.name)
def test_a_page_keeps_the_convention(page: Page) -> None:
    module = page.load()
    lines = module.__doc__.splitlines()
    assert re.match(r"Sections? \d\.\d|Flux", lines[0]) and not lines[1], "the section, an empty line"
    assert any(re.match(r"    \S", line) for line in lines), "the formula, set in"
    assert "defnpy" in module.__doc__, "the defnpy way"
    assert len(page.summary) <= 90, "the summary stands in a list"
    first = next(iter(inspect.signature(module.main).parameters))
    assert first == "run"
    own = options.own(module)
    assert set(getattr(module, "QUICK", {})) <= set(own)
    assert set(getattr(module, "OPTIONS", {})) | {"iters"} >= set(own), "an option without a meaning"
    for acceptance in getattr(module, "ACCEPTANCE", ()):
        assert isinstance(acceptance, Acceptance) and acceptance.low <= acceptance.high
        assert acceptance.original, f"{acceptance.figure}: what does the original give?"


def test_the_public_names_are_those_of_the_package() -> None:
    assert all(hasattr(defnpy, name) for name in ("compilations", "testing", "errors"))
