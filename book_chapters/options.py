"""The options of a page: those that all pages have, and the keyword parameters of its ``main``."""

from __future__ import annotations

import argparse
import difflib
import inspect
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import defnpy as dp
from defnpy.errors import ConfigError

__all__ = ["Parser", "common", "natural", "own", "settings"]

BACKENDS = ("cpu", "reference")
DTYPES = {"f32": dp.float32, "f64": dp.float64}


class Parser(argparse.ArgumentParser):
    """Raises its errors as ``ConfigError``, so that they are printed as every other one is; names near options."""

    def __init__(self, program: str, **settings: Any) -> None:
        super().__init__(program, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise it, with the options that look like the unknown ones."""
        unknown = re.findall(r"(--[\w-]+)", message) if message.startswith("unrecognized arguments") else []
        known = {o.removeprefix("--"): o for a in self._actions for o in a.option_strings if o.startswith("--")}
        words = [word.removeprefix("--") for word in unknown]  # the dashes are alike in all
        near = [known[name] for word in words for name in difflib.get_close_matches(word, known, n=2, cutoff=0.6)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"see {self.prog} --help"
        raise ConfigError(message.replace("unrecognized arguments", "unknown option"), hint=hint)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _integer(text, 0)


def positive(text: str) -> int:
    """A whole number from 1."""
    return _integer(text, 1)


def _integer(text: str, low: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low}, not {text!r}")
    return value


def number(text: str) -> float:
    """A finite number."""
    return _float(text, -math.inf, "a number")


def rate(text: str) -> float:
    """A finite number above 0."""
    return _float(text, 0.0, "a number above 0")


def _float(text: str, low: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"expected {' or '.join(words)}, not {text!r}")
        return text

    return read


def common(parser: Parser) -> None:
    """Add the options that every page has."""
    group = parser.add_argument_group("every page")
    group.add_argument("--seed", type=natural, default=0, metavar="N", help="of all random numbers (default: 0)")
    group.add_argument("--iters", type=positive, metavar="N", help="iterations, where the page has any")
    group.add_argument("--quick", action="store_true", help="small and fast: does it work?")
    group.add_argument(
        "--dtype", type=_one_of(*DTYPES), metavar="{f32,f64}", help="default: f32; f64 to check gradients"
    )
    group.add_argument(
        "--backend",
        type=_one_of("cpu", "reference"),
        metavar="{cpu,reference}",
        help="compiled kernels, or NumPy (default: cpu)",
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="write curves as CSV there")
    group.add_argument("--plot", action="store_true", help="draw them too, as PNG (needs matplotlib; DIR or here)")
    group.add_argument("--data-dir", type=Path, metavar="FOLDER", help="other IDX files than the package's MNIST")


def own(module: ModuleType) -> dict[str, Any]:
    """The settings that a page has for itself: the keyword parameters of its ``main``, with their defaults."""
    parameters = inspect.signature(module.main).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def add_own(parser: Parser, module: ModuleType) -> None:
    """Add an option for each own setting of a page; what they mean stands in its ``OPTIONS``."""
    meanings = getattr(module, "OPTIONS", {})
    group = parser.add_argument_group("this page")
    for name, default in own(module).items():
        if name == "iters":
            continue
        option = f"--{name.replace('_', '-')}"
        meaning = meanings.get(name, "")
        if isinstance(default, bool):
            group.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=meaning)
        else:
            shown = f"{meaning} (default: {default})" if default != "" else meaning
            kind = {int: positive, float: rate if name == "lr" else number}.get(type(default), type(default))
            group.add_argument(option, type=kind, default=argparse.SUPPRESS, metavar=name.upper(), help=shown)


def settings(module: ModuleType, given: dict[str, Any], quick: bool, *, alone: bool = True) -> dict[str, Any]:
    """The page's own settings: what was given, before what it takes under ``--quick``, before its defaults.

    A page without iterations refuses ``iters`` when it is run alone; among others it passes over it.
    """
    defaults = own(module)
    chosen = {**defaults, **(getattr(module, "QUICK", {}) if quick else {})}
    for name, value in given.items():
        if name == "iters" and "iters" not in defaults:
            if alone:
                raise ConfigError("--iters: this page has no iterations", hint="leave the option away")
            continue
        chosen[name] = value
    return chosen


def parse(program: str, module: ModuleType, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The words after a page's name: (common options, the page's own settings). Raises ``ConfigError``."""
    parser = Parser(program, description=module.__doc__)
    common(parser)
    add_own(parser, module)
    given = vars(parser.parse_args(words))
    mine = {name: given.pop(name) for name in own(module) if name in given and name != "iters"}
    iters = given.pop("iters")
    if iters is not None:
        mine["iters"] = iters
    return given, settings(module, mine, given["quick"])
