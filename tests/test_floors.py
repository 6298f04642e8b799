"""The floors of docs/architecture.md, read from every import in the package.

A file may import its own folder and lower floors. Imports inside functions count like any other; they are allowed
only for the packages and in the functions named below. Each rule has a test that plants a fault and sees it caught.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "defnpy"

# A folder stands for all its files. On one floor a room may import the rooms left of it, never those right of it;
# rooms in one set (braces) never import each other. defnpy/__init__.py may import everything below it; `train`, written
# as a user would write it, may import defnpy itself.
FLOORS: list[list[str | set[str]]] = [
    ["errors", "source", "config", "dtypes", "shapes", "openblas", "tree", "liveness", "jumps", "functional"],
    ["ir"],
    ["ops"],
    ["tensor", "array", "random"],
    [{"transforms", "passes"}],
    ["lower"],
    ["backends"],
    ["compiled", "explain", "defn", "batching", "derivatives", "jacobians", "debug", "rules", "testing", "custom"],
    [{"nn", "optim", "data"}],
    ["__init__", "train"],
]

# Single files side by side in defnpy/ share a folder: on their own floor they may import each other, short of a cycle.
SAME_FOLDER = [
    {"errors", "source", "config", "dtypes", "shapes", "openblas", "tree", "liveness", "jumps", "functional"},
    {"compiled", "explain", "defn", "batching", "derivatives", "jacobians", "debug", "rules"},
]

# Packages that a function may import when it is called, so that `import defnpy` stays light.
LATE_PACKAGES = {"matplotlib", "rich", "hypothesis"}

# The functions that import a compiler at the last moment: (file, function), and why.
LATE_FUNCTIONS = {
    ("defnpy/defn.py", "load_backend"): "loads a backend on its first use",
    (
        "defnpy/backends/cpu/compile.py",
        "build",
    ): "LLVM and Numba, one of two renderers, come when they compile a kernel",
    ("defnpy/backends/cpu/compile.py", "_linked"): "the same: some kernels call helpers that Numba registers",
    ("defnpy/backends/cpu/machine.py", "_processor"): "LLVM knows the processor where the system does not say",
}

MAX_LINES = 500
# Longer files, each with the reason why it is still one idea.
LONG_FILES: dict[str, str] = {}


@dataclass(frozen=True)
class Import:
    """One arrow: ``file`` names ``target`` (dotted) at ``line``; ``function`` is "" at module level."""

    file: str
    line: int
    target: str
    function: str = ""
    type_only: bool = False


def module_of(file: str) -> str:
    """``defnpy/ir/__init__.py`` -> ``defnpy.ir``."""
    parts = list(Path(file).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: str, source: str, modules: set[str]) -> Iterator[Import]:
    """Every import in ``source``; ``from package import name`` is resolved to a module where one has that name."""
    package = module_of(file).split(".")
    if not file.endswith("__init__.py"):
        package = package[:-1]

    def walk(node: ast.AST, function: str, type_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, function, type_only)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                origin = ".".join([*base, *(child.module.split(".") if child.module else [])])
                for alias in child.names:
                    full = f"{origin}.{alias.name}"
                    yield Import(file, child.lineno, full if full in modules else origin, function, type_only)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, child.name, type_only)
            elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                for statement in child.body:
                    yield from walk(ast.Module([statement], []), function, True)
                for statement in child.orelse:
                    yield from walk(ast.Module([statement], []), function, type_only)
            else:
                yield from walk(child, function, type_only)

    yield from walk(ast.parse(source, file), "", False)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def place_of(room: str) -> tuple[int, int] | None:
    """Floor and position on it; None for a room that no floor knows."""
    for number, floor in enumerate(FLOORS):
        for position, entry in enumerate(floor):
            if room == entry or (isinstance(entry, set) and room in entry):
                return number, position
    return None


def floor_faults(sources: dict[str, str]) -> list[str]:
    """Arrows that run upward, or between rooms that must not know each other."""
    modules = {module_of(file) for file in sources}
    faults = []
    for file, source in sources.items():
        here = room_of(module_of(file))
        if place_of(here) is None:
            faults.append(f"{file}: {module_of(file)} stands on no floor; give it one in FLOORS and in the picture")
            continue
        for found in imports_of(file, source, modules):
            if found.target.split(".")[0] != PACKAGE or here == "__init__":
                continue
            there = room_of(found.target)
            where, target = place_of(here), place_of(there)
            if here == there or any(here in folder and there in folder for folder in SAME_FOLDER):
                continue
            if where is None or target is None or target >= where:
                faults.append(f"{file}:{found.line}: {module_of(file)} imports {found.target}, which is not below it")
    return faults


def cycles(sources: dict[str, str]) -> list[str]:
    """Import cycles between files, those inside one folder included (imports for type checkers only are no cycle)."""
    modules = {module_of(file) for file in sources}
    graph: dict[str, set[str]] = {module_of(file): set() for file in sources}
    for file, source in sources.items():
        for found in imports_of(file, source, modules):
            if found.target in modules and not found.type_only:
                graph[module_of(file)].add(found.target)
    faults = []
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        stack = [(start, iter(sorted(graph[start])))] if start not in done else []
        while stack:
            module, targets = stack[-1]
            if not path or path[-1] != module:
                path.append(module)
            for target in targets:
                if target in path:
                    ring = path[path.index(target) :]
                    first = ring.index(min(ring))  # the same cycle reads the same wherever the walk met it
                    faults.append(" imports ".join([*ring[first:], *ring[:first], ring[first]]))
                elif target not in done:
                    stack.append((target, iter(sorted(graph[target]))))
                    break
            else:
                done.add(module)
                path.pop()
                stack.pop()
    return faults


def late_faults(sources: dict[str, str]) -> list[str]:
    """Imports inside functions, beyond the optional packages and LATE_FUNCTIONS; dynamic imports."""
    modules = {module_of(file) for file in sources}
    faults = []
    for file, source in sources.items():
        for found in imports_of(file, source, modules):
            if not found.function or found.target.split(".")[0] in LATE_PACKAGES:
                continue
            if (file, found.function) not in LATE_FUNCTIONS:
                faults.append(f"{file}:{found.line}: {found.function}() imports {found.target} when it is called")
        for node in ast.walk(ast.parse(source, file)):
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                if name in ("__import__", "import_module"):
                    faults.append(f"{file}:{node.lineno}: {name} hides an import from this test")
    return faults


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    files = sorted((root / PACKAGE).rglob("*.py"))
    assert files
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def test_no_import_runs_upward(sources: dict[str, str]) -> None:
    faults = floor_faults(sources)
    assert not faults, "\n".join(faults)


def test_no_import_cycles(sources: dict[str, str]) -> None:
    faults = cycles(sources)
    assert not faults, "\n".join(faults)


def test_imports_stand_at_the_top(sources: dict[str, str]) -> None:
    faults = late_faults(sources)
    assert not faults, "\n".join(faults)


def test_late_functions_are_all_in_use(sources: dict[str, str]) -> None:
    modules = {module_of(file) for file in sources}
    used = {(f, found.function) for f, source in sources.items() for found in imports_of(f, source, modules)}
    assert set(LATE_FUNCTIONS) <= used


def test_no_utils(sources: dict[str, str]) -> None:
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert not [file for file in sources if Path(file).stem in vague]


def test_file_lengths(sources: dict[str, str]) -> None:
    lengths = {file: source.count("\n") for file, source in sources.items()}
    too_long = {file: n for file, n in lengths.items() if n > MAX_LINES and file not in LONG_FILES}
    assert not too_long, f"past {MAX_LINES} lines a file is usually two ideas: {too_long}"
    outdated = [file for file in LONG_FILES if lengths.get(file, 0) <= MAX_LINES]
    assert not outdated, f"no longer long, take them out of LONG_FILES: {outdated}"


def picture(page: str) -> dict[str, int]:
    """The files in the picture of docs/architecture.md, each with the floor under whose heading it stands."""
    block = page.split("<!-- the house -->", 1)[1].split("```", 2)[1]
    floor, files = -1, {}
    for line in block.splitlines()[1:]:
        heading = re.match(r"# +(\d+) ", line)
        if heading:
            floor = int(heading[1])
        elif line.startswith("  ") and not line.startswith("   "):
            files[f"{PACKAGE}/{line.split()[0]}"] = floor
    return files


def picture_faults(drawn: dict[str, int], files: set[str]) -> list[str]:
    """Files drawn but absent, present but not drawn, or drawn on another floor than the one FLOORS gives them."""
    faults = [f"{file} stands in the picture and not in the tree" for file in sorted(drawn.keys() - files)]
    faults += [f"{file} is missing from the picture" for file in sorted(files - drawn.keys())]
    for file in sorted(drawn.keys() & files):
        place = place_of(room_of(module_of(file)))
        if place is None or place[0] != drawn[file]:
            faults.append(f"{file} is drawn on floor {drawn[file]}, FLOORS says {place and place[0]}")
    return faults


def test_the_picture_is_true(sources: dict[str, str], root: Path) -> None:
    drawn = picture((root / "docs" / "architecture.md").read_text(encoding="utf-8"))
    inner = {file for file in sources if file.count("/") > 1 and file.endswith("/__init__.py")}
    faults = picture_faults(drawn, set(sources) - (inner - drawn.keys()))
    assert not faults, "\n".join(faults)


# --- planted faults: the checkers above must see them ---------------------------------------------------------------

CLEAN = {
    "defnpy/__init__.py": "from .tensor import Tensor\nfrom .defn import defn\n",
    "defnpy/errors.py": "",
    "defnpy/shapes.py": "import math\nfrom .errors import Mismatch\n",
    "defnpy/ir/__init__.py": "from .expr import Expr\n",
    "defnpy/ir/expr.py": "from ..shapes import broadcast\n",
    "defnpy/ops/__init__.py": "",
    "defnpy/ops/linear.py": "from ..ir import Expr, expr\n",
    "defnpy/tensor.py": "from .ops.linear import reshape\n",
    "defnpy/transforms/grad.py": "from ..ops import linear\n",
    "defnpy/passes/simplify.py": "from ..ir.expr import Expr\n",
    "defnpy/backends/__init__.py": "",
    "defnpy/backends/cpu.py": "import numba\n",
    "defnpy/defn.py": "def load_backend(name):\n    from .backends import cpu\n    return cpu\n",
    "defnpy/train/__init__.py": "from .. import defn\n\ndef plot():\n    from matplotlib import pyplot\n",
}


def planted(file: str, source: str) -> dict[str, str]:
    return {**CLEAN, file: CLEAN.get(file, "") + source}


def test_the_clean_house_passes() -> None:
    assert floor_faults(CLEAN) == cycles(CLEAN) == late_faults(CLEAN) == []


@pytest.mark.parametrize(
    ("file", "line", "upper"),
    [
        ("defnpy/shapes.py", "from .tensor import Tensor", "defnpy.tensor"),
        ("defnpy/shapes.py", "from . import ir", "defnpy.ir"),
        ("defnpy/errors.py", "import defnpy.ir.expr", "defnpy.ir.expr"),
        ("defnpy/ir/expr.py", "from ..ops.linear import reshape", "defnpy.ops.linear"),
        ("defnpy/ir/expr.py", "from .. import ops", "defnpy.ops"),
        ("defnpy/ops/linear.py", "def late():\n    from ..tensor import Tensor", "defnpy.tensor"),
        ("defnpy/ops/linear.py", "if TYPE_CHECKING:\n    from ..tensor import Tensor", "defnpy.tensor"),
        ("defnpy/ops/linear.py", "try:\n    import defnpy\nexcept ImportError: ...", "defnpy"),
        ("defnpy/passes/simplify.py", "from ..transforms.grad import vjp", "defnpy.transforms.grad"),
        ("defnpy/transforms/grad.py", "from ..passes import simplify", "defnpy.passes.simplify"),
        ("defnpy/defn.py", "from .train import main", "defnpy.train"),
    ],
)
def test_an_upward_import_is_caught(file: str, line: str, upper: str) -> None:
    faults = floor_faults(planted(file, f"\n{line}\n"))
    assert len(faults) == 1
    assert faults[0].startswith(file) and f"{module_of(file)} imports {upper}," in faults[0]


def test_a_room_on_no_floor_is_caught() -> None:
    assert "defnpy.attic" in floor_faults(planted("defnpy/attic.py", ""))[0]


def test_a_cycle_is_caught() -> None:
    assert cycles(planted("defnpy/errors.py", "from .shapes import broadcast\n")) == [
        "defnpy.errors imports defnpy.shapes imports defnpy.errors"
    ]
    three = {
        "defnpy/ir/a.py": "from . import b",
        "defnpy/ir/b.py": "from .c import x",
        "defnpy/ir/c.py": "def f():\n    from .a import y",
    }
    assert cycles({**CLEAN, **three}) == ["defnpy.ir.a imports defnpy.ir.b imports defnpy.ir.c imports defnpy.ir.a"]


@pytest.mark.parametrize(
    "line",
    [
        "def f():\n    import numba",
        "def f():\n    from .shapes import broadcast",
        "class A:\n    def f(self):\n        import json",
        "import importlib\nm = importlib.import_module('defnpy.ir')",
        "m = __import__('defnpy')",
    ],
)
def test_a_late_import_is_caught(line: str) -> None:
    assert len(late_faults(planted("defnpy/tensor.py", f"\n{line}\n"))) == 1


# --- what `import defnpy` brings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["numba", "llvmlite", "matplotlib", "rich", "jax", "scipy", "hypothesis"])
def test_importing_defnpy_stays_light(run_python, package: str) -> None:  # type: ignore[no-untyped-def]
    done = run_python("-c", f"import sys, defnpy; sys.exit({package!r} in sys.modules)")
    assert done.returncode == 0, f"import defnpy brings {package}\n{done.stderr}"


def test_a_false_picture_is_caught() -> None:
    page = """<!-- the house -->
```
defnpy/
# 0  knows nothing of tensors
  errors.py      exception classes
                 a second line about them
# 1  the IR
  ir/expr.py     one node
  attic.py       gone
  shapes.py      on the wrong floor
```
"""
    drawn = picture(page)
    assert drawn == {"defnpy/errors.py": 0, "defnpy/ir/expr.py": 1, "defnpy/attic.py": 1, "defnpy/shapes.py": 1}
    assert picture_faults(drawn, {"defnpy/errors.py", "defnpy/ir/expr.py", "defnpy/shapes.py", "defnpy/ir/op.py"}) == [
        "defnpy/attic.py stands in the picture and not in the tree",
        "defnpy/ir/op.py is missing from the picture",
        "defnpy/shapes.py is drawn on floor 1, FLOORS says 0",
    ]
