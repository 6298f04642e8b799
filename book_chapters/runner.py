"""Running a page: what its ``main`` gets, what it leaves behind, and how a run ends.

A page is a module with a docstring, a function ``main(run, *, setting=default, ...)`` and, as data,

    OPTIONS = {"setting": "what it means"}         its own options, beside those that all pages have
    QUICK = {"setting": value}                     its settings under --quick
    ACCEPTANCE = (Acceptance("figure", low, high, original="..."),)

``main`` prints the book's lines by ``run.say``, reports figures by ``run.figure``, curves by ``run.curve`` and pictures
by ``run.picture``. Files are written when it has ended well, all or none; the last line is JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import defnpy as dp
from defnpy.data import mnist
from defnpy.errors import ConfigError, DataError, DefnpyError

from . import options

__all__ = ["Result", "Run", "execute", "exit_status", "study"]

FAILED = 1
REFUSED = 2
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

SIZE = (28, 28)

Draw = Callable[[Any], None]


class Run:
    """What a page's ``main`` is given: the common options, and where its results go.

    seed, quick, plot, out (a folder or None), data_dir: as asked for on the command line; dtype: float32 if not.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        quick: bool = False,
        dtype: str | None = None,
        plot: bool = False,
        out: Path | None = None,
        data_dir: Path | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.seed = seed
        self.quick = quick
        self._dtype = dtype
        self.plot = plot
        self.out = out
        self.data_dir = data_dir
        self.figures: dict[str, Any] = {}
        self.curves: dict[str, dict[str, Sequence[Any]]] = {}
        self.pictures: dict[str, Draw] = {}
        self._echo = echo if echo is not None else lambda text: print(text, flush=True)

    @property
    def dtype(self) -> Any:
        """The dtype to compute in: as asked for, else float32."""
        return self.dtype_or(dp.float32)

    def dtype_or(self, default: Any) -> Any:
        """The dtype that was asked for, else ``default``: pages that check gradients compute in float64."""
        return default if self._dtype is None else options.DTYPES[self._dtype]

    @property
    def key(self) -> dp.Tensor:
        """The random key of the seed; split it."""
        return dp.random.key(self.seed)

    def say(self, text: object = "") -> None:
        """Print a line."""
        self._echo(str(text))

    def figure(self, name: str, value: Any) -> None:
        """Report a number (anything ``float`` takes, integers staying integers) under a name."""
        value = value if isinstance(value, (int, str)) else float(value)
        self.figures[name] = value

    def curve(self, columns: Mapping[str, Sequence[Any]], name: str = "") -> None:
        """Keep columns of equal length for the file PAGE.csv, or PAGE.name.csv."""
        columns = {title: [getattr(v, "item", lambda v=v: v)() for v in column] for title, column in columns.items()}
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: { {t: len(c) for t, c in columns.items()} }")
        self.curves[name] = columns

    def picture(self, draw: Draw, name: str = "") -> None:
        """Keep ``draw(figure)``, which draws on a matplotlib figure, for PAGE.png or PAGE.name.png."""
        self.pictures[name] = draw

    def mnist(self, *, least: int = 1, any_size: bool = False) -> mnist.Mnist:
        """The images and labels, as bytes.

        least: as many training images must be there. any_size: the page takes other images than 28x28 too. Raises
        ``DataError`` where a folder that the reader named holds something else.
        """
        data = mnist.load(self.data_dir)
        count, *size = data.train_images.shape
        if tuple(size) != SIZE and not any_size:
            raise DataError(f"{self.data_dir}: images of {size[0]}x{size[1]}; the net of this page takes 28x28")
        if count < least:
            raise DataError(f"{self.data_dir}: {count} training images; this page takes {least}")
        return data

    def write(self) -> list[Path]:
        """Write the files that were asked for, each whole; returns their paths."""
        if self.out is None and not self.plot:
            return []
        folder = self.out if self.out is not None else Path()
        with replacing_all(folder) as temporary:
            for name, columns in self.curves.items():
                lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
                (temporary / f"{self._stem(name)}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            if self.plot:
                for name, draw in self.pictures.items():
                    _draw(draw, temporary / f"{self._stem(name)}.png")
            return sorted(folder / path.name for path in temporary.iterdir())

    def _stem(self, name: str) -> str:
        return f"{self.name}.{name}" if name else self.name


@contextlib.contextmanager
def replacing_all(folder: Path) -> Iterator[Path]:
    """A temporary folder; when the block ends well, its files are moved into ``folder``. Otherwise nothing is changed.

    Raises ``DataError`` where ``folder`` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield temporary
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw(draw: Draw, path: Path) -> None:
    from matplotlib.figure import Figure  # without pyplot: no display, no state left behind

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=100)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run of a page tells. compile_s is part of wall_s; compilations counts the programs compiled for calls."""

    script: str
    seed: int
    figures: dict[str, Any]
    cpu_s: float
    wall_s: float
    compile_s: float
    compilations: int

    def json(self) -> str:
        """One line of JSON; numbers that JSON cannot hold (NaN, infinity) as text."""
        return json.dumps({key: _plain(value) for key, value in dataclasses.asdict(self).items()}, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def execute(
    name: str, main: Callable[..., None], settings: Mapping[str, Any], *, backend: str | None = None, **common: Any
) -> Result:
    """Run a page's ``main`` and write its files. Raises ``DefnpyError`` for what its user can mend."""
    if common.get("plot") and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib, which is not installed", hint="pip install 'defnpy[plot]'")
    run = Run(name, **common)
    if run.out is not None:
        above = next(folder for folder in (run.out, *run.out.absolute().parents) if folder.exists())
        if not above.is_dir():
            raise ConfigError(f"--out {run.out}: not a folder", hint="name a folder; it is made where there is none")
        if not os.access(above, os.W_OK):  # told before the training, not after it
            raise ConfigError(f"--out {run.out}: cannot be written")
    wall, cpu, compiled = time.perf_counter(), time.process_time(), dp.compilations()
    with dp.config(backend=backend) if backend else contextlib.nullcontext():
        main(run, **settings)
    now = dp.compilations()
    result = Result(
        script=name,
        seed=run.seed,
        figures=run.figures,
        cpu_s=round(time.process_time() - cpu, 3),
        wall_s=round(time.perf_counter() - wall, 3),
        compile_s=round(now.seconds - compiled.seconds, 3),
        compilations=now.programs - compiled.programs,
    )
    for path in run.write():
        run.say(f"written: {path}")
    return result


def study(main: Callable[..., None], words: Sequence[str] | None = None) -> None:
    """Run the page that ``main`` belongs to, as a program: ``if __name__ == "__main__": study(main)``.

    Exits with status 2 and one message for what the user can mend: an unknown option, missing data, a diverging run.
    """
    module = sys.modules[main.__module__]
    spec = module.__spec__
    assert spec is not None, "run it as a module: python -m book_chapters.CHAPTER.PAGE"
    name = spec.name.partition(".")[2]

    def run() -> int:
        given, settings = options.parse(f"python -m {spec.name}", module, sys.argv[1:] if words is None else words)
        result = execute(name, main, settings, **given)
        for acceptance in getattr(module, "ACCEPTANCE", ()):
            if settings == options.own(module) and acceptance.figure in result.figures:
                value = result.figures[acceptance.figure]
                word = "in" if acceptance.met(value) else "NOT in"
                print(f"{acceptance.figure} {value:.6g} {word} {acceptance.range} (original: {acceptance.original})")
        print(result.json(), flush=True)
        return 0

    sys.exit(exit_status(run))


def exit_status(run: Callable[[], int]) -> int:
    """Call ``run``; its status, or one message and 2 for what the user can mend, 130 after Ctrl-C, 1 if cut off."""
    try:
        return run()
    except DefnpyError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our lines has left (``| head``). What is still buffered must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
