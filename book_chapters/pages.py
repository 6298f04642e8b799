"""The pages of the book: every module in a folder of a chapter that has a docstring and a function ``main``.

They are found by reading the files, not by importing them, so that listing them costs nothing and a fault in one page
does not hide the others.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from defnpy.errors import ConfigError

__all__ = ["Page", "choose", "discover"]

PACKAGE = __name__.rpartition(".")[0]
ROOT = Path(__file__).parent
NO_CHAPTERS = ("common",)


@dataclass(frozen=True)
class Page:
    """name: as it is asked for, ``ch05.gradient_check``. summary: the first line of its docstring."""

    name: str
    summary: str

    @property
    def chapter(self) -> str:
        """The folder it stands in."""
        return self.name.partition(".")[0]

    def load(self) -> ModuleType:
        """Import it."""
        return importlib.import_module(f"{PACKAGE}.{self.name}")


def discover(root: Path = ROOT) -> list[Page]:
    """All pages below ``root``, in the order of their names."""
    pages = []
    for path in sorted(root.rglob("*.py")):
        folder = path.relative_to(root).parts[:-1]
        if not folder or folder[0] in NO_CHAPTERS or path.stem.startswith("_"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        text = ast.get_docstring(tree)
        if text and any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            pages.append(Page(".".join((*folder, path.stem)), text.splitlines()[0].rstrip(".")))
    return pages


def choose(words: Sequence[str], pages: Sequence[Page]) -> list[Page]:
    """The pages meant by names of pages, names of chapters, or ``all``; each once, in the order of the list.

    Raises ``ConfigError`` for a word that is none of these, with the nearest names.
    """
    chapters = {page.chapter for page in pages}
    meant: set[str] = set()
    for word in words:
        name = word.removeprefix(f"{PACKAGE}.").replace("/", ".").removesuffix(".py")
        found = {page.name for page in pages if name in ("all", page.chapter, page.name)}
        if not found:
            known = [*chapters, *(page.name for page in pages)]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            near += [page.name for page in pages if page.name.partition(".")[2] == name and page.name not in near]
            hint = f"did you mean {' or '.join(near)}?" if near else f"chapters are {', '.join(sorted(chapters))}"
            raise ConfigError(f"no chapter or page is called {word!r}", hint=hint)
        meant |= found
    return [page for page in pages if page.name in meant]
