"""README and the pages of the guide are programs: every block of Python in them runs, top to bottom.

A block with prompts (``>>>``) is a doctest. A block without them is executed, and where a ``text`` block follows it
directly, what it printed must be that text (``...`` stands for any). The blocks of one page share their names. A line
``<!-- needs: package -->`` above a block lets it wait for an optional package.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import itertools
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from defnpy.ir.op import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
NEEDS = re.compile(r"<!-- needs: (\w+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    line: int  # of its first line of code, counted from 1
    code: str
    output: str | None  # what must be printed; None: not checked
    needs: str | None


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page."""
    found = list(FENCE.finditer(text))
    result = []
    for fence, following in itertools.zip_longest(found, found[1:]):
        if fence["language"] not in ("python", "pycon"):
            continue
        output = None
        if following and following["language"] == "text" and not text[fence.end() : following.start()].strip():
            output = following["body"]
        needs = NEEDS.search(text[: fence.start()])
        line = text.count("\n", 0, fence.start("body")) + 1
        result.append(Block(line, fence["body"], output, needs[1] if needs else None))
    return result


def run_page(path: Path, module: types.ModuleType) -> list[str]:
    """Run the blocks of a page in ``module``; returns what was not as the page says. Errors propagate."""
    faults: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.needs and importlib.util.find_spec(block.needs) is None:
            continue
        place = f"{path.name}:{block.line}"
        printed = io.StringIO()
        if re.search(r"^>>> ", block.code, re.M):
            test = doctest.DocTestParser().get_doctest(block.code, vars(module), place, str(path), block.line - 1)
            runner.run(test, out=printed.write, clear_globs=False)
            faults += [f"{place}\n{printed.getvalue()}"] if printed.getvalue() else []
            vars(module).update(test.globs)
            continue
        # Empty lines in front keep the page's line numbers: tracebacks and defnpy's own messages quote the page.
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(printed):
            exec(code, vars(module))
        if block.output is not None and not _alike(block.output, printed.getvalue()):
            faults.append(f"{place} printed\n{printed.getvalue()}\nand the page says\n{block.output}")
    return faults


def _alike(wanted: str, printed: str) -> bool:
    """Equal but for spaces at line ends; ``...`` in the page stands for any text."""
    wanted, printed = (re.sub(r"[ ]+$", "", text.strip("\n"), flags=re.M) for text in (wanted, printed))
    return doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS)


@contextlib.contextmanager
def book_anew() -> Iterator[None]:
    """The book's functions as a new process has them: a page may say how often one was compiled."""

    def taken() -> dict[str, types.ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == "book_chapters"]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_page(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # a page may write files
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    declared = dict(REGISTRY)
    with book_anew():
        try:
            faults = run_page(page, module)
        finally:  # a page may declare an op
            REGISTRY.clear()
            REGISTRY.update(declared)
    assert not faults, "\n\n".join(faults)


def test_a_false_page_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        """
```python
x = 1
print(x + 1)
```

```text
3
```

```python
>>> x
1
>>> x + 1
5
```

```python
print(x)
```

```text
1
```

<!-- needs: no_such_package -->
```python
import no_such_package
```

```bash
false
```
""",
        encoding="utf-8",
    )
    first, second = run_page(page, types.ModuleType("page"))
    assert first.startswith("page.md:3 printed\n2") and "says\n3" in first
    assert "Expected:\n    5\nGot:\n    2" in second and "line 14" in second


def test_a_page_without_code_passes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Only words.\n", encoding="utf-8")
    assert run_page(page, types.ModuleType("page")) == []


def test_a_failing_block_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("title\n\n```python\nx = 1\nx / 0\n```\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as error:
        run_page(page, types.ModuleType("page"))
    assert error.traceback[-1].lineno == 4 and error.traceback[-1].path == page  # pytest counts lines from 0
