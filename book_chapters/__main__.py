"""Pages of "Deep Learning from Scratch", by name.

python -m book_chapters                        list the pages
python -m book_chapters ch04 ch05.buy_apple    run a chapter and a page
python -m book_chapters all                    run everything
python -m book_chapters --quick                run everything, small and fast
python -m book_chapters.ch05.gradient_check    run one page, which has options of its own (--help)
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

from defnpy import RecompileWarning
from defnpy.errors import DefnpyError

from . import options
from .pages import Page, choose, discover
from .runner import REFUSED, Result, execute, exit_status


def main(words: Sequence[str]) -> int:
    """List or run pages; the exit status."""
    return exit_status(lambda: _command(words))


def _command(words: Sequence[str]) -> int:
    pages = discover()
    if not words or list(words) == ["list"]:
        _list(pages)
        return 0
    parser = options.Parser(f"python -m {__package__}", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CHAPTER|PAGE|all", help="what to run (default: all)")
    options.common(parser)
    given = vars(parser.parse_args(words))
    chosen = choose(given.pop("names") or ["all"], pages)
    iters = given.pop("iters")
    return _run(chosen, {} if iters is None else {"iters": iters}, given)


def _list(pages: Sequence[Page]) -> None:
    width = max(len(page.name) for page in pages)
    for page in pages:
        print(f"{page.name:{width}s}  {page.summary}")
    print(f"\nrun: python -m {__package__} NAME ...|all [--quick], or python -m {__package__}.NAME --help")


def _run(pages: Sequence[Page], own: dict[str, Any], common: dict[str, Any]) -> int:
    """Run pages one after the other; a page that fails stops none of the others."""
    results: list[Result | DefnpyError] = []
    began = time.perf_counter()
    for number, page in enumerate(pages, 1):
        print(f"\n=== [{number}/{len(pages)}] {page.name}: {page.summary}", flush=True)
        results.append(_result(page, own, common))
    width = max(len(page.name) for page in pages)
    print(f"\n{'page':{width}s}  wall s   CPU s  compile s  compilations")
    for page, result in zip(pages, results, strict=True):
        if isinstance(result, Result):
            cells = f"{result.wall_s:6.2f}  {result.cpu_s:6.2f}  {result.compile_s:9.2f}  {result.compilations:12d}"
        else:
            cells = f"FAILED: {result.what}"
        print(f"{page.name:{width}s}  {cells}")
    failed = sum(not isinstance(result, Result) for result in results)
    print(f"{len(pages)} pages in {time.perf_counter() - began:.1f} s" + (f", {failed} FAILED" if failed else ""))
    return REFUSED if failed else 0


def _result(page: Page, own: dict[str, Any], common: dict[str, Any]) -> Result | DefnpyError:
    try:
        module = page.load()
        settings = options.settings(module, own, common["quick"], alone=False)
        with warnings.catch_warnings():
            # Pages share functions, and each page has them for shapes and optimizers of its own: that is no mistake.
            warnings.simplefilter("ignore", RecompileWarning)
            result = execute(page.name, module.main, settings, **common)
    except DefnpyError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error
    print(result.json(), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
