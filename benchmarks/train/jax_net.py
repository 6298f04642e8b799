"""The two-layer net in JAX, float32: the whole iteration is one jitted function, with the batch drawn inside.

``--scan`` puts the iterations up to the next evaluation into one jitted loop, so that Python runs 17 times, not 10,000.
``--cache FOLDER`` lets JAX keep its compiled functions there.
"""

from __future__ import annotations

import argparse
from functools import partial

import jax
import jax.numpy as jnp

from . import contender

Params = dict[str, jax.Array]


def init(key: jax.Array) -> Params:
    """Weights from N(0, 0.01^2), biases 0."""
    key1, key2 = jax.random.split(key)
    return {
        "W1": contender.SCALE * jax.random.normal(key1, (784, contender.HIDDEN)),
        "b1": jnp.zeros(contender.HIDDEN),
        "W2": contender.SCALE * jax.random.normal(key2, (contender.HIDDEN, contender.CLASSES)),
        "b2": jnp.zeros(contender.CLASSES),
    }


def predict(params: Params, x: jax.Array, activation: str) -> jax.Array:
    """Scores of float images."""
    h = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}[activation](x @ params["W1"] + params["b1"])
    return h @ params["W2"] + params["b2"]


def loss(params: Params, x: jax.Array, t: jax.Array, activation: str) -> jax.Array:
    """Mean cross-entropy."""
    z = predict(params, x, activation)
    of_the_label = jnp.take_along_axis(z, t[:, None].astype(jnp.int32), axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - of_the_label)


def iteration(
    params: Params, key: jax.Array, number: jax.Array | int, images: jax.Array, labels: jax.Array, activation: str
) -> tuple[Params, jax.Array]:
    """Draw a batch, descend; the new parameters and the loss of the old ones."""
    rows = jax.random.randint(jax.random.fold_in(key, number), (contender.BATCH,), 0, len(images))
    x = images[rows].astype(jnp.float32) / 255
    value, grads = jax.value_and_grad(loss)(params, x, labels[rows], activation)
    return jax.tree.map(lambda p, g: p - contender.LEARNING_RATE * g, params, grads), value


step = jax.jit(iteration, static_argnames="activation", donate_argnums=0)


@partial(jax.jit, static_argnames=("count", "activation"), donate_argnums=0)
def many_steps(
    params: Params, key: jax.Array, start: int, images: jax.Array, labels: jax.Array, count: int, activation: str
) -> tuple[Params, jax.Array]:
    """``count`` iterations from number ``start``; their losses."""

    def body(params: Params, number: jax.Array) -> tuple[Params, jax.Array]:
        return iteration(params, key, number, images, labels, activation)

    return jax.lax.scan(body, params, start + jnp.arange(count))


@partial(jax.jit, static_argnames="activation")
def correct(params: Params, images: jax.Array, labels: jax.Array, activation: str) -> jax.Array:
    """How many images get their label."""
    return jnp.sum(jnp.argmax(predict(params, images.astype(jnp.float32) / 255, activation), axis=1) == labels)


def accuracy(params: Params, parts: list[tuple[jax.Array, jax.Array]], activation: str) -> float:
    """The share of images that get their label."""
    right = sum(int(correct(params, images, labels, activation)) for images, labels in parts)
    return right / sum(len(labels) for _, labels in parts)


def train(options: argparse.Namespace) -> None:
    """The loop: steps up to the next evaluation, evaluate."""
    if options.cache:
        jax.config.update("jax_compilation_cache_dir", options.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    data = contender.load()
    images, labels = jnp.asarray(data.train_images), jnp.asarray(data.train_labels)
    train_parts, test_parts = (
        [(jnp.asarray(x[i : i + 10_000]), jnp.asarray(t[i : i + 10_000])) for i in range(0, len(x), 10_000)]
        for x, t in ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    )
    init_key, key = jax.random.split(jax.random.key(options.seed))
    params = init(init_key)
    losses, accuracies, pending, done = [], [], [], 0
    epoch = len(images) // contender.BATCH
    while done < options.iterations:
        stop = min(options.iterations, done + epoch)
        if options.scan:
            params, values = many_steps(params, key, done, images, labels, stop - done, options.activation)
            losses += values.tolist()
        else:
            for number in range(done, stop):
                params, value = step(params, key, number, images, labels, options.activation)
                pending.append(value)
                if len(pending) == 100 or number + 1 == stop:
                    losses += map(float, pending)
                    pending.clear()
        done = stop
        train_accuracy = accuracy(params, train_parts, options.activation)
        accuracies.append((done, train_accuracy, accuracy(params, test_parts, options.activation)))
    contender.report(options.json, accuracies, losses)


if __name__ == "__main__":
    parser = contender.parser(__doc__.splitlines()[0])
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--cache", default="")
    train(parser.parse_args())
