"""Losses, activations, layers and small models."""

from __future__ import annotations

import math

from .table import Entry, distinct, positive, reals, together, whole

M = (3, 4)


def cross_entropy(np, logits, labels):
    return -np.mean(np.log_softmax(logits)[np.arange(3), labels])


def focal(np, logits, labels):
    p = np.softmax(logits)[np.arange(3), labels]
    return -np.mean((1 - p) ** 2 * np.log(p))


def label_smoothing(np, logits, labels):
    target = np.one_hot(labels, 4, dtype="float64") * 0.9 + 0.025
    return -np.mean(np.sum(target * np.log_softmax(logits), axis=1))


def binary_cross_entropy(np, z, t):
    return np.mean(np.softplus(z) - t * z)


def kl_divergence(np, p, q):
    return np.sum(np.softmax(p) * (np.log_softmax(p) - np.log_softmax(q)))


def hinge(np, z, t):
    return np.mean(np.relu(1 - z * (2 * t - 1)) ** 2)


def normal_likelihood(np, y, mean, scale):
    return np.sum(0.5 * ((y - mean) / scale) ** 2 + np.log(scale))


def logistic_regression(np, w, x, t):
    z = x @ w
    return np.mean(np.softplus(z) - t * z) + 0.1 * w @ w


def dropout(np, x, keep):
    return np.where(keep > 0, x / 0.75, 0.0) ** 2


def huber(np, y, t):
    d = np.abs(y - t)
    return np.mean(np.where(d < 1.0, 0.5 * d**2, d - 0.5))


def cosine_similarity(np, x, y):
    scale = np.linalg.vector_norm(x, axis=1) * np.linalg.vector_norm(y, axis=1)
    return np.vecdot(x, y) / scale


def contrastive(np, x, y):
    """InfoNCE: each row of x belongs to the same row of y."""
    scores = x @ y.T / 0.5
    return -np.mean(np.diag(np.log_softmax(scores, axis=1)) + np.diag(np.log_softmax(scores, axis=0)))


def triplet(np, a, p, n):
    return np.mean(np.relu(np.sum((a - p) ** 2, axis=1) - np.sum((a - n) ** 2, axis=1) + 1.0))


def two_layer_net(np, x, w, b, v, c, labels):
    hidden = np.sigmoid(x @ w + b)
    return cross_entropy(np, hidden @ v + c, labels)


def deep_net(np, x, w):
    for layer in range(3):
        x = np.tanh(x @ w[layer]) + x
    return np.sum(x**2)


def batch_norm(np, x, gamma, beta):
    mean, var = np.mean(x, axis=0), np.var(x, axis=0)
    return gamma * (x - mean) / np.sqrt(var + 1e-5) + beta


def layer_norm(np, x, gamma, beta):
    mean, var = np.mean(x, axis=-1, keepdims=True), np.var(x, axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + 1e-5) + beta


def rms_norm(np, x, gamma):
    return gamma * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def attention(np, q, k, v):
    return np.softmax(q @ k.T / 2.0) @ v


def causal_attention(np, x, w):
    q, k, v = (x @ w[i] for i in range(3))
    scores = q @ k.T / 2.0
    mask = np.arange(3)[:, None] >= np.arange(3)[None, :]
    return np.softmax(np.where(mask, scores, -math.inf)) @ v


def multi_head(np, x, w):
    heads = np.einsum("td,hde->hte", x, w)
    weights = np.softmax(np.einsum("hte,hse->hts", heads, heads))
    return np.einsum("hts,hse->the", weights, heads)


def convnet(np, x, w, v):
    hidden = np.max_pool(np.relu(np.conv(x, w, padding=1)), 2)
    return np.log_softmax(np.reshape(hidden, (1, -1)) @ v)


def lstm(np, x, h, c, w):
    z = np.concat([x, h]) @ w
    i, f, o, g = np.sigmoid(z[:2]), np.sigmoid(z[2:4]), np.sigmoid(z[4:6]), np.tanh(z[6:])
    c = f * c + i * g
    return o * np.tanh(c), c


def gru(np, x, h, w, u):
    r, z = np.sigmoid(x @ w[0] + h @ u[0]), np.sigmoid(x @ w[1] + h @ u[1])
    n = np.tanh(x @ w[2] + r * (h @ u[2]))
    return (1 - z) * n + z * h


def recurrent(np, xs, w, u):
    h = np.zeros((3,), dtype="float64")
    for t in range(4):
        h = np.tanh(xs[t] @ w + h @ u)
    return h


def vae(np, x, w, v, noise):
    """The negative evidence bound of a linear variational autoencoder."""
    mean, log_std = np.split(x @ w, 2, axis=1)
    z = mean + np.exp(log_std) * noise
    divergence = 0.5 * np.sum(mean**2 + np.exp(2 * log_std) - 1 - 2 * log_std)
    return np.sum((np.sigmoid(z @ v) - x) ** 2) + divergence


def mixture(np, x, logits, means, scales):
    """The logarithm of a Gaussian mixture's density."""
    z = (x[:, None] - means) / scales
    return np.sum(np.logsumexp(np.log_softmax(logits) - 0.5 * z**2 - np.log(scales), axis=1))


def coupling(np, x, w):
    """A layer of a normalizing flow: its value and the logarithm of its volume."""
    first, second = x[:, :2], x[:, 2:]
    scale, shift = np.split(np.tanh(first @ w), 2, axis=1)
    y = second * np.exp(scale) + shift
    return np.concat([first, y], axis=1), np.sum(scale, axis=1)


def sinkhorn(np, cost):
    """Optimal transport between uniform weights, three rounds."""
    f, g = np.zeros((3,), dtype="float64"), np.zeros((4,), dtype="float64")
    for _ in range(3):
        f = -np.logsumexp(g[None, :] - cost, axis=1) - math.log(3)
        g = -np.logsumexp(f[:, None] - cost, axis=0) - math.log(4)
    return np.sum(np.exp(f[:, None] + g[None, :] - cost) * cost)


def kernel_discrepancy(np, x, y):
    def kernel(a, b):
        return np.mean(np.exp(-np.sum((a[:, None] - b[None]) ** 2, axis=-1)))

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def adam_step(np, x, m, v):
    g = np.cos(x) * x
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    return x - 0.1 * m / (np.sqrt(v) + 1e-8)


def gelu(np, x):
    return 0.5 * x * (1 + np.erf(x / math.sqrt(2)))


def radiance(np, density, colour):
    """Light gathered along a ray."""
    passed = np.exp(-np.cumulative_sum(density, axis=0))
    return np.sum((passed * (1 - np.exp(-density)))[:, None] * colour, axis=0)


IMAGE = together(reals((1, 1, 4, 4), (2, 1, 3, 3), (8, 3)))

ENTRIES = [
    Entry("mean squared error", lambda np, y, t: np.mean((y - t) ** 2), reals(M, M)),
    Entry("mean absolute error", lambda np, y: np.mean(np.abs(y[0] - y[1])) ** 2, distinct(2, 3, 4)),
    Entry("huber", huber, reals(M, M)),
    Entry("log cosh", lambda np, y, t: np.mean(np.logaddexp(y - t, t - y)), reals(M, M)),
    Entry("cross entropy", cross_entropy, together(reals(M), whole(4, 3))),
    Entry("focal loss", focal, together(reals(M), whole(4, 3))),
    Entry("label smoothing", label_smoothing, together(reals(M), whole(4, 3))),
    Entry("binary cross entropy", binary_cross_entropy, together(reals(M), whole(2, 3, 4))),
    Entry(
        "kl divergence", lambda np, p, q: np.sum(np.softmax(p) * (np.log_softmax(p) - np.log_softmax(q))), reals(M, M)
    ),
    Entry(
        "hinge loss", lambda np, z, t: np.mean(np.relu(1 - z * (2 * t - 1)) ** 2), together(reals(M), whole(2, 3, 4))
    ),
    Entry("poisson likelihood", lambda np, z, n: np.sum(np.exp(z) - n * z), together(reals(M), whole(5, 3, 4))),
    Entry(
        "normal likelihood",
        lambda np, y, m, s: np.sum(0.5 * ((y - m) / s) ** 2 + np.log(s)),
        together(reals(M, M), positive(M)),
    ),
    Entry("cosine similarity", cosine_similarity, reals(M, M)),
    Entry("contrastive loss", contrastive, reals(M, M)),
    Entry("triplet loss", triplet, reals(M, M, M)),
    Entry("logistic regression", logistic_regression, together(reals((4,), M), whole(2, 3))),
    Entry("gelu", gelu, reals(M)),
    Entry("silu", lambda np, x: x * np.sigmoid(x), reals(M)),
    Entry("elu", lambda np, x: np.where(x > 0, x, np.expm1(np.where(x > 0, 0.0, x))), reals(M)),
    Entry("mish", lambda np, x: x * np.tanh(np.softplus(x)), reals(M)),
    Entry("two layers", two_layer_net, together(reals((3, 4), (4, 3), (3,), (3, 2), (2,)), whole(2, 3))),
    Entry("a deep net", deep_net, reals((2, 3), (3, 3, 3))),
    Entry("batch normalization", batch_norm, reals((4, 3), (3,), (3,))),
    Entry("layer normalization", layer_norm, reals((2, 4), (4,), (4,))),
    Entry("rms normalization", rms_norm, reals((2, 4), (4,))),
    Entry("attention", attention, reals((2, 4), (3, 4), (3, 2))),
    Entry("causal attention", causal_attention, reals((3, 2), (3, 2, 2))),
    Entry("several heads", multi_head, reals((3, 2), (2, 2, 2))),
    Entry("conv", lambda np, x, w: np.conv(x, w, strides=2, padding=1), reals((1, 2, 4, 4), (2, 2, 3, 3))),
    Entry("conv along one axis", lambda np, x, w: np.conv(x, w) ** 2, reals((2, 1, 6), (2, 1, 3))),
    Entry("max pooling", lambda np, x: np.max_pool(x, 2) ** 2, distinct(1, 2, 4, 4)),
    Entry("mean pooling", lambda np, x: np.mean_pool(x, 2) ** 3, reals((1, 2, 4, 4))),
    Entry("a convolutional net", convnet, IMAGE),
    Entry("a step of an LSTM", lstm, reals((3,), (2,), (2,), (5, 8))),
    Entry("a step of a GRU", gru, reals((2,), (3,), (3, 2, 3), (3, 3, 3))),
    Entry("a recurrent net", recurrent, reals((4, 2), (2, 3), (3, 3))),
    Entry("a variational autoencoder", vae, reals((2, 3), (3, 4), (2, 3), (2, 2))),
    Entry("a Gaussian mixture", mixture, together(reals((4,), (3,), (3,)), positive((3,)))),
    Entry("a coupling layer", coupling, reals((2, 4), (2, 4))),
    Entry("optimal transport", sinkhorn, reals((3, 4))),
    Entry("kernel discrepancy", kernel_discrepancy, reals((3, 2), (4, 2))),
    Entry("a step of Adam", adam_step, together(reals((4,), (4,)), positive((4,)))),
    Entry("light along a ray", radiance, together(positive((4,)), reals((4, 3)))),
    Entry("dropout with a given mask", dropout, together(reals(M), whole(2, 3, 4))),
]
