"""What a run of the command has to tell, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .atomic import replacing

__all__ = ["Evaluation", "Result", "write_json"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracies, from 0 to 1, over the whole of both sets after so many iterations."""

    iteration: int
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Result:
    """settings: those of the command, iterations as a number.
    state: the trained parameters, and what else training changes.
    first_iteration: where this run began, above 0 for a resumed one; ``losses`` has one loss per iteration from there.
    evaluations: after every epoch and at the end.
    interrupted: whether Ctrl-C ended it.
    seconds: from the start of the command to the end of training and evaluation, without a check of the gradients.
    first_step_seconds: from the start of the command to the end of its first iteration: loading and compiling.
    images_per_second: images trained on per second, without that first iteration and without evaluation.
    """

    settings: Mapping[str, Any]
    state: Any
    first_iteration: int
    losses: list[float]
    evaluations: list[Evaluation]
    interrupted: bool
    seconds: float
    first_step_seconds: float
    images_per_second: float


def write_json(path: Path, result: Result) -> None:
    """Write everything but the state, with the last accuracies on top. Raises ``DataError`` if it cannot."""
    last = result.evaluations[-1]
    content = {
        "test_accuracy": last.test_accuracy,
        "train_accuracy": last.train_accuracy,
        "seconds": result.seconds,
        "first_step_seconds": result.first_step_seconds,
        "images_per_second": result.images_per_second,
        "interrupted": result.interrupted,
        "settings": dict(result.settings),
        "evaluations": [asdict(evaluation) for evaluation in result.evaluations],
        "first_iteration": result.first_iteration,
        "losses": result.losses,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
