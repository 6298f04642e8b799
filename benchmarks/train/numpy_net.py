"""The two-layer net in NumPy: as the book computes it, and as one computes it who counts the milliseconds.

``--style book``: float64 weights over float32 images (so every product converts), one-hot labels, a second forward
pass after the update only to know the loss, 1e-7 inside the logarithm.
``--style book-float32``: the same, all of it in float32.
``--style fair``: float32 throughout, one forward pass, arrays reused in place, labels as indices.

Both turn the pixels into floats once, before training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from . import contender

Params = dict[str, np.ndarray]


def init(rng: np.random.RandomState, dtype: np.dtype) -> Params:
    """Weights from N(0, 0.01^2), biases 0."""
    return {
        "W1": (contender.SCALE * rng.randn(784, contender.HIDDEN)).astype(dtype),
        "b1": np.zeros(contender.HIDDEN, dtype),
        "W2": (contender.SCALE * rng.randn(contender.HIDDEN, contender.CLASSES)).astype(dtype),
        "b2": np.zeros(contender.CLASSES, dtype),
    }


def activate(a: np.ndarray, activation: str) -> np.ndarray:
    """The activation, into a new array."""
    return np.maximum(a, 0) if activation == "relu" else 1 / (1 + np.exp(-a))


def book_scores(params: Params, x: np.ndarray, activation: str) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer and the scores."""
    h = activate(np.dot(x, params["W1"]) + params["b1"], activation)
    return h, np.dot(h, params["W2"]) + params["b2"]


def book_softmax(scores: np.ndarray) -> np.ndarray:
    """Row by row, shifted by the largest score."""
    shifted = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return shifted / np.sum(shifted, axis=-1, keepdims=True)


def book_loss(y: np.ndarray, t: np.ndarray) -> float:
    """Cross-entropy of probabilities and one-hot labels, through the indices, as the book does."""
    rows = np.arange(len(y))
    return float(-np.sum(np.log(y[rows, t.argmax(axis=1)] + 1e-7)) / len(y))


def book_step(params: Params, x: np.ndarray, t: np.ndarray, activation: str) -> float:
    """Gradient (with its forward pass and its loss), update, and the loss once more."""
    h, scores = book_scores(params, x, activation)
    y = book_softmax(scores)
    book_loss(y, t)
    dz = (y - t) / len(x)
    dh = np.dot(dz, params["W2"].T)
    da = np.where(h <= 0, 0, dh) if activation == "relu" else dh * (1.0 - h) * h
    grads = {"W1": np.dot(x.T, da), "b1": np.sum(da, axis=0), "W2": np.dot(h.T, dz), "b2": np.sum(dz, axis=0)}
    for name in ("W1", "b1", "W2", "b2"):
        params[name] -= contender.LEARNING_RATE * grads[name]
    return book_loss(book_softmax(book_scores(params, x, activation)[1]), t)


def book_accuracy(params: Params, x: np.ndarray, t: np.ndarray, activation: str) -> float:
    """The whole set in one go, as the book does."""
    scores = book_scores(params, x, activation)[1]
    return float(np.sum(np.argmax(scores, axis=1) == np.argmax(t, axis=1)) / len(x))


def fair_hidden(params: Params, x: np.ndarray, activation: str) -> np.ndarray:
    """The hidden layer, computed in one buffer."""
    h = x @ params["W1"]
    h += params["b1"]
    if activation == "relu":
        return np.maximum(h, 0, out=h)
    np.negative(h, out=h)
    np.exp(h, out=h)
    h += 1
    return np.reciprocal(h, out=h)


def fair_step(params: Params, x: np.ndarray, t: np.ndarray, activation: str) -> float:
    """Loss and gradient from one forward pass, and the update."""
    rows = np.arange(len(x))
    h = fair_hidden(params, x, activation)
    z = h @ params["W2"]
    z += params["b2"]
    z -= z.max(axis=1, keepdims=True)
    of_the_label = z[rows, t]
    np.exp(z, out=z)
    total = z.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - of_the_label))
    z /= total
    z[rows, t] -= 1
    z *= np.float32(1 / len(x))
    dh = z @ params["W2"].T
    if activation == "relu":
        dh *= h > 0
    else:
        dh *= h
        dh *= 1 - h
    grads = {"W1": x.T @ dh, "b1": dh.sum(axis=0), "W2": h.T @ z, "b2": z.sum(axis=0)}
    for name, grad in grads.items():
        grad *= np.float32(contender.LEARNING_RATE)
        params[name] -= grad
    return loss


def fair_accuracy(params: Params, x: np.ndarray, t: np.ndarray, activation: str) -> float:
    """In parts whose intermediate results stay in the cache."""
    right = 0
    for i in range(0, len(x), 10_000):
        scores = fair_hidden(params, x[i : i + 10_000], activation) @ params["W2"] + params["b2"]
        right += int((scores.argmax(axis=1) == t[i : i + 10_000]).sum())
    return right / len(x)


STYLES: dict[str, tuple[type, Callable[..., float], Callable[..., float]]] = {
    "book": (np.float64, book_step, book_accuracy),
    "book-float32": (np.float32, book_step, book_accuracy),
    "fair": (np.float32, fair_step, fair_accuracy),
}


def train(options: argparse.Namespace) -> None:
    """The loop: draw, step, evaluate after every epoch."""
    dtype, step, accuracy = STYLES[options.style]
    rng = np.random.RandomState(options.seed)
    data = contender.load()
    x_train, x_test = (images.astype(np.float32) / np.float32(255) for images in (data.train_images, data.test_images))
    t_train, t_test = data.train_labels, data.test_labels
    if options.style != "fair":
        t_train, t_test = (np.eye(contender.CLASSES, dtype=dtype)[labels] for labels in (t_train, t_test))
    params = init(rng, np.dtype(dtype))
    losses, accuracies = [], []
    for done in range(1, options.iterations + 1):
        rows = rng.choice(len(x_train), contender.BATCH)
        losses.append(step(params, x_train[rows], t_train[rows], options.activation))
        if contender.is_evaluated(done, options.iterations, len(x_train)):
            train_accuracy = accuracy(params, x_train, t_train, options.activation)
            accuracies.append((done, train_accuracy, accuracy(params, x_test, t_test, options.activation)))
    contender.report(options.json, accuracies, losses)


if __name__ == "__main__":
    parser = contender.parser(__doc__.splitlines()[0])
    parser.add_argument("--style", choices=sorted(STYLES), default="fair")
    train(parser.parse_args())
