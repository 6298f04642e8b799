"""The command line of ``python -m defnpy.train``: options, their meaning, and errors as one message."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..config import BACKENDS, current
from ..errors import ConfigError, DataError, TrainingError
from . import checkpoint, plot
from .command import Command, execute
from .net import Net
from .nets import NETS
from .options import natural, one_of, positive_integer, positive_number

__all__ = ["main"]

PROGRAM = "python -m defnpy.train"
UNREAD = 1
REFUSED = 2
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

EXAMPLES = (
    ("--epochs 3 --save run.npz", "parameters and settings, after every epoch"),
    ("--resume run.npz --epochs 6", "go on, to the same bits as without the pause"),
    ("--json run.json --plot run.png", "curves, as numbers and as a picture"),
    ("--data-dir ~/fashion-mnist", "any folder of IDX files named as MNIST's"),
)


class _Parser(argparse.ArgumentParser):
    """Raises its errors, so that they are printed as every other one is."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, hint=f"see {self.prog} --help")


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status: 0, 2 for an error that the user can mend, 130 after Ctrl-C, 1 if cut off."""
    started = time.perf_counter()
    try:
        command = parse(arguments)
        result = execute(command, started)
    except (ConfigError, DataError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; nothing is saved", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our lines has left (``| head``). What is still buffered must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return INTERRUPTED if result.interrupted else 0


def parse(arguments: Sequence[str]) -> Command:
    """Understand the words after the program's name. Raises ``ConfigError`` or ``DataError``.

    Settings are, each before the next: what was given, what a resumed run had, the net's defaults.
    """
    net = _choose(arguments)
    given = vars(_parser(net).parse_args(arguments[1:]))
    epochs, resume, save, json, picture, check_gradients = (
        given.pop(name) for name in ("epochs", "resume", "save", "json", "plot", "check_gradients")
    )
    settings = {"lr": None, **net.common, "seed": 0, "data_dir": None, "backend": current().backend, **net.own}
    saved = None
    if resume is not None:
        saved = checkpoint.load(resume)
        _check_resumable(resume, saved, net, given)
        settings |= saved.settings
    settings |= given
    if settings["lr"] is None:
        settings["lr"] = net.rate(settings)
    for option, path in (("--save", save), ("--json", json), ("--plot", picture)):
        if path is not None:
            _check_writable(option, path)
    if picture is not None:
        plot.require(picture)
    return Command(
        net=net,
        settings={"net": net.name, **settings},
        epochs=epochs,
        resume=None if saved is None else (resume, saved),
        save=save,
        json=json,
        plot=picture,
        check_gradients=check_gradients,
    )


def _choose(arguments: Sequence[str]) -> Net:
    """The net named by the first word."""
    first = arguments[0] if arguments else ""
    if first in NETS:
        return NETS[first]
    if first in ("-h", "--help", "--list"):
        _overview().parse_args(arguments[:1])
    known = ", ".join(sorted(NETS))
    if not first or first.startswith("-"):
        raise ConfigError("which net? its name comes first", hint=f"{PROGRAM} NET [options], where NET is {known}")
    near = difflib.get_close_matches(first, NETS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {known}"
    raise ConfigError(f"unknown net {first!r}", hint=hint)


class _List(argparse.Action):
    """Print the nets, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(_nets())
        parser.exit()


def _nets() -> str:
    return "\n".join(f"{net.name:18s} {net.summary}" for net in NETS.values())


def _overview() -> argparse.ArgumentParser:
    name = next(iter(NETS))
    parser = argparse.ArgumentParser(
        PROGRAM,
        usage=f"{PROGRAM} NET [options]",
        description="Train a net on images of digits.",
        epilog="\n".join(
            ["nets:", textwrap.indent(_nets(), "  "), "", f"{PROGRAM} NET --help lists the options of a net.", ""]
        )
        + _examples(f"{PROGRAM} {name}", EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action=_List, nargs=0, help="list the nets, and exit")
    return parser


def _examples(program: str, examples: Sequence[tuple[str, str]]) -> str:
    width = max(len(options) for options, _ in examples)
    return "\n".join(["examples:", *(f"  {program} {options:{width}s}  {aim}".rstrip() for options, aim in examples)])


def _parser(net: Net) -> argparse.ArgumentParser:
    program = f"{PROGRAM} {net.name}"
    parser = _Parser(
        program,
        description=f"Train {net.name}: {net.summary}.",
        epilog=_examples(program, (("", f"{net.common['iterations']:,} batches"), *net.examples, *EXAMPLES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    common = net.common

    def setting(group: Any, *names: str, **options: Any) -> None:
        # Absent unless given, so that a resumed run's own setting can stand in between.
        group.add_argument(*names, default=argparse.SUPPRESS, **options)

    net.add_options(parser.add_argument_group("the net"))
    training = parser.add_argument_group("training")
    length = training.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=positive_integer, metavar="N", help="stop after so many times (training images / batch size)"
    )
    setting(
        length,
        "--iterations",
        type=positive_integer,
        metavar="N",
        help=f"stop after so many batches (default: {common['iterations']})",
    )
    setting(
        training,
        "--batch-size",
        type=positive_integer,
        metavar="N",
        help=f"images per iteration, drawn with replacement (default: {common['batch_size']})",
    )
    rates = net.lr if isinstance(net.lr, float) else ", ".join(f"{name} {rate}" for name, rate in net.lr.items())
    setting(training, "--lr", type=positive_number, metavar="RATE", help=f"learning rate (default: {rates})")
    setting(training, "--seed", type=natural, metavar="N", help="of the weights and the batches (default: 0)")
    setting(
        training,
        "--backend",
        type=one_of(*BACKENDS),
        metavar=f"{{{','.join(BACKENDS)}}}",
        help="compiled kernels, or NumPy operation by operation (default: cpu, or DEFNPY_BACKEND)",
    )
    files = parser.add_argument_group("files")
    setting(files, "--data-dir", metavar="FOLDER", help="four IDX files (default: the MNIST in the package)")
    files.add_argument("--save", type=Path, metavar="FILE", help="write parameters and settings, as .npz")
    files.add_argument("--resume", type=Path, metavar="FILE", help="continue a saved run, with its settings")
    files.add_argument("--json", type=Path, metavar="FILE", help="write accuracies, times, losses and settings")
    files.add_argument("--plot", type=Path, metavar="FILE", help="draw losses and accuracies (.png, .pdf or .svg)")
    parser.add_argument(
        "--check-gradients", action="store_true", help="first hold automatic gradients against numerical ones"
    )
    return parser


def _check_resumable(path: Path, saved: checkpoint.Checkpoint, net: Net, given: dict[str, Any]) -> None:
    """Refuse what cannot be changed midway: the net, what makes up its parameters, the source of its batches."""
    if saved.settings.get("net") != net.name:
        begun = saved.settings.get("net")
        raise ConfigError(
            f"{path} holds a run of {begun}, not of {net.name}", hint=f"python -m defnpy.train {begun} --resume {path}"
        )
    for name in (*net.own, "seed"):
        if name in given and given[name] != saved.settings.get(name):
            raise ConfigError(
                f"--{name.replace('_', '-')} {given[name]}: {path} was begun with {saved.settings.get(name)}",
                hint="leave that option out to continue the run, or leave --resume out to begin another",
            )


def _check_writable(option: str, path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"{option} {path}: that is a folder", hint="name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}", hint="make it first")
