"""Section 8.1: a deep convolutional net, and what it has learned.

    16 - 16 - P - 32 - 32 - P - 64 - 64 - P - affine 50 - relu - dropout - affine 10 - dropout

Six convolutions of 3x3, each with relu, three pools of 2x2: two small filters one after the other see as far as a large
one, with fewer weights and one bend more. The fourth pads by 2, so that sides of 7 become 8 and can be halved. Weights
start from N(0, 2 / inputs), which is He's width for relu.

The last dropout takes scores away, which no other net does: the training loss stays near 1 while the test accuracy goes
to 99 %. It is the book's, and so it is here.

The book's file of weights is not the book's any more, as in chapter 7, and it is not used here. This page judges our
own, ``deep_convnet_params.npz``, which ``ch08.train_deepnet`` made.

In defnpy the net is a function of its parameters, dropout takes a key, and whether the net trains is static: what it
computes after training is another program, without keys.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import defnpy as dp
from book_chapters.acceptance import Acceptance, near
from book_chapters.ch07.simple_convnet import as_images
from book_chapters.common import functions, layers
from book_chapters.common.data import load_npz
from book_chapters.common.trainer import accuracy
from book_chapters.runner import Run, study

__all__ = ["LAYERS", "OURS", "PART", "init", "layer", "load", "loss", "predict", "scores"]

OURS = Path(__file__).with_name("deep_convnet_params.npz")
OPTIONS = {"images": "how many of the test images"}
QUICK = {"images": 1000}
ACCEPTANCE = (
    Acceptance("parameters", 123_552, 123_552, original="123552"),
    near("test accuracy", 0.9918, 0.0001, original="0.9935, and .9797 since 2022"),
)

FILTERS = (16, 16, 32, 32, 64, 64)
PADDING = (1, 1, 1, 2, 1, 1)
WINDOW, POOL, HIDDEN, CLASSES = 3, 2, 50, 10
AFTER_POOLS = 64 * 4 * 4  # of images of 28x28
LAYERS = len(FILTERS) + 2
RATIO = 0.5
PART = 250  # images at a time: what lies between two layers then fits the caches

Params = dict[str, dp.Tensor]


def init(key: dp.Tensor, dtype: Any = "float32") -> Params:
    """Weights W1 ... W8 from N(0, 2 / inputs of a unit) (He), biases 0: 123,552 numbers."""
    channels = (1, *FILTERS)
    shapes: list[tuple[int, ...]] = [(n, m, WINDOW, WINDOW) for m, n in zip(channels, FILTERS, strict=False)]
    shapes += [(AFTER_POOLS, HIDDEN), (HIDDEN, CLASSES)]
    params = {}
    for i, shape in enumerate(shapes, 1):
        inputs, units = (math.prod(shape[1:]), shape[0]) if len(shape) == 4 else shape
        params[f"W{i}"] = math.sqrt(2 / inputs) * dp.random.normal(dp.random.fold_in(key, i), shape, dtype=dtype)
        params[f"b{i}"] = dp.zeros((units,), dtype=dtype)
    return params


def layer(params: Params, x: Any, *, number: int) -> Any:
    """Layer 1 to 8 of x, without dropout: convolution and relu, each second one pooled; affine and relu; affine."""
    W, b = params[f"W{number}"], params[f"b{number}"]
    if number <= len(PADDING):
        x = dp.relu(dp.conv(x, W, padding=PADDING[number - 1]) + b[:, None, None])
        return dp.max_pool(x, POOL) if number % 2 == 0 else x
    x = layers.affine(x, W, b)
    return dp.relu(x) if number < LAYERS else x


def predict(params: Params, key: Any, x: Any, *, train: bool) -> Any:
    """Scores (N, 10) of images (N, 1, 28, 28). ``key`` chooses what dropout takes away in training."""
    for number in range(1, LAYERS + 1):
        x = layer(params, x, number=number)
        if number > len(PADDING):
            x = layers.dropout(dp.random.fold_in(key, number) if train else None, x, ratio=RATIO, train=train)
    return x


def loss(params: Params, key: Any, x: Any, t: Any) -> Any:
    """Mean cross-entropy in training, with what the key takes away."""
    return functions.cross_entropy_with_logits(predict(params, key, x, train=True), t)


@dp.defn
def scores(params: Params, images: dp.Tensor) -> dp.Tensor:
    """Scores of images in bytes (N, 28, 28), after training."""
    return predict(params, None, as_images(images, params["W1"].dtype), train=False)


def load(path: Path = OURS, dtype: Any = "float32") -> Params:
    """The parameters in an .npz file. Raises ``DataError`` where it is missing or damaged."""
    arrays = load_npz(path)
    return {f"{name}{i}": dp.asarray(arrays[f"{name}{i}"], dtype=dtype) for i in range(1, LAYERS + 1) for name in "Wb"}


def main(run: Run, *, images: int = 10_000) -> None:
    data = run.mnist()
    params = load(dtype=run.dtype)
    run.figure("parameters", sum(value.size for value in params.values()))
    run.say(f"{run.figures['parameters']:,} parameters, from {load_npz(OURS)['command']}")
    scores(params, data.test_images[:PART])  # compiles
    began = time.perf_counter()
    right = accuracy(partial(scores, params), data.test_images[:images], data.test_labels[:images], rows=PART)
    microseconds = (time.perf_counter() - began) / min(images, len(data.test_labels)) * 1e6
    run.say(f"test acc:{right:.4f}, {microseconds:.0f} us an image")
    run.figure("test accuracy", right)
    run.figure("us per image", round(microseconds, 1))


if __name__ == "__main__":
    study(main)
