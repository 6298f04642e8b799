"""Every example in a docstring of the package and of the book's pages runs; every public name of defnpy has one.

The docstrings are read from the source with ``ast``, not from the imported objects: an op is an object of its own
kind, which ``doctest`` would pass over.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import io
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def docstrings(path: Path, module: str) -> Iterator[tuple[str, int, str]]:
    """(qualified name, line of the docstring, text) for every docstring in a file."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, int, str]]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                if isinstance(first.value.value, str):
                    yield name, first.lineno, first.value.value
        for child in ast.iter_child_nodes(node):
            inner = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, f"{name}.{child.name}" if inner else name)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), module)


CASES = [
    pytest.param(path, name, line, text, id=name)
    for folder in ("defnpy", "book_chapters")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for name, line, text in docstrings(path, module_of(path))
    if ">>> " in text
]


def run_example(module: types.ModuleType, path: Path, name: str, line: int, text: str) -> str:
    """What the example printed that it should not have; empty when all is as written."""
    names = {**vars(module), "dp": importlib.import_module("defnpy"), "np": np}
    test = doctest.DocTestParser().get_doctest(text, names, name, str(path), line - 1)
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False).run(test, out=report.write)
    return report.getvalue()


@pytest.mark.parametrize(("path", "name", "line", "text"), CASES)
def test_docstring(
    path: Path, name: str, line: int, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write files
    report = run_example(importlib.import_module(module_of(path)), path, name, line, text)
    assert not report, report


def public(module: types.ModuleType, prefix: str) -> Iterator[tuple[str, object]]:
    """The public names of the package and of its public modules; data, which holds no docstring, left out."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield f"{prefix}.{name}", value
            yield from public(value, f"{prefix}.{name}")
        elif not isinstance(value, bool | int | float | str | dict | np.dtype | types.NoneType):
            yield f"{prefix}.{name}", value


def test_every_public_name_has_an_example() -> None:
    dp = importlib.import_module("defnpy")
    names = dict(public(dp, "dp"))
    assert len(names) > 50
    silent = [name for name, value in names.items() if not (value.__doc__ or "").strip()]
    assert not silent, f"no docstring: {silent}"
    bare = [name for name, value in names.items() if ">>> " not in (value.__doc__ or "")]
    bare = [name for name in bare if not isinstance(names[name], types.ModuleType)]
    bare = [name for name in bare if not (isinstance(names[name], type) and issubclass(names[name], Exception))]
    assert not bare, f"no example in the docstring: {bare}"


def test_public_names_are_written_down() -> None:
    """A list that only running the package could produce hides the names from editors and type checkers."""
    tree = ast.parse((ROOT / "defnpy" / "__init__.py").read_text(encoding="utf-8"))
    assigned = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    names = ast.literal_eval(assigned[0].value)
    dp = importlib.import_module("defnpy")
    assert len(set(names)) == len(names)
    assert names == dp.__all__
    assert not [name for name in names if not hasattr(dp, name)]
    rooms = {"ir", "ops", "array", "transforms", "passes", "lower", "backends", "tensor", "shapes", "source"}
    assert not rooms & set(names), "the floors are not public"


def test_a_false_example_is_caught() -> None:
    text = "Twice.\n\n    >>> 2 * x\n    5\n"
    module = types.ModuleType("planted")
    module.x = 2  # type: ignore[attr-defined]
    report = run_example(module, ROOT / "planted.py", "planted.twice", 10, text)
    assert "line 12, in planted.twice" in report and "Expected:\n    5\nGot:\n    4" in report


def test_docstrings_are_found_on_every_kind_of_definition(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(
        '"""A module."""\n@decorated(cases=[])\ndef op(x):\n    """An op."""\n'
        'class A:\n    """A class."""\n    def f(self):\n        """A method."""\n        def g():\n'
        '            "Inner."\n',
        encoding="utf-8",
    )
    assert list(docstrings(path, "planted")) == [
        ("planted", 1, "A module."),
        ("planted.op", 4, "An op."),
        ("planted.A", 6, "A class."),
        ("planted.A.f", 8, "A method."),
        ("planted.A.f.g", 10, "Inner."),
    ]
