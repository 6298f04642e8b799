"""Reductions, normalizations, cumulative functions and order statistics."""

from __future__ import annotations

import math

import numpy

from .table import Entry, distinct, positive, reals

M, V = (3, 4), (4,)


def zeros_among(rng):
    x = rng.uniform(0.5, 2.0, M)
    x[0, 1] = x[1, 0] = x[1, 3] = 0.0
    return [x]


def interpolation(np, x, y):
    """A piecewise linear curve through (0, y[0]), (1, y[1]) ..., at the places x."""
    place = np.clip(np.searchsorted(np.arange(4.0), np.stop_grad(x)) - 1, 0, 2)
    weight = x - place
    return y[place] * (1 - weight) + y[place + 1] * weight


def trimmed_mean(np, x):
    return np.mean(np.sort(x, axis=-1)[:, 1:-1], axis=-1)


def sorted_weights(np, x):
    """Each element weighted by its rank."""
    order = np.argsort(x, axis=1)
    ranks = np.argsort(order, axis=1)
    return x * np.astype(ranks, "float64")


def standardized(np, x):
    centred = x - np.mean(x, axis=0, keepdims=True)
    return centred / np.sqrt(np.var(x, axis=0, keepdims=True) + 1e-5)


def skewness(np, x):
    centred = x - np.mean(x)
    return np.mean(centred**3) / np.mean(centred**2) ** 1.5


def autocorrelation(np, x):
    centred = x - np.mean(x)
    return np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2)


def correlation(np, x):
    centred = x - np.mean(x, axis=0)
    covariance = centred.T @ centred
    scale = np.sqrt(np.sum(centred**2, axis=0))
    return covariance / (scale[:, None] * scale)


ENTRIES = [
    Entry("sum over axes", lambda np, x: np.sum(np.sin(x), axis=0) * np.sum(x**2, axis=0), reals(M)),
    Entry("mean", lambda np, x: np.mean(x**2, axis=1, keepdims=True) * x, reals(M)),
    Entry("var", lambda np, x: np.var(x, axis=1), reals(M)),
    Entry("std with a correction", lambda np, x: np.std(x, correction=1), reals(M)),
    Entry("prod", lambda np, x: np.prod(x, axis=1), reals(M)),
    Entry("prod with zeros", lambda np, x: np.prod(x, axis=1), zeros_among),
    Entry("max and min", lambda np, x: np.max(x, axis=0) * np.min(x), distinct(3, 4)),
    Entry("max of all", lambda np, x: np.max(x * x), distinct(3, 4)),
    Entry("the range", lambda np, x: np.max(x, axis=1) - np.min(x, axis=1), distinct(3, 4)),
    Entry("logsumexp", lambda np, x: np.logsumexp(x, axis=1), reals(M)),
    Entry("logsumexp far out", lambda np, x: np.logsumexp(x + 1000.0) * np.logsumexp(x - 1000.0), reals(M)),
    Entry("softmax", lambda np, x: np.softmax(x, axis=-1), reals(M)),
    Entry("softmax over columns", lambda np, x: np.softmax(x, axis=0) @ np.ones(4), reals(M)),
    Entry("log_softmax", lambda np, x: np.log_softmax(x, axis=-1), reals(M)),
    Entry("a softmax as written", lambda np, x: np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True), reals(M)),
    Entry("entropy", lambda np, x: -np.sum(np.softmax(x) * np.log_softmax(x), axis=1), reals(M)),
    Entry("standardized", standardized, reals(M)),
    Entry("skewness", skewness, reals((6,))),
    Entry("autocorrelation", autocorrelation, reals((6,))),
    Entry("correlation", correlation, reals((5, 3))),
    Entry("geometric mean", lambda np, x: np.exp(np.mean(np.log(x), axis=0)), positive(M)),
    Entry("harmonic mean", lambda np, x: 4 / np.sum(1 / x, axis=1), positive(M)),
    Entry("argmax as an index", lambda np, x: x[np.argmax(x, axis=0), np.arange(4)] ** 2, distinct(3, 4)),
    Entry("any and all", lambda np, x: np.where(np.any(x > 1.9, axis=0) | np.all(x < 0, axis=0), x, x**2), reals(M)),
    Entry("vector_norm", lambda np, x: np.linalg.vector_norm(x, axis=1), reals(M)),
    Entry("vector_norm of order 3", lambda np, x: np.linalg.vector_norm(x, axis=0, ord=3), reals(M)),
    Entry("vector_norm of order 1", lambda np, x: np.linalg.vector_norm(x, ord=1) ** 2, reals(M)),
    Entry("the largest size", lambda np, x: np.linalg.vector_norm(x, axis=1, ord=math.inf), distinct(3, 4)),
    Entry("unit vectors", lambda np, x: x / np.linalg.vector_norm(x, axis=1, keepdims=True), reals(M)),
    Entry("cumulative_sum", lambda np, x: np.cumulative_sum(np.sin(x), axis=1), reals(M)),
    Entry("cumulative_sum from the end", lambda np, x: np.exp(np.cumulative_sum(x, axis=0, reverse=True)), reals(M)),
    Entry("cumulative_prod", lambda np, x: np.cumulative_prod(x, axis=1), positive(M)),
    Entry(
        "cumulative_prod with zeros",
        lambda np, x: np.cumulative_prod(x, axis=1, reverse=True),
        zeros_among,
    ),
    Entry("cumulative_max", lambda np, x: np.cumulative_max(x, axis=1) ** 2, distinct(3, 4)),
    Entry("cumulative_min", lambda np, x: np.cumulative_min(x, axis=0, reverse=True) ** 3, distinct(3, 4)),
    Entry("drawdown", lambda np, x: np.max(np.cumulative_max(x, axis=1) - x, axis=1), distinct(3, 4)),
    Entry("diff", lambda np, x: np.diff(x, axis=1) ** 2, reals(M)),
    Entry("second differences", lambda np, x: np.diff(np.tanh(x), n=2, axis=0), reals(M)),
    Entry("total variation", lambda np, x: np.sum(np.abs(np.diff(x, axis=0))) ** 2, reals(M)),
    Entry("sort", lambda np, x: np.sort(x, axis=1) * np.arange(4.0), distinct(3, 4)),
    Entry("sort downwards", lambda np, x: np.sort(x, axis=0, descending=True) ** 2 * np.arange(4.0), distinct(3, 4)),
    Entry("trimmed mean", trimmed_mean, distinct(3, 4)),
    Entry("ranks as weights", sorted_weights, distinct(3, 4)),
    Entry("top_k", lambda np, x: np.top_k(x, 2)[0] ** 2 * np.asarray([1.0, 2.0]), distinct(3, 4)),
    Entry("median", lambda np, x: np.median(x, axis=1) ** 2, distinct(3, 4)),
    Entry("quantile", lambda np, x: np.quantile(x, 0.3, axis=0) ** 2, distinct(3, 4)),
    Entry("quantiles", lambda np, x: np.quantile(x**2, np.asarray(numpy.array([0.2, 0.7]))), distinct(3, 4)),
    Entry("interpolation", interpolation, lambda rng: [numpy.array([0.3, 1.6, 2.2]), rng.uniform(-1, 1, 4)]),
]
