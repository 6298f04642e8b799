"""The acceptance figures of all pages beside those of the original programs: the table in RESULTS.md.

    python -m book_chapters.results                        run everything for seeds 0, 1 and 2: some half an hour
    python -m book_chapters.results ch04 ch05.buy_apple    run these again; the others keep what they had
    python -m book_chapters.results --show                 print the table of what was measured before

Every run is a process of its own, as a reader would start it. A page says itself what it must reach (``ACCEPTANCE``).
The numbers are kept in results.json beside the table.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defnpy.errors import DataError

from . import options
from .acceptance import Acceptance
from .pages import PACKAGE, Page, choose, discover
from .runner import REFUSED, exit_status, replacing_all

__all__ = ["main", "markdown", "measure"]

FOLDER = Path(__file__).parent
SEEDS = (0, 1, 2)
Results = dict[str, dict[str, Any]]  # page -> seed -> what the page's line of JSON holds


def main(words: Sequence[str]) -> int:
    """Run pages, keep and print the table; 1 where a figure is out of its range, 2 for what the user can mend."""
    return exit_status(lambda: _command(words))


def _command(words: Sequence[str]) -> int:
    parser = options.Parser(f"python -m {PACKAGE}.results", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CHAPTER|PAGE|all", help="what to run (default: all)")
    parser.add_argument("--seeds", type=options.natural, nargs="+", default=list(SEEDS), metavar="N")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="of RESULTS.md and results.json")
    given = parser.parse_args(words)
    pages = discover()
    results = load(given.out / "results.json")
    failed = False
    for page in [] if given.show else choose(given.names or ["all"], pages):
        try:
            results[page.name] = {str(seed): measure(page, seed) for seed in given.seeds}
        except DataError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
        save(given.out, results, pages)  # an interrupted run keeps what it has
    text = markdown(results, pages)
    print(text)
    return REFUSED if failed else int("| NO |" in text)


def measure(page: Page, seed: int) -> dict[str, Any]:
    """Run a page with its defaults in a fresh process; its closing JSON. Raises ``DataError`` where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    words = [sys.executable, "-m", f"{PACKAGE}.{page.name}", "--seed", str(seed)]
    done = subprocess.run(words, cwd=FOLDER.parent, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise DataError(f"{page.name} --seed {seed} ended with status {done.returncode}\n{done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{page.name} seed {seed}: {found['wall_s']:.1f} s", file=sys.stderr, flush=True)
    return found


def load(path: Path) -> Results:
    """What was kept; nothing where there is no file. Raises ``DataError`` for a file that is damaged."""
    try:
        found: Results = json.loads(path.read_text(encoding="utf-8"))["pages"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="remove it and run all pages again") from error
    return found


def save(folder: Path, results: Results, pages: Sequence[Page]) -> None:
    """Write results.json and RESULTS.md, pages that are no more left out."""
    known = {page.name for page in pages}
    kept = {name: results[name] for name in sorted(results) if name in known}
    with replacing_all(folder) as temporary:
        (temporary / "results.json").write_text(json.dumps({"pages": kept}, indent=1) + "\n", encoding="utf-8")
        (temporary / "RESULTS.md").write_text(markdown(kept, pages), encoding="utf-8")


def markdown(results: Results, pages: Sequence[Page]) -> str:
    """The page RESULTS.md: a table of figures for each chapter, and one of times."""
    seeds = sorted({seed for of_page in results.values() for seed in of_page}, key=int)
    lines = [
        "# The book's figures",
        "",
        "Written by `python -m book_chapters.results`, each page with its defaults in a process of its own;",
        f"{machine()}.",
        "The ranges stand in the pages (`ACCEPTANCE`). `original` is what the book's own program gives, for its seeds",
        "0, 1 and 2 where there are several numbers. `-` is a figure that needs the book's own weights.",
    ]
    for chapter in dict.fromkeys(page.chapter for page in pages):
        rows = [row for page in pages if page.chapter == chapter for row in _rows(page, results.get(page.name), seeds)]
        if rows:
            heads = "".join(f" seed {seed} |" for seed in seeds)
            lines += ["", f"## {chapter}", "", f"| page | figure | original | range |{heads} met |"]
            lines += ["|---|---|---|---|" + "---:|" * len(seeds) + "---|", *rows]
    lines += ["", "## Times", "", "Seconds of the slowest seed; compiled kernels may come from disk.", ""]
    lines += ["| page | wall s | CPU s | compile s | compilations |", "|---|---:|---:|---:|---:|"]
    total = 0.0
    for page in pages:
        if runs := list(results.get(page.name, {}).values()):
            wall, cpu, compiling = (max(run[name] for run in runs) for name in ("wall_s", "cpu_s", "compile_s"))
            programs = max(run["compilations"] for run in runs)
            total += wall
            lines.append(f"| {page.name} | {wall:.2f} | {cpu:.2f} | {compiling:.2f} | {programs} |")
    lines.append(f"| all | {total:.1f} | | | |")
    return "\n".join(lines) + "\n"


def _rows(page: Page, runs: dict[str, Any] | None, seeds: Sequence[str]) -> list[str]:
    rows = []
    for acceptance in getattr(page.load(), "ACCEPTANCE", ()) if runs else ():
        values = [(runs or {}).get(seed, {}).get("figures", {}).get(acceptance.figure) for seed in seeds]
        cells = "".join(f" {_text(value)} |" for value in values)
        start = f"| {page.name} | {acceptance.figure} | {acceptance.original} | {acceptance.range} |"
        rows.append(f"{start}{cells} {_met(acceptance, values)} |")
    return rows


def _met(acceptance: Acceptance, values: Sequence[Any]) -> str:
    present = [value for value in values if value is not None]
    return "-" if not present else "yes" if all(map(acceptance.met, present)) else "NO"


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)


def machine() -> str:
    """Processor, cores and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "llvmlite"))
    cores = f"{model or platform.processor()}, {os.cpu_count()} cores"
    return f"{datetime.date.today()}, {cores}, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
