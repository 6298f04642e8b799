"""One run of the training command, its options already understood."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import defnpy as dp

from ..data import mnist
from ..defn import load_backend
from ..errors import ConfigError
from . import checkpoint, plot
from .dataset import Dataset, from_mnist
from .interrupt import Interrupt
from .loop import accuracy, run
from .net import Model, Net
from .progress import progress
from .result import Evaluation, Result, write_json

__all__ = ["Command", "execute"]

CHECKED_IMAGES, CHECKED_ELEMENTS = 3, 50_000
SAMPLED_IMAGES, SAMPLES = 8, 32  # batch norm needs several images
SHOWN_LOSSES = 100


@dataclass(frozen=True)
class Command:
    """settings: all of them by name. epochs: given instead of ``settings["iterations"]``, or None.
    resume: what to continue, and the file it came from. The other fields are options of the same name.
    """

    net: Net
    settings: dict[str, Any]
    epochs: int | None
    resume: tuple[Path, checkpoint.Checkpoint] | None
    save: Path | None
    json: Path | None
    plot: Path | None
    check_gradients: bool


def execute(command: Command, started: float) -> Result:
    """Load, train, evaluate, write. ``started`` is the ``time.perf_counter()`` that durations count from;
    the gradient check is left out of them.

    Raises ``DataError``, ``ConfigError`` and ``TrainingError`` for what the user can mend.
    """
    # A loss that overflows is reported once, by the loop; NumPy's warnings about its steps would only bury that.
    with dp.config(backend=command.settings["backend"]), np.errstate(all="ignore"):
        prepared = _prepare(command)
        if command.check_gradients:
            began = time.perf_counter()
            print(_gradient_check(prepared.model, prepared.state, prepared.dataset), flush=True)
            started += time.perf_counter() - began
        print(_heading(prepared.settings, prepared.dataset, prepared.start), flush=True)
        result = _train(command, prepared, started)
    if command.json is not None:
        write_json(command.json, result)
    if command.plot is not None:
        plot.plot(command.plot, result)
    return result


@dataclass(frozen=True)
class _Prepared:
    """Everything that the loop needs: iterations ``start`` to ``stop``, ``epoch`` of them to an epoch."""

    model: Model
    dataset: Dataset
    state: Any
    batch_key: dp.Tensor
    start: int
    stop: int
    epoch: int
    settings: dict[str, Any]


def _prepare(command: Command) -> _Prepared:
    with ThreadPoolExecutor(1) as reader:
        # Decompressing needs no interpreter, which imports the compiler meanwhile.
        data = reader.submit(mnist.load, command.settings["data_dir"])
        load_backend(command.settings["backend"])
        dataset = from_mnist(data.result())
    model = command.net.build(command.settings, dataset.size)
    init_key, batch_key = dp.random.split(dp.random.key(command.settings["seed"]), 2)
    state = model.init(init_key)
    epoch = max(1, dataset.images.shape[0] // command.settings["batch_size"])
    stop = command.settings["iterations"] if command.epochs is None else command.epochs * epoch
    start = 0
    if command.resume is not None:
        path, saved = command.resume
        start, state = saved.iteration, checkpoint.restore(saved.arrays, state, path)
        if start >= stop:
            raise ConfigError(
                f"{path}: {start} iterations are done, of {stop}",
                hint=f"ask for more to continue, --iterations {start + 10 * epoch} for one",
            )
    return _Prepared(model, dataset, state, batch_key, start, stop, epoch, {**command.settings, "iterations": stop})


def _train(command: Command, prepared: _Prepared, started: float) -> Result:
    model, dataset, epoch, settings = prepared.model, prepared.dataset, prepared.epoch, prepared.settings
    losses: list[float] = []
    evaluations: list[Evaluation] = []
    first_step_seconds = training_seconds = rate = 0.0
    training = run(
        model,
        dataset,
        prepared.state,
        prepared.batch_key,
        start=prepared.start,
        stop=prepared.stop,
        epoch=epoch,
        lr=settings["lr"],
    )
    with Interrupt() as interrupt, progress(prepared.stop, prepared.start) as shown:
        for block in training:
            losses += block.losses
            if len(losses) == 1:
                first_step_seconds = time.perf_counter() - started
            else:
                training_seconds += block.seconds
                rate = settings["batch_size"] * (len(losses) - 1) / training_seconds
            loss = _mean(losses[-SHOWN_LOSSES:])
            shown.update(block.done, loss, rate)
            if block.done % epoch and block.done < prepared.stop and not interrupt.requested:
                continue
            if command.save is not None:
                checkpoint.save(command.save, block.state, block.done, settings)
            evaluation = Evaluation(
                block.done,
                accuracy(model, block.state, dataset.train_parts),
                accuracy(model, block.state, dataset.test_parts),
            )
            evaluations.append(evaluation)
            shown.line(_line(evaluation, epoch, loss))
            if interrupt.requested:
                break
    seconds = time.perf_counter() - started
    if interrupt.requested:
        print(_farewell(block.done, command.save))
    elif command.save is not None:
        print(f"saved to {command.save}")
    accuracy_text = f"test accuracy {evaluation.test_accuracy:.4f}"
    print(f"{accuracy_text}, first step after {first_step_seconds:.2f} s, {rate:,.0f} images/s", flush=True)
    return Result(
        settings=settings,
        state=block.state,
        first_iteration=prepared.start,
        losses=losses,
        evaluations=evaluations,
        interrupted=interrupt.requested,
        seconds=seconds,
        first_step_seconds=first_step_seconds,
        images_per_second=rate,
    )


def _gradient_check(model: Model, state: Any, dataset: Dataset) -> str:
    """Numerical against automatic gradients for a few images, in float64: in float32 the former is mostly noise.

    Of a large net some elements of each parameter: all of them would take hours.
    """
    params = model.parameters(state)
    count = sum(leaf.size for leaf in dp.tree.leaves(params))
    samples, shown = (None, CHECKED_IMAGES) if count <= CHECKED_ELEMENTS else (SAMPLES, SAMPLED_IMAGES)
    images, labels = dataset.images[:shown], dataset.labels[:shown]
    report = dp.testing.gradient_report(dp.defn(lambda p: model.loss(p, images, labels)), (params,), samples=samples)
    return f"gradients of the loss of the first {shown} images\n{report}\n"


def _heading(settings: Mapping[str, Any], dataset: Dataset, start: int) -> str:
    shown = ", ".join(f"{name} {value}" for name, value in settings.items() if name not in ("net", "data_dir"))
    counts = f"{dataset.images.shape[0]:,} images to train on, {_count(dataset.test_parts):,} to test"
    return f"{settings['net']}: {shown}\n{counts}" + (f", continuing after iteration {start:,}" if start else "")


def _line(evaluation: Evaluation, epoch: int, loss: float) -> str:
    epochs = evaluation.iteration / epoch
    return (
        f"iteration {evaluation.iteration:6d}  epoch {epochs:5.1f}  loss {loss:.4f}  "
        f"train accuracy {evaluation.train_accuracy:.4f}  test accuracy {evaluation.test_accuracy:.4f}"
    )


def _farewell(done: int, save: Path | None) -> str:
    if save is None:
        return f"interrupted after iteration {done}; nothing is saved, as no --save was given"
    return f"interrupted after iteration {done}; saved to {save}: --resume {save} continues from there"


def _count(parts: list[Any]) -> int:
    return sum(labels.shape[0] for _, labels in parts)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
