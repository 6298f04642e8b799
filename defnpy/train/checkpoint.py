"""The state of training and its settings in one .npz file, so that both are replaced in one move."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import defnpy as dp

from ..errors import DataError
from .atomic import replacing

__all__ = ["Checkpoint", "load", "restore", "save"]

_SETTINGS = "settings"
_STEP = re.compile(r"\['([^']*)'\]|\[(\d+)\]|\.(\w+)")


class Checkpoint(NamedTuple):
    """iteration: how many are done. settings: those of the command. arrays: the state by name."""

    iteration: int
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]


def save(path: Path, state: Any, iteration: int, settings: Mapping[str, Any]) -> None:
    """Write the tensors of the state, each under its name in its container, iteration and settings as JSON beside them.

    NumPy reads the file back: ``np.load(path)["W1"]``, ``json.loads(str(np.load(path)["settings"]))``.
    Raises ``DataError`` where the file cannot be written; an older file is then untouched.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in zip(_names(state), dp.tree.leaves(state), strict=True)}
    arrays[_SETTINGS] = np.array(json.dumps({"iteration": iteration, **settings}))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # taken for the flag allow_pickle, which is no array's name
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> Checkpoint:
    """Read what :func:`save` wrote. Raises ``DataError`` for a file that is missing, damaged or of another kind."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as entries:
            arrays = {name: entries[name] for name in entries.files}
        settings = json.loads(str(arrays.pop(_SETTINGS)))
        iteration = settings.pop("iteration")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="expected a file written by --save") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        # What a foreign or damaged file makes NumPy, zipfile and json raise; one message serves the user for all.
        raise DataError(f"{path}: not a saved run", hint="expected a file written by --save") from error
    return Checkpoint(iteration, settings, arrays)


def restore(arrays: Mapping[str, np.ndarray], like: Any, path: Path) -> Any:
    """The arrays as tensors in the container ``like``. Raises ``DataError``, naming ``path``, where they do not fit."""
    names, (leaves, structure) = _names(like), dp.tree.flatten(like)
    expected = {name: (tuple(leaf.shape), np.asarray(leaf).dtype) for name, leaf in zip(names, leaves, strict=True)}
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise DataError(
                f"{path}: {name} is {_describe(found.get(name))}",
                hint=f"for this net and this data it must be {_describe(expected.get(name))}",
            )
    return dp.tree.unflatten(structure, [dp.asarray(arrays[name]) for name in names])


def _names(params: Any) -> list[str]:
    """``W1`` for params['W1'], ``adam/m/W1`` for params['adam'].m['W1'], ``layers/0`` for params['layers'][0]."""
    return ["/".join(step[step.lastindex or 0] for step in _STEP.finditer(path)) for path in dp.tree.paths(params)]


def _describe(array: tuple[tuple[int, ...], np.dtype[Any]] | None) -> str:
    return "absent" if array is None else f"{array[1].name} of shape {array[0]}"
